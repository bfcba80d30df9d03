package custody

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/epitaph/epitaph/ledger"
)

// OldestInEffect returns the oldest entry of the ledger on which something rests
// that is not over: a file that is tracked and not known to be gone, a
// reservation, work that did not end, a transfer that nobody acknowledged. With
// since, also what was over at that instant or later. It is not ok when there is
// none. A ledger that lets go of this entry forgets a file that must be gone.
func (c *Custody) OldestInEffect(ctx context.Context, since time.Time) (entry int64, ok bool, err error) {
	if err := c.state.catchUp(ctx); err != nil {
		return 0, false, err
	}
	for _, query := range []string{
		"SELECT min(since) FROM files WHERE state < 3", "SELECT min(id) FROM work", "SELECT min(id) FROM transfers WHERE state = 1",
		"SELECT min(since) FROM files WHERE state = 3 AND ended >= ?", "SELECT min(id) FROM transfers WHERE state > 1 AND settled >= ?",
	} {
		var args []any
		if query[len(query)-1] == '?' {
			if since.IsZero() {
				continue
			}
			args = append(args, micros(since))
		}
		var oldest sql.NullInt64
		if err := c.state.db.QueryRowContext(ctx, query, args...).Scan(&oldest); err != nil {
			return 0, false, err
		}
		if n := opID(oldest.Int64).entry(); oldest.Valid && (!ok || n < entry) {
			entry, ok = n, true
		}
	}
	return entry, ok, nil
}

// InEffect returns a function that reports whether an item of an entry is needed to
// tell that a file must be gone, which is not known to be, or that a transfer is
// open. Its text may not be destroyed before. What was recorded since InEffect was
// called counts as needed. The function may be called by one goroutine at a time; it
// keeps an item when it cannot tell.
func (c *Custody) InEffect(ctx context.Context) (func(kind ledger.Kind, number int64, place int, it ledger.Item) bool, error) {
	if err := c.state.catchUp(ctx); err != nil {
		return nil, err
	}
	cursor, _, ok := c.state.position(ctx, c.state.db)
	if !ok {
		return nil, errors.New("the state of tracked files cannot be read")
	}
	return func(kind ledger.Kind, number int64, place int, it ledger.Item) bool {
		switch kind {
		case ledger.CustodyOperations, ledger.CustodyLooks, ledger.CustodyWord, ledger.Incident:
		default:
			return false
		}
		if number > cursor {
			return true
		}
		e, id := readEvent(it), newID(number, int64(place))
		if e.abs == "" && e.store == "" {
			return false // no file of ours
		}
		var needed bool
		err := c.state.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM files WHERE key = ? AND state < 3 AND since <= ?)
			OR EXISTS (SELECT 1 FROM transfers WHERE id = ? AND state = 1)`, c.state.hash(c.state.identity(e.place)), int64(id), int64(id)).Scan(&needed)
		return needed || err != nil
	}, nil
}
