package bench

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/demo"
)

// most is what planning and purging may take of memory, however many items
// there are.
const most = 128 << 20

const letters = `version: 1
ledger: sqlite:ledger.db
stores:
  app: {rows: "sqlite:%s"}
rules:
  letters:
    retain: 14d
    rows: app.letters
    anchor: {column: sent_at, zone: UTC}
limits: {items: 100000000, share: 100%%}
`

// TestMemoryStaysFlat plans and purges a million items within the bound that
// holds for ten million: see BenchmarkMemory.
func TestMemoryStaysFlat(t *testing.T) {
	peak, _ := purgeLetters(t, 1_000_000)
	if peak > most {
		t.Errorf("peak = %d MB, want at most %d", peak>>20, most>>20)
	}
}

// TestMemoryOfRecords purges recorder data on SQLite, in batches that each touch
// pages all over the database, within the same bound.
func TestMemoryOfRecords(t *testing.T) {
	for _, o := range []order{inOrder, strewn} {
		for _, mode := range []string{"WAL", "DELETE"} {
			t.Run(strings.ReplaceAll(o.String(), " ", "-")+"-"+mode, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "app.db")
				db := connect(t, "sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=journal_mode("+mode+")&_pragma=synchronous(OFF)&_txlock=immediate")
				s := generateSome(t, db, demo.SQLite, o, 20_000)
				must(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")
				r := purgeRows(t, db, "sqlite:"+path, s)
				t.Logf("%d records: %d MB, %v (cpu %v)", s.Due, r.peak>>20, r.took, r.cpu)
				if r.peak > most {
					t.Errorf("peak = %d MB, want at most %d", r.peak>>20, most>>20)
				}
			})
		}
	}
}

// BenchmarkMemory says how much memory ten million items take, as rows.
func BenchmarkMemory(b *testing.B) {
	for range b.N {
		n := number("BENCH_ITEMS", 10_000_000)
		peak, took := purgeLetters(b, n)
		b.ReportMetric(float64(peak)/(1<<20), "MB")
		b.ReportMetric(0, "ns/op")
		figures.put(fmt.Sprintf("%d rows planned and purged", n), fmt.Sprintf("%d MB", peak>>20), fmt.Sprintf("in %.0f s; the bound is %d MB", took.Seconds(), most>>20))
	}
}

// purgeLetters purges n rows of n and a few more, and returns the most memory
// that the program held.
func purgeLetters(t testing.TB, n int) (int64, time.Duration) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	db := connect(t, "sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	must(t, db, "CREATE TABLE letters (id INTEGER PRIMARY KEY, sent_at TEXT NOT NULL, body TEXT NOT NULL)")
	for _, part := range []struct {
		age  int // days
		from int
		rows int
	}{{30, 1, n}, {1, n + 1, 100}} {
		at := time.Now().UTC().AddDate(0, 0, -part.age).Format("2006-01-02 15:04:05")
		must(t, db, fmt.Sprintf(`WITH RECURSIVE i(x) AS (SELECT %d UNION ALL SELECT x + 1 FROM i WHERE x < %d)
			INSERT INTO letters SELECT x, '%s', 'Dear ' || x FROM i`, part.from, part.from+part.rows-1, at))
	}
	must(t, db, "CREATE INDEX letters_sent ON letters (sent_at)")
	must(t, db, "ANALYZE")
	must(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")

	write(t, filepath.Join(dir, "epitaph.yaml"), fmt.Sprintf(letters, path))
	r := epitaph(t, dir, nil, "purge", "--yes", "--quiet")
	var rows int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM letters").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if rows != 100 {
		t.Fatalf("%d rows left, want the 100 that are young\n%s", rows, r.out)
	}
	t.Logf("%d rows: %d MB, %v (cpu %v)", n, r.peak>>20, r.took, r.cpu)
	return r.peak, r.took
}
