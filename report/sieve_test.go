package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/report"
)

// office is a ledger of two people on two hosts, and of an application that says
// for whom it keeps files.
var office = entries{
	{Number: 1, At: at, Kind: ledger.RunStarted, Run: "r1", Facts: []ledger.Fact{ledger.Code("host", "alpha")}, Secrets: []ledger.Secret{{Name: "who", Text: "root (sudo by anna)"}}},
	{Number: 2, At: at, Kind: ledger.Intent, Run: "r1", Rule: "exports", Items: []ledger.Item{
		{Locator: "a/one.wav"}, {Locator: "two.txt", Parts: []ledger.Part{{Store: "disk", Locator: "deep/three.wav"}}}}},
	{Number: 3, At: at, Kind: ledger.Outcome, Run: "r1", Rule: "exports", Refers: 2, Facts: []ledger.Fact{ledger.Int("bytes", 10)}, Results: []ledger.Result{
		{State: ledger.Gone, Reason: "GONE"}, {State: ledger.Present, Reason: "CHANGED", Parts: []ledger.PartResult{{State: ledger.Gone, Reason: "GONE"}}}}},
	{Number: 4, At: at, Kind: ledger.RunStarted, Run: "r2", Facts: []ledger.Fact{ledger.Code("host", "beta")}, Secrets: []ledger.Secret{{Name: "who", Text: "joanna"}}},
	{Number: 5, At: at, Kind: ledger.Heartbeat, Run: "r2", Rule: "exports"},
	{Number: 6, At: at, Kind: ledger.CustodyOperations, Items: []ledger.Item{
		{Locator: "=cmd()", Values: [][][]string{{{"actor", "anna"}, {"scope", "tenant 1"}, {"host", "gamma"}}}},
		{Locator: "other", Values: [][][]string{{{"actor", "bert"}, {"scope", "tenant 2"}}}}}},
	{Number: 7, At: at, Kind: ledger.SealedOff, Secrets: []ledger.Secret{{Name: "who", Text: "anna"}, {Name: "reason", SealedOff: true}}},
}

func numbers(t *testing.T, o report.Options) (got []int64) {
	t.Helper()
	for l, err := range report.Trail(t.Context(), office, o) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l.Number)
		if !o.Items && o.File == "" && len(l.Batch) > 0 {
			t.Errorf("entry %d names items unasked", l.Number)
		}
	}
	return got
}

func TestTrailOfWhoWhereAndWhat(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o    report.Options
		want []int64
	}{
		"actor":             {report.Options{Actor: "anna"}, []int64{1, 2, 3, 6, 7}}, // not joanna
		"joanna":            {report.Options{Actor: "joanna"}, []int64{4, 5}},
		"actor of an item":  {report.Options{Actor: "bert"}, []int64{6}},
		"host":              {report.Options{Host: "beta"}, []int64{4, 5}},
		"host of an item":   {report.Options{Host: "gamma"}, []int64{6}},
		"scope":             {report.Options{Scope: "tenant 2"}, []int64{6}},
		"both":              {report.Options{Actor: "bert", Scope: "tenant 1"}, nil}, // of two items
		"actor and host":    {report.Options{Actor: "anna", Host: "alpha"}, []int64{1, 2, 3}},
		"file":              {report.Options{File: "*.wav"}, []int64{2, 3}},
		"file, whole":       {report.Options{File: "one.wav"}, nil},
		"file and actor":    {report.Options{File: "*.wav", Actor: "joanna"}, nil},
		"limit is of these": {report.Options{Actor: "anna", Filter: ledger.Filter{Limit: 4}}, []int64{1, 2, 3, 6}},
		"nothing":           {report.Options{}, []int64{1, 2, 3, 4, 5, 6, 7}},
	} {
		if diff := cmp.Diff(c.want, numbers(t, c.o)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if err := report.CheckFile("[a"); err == nil {
		t.Error("a glob that cannot be read was taken")
	}
}

// A file that is asked for is named, and its neighbours in the batch are not.
func TestTrailOfAFileNamesThatFile(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if _, err := report.Text(&b, report.Trail(t.Context(), office, report.Options{File: "a/*"}), report.Style{}); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Count(got, "a/one.wav") != 2 || strings.Contains(got, "two.txt") {
		t.Errorf("got\n%s", got)
	}
}

func TestCSVIsATable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	n, err := report.CSV(&b, report.Trail(t.Context(), office, report.Options{Items: true}))
	if n != len(office) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if rows[0][0] != "number" || len(rows) != 1+1+3+3+1+1+2+1 {
		t.Errorf("%d rows, header %q", len(rows), rows[0])
	}
	if diff := cmp.Diff([]string{"3", "2026-11-20T03:00:00Z", "outcome", "r1", "exports", "", "2", "1", "1", "0", "bytes=10", "", "two.txt", "disk", "deep/three.wav", "gone", "GONE"}, rows[7]); diff != "" {
		t.Error(diff)
	}
	if got := rows[10][12]; got != "'=cmd()" {
		t.Errorf("a formula came through: %q", got)
	}
	if got := rows[12][10]; got != "who=anna reason=‹sealed off›" {
		t.Errorf("got %q", got)
	}
}

func TestJSONLines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	n, err := report.JSONLines(&b, report.Trail(t.Context(), office, report.Options{}))
	if n != len(office) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != len(office) {
		t.Fatalf("%d lines", len(lines))
	}
	var last struct {
		Number  int64
		Secrets map[string]string
		Sealed  []string `json:"secrets_sealed_off"`
	}
	for _, l := range lines {
		if err := json.Unmarshal([]byte(l), &last); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
	}
	if last.Number != 7 || last.Secrets["reason"] != "" || len(last.Sealed) == 0 {
		t.Errorf("got %+v", last)
	}
}

func TestStatistics(t *testing.T) {
	t.Parallel()
	s, err := report.Summarize(report.Trail(t.Context(), office, report.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	want := report.Statistics{Entries: 7, First: &at, Last: &at, Runs: 2,
		Actions: map[string]int64{"run.started": 2, "intent": 1, "outcome": 1, "heartbeat": 1, "custody.operations": 1, "ledger.sealed-off": 1},
		Rules: []report.RuleStatistics{{Rule: "exports", Evaluated: 1, Gone: 1, Present: 1, PartsGone: 1, Bytes: 10,
			Reasons: map[string]int64{"CHANGED": 1}, LastGoneAt: &at}}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	var b bytes.Buffer
	if err := s.Text(&b, report.Style{}); err != nil || !strings.Contains(b.String(), "Rule exports: evaluated 1 times\n  gone 1, 1 parts, 10 bytes\n") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// What was erased, what somebody must look at and what changed the ledger itself
// are told apart by colour.
func TestTextPaintsByKind(t *testing.T) {
	t.Parallel()
	mark := func(m string) func(string) string {
		return func(s string) string { return m + strings.TrimSpace(s) + m }
	}
	st := report.Style{Good: mark("+"), Bad: mark("!"), Warn: mark("~"), Dim: mark("_")}
	for kind, want := range map[ledger.Kind]string{
		ledger.Outcome: "+outcome+", ledger.Incident: "!incident!", ledger.Forked: "!ledger.forked!", ledger.Intent: "~intent~",
		ledger.SealedOff: "~ledger.sealed-off~", ledger.Pruned: "~ledger.pruned~", ledger.KeyRotated: "~ledger.key~", ledger.Heartbeat: "_heartbeat_",
	} {
		var b bytes.Buffer
		es := entries{{Number: 1, At: at, Kind: kind}}
		if _, err := report.Text(&b, report.Trail(t.Context(), es, report.Options{}), st); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%s: %v, got %q", kind, err, b.String())
		}
	}
}
