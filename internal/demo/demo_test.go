package demo_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/epitaph/epitaph/internal/demo"
	"github.com/epitaph/epitaph/internal/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func number(t *testing.T, db *sql.DB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// The summary is checked against the database and the directory themselves.
func TestSummaryIsWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{demo.SQLite, demo.Postgres} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			db := open(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "app.db")+"?_pragma=foreign_keys(1)")
			due := "SELECT count(*) FROM transcripts WHERE created_at < '2026-11-06 12:00:00'"
			if dialect == demo.Postgres {
				db = open(t, "pgx", testserver.Postgres(t))
			}
			o := demo.Options{DB: db, Dialect: dialect, Dir: dir, Files: true, Records: 300, Seed: 7, Now: now, Missing: 3}
			for round := 1; round <= 2; round++ { // the second adds to the first
				s, err := demo.Generate(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				bins, _ := filepath.Glob(filepath.Join(dir, "files", "*.bin"))
				zips, _ := filepath.Glob(filepath.Join(dir, "export-*.zip"))
				for _, c := range []struct {
					what      string
					got, want int
				}{
					{"records", number(t, db, "SELECT count(*) FROM transcripts"), round * s.Records},
					{"due", number(t, db, due), round * s.Due},
					{"due share", s.Due, 180},
					{"children", number(t, db, "SELECT (SELECT count(*) FROM transcript_segments) + (SELECT count(*) FROM transcript_audit_events) + (SELECT count(*) FROM audio_assets)"), round * s.Children},
					{"children of one", s.Children, 9 * 300},
					{"blobs", len(bins), round * s.Blobs},
					{"exports", len(zips), round * s.Exports},
					{"missing", s.Missing, 3},
					{"audio rows", number(t, db, "SELECT count(*) FROM audio_assets"), round * (s.Blobs + s.Missing)},
					{"shared", number(t, db, "SELECT count(*) FROM audio_assets a JOIN project_files f ON f.sha256 = a.sha256 JOIN transcripts t ON t.id = a.transcript_id WHERE t.created_at < '2026-11-06 12:00:00'"), round * s.Shared},
				} {
					if c.got != c.want {
						t.Errorf("round %d: %s: got %d, want %d", round, c.what, c.got, c.want)
					}
				}
				old := 0
				for _, z := range zips {
					fi, err := os.Stat(z)
					if err != nil {
						t.Fatal(err)
					}
					if fi.ModTime().Before(now.AddDate(0, 0, -14)) {
						old++
					}
				}
				if old != round*s.DueExports {
					t.Errorf("round %d: got %d old exports, want %d", round, old, round*s.DueExports)
				}
			}
		})
	}
}

func TestSameSeedSameData(t *testing.T) {
	t.Parallel()
	read := func(seed uint64) (text string) {
		db := open(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "app.db"))
		if _, err := demo.Generate(t.Context(), demo.Options{DB: db, Dialect: demo.SQLite, Records: 50, Seed: seed, Now: now}); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRow(`SELECT group_concat(x, '|') FROM (SELECT t.title || t.created_at || s.text AS x
			FROM transcripts t JOIN transcript_segments s ON s.transcript_id = t.id ORDER BY s.id)`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	one, again, other := read(1), read(1), read(2)
	if one != again {
		t.Error("the same seed gave other data")
	}
	if one == other {
		t.Error("another seed gave the same data")
	}
}

func TestInOrderAgesFallWithTheIDs(t *testing.T) {
	t.Parallel()
	db := open(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "app.db"))
	s, err := demo.Generate(t.Context(), demo.Options{DB: db, Dialect: demo.SQLite, Records: 100, Seed: 3, Now: now, InOrder: true})
	if err != nil {
		t.Fatal(err)
	}
	if s.Due != 60 {
		t.Errorf("due: got %d, want 60", s.Due)
	}
	if got := number(t, db, "SELECT count(*) FROM transcripts WHERE created_at < '2026-11-05 12:00:01'"); got != 60 {
		t.Errorf("records older than fifteen days: got %d, want 60", got)
	}
	if got := number(t, db, "SELECT count(*) FROM transcripts a JOIN transcripts b ON b.id = a.id + 1 WHERE b.created_at < a.created_at"); got != 0 {
		t.Errorf("%d records are older than the one before", got)
	}
}
