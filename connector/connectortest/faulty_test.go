package connectortest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
)

// Every fault, at every moment: what the caller learns, and what the store did.
func TestFaults(t *testing.T) {
	t.Parallel()
	erased := map[connectortest.Moment]int{connectortest.Before: 0, connectortest.Midway: 2, connectortest.After: 3}
	for _, op := range connectortest.Ops() {
		for _, when := range connectortest.Moments() {
			t.Run(fmt.Sprintf("%s %s", op, when), func(t *testing.T) {
				t.Parallel()
				m := connectortest.NewMemory()
				struck := false
				f := connectortest.NewFaulty(t, m, connectortest.Fault{Op: op, N: 2, When: when, Then: func() { struck = true }})
				fx := memoryFixture(m, f)
				for range 3 {
					fx.Plant(connectortest.Due)
				}
				var items []connector.Item
				for it := range m.Scan(context.Background(), fx.Query, new(connector.Survey)) {
					items = append(items, it)
				}
				if err := use(f, fx.Query, items, op, nil); err != nil || struck {
					t.Fatalf("first %s: %v, struck %v", op, err, struck)
				}
				err := use(f, fx.Query, items, op, []int{0, 1, 2})
				if !errors.Is(err, connectortest.ErrInjected) || !struck || f.Fired() != 1 {
					t.Errorf("second %s: %v, struck %v", op, err, struck)
				}
				if got := 3 - len(m.Locators()); op == connectortest.OpErase && got != erased[when] {
					t.Errorf("erased %d, want %d", got, erased[when])
				}
			})
		}
	}
}

// use makes one call of op, and those that lead to it, on a Faulty of m, and
// returns the error it answers with. items is what m holds.
func use(f *connectortest.Faulty, q *connector.Query, items []connector.Item, op connectortest.Op, which []int) error {
	ctx := context.Background()
	switch op {
	case connectortest.OpCheck:
		_, err := f.Check(ctx, q)
		return err
	case connectortest.OpScan:
		for _, err := range f.Scan(ctx, q, new(connector.Survey)) {
			if err != nil {
				return err
			}
		}
		return nil
	case connectortest.OpProbe:
		return lost(f.Probe(ctx, []connector.Locator{items[0].Locator, items[1].Locator}))
	}
	c, rs := f.Claim(ctx, q, items)
	if op == connectortest.OpClaim {
		defer c.Release()
		return lost(rs)
	}
	if op == connectortest.OpRelease {
		return c.Release()
	}
	defer c.Release()
	return lost(c.Erase(ctx, which).Results)
}

// lost is the cause of the first unknown result.
func lost(rs []connector.Result) error {
	for _, r := range rs {
		if r.State == connector.Unknown {
			return r.Err
		}
	}
	return nil
}

func TestCallsAreRecorded(t *testing.T) {
	t.Parallel()
	m := connectortest.NewMemory()
	f := connectortest.NewFaulty(t, m)
	ctx := context.Background()
	f.Probe(ctx, make([]connector.Locator, 2))
	c, _ := f.Claim(ctx, nil, make([]connector.Item, 3))
	c.Erase(ctx, []int{0})
	c.Release()
	f.Probe(ctx, nil)
	want := []connectortest.Call{{Op: "Probe", N: 1, Items: 2}, {Op: "Claim", N: 1, Items: 3}, {Op: "Erase", N: 1, Items: 1},
		{Op: "Release", N: 1}, {Op: "Probe", N: 2}}
	if diff := cmp.Diff(want, f.Calls()); diff != "" {
		t.Errorf("Calls (-want +got):\n%s", diff)
	}
}

// After a cut no call reaches the store, and what was claimed is free again.
func TestCut(t *testing.T) {
	t.Parallel()
	for _, when := range connectortest.Moments() {
		m := connectortest.NewMemory()
		var f *connectortest.Faulty
		f = connectortest.NewFaulty(t, m, connectortest.Fault{Op: connectortest.OpErase, When: when, Then: func() { f.Cut() }})
		fx := memoryFixture(m, f)
		for range 4 {
			fx.Plant(connectortest.Due)
		}
		var items []connector.Item
		ctx := context.Background()
		for it := range m.Scan(ctx, fx.Query, new(connector.Survey)) {
			items = append(items, it)
		}
		other, _ := f.Claim(ctx, fx.Query, items[3:])
		c, _ := f.Claim(ctx, fx.Query, items[:3])
		if err := lost(c.Erase(ctx, []int{0, 1}).Results); !errors.Is(err, connectortest.ErrInjected) {
			t.Errorf("%v: Erase: %v", when, err)
		}
		left := len(m.Locators())
		if err := c.Release(); !errors.Is(err, connectortest.ErrCut) {
			t.Errorf("%v: Release: %v", when, err)
		}
		for _, r := range append(other.Erase(ctx, []int{0}).Results, f.Probe(ctx, locators(items))...) {
			if r.State != connector.Unknown || !errors.Is(r.Err, connectortest.ErrCut) {
				t.Errorf("%v: after the cut: %v %v", when, r.State, r.Err)
			}
		}
		if got := len(m.Locators()); got != left {
			t.Errorf("%v: erased after the cut", when)
		}
		_, rs := m.Claim(ctx, fx.Query, items[2:])
		for _, r := range rs {
			if r.Reason != connector.Eligible {
				t.Errorf("%v: after the cut the store still says %s", when, r.Reason)
			}
		}
	}
}

func locators(items []connector.Item) (at []connector.Locator) {
	for _, it := range items {
		at = append(at, it.Locator)
	}
	return at
}

// A fault that never strikes fails its test.
func TestUnfiredFaultFails(t *testing.T) {
	t.Parallel()
	tb := &recorder{TB: t}
	f := connectortest.NewFaulty(tb, connectortest.NewMemory(), connectortest.Fault{Op: connectortest.OpErase, N: 1})
	f.Probe(context.Background(), nil)
	tb.cleanup()
	if tb.errors != 1 {
		t.Errorf("%d errors, want 1", tb.errors)
	}
}

// recorder counts the errors that a test would have had.
type recorder struct {
	testing.TB
	cleanup func()
	errors  int
}

func (r *recorder) Cleanup(f func())      { r.cleanup = f }
func (r *recorder) Errorf(string, ...any) { r.errors++ }
func (r *recorder) Helper()               {}
