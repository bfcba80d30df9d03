package custody_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/custody"
)

// old makes a file that was last written a day ago.
func (w *world) old(name string) string {
	w.t.Helper()
	path := w.write(name, "x")
	ago := w.now.Add(-24 * time.Hour)
	if err := os.Chtimes(path, ago, ago); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// storeAt is a store of files with a root.
func (w *world) storeAt(name, root string) custody.Store {
	w.t.Helper()
	conn, err := files.Open(root, files.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return custody.Store{Name: name, Root: root, Connector: conn}
}

// A file is tracked under whichever of its names it was tracked: that of a store
// within the tracked one, of one around it, of none, or of one that the policy
// calls otherwise today. What lies in a store within is the business of that store.
func TestTrackedUnderAnotherName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := os.Mkdir(filepath.Join(w.dir, "inner"), 0o700); err != nil {
		t.Fatal(err)
	}
	inner := w.storeAt("inner", filepath.Join(w.dir, "inner"))
	beside := w.storeAt("beside", w.dir)
	work := w.o.Stores[0]
	made := func(path string) {
		t.Helper()
		w.track(custody.Operation{Action: "nas_raw_created", Path: path, At: w.now.Add(-48 * time.Hour)})
	}
	with := func(stores ...custody.Store) {
		w.o.Stores = stores
		w.Custody = w.open()
	}
	with(work, inner)
	made(w.old("inner/by-path"))
	w.old("inner/by-outer-name")
	made("work:inner/by-outer-name")
	w.old("inner/of-nobody")
	with(beside)
	made(w.old("renamed"))
	w.track(custody.Operation{Action: "nas_raw_created", Path: w.old("renamed-young"), At: w.now})
	with()
	made(w.old("outside"))
	stranger := w.old("stranger")

	with(work, inner)
	for _, c := range []struct {
		stores []custody.Store
		search string
		want   string
	}{
		{[]custody.Store{work, inner}, "work", "stranger gone GONE"},
		{[]custody.Store{work, inner}, "inner", "inner/of-nobody gone GONE"},
		{[]custody.Store{work}, "work", ""},
	} {
		with(c.stores...)
		list, err := w.Orphans(t.Context(), custody.Search{Roots: []custody.Root{{Store: c.search}}, Grace: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.results(w.Dispose(t.Context(), list)); got != c.want {
			t.Errorf("in %s of %d: disposed of %q, want %q", c.search, len(c.stores), got, c.want)
		}
	}
	for _, name := range []string{"inner/by-path", "inner/by-outer-name", "renamed", "renamed-young", "outside"} {
		if !w.exists(filepath.Join(w.dir, name)) {
			t.Errorf("%s was tracked, and is gone", name)
		}
	}
	if w.exists(stranger) {
		t.Error("the stranger is there")
	}
}

// Who makes a file his own while orphans are being listed keeps it.
func TestTakenOverMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ago := w.now.Add(-5 * time.Hour)
	path := w.write("left", "x")
	w.track(custody.Operation{Action: work, Path: path, Owner: deadOwner(t), At: ago})
	list, err := w.Orphans(t.Context(), custody.Search{})
	if err != nil || len(list) != 1 || list[0].Kind != custody.DeadOwner {
		t.Fatalf("%+v %v", list, err)
	}
	w.track(custody.Operation{Action: work, Path: path, Due: w.now.Add(time.Hour)})
	if got := w.results(w.Dispose(t.Context(), list)); got != "left present IN_USE" || !w.exists(path) {
		t.Errorf("disposed of %q", got)
	}
}
