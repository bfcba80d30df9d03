package ledger_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// onBoth runs a test on a new ledger of each database.
func onBoth(t *testing.T, f func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, "sqlite:"+filepath.Join(t.TempDir(), "ledger.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, testserver.Postgres(t))
	})
}

func open(t testing.TB, dsn string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), dsn, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func mustAppend(t testing.TB, l *ledger.Ledger, es ...ledger.Entry) int64 {
	t.Helper()
	n, err := l.Append(context.Background(), es...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func collect(t testing.TB, l *ledger.Ledger, f ledger.Filter) []ledger.Entry {
	t.Helper()
	var es []ledger.Entry
	for e, err := range l.Entries(context.Background(), f) {
		if err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

var day = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

func anIntent(items int) ledger.Entry {
	e := ledger.Entry{
		At: day, Kind: ledger.Intent, Run: "r1", Rule: "transcripts", Store: "app",
		Facts:   []ledger.Fact{ledger.Int("b", -5), ledger.Code("a", "v1.0+x=/@:_-"), ledger.Hash("h", [32]byte{1, 255}), ledger.Instant("cutoff", day)},
		Secrets: []ledger.Secret{{Name: "who", Text: "Grete\nMüller"}, {Name: "reason", Text: ""}},
	}
	for i := range items {
		e.Items = append(e.Items, ledger.Item{
			ID: fmt.Sprint(i), Locator: fmt.Sprintf("id=%d", i), Print: "p", Anchor: day.AddDate(0, 0, -i), Bytes: int64(i),
			Values: [][][]string{{{"a", "b"}, {"c"}}, nil},
			Parts:  []ledger.Part{{Store: "disk", Locator: fmt.Sprintf("files/%04d.bin", i), Print: "1:2:3", Bytes: 1 << 40, Gone: i == 4}},
		})
	}
	return e
}

func anOutcome(intent int64, items int) ledger.Entry {
	e := ledger.Entry{At: day, Kind: ledger.Outcome, Run: "r1", Rule: "transcripts", Store: "app", Refers: intent}
	for i := range items {
		r := ledger.Result{State: ledger.Gone, Reason: "GONE", Parts: []ledger.PartResult{{State: ledger.Gone, Reason: "GONE"}}}
		if i%7 == 3 {
			r = ledger.Result{State: ledger.Present, Reason: "CHANGED"}
		}
		e.Results = append(e.Results, r)
	}
	return e
}

func TestAppendAndReadBack(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		want := []ledger.Entry{
			{At: day, Kind: ledger.RunStarted, Run: "r1"},
			anIntent(9),
			anIntent(1),
			anOutcome(2, 9),
		}
		first := mustAppend(t, l, want[:3]...)
		if first != 1 {
			t.Fatalf("first number %d, want 1", first)
		}
		var open []int64
		for e, err := range l.OpenIntents(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Items) == 0 {
				t.Errorf("open intent %d came without its items", e.Number)
			}
			open = append(open, e.Number)
		}
		if !cmp.Equal(open, []int64{2, 3}) {
			t.Errorf("open intents %v, want [2 3]", open)
		}
		mustAppend(t, l, want[3])
		got := collect(t, l, ledger.Filter{Unseal: true})
		for i := range want {
			want[i].Number = int64(i + 1)
			want[i].Count = len(want[i].Items) + len(want[i].Results)
		}
		sorted := func(e ledger.Entry) ledger.Entry { // as the encoding has them
			if len(e.Facts) > 1 {
				e.Facts = []ledger.Fact{e.Facts[1], e.Facts[0], e.Facts[3], e.Facts[2]}
			}
			if len(e.Secrets) > 1 {
				e.Secrets = []ledger.Secret{e.Secrets[1], e.Secrets[0]}
			}
			return e
		}
		for i := range want {
			want[i] = sorted(want[i])
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(ledger.Fact{})); d != "" {
			t.Error(d)
		}
		if n, at, err := l.Newest(t.Context()); n != 4 || !at.Equal(day) || err != nil {
			t.Errorf("Newest = %d, %v, %v", n, at, err)
		}
	})
}

func rawPostgres(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
