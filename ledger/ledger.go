package ledger

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/epitaph/epitaph/proof"
)

// Config is what a ledger gets from outside. The zero value is usable.
type Config struct {
	// Clock gives the instant of entries that carry none. Default time.Now.
	Clock func() time.Time
	// Rand gives the salts of sealed texts. Default crypto/rand.
	Rand io.Reader
	// Origin names a ledger that is made, as C2SP tlog-checkpoint wants it: a
	// URL without scheme, such as "example.com/epitaph". Default: a random name.
	// A ledger that exists under another name is refused.
	Origin string
	// Pins are read when the ledger is opened. While the ledger is behind one of
	// them, or is not the one pinned, Append refuses with ErrBehind or ErrAltered.
	// Trust checks what is pinned; without a key it is taken at its word.
	Pins  []Pin
	Trust proof.Trust
}

// Ledger is an open ledger. All methods may be called concurrently, and other
// processes may have the same ledger open.
type Ledger struct {
	config Config
	dialect
	write  *sql.DB // nil when read-only
	read   *sql.DB
	name   string // origin as it was made
	secret []byte
	clued  bool // the tables have an index of clues; those of version 1 have not

	mu       sync.Mutex
	idle     sync.Cond // flushing became false
	waiting  []*request
	flushing bool
	crowd    int // requests of the last flush
	closed   bool

	refusal  error            // why nothing may be appended
	cosigned map[string]int64 // size each witness has seen
	home     int64            // number of the entry that moved the ledger here
	forked   int64            // number of the fork entry that this process wrote

	tail  tail // owned by the one goroutine that flushes
	stmts map[string]*sql.Stmt
}

// ErrBusy reports that another live holder has the lease.
var ErrBusy = errors.New("held by another process")

// ErrReadOnly reports an Append to a ledger opened with OpenReadOnly.
var ErrReadOnly = errors.New("the ledger is open for reading only")

// ErrClosed reports a call after Close.
var ErrClosed = errors.New("the ledger is closed")

// ErrUnmade reports tables in which there is no ledger yet.
var ErrUnmade = errors.New("the tables hold no ledger yet")

// dialect is what differs between the databases.
type dialect interface {
	// open connects, and makes what is missing when create is set.
	open(ctx context.Context, create bool) (write, read *sql.DB, err error)
	// lockHead is run first in each appending transaction: until its end no
	// other may append.
	lockHead(ctx context.Context, tx *sql.Tx) error
	// keepsStatements reports that the driver keeps statements prepared by itself.
	keepsStatements() bool
	// lost reports that the connection broke, so that it is not known whether a
	// transaction was committed.
	lost(err error) bool
	// still reports an error where what was just committed is not in the database
	// that the DSN names.
	still() error
	// isolation is the level at which a transaction sees one state.
	isolation() sql.IsolationLevel
	// scrub removes destroyed texts from the places where the database keeps
	// copies, as far as it can.
	scrub(ctx context.Context, db *sql.DB) error
	// rewritten is how many bytes scrub writes anew while whoever appends waits.
	rewritten(ctx context.Context, q querier) (int64, error)
	// unguarded names the triggers of tables of that version that are missing,
	// altered or out of force.
	unguarded(ctx context.Context, q querier, version int64) ([]string, error)
	lease(ctx context.Context, name string) (release func() error, err error)
}

// Open opens a ledger and makes it when it is absent. The DSN is "sqlite:PATH"
// or "postgres://…". A SQLite ledger is a file readable by its owner only, in
// WAL mode with synchronous=FULL and secure_delete. A PostgreSQL ledger lives in
// the schema "epitaph", or in the first one of the DSN's search_path.
func Open(ctx context.Context, dsn string, c Config) (*Ledger, error) {
	return open(ctx, dsn, c, true)
}

// OpenReadOnly opens a ledger that exists. Append gives ErrReadOnly.
func OpenReadOnly(ctx context.Context, dsn string, c Config) (*Ledger, error) {
	return open(ctx, dsn, c, false)
}

func open(ctx context.Context, dsn string, c Config, write bool) (*Ledger, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	d, err := newDialect(dsn)
	if err != nil {
		return nil, err
	}
	l := &Ledger{config: c, dialect: d}
	l.idle.L = &l.mu
	if l.write, l.read, err = d.open(ctx, write); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	err = l.readMeta(ctx)
	if err == nil {
		l.clued, err = hasClues(ctx, l.read)
	}
	if err == nil {
		err = l.prepareStatements(ctx)
	}
	if err == nil && write {
		l.refusal = l.checkPins(ctx, c.Trust, c.Pins)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger: %w", err), l.Close())
	}
	return l, nil
}

func newDialect(dsn string) (dialect, error) {
	switch {
	case strings.HasPrefix(dsn, "sqlite:"):
		return newSQLite(strings.TrimPrefix(dsn, "sqlite:"))
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
		return newPostgres(dsn)
	default:
		return nil, errors.New(`a ledger is "sqlite:PATH" or "postgres://…"`)
	}
}

const formatVersion = "1"

// readMeta reads what the ledger is, and writes it into a new one. Of several
// processes that make one ledger, the first names it.
func (l *Ledger) readMeta(ctx context.Context) error {
	meta, err := l.loadMeta(ctx)
	if err != nil {
		return err
	}
	if meta["format"] == "" && l.write != nil {
		if err := l.writeMeta(ctx); err != nil {
			return err
		}
		if meta, err = l.loadMeta(ctx); err != nil {
			return err
		}
	}
	if len(meta) == 0 {
		return ErrUnmade
	}
	if meta["format"] != formatVersion {
		return fmt.Errorf("ledger format %q is not known to this version; %s is", SafeCode(meta["format"]), formatVersion)
	}
	l.name, l.secret = meta["origin"], []byte(meta["secret"])
	l.home, _ = parseInt(meta["home"])
	if o := l.config.Origin; o != "" && o != l.name {
		return fmt.Errorf("the ledger is named %q, not %q", l.name, o)
	}
	return nil
}

func (l *Ledger) loadMeta(ctx context.Context) (map[string]string, error) {
	rows, err := l.read.QueryContext(ctx, "SELECT name, value FROM meta")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	meta := map[string]string{}
	for rows.Next() {
		var name string
		var value []byte
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		meta[name] = string(value)
	}
	return meta, rows.Err()
}

func (l *Ledger) writeMeta(ctx context.Context) error {
	random := make([]byte, 32+8)
	if _, err := io.ReadFull(l.config.Rand, random); err != nil {
		return fmt.Errorf("read random name: %w", err)
	}
	origin := l.config.Origin
	if origin == "" {
		origin = "epitaph.invalid/" + hex.EncodeToString(random[32:])
	}
	if err := checkOrigin(origin); err != nil {
		return err
	}
	tx, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := l.lockHead(ctx, tx); err != nil {
		return err
	}
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM meta").Scan(&n); err != nil || n > 0 {
		return err
	}
	for _, m := range []struct {
		name  string
		value []byte
	}{{"format", []byte(formatVersion)}, {"origin", []byte(origin)}, {"secret", random[:32]}} {
		if _, err := tx.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2)", m.name, m.value); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// checkOrigin keeps to what C2SP tlog-checkpoint and signed-note recommend.
func checkOrigin(s string) error {
	const most = 64 // so that a key with this name is still a code
	if !isCode(s) || len(s) > most || strings.ContainsAny(s, "+=") {
		return fmt.Errorf("origin %q is not a URL without scheme of at most %d characters, such as example.com/epitaph", s, most)
	}
	return nil
}

// ShortHash returns "h:" and twelve hex digits: a hash of s keyed with a secret
// of this ledger. It is safe to log: it cannot be recomputed without the
// ledger, and the same text always gives the same hash.
func (l *Ledger) ShortHash(s string) string {
	m := hmac.New(sha256.New, l.secret)
	io.WriteString(m, s)
	return "h:" + hex.EncodeToString(m.Sum(nil)[:6])
}

// Refusal says why the ledger refuses to be appended to: an error that wraps
// ErrBehind or ErrAltered, or nil.
func (l *Ledger) Refusal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal
}

// Unreachable reports an error of a database that could not be reached, or was lost
// or ended in the midst of it: the same call may succeed later. It never is of SQLite.
func (l *Ledger) Unreachable(err error) bool { return l.lost(err) }

// Rewritten returns how many bytes Scrub writes anew, while whoever appends waits; 0
// where nobody does.
func (l *Ledger) Rewritten(ctx context.Context) (int64, error) {
	n, err := l.rewritten(ctx, l.read)
	if err != nil {
		return 0, fmt.Errorf("measure what is written anew: %w", err)
	}
	return n, nil
}

// Lease takes the right called name, such as the right to run purges, without
// waiting. errors.Is(err, ErrBusy) tells that another live process or handle has
// it. The operating system or the server frees it when its owner dies.
func (l *Ledger) Lease(ctx context.Context, name string) (release func() error, err error) {
	if !isCode(name) {
		return nil, errors.New("take lease: the name is not a code")
	}
	if l.write == nil {
		return nil, ErrReadOnly
	}
	release, err = l.lease(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("take lease %s: %w", name, err)
	}
	return sync.OnceValue(release), nil
}

// Close lets go of the database. Appends that are under way end first.
func (l *Ledger) Close() error {
	l.mu.Lock()
	l.closed = true
	for l.flushing {
		l.idle.Wait()
	}
	l.mu.Unlock()
	var errs []error
	for _, db := range []*sql.DB{l.read, l.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}
