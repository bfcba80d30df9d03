package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
	"github.com/epitaph/epitaph/session"
)

// bed is a root with a real ledger and a clock that a test can move.
type bed struct {
	testing.TB
	root   string
	ledger *ledger.Ledger
	mu     sync.Mutex
	ahead  time.Duration
	up     time.Duration
	o      session.Options
}

func newBed(t testing.TB) *bed {
	t.Helper()
	dir := t.TempDir()
	b := &bed{TB: t, root: filepath.Join(dir, "sessions")}
	l, err := ledger.Open(context.Background(), "sqlite:"+filepath.Join(dir, "ledger.db"), ledger.Config{})
	b.must(err)
	t.Cleanup(func() { l.Close() })
	b.ledger = l
	b.o = session.Options{Ledger: l, Clock: b.clock, Uptime: b.uptime, Create: true, Who: "anna@example.org"}
	return b
}

func (b *bed) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Add(b.ahead)
}

// uptime is time that passes without anybody setting a clock.
func (b *bed) uptime() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return 10*time.Hour + b.up
}

// set sets the clock ahead.
func (b *bed) set(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ahead += d
}

// wait lets time pass.
func (b *bed) wait(d time.Duration) {
	b.set(d)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up += d
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) store() *session.Store {
	b.Helper()
	s, err := session.Open(context.Background(), b.root, b.o)
	b.must(err)
	b.Cleanup(func() { s.Close() })
	return s
}

func (b *bed) session(s *session.Store) *session.Session {
	b.Helper()
	x, err := s.New(context.Background(), time.Hour)
	b.must(err)
	b.Cleanup(func() { x.Close() })
	return x
}

func (b *bed) write(x *session.Session, name, text string) {
	b.Helper()
	w, err := x.Create(name)
	b.must(err)
	_, err = io.WriteString(w, text)
	b.must(err)
	b.must(w.Close())
}

// path is a path below the root.
func (b *bed) path(names ...string) string {
	return filepath.Join(append([]string{b.root}, names...)...)
}

func (b *bed) exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// balance says what the ledger has: sessions gone, intents open.
func (b *bed) balance() (gone, open int) {
	b.Helper()
	for e, err := range b.ledger.Entries(context.Background(), ledger.Filter{Kinds: []ledger.Kind{ledger.Outcome}, Rule: "sessions"}) {
		b.must(err)
		for _, r := range e.Results {
			if r.State == ledger.Gone && r.Reason == "GONE" {
				gone++
			}
		}
	}
	for _, err := range b.ledger.OpenIntents(context.Background()) {
		b.must(err)
		open++
	}
	return gone, open
}

// ended compares what became of a session.
func (b *bed) ended(e session.Ended, want string) {
	b.Helper()
	got := fmt.Sprintf("%s %s: %d gone, %d left, %d unknown", e.State, e.Reason, e.Gone, e.Left, e.Unknown)
	if got != want {
		b.Errorf("ended: got %s, want %s (%v)", got, want, e.Err)
	}
}

// A session from its birth to its verified end.
func TestSessionLivesAndDies(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	x := b.session(s)
	for _, name := range []string{"note.txt", "toc.json", "summary.json", "deep/er/plan.json"} {
		b.write(x, name, "of patient 7: "+name)
	}
	got, err := x.List()
	b.must(err)
	want := []session.File{{Name: "note.txt", Bytes: 22, Regular: true}, {Name: "summary.json", Bytes: 26, Regular: true},
		{Name: "toc.json", Bytes: 22, Regular: true}, {Name: "deep/er/plan.json", Bytes: 31, Regular: true}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
	r, err := x.Open("deep/er/plan.json")
	b.must(err)
	text, err := io.ReadAll(r)
	b.must(err)
	b.must(r.Close())
	if string(text) != "of patient 7: deep/er/plan.json" {
		t.Errorf("read %q", text)
	}
	e, err := x.Close()
	b.must(err)
	b.ended(e, "gone GONE: 4 gone, 0 left, 0 unknown")
	if e.Bytes != 101 || b.exists(x.Path()) {
		t.Errorf("bytes %d, still there: %t", e.Bytes, b.exists(x.Path()))
	}
	if gone, open := b.balance(); gone != 1 || open != 0 {
		t.Errorf("ledger: %d gone, %d open", gone, open)
	}
	again, err := x.Close()
	if d := cmp.Diff(e, again); err != nil || d != "" {
		t.Errorf("second close: %v %s", err, d)
	}
	if _, err := x.Create("late"); !errors.Is(err, session.ErrClosed) {
		t.Errorf("create after close: %v", err)
	}
	e, err = s.Delete(t.Context(), x.ID())
	b.must(err)
	b.ended(e, "gone MISSING: 0 gone, 0 left, 0 unknown")
}

// The ledger has the files' counts, names nobody in the clear, and can show the
// session to whoever may unseal.
func TestLedgerOfASession(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	x, err := s.NewID(t.Context(), "note-of-anna-smith", time.Hour)
	b.must(err)
	b.write(x, "anna.txt", "x")
	_, err = x.Close()
	b.must(err)
	var kinds []ledger.Kind
	for e, err := range b.ledger.Entries(t.Context(), ledger.Filter{Unseal: true}) {
		b.must(err)
		kinds = append(kinds, e.Kind)
		switch e.Kind {
		case ledger.Intent:
			pid, _ := e.Int("pid")
			if int(pid) != os.Getpid() || len(e.Items) != 1 || e.Items[0].Locator != "note-of-anna-smith/" {
				t.Errorf("intent: %+v", e)
			}
		case ledger.Outcome:
			if n, _ := e.Int("files.gone"); n != 1 {
				t.Errorf("files.gone = %d", n)
			}
		}
	}
	if d := cmp.Diff([]ledger.Kind{ledger.Intent, ledger.Outcome}, kinds); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
	for e, err := range b.ledger.Entries(t.Context(), ledger.Filter{}) {
		b.must(err)
		if strings.Contains(fmt.Sprintf("%+v", e), "anna") {
			t.Errorf("in the clear: %+v", e)
		}
	}
}

// With disposes of the session on return, error and panic.
func TestWith(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	mine := errors.New("mine")
	var paths []string
	with := func(end func() error) (err error) {
		return s.With(t.Context(), time.Hour, func(_ context.Context, x *session.Session) error {
			b.write(x, "note.txt", "x")
			paths = append(paths, x.Path())
			return end()
		})
	}
	if err := with(func() error { return nil }); err != nil {
		t.Error(err)
	}
	if err := with(func() error { return mine }); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if v := recover(); v != mine {
				t.Errorf("panic was %v", v)
			}
		}()
		_ = with(func() error { panic(mine) })
	}()
	for _, p := range paths {
		if b.exists(p) {
			t.Errorf("%s is still there", p)
		}
	}
	if gone, open := b.balance(); len(paths) != 3 || gone != 3 || open != 0 {
		t.Errorf("%d sessions, %d gone, %d open", len(paths), gone, open)
	}
}

// Remove says whether the file was there.
func TestRemove(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.session(b.store())
	b.write(x, "a/note.txt", "x")
	for _, want := range []bool{true, false} {
		if was, err := x.Remove(t.Context(), "a/note.txt"); err != nil || was != want {
			t.Errorf("got %t, %v, want %t", was, err, want)
		}
	}
	if b.exists(filepath.Join(x.Path(), "a/note.txt")) {
		t.Error("it is still there")
	}
	if gone, open := b.balance(); gone != 1 || open != 0 {
		t.Errorf("ledger: %d gone, %d open", gone, open)
	}
	b.write(x, "a/note.txt", "y") // the name is free again
}

// Nothing is ever written into what is there already.
func TestCreateTakesNothingOver(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.session(b.store())
	victim := filepath.Join(t.TempDir(), "victim")
	b.must(os.WriteFile(victim, []byte("mine"), 0o600))
	b.must(os.Symlink(victim, filepath.Join(x.Path(), "link")))
	b.must(os.Link(victim, filepath.Join(x.Path(), "hard")))
	b.must(os.Symlink(filepath.Dir(victim), filepath.Join(x.Path(), "dir")))
	for _, name := range []string{"link", "hard", "dir/victim", "dir/new"} {
		if w, err := x.Create(name); err == nil {
			t.Errorf("%s was written into", name)
			w.Close()
		}
	}
	if _, err := x.Create("hard"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want that it exists", err)
	}
	for _, name := range []string{"link", "dir/victim"} {
		if r, err := x.Open(name); err == nil {
			t.Errorf("%s was read through a link", name)
			r.Close()
		}
	}
	text, err := os.ReadFile(victim)
	b.must(err)
	if string(text) != "mine" {
		t.Errorf("victim holds %q", text)
	}
}

// lasting is a ledger whose disk takes its time, however fast it is.
type lasting struct{ *ledger.Ledger }

func (l lasting) Append(ctx context.Context, es ...ledger.Entry) (int64, error) {
	time.Sleep(2 * time.Millisecond)
	return l.Ledger.Append(ctx, es...)
}

// Sixteen who close at once share the ledger's entries; nobody's result is lost
// or mixed up with another's.
func TestManyCloseAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Ledger = lasting{b.ledger} // while one waits for it the others come
	s := b.store()
	const workers, each = 16, 8
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				x, err := s.New(t.Context(), time.Hour)
				if err != nil {
					t.Error(err)
					return
				}
				n := (w+i)%5 + 1
				for f := range n {
					b.write(x, fmt.Sprintf("%d.txt", f), "x")
				}
				e, err := x.Close()
				if err != nil || e.State != connector.Gone || e.Gone != int64(n) || e.ID != x.ID() {
					t.Errorf("got %+v, %v, want %d gone", e, err, n)
				}
			}
		})
	}
	wg.Wait()
	if gone, open := b.balance(); gone != workers*each || open != 0 {
		t.Errorf("ledger: %d gone, %d open", gone, open)
	}
	n := 0
	for _, err := range b.ledger.Entries(t.Context(), ledger.Filter{Kinds: []ledger.Kind{ledger.Intent}}) {
		b.must(err)
		n++
	}
	if n >= workers*each {
		t.Errorf("%d intents for %d sessions: nothing was shared", n, workers*each)
	}
}

// Two stores, as in two processes, close one session: one disposes, the other
// hears that it is gone, and the ledger has it once.
func TestTwoCloseOne(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one, two := b.store(), b.store()
	for range 20 {
		id, _, err := one.Leave(t.Context(), "", time.Hour, owner.Process{})
		b.must(err)
		b.must(os.WriteFile(b.path(id, "note.txt"), []byte("x"), 0o600))
		var got [2]session.Ended
		var wg sync.WaitGroup
		for i, s := range []*session.Store{one, two} {
			wg.Go(func() {
				err := session.ErrInUse
				for errors.Is(err, session.ErrInUse) { // the other needs longer than a deletion waits for it
					got[i], err = s.Delete(t.Context(), id)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !got[0].Done() || !got[1].Done() || got[0].Counts.Gone+got[1].Counts.Gone != 1 {
			t.Fatalf("got %+v", got)
		}
	}
	if gone, open := b.balance(); gone != 20 || open != 0 {
		t.Errorf("ledger: %d gone, %d open", gone, open)
	}
}

// A session that is in use is not deleted under its owner.
func TestDeleteLeavesWhatIsInUse(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.session(b.store())
	b.write(x, "note.txt", "x")
	e, err := b.store().Delete(t.Context(), x.ID())
	if !errors.Is(err, session.ErrInUse) || e.State != connector.Present || !b.exists(filepath.Join(x.Path(), "note.txt")) {
		t.Errorf("got %+v, %v", e, err)
	}
	es, err := b.store().DeleteAll(t.Context())
	if err != nil || len(es) != 1 || es[0].Reason != connector.InUse || !b.exists(x.Path()) {
		t.Errorf("delete-all: %+v, %v", es, err)
	}
}
