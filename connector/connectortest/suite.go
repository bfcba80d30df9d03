package connectortest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// Run proves the connector that h makes against the contract.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"Check", checkCases}, {"Scan", scanCases}, {"Probe", probeCases},
		{"Claim", claimCases}, {"Erase", eraseCases}, {"Release", releaseCases}, {"Together", togetherCases},
		{"Then", thenCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				if c.when != nil && !c.when(h) {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					c.run(&bench{T: t, Harness: h, Fixture: h.New(t)})
				})
			}
		})
	}
}

// testCase is one clause of the contract.
type testCase struct {
	name string
	when func(h Harness) bool // nil: for every store
	run  func(b *bench)
}

func locks(h Harness) bool   { return h.Locks }
func noLocks(h Harness) bool { return !h.Locks }
func refuses(h Harness) bool { return h.Refuses }
func undated(h Harness) bool { return !h.NoUndated }
func sets(h Harness) bool    { return h.Sets }

// bench is a fixture at work in one case.
type bench struct {
	*testing.T
	Harness
	Fixture
}

// ctx is bounded, so that a connector that hangs fails its case.
func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	b.Cleanup(cancel)
	return ctx
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func (b *bench) plant(n int, a Age) []connector.Locator {
	at := make([]connector.Locator, n)
	for i := range at {
		at[i] = b.Plant(a)
	}
	return at
}

// scan reads a whole scan, which must succeed.
func (b *bench) scan() ([]connector.Item, connector.Survey) {
	b.Helper()
	var items []connector.Item
	var s connector.Survey
	for it, err := range b.Connector.Scan(b.ctx(), b.Query, &s) {
		if err != nil {
			b.Fatalf("Scan: %v", err)
		}
		items = append(items, it)
	}
	return items, s
}

// items gives what Scan says of the locators, in their order.
func (b *bench) items(at []connector.Locator) []connector.Item {
	b.Helper()
	scanned, _ := b.scan()
	items := make([]connector.Item, len(at))
	for i, loc := range at {
		k := slices.IndexFunc(scanned, func(it connector.Item) bool { return it.Locator == loc })
		if k < 0 {
			b.Fatalf("Scan did not yield planted item %d", i)
		}
		items[i] = scanned[k]
	}
	return items
}

// probed makes items from what Probe says, for what a scan does not yield.
func (b *bench) probed(at []connector.Locator) []connector.Item {
	b.Helper()
	items := make([]connector.Item, len(at))
	for i, r := range b.probe(at) {
		items[i] = connector.Item{Locator: at[i], Print: r.Print, Bytes: r.Bytes}
	}
	return items
}

func (b *bench) probe(at []connector.Locator) []connector.Result {
	b.Helper()
	rs := b.Connector.Probe(b.ctx(), at)
	b.length("Probe", len(rs), len(at))
	return rs
}

// claim claims items and releases them, at the latest, with the test.
func (b *bench) claim(items []connector.Item) (connector.Claim, []connector.Result) {
	b.Helper()
	return b.claimIn(b.ctx(), items)
}

func (b *bench) claimIn(ctx context.Context, items []connector.Item) (connector.Claim, []connector.Result) {
	b.Helper()
	c, rs := b.Connector.Claim(ctx, b.Query, items)
	if c == nil {
		b.Fatal("Claim: the claim is nil")
	}
	b.Cleanup(func() { c.Release() })
	b.length("Claim", len(rs), len(items))
	if slices.ContainsFunc(rs, func(r connector.Result) bool { return r.Reason == connector.Eligible }) {
		if err := c.Holds(b.ctx()); err != nil {
			b.Errorf("a claim that was just made does not hold: %v", err)
		}
	}
	return c, rs
}

func (b *bench) erase(c connector.Claim, which []int) []connector.Result {
	b.Helper()
	e := c.Erase(b.ctx(), which)
	b.length("Erase", len(e.Results), len(which))
	return e.Results
}

func (b *bench) length(call string, got, want int) {
	b.Helper()
	if got != want {
		b.Fatalf("%s: got %d results for a list of %d", call, got, want)
	}
}

// want compares one result with a state and, unless empty, the reasons allowed.
func (b *bench) want(what string, r connector.Result, s connector.State, reasons ...connector.Reason) {
	b.Helper()
	if r.State != s || len(reasons) > 0 && !slices.Contains(reasons, r.Reason) {
		b.Errorf("%s: got %v %s (%v), want %v %v", what, r.State, r.Reason, r.Err, s, reasons)
	}
}

func (b *bench) wantAll(what string, rs []connector.Result, s connector.State, reasons ...connector.Reason) {
	b.Helper()
	for i, r := range rs {
		b.want(fmt.Sprintf("%s, result %d", what, i), r, s, reasons...)
	}
}

// there checks which items are left in the store.
func (b *bench) there(what string, at []connector.Locator, want bool) {
	b.Helper()
	for i, loc := range at {
		if got := b.Has(loc); got != want {
			b.Errorf("%s: item %d there = %v, want %v", what, i, got, want)
		}
	}
}

// unchanged returns a check that the store's content is what it is now.
func (b *bench) unchanged(what string) (check func()) {
	b.Helper()
	before := b.Dump()
	return func() {
		b.Helper()
		if after := b.Dump(); after != before {
			b.Errorf("%s changed the store\nbefore: %s\nafter:  %s", what, before, after)
		}
	}
}

// honest checks that what a result states is what is so.
func (b *bench) honest(what string, at connector.Locator, r connector.Result) {
	b.Helper()
	switch has := b.Has(at); {
	case r.State == connector.Gone && has:
		b.Errorf("%s: said to be gone (%s), but is there", what, r.Reason)
	case r.State == connector.Present && !has:
		b.Errorf("%s: said to be present (%s), but is not there", what, r.Reason)
	}
}

// upTo is 0, 1, … n-1.
func upTo(n int) []int {
	is := make([]int, n)
	for i := range is {
		is[i] = i
	}
	return is
}
