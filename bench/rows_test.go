package bench

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"

	"github.com/epitaph/epitaph/internal/demo"
	"github.com/epitaph/epitaph/internal/testserver"
)

// The parts are looked up for each record and looked for on the disk; what is
// measured against raw SQL has no files there, as raw SQL deletes none.
const rowsPolicy = `version: 1
ledger: sqlite:%s
stores:
  app:  {rows: "%s"}
  disk: {files: %s}
rules:
  records:
    retain: 14d
    rows: app.transcripts
    anchor: {column: created_at, zone: UTC}
    parts:
      - files: "disk:files/{audio_assets.sha256}.bin"
        referenced_by: [app.project_files.sha256]
limits: {items: 20000000, share: 100%%, missing: 100%%}
`

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// settle writes out what making the data left behind, so that no contender
// pays for it.
func settle() { unix.Sync() }

// due is the number of due records, ten rows each.
func due() int { return number("BENCH_RECORDS", 116_000) }

// order says how the ages of the records stand to their ids.
type order bool

// The orders. Strewn is the worse for every contender: each batch touches pages
// all over the tables and indexes.
const (
	inOrder order = true // as inserted: the application's own
	strewn  order = false
)

func (o order) String() string {
	if o == inOrder {
		return "ids in order of age"
	}
	return "ages strewn over the ids"
}

func generate(b testing.TB, db *sql.DB, dialect string, o order) demo.Summary {
	b.Helper()
	return generateSome(b, db, dialect, o, due())
}

// generateSome makes recorder data of which about n records are due.
func generateSome(b testing.TB, db *sql.DB, dialect string, o order, n int) demo.Summary {
	b.Helper()
	s, err := demo.Generate(b.Context(), demo.Options{DB: db, Dialect: dialect, Records: (n*10 + 5) / 6, Seed: 1,
		Now: time.Now(), InOrder: bool(o)})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// purgeRows runs the program on a copy and looks at what is left.
func purgeRows(b testing.TB, db *sql.DB, dsn string, s demo.Summary) run {
	b.Helper()
	dir := b.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "data", "files"), 0o700); err != nil {
		b.Fatal(err)
	}
	write(b, filepath.Join(dir, "epitaph.yaml"), fmt.Sprintf(rowsPolicy, filepath.Join(dir, "ledger.db"), dsn, filepath.Join(dir, "data")))
	r := epitaph(b, dir, nil, "purge", "--yes", "--quiet")
	if got := line(b, r.out, "Purged records"); got != s.Due {
		b.Fatalf("purged %d records, want %d\n%s", got, s.Due, r.out)
	}
	left(b, db, s)
	return r
}

// left checks that what was due is gone and nothing else.
func left(b testing.TB, db *sql.DB, s demo.Summary) {
	b.Helper()
	var records, segments int
	if err := db.QueryRowContext(b.Context(), "SELECT (SELECT count(*) FROM transcripts), (SELECT count(*) FROM transcript_segments s WHERE NOT EXISTS (SELECT 1 FROM transcripts t WHERE t.id = s.transcript_id))").
		Scan(&records, &segments); err != nil {
		b.Fatal(err)
	}
	if records != s.Records-s.Due || segments != 0 {
		b.Fatalf("%d records and %d segments without one left, want %d and 0", records, segments, s.Records-s.Due)
	}
}

func cutoff() string { return time.Now().UTC().AddDate(0, 0, -14).Format("2006-01-02 15:04:05") }

func timed(b testing.TB, f func() error) time.Duration {
	b.Helper()
	start := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// BenchmarkPostgres purges recorder data beside one cascading DELETE of the
// same, and beside a loop that deletes record by record as the recorder did.
func BenchmarkPostgres(b *testing.B) {
	for _, o := range []order{inOrder, strewn} {
		b.Run(strings.ReplaceAll(o.String(), " ", "-"), func(b *testing.B) {
			for range b.N {
				postgres(b, o)
			}
		})
	}
}

func postgres(b *testing.B, o order) {
	template := testserver.PostgresDurable(b)
	source := connect(b, "pgx", template)
	s := generate(b, source, demo.Postgres, o)
	must(b, source, "VACUUM (FREEZE, ANALYZE)")
	var settings [3]string
	if err := source.QueryRowContext(b.Context(), "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('server_version')").
		Scan(&settings[0], &settings[1], &settings[2]); err != nil {
		b.Fatal(err)
	}
	source.Close() // a template may have no connections
	name, other := databases(b, template)
	admin := connect(b, "pgx", other)
	copied := func(f func(db *sql.DB, dsn string) time.Duration) time.Duration {
		must(b, admin, "CREATE DATABASE bench_copy TEMPLATE "+name)
		must(b, admin, "CHECKPOINT")
		dsn := strings.Replace(template, "/"+name, "/bench_copy", 1)
		db := connect(b, "pgx", dsn)
		took := f(db, dsn)
		db.Close()
		must(b, admin, "DROP DATABASE bench_copy WITH (FORCE)")
		return took
	}
	var us, raw, loop, orm []time.Duration
	var r run
	const few = 2000
	scaled := func(each func(context.Context, *sql.DB, int) error) time.Duration {
		return copied(func(db *sql.DB, _ string) time.Duration {
			return timed(b, func() error { return each(b.Context(), db, few) }) * time.Duration(s.Due) / few
		})
	}
	for i := range rounds() {
		raw = append(raw, copied(func(db *sql.DB, _ string) time.Duration {
			took := timed(b, func() error {
				return exec1(b, db, "DELETE FROM transcripts WHERE created_at < $1::timestamp", cutoff())
			})
			left(b, db, s)
			return took
		}))
		us = append(us, copied(func(db *sql.DB, dsn string) time.Duration {
			r = purgeRows(b, db, dsn, s)
			return r.took
		}))
		loop, orm = append(loop, scaled(oneByOne)), append(orm, scaled(asTheRecorder))
		b.Logf("round %d: raw DELETE %v, epitaph %v (cpu %v, %d MB), loop %v, as the recorder %v (both scaled from %d)",
			i+1, raw[i], us[i], r.cpu, r.peak>>20, loop[i], orm[i], few)
	}
	durable := fmt.Sprintf("PostgreSQL %s, fsync=%s, synchronous_commit=%s; ledger flushed", settings[2], settings[0], settings[1])
	what := fmt.Sprintf("%d due records, %d rows, PostgreSQL, %s", s.Due, s.Due*10, o)
	figures.add(b, what, "a loop as the recorder's ORM does it", median(us), median(orm), fmt.Sprintf("the loop ran on %d records and is scaled", few))
	figures.add(b, what, "a loop of one `DELETE` for each record", median(us), median(loop), "scaled too")
	figures.add(b, what, "one cascading `DELETE`", median(us), median(raw), durable)
}

// oneByOne deletes record by record, one transaction each: the least that a
// loop can do.
func oneByOne(ctx context.Context, db *sql.DB, n int) error {
	ids, err := some(ctx, db, n)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := values(ctx, db, "SELECT sha256 FROM audio_assets WHERE transcript_id = $1", id); err != nil {
			return err
		}
		if _, err := db.ExecContext(ctx, "DELETE FROM transcripts WHERE id = $1", id); err != nil {
			return err
		}
	}
	return nil
}

// children of a transcript that an object-relational mapper loads and deletes
// itself.
var children = []string{"transcript_segments", "transcript_audit_events", "audio_assets"}

// asTheRecorder deletes as the recorder's purge does: its object-relational
// mapper loads the record and its children, deletes each child by its key,
// deletes the record, and commits.
func asTheRecorder(ctx context.Context, db *sql.DB, n int) error {
	ids, err := some(ctx, db, n)
	if err != nil {
		return err
	}
	for _, id := range ids {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for _, table := range children {
			keys, err := values(ctx, tx, "SELECT * FROM "+table+" WHERE transcript_id = $1", id)
			if err != nil {
				return err
			}
			for _, key := range keys {
				if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE id = $1", key); err != nil {
					return err
				}
			}
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM transcripts WHERE id = $1", id); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func some(ctx context.Context, db *sql.DB, n int) ([]any, error) {
	return values(ctx, db, "SELECT id FROM transcripts WHERE created_at < $1 ORDER BY id LIMIT $2", cutoff(), n)
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// values reads all rows and returns their first column.
func values(ctx context.Context, q querier, text string, args ...any) (first []any, err error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	row, at := make([]any, len(columns)), make([]any, len(columns))
	for i := range row {
		at[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(at...); err != nil {
			return nil, err
		}
		first = append(first, row[0])
	}
	return first, rows.Err()
}

// databases returns the names of the database and a DSN of another one on the
// same server.
func databases(b testing.TB, dsn string) (name, other string) {
	b.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		b.Fatal(err)
	}
	name = strings.TrimPrefix(u.Path, "/")
	return name, strings.Replace(dsn, "/"+name, "/postgres", 1)
}

func connect(b testing.TB, driver, dsn string) *sql.DB {
	b.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db
}

func must(b testing.TB, db *sql.DB, text string) {
	b.Helper()
	if err := exec1(b, db, text); err != nil {
		b.Fatalf("%s: %v", text, err)
	}
}

func exec1(b testing.TB, db *sql.DB, text string, args ...any) error {
	_, err := db.ExecContext(b.Context(), text, args...)
	return err
}

// BenchmarkSQLite is the same on SQLite, whose raw DELETE runs through the same
// driver with the settings that Epitaph uses: foreign keys, WAL, full
// synchronisation, secure_delete, and the WAL emptied at the end.
func BenchmarkSQLite(b *testing.B) {
	for _, o := range []order{inOrder, strewn} {
		b.Run(strings.ReplaceAll(o.String(), " ", "-"), func(b *testing.B) {
			for range b.N {
				sqlite(b, o)
			}
		})
	}
}

const sqliteSettings = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)" +
	"&_pragma=secure_delete(1)&_txlock=immediate"

func sqlite(b *testing.B, o order) {
	dir := b.TempDir()
	template := filepath.Join(dir, "template.db")
	source := connect(b, "sqlite", "file:"+template+sqliteSettings)
	s := generate(b, source, demo.SQLite, o)
	must(b, source, "PRAGMA wal_checkpoint(TRUNCATE)")
	source.Close()
	copied := func(f func(db *sql.DB, path string) time.Duration) time.Duration {
		path := filepath.Join(dir, "copy.db")
		raw, err := os.ReadFile(template)
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			b.Fatal(err)
		}
		settle()
		db := connect(b, "sqlite", "file:"+path+sqliteSettings)
		took := f(db, path)
		db.Close()
		for _, suffix := range []string{"", "-wal", "-shm"} {
			os.Remove(path + suffix)
		}
		return took
	}
	var us, raw []time.Duration
	var r run
	var rawCPU time.Duration // what counts when the machine is not idle
	for i := range rounds() {
		raw = append(raw, copied(func(db *sql.DB, _ string) time.Duration {
			before := processorTime()
			took := timed(b, func() error {
				if err := exec1(b, db, "DELETE FROM transcripts WHERE created_at < ?", cutoff()); err != nil {
					return err
				}
				return exec1(b, db, "PRAGMA wal_checkpoint(TRUNCATE)")
			})
			rawCPU = processorTime() - before
			left(b, db, s)
			return took
		}))
		us = append(us, copied(func(db *sql.DB, path string) time.Duration {
			r = purgeRows(b, db, "sqlite:"+path, s)
			return r.took
		}))
		b.Logf("round %d: raw DELETE %v (cpu %v), epitaph %v (cpu %v, %d MB)", i+1, raw[i], rawCPU, us[i], r.cpu, r.peak>>20)
	}
	figures.add(b, fmt.Sprintf("%d due records, %d rows, SQLite, %s", s.Due, s.Due*10, o), "one cascading `DELETE`", median(us), median(raw),
		"both: WAL, synchronous=FULL, secure_delete, WAL emptied; ledger flushed")
}
