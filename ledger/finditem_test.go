package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/report"
)

// fillArchive writes batches of files among heartbeats, and some that have no
// outcome, or whose names were destroyed.
func fillArchive(t *testing.T, l *ledger.Ledger, batches int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range batches {
		var es []ledger.Entry
		for range rng.IntN(40) {
			es = append(es, ledger.Entry{Kind: ledger.Heartbeat, At: day, Rule: "a"})
		}
		e := ledger.Entry{Kind: ledger.Intent, At: day, Rule: []string{"a", "b"}[i%2], Store: "disk"}
		for j := range 1 + rng.IntN(3) {
			e.Items = append(e.Items, ledger.Item{Locator: fmt.Sprintf("dir%d/file-%d.%s", i%7, i*10+j, []string{"wav", "txt"}[j%2]),
				Parts: []ledger.Part{{Store: "disk", Locator: fmt.Sprintf("parts/%d[x].bin", i)}}})
		}
		mustAppend(t, l, append(es, ledger.Entry{Kind: ledger.Heartbeat, At: day})...)
		n := mustAppend(t, l, e)
		if i%9 != 0 {
			mustAppend(t, l, anOutcome(n, len(e.Items)))
		}
		if i%5 == 0 {
			mustAppend(t, l, anOperation("anna", "x", "alpha"))
		}
	}
	for _, item := range []string{"dir1/file-10.wav", "dir3/file-30.wav"} {
		if _, err := l.SealOff(t.Context(), ledger.Selection{Item: item}, false); err != nil {
			t.Fatal(err)
		}
	}
}

// A glob finds, by skipping what cannot be meant, exactly what a look at every
// entry finds.
func TestGlobsAgreeWithReadingEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		fillArchive(t, l, 60)
		top, _, err := l.Newest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(9, 10))
		found := 0
		for i, glob := range []string{"*", "*.wav", "dir1/*", "*file-1*", "dir[1-3]/file-?0.wav", "parts/4\\[x\\].bin", "*[x].bin", "*\\]*", "none*", "a.wav", "?.wav", "dir1/file-10.wav", "*/file-[^1]*"} {
			for k := range 8 {
				o := report.Options{File: glob, Filter: ledger.Filter{Newest: k%2 == 0}}
				if rng.IntN(3) == 0 {
					o.Filter.Rule = "a"
				}
				if rng.IntN(3) == 0 {
					o.Filter.After = rng.Int64N(top)
				}
				if rng.IntN(3) == 0 {
					o.Filter.Before = rng.Int64N(top)
				}
				if rng.IntN(3) == 0 {
					o.Filter.Limit = 1 + rng.IntN(5)
				}
				if rng.IntN(4) == 0 {
					o.Filter.Kinds = []ledger.Kind{ledger.Outcome}
				}
				if (i+k)%5 == 0 {
					o.Actor = "anna"
				}
				want := numbersOf(t, blind{l}, o)
				if diff := cmp.Diff(want, numbersOf(t, l, o)); diff != "" {
					t.Fatalf("%+v: %s", o, diff)
				}
				found += len(want)
			}
		}
		if found < 100 {
			t.Errorf("%d entries found in all", found)
		}
	})
}

// What cannot name an item, and a batch in which the text does not occur, are not
// looked into.
func TestHoldsSkips(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		fillArchive(t, l, 60)
		items := collect(t, l, ledger.Filter{Items: true})
		if len(items) == 0 || len(items) > 200 {
			t.Errorf("%d entries with items", len(items))
		}
		held := collect(t, l, ledger.Filter{Items: true, Holds: "file-590."})
		if len(held) != 2 || held[0].Kind != ledger.Intent || held[1].Refers != held[0].Number {
			t.Errorf("%d entries hold the text, want an intent and its outcome: %v", len(held), held)
		}
	})
}

// The spans of blocks pass over nothing that is meant, also where times go back.
func TestTimesAgreeWithReadingEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		rng := rand.New(rand.NewPCG(11, 12))
		at := day
		var es []ledger.Entry
		for i := range 3000 {
			at = at.Add(time.Duration(rng.IntN(100)-30) * time.Microsecond * 700)
			es = append(es, ledger.Entry{Kind: ledger.Heartbeat, Rule: []string{"a", "b", "c"}[i%3], At: at})
		}
		mustAppend(t, l, es...)
		found := 0
		for i := range 150 {
			f := ledger.Filter{Newest: i%2 == 0}
			if i%3 > 0 {
				f.Since = day.Add(time.Duration(rng.Int64N(int64(1 + at.Sub(day)))))
			}
			if i%3 < 2 {
				f.Until = day.Add(time.Duration(rng.Int64N(int64(1 + at.Sub(day)))))
			}
			if i%5 == 0 {
				f.Rule = "a"
			}
			if i%7 == 0 {
				f.After, f.Before = rng.Int64N(3000), rng.Int64N(3000)
			}
			var want []int64
			for k, e := range es {
				n := int64(k + 1)
				e.At = e.At.UTC().Truncate(time.Microsecond)
				if (f.Since.IsZero() || !e.At.Before(f.Since)) && (f.Until.IsZero() || e.At.Before(f.Until)) && (f.Rule == "" || f.Rule == e.Rule) &&
					n > f.After && (f.Before == 0 || n < f.Before) {
					want = append(want, n)
				}
			}
			if f.Newest {
				slices.Reverse(want)
			}
			var got []int64
			for _, e := range collect(t, l, f) {
				got = append(got, e.Number)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%+v: %s", f, diff)
			}
			found += len(want)
		}
		if found < 1000 {
			t.Errorf("%d entries found in all", found)
		}
	})
}
