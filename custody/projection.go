package custody

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/purge"
)

// projection is the state of every tracked file, as it follows from the entries
// of a ledger. It holds no text of an operation: files are told apart by a hash
// that is keyed with the ledger's secret, and row leads to the sealed texts.
type projection struct {
	db     *sql.DB
	ledger purge.Ledger
	key    []byte
	host   string
	common func(store string) bool // the same from every host
	one    bool                    // there is one host, whatever its name
	view   string                  // what the cache is a view of
	window int                     // how many files are taken in between two commits
}

// projectionVersion is raised with every change of what the cache holds: one of
// another version is made anew.
const projectionVersion = "4"

const projectionTables = `
DROP TABLE IF EXISTS meta; DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS transfers; DROP TABLE IF EXISTS work; DROP TABLE IF EXISTS daily;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, since INTEGER NOT NULL, state INTEGER NOT NULL,
	at INTEGER NOT NULL, scope BLOB, required INTEGER NOT NULL, due INTEGER NOT NULL, ended INTEGER NOT NULL, rest BLOB NOT NULL);
-- Whoever asks by one of these says literally what it is limited to.
CREATE INDEX files_due ON files (due) WHERE state < 3 AND due > 0;
CREATE INDEX files_required ON files (at) WHERE state < 3 AND required = 1;
CREATE INDEX files_reserved ON files (at) WHERE state = 1;
CREATE INDEX files_open ON files (since) WHERE state < 3;
CREATE TABLE transfers (id INTEGER PRIMARY KEY, source BLOB NOT NULL, state INTEGER NOT NULL, due INTEGER NOT NULL, moves INTEGER NOT NULL,
	differs INTEGER NOT NULL, answer INTEGER NOT NULL, settled INTEGER NOT NULL);
CREATE INDEX transfers_open ON transfers (due) WHERE state = 1;
CREATE INDEX transfers_moved ON transfers (source) WHERE state = 2 AND moves = 1;
CREATE TABLE work (key BLOB NOT NULL, work TEXT NOT NULL, id INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (key, work)) WITHOUT ROWID;
CREATE INDEX work_at ON work (at);
CREATE TABLE daily (day INTEGER NOT NULL, action TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (day, action)) WITHOUT ROWID;`

func openProjection(ctx context.Context, o *Options) (*projection, error) {
	abs, err := filepath.Abs(o.Cache)
	if err != nil {
		return nil, err
	}
	db, err := openCache(ctx, abs)
	if damaged(err) { // it can be made again
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(abs + suffix)
		}
		db, err = openCache(ctx, abs)
	}
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", pathless(err))
	}
	p := &projection{db: db, ledger: o.Ledger, host: o.Host, common: o.common, one: o.OneHost, view: "custody cache", window: windowFiles}
	if p.one {
		p.view += " of one host"
	}
	p.view = o.Ledger.ShortHash(p.view)
	for i := range 4 { // 192 bits that only this ledger knows
		p.key = append(p.key, o.Ledger.ShortHash("custody cache key "+strconv.Itoa(i))...)
	}
	return p, nil
}

// damaged reports that SQLite cannot make sense of a file; sqlite.org/rescode.html.
func damaged(err error) bool {
	const corrupt, notADatabase = 11, 26
	var e interface{ Code() int }
	return errors.As(err, &e) && (e.Code()&0xff == corrupt || e.Code() == notADatabase)
}

func openCache(ctx context.Context, path string) (*sql.DB, error) {
	// Made by us, so that its mode is right from the first byte on.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	// It need not be flushed: a power cut may leave it behind the ledger, never
	// ahead of it.
	u := url.URL{Scheme: "file", Path: path}
	db, err := sql.Open("sqlite", u.String()+"?_pragma=busy_timeout(60000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=secure_delete(ON)&_pragma=cache_size(-65536)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&n); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (p *projection) close() error { return p.db.Close() }

// hash is what stands in the cache for a text.
func (p *projection) hash(s string) []byte {
	m := hmac.New(sha256.New, p.key)
	io.WriteString(m, s)
	return m.Sum(nil)[:len(keyHash{})]
}

// identity is what a place is told apart by.
func (p *projection) identity(at place) string {
	if p.one {
		at.host = ""
	}
	return at.identity()
}

// applied are the kinds of entry that change the state.
var applied = []ledger.Kind{ledger.CustodyOperations, ledger.CustodyLooks, ledger.CustodyWord, ledger.Outcome, ledger.Incident, ledger.SealedOff}

// catchUp takes in what the ledger has and the cache has not.
func (p *projection) catchUp(ctx context.Context) error {
	for stored := (*keys)(nil); ; {
		more, err := p.step(ctx, &stored)
		if err != nil {
			return fmt.Errorf("bring the state of tracked files up to date: %w", err)
		}
		if !more {
			return nil
		}
	}
}

// step takes in some entries, in a transaction of its own. It keeps in stored what
// it knows of a cache that is being made.
func (p *projection) step(ctx context.Context, stored **keys) (more bool, err error) {
	newest, _, err := p.ledger.Newest(ctx)
	if err != nil {
		return false, err
	}
	if cursor, _, ok := p.position(ctx, p.db); ok && cursor == newest {
		return false, nil
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	cursor, built, ok := p.position(ctx, tx)
	if ok && cursor > 0 && cursor <= newest {
		if ok, err = p.sameHistory(ctx, tx, cursor); err != nil {
			return false, err
		}
	}
	if !ok || cursor > newest {
		if cursor, built, err = 0, newest, p.reset(ctx, tx, newest); err != nil {
			return false, err
		}
	}
	if cursor == 0 {
		if cursor, err = p.first(ctx, newest); err != nil {
			return false, err
		}
	}
	if fresh, err := p.fresh(ctx, tx); err != nil {
		return false, err
	} else if fresh && newest-cursor > perFilter {
		*stored = &keys{}
	} else if *stored != nil && (*stored).cursor != cursor {
		*stored = nil // another process goes on with it too
	}
	w := newWindow(p, tx, *stored)
	last, more, forgotten, err := w.takeIn(ctx, cursor, newest, built)
	if err != nil {
		return false, err
	}
	if forgotten {
		// Texts were destroyed: not even their hashes may stay.
		if err := p.reset(ctx, tx, newest); err != nil {
			return false, err
		}
		return true, tx.Commit()
	}
	if *stored != nil {
		(*stored).cursor = last
	}
	if err := setMeta(ctx, tx, "cursor", last); err != nil {
		return false, err
	}
	at, err := p.instant(ctx, last)
	if err != nil {
		return false, err
	}
	if err := setMeta(ctx, tx, "cursor_at", at); err != nil {
		return false, err
	}
	return more, tx.Commit()
}

// first is the entry before the first that tells of a file: what others purged
// before it need not be read.
func (p *projection) first(ctx context.Context, newest int64) (int64, error) {
	for e, err := range p.ledger.Entries(ctx, ledger.Filter{Kinds: []ledger.Kind{ledger.CustodyOperations}, Limit: 1}) {
		return e.Number - 1, err
	}
	return newest, nil
}

// perFilter is from how many entries on a cache that is made is worth a filter.
const perFilter = 64

// fresh reports that there is no file in the cache.
func (p *projection) fresh(ctx context.Context, tx *sql.Tx) (is bool, err error) {
	err = tx.QueryRowContext(ctx, "SELECT NOT EXISTS (SELECT 1 FROM files)").Scan(&is)
	return is, err
}

// takeIn takes in the entries after cursor, as many as a window holds. It returns
// the last of them; forgotten reports that the cache holds what was destroyed.
func (w *window) takeIn(ctx context.Context, cursor, newest, built int64) (last int64, more, forgotten bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	last = newest
	for d := range w.p.digest(ctx, cursor, newest) {
		if d.err != nil {
			return 0, false, false, d.err
		}
		if d.sealed && d.number > built {
			return 0, false, true, nil
		}
		if err := w.take(ctx, &d); err != nil {
			return 0, false, false, err
		}
		if len(w.files)+len(w.work) >= w.p.window {
			last, more = d.number, d.number < newest
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, false, false, err
	}
	return last, more, false, w.write(ctx)
}

// instant is when an entry was written; 0 when the ledger does not have it.
func (p *projection) instant(ctx context.Context, number int64) (int64, error) {
	for e, err := range p.ledger.Entries(ctx, ledger.Filter{After: number - 1, Before: number + 1, Limit: 1}) {
		return micros(e.At), err
	}
	return 0, nil
}

// sameHistory reports whether the entry up to which the cache was brought is
// still the one it was: a ledger that was restored from a backup has another.
func (p *projection) sameHistory(ctx context.Context, tx *sql.Tx, cursor int64) (bool, error) {
	var kept int64
	if err := tx.QueryRowContext(ctx, "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'cursor_at'").Scan(&kept); err != nil {
		return false, nil // a cache without it is made anew
	}
	at, err := p.instant(ctx, cursor)
	return at == kept || at == 0, err
}

// position reads up to which entry the cache was brought, and the newest entry
// there was when it was made. It is not ok when the cache is empty, of another
// version, or of another ledger.
func (p *projection) position(ctx context.Context, q querier) (cursor, built int64, ok bool) {
	var version, origin string
	err := q.QueryRowContext(ctx, `SELECT (SELECT value FROM meta WHERE name = 'version'), (SELECT value FROM meta WHERE name = 'ledger'),
		(SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'cursor'), (SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'built')`).
		Scan(&version, &origin, &cursor, &built)
	return cursor, built, err == nil && version == projectionVersion && origin == p.view
}

// reset empties the cache.
func (p *projection) reset(ctx context.Context, tx *sql.Tx, newest int64) error {
	if _, err := tx.ExecContext(ctx, projectionTables); err != nil {
		return err
	}
	for name, value := range map[string]any{"version": projectionVersion, "ledger": p.view, "cursor": 0, "built": newest} {
		if err := setMeta(ctx, tx, name, value); err != nil {
			return err
		}
	}
	return nil
}

func setMeta(ctx context.Context, tx *sql.Tx, name string, value any) error {
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO meta (name, value) VALUES (?, CAST(? AS TEXT))", name, value)
	return err
}

// micros is an instant as the cache keeps it: 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
