package custody_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/custody"
)

// kept makes a file and tracks it with its hash.
func (w *world) kept(name, content string, o custody.Operation) string {
	w.t.Helper()
	o.Path = w.write(name, content)
	if o.Action == "" {
		o.Action = "nas_raw_created"
	}
	sum, _, err := w.Digest(w.t.Context(), o.Path)
	if err != nil {
		w.t.Fatal(err)
	}
	o.Hash = sum
	w.track(o)
	return o.Path
}

// verdicts returns "name:verdict" of each file.
func (w *world) verdicts(k custody.Check) string {
	w.t.Helper()
	got := map[string]bool{}
	err := w.VerifyFiles(w.t.Context(), k, func(c custody.Checked) error {
		got[strings.TrimPrefix(c.Path, w.dir+"/")+":"+string(c.Verdict)] = true
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(slices.Sorted(maps.Keys(got)), " ")
}

// N7, N8, N9: hashes are of bytes, what has none is not checked, and what is
// deleted is not missing.
func TestVerifyFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kept("good", "x", custody.Operation{})
	rot := w.kept("rot", "aaaa", custody.Operation{})
	edited := w.kept("edited", "aaaa", custody.Operation{})
	grown := w.kept("grown", "aaaa", custody.Operation{})
	lost := w.kept("lost", "x", custody.Operation{})
	deleted := w.kept("deleted", "x", custody.Operation{})
	back := w.kept("back", "x", custody.Operation{})
	w.track(custody.Operation{Action: "nas_raw_created", Path: w.write("blank", "x")})
	w.write("sub/stranger", "x")

	fi, err := os.Stat(rot)
	if err != nil {
		t.Fatal(err)
	}
	w.write("rot", "aaba")
	if err := os.Chtimes(rot, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	w.write("edited", "aaba")
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(edited, later, later); err != nil {
		t.Fatal(err)
	}
	w.write(filepath.Base(grown), "aaaaa")
	w.remove(lost)
	w.remove(deleted)
	w.track(custody.Operation{Action: "nas_raw_deleted", Path: deleted})
	w.remove(back)
	w.track(custody.Operation{Action: "nas_raw_deleted", Path: back})
	w.write("back", "x")

	if got, want := w.verdicts(custody.Check{}), "back:returned blank:ok deleted:deleted edited:ok good:ok grown:size lost:missing rot:ok"; got != want {
		t.Errorf("without hashes:\n got %s\nwant %s", got, want)
	}
	want := "back:returned back:untracked blank:not-checked deleted:deleted edited:edited good:ok grown:size lost:missing rot:bit-rot sub/stranger:untracked"
	if got := w.verdicts(custody.Check{Hashes: true, Roots: []custody.Root{{Store: "work"}}}); got != want {
		t.Errorf("with hashes:\n got %s\nwant %s", got, want)
	}
	if err := os.Rename(w.dir, w.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if got := w.verdicts(custody.Check{Hashes: true}); strings.Contains(got, ":missing") || strings.Contains(got, ":deleted") || !strings.Contains(got, "good:unknown") {
		t.Errorf("an outage: %s", got)
	}
	if err := os.Rename(w.dir+".away", w.dir); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFilesByScopeAndPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 40 {
		w.kept(fmt.Sprintf("f%02d", i), "x", custody.Operation{Scope: fmt.Sprint(i % 2)})
	}
	if got := strings.Count(w.verdicts(custody.Check{Scope: "1"}), ":ok"); got != 20 {
		t.Errorf("%d files in the scope, want 20", got)
	}
	all := map[string]int{}
	for part := 1; part <= 3; part++ {
		for _, v := range strings.Fields(w.verdicts(custody.Check{Part: part, Parts: 3})) {
			all[v]++
		}
	}
	if len(all) != 40 {
		t.Errorf("three runs cover %d files, want 40", len(all))
	}
	for v, n := range all {
		if n != 1 {
			t.Errorf("%s came by %d times", v, n)
		}
	}
	for _, k := range []custody.Check{{Part: 4, Parts: 3}, {Part: 0, Parts: 3}, {Parts: -1}, {Pairs: []custody.Pair{{File: "[", Beside: "x"}}}} {
		if err := w.VerifyFiles(t.Context(), k, nil); err == nil {
			t.Errorf("%+v was taken", k)
		}
	}
}

func TestVerifyFilesPairs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ago := w.now.Add(-3 * time.Hour)
	w.kept("d/a.csv", "x", custody.Operation{At: ago})
	w.kept("d/b.csv", "x", custody.Operation{At: ago})
	w.kept("d/young.csv", "x", custody.Operation{})
	w.kept("d/a.duckdb", "x", custody.Operation{Action: "nas_duckdb_created", At: ago})
	got := w.verdicts(custody.Check{Pairs: []custody.Pair{{File: "*.csv", Beside: "*.duckdb", Within: 2 * time.Hour}}})
	if want := "d/a.csv:ok d/a.duckdb:ok d/b.csv:no-pair d/b.csv:ok d/young.csv:ok"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := w.write("a", "x")
	start := w.now.AddDate(0, 0, -20)
	var ops []custody.Operation
	for day := range 20 {
		n := 10 + day%3
		if day == 13 {
			n = 100
		}
		if day == 17 {
			n = 0
		}
		for range n {
			ops = append(ops, custody.Operation{Action: "nas_raw_created", Path: path, At: start.AddDate(0, 0, day)})
		}
	}
	ops = append(ops, custody.Operation{Action: "nas_report_created", Path: path, At: start})
	if _, err := w.Track(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	v, err := w.Volume(t.Context(), 30)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range v.Outliers {
		got = append(got, fmt.Sprintf("%s %s %d", o.Day.Day.Format(time.DateOnly), o.Day.Action, o.N))
	}
	want := []string{start.AddDate(0, 0, 13).Format(time.DateOnly) + " nas_raw_created 100", start.AddDate(0, 0, 17).Format(time.DateOnly) + " nas_raw_created 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(v.Days) != 20 { // 19 days with raw files, one with a report beside
		t.Errorf("%d counts", len(v.Days))
	}
}
