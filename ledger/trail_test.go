package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
)

// The index gives exactly what a look at every entry gives.
func TestFiltersAgreeWithReadingEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		rng := rand.New(rand.NewPCG(1, 2))
		kinds := []ledger.Kind{ledger.Heartbeat, ledger.RunStarted, ledger.Incident, ledger.RunFinished}
		pick := func(list []string) string { return list[rng.IntN(len(list))] }
		runs, rules, stores := []string{"", "r1", "r2", "r3"}, []string{"", "a", "b"}, []string{"", "x", "y"}
		var all []ledger.Entry
		for len(all) < 1500 {
			var es []ledger.Entry
			for range 1 + rng.IntN(200) {
				es = append(es, ledger.Entry{
					Kind: kinds[min(rng.IntN(40), 3)], Run: pick(runs), Rule: pick(rules), Store: pick(stores),
					At: day.Add(time.Duration(len(all)+len(es))*time.Minute + time.Duration(rng.IntN(100))*time.Second),
				})
			}
			first := mustAppend(t, l, es...)
			for i := range es {
				es[i].Number = first + int64(i)
			}
			all = append(all, es...)
		}
		for i := range 150 {
			f := ledger.Filter{Newest: i%2 == 0}
			if rng.IntN(2) == 0 {
				f.Run = pick(append(runs, "none"))
			}
			if rng.IntN(2) == 0 {
				f.Rule = pick(rules)
			}
			if rng.IntN(3) == 0 {
				f.Store = pick(stores)
			}
			for range rng.IntN(3) {
				f.Kinds = append(f.Kinds, kinds[rng.IntN(4)])
			}
			if rng.IntN(3) == 0 {
				f.Since = all[rng.IntN(len(all))].At
			}
			if rng.IntN(3) == 0 {
				f.Until = all[rng.IntN(len(all))].At
			}
			if rng.IntN(3) == 0 {
				f.After = int64(rng.IntN(len(all)))
			}
			if rng.IntN(3) == 0 {
				f.Before = int64(rng.IntN(len(all)))
			}
			if rng.IntN(3) == 0 {
				f.Limit = 1 + rng.IntN(50)
			}
			var want, got []int64
			for _, e := range all {
				if (f.Run == "" || e.Run == f.Run) && (f.Rule == "" || e.Rule == f.Rule) && (f.Store == "" || e.Store == f.Store) &&
					(len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) && (f.Since.IsZero() || !e.At.Before(f.Since)) &&
					(f.Until.IsZero() || e.At.Before(f.Until)) && e.Number > f.After && (f.Before == 0 || e.Number < f.Before) {
					want = append(want, e.Number)
				}
			}
			if f.Newest {
				slices.Reverse(want)
			}
			if f.Limit > 0 && len(want) > f.Limit {
				want = want[:f.Limit]
			}
			for _, e := range collect(t, l, f) {
				got = append(got, e.Number)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("filter %+v: got %v, want %v", f, got, want)
			}
		}
	})
}

func TestFindItem(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		var want []int64
		for i := range 30 {
			e := anIntent(20)
			for j := range e.Items {
				e.Items[j].ID, e.Items[j].Locator = fmt.Sprint(i*20+j), fmt.Sprintf("id=%d", i*20+j)
				e.Items[j].Parts[0].Locator = fmt.Sprintf("files/%d/%d.bin", i, j)
			}
			if i%10 == 3 {
				e.Items[7].Parts[0].Locator = "shared.bin"
			}
			n := mustAppend(t, l, e)
			o := mustAppend(t, l, anOutcome(n, 20))
			if i%10 == 3 {
				want = append(want, n, o)
			}
		}
		numbers := func(f ledger.Filter) (list []int64) {
			for _, e := range collect(t, l, f) {
				list = append(list, e.Number)
			}
			return list
		}
		if got := numbers(ledger.Filter{Item: "shared.bin"}); !slices.Equal(got, want) {
			t.Errorf("a part in three batches: %v, want %v", got, want)
		}
		if got := numbers(ledger.Filter{Item: "shared.bin", Kinds: []ledger.Kind{ledger.Outcome}, Limit: 1, Newest: true}); !slices.Equal(got, want[5:]) {
			t.Errorf("its newest outcome: %v, want %v", got, want[5:])
		}
		for _, item := range []string{"405", "id=405", "files/20/5.bin"} {
			if got := numbers(ledger.Filter{Item: item}); !slices.Equal(got, []int64{41, 42}) {
				t.Errorf("%s: %v, want [41 42]", item, got)
			}
		}
		if got := numbers(ledger.Filter{Item: "nothing"}); got != nil {
			t.Errorf("an unknown item: %v", got)
		}
	})
}

func TestAppendWhileReading(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		fillLedger(t, l, 600)
		n := 0
		for _, err := range l.Entries(t.Context(), ledger.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
			n++
		}
		if n != 605 {
			t.Errorf("%d entries seen while appending, want the 605 of the start", n)
		}
	})
}

func TestCancelledAppend(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, ledger.Entry{Kind: ledger.Heartbeat}); !errors.Is(err, context.Canceled) {
		t.Errorf("append with a context that ended: %v", err)
	}
	// cancelled at any moment: an error means that nothing was written
	var mu sync.Mutex
	var wg sync.WaitGroup
	acked := map[int64]bool{}
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration((g*100+i)%700)*time.Microsecond)
				n, err := l.Append(ctx, ledger.Entry{Kind: ledger.Heartbeat})
				cancel()
				mu.Lock()
				if err == nil {
					acked[n] = true
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	n, _, err := l.Newest(t.Context())
	if err != nil || int(n) != len(acked) {
		t.Errorf("%d entries, %d acknowledged, %v", n, len(acked), err)
	}
}

func TestRefusedEntryDoesNotTouchOthers(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		mustAppend(t, l, anIntent(2))
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Go(func() {
				for range 10 {
					e := ledger.Entry{Kind: ledger.Heartbeat}
					if g%2 == 0 {
						e = []ledger.Entry{anOutcome(1, 3), anOutcome(99999, 2), {Kind: ledger.Heartbeat, Refers: 99999}}[g/2%3]
					}
					_, err := l.Append(context.Background(), e)
					if bad := g%2 == 0; bad != (err != nil) {
						t.Errorf("append of %s: %v", e.Kind, err)
					}
				}
			})
		}
		wg.Wait()
		if n, _, err := l.Newest(t.Context()); n != 81 || err != nil {
			t.Errorf("%d entries, want 81; %v", n, err)
		}
		if _, err := l.Append(t.Context(), anOutcome(2, 2)); err == nil || !strings.Contains(err.Error(), "not an intent") {
			t.Errorf("an outcome of a heartbeat: %v", err)
		}
		mustAppend(t, l, anOutcome(1, 2))
		mustAppend(t, l, anOutcome(1, 2)) // a second look at the same intent is recorded too
		if _, err := l.Append(t.Context(), anOutcome(1, 3)); err == nil {
			t.Error("an outcome of another length was accepted for a closed intent")
		}
		if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
			t.Errorf("faults: %v", r.Faults)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, dsn := range map[string]string{
		"no scheme": filepath.Join(dir, "x"), "no path": "sqlite:", "memory": "sqlite::memory:", "no folder": "sqlite:" + filepath.Join(dir, "none", "x.db"),
		"a folder": "sqlite:" + dir, "another scheme": "mysql://x", "not a DSN": "postgres://[", "nobody there": "postgres://127.0.0.1:1/x?connect_timeout=2",
	} {
		l, err := ledger.Open(t.Context(), dsn, ledger.Config{})
		if err == nil {
			l.Close()
			t.Errorf("%s: opened", name)
		} else if strings.Contains(err.Error(), dir) {
			t.Errorf("%s: the error shows the path: %v", name, err)
		}
	}
	if _, err := ledger.OpenReadOnly(t.Context(), "sqlite:"+filepath.Join(dir, "absent.db"), ledger.Config{}); err == nil {
		t.Error("an absent ledger was opened for reading")
	}
	path := "sqlite:" + filepath.Join(dir, "l ?#%.db")
	mustAppend(t, open(t, path), ledger.Entry{Kind: ledger.Heartbeat})
	if _, err := ledger.Open(t.Context(), path, ledger.Config{Origin: "example.com/other"}); err == nil {
		t.Error("opened under another origin")
	}
	r, err := ledger.OpenReadOnly(t.Context(), path, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, _, err := r.Newest(t.Context()); n != 1 || err != nil {
		t.Errorf("read-only: %d, %v", n, err)
	}
	if _, err := r.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat}); !errors.Is(err, ledger.ErrReadOnly) {
		t.Errorf("append: %v, want ErrReadOnly", err)
	}
	if _, err := r.SealOff(t.Context(), ledger.Selection{Item: "x"}, false); !errors.Is(err, ledger.ErrReadOnly) {
		t.Errorf("seal off: %v, want ErrReadOnly", err)
	}
}
