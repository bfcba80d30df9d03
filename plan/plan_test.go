package plan_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

var t0 = time.Date(2026, 7, 1, 12, 0, 0, 123, time.UTC)

// fixture is a policy of two rules and its stores in memory.
type fixture struct {
	app, disk *connectortest.Memory
	in        plan.Input
}

func newFixture() *fixture {
	ref := connector.Ref{Table: "audio", Column: "sha256"}
	f := &fixture{app: connectortest.NewMemory(), disk: connectortest.NewMemory()}
	f.in = plan.Input{
		Policy: &policy.Policy{
			Hash:   [32]byte{1, 2, 3},
			Stores: []policy.Store{{Name: "app", Kind: policy.Rows}, {Name: "disk", Kind: policy.Files}},
			Rules: []policy.Rule{
				{Name: "records", Kind: "record", Enabled: true, Retain: policy.Period{Days: 14}, Store: "app", StoreKind: policy.Rows, Collection: "records",
					Parts: []policy.Part{{Kind: policy.Files, Store: policy.Template{Literals: []string{"disk"}},
						Path: policy.Template{Literals: []string{"files/", ".bin"}, Refs: []connector.Ref{ref}}, Want: connector.Want{Refs: []connector.Ref{ref}}}}},
				{Name: "exports", Kind: "export", Enabled: true, Retain: policy.Period{Months: 1}, Store: "disk", StoreKind: policy.Files, Collection: "exports"},
			},
		},
		Stores: plan.LookOnly(map[string]connector.Connector{"app": f.app, "disk": f.disk}),
		AsOf:   t0,
		Clock:  func() time.Time { return t0 },
	}
	return f
}

func (f *fixture) record(id, days int, values ...string) {
	var ts []connector.Tuple
	for _, v := range values {
		ts = append(ts, connector.Tuple{v})
	}
	f.app.Put(connector.Locator(fmt.Sprintf("records/%04d", id)), connectortest.Record{Collection: "records", ID: fmt.Sprint(id),
		Anchor: t0.AddDate(0, 0, -days), Values: [][]connector.Tuple{ts}})
}

func (f *fixture) blob(name string) {
	f.disk.Put(connector.Locator("files/"+name+".bin"), connectortest.Record{Bytes: 100})
}

func (f *fixture) make(t testing.TB) *plan.Plan {
	t.Helper()
	p, err := plan.Make(context.Background(), f.in, filepath.Join(t.TempDir(), "plan"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func items(t testing.TB, p *plan.Plan, rule string) []plan.Item {
	t.Helper()
	var out []plan.Item
	for b, err := range p.Batches(rule, 2) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

func TestMakeSaysWhatIsDueAndWhy(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.blob("a")
	f.blob("b")
	f.blob("x y\n\"\\\x7f") // a name that needs quotes
	f.record(1, 20, "a", "b", "a")
	f.record(2, 15, "x y\n\"\\\x7f", "lost")
	f.record(3, 14, "a")           // the anchor is the cutoff itself: not due
	f.record(4, 30, "../../etc")   // climbs
	f.record(5, 31, "/etc/passwd") // absolute
	f.app.Put("records/0006", connectortest.Record{Collection: "records", Anchor: t0.AddDate(0, 0, -99), Held: true})
	f.app.Put("records/0007", connectortest.Record{Collection: "records", Anchor: t0.AddDate(0, 0, -50), InUse: true})
	f.app.Put("records/0008", connectortest.Record{Collection: "records"})
	f.app.Put("records/0009", connectortest.Record{Collection: "records", Anchor: t0.AddDate(0, 0, -50), Err: errors.New("no array")})
	f.disk.Put("export 1.zip", connectortest.Record{Collection: "exports", Anchor: time.Date(2026, 6, 1, 11, 0, 0, 0, time.UTC), Bytes: 7})
	p := f.make(t)

	want := []plan.RuleSummary{{
		Rule: "records", Kind: "record", Store: "app", StoreKind: policy.Rows, Enabled: true, Retain: policy.Period{Days: 14}, Cutoff: t0.AddDate(0, 0, -14),
		Total: 9, Due: 7, Items: 2, Bytes: 300, Undated: 1, Parts: 4, PartsMissing: 1, OldestDue: t0.AddDate(0, 0, -99),
		Kept: map[connector.Reason]int64{connector.Held: 1, connector.InUse: 1, connector.Invalid: 3},
		Failures: []plan.Failure{
			{ID: "4", Locator: "records/0004", Reason: connector.Invalid, ErrorType: "errors.errorString"},
			{ID: "5", Locator: "records/0005", Reason: connector.Invalid, ErrorType: "errors.errorString"},
			{Locator: "records/0009", Reason: connector.Invalid, ErrorType: "errors.errorString"},
		},
	}, {
		Rule: "exports", Kind: "export", Store: "disk", StoreKind: policy.Files, Enabled: true, Retain: policy.Period{Months: 1}, Cutoff: t0.AddDate(0, -1, 0),
		Total: 1, Due: 1, Items: 1, Bytes: 7, OldestDue: time.Date(2026, 6, 1, 11, 0, 0, 0, time.UTC),
	}}
	if d := cmp.Diff(want, p.Rules, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("summaries (-want +got):\n%s", d)
	}
	got := items(t, p, "records")
	if len(got) != 2 || got[0].Locator != "records/0001" || got[1].Locator != "records/0002" {
		t.Fatalf("items: %+v", got)
	}
	if n := len(got[0].Parts); n != 2 {
		t.Errorf("%d parts, want 2: a value that comes twice names one part", n)
	}
	if x := got[1].Parts[0]; x.Locator != "files/x y\n\"\\\x7f.bin" || x.State != connector.Present || x.Print == "" || x.Bytes != 100 {
		t.Errorf("part: %+v", x)
	}
	if x := got[1].Parts[1]; x.State != connector.Gone || x.Reason != connector.Missing || x.Print != "" || x.Tuple != 1 {
		t.Errorf("missing part: %+v", x)
	}
	st, err := os.Stat(p.Path)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
}

// The same data, policy and instant give the same digest; anything else another.
func TestDigest(t *testing.T) {
	t.Parallel()
	make1 := func(change func(*fixture)) [32]byte {
		f := newFixture()
		for i := range 2500 {
			f.blob(fmt.Sprint("b", i%1500))
			f.record(i, 20+i%7, fmt.Sprint("b", i%1500), fmt.Sprint("lost", i))
		}
		if change != nil {
			change(f)
		}
		return f.make(t).Digest
	}
	base := make1(nil)
	if make1(nil) != base {
		t.Error("the same data gives another digest")
	}
	for name, change := range map[string]func(*fixture){
		"as-of":  func(f *fixture) { f.in.AsOf = t0.Add(1) },
		"policy": func(f *fixture) { f.in.Policy.Hash[31] = 1 },
		"record": func(f *fixture) { f.record(9999, 20) },
		"kept":   func(f *fixture) { f.record(9999, 20, "..") },
		"blob":   func(f *fixture) { f.blob("b7") }, // another version
		"retain": func(f *fixture) { f.in.Retain = &policy.Period{Days: 15} },
		"rules":  func(f *fixture) { f.in.Rules = []string{"records"} },
		"off":    func(f *fixture) { f.in.Policy.Rules[1].Enabled = false },
	} {
		if make1(change) == base {
			t.Errorf("%s: changed, and the digest is the same", name)
		}
	}
}

// Promise 4. A plan of which any one byte was changed, taken away or added is
// refused. Seen to fail with the comparison of the digest left out.
func TestDamagedPlanIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.blob("a")
	f.record(1, 20, "a", "lost")
	good, err := os.ReadFile(f.make(t).Path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "plan")
	open := func(b []byte) *plan.Error {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := plan.Open(path)
		var pe *plan.Error
		if err == nil || !errors.As(err, &pe) || pe.Hint == "" {
			if err == nil {
				p.Close()
			}
			t.Fatalf("got %v, want a *plan.Error with a hint", err)
		}
		return pe
	}
	kinds := map[plan.ErrorKind]int{}
	for i := range good {
		for _, c := range []byte{good[i] ^ 1, good[i] ^ 0x80, '\n', ' '} {
			if c != good[i] {
				b := bytes.Clone(good)
				b[i] = c
				kinds[open(b).Kind]++
			}
		}
		open(append(bytes.Clone(good[:i]), good[i+1:]...))
		open(append(append(bytes.Clone(good[:i]), 'x'), good[i:]...))
		if k := open(good[:i]).Kind; k != plan.Truncated {
			t.Fatalf("cut at %d: got %s", i, k)
		}
	}
	if kinds[plan.Damaged] == 0 || kinds[plan.OtherVersion] == 0 {
		t.Errorf("kinds seen: %v", kinds)
	}
	open(append(bytes.Clone(good), '\n'))
	if k := open([]byte("version: 1\nrules: {}\n" + strings.Repeat("x", 100))).Kind; k != plan.Damaged {
		t.Errorf("a policy instead of a plan: got %s", k)
	}
	if _, err := plan.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	if _, err := plan.Open(t.TempDir()); err == nil {
		t.Error("a directory was opened")
	}
}

// Promise 1. A store that fails in the middle of the scan: what was seen before
// is not in the plan, the reason and the type of the error are, and the other
// rules are planned. Seen to fail without going back to where the rule began.
func TestUnreadableStore(t *testing.T) {
	t.Parallel()
	f := newFixture()
	for i := range 3000 {
		f.record(i, 20)
	}
	f.disk.Put("e", connectortest.Record{Collection: "exports", Anchor: t0.AddDate(0, -2, 0)})
	clean := newFixture()
	for name, tt := range map[string]struct {
		src  plan.Source
		want connector.Reason
	}{
		"error":  {broken{f.app, &fs.PathError{Op: "open", Path: "/home/anna", Err: fs.ErrPermission}}, connector.NoPermission},
		"panic":  {broken{f.app, nil}, connector.Unreachable},
		"absent": {nil, connector.Unreachable},
	} {
		f.in.Stores = map[string]plan.Source{"disk": clean.in.Stores["disk"]}
		f.in.Stores["disk"] = plan.LookOnly(map[string]connector.Connector{"d": f.disk})["d"]
		if tt.src != nil {
			f.in.Stores["app"] = tt.src
		}
		p := f.make(t)
		s := p.Rules[0]
		if s.Unreadable != tt.want || s.ErrorType == "" || strings.Contains(s.ErrorType, "anna") || s.Items != 0 || s.Due != 0 || s.Total != 0 {
			t.Errorf("%s: got %+v", name, s)
		}
		if n := len(items(t, p, "records")); n != 0 {
			t.Errorf("%s: %d items of a store that could not be read", name, n)
		}
		if len(items(t, p, "exports")) != 1 {
			t.Errorf("%s: the other rule was not planned", name)
		}
	}
}

// broken fails, or panics, after the items.
type broken struct {
	*connectortest.Memory
	err error
}

func (b broken) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		for it, err := range b.Memory.Scan(ctx, q, s) {
			if !yield(it, err) {
				return
			}
		}
		if b.err == nil {
			panic("/home/anna")
		}
		yield(connector.Item{}, b.err)
	}
}

// Parts in a store that is down keep their items out of the plan, and the store
// is named; with one answer from it, it is not.
func TestUnseenParts(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.blob("a")
	f.record(1, 20, "a")
	f.record(2, 20)
	f.disk.Break()
	s := f.make(t).Rules[0]
	if s.Items != 1 || s.Kept[connector.Unreachable] != 1 || s.PartsMissing != 0 || !cmp.Equal(s.Unseen, []string{"disk"}) {
		t.Errorf("got %+v", s)
	}
	f.disk.Restore()
	if s := f.make(t).Rules[0]; s.Items != 2 || s.Unseen != nil {
		t.Errorf("got %+v", s)
	}
}

// The planner decides for itself, whatever a connector yields.
func TestConnectorIsCrossChecked(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.in.Stores["app"] = eager{f.app}
	f.record(1, 20)
	f.record(2, 3)
	if s := f.make(t).Rules[0]; s.Items != 1 || s.Due != 1 || s.Kept[connector.NotDue] != 1 {
		t.Errorf("got %+v", s)
	}
}

// eager yields what is not due.
type eager struct{ *connectortest.Memory }

func (e eager) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	other := *q
	other.Cutoff = q.Cutoff.AddDate(1, 0, 0)
	return e.Memory.Scan(ctx, &other, s)
}

func TestStoreClock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ off, want time.Duration }{
		{0, 0}, {5 * time.Minute, 0}, {-5 * time.Minute, 0}, {9*time.Minute + 59*time.Second, 9 * time.Minute}, {-6 * time.Minute, -6 * time.Minute},
	} {
		f := newFixture()
		f.in.Stores["app"] = clocked{f.app, t0.Add(tt.off)}
		if got := f.make(t).Rules[0].Skew; got != tt.want {
			t.Errorf("off by %s: got %s, want %s", tt.off, got, tt.want)
		}
	}
}

type clocked struct {
	*connectortest.Memory
	at time.Time
}

func (c clocked) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	s.Clock = c.at
	return c.Memory.Scan(ctx, q, s)
}

// A failed or cancelled planning leaves no file behind, and an older plan as it was.
func TestMakeIsAtomic(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.record(1, 20)
	dir := t.TempDir()
	path := filepath.Join(dir, "plan")
	if err := os.WriteFile(path, []byte("older"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.in.Progress = func(plan.Progress) { cancel() }
	if _, err := plan.Make(ctx, f.in, path); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "older" {
		t.Error("the older plan is gone")
	}
	if es, _ := os.ReadDir(dir); len(es) != 1 {
		t.Errorf("left behind: %v", es)
	}
	if _, err := plan.Make(t.Context(), f.in, filepath.Join(dir, "no", "such")); err == nil {
		t.Error("a plan in a folder that is not there")
	}
}

func TestInputIsChecked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*plan.Input){
		"unknown rule":    func(in *plan.Input) { in.Rules = []string{"recrods"} },
		"zero period":     func(in *plan.Input) { in.Retain = &policy.Period{} },
		"negative period": func(in *plan.Input) { in.Retain = &policy.Period{Days: -1} },
		"no instant":      func(in *plan.Input) { in.AsOf = time.Time{} },
	} {
		f := newFixture()
		change(&f.in)
		path := filepath.Join(t.TempDir(), "plan")
		if _, err := plan.Make(t.Context(), f.in, path); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a file was written", name)
		}
	}
}

// Promise 4. What plans holds nothing able to delete, not even behind a type
// assertion.
func TestPlanHoldsNothingAbleToDelete(t *testing.T) {
	t.Parallel()
	src := plan.LookOnly(map[string]connector.Connector{"m": connectortest.NewMemory()})["m"]
	if _, ok := src.(connector.Connector); ok {
		t.Error("the deleter can be reached through a Source")
	}
	if _, ok := src.(interface {
		Claim(context.Context, *connector.Query, []connector.Item) (connector.Claim, []connector.Result)
	}); ok {
		t.Error("a Source can claim")
	}
	in := reflect.TypeFor[plan.Input]()
	for i := range in.NumField() {
		ty := in.Field(i).Type
		if ty.Kind() == reflect.Map {
			ty = ty.Elem()
		}
		if ty.Kind() == reflect.Interface && ty.NumMethod() != 2 {
			t.Errorf("Input.%s has %d methods, want Scan and Probe", in.Field(i).Name, ty.NumMethod())
		}
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	ref := connector.Ref{Column: "x"}
	part := func(kind policy.StoreKind, literals ...string) policy.Part {
		p := policy.Part{Kind: kind, Store: policy.Template{Literals: []string{"s"}}, Path: policy.Template{Literals: literals}}
		for range len(literals) - 1 {
			p.Path.Refs = append(p.Path.Refs, ref)
		}
		p.Tree = strings.HasSuffix(literals[len(literals)-1], "/")
		return p
	}
	bucket := policy.Part{Kind: policy.Objects, Store: policy.Template{Literals: []string{"", ""}, Refs: []connector.Ref{ref}},
		Path: policy.Template{Literals: []string{"", ""}, Refs: []connector.Ref{ref}}, Buckets: map[string]string{"bkt": "media"},
		Patterns: []policy.BucketPattern{{Pattern: "rec-*", Store: "any"}, {Pattern: "*-two", Store: "other"}}}
	for _, tt := range []struct {
		name   string
		part   policy.Part
		values []string
		want   string // "" : refused
	}{
		{"plain", part(policy.Files, "files/", ".bin"), []string{"ab"}, "s files/ab.bin"},
		{"below", part(policy.Files, "files/", ".bin"), []string{"a/b"}, "s files/a/b.bin"},
		{"two values of one row", part(policy.Files, "", "/", ""), []string{"d", "n"}, "s d/n"},
		{"an empty element is another spelling", part(policy.Files, "", ""), []string{"d//n"}, ""},
		{"an empty element of two values", part(policy.Files, "", "/", ""), []string{"d/", "n"}, ""},
		{"dots in a name", part(policy.Files, "f/", ""), []string{"a..b...c"}, "s f/a..b...c"},
		{"climbs", part(policy.Files, "files/", ".bin"), []string{"../x"}, ""},
		{"climbs inside", part(policy.Files, "files/", ".bin"), []string{"a/../../x"}, ""},
		{"climbs by two", part(policy.Files, "f/", "", "/x"), []string{".", "."}, ""},
		{"climbs at the end", part(policy.Files, "files/", ""), []string{".."}, ""},
		{"dot", part(policy.Files, "files/", "/"), []string{"."}, ""},
		{"absolute", part(policy.Files, "", ""), []string{"/etc/passwd"}, ""},
		{"absolute below", part(policy.Files, "files/", ""), []string{"/etc/passwd"}, ""},
		{"nul", part(policy.Files, "files/", ""), []string{"a\x00b"}, ""},
		{"empty", part(policy.Files, "files/", ""), []string{""}, ""},
		{"a value asks for a directory", part(policy.Files, "files/", ""), []string{"a/"}, ""},
		{"the policy asks for a directory", part(policy.Files, "", "/"), []string{"a"}, "s a/"},
		{"too few values", part(policy.Files, "", "/", ""), []string{"d"}, ""},
		{"backslash is no slash", part(policy.Files, "f/", ""), []string{`..\x`}, `s f/..\x`},
		{"url forms are not decoded", part(policy.Files, "f/", ""), []string{"%2e%2e/x"}, "s f/%2e%2e/x"},
		{"bucket of the record", bucket, []string{"bkt", "k/1"}, "media k/1"},
		{"bucket of nobody", bucket, []string{"other", "k/1"}, ""},
		{"a key has no directories", bucket, []string{"bkt", "../k"}, "media ../k"},
		{"a key may begin with a slash", bucket, []string{"bkt", "/a/./k/"}, "media /a/./k/"},
		{"a key has no NUL", bucket, []string{"bkt", "a\x00b"}, ""},
		{"an empty key", bucket, []string{"bkt", ""}, ""},
		{"bucket by pattern", bucket, []string{"rec-7", "/../k"}, "any rec-7//../k"},
		{"bucket of two patterns", bucket, []string{"rec-two", "k"}, ""},
		{"bucket that is a path", bucket, []string{"rec-7/x", "k"}, ""},
		{"key with two slashes", bucket, []string{"bkt", "a//b"}, "media a//b"},
	} {
		r := &policy.Rule{Parts: []policy.Part{tt.part}}
		got, err := plan.Expand(r, connector.Item{Values: [][]connector.Tuple{{tt.values}}})
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%s: got %+v, want a refusal", tt.name, got)
		case tt.want == "":
			for _, v := range tt.values {
				if len(v) > 3 && strings.Contains(err.Error(), v) {
					t.Errorf("%s: the error shows the value", tt.name)
				}
			}
		case err != nil || len(got) != 1 || got[0].Store+" "+string(got[0].Locator) != tt.want:
			t.Errorf("%s: got %+v, %v; want %s", tt.name, got, err, tt.want)
		}
	}
	r := &policy.Rule{Parts: []policy.Part{part(policy.Files, "f/", ""), part(policy.Files, "f/", "")}}
	got, err := plan.Expand(r, connector.Item{Values: [][]connector.Tuple{{{"a"}, {"b"}}, {{"b"}}}})
	if err != nil || len(got) != 2 || !cmp.Equal(got[1].Also, []plan.Origin{{Want: 1, Tuple: 0}}) {
		t.Errorf("one part named twice: got %+v, %v", got, err)
	}
}

func TestRetainOverride(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.record(1, 8)
	f.in.Retain = &policy.Period{Days: 7}
	f.in.Rules = []string{"records"}
	p := f.make(t)
	if len(p.Rules) != 1 || p.Rules[0].Items != 1 || p.Rules[0].Retain.Days != 7 || !p.Rules[0].Cutoff.Equal(t0.AddDate(0, 0, -7)) {
		t.Errorf("got %+v", p.Rules)
	}
	if f.in.Policy.Rules[0].Retain.Days != 14 {
		t.Error("the policy was changed")
	}
}

func TestErrorType(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"":                   nil,
		"fs.PathError":       fmt.Errorf("a: %w", fmt.Errorf("b: %w", &fs.PathError{Err: fs.ErrExist})),
		"errors.errorString": errors.New("x"),
	} {
		if got := plan.ErrorType(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
