package ledger

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // registers "sqlite"
)

//go:embed migrations
var migrations embed.FS

// schemaVersion is that of tables made now. oldestVersion can be read, and be
// appended to by whoever may not change the tables.
const (
	schemaVersion = 3
	oldestVersion = 1
)

// busyTimeout is how long a writer waits for others, in milliseconds.
const busyTimeout = "30000"

type sqlite struct {
	path string
	was  fs.FileInfo // the file as it was opened for writing
}

// ErrReplaced says that the file of the ledger was moved, or replaced by another,
// after it was opened: what is written then is in no ledger that anybody will read.
var ErrReplaced = errors.New("the file of the ledger was moved, or replaced by another")

func newSQLite(path string) (*sqlite, error) {
	path = strings.TrimPrefix(path, "//")
	if path == "" || strings.ContainsRune(path, 0) || strings.HasPrefix(path, ":memory:") {
		return nil, errors.New(`a SQLite ledger needs a file: "sqlite:PATH"`)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return &sqlite{path: path}, nil
}

func (s *sqlite) dsn(query string) string {
	u := url.URL{Scheme: "file", Path: s.path}
	return u.String() + "?_pragma=busy_timeout(" + busyTimeout + ")&" + query
}

func (s *sqlite) open(ctx context.Context, create bool) (write, read *sql.DB, err error) {
	if create {
		if err := s.create(); err != nil {
			return nil, nil, err
		}
		// What is undone within a statement is kept in memory: a temporary file would hold pages with texts.
		write, err = sql.Open("sqlite", s.dsn("_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=secure_delete(ON)&_pragma=temp_store(MEMORY)&_txlock=immediate"))
		if err != nil {
			return nil, nil, err
		}
		write.SetMaxOpenConns(1)
		if err := s.migrate(ctx, write); err != nil {
			return nil, nil, errors.Join(err, write.Close())
		}
		if s.was, err = os.Stat(s.path); err != nil {
			return nil, nil, errors.Join(pathless(err), write.Close())
		}
		read, err = sql.Open("sqlite", s.dsn("_pragma=query_only(1)&_pragma=mmap_size(1073741824)"))
	} else {
		if _, err := os.Stat(s.path); err != nil {
			return nil, nil, pathless(err)
		}
		read, err = sql.Open("sqlite", s.dsn("mode=ro&_pragma=query_only(1)"))
	}
	if err != nil {
		return nil, nil, errors.Join(err, closeDB(write))
	}
	read.SetMaxOpenConns(max(4, runtime.GOMAXPROCS(0)))
	if err := checkVersion(ctx, read); err != nil {
		if isBlank(ctx, read) {
			err = ErrUnmade
		}
		return nil, nil, errors.Join(err, closeDB(write), read.Close())
	}
	return write, read, nil
}

// isBlank reports a database in which there is nothing yet, but for the note of
// which tables were made: what is left when that was cut short.
func isBlank(ctx context.Context, db *sql.DB) bool {
	var n int
	err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'goose%' AND name NOT LIKE 'sqlite%'").Scan(&n)
	return err == nil && n == 0
}

// create makes the file where there is none, so that its mode is right from the
// first byte on; SQLite gives -wal and -shm the mode of the file. One that anybody may
// read, such as a backup that was put back, is closed to all but its owner, where
// that is we: it holds the names of what was purged.
func (s *sqlite) create() error {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return pathless(err)
	}
	defer f.Close()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(s.path + suffix); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
			_ = os.Chmod(s.path+suffix, info.Mode().Perm()&^0o077) // fails where it is another's
		}
	}
	return nil
}

func closeDB(db *sql.DB) error {
	if db == nil {
		return nil
	}
	return db.Close()
}

// pathless takes the path out of an error: it may not reach a log.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s ledger file: %w", pe.Op, pe.Err)
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return fmt.Errorf("%s ledger file: %w", le.Op, le.Err)
	}
	return err
}

func currentVersion(ctx context.Context, db querier) (v int64, err error) {
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&v)
	return v, err
}

func checkVersion(ctx context.Context, db *sql.DB) error {
	v, err := currentVersion(ctx, db)
	if err != nil {
		return fmt.Errorf("this is not a ledger: %w", err)
	}
	if v < oldestVersion || v > schemaVersion {
		return fmt.Errorf("the ledger's tables have version %d; this program knows %d", v, schemaVersion)
	}
	return nil
}

// hasClues reports tables with an index of clues.
func hasClues(ctx context.Context, db *sql.DB) (bool, error) {
	v, err := currentVersion(ctx, db)
	return v > 1, err
}

// migrate makes or updates the tables. Goose has no lock for SQLite, so that a
// file lock keeps two processes apart.
func (s *sqlite) migrate(ctx context.Context, db *sql.DB) error {
	if v, err := currentVersion(ctx, db); err == nil && v >= schemaVersion {
		return nil
	}
	unlock, err := lockFile(ctx, s.path+".lock", true)
	if err != nil {
		return fmt.Errorf("lock for migration: %w", err)
	}
	defer unlock()
	return migrate(ctx, db, goose.DialectSQLite3, "migrations/sqlite")
}

func migrate(ctx context.Context, db *sql.DB, dialect goose.Dialect, dir string, o ...goose.ProviderOption) error {
	files, err := fs.Sub(migrations, dir)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(dialect, db, files, append(o, goose.WithDisableGlobalRegistry(true))...)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	return nil
}

func (s *sqlite) keepsStatements() bool         { return false }
func (s *sqlite) isolation() sql.IsolationLevel { return sql.LevelDefault }

// lockHead does nothing: _txlock=immediate has locked out other writers.
func (s *sqlite) lockHead(context.Context, *sql.Tx) error { return nil }

// still looks whether the path names the file that is written to: SQLite goes on in
// one that was renamed.
func (s *sqlite) still() error {
	if now, err := os.Stat(s.path); err != nil || !os.SameFile(s.was, now) {
		return ErrReplaced
	}
	return nil
}

// lost is never the case: the database is in our own process.
func (s *sqlite) lost(error) bool { return false }

// scrub overwrites what pages hold besides their rows, moves the WAL into the
// database and cuts it to nothing, so that no older version of a page is left
// in it.
func (s *sqlite) scrub(ctx context.Context, db *sql.DB) error {
	if err := scrubPages(ctx, db); err != nil {
		return fmt.Errorf("overwrite unused space: %w", err)
	}
	var busy, log, done int
	if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &done); err != nil {
		return fmt.Errorf("empty the write-ahead log: %w", err)
	}
	if busy != 0 {
		return errors.New("empty the write-ahead log: a reader still uses it")
	}
	return nil
}

// rewritten is nothing: pages are overwritten in their place.
func (s *sqlite) rewritten(context.Context, querier) (int64, error) { return 0, nil }

func (s *sqlite) lease(ctx context.Context, name string) (func() error, error) {
	return lockFile(ctx, s.path+".lease."+strings.ReplaceAll(name, "/", "="), false)
}
