package custody_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
	"github.com/epitaph/epitaph/purge"
)

// interposed is a ledger that has something done once, just before an entry of a
// kind is written.
type interposed struct {
	purge.Ledger
	kind ledger.Kind
	do   func()
}

func (l *interposed) Append(ctx context.Context, es ...ledger.Entry) (int64, error) {
	if l.do != nil && slices.ContainsFunc(es, func(e ledger.Entry) bool { return e.Kind == l.kind }) {
		do := l.do
		l.do = nil
		do()
	}
	return l.Ledger.Append(ctx, es...)
}

// What was seen or erased is the file that was there then. One that is made at the
// same path before that is written down is another, and stays due.
func TestMadeAnewBeforeItIsWrittenDown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind ledger.Kind
		act  func(w *world, path, id string) error
	}{
		"erased": {ledger.Outcome, func(w *world, _, _ string) error {
			_, err := w.Run(t.Context(), custody.Cleanup{})
			return err
		}},
		"seen to be gone": {ledger.CustodyLooks, func(w *world, path, _ string) error {
			w.remove(path)
			_, err := w.Verify(t.Context())
			return err
		}},
		"confirmed": {ledger.CustodyWord, func(w *world, path, id string) error {
			w.remove(path)
			_, err := w.Confirm(t.Context(), id, "jones")
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			path := w.write("a", "x")
			id := w.track(custody.Operation{Action: work, Path: path, Due: w.now.Add(-time.Minute)}).ID
			other := w.open()
			l := &interposed{Ledger: w.ledger, kind: c.kind}
			l.do = func() {
				rs, err := other.Track(t.Context(), custody.Operation{Action: work, Path: w.write("a", "another"), Due: w.now.Add(-time.Second)})
				if err != nil || rs[0].Err != nil {
					t.Error(err, rs)
				}
			}
			w.o.Ledger = l
			w.Custody = w.open()
			if err := c.act(w, path, id); err != nil {
				t.Fatal(err)
			}
			if l.do != nil || !w.exists(path) {
				t.Fatal("it was not made anew")
			}
			if got := w.overdue(); got != "a" {
				t.Errorf("overdue: %q, and the file is there", got)
			}
			if got := w.results(w.Run(t.Context(), custody.Cleanup{})); got != "a gone GONE" || w.overdue() != "" {
				t.Errorf("then %q, overdue %q", got, w.overdue())
			}
		})
	}
}

// What a host has received releases the file that was sent, and not one that was
// made at its path since then, with other content: nobody else has that.
func TestMadeAnewAfterItWasSent(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{"newer": "", "first": "a gone GONE"} {
		web, services := twoHosts(t, "sqlite:"+filepath.Join(t.TempDir(), "epitaph.db"))
		id := web.send("transfer_moved", "a", "first", custody.Operation{})
		again := custody.Operation{Action: "nas_raw_created", Path: web.write("a", content)}
		var err error
		if again.Hash, again.Size, err = web.Digest(t.Context(), again.Path); err != nil {
			t.Fatal(err)
		}
		web.track(again)
		got, err := services.Acknowledge(t.Context(), id, custody.Operation{Path: services.write("b", "first")})
		if err != nil || !got.Agrees {
			t.Fatalf("%+v %v", got, err)
		}
		web.now = web.now.Add(time.Minute)
		if got := web.results(web.Run(t.Context(), custody.Cleanup{})); got != want {
			t.Errorf("%s: disposed of %q, want %q", content, got, want)
		}
	}
}

// swap renames the root away, and what has another suffix to be the root, as it is to
// a process of its own.
func (w *world) swap(from, to string) {
	w.t.Helper()
	if err := os.Rename(w.dir, w.dir+to); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(w.dir+from, w.dir); err != nil {
		w.t.Fatal(err)
	}
	conn, err := files.Open(w.dir, files.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	w.o.Stores[0].Connector = conn
	w.Custody = w.open()
}

// What a process that is dead was about to erase is not called gone either in a root
// that is another: its intent stays open until the root is the right one. Seen to
// fail without that: the intent had an outcome, nothing was overdue, and the file was
// there.
func TestWhatWasBegunIsNotGoneInAnotherRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := w.due("a")
	seen := w.o.Stores[0].Connector.Probe(t.Context(), []connector.Locator{"a"})[0]
	if _, err := w.ledger.Append(t.Context(), ledger.Entry{At: w.now, Run: "20260101T000000Z-000000000000", Kind: ledger.Intent, Rule: custody.Rule, Store: "work",
		Items: []ledger.Item{{Locator: "a", Print: string(seen.Print)}}, Facts: deadOwner(t).Facts()}); err != nil {
		t.Fatal(err)
	}
	open := func() (n int) {
		t.Helper()
		for _, err := range w.ledger.OpenIntents(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	if err := os.Mkdir(w.dir+".empty", 0o700); err != nil {
		t.Fatal(err)
	}
	w.swap(".empty", ".disk")
	if got := w.results(w.Run(t.Context(), custody.Cleanup{})); got != "a unknown UNREACHABLE" || open() != 1 {
		t.Errorf("run, not mounted: %q, %d open", got, open())
	}
	if list, err := w.Dispose(t.Context(), nil); err != nil || len(list) != 0 || open() != 1 || w.overdue() != "a" {
		t.Errorf("dispose, not mounted: %v, %v, %d open, overdue %q", list, err, open(), w.overdue())
	}
	w.swap(".disk", ".empty")
	if got := w.results(w.Run(t.Context(), custody.Cleanup{Force: true})); got != "a gone MISSING" || open() != 0 || w.exists(path) {
		t.Errorf("mounted again: %q, %d open, there %t", got, open(), w.exists(path))
	}
}

// An empty directory where another was is no proof that what lay there is gone: a
// disk may not be mounted. It is one again when something tracked is seen in it.
func TestRootIsAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.due("a")
	if err := os.Mkdir(w.dir+".empty", 0o700); err != nil {
		t.Fatal(err)
	}
	w.swap(".empty", ".disk")
	w.old("stranger")
	for name, got := range map[string]string{
		"verify": w.results(w.Verify(t.Context())),
		"run":    w.results(w.Run(t.Context(), custody.Cleanup{})),
	} {
		if got != "a unknown UNREACHABLE" {
			t.Errorf("%s, not mounted: %q", name, got)
		}
	}
	if got := w.overdue(); got != "a" {
		t.Errorf("overdue: %q", got)
	}
	// What nobody tracked is no sign of the disk.
	if list, err := w.Orphans(t.Context(), custody.Search{Roots: []custody.Root{{Store: "work"}}}); err != nil || len(list) != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if got := w.results(w.Verify(t.Context())); got != "a unknown UNREACHABLE" {
		t.Errorf("beside a stranger: %q", got)
	}
	w.swap(".disk", ".empty")
	if got := w.results(w.Run(t.Context(), custody.Cleanup{Force: true})); got != "a gone GONE" {
		t.Errorf("mounted again: %q", got)
	}
	w.due("b")
	w.swap(".empty", ".disk")
	if got := w.results(w.Verify(t.Context())); got != "b unknown UNREACHABLE" {
		t.Errorf("made anew: %q", got)
	}
	w.track(custody.Operation{Action: "nas_raw_created", Path: w.write("c", "x")})
	if got := w.results(w.Verify(t.Context())); got != "b gone MISSING" {
		t.Errorf("made anew, and used: %q", got)
	}
}

// Which directory was the root stands in the ledger too: a cache that was deleted
// makes no proof of an empty one.
func TestRootIsAnotherWithoutTheCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, err := w.Reserve(t.Context(), custody.Operation{Action: work, Path: filepath.Join(w.dir, "d/a"), Due: w.now.Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	w.write("d/a", "x")
	if _, err := r.CommitFile(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.dir+".empty", 0o700); err != nil {
		t.Fatal(err)
	}
	caches := 0
	without := func() {
		caches++
		w.o.Cache = filepath.Join(w.base, fmt.Sprint("cache.", caches))
		w.Custody = w.open()
	}
	w.swap(".empty", ".disk")
	for name, look := range map[string]func() ([]custody.Sighting, error){
		"verify": func() ([]custody.Sighting, error) { return w.Verify(t.Context()) },
		"run":    func() ([]custody.Sighting, error) { return w.Run(t.Context(), custody.Cleanup{Force: true}) },
	} {
		without()
		if got := w.results(look()); got != "d/a unknown UNREACHABLE" {
			t.Errorf("%s, not mounted: %q", name, got)
		}
	}
	// What another host has in its own directory of that name says nothing of ours.
	w.o.Host = "other"
	without()
	if got := w.results(w.Verify(t.Context())); got != "" {
		t.Errorf("another host: %q", got)
	}
	w.o.Host = ""
	w.swap(".disk", ".empty")
	without()
	if got := w.results(w.Run(t.Context(), custody.Cleanup{Force: true})); got != "d/a gone GONE" {
		t.Errorf("mounted again: %q", got)
	}
}

// A file that is reserved and not written yet is not gone: nobody saw it. Who looks
// in between does not end the reservation of one who lives, and of one who is
// thought dead it can be committed all the same.
func TestLookedAtBeforeItIsWritten(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]owner.Process{"alive": {}, "unknown": {Host: "elsewhere", Boot: "other", PID: 1}, "dead": deadOwner(t)} {
		w := newWorld(t)
		r, err := w.Reserve(t.Context(), custody.Operation{Action: work, Path: filepath.Join(w.dir, "a"), Due: w.now.Add(-time.Minute), Owner: o})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"dead": "a gone MISSING"}[name]
		if got := w.results(w.Verify(t.Context())); got != want {
			t.Errorf("%s, verify: %q, want %q", name, got, want)
		}
		if got := w.results(w.Run(t.Context(), custody.Cleanup{Force: true})); got != "" {
			t.Errorf("%s, run: %q", name, got)
		}
		if got, want := w.overdue(), map[string]string{"alive": "a", "unknown": "a"}[name]; got != want {
			t.Errorf("%s, overdue: %q, want %q", name, got, want)
		}
		w.write("a", "x")
		if r, err = w.Reserved(t.Context(), r.ID()); err != nil {
			t.Fatal(name, err)
		}
		if _, err := r.CommitFile(t.Context()); err != nil {
			t.Fatal(name, err)
		}
		if got := w.overdue(); got != "a" {
			t.Errorf("%s, written: overdue %q", name, got)
		}
	}
}

// One says that it deleted a file, and before that is recorded another makes and
// tracks a new one there: that is not gone.
func TestDeletedWhileAnewIsMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path, dir := w.due("a"), w.due("d/b")
	slow := &interposed{Ledger: w.ledger, kind: ledger.CustodyOperations}
	o := w.o
	o.Ledger = slow
	other, err := custody.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	for _, c := range []struct{ action, said, file string }{{"work_copy_deleted", path, "a"}, {"scratch_cleanup", filepath.Dir(dir), "d/b"}} {
		w.remove(c.said)
		slow.do = func() { w.due(c.file) }
		rs, err := other.Track(t.Context(), custody.Operation{Action: c.action, Path: c.said})
		if err != nil || rs[0].Err != nil || rs[0].Seen.String() != "gone" || slow.do != nil {
			t.Fatalf("%+v %v", rs, err)
		}
	}
	if got := w.overdue(); got != "a d/b" {
		t.Errorf("overdue: %q, want both that were made since", got)
	}
	// Said once more, it is known.
	w.remove(path)
	w.track(custody.Operation{Action: "work_copy_deleted", Path: path})
	if got := w.overdue(); got != "d/b" {
		t.Errorf("overdue: %q", got)
	}
}
