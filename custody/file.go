package custody

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
)

// File is a tracked file, as the entries tell of it.
type File struct {
	ID      string // of the operation that made it; safe to log
	Store   string
	Locator connector.Locator
	Path    string
	// Made is the operation that made it.
	Made      Operation
	Condition Condition
	// Life is what is known of its owner now.
	Life owner.Life

	Required       bool
	Due, Scheduled time.Time
	// Attempts counts the clean-ups that were tried and did not end it; Tried is
	// the last one, and Next when another is tried.
	Attempts    int64
	Tried, Next time.Time
	// Incident stays until the file has ended.
	Incident bool
	// Said is when it was said to be gone though it was not seen to be.
	Said  time.Time
	Ended time.Time
	How   Ending
	Size  int64
	// Hash is the SHA-256 that was recorded, in hex; "" for none.
	Hash string

	print connector.Fingerprint
	event event
}

// scan reads rows of the cache in pages by key, so that nothing is held open
// while the caller works.
func (p *projection) scan(ctx context.Context, where, order string, args ...any) ([]row, error) {
	rows, err := p.db.QueryContext(ctx, "SELECT "+rowColumns+" FROM files WHERE "+where+" ORDER BY "+order, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []row
	for rows.Next() {
		var r row
		if err := rows.Scan(r.fields()...); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// page is how many rows are read at a time.
const page = 4096

// files yields the tracked files that match a condition on the cache, in the
// order of the operations that made them.
func (c *Custody) files(ctx context.Context, where string, args []any) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		if err := c.state.catchUp(ctx); err != nil {
			yield(File{}, err)
			return
		}
		t := texts{c: c}
		var entry, place int64 = 0, -1
		for {
			rows, err := c.state.scan(ctx, "("+where+") AND (entry, place) > (?, ?)", fmt.Sprintf("entry, place LIMIT %d", page), append(args[:len(args):len(args)], entry, place)...)
			if err != nil {
				yield(File{}, err)
				return
			}
			for i := range rows {
				f, ok, err := t.file(ctx, &rows[i])
				if err == nil && !ok {
					continue
				}
				if !yield(f, err) || err != nil {
					return
				}
			}
			if len(rows) < page {
				return
			}
			entry, place = rows[len(rows)-1].entry, rows[len(rows)-1].place
		}
	}
}

// texts reads the sealed texts of operations, entry by entry.
type texts struct {
	c     *Custody
	entry ledger.Entry
}

// at returns the event of an operation. It is not ok when its texts were
// destroyed.
func (t *texts) at(ctx context.Context, number, place int64) (event, bool, error) {
	if t.entry.Number != number {
		found := false
		for e, err := range t.c.o.Ledger.Entries(ctx, ledger.Filter{After: number - 1, Before: number + 1, Limit: 1, Unseal: true}) {
			if err != nil {
				return event{}, false, err
			}
			t.entry, found = e, true
		}
		if !found {
			return event{}, false, nil // pruned
		}
	}
	if place < 0 || place >= int64(len(t.entry.Items)) {
		return event{}, false, nil
	}
	e := readEvent(t.entry.Items[place])
	return e, !e.sealedOff, nil
}

func (t *texts) file(ctx context.Context, r *row) (File, bool, error) {
	e, ok, err := t.at(ctx, r.entry, r.place)
	if err != nil || !ok {
		return File{}, false, err
	}
	f := File{
		ID: idOf(r.entry, int(r.place)), Store: e.store, Locator: e.at, Path: e.name(), Made: e.Operation, Condition: r.state,
		Life: t.c.me.Life(e.Owner), Required: r.required, Due: fromMicros(r.due), Scheduled: fromMicros(r.scheduled),
		Attempts: r.attempts, Tried: fromMicros(r.tried), Incident: r.incident, Said: fromMicros(r.said), Ended: fromMicros(r.ended), How: r.how,
		Size: r.size, Hash: hex.EncodeToString(r.sha), print: connector.Fingerprint(r.print), event: e,
	}
	if r.attempts > 0 {
		f.Next = f.Tried.Add(backOff(r.attempts))
	}
	return f, true, nil
}

// backOff is how long a clean-up is left alone after so many attempts: an hour,
// doubled with each, up to a day. There is no last attempt.
func backOff(attempts int64) time.Duration {
	return min(time.Hour<<min(attempts-1, 10), 24*time.Hour)
}

// Find returns the tracked file that the operation of that ID made.
func (c *Custody) Find(ctx context.Context, id string) (File, bool, error) {
	entry, place, ok := parseID(id)
	if !ok {
		return File{}, false, nil
	}
	for f, err := range c.files(ctx, "entry = ? AND place = ?", []any{entry, place}) {
		return f, err == nil, err
	}
	return File{}, false, nil
}
