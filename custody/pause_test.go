package custody_test

import (
	"errors"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/purge"
)

// In a paused store nothing is erased: no file that is due, none that a process
// which is dead was about to erase. No attempt is counted.
func TestPausedStoreIsLeftAlone(t *testing.T) {
	t.Parallel()
	paused := true
	w := newWorld(t, func(o *custody.Options) { o.Paused = func(store string) bool { return paused && store == "work" } })
	due, begun := w.write("due", "x"), w.write("begun", "x")
	w.track(custody.Operation{Action: "work_copy_created", Path: due, Due: w.now})
	seen := w.o.Stores[0].Connector.Probe(t.Context(), []connector.Locator{"begun"})[0]
	if _, err := w.ledger.Append(t.Context(), ledger.Entry{At: w.now, Run: "20260101T000000Z-000000000000", Kind: ledger.Intent, Rule: custody.Rule, Store: "work",
		Items: []ledger.Item{{Locator: "begun", Print: string(seen.Print)}}, Facts: deadOwner(t).Facts()}); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Hour)
	for _, force := range []bool{false, true} {
		list, err := w.Run(t.Context(), custody.Cleanup{Force: force})
		if err != nil || len(list) != 1 || list[0].State != connector.Present || list[0].Reason != connector.InUse || list[0].Attempts != 0 {
			t.Errorf("force %t: got %+v, %v", force, list, err)
		}
	}
	if !w.exists(due) || !w.exists(begun) {
		t.Errorf("in a paused store: due is there %t, begun %t", w.exists(due), w.exists(begun))
	}
	paused = false
	list, err := w.Run(t.Context(), custody.Cleanup{})
	if err != nil || len(list) != 1 || list[0].State != connector.Gone || w.exists(due) || w.exists(begun) {
		t.Errorf("after the pause: got %+v, %v; due is there %t, begun %t", list, err, w.exists(due), w.exists(begun))
	}
}

// A clock that was set ahead disposes of nothing: not of what is due by it, not of
// what a process which is dead was about to erase, and nothing is recorded. Seen to
// fail with the clock asked after what was begun was finished.
func TestClockThatJumpedTakesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	due, begun := w.due("due"), w.write("begun", "x")
	seen := w.o.Stores[0].Connector.Probe(t.Context(), []connector.Locator{"begun"})[0]
	if _, err := w.ledger.Append(t.Context(), ledger.Entry{At: w.now, Run: "20260101T000000Z-000000000000", Kind: ledger.Intent, Rule: custody.Rule, Store: "work",
		Items: []ledger.Item{{Locator: "begun", Print: string(seen.Print)}}, Facts: deadOwner(t).Facts()}); err != nil {
		t.Fatal(err)
	}
	before, _, err := w.ledger.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start := w.now
	for _, now := range []time.Time{start.AddDate(0, 0, 46), start.AddDate(9, 0, 0), start.Add(-6 * time.Minute)} {
		w.now = now
		list, err := w.Run(t.Context(), custody.Cleanup{Force: true})
		var stop *purge.Interlock
		if !errors.As(err, &stop) || stop.Code != purge.Clock || len(list) != 0 {
			t.Errorf("run at %s: %v, %v", now, list, err)
		}
		list, err = w.Dispose(t.Context(), nil)
		if !errors.As(err, &stop) || len(list) != 0 {
			t.Errorf("dispose at %s: %v, %v", now, list, err)
		}
	}
	after, _, err := w.ledger.Newest(t.Context())
	if err != nil || after != before || !w.exists(due) || !w.exists(begun) {
		t.Errorf("%d entries, then %d, %v; due is there %t, begun %t", before, after, err, w.exists(due), w.exists(begun))
	}
	w.now = start.AddDate(0, 0, 45)
	if got := w.results(w.Run(t.Context(), custody.Cleanup{})); got != "due gone GONE" || w.exists(begun) {
		t.Errorf("at the limit: %q, begun is there %t", got, w.exists(begun))
	}
}
