package custody_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
)

const work = "work_copy_created"

// due makes and tracks a file that had to be gone an hour ago.
func (w *world) due(name string) string {
	w.t.Helper()
	path := w.write(name, "content of "+name)
	w.track(custody.Operation{Action: work, Path: path, Due: w.now.Add(-time.Hour), At: w.now.Add(-3 * time.Hour), Scope: "5"})
	return path
}

// results runs a clean-up and returns "name state reason" of each file.
func (w *world) results(list []custody.Sighting, err error) string {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprintf("%s %s %s", strings.TrimPrefix(s.Path, w.dir+"/"), s.State, s.Reason))
	}
	return strings.Join(out, "; ")
}

// N5, N6: a deletion that is said and did not happen leaves the file due.
func TestSaidIsNotSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	still, gone := w.due("still"), w.due("gone")
	w.remove(gone)
	if got := w.overdue(); got != "still gone" {
		t.Errorf("before anybody looked: %q", got)
	}
	if r := w.track(custody.Operation{Action: "work_copy_deleted", Path: still}); r.Seen.String() != "present" {
		t.Errorf("%+v", r)
	}
	if r := w.track(custody.Operation{Action: "work_copy_deleted", Path: gone}); r.Seen.String() != "gone" {
		t.Errorf("%+v", r)
	}
	if got := w.overdue(); got != "still" {
		t.Errorf("overdue %q, want still", got)
	}
	for f := range w.Overdue(t.Context()) {
		if f.Said.IsZero() {
			t.Error("it is not known that someone said it was deleted")
		}
	}
	w.track(custody.Operation{Action: "deletion_failed", Path: still, Error: "permission denied"})
	if got := w.overdue(); got != "still" {
		t.Errorf("after a failure: %q", got)
	}
}

// N3, N4: a store that cannot be looked at settles nothing.
func TestOutageSettlesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.due("a")
	w.due("b")
	if err := os.Rename(w.dir, w.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if got, want := w.results(w.Verify(t.Context())), "a unknown UNREACHABLE; b unknown UNREACHABLE"; got != want {
		t.Errorf("verify: %q, want %q", got, want)
	}
	if got := w.overdue(); got != "a b" {
		t.Errorf("overdue %q", got)
	}
	if got := w.results(w.Run(t.Context(), custody.Cleanup{})); strings.Contains(got, "gone") {
		t.Errorf("run: %q", got)
	}
	if err := os.Rename(w.dir+".away", w.dir); err != nil {
		t.Fatal(err)
	}
	if got, want := w.results(w.Verify(t.Context())), "a present ; b present "; got != want {
		t.Errorf("verify: %q, want %q", got, want)
	}
	w.remove(filepath.Join(w.dir, "a"))
	if got := w.results(w.Verify(t.Context())); !strings.HasPrefix(got, "a gone MISSING; b present") {
		t.Errorf("verify: %q", got)
	}
	if got := w.overdue(); got != "b" {
		t.Errorf("overdue %q", got)
	}
}

// N15: only what is due goes; live working copies and strangers stay.
func TestRunTakesWhatIsDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	due := w.due("due")
	later := w.write("later", "x")
	w.track(custody.Operation{Action: work, Path: later, Due: w.now.Add(time.Hour)})
	raw := w.write("raw", "x")
	w.track(custody.Operation{Action: "nas_raw_created", Path: raw})
	stranger := w.write("stranger", "x")
	if got, want := w.results(w.Run(t.Context(), custody.Cleanup{})), "due gone GONE"; got != want {
		t.Errorf("run: %q, want %q", got, want)
	}
	if w.exists(due) || !w.exists(later) || !w.exists(raw) || !w.exists(stranger) {
		t.Error("not exactly the due file went")
	}
	if got := w.overdue(); got != "" {
		t.Errorf("overdue %q", got)
	}
	// Forced, what is not due goes too, but not from under an owner who is alive.
	if got, want := w.results(w.Run(t.Context(), custody.Cleanup{Force: true})), "later present IN_USE"; got != want {
		t.Errorf("forced: %q, want %q", got, want)
	}
	if got := w.results(w.Run(t.Context(), custody.Cleanup{})); got != "" {
		t.Errorf("again: %q", got)
	}
	var kinds []ledger.Kind
	for e, err := range w.ledger.Entries(t.Context(), ledger.Filter{Kinds: []ledger.Kind{ledger.Intent, ledger.Outcome}}) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, e.Kind)
	}
	if len(kinds) != 2 {
		t.Errorf("intents and outcomes: %q", kinds)
	}
}

// N14: attempts have no cap. After some there is an incident, and it stays.
func TestAttemptsGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := w.due("busy")
	// A second name keeps the data alive: the store refuses.
	if err := os.Link(path, filepath.Join(w.base, "second")); err != nil {
		t.Fatal(err)
	}
	raised := 0
	for n := range 12 {
		rs, err := w.Run(t.Context(), custody.Cleanup{})
		if err != nil || len(rs) != 1 || rs[0].State.String() != "present" || rs[0].Attempts != int64(n) {
			t.Fatalf("attempt %d: %+v %v", n, rs, err)
		}
		if rs[0].Raised {
			raised++
		}
		if again, err := w.Run(t.Context(), custody.Cleanup{}); err != nil || len(again) != 0 {
			t.Fatalf("attempt %d is repeated at once: %v %v", n, again, err)
		}
		w.now = w.now.Add(25 * time.Hour)
	}
	if raised != 1 {
		t.Errorf("%d incidents", raised)
	}
	for f, err := range w.Overdue(t.Context()) {
		if err != nil || !f.Incident || f.Attempts != 12 {
			t.Errorf("%+v %v", f, err)
		}
	}
	if err := os.Remove(filepath.Join(w.base, "second")); err != nil {
		t.Fatal(err)
	}
	if got, want := w.results(w.Run(t.Context(), custody.Cleanup{})), "busy gone GONE"; got != want {
		t.Errorf("run: %q, want %q", got, want)
	}
	if got := w.overdue(); got != "" {
		t.Errorf("overdue %q", got)
	}
}

// The state follows from the entries: a cache that is lost, damaged or of another
// ledger changes nothing.
func TestCacheIsOnlyACache(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.due("a")
	b := w.due("b")
	w.remove(b)
	w.results(w.Verify(t.Context()))
	if got := w.overdue(); got != "a" {
		t.Fatalf("overdue %q", got)
	}
	raw, err := os.ReadFile(w.o.Cache)
	if err != nil {
		t.Fatal(err)
	}
	if wal, err := os.ReadFile(w.o.Cache + "-wal"); err == nil {
		raw = append(raw, wal...)
	}
	if strings.Contains(string(raw), w.dir) {
		t.Error("the cache holds a path")
	}
	w.Close()
	other := newWorld(t)
	other.due("of another ledger")
	other.overdue()
	other.Close()
	foreign, err := os.ReadFile(other.o.Cache)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"lost": nil, "of another ledger": foreign, "damaged": []byte(strings.Repeat("no database ", 100))} {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(w.o.Cache + suffix)
		}
		if content != nil {
			if err := os.WriteFile(w.o.Cache, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.Custody = w.open()
		if got := w.overdue(); got != "a" {
			t.Errorf("%s: overdue %q", name, got)
		}
		w.Close()
	}
}

// Texts that were destroyed in the ledger leave no hash in the cache.
func TestForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.due("a")
	w.due("b")
	w.overdue()
	if _, err := w.ledger.SealOff(t.Context(), ledger.Selection{Item: a, Keep: func(ledger.Kind, int64, int, ledger.Item) bool { return false }}, false); err != nil {
		t.Fatal(err)
	}
	if got := w.overdue(); got != "b" {
		t.Errorf("overdue %q", got)
	}
	db, err := sql.Open("sqlite", w.o.Cache)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRow("SELECT count(*) FROM files").Scan(&n); err != nil || n != 1 {
		t.Errorf("the cache has %d files, want 1: %v", n, err)
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(w.base, "elsewhere")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id := w.track(custody.Operation{Action: work, Path: path, Due: w.now.Add(-time.Hour)}).ID
	there := w.due("there")
	for bad, want := range map[string]error{"": custody.ErrNotTracked, "1": custody.ErrNotTracked, "1.99": custody.ErrNotTracked, "x.y": custody.ErrNotTracked} {
		if _, err := w.Confirm(t.Context(), bad, "jones"); !errors.Is(err, want) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for f := range w.Overdue(t.Context()) {
		if f.Path == there {
			if _, err := w.Confirm(t.Context(), f.ID, "jones"); !errors.Is(err, custody.ErrPresent) {
				t.Errorf("a word against what is seen: %v", err)
			}
		}
	}
	if _, err := w.Confirm(t.Context(), id, ""); err == nil {
		t.Error("nobody's word was taken")
	}
	if _, err := w.Confirm(t.Context(), id, "jones"); err != nil {
		t.Fatal(err)
	}
	if f, ok, err := w.Find(t.Context(), id); err != nil || !ok || f.How != custody.Word {
		t.Errorf("%+v %v %v", f, ok, err)
	}
	if _, err := w.Confirm(t.Context(), id, "jones"); !errors.Is(err, custody.ErrEnded) {
		t.Errorf("again: %v", err)
	}
}

// N16: the record stands before the file, and a crash leaves it.
func TestReserve(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(w.dir, "new", "a.csv")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := w.Reserve(t.Context(), custody.Operation{Action: "nas_raw_created", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.CommitFile(t.Context()); err == nil {
		t.Error("committed without a file")
	}
	got, err := r.Create(t.Context(), func(w io.Writer) error {
		_, err := io.WriteString(w, "abc")
		return err
	})
	if err != nil || got.Seen.String() != "present" {
		t.Fatalf("%+v %v", got, err)
	}
	f, ok, err := w.Find(t.Context(), got.ID)
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-4, example
	if err != nil || !ok || f.Hash != abc || f.Size != 3 || f.Condition != custody.Kept {
		t.Errorf("%+v %v %v", f, ok, err)
	}
	if _, err := r.CommitFile(t.Context()); !errors.Is(err, custody.ErrSettled) {
		t.Errorf("twice: %v", err)
	}
	// What was written past the hash is not committed.
	other := filepath.Join(w.dir, "b")
	r, err = w.Reserve(t.Context(), custody.Operation{Action: "nas_raw_created", Path: other})
	if err != nil {
		t.Fatal(err)
	}
	w.write("b", "more than was hashed")
	if _, err := r.Commit(t.Context(), [32]byte{1}, 3); err == nil {
		t.Error("a wrong size was committed")
	}
	if _, err := w.Reserve(t.Context(), custody.Operation{Action: "nas_raw_deleted", Path: other}); err == nil {
		t.Error("a deletion was reserved")
	}
}

// What is said of everything below a directory is recorded of each file.
func TestEmptied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.due("scratch/1/a")
	kept := w.due("scratch/1/deep/b")
	w.due("scratch/10/c")
	w.remove(filepath.Join(w.dir, "scratch/1/a"))
	w.track(custody.Operation{Action: "scratch_cleanup", Path: filepath.Join(w.dir, "scratch/1"), Actor: "jones"})
	if got := w.overdue(); got != "scratch/1/deep/b scratch/10/c" {
		t.Errorf("overdue %q", got)
	}
	w.remove(filepath.Dir(filepath.Dir(kept)))
	w.track(custody.Operation{Action: "prefix_deleted_via_api", Path: "work:scratch/1/"})
	if got := w.overdue(); got != "scratch/10/c" {
		t.Errorf("overdue %q", got)
	}
}

// deadOwner returns an owner who lived on this host and does no more.
func deadOwner(t *testing.T) owner.Process {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	o, err := owner.Of(host, cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return o
}

// N11: owners are asked after, and never guessed to be dead.
func TestOrphans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dead := deadOwner(t)
	reused, err := owner.Of(dead.Host, os.Getpid()) // the number lives again, as another process
	if err != nil {
		t.Fatal(err)
	}
	reused.Start--
	elsewhere := dead
	elsewhere.Boot, elsewhere.Host = "another boot", "another host"
	contained := dead
	contained.Space++
	ago := w.now.Add(-5 * time.Hour)
	for name, o := range map[string]owner.Process{"dead": dead, "reused": reused, "elsewhere": elsewhere, "contained": contained, "alive": {}} {
		w.track(custody.Operation{Action: work, Path: w.write(name, "x"), Owner: o, At: ago})
	}
	w.track(custody.Operation{Action: work, Path: w.write("young", "x"), Owner: dead, At: w.now})
	w.track(custody.Operation{Action: "nas_raw_created", Path: w.write("raw", "x"), Owner: dead, At: ago})
	lost := w.write("lost", "x")
	w.track(custody.Operation{Action: "nas_raw_created", Path: lost, At: ago})
	w.remove(lost)
	if _, err := w.Reserve(t.Context(), custody.Operation{Action: "nas_raw_created", Path: filepath.Join(w.dir, "never"), Owner: dead, At: ago}); err != nil {
		t.Fatal(err)
	}
	w.track(custody.Operation{Action: "conversion_started", Path: filepath.Join(w.dir, "raw"), Owner: dead, At: ago})
	w.track(custody.Operation{Action: "patient_id_extraction_started", Path: filepath.Join(w.dir, "raw"), Owner: dead, At: ago})
	w.track(custody.Operation{Action: "patient_id_extraction_failed", Path: filepath.Join(w.dir, "raw")})
	old := w.write("sub/old", "x")
	if err := os.Chtimes(old, ago, ago); err != nil {
		t.Fatal(err)
	}
	w.write("new", "x")
	found := func(s custody.Search) map[string]string {
		t.Helper()
		list, err := w.Orphans(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, o := range list {
			got[strings.TrimPrefix(o.Path, w.dir+"/")+" "+string(o.Kind)] = o.Life.String()
		}
		return got
	}
	want := "dead dead-owner:dead lost missing:unknown never uncommitted:dead raw unfinished:dead reused dead-owner:dead sub/old untracked:unknown"
	s := custody.Search{Roots: []custody.Root{{Store: "work", Grace: 4 * time.Hour}}, Grace: 4 * time.Hour}
	if got := fmt.Sprint(found(s)); got != "map["+want+"]" {
		t.Errorf("got  %s\nwant map[%s]", got, want)
	}
	if got := found(custody.Search{Grace: 4 * time.Hour}); got["sub/old untracked"] != "" {
		t.Error("a root that nobody named was searched for strangers")
	}
	list, err := w.Orphans(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	got := w.results(w.Dispose(t.Context(), list))
	if got != "dead gone GONE; reused gone GONE; sub/old gone GONE" && got != "reused gone GONE; dead gone GONE; sub/old gone GONE" {
		t.Errorf("disposed of %q", got)
	}
	for _, name := range []string{"elsewhere", "contained", "alive", "young", "raw", "new"} {
		if !w.exists(filepath.Join(w.dir, name)) {
			t.Errorf("%s went too", name)
		}
	}
	// A root that cannot be walked has no orphans but an error.
	if err := os.Rename(w.dir, w.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if list, err := w.Orphans(t.Context(), s); err == nil {
		t.Errorf("an absent root: %v", list)
	}
	if err := os.Rename(w.dir+".away", w.dir); err != nil {
		t.Fatal(err)
	}
}
