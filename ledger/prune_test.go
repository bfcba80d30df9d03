package ledger_test

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

// fillYears writes a run that is over, n heartbeats a second apart of runs that
// are nobody's, and a run with an intent that is open.
func fillYears(t testing.TB, l *ledger.Ledger, n int) {
	t.Helper()
	mustAppend(t, l, ledger.Entry{Kind: ledger.RunStarted, Run: "r1", At: day})
	intent := mustAppend(t, l, anIntent(5))
	mustAppend(t, l, anOutcome(intent, 5))
	es := make([]ledger.Entry, n)
	for i := range es {
		es[i] = ledger.Entry{Kind: ledger.Heartbeat, Rule: fmt.Sprintf("rule%d", i%3), At: day.Add(time.Duration(i) * time.Second)}
	}
	mustAppend(t, l, es...)
	open := anIntent(3)
	open.Run = "r2"
	mustAppend(t, l, open)
}

func TestPrune(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		k := newKeys(t, l)
		pin := ledger.FilePin(filepath.Join(t.TempDir(), "pin"))
		fillYears(t, l, 1000)
		early := checkpoint(t, l, signing(k, pin))
		receipt, err := l.ProveEntry(t.Context(), 900)
		if err != nil {
			t.Fatal(err)
		}
		p, err := l.Prune(t.Context(), ledger.Pruning{Before: day.Add(600 * time.Second)})
		if err != nil || p != (ledger.PruneReport{Entries: 512}) {
			t.Fatalf("pruned %+v, %v; want 512", p, err)
		}
		checkpoint(t, l, signing(k, pin))
		r := verify(t, l, ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{pin}, Notes: [][]byte{early.Note}})
		wantGood(t, r)
		if r.Minimum != 512 || r.Checkpoints != 2 {
			t.Errorf("report after pruning: %+v", r)
		}
		check(t, receipt, k.Trust())
		for _, n := range []int64{513, 900, 1004} {
			p, err := l.ProveEntry(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			check(t, p, k.Trust())
		}
		if _, err := l.ProveEntry(t.Context(), 512); err == nil {
			t.Error("a pruned entry was proven")
		}
		if es := collect(t, l, ledger.Filter{Limit: 1}); len(es) != 1 || es[0].Number != 513 {
			t.Errorf("first entry after pruning: %v", es)
		}
	})
}

// An entry that is still in effect stays, and all after it, however old they are;
// so does one that was in effect until lately. Seen to fail with nothing found to
// be in effect.
func TestPruneStopsAtWhatIsInEffect(t *testing.T) {
	const old, young = 1024, 300
	at := func(e ledger.Entry, days int) ledger.Entry {
		e.At = day.AddDate(0, 0, days)
		return e
	}
	started := func(run string) ledger.Entry { return ledger.Entry{Kind: ledger.RunStarted, Run: run} }
	of := func(e ledger.Entry, run string) ledger.Entry { e.Run = run; return e }
	for name, c := range map[string]struct {
		// early stands at entry 601 on, among entries that are old, and late after
		// the young ones: intent is the number of the first intent of early.
		early   []ledger.Entry
		late    func(intent int64) []ledger.Entry
		tracked int64
		want    ledger.PruneReport
	}{
		"nothing":                {want: ledger.PruneReport{Entries: old}},
		"an open intent":         {early: []ledger.Entry{of(anIntent(2), "a")}, want: ledger.PruneReport{Entries: 512, Held: 601, By: ledger.ByIntent}},
		"the run of an open one": {early: []ledger.Entry{started("a"), of(anIntent(2), "a")}, want: ledger.PruneReport{Entries: 512, Held: 601, By: ledger.ByIntent}},
		"an intent answered lately": {early: []ledger.Entry{of(anIntent(2), "a")},
			late: func(intent int64) []ledger.Entry { return []ledger.Entry{of(anOutcome(intent, 2), "b")} },
			want: ledger.PruneReport{Entries: 512, Held: 601, By: ledger.ByIntent}},
		"an intent answered long ago": {early: []ledger.Entry{of(anIntent(2), "a"), of(at(anOutcome(601, 2), 1), "b")}, want: ledger.PruneReport{Entries: old}},
		"a run that goes on": {early: []ledger.Entry{started("a")},
			late: func(int64) []ledger.Entry { return []ledger.Entry{{Kind: ledger.RunFinished, Run: "a", Refers: 601}} },
			want: ledger.PruneReport{Entries: 512, Held: 601, By: ledger.ByRun}},
		"a run that is over":       {early: []ledger.Entry{started("a"), {Kind: ledger.RunFinished, Run: "a", Refers: 601}}, want: ledger.PruneReport{Entries: old}},
		"the key that signs":       {early: []ledger.Entry{{Kind: ledger.KeyRotated}}, want: ledger.PruneReport{Entries: old}}, // it is said again
		"a fork":                   {early: []ledger.Entry{{Kind: ledger.Forked}}, want: ledger.PruneReport{Entries: old}},
		"a key that says too much": {early: []ledger.Entry{{Kind: ledger.KeyRotated, Facts: ints(30)}}, want: ledger.PruneReport{Entries: 512, Held: 601, By: ledger.ByKey}},
		"a key before the last":    {early: []ledger.Entry{{Kind: ledger.KeyRotated, Facts: ints(30)}, {Kind: ledger.KeyRotated}}, want: ledger.PruneReport{Entries: old}},
		"a fork with a time":       {early: []ledger.Entry{{Kind: ledger.Forked, Facts: []ledger.Fact{ledger.Int("at", 1)}}}, want: ledger.PruneReport{Entries: 512, Held: 601, By: ledger.ByFork}},
		"a name without room":      {early: []ledger.Entry{{Kind: ledger.Forked, Secrets: []ledger.Secret{{Name: strings.Repeat("n", 125)}}}}, want: ledger.PruneReport{Entries: 512, Held: 601, By: ledger.ByFork}},
		"too many forks":           {early: slices.Repeat([]ledger.Entry{{Kind: ledger.Forked, Facts: ints(64)}}, 5), want: ledger.PruneReport{Entries: 512, Held: 605, By: ledger.ByFork}},
		"a tracked file":           {tracked: 700, want: ledger.PruneReport{Entries: 512, Held: 700, By: ledger.ByFile}},
		"one that is young":        {tracked: old + 1, want: ledger.PruneReport{Entries: old}},
		"the oldest of several":    {early: []ledger.Entry{of(anIntent(2), "a")}, tracked: 300, want: ledger.PruneReport{Entries: 256, Held: 300, By: ledger.ByFile}},
		"in the first block":       {tracked: 1, want: ledger.PruneReport{Held: 1, By: ledger.ByFile}},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
			beats := func(n, days int) []ledger.Entry {
				es := make([]ledger.Entry, n)
				for i := range es {
					es[i] = at(ledger.Entry{Kind: ledger.Heartbeat, Rule: "r"}, days)
				}
				return es
			}
			mustAppend(t, l, beats(600, 0)...)
			var intent int64
			for _, e := range c.early {
				if e.At.IsZero() {
					e = at(e, 0)
				}
				if n := mustAppend(t, l, e); intent == 0 {
					intent = n
				}
			}
			mustAppend(t, l, beats(old-600-len(c.early), 0)...)
			mustAppend(t, l, beats(young, 100)...)
			if c.late != nil {
				for _, e := range c.late(intent) {
					mustAppend(t, l, at(e, 101))
				}
			}
			p := ledger.Pruning{Before: day.AddDate(0, 0, 50), Tracked: c.tracked, Dry: true}
			size := len(collect(t, l, ledger.Filter{}))
			if r, err := l.Prune(t.Context(), p); err != nil || r != c.want {
				t.Errorf("dry: %+v, %v; want %+v", r, err, c.want)
			}
			if n := len(collect(t, l, ledger.Filter{})); n != size {
				t.Fatalf("a dry run changed %d entries to %d", size, n)
			}
			p.Dry = false
			if r, err := l.Prune(t.Context(), p); err != nil || r != c.want {
				t.Errorf("%+v, %v; want %+v", r, err, c.want)
			}
			if m, err := l.Minimum(t.Context()); err != nil || m != c.want.Entries {
				t.Errorf("minimum %d, %v; want %d", m, err, c.want.Entries)
			}
			saysPruning(t, l, c.want)
			if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
				t.Errorf("faults: %v", r.Faults)
			}
			if r, err := l.Prune(t.Context(), p); err != nil || r.Entries != 0 || c.want.Held > 0 && r.Held != c.want.Held {
				t.Errorf("again: %+v, %v; want nothing to go", r, err)
			}
		})
	}
}

// ints are facts that take room.
func ints(n int) (fs []ledger.Fact) {
	for i := range n {
		fs = append(fs, ledger.Int(fmt.Sprint("n", i), math.MinInt64))
	}
	return fs
}

// saysPruning checks the entry of a pruning, where there was one.
func saysPruning(t *testing.T, l *ledger.Ledger, want ledger.PruneReport) {
	t.Helper()
	es := collect(t, l, ledger.Filter{Kinds: []ledger.Kind{ledger.Pruned}})
	if want.Entries == 0 {
		if len(es) > 0 {
			t.Errorf("%d entries of a pruning that was none", len(es))
		}
		return
	}
	if len(es) != 1 {
		t.Fatalf("%d entries of one pruning", len(es))
	}
	minimum, _ := es[0].Int("minimum")
	held, _ := es[0].Int("held")
	by, _ := es[0].Code("held_by")
	if minimum != want.Entries || held != want.Held || by != string(want.By) {
		t.Errorf("the entry says minimum %d, held %d by %q; want %+v", minimum, held, by, want)
	}
}

// The marks of a run are asked for in a way that both databases understand.
func TestPruneHoldsOnPostgres(t *testing.T) {
	t.Parallel()
	l := open(t, testserver.Postgres(t))
	beat := ledger.Entry{Kind: ledger.Heartbeat, At: day}
	mustAppend(t, l, beat, ledger.Entry{Kind: ledger.RunStarted, Run: "a", At: day})
	for i := range 600 {
		beat.At = day.AddDate(0, 0, i/300*100)
		mustAppend(t, l, beat)
	}
	p := ledger.Pruning{Before: day.AddDate(0, 0, 50), Dry: true}
	if r, err := l.Prune(t.Context(), p); err != nil || r.Entries != 256 || r.Held != 0 {
		t.Errorf("%+v, %v; want 256", r, err)
	}
	mustAppend(t, l, ledger.Entry{Kind: ledger.RunFinished, Run: "a", At: day.AddDate(0, 0, 100), Refers: 2}) // in the tail
	if r, err := l.Prune(t.Context(), p); err != nil || r.Entries != 0 || r.Held != 2 || r.By != ledger.ByRun {
		t.Errorf("%+v, %v; want it held by the run that entry 2 began", r, err)
	}
	for range 300 { // which is a whole block now
		mustAppend(t, l, beat)
	}
	if r, err := l.Prune(t.Context(), p); err != nil || r.Entries != 0 || r.Held != 2 || r.By != ledger.ByRun {
		t.Errorf("%+v, %v; want it held by the run that entry 2 began", r, err)
	}
}

// A reader keeps the copies in the write-ahead log: that is said, and the next
// pruning removes them though nothing is left to prune. Seen to fail with a
// pruning that ends where nothing is to go.
func TestPruneAgainRemovesCopies(t *testing.T) {
	t.Parallel()
	const needle = "ngaio-marsh-needle"
	path := filepath.Join(t.TempDir(), "l.db")
	l := open(t, "sqlite:"+path)
	e := anIntent(5)
	e.Items[3].Locator = "/data/" + needle
	mustAppend(t, l, anOutcome(mustAppend(t, l, e), 5))
	beats := make([]ledger.Entry, 600)
	for i := range beats {
		beats[i] = ledger.Entry{Kind: ledger.Heartbeat, At: day}
	}
	mustAppend(t, l, beats...)
	reader, err := rawSQLite(t, path).Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reader.QueryRow("SELECT count(*) FROM entries").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(t.Context(), 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	p := ledger.Pruning{Before: day.AddDate(1, 0, 0)}
	if _, err := l.Prune(t.Context(), p); !errors.Is(err, ledger.ErrCopiesLeft) || grep(t, path, needle) == 0 {
		t.Fatalf("with a reader in the way: %v, %d copies; want ErrCopiesLeft", err, grep(t, path, needle))
	}
	if err := errors.Join(reader.Rollback(), l.Wait(t.Context(), time.Minute)); err != nil {
		t.Fatal(err)
	}
	if r, err := l.Prune(t.Context(), p); err != nil || r.Entries != 0 {
		t.Fatalf("again: %+v, %v; want nothing to go", r, err)
	}
	if n := grep(t, path, needle); n > 0 {
		t.Errorf("%d copies are left in the files", n)
	}
}
