package epitaph_test

import (
	"testing"
	"time"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
)

// The last run is that of the rule which was gone through longest ago. What was
// cut short, or only looked, does not count.
func TestLastRun(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	pol, err := policy.Parse(b.pol.Path, []byte(`version: 1
stores: {disk: {files: .}}
rules:
  one: {retain: 14d, files: "disk:one-*", anchor: modified}
  two: {retain: 14d, files: "disk:two-*", anchor: modified}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := epitaph.New(epitaph.Config{Policy: pol, Ledger: b.led})
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	want := func(dry bool, days int) {
		t.Helper()
		var at time.Time
		if days > 0 {
			at = day.AddDate(0, 0, days)
		}
		if got, err := e.LastRun(t.Context(), dry); err != nil || !got.Equal(at) {
			t.Errorf("last run %v, %v; want %v", got, err, at)
		}
	}
	beat := func(days int, rule, mode, state string) {
		t.Helper()
		_, err := b.led.Append(t.Context(), ledger.Entry{At: day.AddDate(0, 0, days), Kind: ledger.Heartbeat, Rule: rule,
			Facts: []ledger.Fact{ledger.Code("mode", mode), ledger.Code("state", state)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	want(false, 0)
	beat(1, "another", "purge", "done")
	beat(2, "two", "purge", "interrupted")
	beat(3, "one", "dry-run", "done")
	want(false, 0)
	want(true, 3)
	beat(4, "two", "purge", "stopped")
	want(false, 4) // a rule that is new has none, and was not missed
	beat(5, "one", "purge", "errors")
	want(false, 4)
	beat(6, "two", "purge", "interrupted")
	want(false, 4)
	beat(7, "two", "purge", "unreadable")
	want(false, 5)
	beat(8, "one", "purge", "disabled")
	want(false, 7)
}

// What a run of ours writes is what LastRun reads.
func TestLastRunIsThatOfARun(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	now := time.Now().UTC()
	e, err := epitaph.New(epitaph.Config{Policy: b.pol, Ledger: b.led, Stores: map[string]connector.Connector{"disk": b.disk}})
	if err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		if at, err := e.LastRun(t.Context(), dry); err != nil || !at.IsZero() {
			t.Errorf("before it: %v, %v", at, err)
		}
		if _, err := e.Purge(t.Context(), epitaph.PurgeOptions{DryRun: dry}); err != nil {
			t.Fatal(err)
		}
		if at, err := e.LastRun(t.Context(), dry); err != nil || at.Before(now.Truncate(time.Microsecond)) {
			t.Errorf("after it: %v, %v", at, err)
		}
	}
}
