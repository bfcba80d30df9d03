package purge_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
)

// A random world, purged on several workers by runs that fail and die at random
// places while somebody else works on the same data, and at last by two that
// nothing disturbs. Whatever happened:
//
//   - nothing is gone that was not due, held, in use or undated, and nothing that
//     came after the last plan;
//   - what was due and free is gone at the end, with its blobs;
//   - no live pointer to a dead blob, unless it is in the ledger as an incident;
//   - no blob of ours without a pointer, unless somebody else took its record;
//   - nothing is counted as gone that somebody else took, or twice.
//
// Where the rule keeps its rows, set stands for gone: none is set of which a blob
// is there, and all that are due and free are set at the end.
func TestModel(t *testing.T) {
	t.Parallel()
	t.Run("erase", func(t *testing.T) { t.Parallel(); model(t, newWorld) })
	t.Run("set", func(t *testing.T) { t.Parallel(); model(t, newKeepingWorld) })
}

func model(t *testing.T, fresh func(testing.TB) *world) {
	rapid.Check(t, func(rt *rapid.T) {
		w := fresh(t)
		w.stores["app"] = rowsLike{w.app}
		defer w.ledger.Close()
		w.config.Workers = rapid.IntRange(1, 4).Draw(rt, "workers")
		w.config.Batch = rapid.IntRange(1, 5).Draw(rt, "batch")
		n := rapid.IntRange(1, 14).Draw(rt, "records")
		mustStay := map[connector.Locator]bool{}
		for i := range n {
			days := rapid.IntRange(10, 18).Draw(rt, "days")
			var blobs []string
			for j := range rapid.IntRange(0, 3).Draw(rt, "blobs") {
				blobs = append(blobs, fmt.Sprintf("b%d-%d", i, j))
			}
			at := w.record(i, days, blobs...)
			r, _ := w.app.Get(at)
			switch rapid.IntRange(0, 9).Draw(rt, "kind") {
			case 0:
				r.Held = true
			case 1:
				r.InUse = true
			case 2:
				r.Anchor = time.Time{}
			}
			w.app.Put(at, r)
			if days <= 14 || r.Held || r.InUse || r.Anchor.IsZero() {
				mustStay[at] = true
			}
		}
		touched := map[connector.Locator]bool{} // by somebody else
		gone := int64(0)
		for range rapid.IntRange(0, 3).Draw(rt, "disturbed runs") {
			p := w.plan("transcripts")
			disturb(rt, w, n, mustStay, touched)
			gone += disturbedRun(rt, t, w, p)
		}
		for range 2 {
			rep := w.mustRun(w.plan("transcripts"))
			gone += rule(t, rep, "transcripts").Gone + rule(t, rep, "transcripts").Set
			if rep.Errors() != 0 {
				rt.Fatalf("an undisturbed run has errors: %+v", rep)
			}
		}
		checkModel(rt, w, n, mustStay, touched)
		if w.open() != 0 {
			rt.Fatal("an intent is open at the end")
		}
		counts := w.truth().Counts
		if counted := counts["gone"] + counts["set"]; counted < gone || counted > int64(n) {
			rt.Fatalf("the ledger counts %d records as gone, the reports %d of %d", counted, gone, n)
		}
	})
}

// disturb does what an application may do between plan and purge.
func disturb(rt *rapid.T, w *world, n int, mustStay, touched map[connector.Locator]bool) {
	for range rapid.IntRange(0, 2).Draw(rt, "disturbances") {
		at := connector.Locator(fmt.Sprintf("transcripts/%05d", rapid.IntRange(0, n-1).Draw(rt, "which")))
		r, ok := w.app.Get(at)
		if !ok {
			continue
		}
		touched[at] = true
		switch rapid.IntRange(0, 2).Draw(rt, "what") {
		case 0:
			r.Anchor = t0.AddDate(0, 0, -1)
			w.app.Put(at, r)
			mustStay[at] = true
		case 1:
			r.Held = true
			w.app.Put(at, r)
			mustStay[at] = true
		case 2:
			w.app.Remove(at) // with its blobs, as an application would
			for _, t := range r.Values[0] {
				w.disk.Remove(blob(t[0]))
			}
			delete(mustStay, at)
		}
	}
}

// disturbedRun runs a plan with a fault at a random place, or dies there.
func disturbedRun(rt *rapid.T, t *testing.T, w *world, p *plan.Plan) int64 {
	kills := rapid.Bool().Draw(rt, "dies")
	l := &cutLedger{Ledger: w.ledger}
	stores := w.stores
	fs := map[string]*connectortest.Faulty{}
	kill := func() {
		l.cut()
		for _, f := range fs {
			f.Cut()
		}
	}
	if l.then = kill; kills && rapid.Bool().Draw(rt, "in the ledger") {
		l.at, l.after = rapid.IntRange(1, 8).Draw(rt, "append"), rapid.Bool().Draw(rt, "after")
	}
	fault := connectortest.Fault{
		Op:   rapid.SampledFrom([]connectortest.Op{connectortest.OpProbe, connectortest.OpClaim, connectortest.OpErase, connectortest.OpRelease}).Draw(rt, "op"),
		N:    rapid.IntRange(1, 4).Draw(rt, "n"),
		When: rapid.SampledFrom(connectortest.Moments()).Draw(rt, "when"),
	}
	if kills {
		fault.Then = kill
	}
	victim := rapid.SampledFrom([]string{"app", "disk"}).Draw(rt, "victim")
	w.stores = map[string]connector.Connector{}
	for name, s := range stores {
		var faults []connectortest.Fault
		if name == victim && l.at == 0 {
			faults = append(faults, fault)
		}
		fs[name] = connectortest.NewFaulty(quietTB{t}, s, faults...)
		w.stores[name] = fs[name]
	}
	w.through = l
	rep, _ := w.run(p)
	w.stores, w.through = stores, nil
	for _, f := range fs {
		f.Cut() // whatever the run did, its process is gone now
	}
	if len(rep.Rules) == 0 {
		return 0
	}
	return rep.Rules[0].Gone + rep.Rules[0].Set
}

// quietTB takes the cleanup of a Faulty whose fault need not strike: the place is
// random, and may not be reached.
type quietTB struct{ testing.TB }

func (quietTB) Cleanup(func()) {}

func checkModel(rt *rapid.T, w *world, n int, mustStay, touched map[connector.Locator]bool) {
	incident := map[string]bool{}
	for _, e := range w.entries(ledger.Incident) {
		at, _ := e.Secret("locator")
		incident[at] = true
	}
	pointed := map[connector.Locator]bool{}
	for i := range n {
		at := connector.Locator(fmt.Sprintf("transcripts/%05d", i))
		r, there := w.app.Get(at)
		keeps := len(w.policy.Rules[0].Then) > 0
		if mustStay[at] && (!there || r.Set && !touched[at]) {
			rt.Fatalf("%s is gone or set and had to stay: %+v", at, r)
		}
		if !mustStay[at] && there && !r.Set {
			rt.Fatalf("%s is due and is still there: %+v", at, r)
		}
		if keeps && !there && !touched[at] {
			rt.Fatalf("%s is gone, and was only to be set", at)
		}
		if !there {
			continue
		}
		for _, t := range r.Values[0] {
			pointed[blob(t[0])] = true
			switch has := w.disk.Has(blob(t[0])); {
			case has && r.Set:
				rt.Fatalf("%s says that its blobs are gone, and one is there", at)
			case !has && !r.Set && !(touched[at] && incident[string(at)]):
				rt.Fatalf("%s points to a dead blob, and no incident says so", at)
			}
		}
	}
	for _, at := range w.disk.Locators() {
		if !pointed[at] {
			rt.Fatalf("blob %s has no record", at)
		}
	}
}
