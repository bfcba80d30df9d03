package ledger_test

import (
	"compress/gzip"
	"context"
	"database/sql"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/report"
)

// blind reads a ledger without anything that skips entries.
type blind struct{ *ledger.Ledger }

func (b blind) Entries(ctx context.Context, f ledger.Filter) iter.Seq2[ledger.Entry, error] {
	f.Clues, f.Items, f.Holds = nil, false, ""
	return b.Ledger.Entries(ctx, f)
}

func queryInt(t *testing.T, dsn, query string) (n int) {
	t.Helper()
	db := rawDB(t, dsn)
	if !strings.HasPrefix(dsn, "sqlite:") {
		query = strings.ReplaceAll(query, " clues", " epitaph.clues")
	}
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func rawDB(t *testing.T, dsn string) *sql.DB {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		return rawSQLite(t, path)
	}
	return rawPostgres(t, dsn)
}

func anOperation(actor, scope, host string) ledger.Entry {
	return ledger.Entry{Kind: ledger.CustodyOperations, At: day, Items: []ledger.Item{
		{Locator: "a.wav", Values: [][][]string{{{"action", "STORE"}, {"actor", actor}, {"scope", scope}, {"host", host}}}},
		{Locator: "b.wav", Values: [][][]string{{{"actor", "nobody"}}}}}}
}

func starts(run, who, host string) ledger.Entry {
	return ledger.Entry{Kind: ledger.RunStarted, At: day, Run: run, Facts: []ledger.Fact{ledger.Code("host", host)}, Secrets: []ledger.Secret{{Name: "who", Text: who}}}
}

// fillOffice writes entries of several people on several hosts.
func fillOffice(t *testing.T, l *ledger.Ledger, n int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	var es []ledger.Entry
	for i := range n {
		var e ledger.Entry
		switch run := fmt.Sprintf("r%d", i/100); {
		case i%100 == 0:
			e = starts(run, pick("root (sudo by anna)", "joanna", "bert b."), pick("alpha", "beta"))
		case i%37 == 0:
			e = anOperation(pick("anna", "an na", "carla"), pick("tenant 1", "tenant 2"), pick("gamma", "alpha"))
		case i%97 == 0:
			e = ledger.Entry{Kind: ledger.Incident, At: day, Secrets: []ledger.Secret{{Name: "by", Text: pick("anna!", "dora")}}}
		default:
			e = ledger.Entry{Kind: ledger.Heartbeat, At: day, Run: run, Rule: pick("a", "b")}
		}
		es = append(es, e)
	}
	for part := range slices.Chunk(es, 70) {
		mustAppend(t, l, part...)
	}
}

func numbersOf(t *testing.T, r report.Reader, o report.Options) (got []int64) {
	t.Helper()
	for l, err := range report.Trail(t.Context(), r, o) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l.Number)
	}
	return got
}

func askedOffice(top int) (list []report.Options) {
	rng := rand.New(rand.NewPCG(5, 6))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	for i := range 120 {
		o := report.Options{Filter: ledger.Filter{Newest: i%2 == 0}}
		if i%3 != 0 {
			o.Actor = pick("anna", "joanna", "sudo by anna", "b.", "carla", "an na", "none", ".", "dora")
		}
		if i%4 == 0 {
			o.Host = pick("alpha", "gamma", "none")
		}
		if i%5 == 0 || i%12 == 3 {
			o.Scope = pick("tenant 1", "tenant 2", "tenant")
		}
		if rng.IntN(3) == 0 {
			o.Filter.Rule = "a"
		}
		if rng.IntN(4) == 0 {
			o.Filter.Kinds = []ledger.Kind{ledger.RunStarted, ledger.CustodyOperations}
		}
		if rng.IntN(3) == 0 {
			o.Filter.After = int64(rng.IntN(top))
		}
		if rng.IntN(3) == 0 {
			o.Filter.Before = int64(rng.IntN(top))
		}
		if rng.IntN(3) == 0 {
			o.Filter.Limit = 1 + rng.IntN(30)
		}
		list = append(list, o)
	}
	return list
}

// The index of clues gives exactly what a look at every entry gives.
func TestCluesAgreeWithReadingEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		fillOffice(t, l, 1700)
		found := 0
		for _, o := range askedOffice(1700) {
			want := numbersOf(t, blind{l}, o)
			if diff := cmp.Diff(want, numbersOf(t, l, o)); diff != "" {
				t.Fatalf("%+v: %s", o, diff)
			}
			found += len(want)
		}
		if found == 0 {
			t.Error("nothing was asked that is there")
		}
		if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
			t.Errorf("faults: %v", r.Faults)
		}
	})
}

// The index passes over what cannot be meant.
func TestCluesSkip(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		fillLedger(t, l, 3000)
		n := mustAppend(t, l, anOperation("anna", "tenant 1", "alpha"))
		fillLedger(t, l, 1000)
		for _, c := range []ledger.Clue{{Name: "actor", Text: "anna"}, {Name: "scope", Text: "tenant 1"}, {Name: "host", Text: "alpha"}, {Name: "action", Text: "STORE"}} {
			got := collect(t, l, ledger.Filter{Clues: []ledger.Clue{c}})
			if len(got) != 1 || got[0].Number != n {
				t.Errorf("%s: %d entries came through, want entry %d alone", c.Name, len(got), n)
			}
		}
	})
}

// With a text that is sealed off its clues go too, and those of facts stay.
func TestSealOffTakesClues(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		n := mustAppend(t, l, starts("r1", "root (sudo by anna)", "alpha"), anOperation("anna", "tenant 1", "gamma"), anOperation("carla", "tenant 1", "gamma"))
		clues := func(want int) {
			t.Helper()
			if got := queryInt(t, dsn, "SELECT count(*) FROM clues WHERE number < 100"); got != want {
				t.Errorf("%d clues, want %d", got, want)
			}
		}
		clues(1 + 4 + 5 + 5)
		if _, err := l.SealOff(t.Context(), ledger.Selection{Subject: "anna", Keep: nothing}, false); err != nil {
			t.Fatal(err)
		}
		clues(1 + 1 + 5) // the host of the run, and the second item of the operation
		if got := numbersOf(t, l, report.Options{Actor: "anna"}); got != nil {
			t.Errorf("found by what was sealed off: %v", got)
		}
		if diff := cmp.Diff([]int64{n}, numbersOf(t, l, report.Options{Host: "alpha"})); diff != "" {
			t.Error(diff)
		}
		if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
			t.Errorf("faults: %v", r.Faults)
		}
	})
}

// Someone without the secret cannot confirm a guess: two ledgers have no clue of
// the same text in common.
func TestCluesAreKeyed(t *testing.T) {
	seen := map[int]bool{}
	for range 2 {
		dsn := "sqlite:" + filepath.Join(t.TempDir(), "l.db")
		l := open(t, dsn)
		mustAppend(t, l, anOperation("anna", "tenant 1", "gamma"))
		for i := range 5 {
			key := queryInt(t, dsn, fmt.Sprintf("SELECT key FROM clues ORDER BY key LIMIT 1 OFFSET %d", i))
			if seen[key] {
				t.Error("the same clue in two ledgers")
			}
			seen[key] = true
		}
	}
}

// Whoever changes the index hides entries from the trail: verify tells.
func TestVerifyChecksClues(t *testing.T) {
	for name, change := range map[string]string{
		"a clue taken out":           "DELETE FROM clues WHERE key = (SELECT min(key) FROM clues) AND number = (SELECT min(number) FROM clues WHERE key = (SELECT min(key) FROM clues))",
		"a clue put in":              "INSERT INTO clues VALUES (5, 3)",
		"of no entry":                "INSERT INTO clues VALUES (5, 3000)",
		"an entry that had no index": "INSERT INTO clues SELECT 7, 1",
	} {
		dsn := "sqlite:" + filepath.Join(t.TempDir(), "l.db")
		l := open(t, dsn)
		fillOffice(t, l, 600)
		if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
			t.Fatalf("faults before: %v", r.Faults)
		}
		db := rawDB(t, dsn)
		dropTriggers(t, db)
		mustExec(t, db, change)
		if r := verify(t, l, ledger.Verification{}); len(r.Faults) != 1 {
			t.Errorf("%s: faults %v, want one", name, r.Faults)
		}
	}
}

// A ledger of version 1 is read as it is, and is updated by whoever appends;
// what it held before is found as what comes after.
func TestCluesOfAnOldLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l.db")
	packed, err := os.Open("testdata/v1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	old, err := ledger.OpenReadOnly(t.Context(), "sqlite:"+path, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	asked := report.Options{Actor: "x"} // who sealed off
	was := numbersOf(t, old, asked)
	if len(was) != 1 {
		t.Errorf("as it is: %v", was)
	}
	if r := verify(t, old, ledger.Verification{}); len(r.Faults) > 0 {
		t.Errorf("as it is: %v", r.Faults)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	l := open(t, "sqlite:"+path)
	n := mustAppend(t, l, anOperation("x", "y", "z"))
	for range 3 {
		fillOffice(t, l, 100)
	}
	if diff := cmp.Diff(append(was, n), numbersOf(t, l, asked)); diff != "" {
		t.Error(diff)
	}
	if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
		t.Errorf("updated: %v", r.Faults)
	}
	if r := verify(t, l, ledger.Verification{}); r.Size != n+300 {
		t.Errorf("%d entries", r.Size)
	}
}
