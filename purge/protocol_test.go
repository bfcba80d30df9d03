package purge_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/purge"
)

type reasons map[connector.Reason]int64

// Promise 1. A store that is down makes its items unknown, never gone, and rows
// stay while their blobs cannot be seen. Seen to fail with Unknown treated as
// absent in look.
func TestStoreDownIsUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(1, 20, "a")
	w.record(2, 20)
	p := w.plan("transcripts")
	w.disk.Break()
	rep := w.mustRun(p)
	w.disk.Restore()
	got := rule(t, rep, "transcripts")
	if got.Gone != 1 || got.Unknown != 1 || got.Errors != 1 || got.PartsGone != 0 {
		t.Errorf("got %+v, want one gone (it has no blob), one unknown and an error", got)
	}
	if !w.app.Has("transcripts/00001") || !w.disk.Has(blob("a")) {
		t.Error("something is gone that could not be seen")
	}
	if finished := w.entries(ledger.RunFinished); len(finished) != 1 {
		t.Fatalf("%d ends of a run", len(finished))
	} else if s, _ := finished[0].Code("state"); s != "errors" {
		t.Errorf("state %s, want errors", s)
	}
	w.mustRun(w.plan("transcripts"))
	w.whole()
	if len(w.app.Locators()) != 0 {
		t.Error("the next run did not finish")
	}
}

// Promise 1. The database down when the plan is made: the run is recorded with
// one error, nothing is touched, the other rules go on.
func TestUnreadableRuleIsOneError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(1, 20, "a")
	w.export("x", 20)
	w.app.Break()
	rep := w.mustRun(w.plan())
	w.app.Restore()
	tr, ex := rule(t, rep, "transcripts"), rule(t, rep, "exports")
	if tr.Errors != 1 || tr.Gone != 0 || tr.Unreadable != connector.Unreachable || tr.Done || tr.ErrorType == "" {
		t.Errorf("transcripts: got %+v", tr)
	}
	if ex.Gone != 1 || ex.Errors != 0 {
		t.Errorf("exports: got %+v", ex)
	}
	if !w.app.Has("transcripts/00001") || !w.disk.Has(blob("a")) {
		t.Error("something was touched")
	}
}

// Promise 2. A blob that cannot go keeps its row and its siblings: the item
// drops out whole before anything of it is touched. Seen to fail when claims of
// parts were not compared before the first erasure.
func TestPartThatCannotGoKeepsAll(t *testing.T) {
	t.Parallel()
	for _, why := range []connector.Reason{connector.Refused, connector.NoPermission, connector.LockedUntil, connector.InUse} {
		w := newWorld(t)
		w.record(1, 20, "a", "stuck")
		w.record(2, 20, "b")
		w.record(3, 20, "a") // shares a blob with the one that stays
		r, _ := w.disk.Get(blob("stuck"))
		r.Refuse = why
		w.disk.Put(blob("stuck"), r)
		rep := w.mustRun(w.plan("transcripts"))
		got := rule(t, rep, "transcripts")
		if got.Gone != 2 || got.PartsGone != 1 || got.PartsShared != 1 || got.Kept[why] != 1 {
			t.Errorf("%s: got %+v", why, got)
		}
		if wantErrors := map[bool]int64{true: 1}[why == connector.Refused || why == connector.NoPermission]; got.Errors != wantErrors {
			t.Errorf("%s: %d errors, want %d", why, got.Errors, wantErrors)
		}
		if !w.app.Has("transcripts/00001") || !w.disk.Has(blob("a")) || !w.disk.Has(blob("stuck")) {
			t.Errorf("%s: the item that stays has lost something", why)
		}
		w.whole()
	}
}

// half makes an item of which one blob is gone and the other would not go, by a
// store that fails in the middle of an erasure.
func half(t *testing.T, w *world) purge.Report {
	w.record(1, 20, "a", "b")
	p := w.plan("transcripts")
	stores := w.stores
	stuck := &stuckStore{Memory: w.disk, at: blob("b")}
	w.stores = map[string]connector.Connector{"app": w.app, "disk": stuck}
	rep := w.mustRun(p)
	w.stores = stores
	if w.disk.Has(blob("a")) || !w.disk.Has(blob("b")) || !w.app.Has("transcripts/00001") {
		t.Fatal("the item is not half gone")
	}
	return rep
}

// stuckStore claims everything and then fails to erase one thing, saying so.
type stuckStore struct {
	*connectortest.Memory
	at connector.Locator
}

type stuckClaim struct {
	connector.Claim
	items []connector.Item
	at    connector.Locator
}

func (s *stuckStore) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	c, rs := s.Memory.Claim(ctx, q, items)
	return &stuckClaim{c, items, s.at}, rs
}

func (c *stuckClaim) Erase(ctx context.Context, which []int) connector.Erased {
	var do []int
	for _, i := range which {
		if c.items[i].Locator != c.at {
			do = append(do, i)
		}
	}
	e := c.Claim.Erase(ctx, do)
	var rs []connector.Result
	for _, i := range which {
		if c.items[i].Locator == c.at {
			rs = append(rs, connector.Result{State: connector.Present, Reason: connector.Refused, Err: errors.New("stuck at /secret/path")})
			continue
		}
		rs = append(rs, e.Results[len(rs)-min(len(rs), len(which)-len(do))])
	}
	e.Results = rs
	return e
}

// Promise 2. An item that is half gone is handed on; the next run finishes it,
// knows that the dead blob was ours and counts it once. Seen to fail when the
// outcome closed the item: the blob was MISSING in the next run.
func TestHalfGoneItemIsFinishedByTheNextRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := half(t, w)
	got := rule(t, first, "transcripts")
	if got.Errors != 1 || got.Gone != 0 || got.PartsGone != 1 || got.Kept[connector.Refused] != 1 || first.Open != 1 {
		t.Errorf("first run: got %+v, %d open", got, first.Open)
	}
	second := w.mustRun(w.plan("transcripts"))
	got = rule(t, second, "transcripts")
	if got.Errors != 0 || got.Gone != 1 || got.PartsGone != 1 || got.PartsMissing != 0 || got.Resumed != 1 || second.Resumed != 1 || second.Open != 0 || second.Incidents != 0 {
		t.Errorf("second run: got %+v", second)
	}
	w.whole()
	if n := len(w.app.Locators()) + len(w.disk.Locators()); n != 0 {
		t.Errorf("%d things left", n)
	}
	if d := cmp.Diff(map[string]int64{"gone": 1, "parts.gone": 2, "bytes": 200}, w.truth().Counts); d != "" {
		t.Errorf("counted (-want +got):\n%s", d)
	}
}

// Promise 2. A row that survived its blobs and is no longer due is an incident,
// not a silence. Seen to fail with the incident left out.
func TestRowThatSurvivedItsPartsIsAnIncident(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	half(t, w)
	r, _ := w.app.Get("transcripts/00001")
	r.Anchor = t0.AddDate(0, 0, -1) // someone touched it
	w.app.Put("transcripts/00001", r)
	rep := w.mustRun(w.plan("transcripts"))
	if rep.Incidents != 1 || rep.Open != 0 {
		t.Errorf("%d incidents, %d open; want 1, 0", rep.Incidents, rep.Open)
	}
	if !w.app.Has("transcripts/00001") || !w.disk.Has(blob("b")) {
		t.Error("what is not due was taken")
	}
	es := w.entries(ledger.Incident)
	if len(es) != 1 {
		t.Fatalf("%d incident entries", len(es))
	}
	if what, _ := es[0].Code("incident"); what != "row-survived" {
		t.Errorf("incident %s", what)
	}
	if at, _ := es[0].Secret("locator"); at != "transcripts/00001" {
		t.Errorf("sealed locator %q", at)
	}
	if again := w.mustRun(w.plan("transcripts")); again.Incidents != 0 {
		t.Error("the incident is told twice")
	}
}

// Promises 3 and 4. What changed between plan and purge stays and is drift;
// what is due but not in the plan is not touched. Seen to fail with the
// fingerprints of parts not compared.
func TestDriftStaysAndNothingOutsideThePlanIsTouched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	touch := func(at connector.Locator, f func(*connectortest.Record)) {
		r, _ := w.app.Get(at)
		f(&r)
		w.app.Put(at, r)
	}
	w.record(1, 20, "a")
	w.record(2, 20, "b")
	w.record(3, 20, "c")
	w.record(4, 20, "d")
	w.record(5, 20, "e")
	w.record(6, 20, "f")
	// Memory compares fingerprints first, as files do; rows give none, so the
	// reasons below would all be CHANGED. rowsLike takes the fingerprints away.
	w.stores["app"] = rowsLike{w.app}
	p := w.plan("transcripts")
	touch("transcripts/00001", func(r *connectortest.Record) { r.Anchor = t0 })
	touch("transcripts/00002", func(r *connectortest.Record) { r.Held = true })
	touch("transcripts/00003", func(r *connectortest.Record) { r.InUse = true })
	w.app.Remove("transcripts/00004")
	w.disk.Put(blob("e"), connectortest.Record{Bytes: 1}) // another version
	w.record(7, 20, "outside")
	rep := w.mustRun(p)
	got := rule(t, rep, "transcripts")
	want := reasons{connector.NotDue: 1, connector.Held: 1, connector.InUse: 1, connector.Missing: 1, connector.Changed: 1}
	if d := cmp.Diff(want, reasons(got.Drift)); d != "" {
		t.Errorf("drift (-want +got):\n%s", d)
	}
	if got.Gone != 1 || got.Missing != 1 || got.Errors != 0 {
		t.Errorf("got %+v", got)
	}
	for _, at := range []connector.Locator{blob("a"), blob("b"), blob("c"), blob("e"), blob("outside")} {
		if !w.disk.Has(at) {
			t.Errorf("%s is gone", at)
		}
	}
	if !w.app.Has("transcripts/00007") {
		t.Error("a record outside the plan is gone")
	}
}

// rowsLike is a Memory as a database would be: without fingerprints of rows.
type rowsLike struct{ *connectortest.Memory }

func (r rowsLike) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	at := make([]connector.Locator, len(items))
	for i := range items {
		at[i] = items[i].Locator
	}
	items = append([]connector.Item(nil), items...)
	for i, p := range r.Memory.Probe(ctx, at) {
		items[i].Print = p.Print
	}
	return r.Memory.Claim(ctx, q, items)
}

// A plan that was forged, with a good digest, cannot name anything that the
// policy would not: parts are derived again from the record's values.
func TestForgedPartIsNotErased(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(1, 20, "a")
	w.disk.Put("files/precious.bin", connectortest.Record{})
	p := forge(t, w.plan("transcripts"), "files/a.bin v1 ", "files/precious.bin v2 ")
	rep := w.mustRun(p)
	if !w.disk.Has("files/precious.bin") || !w.disk.Has(blob("a")) || !w.app.Has("transcripts/00001") {
		t.Error("a forged plan erased something")
	}
	if got := rule(t, rep, "transcripts"); got.Kept[connector.Changed] != 1 {
		t.Errorf("got %+v", got)
	}
}

// Promise 4: a plan of another policy, and one that was carried out, are
// refused before anything is written or touched.
func TestPlansThatMustNotBeCarriedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(1, 20, "a")
	p := w.plan()
	w.policy.Rules[0].Retain.Days = 10
	w.rehash()
	_, err := w.run(p)
	var pe *plan.Error
	if !errors.As(err, &pe) || pe.Kind != plan.OtherPolicy || pe.Hint == "" {
		t.Errorf("other policy: got %v", err)
	}
	if n := len(w.entries()); n != 0 || !w.app.Has("transcripts/00001") {
		t.Errorf("%d entries for a plan that was refused", n)
	}
	p = w.plan()
	w.mustRun(p)
	w.record(1, 20, "a") // it is back, and due
	before := len(w.entries())
	_, err = w.run(p)
	if !errors.As(err, &pe) || pe.Kind != plan.CarriedOut {
		t.Errorf("carried out: got %v", err)
	}
	if !w.app.Has("transcripts/00001") || len(w.entries()) != before {
		t.Error("a plan that was carried out was carried out again")
	}
}

// Promises 1 and 2: no erasure without a durable intent. Every append that fails
// before an effect leaves everything as it was.
func TestNothingIsTouchedWithoutADurableIntent(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 2; n++ { // run.started, intent
		w := newWorld(t)
		w.record(1, 20, "a")
		w.export("x", 20)
		p := w.plan()
		before := w.app.Dump() + w.disk.Dump()
		app, disk := connectortest.NewFaulty(t, w.app), connectortest.NewFaulty(t, w.disk)
		w.stores = map[string]connector.Connector{"app": app, "disk": disk}
		l := &cutLedger{Ledger: w.ledger, at: n}
		w.through = l
		_, err := w.run(p)
		if err == nil || !l.fired {
			t.Errorf("append %d: err %v, fired %v", n, err, l.fired)
		}
		if d := cmp.Diff(before, w.app.Dump()+w.disk.Dump()); d != "" {
			t.Errorf("append %d: the stores changed:\n%s", n, d)
		}
		for _, c := range append(app.Calls(), disk.Calls()...) {
			if c.Op == connectortest.OpErase || c.Op == connectortest.OpClaim {
				t.Errorf("append %d: %s was called", n, c.Op)
			}
		}
	}
}

// An outcome that cannot be written ends the run with an error; nothing of the
// batch is counted, and the next run knows all of it.
func TestOutcomeThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 9 { // three batches
		w.record(i, 20, string(rune('a'+i)))
	}
	p := w.plan("transcripts")
	w.through = &cutLedger{Ledger: w.ledger, at: 3} // started, intent, outcome
	rep, err := w.run(p)
	if err == nil || rule(t, rep, "transcripts").Gone != 0 || rule(t, rep, "transcripts").PartsGone != 0 {
		t.Errorf("err %v, report %+v", err, rep)
	}
	if n := len(w.app.Locators()); n != 5 {
		t.Errorf("%d records left, want the five of the batches that were not begun", n)
	}
	w.through = nil
	rep = w.mustRun(w.plan("transcripts"))
	if got := rule(t, rep, "transcripts"); got.Gone != 9 || got.Resumed != 4 || got.PartsGone != 9 || got.Errors != 0 {
		t.Errorf("next run: %+v", got)
	}
}

// Promise 10. A store that panics in one batch leaves the others alone, and the
// batch is settled by looking.
func TestPanickingStore(t *testing.T) {
	t.Parallel()
	for _, op := range []connectortest.Op{connectortest.OpProbe, connectortest.OpClaim, connectortest.OpErase, connectortest.OpRelease} {
		w := newWorld(t)
		for i := range 8 {
			w.record(i, 20, string(rune('a'+i)))
		}
		p := w.plan("transcripts")
		bomb := connectortest.NewFaulty(t, w.disk, connectortest.Fault{Op: op, N: 1, When: connectortest.After,
			Then: func() { panic("open /secret/path: boom") }})
		w.stores = map[string]connector.Connector{"app": w.app, "disk": bomb}
		rep := w.mustRun(p)
		if got := rule(t, rep, "transcripts"); got.Gone < 4 || got.Gone+got.Unknown+got.Kept[connector.Unreachable]+got.Kept[connector.InUse] != 8 {
			t.Errorf("%s: got %+v", op, got)
		}
		w.quiet()
	}
}

// quiet fails when something that must not be shown was shown.
func (w *world) quiet() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if s := e.String(); strings.Contains(s, "secret") || strings.Contains(s, "files/") || strings.Contains(s, "transcripts/0") || strings.Contains(s, "anna") {
			w.t.Errorf("event shows what it must not: %s", s)
		}
	}
}

// A stop ends after the running batches; the rest is untouched, and the same
// plan may be run again.
func TestStopEndsAfterTheRunningBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 12 {
		w.record(i, 20, string(rune('a'+i)))
	}
	p := w.plan("transcripts")
	stop := make(chan struct{})
	w.config.Stop = stop
	f := connectortest.NewFaulty(t, w.app, connectortest.Fault{Op: connectortest.OpRelease, N: 1, When: connectortest.After, Then: func() { close(stop) }})
	w.stores["app"] = f
	rep, err := w.run(p)
	if err != nil || !rep.Interrupted {
		t.Errorf("err %v, interrupted %v", err, rep.Interrupted)
	}
	if got := rule(t, rep, "transcripts"); got.Gone != 4 || got.Done {
		t.Errorf("got %+v, want one batch", got)
	}
	w.whole()
	if w.open() != 0 {
		t.Error("an intent is open after a graceful stop")
	}
	w.config.Stop, w.stores["app"] = nil, w.app
	rep = w.mustRun(p) // the same plan: it was not carried out to its end
	if got := rule(t, rep, "transcripts"); got.Gone != 8 || got.Missing != 4 || got.Errors != 0 {
		t.Errorf("second run of the plan: %+v", got)
	}
}

// A context that ends stops the run at once, wherever it is; the next run
// settles what was under way.
func TestCancelAtOnce(t *testing.T) {
	t.Parallel()
	for _, point := range cutPoints(t, newWorld(t)) {
		if point.store == "" {
			continue
		}
		w := newWorld(t)
		extra := populate(w)
		p := w.plan()
		ctx, cancel := context.WithCancel(context.Background())
		stores := w.stores
		f := connectortest.NewFaulty(t, stores[point.store], connectortest.Fault{Op: point.op, N: point.n, When: point.when, Then: cancel})
		w.stores = map[string]connector.Connector{"app": stores["app"], "disk": stores["disk"]}
		w.stores[point.store] = f
		rep, err := w.runCtx(ctx, p)
		through := rule(t, rep, "exports").Done && w.open() == 0 // cancelled when all was done
		if through != (err == nil) || through == rep.Interrupted || err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%v: err %v, interrupted %v, through %v", point, err, rep.Interrupted, through)
		}
		w.stores = stores
		again := w.mustRun(w.plan())
		w.whole(extra...)
		if again.Errors() != 0 || w.open() != 0 {
			t.Errorf("%v: next run has %d errors, %d open", point, again.Errors(), w.open())
		}
		cancel()
	}
}

// A rule that is switched off does nothing, also with what a crashed run of its
// left: that is looked at and said.
func TestDisabledRuleTouchesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	half(t, w)
	w.policy.Rules[0].Enabled = false
	w.rehash()
	before := w.app.Dump() + w.disk.Dump()
	rep := w.mustRun(w.plan())
	if d := cmp.Diff(before, w.app.Dump()+w.disk.Dump()); d != "" {
		t.Errorf("the stores changed:\n%s", d)
	}
	if rep.Incidents != 1 {
		t.Errorf("%d incidents, want the row that survived its blob", rep.Incidents)
	}
}

// A run of one rule leaves the open intents of another to a run of theirs.
func TestResumeKeepsToTheRulesOfThePlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	half(t, w)
	w.export("x", 20)
	rep := w.mustRun(w.plan("exports"))
	if rep.Resumed != 0 || rep.Open != 1 || !w.app.Has("transcripts/00001") {
		t.Errorf("got %+v", rep)
	}
}

// A policy that has become longer since the crash protects what the crashed run
// had not touched.
func TestLongerPolicyProtectsAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(1, 20, "a")
	w.record(2, 20, "b")
	w.die(t, w.plan("transcripts"), cutPoint{store: "app", op: connectortest.OpClaim, n: 1, when: connectortest.After})
	if w.open() != 1 {
		t.Fatal("no open intent")
	}
	w.policy.Rules[0].Retain.Years = 6
	w.rehash()
	rep := w.mustRun(w.plan("transcripts"))
	got := rule(t, rep, "transcripts")
	if got.Gone != 0 || got.Kept[connector.NotDue] != 2 || rep.Incidents != 0 || w.open() != 0 {
		t.Errorf("got %+v", rep)
	}
	if len(w.app.Locators()) != 2 || len(w.disk.Locators()) != 2 {
		t.Error("something is gone that is not due any more")
	}
}

// The lease keeps a second run out, which would take the first one's open
// intents for those of a dead run.
func TestOneRunAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(1, 20, "a")
	p := w.plan()
	var second error
	w.stores["app"] = connectortest.NewFaulty(t, w.app, connectortest.Fault{Op: connectortest.OpClaim, N: 1, When: connectortest.Before, Then: func() {
		_, second = purge.Run(t.Context(), w.policy, p, purge.Config{Ledger: w.ledger, Stores: w.stores, Clock: w.clock})
	}})
	w.mustRun(p)
	var stop *purge.Interlock
	if !errors.As(second, &stop) || stop.Code != purge.Busy {
		t.Errorf("second run: got %v", second)
	}
}
