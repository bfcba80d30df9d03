// Package rows is the connector for tables in SQLite, PostgreSQL, MySQL and
// MariaDB.
//
// # Reading
//
// A query is resolved against the live catalog each time it is checked or
// scanned, and identifiers are always quoted from there; values are always
// parameters. A scan reads chunks by key, never by OFFSET, each in a read-only
// transaction of its own, one chunk ahead of what it yields, and holds no more
// than these two. Where an index leads by the anchor, items come in the order of anchor and primary key, the
// undated ones last; otherwise in the order of the primary key. So they do on
// SQLite where that is the INTEGER PRIMARY KEY, by which rows lie in the file,
// and a tenth of the table or more is due: batches then touch few pages each.
// Rows whose key is NULL, which SQLite permits, come at the very end, as items
// that are Invalid.
//
// # Anchors
//
// What is due is decided by the instant in Go, exact to the stored fraction.
// The database only narrows down: its comparison, in the column's own form,
// lets through up to two days too many and never one too few, so that zones,
// daylight saving and mixed spellings cannot make an error of an hour.
//   - A timestamp with a zone is taken as it is.
//   - A timestamp without one is read in [connector.Anchor.Zone]. A wall-clock
//     time that occurs twice, or never, when clocks change means the later of
//     its two readings.
//   - A date means the end of that day in the zone.
//   - Text is read as ISO 8601, with T or a space, any fraction, and Z or an
//     offset; without an offset it is read in the zone. Text that is no
//     timestamp makes the item Invalid.
//   - An INTEGER column of SQLite holds seconds since 1970 in UTC, as SQLite
//     documents it. Numbers that would lie beyond the year 5000 (milliseconds,
//     for instance) make the item Invalid.
//
// # Locators
//
// A locator is TABLE/KEY, or SCHEMA.TABLE/KEY/KEY…. [connector.Item.ID] is set
// for a single integer or UUID key.
//
// # Claims
//
// A claim is one transaction. It locks the root rows (those that somebody else
// has locked are InUse, not waited for), looks at them again, and deletes them
// with everything that hangs on them; see rehearse.go for the order. Erase
// commits, and then looks from another connection. When only some of the claimed
// items go, the deletion is undone and done again for these, under the same
// locks; but on SQLite with a WAL in a new transaction, in which they are judged
// again: what another process did to one in between is its answer.
//
// [connector.Item.Values] are compared with those of today, and a difference
// is Changed; an item whose Values are nil is not compared and gets no Kept.
//
// # Rows that stay
//
// With [connector.Query.Then] the claim sets the rows in the place of deleting
// them, in the same transaction, and looks whether they have the values then. No
// row of another table is touched. [connector.Result.Kept] is reckoned as if the
// rows went, with their children and linked rows; see then.go.
//
// # SQLite
//
// Deleted content is overwritten (secure_delete), and so are the copies of it
// that SQLite leaves in unused parts of pages and on free pages (see scrub.go).
// After Close, text deleted through this connector is in neither the database
// file nor its WAL. After Erase the same holds as soon as no claim is open,
// but for the copies in unused parts of a database of more than 4096 pages: it
// is the end of Erase that sees to it, unless it did less than 0.3 seconds ago
// or another claim of this connector waits for its turn; then a later one does,
// every eighth at the latest.
// A file that was moved, or replaced by another, since the connector first looked
// makes every answer Unknown.
//
// While another process reads an older state, the WAL cannot be truncated;
// Close then waits, and fails if it is in vain. The journal mode stays as it
// was found. What lies outside of these files, such as freed blocks of the file
// system, backups and the index of a full-text search, is out of reach.
package rows

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// Options are the settings of a database. The zero value is fit for use.
type Options struct {
	// ReadOnly makes a connector that cannot delete: its claims refuse every
	// item without a word to the database. A planner uses it.
	ReadOnly bool
	// Chunk is the number of rows read at once by a scan; default 2000.
	Chunk int
	// LockTimeout is the longest wait for a lock; default 5 seconds.
	LockTimeout time.Duration
	// StatementTimeout is the longest run of one statement of a claim; default
	// 2 minutes. SQLite has none.
	StatementTimeout time.Duration
	// LookTimeout is the longest run of one look: the few statements that count
	// a collection, or read a chunk of it, or a batch of rows. Default 30
	// minutes. What takes longer fails with a [*TimeoutError], and the database
	// is told to stop. Check tries a condition on its first rows for a 180th
	// of it.
	LookTimeout time.Duration
	// Clock is asked for the instant that a column is set to; nil: time.Now.
	Clock func() time.Time
}

// Connector is one database. It is safe for concurrent use.
type Connector struct {
	d              dialect
	o              Options
	reader, writer *sql.DB // one and the same but for SQLite
	waiting        atomic.Int32
	unflushed      atomic.Int32 // erasures since the WAL of SQLite was truncated
	flushed        time.Time    // when that was; guarded by the only writer
	file           string       // of SQLite; "" for a server

	mu    sync.Mutex
	cat   *catalog
	bound map[*connector.Query]*binding
	was   fs.FileInfo                // the file of SQLite when it was first looked at
	open  map[connector.Locator]bool // held by claims on a database with one writer
	dirty map[string]bool            // tables of SQLite to scrub
}

var _ connector.Connector = (*Connector)(nil)

// Open reads the DSN: postgres://…, postgresql://…, mysql://…, mariadb://…,
// sqlite:PATH, sqlite:////ABSOLUTE or a plain path; a driver that SQLAlchemy
// names in the scheme is ignored. It connects when first needed, so that a
// database that is down is Unknown to every question rather than an error
// here. The error never repeats the DSN.
func Open(_ context.Context, dsn string, o Options) (*Connector, error) {
	at, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	if o.Chunk <= 0 {
		o.Chunk = 2000
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = 5 * time.Second
	}
	if o.StatementTimeout <= 0 {
		o.StatementTimeout = 2 * time.Minute
	}
	if o.LookTimeout <= 0 {
		o.LookTimeout = 30 * time.Minute
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	c := &Connector{o: o, bound: map[*connector.Query]*binding{}, open: map[connector.Locator]bool{}, dirty: map[string]bool{}}
	switch at.system {
	case sqliteSystem:
		c.d, c.file = sqliteDialect{}, at.target
		if c.reader, err = openSQLite(at.target, true, o.LockTimeout); err != nil {
			return nil, err
		}
		c.writer, err = openSQLite(at.target, false, o.LockTimeout)
	case postgresSystem:
		c.d = postgresDialect{}
		c.reader, err = openPostgres(at.target)
		c.writer = c.reader
	case mysqlSystem:
		c.d = mysqlDialect{}
		c.reader, err = openMySQL(at.target, o.LockTimeout)
		c.writer = c.reader
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends all connections. For SQLite it fails when deleted text may still
// be in the WAL.
func (c *Connector) Close() error {
	var err error
	if _, ok := c.d.(sqliteDialect); ok {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		err = c.settle(ctx)
		cancel()
		err = errors.Join(err, c.reader.Close())
	}
	return errors.Join(err, c.writer.Close())
}

// withConn lends a connection.
func (c *Connector) withConn(ctx context.Context, db *sql.DB, f func(*sql.Conn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return f(conn)
}

// TimeoutError says that the database did not answer a look in time.
type TimeoutError struct{ Limit time.Duration }

// Timeout is always true.
func (e *TimeoutError) Timeout() bool { return true }

// Error says how long was waited.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("the database did not answer within %v", e.Limit)
}

// grace is how much longer we wait than the database was told to try, so that
// it is the database that ends the statement and the connection is of use.
const grace = 3 * time.Second

// read runs f in a read-only transaction, within the time of a look. The
// context it gets ends with that time.
func (c *Connector) read(ctx context.Context, f func(context.Context, *sql.Conn) error) error {
	return c.readWithin(ctx, c.o.LookTimeout, f)
}

func (c *Connector) readWithin(ctx context.Context, limit time.Duration, f func(context.Context, *sql.Conn) error) error {
	if at, ok := ctx.Deadline(); ok {
		limit = max(min(limit, time.Until(at)), time.Millisecond) // so that the database does not go on without us
	}
	wait := limit
	if _, ok := c.d.(sqliteDialect); !ok {
		wait += grace
	}
	in, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := c.still(); err != nil {
		return err
	}
	err := c.withConn(in, c.reader, func(conn *sql.Conn) error {
		if err := c.d.beginRead(in, conn, limit); err != nil {
			discard(conn)
			return err
		}
		stop, err := c.d.watch(in, conn)
		if err == nil {
			err = f(in, conn)
			stop()
		}
		return errors.Join(err, end(in, conn, "ROLLBACK"))
	})
	if err == nil {
		err = c.still()
	}
	if err != nil && ctx.Err() == nil && (in.Err() != nil || c.d.timedOut(err)) {
		return &TimeoutError{limit}
	}
	return err
}

// end ends a transaction whatever became of ctx. A connection on which this
// fails is not used again.
func end(ctx context.Context, conn *sql.Conn, how string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := run(ctx, conn, how)
	if err != nil {
		discard(conn)
	}
	return err
}

func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// rebind resolves the query against the catalog of now.
func (c *Connector) rebind(ctx context.Context, q *connector.Query) (*binding, error) {
	var cat *catalog
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		cat, err = c.d.catalog(ctx, conn)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	b := bind(c.d, cat, q)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cat = cat
	if len(c.bound) >= 256 {
		clear(c.bound)
	}
	c.bound[q] = b
	return b, nil
}

// binding returns the query as it was last resolved.
func (c *Connector) binding(ctx context.Context, q *connector.Query) (*binding, error) {
	c.mu.Lock()
	b := c.bound[q]
	c.mu.Unlock()
	if b == nil {
		var err error
		if b, err = c.rebind(ctx, q); err != nil {
			return nil, err
		}
	}
	return b, b.err()
}

// FaultError says that a query cannot be run on the database: Check would
// report its findings.
type FaultError struct{ Findings []connector.Finding }

// Is makes the error one of the policy's words, not of the store:
// errors.Is(err, fs.ErrInvalid).
func (e *FaultError) Is(target error) bool { return target == fs.ErrInvalid }

// Faults are the findings that forbid to run the query.
func (e *FaultError) Faults() []connector.Finding {
	return slices.DeleteFunc(slices.Clone(e.Findings), func(f connector.Finding) bool { return f.Severity != connector.Fault })
}

// Error names tables, columns and settings only, never values.
func (e *FaultError) Error() string {
	for _, f := range e.Findings {
		if f.Severity == connector.Fault {
			return f.Subject + ": " + f.Text
		}
	}
	return "query cannot be run"
}

func (b *binding) err() error {
	if b.sound() {
		return nil
	}
	return &FaultError{b.findings}
}

// unreachable answers n questions that could not be asked.
func unreachable(n int, err error) []connector.Result {
	rs := make([]connector.Result, n)
	for i := range rs {
		rs[i] = connector.Result{Reason: connector.Unreachable, Err: err}
	}
	return rs
}

// nothing is the claim on no item.
type nothing struct{}

func (nothing) Erase(_ context.Context, which []int) connector.Erased {
	rs := make([]connector.Result, len(which))
	for i := range rs {
		rs[i] = connector.Result{Reason: connector.Invalid, Err: errNotClaimed}
	}
	return connector.Erased{Results: rs}
}

func (nothing) Holds(context.Context) error { return nil }

func (nothing) Release() error { return nil }

var errNotClaimed = errors.New("item was not claimed")
