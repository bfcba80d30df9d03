package purge_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/purge"
)

// disposer makes one on the world's disk.
func (w *world) disposer() *purge.Disposer {
	w.t.Helper()
	c := w.config
	c.Ledger, c.Stores, c.Clock = w.ledger, w.stores, w.clock
	if w.through != nil {
		c.Ledger = w.through
	}
	d, err := purge.NewDisposer(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// things plants n things and returns them as they were seen.
func (w *world) things(n int) []connector.Item {
	var out []connector.Item
	for i := range n {
		at := connector.Locator(fmt.Sprintf("thing-%d", i))
		w.disk.Put(at, connectortest.Record{Bytes: 10})
		r := w.disk.Probe(w.t.Context(), []connector.Locator{at})[0]
		out = append(out, connector.Item{Locator: at, Print: r.Print, Bytes: r.Bytes})
	}
	return out
}

func disposal(items ...connector.Item) purge.Disposal {
	return purge.Disposal{Rule: "things", Kind: "thing", Store: "disk", Items: items,
		Facts: []ledger.Fact{ledger.Int("pid", 42)}}
}

// Items without a policy take the same way as those of a plan, and each has its
// own result, in order.
func TestDispose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.things(6)
	w.disk.Remove("thing-1")
	w.disk.Put("thing-2", connectortest.Record{Bytes: 11}) // another version
	w.disk.Put("thing-5", connectortest.Record{Refuse: connector.InUse})
	items[5].Print = w.disk.Probe(t.Context(), []connector.Locator{"thing-5"})[0].Print
	x := disposal(items...)
	told := 0
	x.Tell = func() []ledger.Fact { told++; return []ledger.Fact{ledger.Int("names", 7)} }
	rs, rep, err := w.disposer().Dispose(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rs {
		got = append(got, r.State.String()+" "+string(r.Reason))
	}
	want := []string{"gone GONE", "gone MISSING", "present CHANGED", "gone GONE", "gone GONE", "present IN_USE"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("results (-want +got):\n%s", d)
	}
	if rep.Gone != 3 || rep.Missing != 1 || rep.Kept[connector.Changed] != 1 || rep.Bytes != 30 {
		t.Errorf("report: %+v", rep)
	}
	if d := cmp.Diff([]connector.Locator{"thing-2", "thing-5"}, w.disk.Locators()); d != "" {
		t.Errorf("what is left (-want +got):\n%s", d)
	}
	if w.open() != 0 {
		t.Error("an intent is open")
	}
	es := w.entries()
	if len(es) != 4 || told != 2 { // six items in batches of four
		t.Fatalf("%d entries, %d told; want two intents with their outcomes", len(es), told)
	}
	if pid, _ := es[0].Int("pid"); pid != 42 || len(es[0].Secrets) != 1 {
		t.Errorf("intent: %+v", es[0])
	}
	if _, has := es[0].Hash("policy"); has {
		t.Error("an intent without a policy names one")
	}
	if n, _ := es[1].Int("names"); n != 7 {
		t.Errorf("outcome: %+v", es[1])
	}
}

// Nothing is touched until the intent is durable. Seen to fail with intend's
// error passed over.
func TestDisposeNeedsItsIntent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.things(1)
	w.through = &cutLedger{Ledger: w.ledger, at: 1}
	rs, _, err := w.disposer().Dispose(t.Context(), disposal(items...))
	if err == nil || rs[0].State != connector.Unknown || !w.disk.Has("thing-0") {
		t.Errorf("got %v, %v; left: %t", rs, err, w.disk.Has("thing-0"))
	}
}

// A disposer that died between the intent and the outcome: another settles what
// it left, but only when it knows that the first is dead, and only once.
func TestSettle(t *testing.T) {
	t.Parallel()
	for _, erased := range []bool{false, true} {
		w := newWorld(t)
		items := w.things(2)
		w.through = &cutLedger{Ledger: w.ledger, at: 2} // the outcome
		first := w.disposer()
		if _, rep, err := first.Dispose(t.Context(), disposal(items...)); err == nil || rep.Gone != 0 {
			t.Fatalf("got %+v, %v", rep, err)
		}
		w.through = nil
		if !erased { // as if it had died before the claim
			w.things(2)
		}
		second := w.disposer()
		alive := func(ledger.Entry) bool { return false }
		if rep, err := second.Settle(t.Context(), disposal(), alive); err != nil || rep.Gone != 0 || w.open() != 1 {
			t.Errorf("someone else's work was touched: %+v, %v", rep, err)
		}
		other := disposal()
		other.Rule = "others"
		dead := func(e ledger.Entry) bool { return e.Run == first.Run() }
		if rep, err := second.Settle(t.Context(), other, dead); err != nil || rep.Gone != 0 || w.open() != 1 {
			t.Errorf("another rule's work was touched: %+v, %v", rep, err)
		}
		rep, err := second.Settle(t.Context(), disposal(), dead)
		if err != nil || w.open() != 0 {
			t.Fatalf("got %+v, %v, open %d", rep, err, w.open())
		}
		if erased {
			if d := cmp.Diff(int64(2), rep.Gone); d != "" {
				t.Errorf("gone (-want +got):\n%s", d)
			}
		} else if rep.Gone != 0 || rep.Kept[connector.Changed] != 2 || !w.disk.Has("thing-0") {
			t.Errorf("another version was taken: %+v", rep)
		}
		if rep, err := second.Settle(t.Context(), disposal(), dead); err != nil || rep.Gone != 0 {
			t.Errorf("settled twice: %+v, %v", rep, err)
		}
	}
}

// Whoever is dead may have written his outcome after the intent was read, and before
// he was looked for: it is not written again. Seen to fail without another look at
// the intent: what went once was counted twice.
func TestSettleLooksAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.things(2)
	w.through = &cutLedger{Ledger: w.ledger, at: 2} // the outcome
	if _, _, err := w.disposer().Dispose(t.Context(), disposal(items...)); err == nil {
		t.Fatal("it was not cut short")
	}
	w.through = nil
	dead := func(ledger.Entry) bool { return true }
	meanwhile := func(ledger.Entry) bool {
		rep, err := w.disposer().Settle(t.Context(), disposal(), dead)
		if err != nil || rep.Gone != 2 {
			t.Errorf("got %+v, %v", rep, err)
		}
		return true
	}
	if rep, err := w.disposer().Settle(t.Context(), disposal(), meanwhile); err != nil || rep.Gone != 0 || w.open() != 0 {
		t.Errorf("settled twice: %+v, %v", rep, err)
	}
}

// A store that cannot be seen makes items unknown; the same disposer settles
// them when it can be seen again.
func TestDisposeUnknownIsSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.things(1)
	faulty := connectortest.NewFaulty(t, w.disk, connectortest.Fault{Op: connectortest.OpErase, When: connectortest.After},
		connectortest.Fault{Op: connectortest.OpProbe, When: connectortest.Before})
	w.stores["disk"] = faulty
	d := w.disposer()
	rs, rep, err := d.Dispose(t.Context(), disposal(items...))
	if err != nil || rs[0].State != connector.Unknown || rep.Unknown != 1 || rep.Gone != 0 {
		t.Fatalf("got %+v, %+v, %v", rs, rep, err)
	}
	if w.open() != 1 {
		t.Fatalf("%d open, want the item handed on", w.open())
	}
	rep, err = d.Settle(t.Context(), disposal(), func(ledger.Entry) bool { return false })
	if err != nil || rep.Gone != 1 || w.open() != 0 {
		t.Errorf("got %+v, %v, open %d", rep, err, w.open())
	}
	if d := cmp.Diff([]string{"intent", "outcome", "intent", "outcome"}, kindsOf(w.entries()), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
}

func kindsOf(es []ledger.Entry) (out []string) {
	for _, e := range es {
		out = append(out, string(e.Kind))
	}
	return out
}
