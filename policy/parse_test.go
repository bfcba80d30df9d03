package policy_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testVariables = map[string]string{"DATABASE_URL": "postgres://app:hunter2@db.example/app"}

func mustLoad(t testing.TB, path string) *policy.Policy {
	t.Helper()
	p, err := policy.Load(path, policy.LookupIn(testVariables))
	if err != nil {
		t.Fatalf("Load(%s):\n%v", path, err)
	}
	return p
}

func fixtures(t testing.TB, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil || len(list) == 0 {
		t.Fatalf("no fixtures %s: %v", pattern, err)
	}
	return list
}

func TestFixturesParse(t *testing.T) {
	t.Parallel()
	for _, path := range append(fixtures(t, "testdata/valid/*.yaml"), fixtures(t, "../examples/*/*.yaml")...) {
		p := mustLoad(t, path)
		if len(p.Rules)+len(p.Custody.Tracked) == 0 || len(p.Stores) == 0 {
			t.Errorf("%s: %d rules, %d stores", path, len(p.Rules), len(p.Stores))
		}
		for _, r := range p.Rules {
			if _, ok := p.Store(r.Store); !ok || r.Retain.IsZero() || r.Kind == "" || r.Limits != r.Limits.Or(p.Limits) || r.Pos.Line == 0 {
				t.Errorf("%s: rule %s is not whole: %+v", path, r.Name, r)
			}
		}
	}
}

func TestRecorderFixture(t *testing.T) {
	t.Parallel()
	p := mustLoad(t, "testdata/valid/recorder.yaml")
	if p.DryRun || !p.Enabled || p.Schedule != "0 2 * * *" || p.Zone != time.UTC {
		t.Errorf("switches: dry run %v, enabled %v, schedule %q in %v", p.DryRun, p.Enabled, p.Schedule, p.Zone)
	}
	if s, _ := p.Store("app"); s.Target != testVariables["DATABASE_URL"] {
		t.Errorf("the DSN is not the variable's")
	}
	if s, _ := p.Store("disk"); s.Target != "/app/data" || s.Marker != ".epitaph-root" {
		t.Errorf("disk: %+v", s)
	}
	want := policy.Limits{Items: 20_000, Share: 750_000, Missing: 500_000, ClockJump: policy.Period{Days: 45}}
	if p.Limits != want {
		t.Errorf("limits %+v, want %+v", p.Limits, want)
	}
	exports, _ := p.Rule("exports")
	want.Share = 1_000_000
	if exports.Limits != want || exports.Kind != "export" || exports.Anchor.Kind != connector.AnchorModified || exports.Collection != "export-*.zip" {
		t.Errorf("exports: %+v", exports)
	}
	if records, _ := p.Rule("records"); records.Kind != "record" || records.Retain != (policy.Period{Days: 14}) {
		t.Errorf("records: %+v", records)
	}
}

// place is the store that Place tells, where nothing stands before the path.
func place(p *policy.Part, filled string) (string, bool) {
	store, prefix, ok := p.Place(filled)
	return store, ok && prefix == ""
}

func TestReflectorFixture(t *testing.T) {
	t.Parallel()
	p := mustLoad(t, "testdata/valid/reflector.yaml")
	r, _ := p.Rule("transcripts")
	if p.Enabled || r.Enabled || r.Off != "enabled on line 4 (variable PUBLIC_MODE)" {
		t.Errorf("enabled %v, rule enabled %v, off by %q", p.Enabled, r.Enabled, r.Off)
	}
	if dir := r.Parts[0]; !dir.Tree || dir.Path.Fill([]string{"abc"}) != "abc/" {
		t.Errorf("the directory part: %+v", dir)
	}
	if r.Parts[1].Want.When != "audio_location = 'storage'" || r.Parts[1].Tree {
		t.Errorf("the conditional part: %+v", r.Parts[1])
	}
	tracks := r.Parts[3]
	wantRefs := []connector.Ref{{Table: "recording", Column: "bucket_name"}, {Table: "recording", Column: "track_keys", Each: true}}
	if diff := cmp.Diff(wantRefs, tracks.Want.Refs); diff != "" {
		t.Errorf("refs of the tracks (-want +got)\n%s", diff)
	}
	for bucket, want := range map[string]string{"reflector-media": "media", "reflector-recordings": "platform", "other": ""} {
		if got, ok := place(&tracks, bucket); got != want || ok != (want != "") {
			t.Errorf("Place(%q) = %q, %v", bucket, got, ok)
		}
	}
	if got, ok := place(&r.Parts[1], "media"); got != "media" || !ok {
		t.Errorf("Place of a named store = %q, %v", got, ok)
	}
	wantLink := connector.Link{Table: "meeting", On: []connector.Pair{{
		Column: connector.Column{Table: "meeting", Column: "id"}, Equals: connector.Column{Table: "transcript", Column: "meeting_id"},
	}}}
	if diff := cmp.Diff(wantLink, r.Links[1]); diff != "" {
		t.Errorf("link (-want +got)\n%s", diff)
	}
	orphans, _ := p.Rule("orphaned-recordings")
	if ref := orphans.Parts[0].Want.Refs[0]; ref.Table != "" || ref.Column != "bucket_name" {
		t.Errorf("the bucket of an orphan: %+v", ref)
	}
	media, _ := p.Store("media")
	if _, ok := media.Options["endpoint"]; ok || media.Options["path_style"] != "false" {
		t.Errorf("an empty endpoint must read as none: %v", media.Options)
	}

	on, err := policy.Load("testdata/valid/reflector.yaml", policy.Lookups(
		policy.LookupIn(map[string]string{"PUBLIC_MODE": "1", "PUBLIC_DATA_RETENTION_DAYS": "30"}), policy.LookupIn(testVariables)))
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := on.Rule("transcripts"); !r.Enabled || r.Off != "" || r.Retain.String() != "30d" {
		t.Errorf("with PUBLIC_MODE=1: %v %q %v", r.Enabled, r.Off, r.Retain)
	}
}

// A bucket that a row names is in the store that declares exactly it, else in
// the only store without a bucket whose pattern it matches.
func TestPlaceOfBuckets(t *testing.T) {
	t.Parallel()
	const src = `version: 1
stores:
  app: {rows: "sqlite:app.db"}
  exact: {objects: "s3://media-one/keep/"}
  one: {objects: "s3://", buckets: [media-*, plain]}
  two: {objects: "s3://", buckets: ["*-two", other-*, plain-*]}
  any: {objects: "s3://"}
rules:
  a: {retain: 1d, rows: app.t, anchor: {column: c}, parts: [{objects: "{bucket}:{key}"}]}
`
	p, err := policy.Parse("p.yaml", []byte(src), nil)
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		store, prefix string
		ok            bool
	}
	for bucket, want := range map[string]place{
		"media-one": {"exact", "", true}, "media-1": {"one", "media-1/", true}, "plain": {"one", "plain/", true}, "other-x": {"two", "other-x/", true},
		"media-two": {}, "nobody": {}, "": {}, "media-1/x": {}, "media-*": {"one", "media-*/", true}, "plain-": {"two", "plain-/", true},
	} {
		store, prefix, ok := p.Rules[0].Parts[0].Place(bucket)
		if !ok {
			store, prefix = "", ""
		}
		if got := (place{store, prefix, ok}); got != want {
			t.Errorf("Place(%q) = %+v, want %+v", bucket, got, want)
		}
	}
	none := strings.NewReplacer(", buckets: [media-*, plain]", "", `, buckets: ["*-two", other-*, plain-*]`, "", "media-one/keep/", "").Replace(src)
	if _, err := policy.Parse("p.yaml", []byte(none), nil); err == nil || !strings.Contains(err.Error(), "no store declares a bucket that a row could name") {
		t.Errorf("rows may name any bucket: %v", err)
	}
}

func TestTrackingAndSessionFixtures(t *testing.T) {
	t.Parallel()
	p := mustLoad(t, "testdata/valid/phi-tracking.yaml")
	activity, _ := p.Rule("activity")
	want := policy.Limits{Items: policy.Unlimited, Share: 125_000, Missing: 100_000, ClockJump: policy.Period{Years: 1, Months: 6}}
	if activity.Limits != want || activity.Anchor.Zone.String() != "America/New_York" {
		t.Errorf("activity: %+v", activity)
	}
	rejected, _ := p.Rule("rejected_files")
	if rejected.Where != "rejection_reason IS NOT NULL AND NOT files_cleaned_up" {
		t.Errorf("where: %q", rejected.Where)
	}
	wantRef := connector.Ref{Column: "rejection_details", Path: []string{"attachments", "paths"}, Each: true}
	if diff := cmp.Diff(wantRef, rejected.Parts[2].Want.Refs[0]); diff != "" {
		t.Errorf("JSON path (-want +got)\n%s", diff)
	}
	if s, _ := p.Store("workspace"); !s.Mount || s.Marker != ".phi-workspace" {
		t.Errorf("workspace: %+v", s)
	}
	logs, _ := mustLoad(t, "testdata/valid/session-logs.yaml").Rule("logs")
	if a := logs.Anchor; a.Kind != connector.AnchorName || a.Layout != "app-YYYY-MM-DD*.json" || a.Zone.String() != "Europe/Stockholm" {
		t.Errorf("logs: %+v", logs.Anchor)
	}
}

func TestEveryKey(t *testing.T) {
	t.Parallel()
	p := mustLoad(t, "testdata/valid/everything.yaml")
	r, _ := p.Rule("a")
	if r.Collection != "public.Case Files" || r.Anchor.Column != "closed at" || r.Purpose != "Two lines\nof purpose" {
		t.Errorf("odd names: %+v", r)
	}
	if got := r.Parts[0].Path.Fill([]string{"17", "x"}); got != "cases/{x}/17-x.pdf" {
		t.Errorf("braces: %q", got)
	}
	if refs := r.Parts[0].Want.Refs; refs[0].Table != "" || refs[1].Table != "doc" {
		t.Errorf("the rule's own table must be empty: %+v", refs)
	}
	want := connector.Link{Table: "public.targets", On: []connector.Pair{
		{Column: connector.Column{Table: "public.targets", Column: "id"}, Equals: connector.Column{Table: "public.links", Column: "target_id"}},
		{Column: connector.Column{Table: "public.targets", Column: "tenant"}, Equals: connector.Column{Table: "public.links", Column: "tenant"}},
	}}
	if diff := cmp.Diff(want, r.Links[1]); diff != "" {
		t.Errorf("link to a link (-want +got)\n%s", diff)
	}
	if l := r.Links[2]; l.Table != "public.owners" || l.On != nil {
		t.Errorf("link by foreign key: %+v", l)
	}
	s3, _ := p.Store("s3")
	if s3.Bucket() != "" || s3.Options["buckets"] != "media-*,archive" || s3.Options["attempts"] != "3" || s3.Options["path_style"] != "true" {
		t.Errorf("s3: %+v", s3.Options)
	}
	for _, part := range r.Parts {
		again, err := policy.ParseTemplate(part.Path.String())
		if err != nil || again.String() != part.Path.String() {
			t.Errorf("template %q does not read back: %v", part.Path, err)
		}
	}
	if b, _ := p.Rule("b"); b.Collection != "media-1/tmp/" {
		t.Errorf("prefix %q", b.Collection)
	}
}

// Every file in testdata/invalid has a golden output: all its problems, each
// with place, source line, caret and hint.
func TestGoldenErrors(t *testing.T) {
	t.Parallel()
	for _, path := range fixtures(t, "testdata/invalid/*.yaml") {
		p, err := policy.Load(path, policy.LookupIn(map[string]string{
			"DATABASE_URL": "postgres://app:hunter2@db.example/app", "EMPTY": "", "NEGATIVE": "-1", "ZERO": "0", "WORD": "hunter2",
		}))
		var errs *policy.Errors
		if p != nil || !errors.As(err, &errs) {
			t.Errorf("%s: %v, %v; want *Errors and no policy", path, p, err)
			continue
		}
		got := strings.ReplaceAll(err.Error(), "testdata/invalid/", "") + "\n"
		if strings.Contains(got, "hunter2") {
			t.Errorf("%s: an error repeats the value of a variable or a password:\n%s", path, got)
		}
		golden := strings.TrimSuffix(path, ".yaml") + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", path, diff)
		}
	}
}
