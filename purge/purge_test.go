package purge_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/purge"
)

// The whole of the main job. Seen to fail with roots erased before parts.
func TestRunTakesRecordsWithAllThatBelongsToThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(1, 20, "a", "b")
	w.record(2, 15, "c")
	young := w.record(3, 3, "d")
	w.export("old", 30)
	fresh := w.export("new", 1)
	rep := w.mustRun(w.plan())

	got := rule(t, rep, "transcripts")
	want := purge.RuleReport{Rule: "transcripts", Kind: "record", Store: "app", StoreKind: "rows", Enabled: true, Retain: got.Retain, Cutoff: got.Cutoff,
		Total: 3, Due: 2, Items: 2, Gone: 2, PartsGone: 3, Bytes: 300, OldestDue: t0.AddDate(0, 0, -20), Done: true,
		Rows: []connector.Count{{Table: "segments", N: 4}, {Table: "transcripts", N: 2}}}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}
	if x := rule(t, rep, "exports"); x.Gone != 1 || x.Errors != 0 || x.Bytes != 10 {
		t.Errorf("exports: got %+v", x)
	}
	if !w.app.Has(young) || !w.disk.Has(fresh) || !w.disk.Has(blob("d")) {
		t.Error("something young is gone")
	}
	if n := len(w.app.Locators()) + len(w.disk.Locators()); n != 3 {
		t.Errorf("%d things left, want 3", n)
	}
	w.whole()
	if w.open() != 0 {
		t.Error("an intent is still open")
	}
	wantEvents := []purge.EventName{purge.RunStartedEvent, purge.RuleStartedEvent, purge.RecordPurged, purge.RecordPurged, purge.RuleCompleteEvent,
		purge.RuleStartedEvent, purge.ExportPurged, purge.RuleCompleteEvent, purge.RunCompleteEvent}
	if d := cmp.Diff(wantEvents, w.names()); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	kinds := []ledger.Kind{}
	for _, e := range w.entries() {
		kinds = append(kinds, e.Kind)
	}
	wantKinds := []ledger.Kind{ledger.RunStarted, ledger.Intent, ledger.Outcome, ledger.Heartbeat, ledger.Intent, ledger.Outcome, ledger.Heartbeat, ledger.RunFinished}
	if d := cmp.Diff(wantKinds, kinds); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}

	// Running again finds nothing to do.
	again := w.mustRun(w.plan())
	if again.Errors() != 0 || rule(t, again, "transcripts").Gone != 0 || rule(t, again, "exports").Gone != 0 {
		t.Errorf("second run: %+v", again)
	}
}
