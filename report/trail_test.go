package report_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/report"
)

// entries is a ledger that is a slice. Like the real one it gives what is sealed
// on request only.
type entries []ledger.Entry

func (es entries) Entries(_ context.Context, f ledger.Filter) iter.Seq2[ledger.Entry, error] {
	return func(yield func(ledger.Entry, error) bool) {
		n := 0
		for _, e := range es {
			if e.Number <= f.After || len(f.Kinds) > 0 && !slices.Contains(f.Kinds, e.Kind) {
				continue
			}
			if !f.Unseal {
				e.Items, e.Secrets = nil, nil
			}
			if n++; !yield(e, nil) || n == f.Limit {
				return
			}
		}
	}
}

var at = time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)

var sample = entries{
	{Number: 1, At: at, Kind: ledger.RunStarted, Run: "r1", Facts: []ledger.Fact{ledger.Hash("policy", [32]byte{1, 2}), ledger.Int("rules", 1)},
		Secrets: []ledger.Secret{{Name: "who", Text: "anna\x1b[2J"}}},
	{Number: 2, At: at, Kind: ledger.Intent, Run: "r1", Rule: "records", Store: "app", Items: []ledger.Item{
		{ID: "12", Locator: "transcripts/12", Parts: []ledger.Part{{Store: "disk", Locator: "files/a.bin", Bytes: 7}, {Store: "disk", Locator: "files/b.bin"}}},
		{ID: "13", Locator: "transcripts/13"},
		{}, // sealed off
	}},
	{Number: 3, At: at.Add(time.Second), Kind: ledger.Outcome, Run: "r1", Rule: "records", Store: "app", Refers: 2,
		Facts: []ledger.Fact{ledger.Int("bytes", 7), ledger.Int("gone", 1), ledger.Int("errors", 0)},
		Results: []ledger.Result{
			{State: ledger.Gone, Reason: "GONE", Parts: []ledger.PartResult{{State: ledger.Gone, Reason: "GONE"}, {State: ledger.Present, Reason: "SHARED"}}},
			{State: ledger.Present, Reason: "CHANGED"},
			{State: ledger.Unknown, Reason: "UNREACHABLE"},
		}},
}

func text(t *testing.T, o report.Options) string {
	t.Helper()
	var b strings.Builder
	if _, err := report.Text(&b, report.Trail(t.Context(), sample, o), report.Style{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTextNamesNothingUnasked(t *testing.T) {
	t.Parallel()
	want := `     1  2026-11-20 03:00:00  run.started   policy=010200000000…  rules=1  who="anna\x1b[2J"  run r1
     2  2026-11-20 03:00:00  intent        records  run r1
     3  2026-11-20 03:00:01  outcome       records  gone 1  present 1 (CHANGED)  unknown 1 (UNREACHABLE)  bytes=7  of 2  run r1
`
	if diff := cmp.Diff(want, text(t, report.Options{})); diff != "" {
		t.Error(diff)
	}
}

// An outcome holds codes only; the names come from its intent, also when the
// filter leaves the intent out.
func TestTextJoinsOutcomesWithTheirIntents(t *testing.T) {
	t.Parallel()
	want := `     3  2026-11-20 03:00:01  outcome       records  gone 1  present 1 (CHANGED)  unknown 1 (UNREACHABLE)  bytes=7  of 2  run r1
          gone                   transcripts/12
          gone                     disk:files/a.bin
          present SHARED           disk:files/b.bin
          present CHANGED        transcripts/13
          unknown UNREACHABLE    ‹sealed off›
`
	outcomes := ledger.Filter{Kinds: []ledger.Kind{ledger.Outcome}}
	if diff := cmp.Diff(want, text(t, report.Options{Filter: outcomes, Items: true})); diff != "" {
		t.Error(diff)
	}
	outcomes.Item = "13"
	got := text(t, report.Options{Filter: outcomes})
	if !strings.Contains(got, "transcripts/13") || strings.Contains(got, "transcripts/12") || strings.Contains(got, "sealed") {
		t.Errorf("asked for 13, got\n%s", got)
	}
	outcomes.Item = "files/b.bin"
	if got := text(t, report.Options{Filter: outcomes}); !strings.Contains(got, "transcripts/12") || strings.Contains(got, "transcripts/13") {
		t.Errorf("asked for a part, got\n%s", got)
	}
}

func TestJSONIsOneObject(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	n, err := report.JSON(&b, report.Trail(t.Context(), sample, report.Options{Items: true}))
	if n != 3 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	var got struct {
		Entries []struct {
			Number  int64
			Action  string
			Facts   map[string]any
			Secrets map[string]string
			Results []struct {
				State, Reason string
				Items, Parts  int64
			}
			Items []struct {
				ID, Locator, State string
				SealedOff          bool `json:"sealed_off"`
			}
		}
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	e := got.Entries[2]
	if e.Action != "outcome" || len(e.Results) != 4 || e.Items[0].Locator != "transcripts/12" || e.Items[0].State != "gone" || !e.Items[2].SealedOff {
		t.Errorf("got %+v", e)
	}
	if h := got.Entries[0].Facts["policy"]; h != "0102"+strings.Repeat("0", 60) {
		t.Errorf("hash: got %v", h)
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("an escape sequence came through")
	}
	b.Reset()
	if n, err := report.JSON(&b, report.Trail(t.Context(), entries{}, report.Options{})); n != 0 || err != nil || !json.Valid([]byte(b.String())) {
		t.Errorf("empty: %d, %v, %q", n, err, b.String())
	}
}

// broken fails in the middle.
type broken struct{ entries }

var errBroken = errors.New("broken")

func (b broken) Entries(ctx context.Context, f ledger.Filter) iter.Seq2[ledger.Entry, error] {
	return func(yield func(ledger.Entry, error) bool) {
		for e, err := range b.entries.Entries(ctx, f) {
			if !yield(e, err) {
				return
			}
			break
		}
		yield(ledger.Entry{}, errBroken)
	}
}

func TestErrorEndsTheTrail(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if _, err := report.Text(&b, report.Trail(t.Context(), broken{sample}, report.Options{}), report.Style{}); !errors.Is(err, errBroken) {
		t.Errorf("text: got %v", err)
	}
	if _, err := report.JSON(&b, report.Trail(t.Context(), broken{sample}, report.Options{})); !errors.Is(err, errBroken) {
		t.Errorf("JSON: got %v", err)
	}
	outcome := entries{sample[2]}
	outcome[0].Refers = 2
	if _, err := report.Text(&b, report.Trail(t.Context(), outcome, report.Options{Items: true}), report.Style{}); err == nil {
		t.Error("an outcome without its intent was not noticed")
	}
}
