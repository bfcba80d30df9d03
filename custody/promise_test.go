package custody_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
)

// What was promised of a file does not go away because somebody tracks it again.
func TestPromiseStands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := w.due("a")
	w.track(custody.Operation{Action: "nas_raw_created", Path: path})
	w.track(custody.Operation{Action: "conversion_completed", Path: path})
	if got := w.overdue(); got != "a" {
		t.Errorf("overdue %q after it was tracked again", got)
	}
	for f, err := range w.Pending(t.Context()) {
		if err != nil || !f.Required {
			t.Errorf("%+v %v", f, err)
		}
	}
	w.track(custody.Operation{Action: work, Path: path, Due: w.now.Add(time.Hour)})
	if got := w.overdue(); got != "" {
		t.Errorf("overdue %q though another date was set", got)
	}
	undated := w.write("undated", "x")
	w.track(custody.Operation{Action: work, Path: undated})
	w.track(custody.Operation{Action: "nas_raw_created", Path: undated})
	n := 0
	for _, err := range w.Pending(t.Context()) {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != 2 {
		t.Errorf("%d pending, want 2", n)
	}
}

// An untracked file that is registered after it was listed is no orphan any more.
func TestRegisteredMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := w.write("late", "x")
	ago := w.now.Add(-24 * time.Hour)
	if err := os.Chtimes(path, ago, ago); err != nil {
		t.Fatal(err)
	}
	list, err := w.Orphans(t.Context(), custody.Search{Roots: []custody.Root{{Store: "work"}}})
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	w.track(custody.Operation{Action: "nas_raw_created", Path: path})
	if got := w.results(w.Dispose(t.Context(), list)); got != "" || !w.exists(path) {
		t.Errorf("disposed of %q", got)
	}
}

// A ledger that is restored from a backup and goes on has another history: the
// cache does not mix the two.
func TestRestoredLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.due("first")
	file := filepath.Join(w.base, "epitaph.db")
	reopen := func() {
		t.Helper()
		l, err := ledger.Open(t.Context(), "sqlite:"+file, ledger.Config{Clock: w.clock})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		w.ledger, w.o.Ledger = l, l
		w.Custody = w.open()
	}
	w.Close()
	w.ledger.Close()
	backup, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reopen()
	w.due("lost")
	if got := w.overdue(); got != "first lost" {
		t.Fatalf("overdue %q", got)
	}
	w.Close()
	w.ledger.Close()
	for _, suffix := range []string{"-wal", "-shm"} {
		_ = os.Remove(file + suffix)
	}
	if err := os.WriteFile(file, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Minute)
	reopen()
	second := w.due("second")
	w.due("third")
	w.remove(second)
	w.track(custody.Operation{Action: "work_copy_deleted", Path: second})
	if got := w.overdue(); got != "first third" {
		t.Errorf("overdue %q after the restore", got)
	}
}

// A relative path is taken as the kernel takes it, behind a link too.
func TestTrackRelative(t *testing.T) {
	w := newWorld(t)
	real := w.write("deep/a.csv", "x")
	if err := os.Symlink(filepath.Join(w.dir, "deep"), filepath.Join(w.base, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(w.base)
	for _, path := range []string{"work/deep/a.csv", "link/a.csv", "link/../deep/a.csv", "./link/./a.csv"} {
		if r := w.track(custody.Operation{Action: "nas_raw_created", Path: path}); r.Path != real || !r.Covered {
			t.Errorf("%s: %+v", path, r)
		}
	}
	rs, err := w.Track(t.Context(), custody.Operation{Action: "nas_raw_deleted", Path: "absent/../x"})
	if err != nil || rs[0].Err == nil {
		t.Errorf("climbing out of what is not there: %+v %v", rs, err)
	}
}

// Two processes that use one cache at the same time both see the truth.
func TestTwoOnOneCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second := w.open()
	for i := range 20 {
		w.due(strings.Repeat("x", i+1))
		done := make(chan int)
		count := func(c *custody.Custody) {
			n := 0
			for _, err := range c.Overdue(t.Context()) {
				if err != nil {
					t.Error(err)
				}
				n++
			}
			done <- n
		}
		go count(w.Custody)
		go count(second)
		if a, b := <-done, <-done; a != i+1 || b != i+1 {
			t.Fatalf("%d and %d overdue, want %d", a, b, i+1)
		}
	}
}
