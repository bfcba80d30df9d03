package purge_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/purge"
)

// isSet lists the records that say that their blobs are gone.
func (w *world) isSet() (ids []string) {
	for _, at := range w.app.Locators() {
		if r, _ := w.app.Get(at); r.Set {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func (w *world) wantSet(want ...string) {
	w.t.Helper()
	if got := w.isSet(); !slices.Equal(got, want) {
		w.t.Errorf("set are %v, want %v", got, want)
	}
}

func (w *world) change(m *connectortest.Memory, at connector.Locator, f func(*connectortest.Record)) {
	r, ok := m.Get(at)
	if !ok {
		w.t.Fatalf("there is no %s", at)
	}
	f(&r)
	m.Put(at, r)
}

// The blobs go, the row stays and says so, and nothing says that a row is gone.
// The next run finds nothing to do.
func TestThenSetsTheRow(t *testing.T) {
	t.Parallel()
	w := newKeepingWorld(t)
	w.record(1, 20, "a", "b")
	w.record(2, 20)
	w.record(3, 20, "lost")
	w.disk.Remove(blob("lost"))
	w.record(4, 2, "young")
	rep := w.mustRun(w.plan("transcripts"))
	got := rule(t, rep, "transcripts")
	if !got.Keeps || got.Set != 3 || got.Gone != 0 || got.Missing != 0 || got.PartsGone != 2 || got.PartsMissing != 1 || len(got.Rows) > 0 || len(got.Kept) > 0 || got.Errors != 0 {
		t.Errorf("got %+v", got)
	}
	w.wantSet("1", "2", "3")
	w.whole()
	if n := len(w.app.Locators()); n != 4 {
		t.Errorf("%d records are left, want all 4", n)
	}
	for _, e := range w.entries(ledger.Outcome) {
		for _, r := range e.Results {
			if r.State != ledger.Present || r.Reason != "SET" {
				t.Errorf("the ledger has %d %s of a row that was set", r.State, r.Reason)
			}
		}
		set, _ := e.Int("set")
		gone, _ := e.Int("gone")
		if parts, _ := e.Int("parts.gone"); set != 3 || gone != 0 || parts != 2 {
			t.Errorf("outcome: %v", e.Facts)
		}
	}
	for _, e := range w.entries(ledger.Intent) {
		if then, _ := e.Code("then"); then != "update" {
			t.Errorf("the intent does not say what is meant: %v", e.Facts)
		}
	}
	if names := w.names(); !slices.Contains(names, purge.RecordSet) || slices.Contains(names, purge.RecordPurged) {
		t.Errorf("events: %v", names)
	}
	again := rule(t, w.mustRun(w.plan("transcripts")), "transcripts")
	if again.Due != 0 || again.Set != 0 || again.Total != 1 {
		t.Errorf("a second run: %+v", again)
	}
}

// A rule that takes files has no rows to set: a policy made by hand does not get
// its files erased for it.
func TestThenOfFilesIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy.Rules[1].Then = []connector.Setting{{Column: "c"}}
	w.rehash()
	at := w.export("x", 20)
	if _, err := w.run(w.plan()); err == nil || !w.disk.Has(at) {
		t.Errorf("err %v, there %v", err, w.disk.Has(at))
	}
}

// A dry run counts what would be set, and calls nothing gone or set.
func TestThenDryRun(t *testing.T) {
	t.Parallel()
	w := newKeepingWorld(t)
	w.record(1, 20, "a")
	c := w.config
	c.Ledger, c.Clock = w.ledger, w.clock
	rep, err := purge.DryRun(t.Context(), w.policy, w.plan("transcripts"), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := rule(t, rep, "transcripts"); got.Set != 1 || got.Gone != 0 || got.PartsGone != 1 {
		t.Errorf("got %+v", got)
	}
	w.wantSet()
	for _, e := range w.entries(ledger.Heartbeat) {
		would, _ := e.Int("would.set")
		if _, says := e.Int("set"); says || would != 1 {
			t.Errorf("heartbeat: %v", e.Facts)
		}
	}
}

// A deletion that fails leaves the row as it is: what it would say is not so.
// Once it can go, the row is set. Seen to fail with the failed part overlooked
// in eraseRoots.
func TestThenWaitsForEveryPart(t *testing.T) {
	t.Parallel()
	for _, why := range []connector.Reason{connector.Refused, connector.NoPermission, connector.LockedUntil, connector.InUse} {
		w := newKeepingWorld(t)
		w.record(1, 20, "a", "stuck")
		w.record(2, 20, "b")
		w.record(3, 20, "a", "c") // needs what the first one keeps
		w.change(w.disk, blob("stuck"), func(r *connectortest.Record) { r.Refuse = why })
		got := rule(t, w.mustRun(w.plan("transcripts")), "transcripts")
		if got.Set != 1 || got.PartsGone != 1 || got.Kept[why] != 1 || got.Kept[connector.Shared] != 1 {
			t.Errorf("%s: got %+v", why, got)
		}
		w.wantSet("2")
		w.whole()
		w.change(w.disk, blob("stuck"), func(r *connectortest.Record) { r.Refuse = "" })
		w.mustRun(w.plan("transcripts"))
		w.wantSet("1", "2", "3")
		w.whole()
	}
}

// An item half gone is not set; the next run finishes and sets it, and counts
// each blob once.
func TestThenFinishesWhatIsHalfGone(t *testing.T) {
	t.Parallel()
	w := newKeepingWorld(t)
	if rep := half(t, w); rep.Open != 1 || rep.Errors() != 1 {
		t.Errorf("got %+v", rep)
	}
	w.wantSet()
	rep := w.mustRun(w.plan("transcripts"))
	got := rule(t, rep, "transcripts")
	if got.Set != 1 || got.PartsGone != 1 || got.PartsMissing != 0 || got.Resumed != 1 || rep.Incidents != 0 || w.open() != 0 {
		t.Errorf("got %+v, %d incidents", got, rep.Incidents)
	}
	w.wantSet("1")
	w.whole()
}

// A store that is down: nothing is known of the blob, and the row is not set.
func TestThenUnknownPart(t *testing.T) {
	t.Parallel()
	w := newKeepingWorld(t)
	w.record(1, 20, "a")
	p := w.plan("transcripts")
	w.disk.Break()
	got := rule(t, w.mustRun(p), "transcripts")
	w.disk.Restore()
	if got.Set != 0 || got.Unknown != 1 {
		t.Errorf("got %+v", got)
	}
	w.wantSet()
	w.whole()
}

// A blob that another surviving row needs stays, and with it all the others of
// the item: its row does not say that they are gone. Seen to fail without
// keepShared.
func TestThenSharedBlocks(t *testing.T) {
	t.Parallel()
	w := newKeepingWorld(t)
	at := w.record(1, 20, "shared", "own")
	w.change(w.app, at, func(r *connectortest.Record) { r.Kept = [][]bool{{true, false}} })
	w.record(2, 20, "b")
	rep := w.mustRun(w.plan("transcripts"))
	got := rule(t, rep, "transcripts")
	if got.Set != 1 || got.Kept[connector.Shared] != 1 || got.PartsShared != 1 || got.PartsGone != 1 || got.Errors != 0 || rep.Open != 0 {
		t.Errorf("got %+v", got)
	}
	w.wantSet("2")
	w.whole()
	w.change(w.app, at, func(r *connectortest.Record) { r.Kept = nil })
	w.mustRun(w.plan("transcripts"))
	w.wantSet("1", "2")
	w.whole()
}

// sharing is a Memory as a database would be: a blob that a record which is not
// in the claim names is kept, unless that record is set.
type sharing struct{ rowsLike }

func (s sharing) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	cl, rs := s.rowsLike.Claim(ctx, q, items)
	claimed := map[connector.Locator]bool{}
	for i, r := range rs {
		claimed[items[i].Locator] = r.Reason == connector.Eligible
	}
	named := map[string]bool{}
	for _, at := range s.Locators() {
		if r, _ := s.Get(at); !r.Set && !claimed[at] {
			for _, t := range r.Values[0] {
				named[t[0]] = true
			}
		}
	}
	for i := range rs {
		rs[i].Kept = [][]bool{nil}
		for _, t := range items[i].Values[0] {
			rs[i].Kept[0] = append(rs[i].Kept[0], named[t[0]])
		}
	}
	return cl, rs
}

// Rows that share a blob are set together, however far apart they stand in the
// plan: else each would wait for the other for ever. Seen to fail with the
// batches of the plan as they come.
func TestThenSetsRowsThatShareTogether(t *testing.T) {
	t.Parallel()
	w := newKeepingWorld(t)
	w.stores["app"] = sharing{rowsLike{w.app}}
	w.config.Batch, w.config.Workers = 2, 3
	want := []string{}
	for i := range 9 {
		blobs := []string{"own" + string(rune('a'+i))}
		if i%4 == 0 {
			blobs = append(blobs, "one")
		}
		if i == 4 || i == 7 {
			blobs = append(blobs, "another")
		}
		w.record(i, 30-i, blobs...)
		want = append(want, string(rune('0'+i)))
	}
	got := rule(t, w.mustRun(w.plan("transcripts")), "transcripts")
	if got.Set != 9 || got.PartsGone != 11 || len(got.Kept) > 0 || !got.Done {
		t.Errorf("got %+v", got)
	}
	w.wantSet(want...)
	w.whole()
}

// A row that somebody else has set since the plan is left alone, with what it
// names, and is not counted as our work. One that is not there any more is not
// set.
func TestThenDrift(t *testing.T) {
	t.Parallel()
	w := newKeepingWorld(t)
	theirs, removed := w.record(1, 20, "a"), w.record(2, 20, "b")
	w.record(3, 20, "c")
	p := w.plan("transcripts")
	w.change(w.app, theirs, func(r *connectortest.Record) { r.Set = true })
	w.app.Remove(removed)
	got := rule(t, w.mustRun(p), "transcripts")
	want := reasons{connector.NotDue: 1, connector.Missing: 1}
	if d := cmp.Diff(want, reasons(got.Drift)); d != "" || got.Set != 1 || got.Missing != 1 || got.Gone != 0 {
		t.Errorf("got %+v\n%s", got, d)
	}
	if !w.disk.Has(blob("a")) || !w.disk.Has(blob("b")) || w.disk.Has(blob("c")) {
		t.Error("blobs: a and b were to stay, c to go")
	}
}

// The reply to the update is lost: whether the row is set is seen by looking, in
// the same run, and said only then. Seen to fail with a probe in the place of
// the claim.
func TestThenLostReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		when connectortest.Moment
		set  int64
	}{{connectortest.Before, 0}, {connectortest.Midway, 1}, {connectortest.After, 2}} {
		w := newKeepingWorld(t)
		w.record(1, 20, "a")
		w.record(2, 20, "b")
		p := w.plan("transcripts")
		w.stores["app"] = connectortest.NewFaulty(t, w.app, connectortest.Fault{Op: connectortest.OpErase, N: 1, When: c.when})
		rep := w.mustRun(p)
		if got := rule(t, rep, "transcripts"); got.Set != c.set || got.Errors != 2-c.set || int64(len(w.isSet())) != c.set {
			t.Errorf("%v: got %+v, set are %v", c.when, got, w.isSet())
		}
		w.stores["app"] = w.app
		again := w.mustRun(w.plan("transcripts"))
		if got := rule(t, again, "transcripts"); got.Set != 2-c.set || got.PartsGone != 0 || again.Incidents != 0 || again.Open != 0 {
			t.Errorf("%v, again: got %+v", c.when, got)
		}
		w.wantSet("1", "2")
		w.whole()
	}
}

// crashed leaves the intent of a run that died right after its update, or right
// after the blobs were gone, open.
func crashed(t *testing.T, w *world, point cutPoint) {
	t.Helper()
	w.record(1, 20, "a", "b")
	if fired := w.die(t, w.plan("transcripts"), point); !fired() {
		t.Fatal("the cut never happened")
	}
}

var (
	afterUpdate = cutPoint{"app", connectortest.OpErase, 1, connectortest.After}
	afterBlobs  = cutPoint{"disk", connectortest.OpErase, 1, connectortest.After}
)

// What became of a row after a crash, by who did what meanwhile.
func TestThenAfterACrash(t *testing.T) {
	t.Parallel()
	const record = connector.Locator("transcripts/00001")
	for name, c := range map[string]struct {
		at        cutPoint
		meanwhile func(w *world)
		set       int64
		incidents int64
		reason    string // of the outcome
	}{
		"set, and the rule switched off since": {afterUpdate, func(w *world) { w.policy.Rules[0].Enabled = false; w.rehash() }, 1, 0, "SET"},
		"set, and gone by another hand":        {afterUpdate, func(w *world) { w.app.Remove(record) }, 0, 0, "MISSING"},
		"set, and the rule erases now":         {afterUpdate, func(w *world) { w.policy.Rules[0].Then = nil; w.rehash() }, 0, 0, "GONE"},
		"not set, and set by another hand": {afterBlobs, func(w *world) {
			w.change(w.app, record, func(r *connectortest.Record) { r.Set = true })
		}, 1, 0, "SET"}, // nobody can tell
		"not set, and touched": {afterBlobs, func(w *world) {
			w.change(w.app, record, func(r *connectortest.Record) { r.Anchor = t0 })
		}, 0, 1, "NOT_DUE"},
		"not set, a blob is back, and set by another hand": {afterBlobs, func(w *world) {
			w.disk.Put(blob("a"), connectortest.Record{Bytes: 7})
			w.change(w.app, record, func(r *connectortest.Record) { r.Set = true })
		}, 0, 1, "NOT_DUE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newKeepingWorld(t)
			w.stores["app"] = rowsLike{w.app}
			crashed(t, w, c.at)
			c.meanwhile(w)
			rep := w.mustRun(w.plan("transcripts"))
			if got := rule(t, rep, "transcripts"); got.Set != c.set || rep.Incidents != c.incidents || rep.Open != 0 {
				t.Errorf("got %+v, %d incidents", got, rep.Incidents)
			}
			outcomes := w.entries(ledger.Outcome)
			if got := outcomes[len(outcomes)-1].Results[0].Reason; got != c.reason {
				t.Errorf("the outcome says %s, want %s", got, c.reason)
			}
		})
	}
}

// The batches of Together: in order, all of a group in one, and everything once.
func TestTogetherYieldsEachItemOnce(t *testing.T) {
	t.Parallel()
	w := newKeepingWorld(t)
	for i := range 40 {
		blobs := []string{string(rune('A' + i))}
		if i%7 == 0 {
			blobs = append(blobs, "seven")
		}
		if i%11 == 0 {
			blobs = append(blobs, "eleven")
		}
		w.record(i, 60, blobs...)
	}
	p := w.plan("transcripts")
	for _, n := range []int{1, 3, 8, 1000} {
		seen := map[connector.Locator]int{}
		batchOf := map[plan.Thing]int{}
		last := connector.Locator("")
		k := 0
		for items, err := range p.Together("transcripts", n) {
			if err != nil {
				t.Fatal(err)
			}
			k++
			for _, it := range items {
				seen[it.Locator]++
				for _, part := range it.Parts {
					thing := plan.Thing{Store: part.Store, Locator: part.Locator}
					if b, ok := batchOf[thing]; ok && b != k {
						t.Errorf("size %d: %s is in two batches", n, part.Locator)
					}
					batchOf[thing] = k
				}
			}
			if len(items) > n && len(items) > 9 {
				t.Errorf("size %d: a batch of %d", n, len(items))
			}
			if len(items[0].Parts) == 1 && items[0].Locator < last {
				t.Errorf("size %d: not in the order of the plan", n)
			}
			last = items[0].Locator
		}
		if len(seen) != 40 {
			t.Errorf("size %d: %d items, want 40", n, len(seen))
		}
		for at, times := range seen {
			if times != 1 {
				t.Errorf("size %d: %s came %d times", n, at, times)
			}
		}
	}
	for range p.Together("transcripts", 8) {
		break // a caller may stop
	}
	for range p.Together("nothing", 8) {
		t.Error("items of a rule that is not there")
	}
}

// A random world in which records share blobs, purged on several workers by runs
// that fail and die at random places, and at last by two that nothing disturbs.
// Nobody else is at work. At the end a record is set if and only if none that it
// hangs together with by shared blobs has to stay; a blob is gone if and only if
// all that name it are set. And at no time does a record that is set name a blob
// that is there.
func TestModelThenShared(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newKeepingWorld(t)
		defer w.ledger.Close()
		w.stores["app"] = sharing{rowsLike{w.app}}
		w.config.Workers = rapid.IntRange(1, 4).Draw(rt, "workers")
		w.config.Batch = rapid.IntRange(1, 4).Draw(rt, "batch")
		n := rapid.IntRange(2, 12).Draw(rt, "records")
		names := make([][]string, n)
		free := make([]bool, n)
		for i := range n {
			days := rapid.SampledFrom([]int{20, 20, 20, 20, 10}).Draw(rt, "days")
			for range rapid.IntRange(0, 3).Draw(rt, "blobs") {
				b := fmt.Sprint("b", rapid.IntRange(0, 2*n).Draw(rt, "blob"))
				if !slices.Contains(names[i], b) {
					names[i] = append(names[i], b)
				}
			}
			at := w.record(i, days, names[i]...)
			free[i] = days > 14
			if rapid.IntRange(0, 9).Draw(rt, "held") == 0 {
				w.change(w.app, at, func(r *connectortest.Record) { r.Held = true })
				free[i] = false
			}
		}
		honest := func() {
			for i := range n {
				r, _ := w.app.Get(connector.Locator(fmt.Sprintf("transcripts/%05d", i)))
				for _, b := range names[i] {
					if r.Set && w.disk.Has(blob(b)) {
						rt.Fatalf("record %d says that its blobs are gone, and %s is there", i, b)
					}
				}
			}
		}
		for range rapid.IntRange(0, 3).Draw(rt, "disturbed runs") {
			disturbedRun(rt, t, w, w.plan("transcripts"))
			w.now = w.now.Add(time.Minute)
			honest()
		}
		for range 2 {
			rep := w.mustRun(w.plan("transcripts"))
			w.now = w.now.Add(time.Minute)
			if rep.Errors() != 0 || rep.Incidents != 0 {
				rt.Fatalf("an undisturbed run: %d errors, %d incidents", rep.Errors(), rep.Incidents)
			}
			honest()
		}
		// What hangs together with a record that stays, stays.
		for changed := true; changed; {
			changed = false
			for i := range n {
				for j := range n {
					shares := slices.ContainsFunc(names[i], func(b string) bool { return slices.Contains(names[j], b) })
					if shares && free[i] && !free[j] {
						free[i], changed = false, true
					}
				}
			}
		}
		for i := range n {
			r, there := w.app.Get(connector.Locator(fmt.Sprintf("transcripts/%05d", i)))
			if !there || r.Set != free[i] {
				rt.Fatalf("record %d: there %v, set %v, want set %v; blobs %v", i, there, r.Set, free[i], names)
			}
			for _, b := range names[i] {
				if w.disk.Has(blob(b)) == free[i] {
					rt.Fatalf("blob %s of record %d: there %v", b, i, !free[i])
				}
			}
		}
		if w.open() != 0 {
			rt.Fatal("an intent is open at the end")
		}
	})
}
