package ledger

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

type postgres struct {
	config *pgx.ConnConfig
	schema string
	leases *sql.DB
}

func newPostgres(dsn string) (*postgres, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the DSN of the ledger cannot be read") // err shows the DSN
	}
	p := &postgres{config: c, schema: "epitaph"}
	if path := c.RuntimeParams["search_path"]; path != "" {
		first, _, _ := strings.Cut(path, ",")
		p.schema = strings.Trim(strings.TrimSpace(first), `"`)
	}
	// pg_temp last, so that no temporary table can stand in for one of ours.
	c.RuntimeParams["search_path"] = pgx.Identifier{p.schema}.Sanitize() + ", pg_temp"
	c.RuntimeParams["synchronous_commit"] = "on"
	return p, nil
}

// key is the advisory lock for a purpose, within the database.
func (p *postgres) key(purpose string) int64 {
	h := sha256.Sum256([]byte("epitaph ledger\n" + p.schema + "\n" + purpose))
	return int64(binary.BigEndian.Uint64(h[:8]))
}

func (p *postgres) open(ctx context.Context, create bool) (write, read *sql.DB, err error) {
	c := p.config.Copy()
	c.RuntimeParams["default_transaction_read_only"] = "on"
	read = stdlib.OpenDB(*c)
	read.SetMaxOpenConns(4)
	if create {
		write = stdlib.OpenDB(*p.config)
		write.SetMaxOpenConns(2)
		if err := p.migrate(ctx, write); err != nil && !p.usableAsIs(ctx, err, write) {
			return nil, nil, errors.Join(err, write.Close(), read.Close())
		}
	}
	if err := checkVersion(ctx, read); err != nil {
		return nil, nil, errors.Join(err, closeDB(write), read.Close())
	}
	p.leases = write
	return write, read, nil
}

// usableAsIs reports tables of an older version that a role may not update, and
// can append to as they are.
func (p *postgres) usableAsIs(ctx context.Context, err error, db *sql.DB) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "42501" {
		return false
	}
	v, err := currentVersion(ctx, db)
	return err == nil && v >= oldestVersion
}

// migrate makes or updates the tables, one process at a time. A role that may
// only insert needs nothing else once they are there.
func (p *postgres) migrate(ctx context.Context, db *sql.DB) error {
	if v, err := currentVersion(ctx, db); err == nil && v >= schemaVersion {
		return nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", p.key("migrate")); err != nil {
		return err
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", p.key("migrate"))
	var there bool
	if err := conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", p.schema).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := conn.ExecContext(ctx, "CREATE SCHEMA "+pgx.Identifier{p.schema}.Sanitize()); err != nil {
			return err
		}
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(p.key("goose")))
	if err != nil {
		return err
	}
	own := stdlib.OpenDB(*p.config) // goose holds one connection for its lock
	defer own.Close()
	return migrate(ctx, own, goose.DialectPostgres, "migrations/postgres", goose.WithSessionLocker(locker))
}

// lockHead makes appending transactions follow each other. The lock ends with
// the transaction, on the server, also when the connection is lost: whoever has
// it sees what the one before committed.
func (p *postgres) lockHead(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", p.key("append"))
	return err
}

func (p *postgres) keepsStatements() bool         { return true }
func (p *postgres) isolation() sql.IsolationLevel { return sql.LevelRepeatableRead }

// still is left to the server.
func (p *postgres) still() error { return nil }

// lost reports an error after which it is not known what the server did: the
// connection broke, or the server was ending. An error that the server sent
// about a statement is an answer.
func (p *postgres) lost(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		// 57P: the server is shutting down or starting; 08: connection; 40: rolled
		// back, may be tried again.
		return strings.HasPrefix(pe.Code, "57P") || strings.HasPrefix(pe.Code, "08") || strings.HasPrefix(pe.Code, "40")
	}
	var ne net.Error
	var ce *pgconn.ConnectError
	return errors.As(err, &ne) || errors.As(err, &ce) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "conn closed")
}

// releaseTimeout is how long a server that is gone may hold up a release.
const releaseTimeout = 5 * time.Second

// lease takes a session lock on a connection of its own. The server frees it
// when the connection ends.
func (p *postgres) lease(ctx context.Context, name string) (func() error, error) {
	own := stdlib.OpenDB(*p.config)
	own.SetMaxOpenConns(1)
	conn, err := own.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	var got bool
	if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", p.key("lease "+name)).Scan(&got); err != nil || !got {
		if err == nil {
			err = ErrBusy
		}
		return nil, errors.Join(err, conn.Close(), own.Close())
	}
	return func() error {
		// Said aloud: of a connection that is only closed the server learns later.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock_all()")
		return errors.Join(err, conn.Close(), own.Close())
	}, nil
}
