package pace_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

func TestPauseFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	polls := 0
	mem := connectortest.NewMemory()
	mem.Put("a", connectortest.Record{})
	c := pace.Wrap(mem, pace.Limits{PauseFile: file, Sleep: func(ctx context.Context, _ time.Duration) error {
		if polls++; polls == 3 {
			return os.Remove(file)
		}
		return ctx.Err()
	}})
	if r := c.Probe(t.Context(), []connector.Locator{"a"}); r[0].State != connector.Present || polls != 3 {
		t.Errorf("got %v after %d polls, want present after 3", r[0].State, polls)
	}
	// A context that ends while the work is paused: nothing is known, nothing done.
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cl, rs := c.Claim(ctx, nil, []connector.Item{{Locator: "a"}})
	if rs[0].State != connector.Unknown || cl.Erase(ctx, []int{0}).Results[0].State != connector.Unknown || !mem.Has("a") {
		t.Errorf("a paused claim did something: %v", rs[0])
	}
	for _, err := range c.Scan(ctx, &connector.Query{}, &connector.Survey{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a paused scan: %v", err)
		}
	}
}

// TestUnreadablePauseFileWaits: what cannot be looked for may be there.
func TestUnreadablePauseFileWaits(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := pace.Wrap(connectortest.NewMemory(), pace.Limits{PauseFile: "x",
		Exists: func(string) (bool, error) { return false, os.ErrPermission },
		Sleep:  func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }})
	if r := c.Probe(ctx, []connector.Locator{"a"}); r[0].State != connector.Unknown {
		t.Errorf("got %v, want unknown", r[0].State)
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	cutoff := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	connectortest.Run(t, connectortest.Harness{Locks: true, New: func(t *testing.T) connectortest.Fixture {
		m, n := connectortest.NewMemory(), 0
		anchors := map[connectortest.Age]time.Time{connectortest.Due: cutoff.Add(-time.Hour), connectortest.Young: cutoff}
		return connectortest.Fixture{
			Connector: pace.Wrap(m, pace.Limits{Items: 1e6, Rows: 1e6, Bytes: 1e9, Slow: 2, MaxPause: time.Millisecond, PauseFile: filepath.Join(t.TempDir(), "no")}),
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
