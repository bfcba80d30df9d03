package pace_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/connector/pace"
)

// world is a store in memory behind limits, with a clock that only moves when
// somebody sleeps or the store works.
type world struct {
	*pace.Connector
	mem   *connectortest.Memory
	now   time.Time
	slept time.Duration
	batch []int // sizes of the claims
	work  time.Duration
}

// worked is a connector that takes time and notes how much it is asked.
type worked struct {
	connector.Connector
	w *world
}

func (c worked) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	c.w.batch = append(c.w.batch, len(items))
	c.w.now = c.w.now.Add(c.w.work)
	return c.Connector.Claim(ctx, q, items)
}

func newWorld(l pace.Limits) *world {
	w := &world{mem: connectortest.NewMemory(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	l.Clock = func() time.Time { return w.now }
	l.Sleep = func(ctx context.Context, d time.Duration) error {
		w.slept += d
		w.now = w.now.Add(d)
		return ctx.Err()
	}
	w.Connector = pace.Wrap(worked{w.mem, w}, l)
	return w
}

// purge puts and erases one batch of n items, each of 10 bytes and 3 rows.
func (w *world) purge(t *testing.T, n int) {
	t.Helper()
	var at []connector.Locator
	for i := range n {
		loc := connector.Locator(fmt.Sprint(i))
		w.mem.Put(loc, connectortest.Record{Bytes: 10, Rows: []connector.Count{{Table: "t", N: 3}}})
		at = append(at, loc)
	}
	var items []connector.Item
	var which []int
	for i, r := range w.Probe(t.Context(), at) {
		items, which = append(items, connector.Item{Locator: at[i], Print: r.Print}), append(which, i)
	}
	if err := w.Turn(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	cl, _ := w.Claim(t.Context(), nil, items)
	for _, r := range cl.Erase(t.Context(), which).Results {
		if r.State != connector.Gone {
			t.Fatalf("not erased: %v %s", r.State, r.Reason)
		}
	}
	if err := cl.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		limits pace.Limits
		want   time.Duration // to wait for five batches of 100 items: the last is not waited for
	}{
		"none":      {pace.Limits{}, 0},
		"items":     {pace.Limits{Items: 50}, 8 * time.Second},
		"rows":      {pace.Limits{Rows: 50}, 24 * time.Second},
		"bytes":     {pace.Limits{Bytes: 1000}, 4 * time.Second},
		"strictest": {pace.Limits{Items: 50, Rows: 1000, Bytes: 1e9}, 8 * time.Second},
	} {
		w := newWorld(test.limits)
		for range 5 {
			w.purge(t, 100)
		}
		if diff := (w.slept - test.want).Abs(); diff > time.Millisecond {
			t.Errorf("%s: waited %v, want %v", name, w.slept, test.want)
		}
		for _, n := range w.batch {
			if n != 100 {
				t.Errorf("%s: a batch of %d, want 100: the size never changes", name, n)
			}
		}
	}
}

// Rows that are set are written too: they count as items and as rows.
func TestRowsThatAreSetCount(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]pace.Limits{"items": {Items: 50}, "rows": {Rows: 50}} {
		w := newWorld(limits)
		q := &connector.Query{Collection: "t", Cutoff: w.now, Then: []connector.Setting{{Column: "done"}}}
		var items []connector.Item
		var which []int
		for i := range 100 {
			loc := connector.Locator(fmt.Sprint(i))
			w.mem.Put(loc, connectortest.Record{Collection: "t", Anchor: w.now.Add(-time.Hour)})
			items, which = append(items, connector.Item{Locator: loc, Print: w.Probe(t.Context(), []connector.Locator{loc})[0].Print}), append(which, i)
		}
		cl, _ := w.Claim(t.Context(), q, items)
		for _, r := range cl.Erase(t.Context(), which).Results {
			if r.Reason != connector.Set {
				t.Fatalf("not set: %v %s", r.State, r.Reason)
			}
		}
		if err := w.Turn(t.Context(), nil); err != nil || (w.slept-2*time.Second).Abs() > time.Millisecond {
			t.Errorf("%s: waited %v (%v), want 2s", name, w.slept, err)
		}
	}
}

func TestTimeThatPassedIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(pace.Limits{Items: 10})
	w.purge(t, 100)
	w.now = w.now.Add(time.Hour) // an idle hour saves nothing up
	w.purge(t, 100)
	w.purge(t, 100)
	if want := 10 * time.Second; w.slept != want {
		t.Errorf("waited %v, want %v", w.slept, want)
	}
}

func TestSlowStoreIsSpared(t *testing.T) {
	t.Parallel()
	w := newWorld(pace.Limits{Slow: 2, MaxPause: 5 * time.Second})
	w.work = 100 * time.Millisecond
	for range 20 {
		w.purge(t, 10)
	}
	if w.slept != 0 {
		t.Errorf("waited %v for a store that is not slow", w.slept)
	}
	w.work = time.Second
	for range 10 {
		w.purge(t, 10)
	}
	slow := w.slept
	if slow < 10*time.Second || slow > 50*time.Second {
		t.Errorf("waited %v while ten batches took 10 s instead of 1 s", slow)
	}
	w.work = 100 * time.Millisecond
	for range 20 {
		w.purge(t, 10)
	}
	before := w.slept
	for range 20 {
		w.purge(t, 10)
	}
	if w.slept != before {
		t.Errorf("waited %v more though the store is fast again", w.slept-before)
	}
}

// A rest is for all who ask: a second worker does not get past it.
func TestRestIsForEveryWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(pace.Limits{Slow: 2})
	w.work = 100 * time.Millisecond
	w.purge(t, 10)
	w.work = 10 * time.Second
	w.purge(t, 10)
	begin := w.now
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 { // the first does not stay: it takes nothing from the second
		if err := w.Turn(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("a turn without its rest: %v", err)
		}
	}
	must(t, w.Turn(t.Context(), nil))
	if rested := w.now.Sub(begin); rested < 20*time.Second {
		t.Errorf("rested %v after a batch that took a hundred times as long", rested)
	}
}

func TestPauseFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none, file := filepath.Join(dir, "none"), filepath.Join(dir, "pause")
	must(t, pace.WritePause(file, time.Time{}))
	polls := 0
	mem := connectortest.NewMemory()
	mem.Put("a", connectortest.Record{})
	c := pace.Wrap(mem, pace.Limits{PauseFiles: []string{none, file}, Sleep: func(ctx context.Context, _ time.Duration) error {
		if polls++; polls == 3 {
			return os.Remove(file)
		}
		return ctx.Err()
	}})
	if !c.Paused() {
		t.Error("not paused")
	}
	must(t, c.Turn(t.Context(), nil))
	if polls != 3 || c.Paused() {
		t.Errorf("the turn came after %d polls, want 3; paused: %t", polls, c.Paused())
	}
	// What is under way is never held up: it may hold locks.
	must(t, pace.WritePause(file, time.Time{}))
	r := c.Probe(t.Context(), []connector.Locator{"a"})
	cl, _ := c.Claim(t.Context(), nil, []connector.Item{{Locator: "a", Print: r[0].Print}})
	if e := cl.Erase(t.Context(), []int{0}); e.Results[0].State != connector.Gone || polls != 3 {
		t.Errorf("got %v after %d polls", e.Results[0], polls)
	}
	// A context that ends while the work is paused.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Turn(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a turn that nobody waits for: %v", err)
	}
}

// A pause that begins while a debt is paid off is seen at once, not only when the
// debt is paid.
func TestPauseWhileWaiting(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pause")
	now, slept := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Duration(0)
	ctx, cancel := context.WithCancel(t.Context())
	mem := connectortest.NewMemory()
	c := pace.Wrap(mem, pace.Limits{Items: 0.001, PauseFiles: []string{file}, Clock: func() time.Time { return now },
		Sleep: func(_ context.Context, d time.Duration) error {
			now, slept = now.Add(d), slept+d
			switch {
			case slept == 3*time.Second:
				return pace.WritePause(file, time.Time{})
			case slept > 2000*time.Second:
				cancel() // long after the debt is paid
			}
			return ctx.Err()
		}})
	mem.Put("a", connectortest.Record{})
	r := c.Probe(ctx, []connector.Locator{"a"})
	cl, _ := c.Claim(ctx, nil, []connector.Item{{Locator: "a", Print: r[0].Print}})
	cl.Erase(ctx, []int{0})
	if err := c.Turn(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the turn came during a pause: %v", err)
	}
}

func TestReadPause(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	file := filepath.Join(t.TempDir(), "pause")
	for text, want := range map[string]bool{
		"":                                true,
		"paused\n":                        true,
		"until 2026-07-01T12:00:01Z\n":    true,
		"until 2026-07-01T12:00:00Z\n":    false,
		"until 2026-07-01T13:59:00+02:00": false,
		"until tomorrow":                  true,
		"until 2020-01-01T00:00:00Z and longer, since nobody knows, which is more than an instant and so means nothing here": true,
	} {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if on, _, err := pace.ReadPause(file, now); on != want || err != nil {
			t.Errorf("%q: paused %t, %v; want %t", text, on, err, want)
		}
	}
	must(t, pace.WritePause(file, now.Add(time.Hour)))
	if on, until, err := pace.ReadPause(file, now); !on || !until.Equal(now.Add(time.Hour)) || err != nil {
		t.Errorf("got %t until %v, %v", on, until, err)
	}
	must(t, os.Remove(file))
	if on, _, err := pace.ReadPause(file, now); on || err != nil {
		t.Errorf("no file: paused %t, %v", on, err)
	}
	must(t, os.Mkdir(file, 0o700))
	if on, _, err := pace.ReadPause(file, now); !on || err != nil {
		t.Errorf("a directory: paused %t, %v", on, err)
	}
	if on, _, err := pace.ReadPause(filepath.Join("/dev/null", "x"), now); !on || err == nil {
		t.Errorf("what cannot be looked for: paused %t, %v", on, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A replica that is too far behind, or of which nothing is known, holds the work
// back until it is neither; who waits is told each cause once.
func TestReplicaIsWaitedFor(t *testing.T) {
	t.Parallel()
	now, asked := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 0
	answers := []any{31 * time.Second, 31 * time.Second, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded, time.Hour, 30 * time.Second}
	var told []pace.Cause
	c := pace.Wrap(connectortest.NewMemory(), pace.Limits{MaxLag: 30 * time.Second, Clock: func() time.Time { return now },
		Sleep: func(ctx context.Context, d time.Duration) error {
			now = now.Add(d)
			return ctx.Err()
		},
		Lag: func(ctx context.Context) (time.Duration, error) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the replica is asked without end")
			}
			asked++
			switch a := answers[min(asked, len(answers))-1].(type) {
			case error:
				return 0, a
			case time.Duration:
				return a, nil
			}
			return 0, nil
		}})
	must(t, c.Turn(t.Context(), func(cause pace.Cause) { told = append(told, cause) }))
	if want := []pace.Cause{pace.Behind, pace.Unseen, pace.Behind}; !slices.Equal(told, want) || asked != len(answers) {
		t.Errorf("told %v after %d answers, want %v after %d", told, asked, want, len(answers))
	}
	// Not more than once a second, however many ask.
	must(t, c.Turn(t.Context(), nil))
	must(t, c.Turn(t.Context(), nil))
	if asked != len(answers) {
		t.Errorf("asked %d times more within a second", asked-len(answers))
	}
	now = now.Add(time.Second)
	must(t, c.Turn(t.Context(), nil))
	if asked != len(answers)+1 {
		t.Errorf("asked %d times a second later, want once", asked-len(answers))
	}
	// A context that ends while it is behind.
	answers = []any{time.Hour}
	now = now.Add(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Turn(ctx, func(pace.Cause) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("a turn that nobody waits for: %v", err)
	}
}

// TestUnreadablePauseFileWaits: what cannot be looked for may be there.
func TestUnreadablePauseFileWaits(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := pace.Wrap(connectortest.NewMemory(), pace.Limits{PauseFiles: []string{"x"},
		Exists: func(string) (bool, error) { return false, os.ErrPermission },
		Sleep:  func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }})
	if err := c.Turn(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want to wait", err)
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	cutoff := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	connectortest.Run(t, connectortest.Harness{Locks: true, New: func(t *testing.T) connectortest.Fixture {
		m, n := connectortest.NewMemory(), 0
		anchors := map[connectortest.Age]time.Time{connectortest.Due: cutoff.Add(-time.Hour), connectortest.Young: cutoff}
		return connectortest.Fixture{
			Connector: pace.Wrap(m, pace.Limits{Items: 1e6, Rows: 1e6, Bytes: 1e9, Slow: 2, MaxPause: time.Millisecond, PauseFiles: []string{filepath.Join(t.TempDir(), "no")}}),
			Query:     &connector.Query{Collection: "things", Cutoff: cutoff},
			Plant: func(a connectortest.Age) connector.Locator {
				n++
				at := connector.Locator(fmt.Sprintf("thing-%03d", n))
				m.Put(at, connectortest.Record{Collection: "things", Anchor: anchors[a], Bytes: int64(n)})
				return at
			},
			Absent: "nothing",
			Has:    m.Has, Dump: m.Dump, Remove: m.Remove, Break: m.Break, Restore: m.Restore,
			Change: func(at connector.Locator) {
				r, _ := m.Get(at)
				r.Bytes++
				m.Put(at, r)
			},
		}
	}})
}
