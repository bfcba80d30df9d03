package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lockWait is how long a table is waited for that somebody reads, and for which
// whoever appends waits meanwhile.
const lockWait = "5s"

// scrub writes the tables anew of which texts were destroyed, without the dead rows
// that hold them. What of them is in the server's WAL, its archive and backups is not
// in our reach.
func (p *postgres) scrub(ctx context.Context, db *sql.DB) error {
	tables := []string{"sealed", "lookup"}
	if there, err := hasClues(ctx, db); err != nil {
		return err
	} else if there {
		tables = append(tables, "clues")
	}
	var left deadRows
	c := p.config.Copy()
	c.RuntimeParams["lock_timeout"] = lockWait
	c.OnNotice = left.listen
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := outlive(ctx, conn); err != nil {
		return err
	}
	for _, table := range tables {
		const attempts = 3
		for attempt := 1; ; attempt++ {
			left = deadRows{}
			if _, err := conn.Exec(ctx, "VACUUM (FULL, VERBOSE) "+table); err != nil {
				return fmt.Errorf("vacuum destroyed texts: %w", err)
			}
			err := left.check()
			if err == nil {
				break
			} else if attempt == attempts {
				return fmt.Errorf("vacuum destroyed texts: %w", err)
			}
			time.Sleep(time.Second)
		}
	}
	return nil
}

// rewritten is the size of those tables. One that is not there counts nothing.
func (p *postgres) rewritten(ctx context.Context, q querier) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0)::bigint FROM unnest(ARRAY['sealed', 'lookup', 'clues']) AS t (name)`).Scan(&n)
	return n, err
}

// outlive waits, for a while, until whatever wrote on the server when this began has
// ended, in other databases too: VACUUM keeps what a transaction of then could see,
// and nobody waits for us yet.
func outlive(ctx context.Context, conn *pgx.Conn) error {
	const most, pause = 30 * time.Second, 50 * time.Millisecond
	var now, oldest int64
	if err := conn.QueryRow(ctx, "SELECT txid_current()").Scan(&now); err != nil {
		return err
	}
	for range most / pause {
		if err := conn.QueryRow(ctx, "SELECT txid_snapshot_xmin(txid_current_snapshot())").Scan(&oldest); err != nil || oldest > now {
			return err
		}
		time.Sleep(pause)
	}
	return nil
}

// deadRows is what VACUUM FULL says that it copied though it is dead: what a
// transaction that began before can still see.
type deadRows struct {
	said bool
	n    int64
}

// listen reads the number of "12 dead row versions cannot be removed yet.", in
// whatever language: it is the first of the detail, and no other notice of it has one.
func (d *deadRows) listen(_ *pgconn.PgConn, n *pgconn.Notice) {
	digits := func(r rune) bool { return r < '0' || r > '9' }
	line, _, _ := strings.Cut(n.Detail, "\n")
	if numbers := strings.FieldsFunc(line, digits); len(numbers) == 1 {
		if dead, err := strconv.ParseInt(numbers[0], 10, 64); err == nil {
			d.said, d.n = true, d.n+dead
		}
	}
}

func (d *deadRows) check() error {
	switch {
	case !d.said:
		return errors.New("the server does not say whether copies are left")
	case d.n > 0:
		return errors.New("a transaction that began before can still see them")
	default:
		return nil
	}
}
