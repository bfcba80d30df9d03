package custody_test

import (
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
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
