package policy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	r := &policy.Rule{Retain: policy.Period{Days: 14}}
	now := at("2026-11-21T03:00:00Z")
	due := now.AddDate(0, 0, -14)
	old := now.AddDate(0, 0, -30)
	broken := errors.New("not an array")
	for _, c := range []struct {
		name string
		item connector.Item
		want policy.Decision
	}{
		{"old", connector.Item{Anchor: old}, policy.Decision{Due: true, Reason: connector.Eligible, DueAt: old.AddDate(0, 0, 14).Add(1)}},
		{"on the cutoff", connector.Item{Anchor: due}, policy.Decision{Reason: connector.NotDue, DueAt: now.Add(1)}},
		{"just before the cutoff", connector.Item{Anchor: due.Add(-1)}, policy.Decision{Due: true, Reason: connector.Eligible, DueAt: now}},
		{"new", connector.Item{Anchor: now}, policy.Decision{Reason: connector.NotDue, DueAt: now.AddDate(0, 0, 14).Add(1)}},
		{"in the future", connector.Item{Anchor: now.AddDate(1, 0, 0)}, policy.Decision{Reason: connector.NotDue, DueAt: now.AddDate(1, 0, 14).Add(1)}},
		{"undated", connector.Item{}, policy.Decision{Reason: connector.Undated}},
		{"undated and held", connector.Item{Held: true}, policy.Decision{Reason: connector.Undated}},
		{"held", connector.Item{Anchor: old, Held: true, InUse: true}, policy.Decision{Due: true, Reason: connector.Held, DueAt: old.AddDate(0, 0, 14).Add(1)}},
		{"in use", connector.Item{Anchor: old, InUse: true, Err: broken}, policy.Decision{Due: true, Reason: connector.InUse, DueAt: old.AddDate(0, 0, 14).Add(1)}},
		{"unreadable", connector.Item{Anchor: old, Err: broken}, policy.Decision{Due: true, Reason: connector.Invalid, DueAt: old.AddDate(0, 0, 14).Add(1)}},
		{"unreadable, not due", connector.Item{Anchor: now, Err: broken}, policy.Decision{Reason: connector.NotDue, DueAt: now.AddDate(0, 0, 14).Add(1)}},
	} {
		if diff := cmp.Diff(c.want, r.Decide(c.item, now)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
	}
}

// DueAt is exact: due at it, not due one nanosecond earlier.
func TestDueAtIsTheFirstDueInstant(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := &policy.Rule{Retain: periods().Draw(t, "retain")}
		it := connector.Item{Anchor: instants().Draw(t, "anchor")}
		d := r.Decide(it, it.Anchor)
		if !r.Decide(it, d.DueAt).Due {
			t.Fatalf("anchor %v with %v is not due at its DueAt %v", it.Anchor, r.Retain, d.DueAt)
		}
		if r.Decide(it, d.DueAt.Add(-1)).Due {
			t.Fatalf("anchor %v with %v is due before its DueAt %v", it.Anchor, r.Retain, d.DueAt)
		}
	})
}

// Two hosts in two zones decide the same at the same instant, also in the hour
// that a zone repeats.
func TestDecideIsTheSameInEveryZone(t *testing.T) {
	t.Parallel()
	r := &policy.Rule{Retain: policy.Period{Months: 1}}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-03-29T01:00:00Z"} {
		now := at(s)
		it := connector.Item{Anchor: r.Cutoff(now).Add(-time.Minute)}
		here := r.Decide(it, now)
		it.Anchor = it.Anchor.In(berlin)
		if diff := cmp.Diff(here, r.Decide(it, now.In(berlin))); diff != "" || !here.Due {
			t.Errorf("at %s: due %v here; in Berlin (-want +got)\n%s", s, here.Due, diff)
		}
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	p := mustLoad(t, "testdata/valid/recorder.yaml")
	r, _ := p.Rule("records")
	cutoff := at("2026-11-07T03:00:00+01:00")
	want := &connector.Query{
		Collection: "transcripts",
		Anchor:     connector.Anchor{Column: "created_at", Zone: time.UTC},
		Cutoff:     cutoff.UTC(),
		Wants: []connector.Want{{
			Refs:         []connector.Ref{{Table: "audio_assets", Column: "sha256"}},
			ReferencedBy: []connector.Column{{Table: "project_files", Column: "sha256"}},
		}},
	}
	if diff := cmp.Diff(want, r.Query(cutoff), cmp.Comparer(sameZone)); diff != "" {
		t.Errorf("Query (-want +got)\n%s", diff)
	}

	everything := mustLoad(t, "testdata/valid/everything.yaml")
	r, _ = everything.Rule("a")
	q := r.Query(cutoff)
	if len(q.Wants) != len(r.Parts) || len(q.Links) != 3 || q.Where == "" || q.Hold != "legal_hold" || q.InUse == "" {
		t.Errorf("Query left something out: %+v", q)
	}
}

func TestQueryCrossesMountsWhereTheStoreSaysSo(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"true": true, "false": false} {
		src := strings.Replace(base, "{files: /data}", "{files: /data, cross_mounts: "+value+"}", 1)
		p, err := policy.Parse("p.yaml", []byte(src), nil)
		if err != nil {
			t.Fatal(err)
		}
		exports, _ := p.Rule("exports")
		records, _ := p.Rule("records")
		if got := exports.Query(time.Now()).CrossMounts; got != want || records.Query(time.Now()).CrossMounts {
			t.Errorf("cross_mounts: %s gives %v", value, got)
		}
	}
}

func sameZone(a, b *time.Location) bool {
	return a == b || a != nil && b != nil && a.String() == b.String()
}

func TestCutoff(t *testing.T) {
	t.Parallel()
	r := &policy.Rule{Retain: policy.Period{Years: 6}}
	if got, want := r.Cutoff(at("2026-02-28T23:30:00-05:00")), at("2020-03-01T04:30:00Z"); !got.Equal(want) {
		t.Errorf("Cutoff = %v, want %v", got, want)
	}
}
