# What a person types. Everything here works from a fresh clone with Go, make and git; `make test` says, or as root
# on Debian installs, what else it needs.

GO          ?= go
# What `epitaph version` says.
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# Which benchmarks, as a pattern: make bench BENCH=Files
BENCH       ?= .
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK ?= golang.org/x/vuln/cmd/govulncheck@v1.1.4

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: build demo test bench lint modules clean

build: ## static programs in bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X github.com/epitaph/epitaph/internal/cli.version=$(VERSION)" -o bin/ ./cmd/...

demo: build ## the whole job on made-up data, left in ./demo to play in
	@scripts/demo

test: ## every test, on real servers; fails when a test was skipped
	@GO="$(GO)" scripts/test

bench: ## every figure beside its peer; see bench/README.md
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 3h -v ./bench

lint: modules ## gofmt, vet, staticcheck, govulncheck
	@GO="$(GO)" STATICCHECK="$(STATICCHECK)" GOVULNCHECK="$(GOVULNCHECK)" scripts/lint

modules: ## checks what go.mod must hold beyond what Go itself checks
	@GO="$(GO)" scripts/modules

clean:
	rm -rf bin
