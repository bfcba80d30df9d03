# Static binary, no cgo. VERSION is what `epitaph version` says.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: build
build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/epitaph/epitaph/internal/cli.version=$(VERSION)" -o bin/epitaph ./cmd/epitaph
