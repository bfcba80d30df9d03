package custody

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
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
	// Elsewhere is set for a file that can be looked at from another host only.
	Elsewhere bool

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

// page is how many rows are read at a time.
const page = 4096

// files yields the tracked files that match a condition on the cache, in the
// order of the operations that made them.
func (c *Custody) files(ctx context.Context, where string, args []any) iter.Seq2[File, error] {
	return c.filesBy(ctx, "id", where, args)
}

// filesBy is files in the order of a column and, where that is the same, of the
// operations. It reads pages, so that nothing is held open while the caller works.
func (c *Custody) filesBy(ctx context.Context, column, where string, args []any) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		if err := c.state.catchUp(ctx); err != nil {
			yield(File{}, err)
			return
		}
		t := newTexts(c)
		where, order, next := "("+where+")", column+", id", " AND ("+column+", id) > (?, ?)"
		if column == "id" {
			order, next = "id", " AND id > ?"
		}
		for after := []any(nil); ; {
			rows, err := c.state.scan(ctx, where, fmt.Sprintf("%s LIMIT %d", order, page), append(args[:len(args):len(args)], after...)...)
			if err != nil {
				yield(File{}, err)
				return
			}
			if err := t.ahead(ctx, rows); err != nil {
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
			if after == nil {
				where += next
			}
			switch last := &rows[len(rows)-1]; column {
			case "due":
				after = []any{last.due, int64(last.id)}
			case "at":
				after = []any{last.at, int64(last.id)}
			case "since":
				after = []any{int64(last.since), int64(last.id)}
			default:
				after = []any{int64(last.id)}
			}
		}
	}
}

// texts reads the sealed texts of operations, each entry once for those that are
// asked for together. It is used by one goroutine.
type texts struct {
	c     *Custody
	known map[opID]*event // nil for one whose texts were destroyed
	lives map[owner.Process]owner.Life
}

func newTexts(c *Custody) *texts {
	return &texts{c: c, known: map[opID]*event{}, lives: map[owner.Process]owner.Life{}}
}

// ahead reads the texts of the operations that made the files, which are asked for
// next.
func (t *texts) ahead(ctx context.Context, rows []row) error {
	ids := make([]opID, len(rows))
	for i := range rows {
		ids[i] = rows[i].id
	}
	return t.read(ctx, ids)
}

// read reads the texts of operations. Those whose texts were destroyed, or that
// were pruned, are left out.
func (t *texts) read(ctx context.Context, ids []opID) error {
	clear(t.known)
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for len(ids) > 0 {
		n := 1
		for n < len(ids) && ids[n].entry() == ids[0].entry() {
			n++
		}
		places := make([]int, n)
		for i := range n {
			places[i] = int(ids[i].place())
		}
		for _, id := range ids[:n] {
			t.known[id] = nil
		}
		number := ids[0].entry()
		for e, err := range t.c.o.Ledger.Entries(ctx, ledger.Filter{After: number - 1, Before: number + 1, Limit: 1, Unseal: true, Places: places}) {
			if err != nil {
				return err
			}
			for i, at := range places {
				if at < len(e.Items) {
					if ev := readEvent(e.Items[at]); !ev.sealedOff {
						t.known[ids[i]] = &ev
					}
				}
			}
		}
		ids = ids[n:]
	}
	return nil
}

// at returns the event of an operation. It is not ok when its texts were
// destroyed.
func (t *texts) at(ctx context.Context, id opID) (event, bool, error) {
	e, ok := t.known[id]
	if !ok {
		if err := t.read(ctx, []opID{id}); err != nil {
			return event{}, false, err
		}
		e = t.known[id]
	}
	if e == nil {
		return event{}, false, nil
	}
	return *e, true, nil
}

// life says whether an owner lives. Each is asked after once.
func (t *texts) life(o owner.Process) owner.Life {
	l, ok := t.lives[o]
	if !ok {
		l = t.c.me.Life(o)
		t.lives[o] = l
	}
	return l
}

func (t *texts) file(ctx context.Context, r *row) (File, bool, error) {
	e, ok, err := t.at(ctx, r.id)
	if err != nil || !ok {
		return File{}, false, err
	}
	f := File{
		ID: r.id.String(), Store: e.store, Locator: e.at, Path: e.name(), Made: e.Operation, Condition: r.state,
		Life: t.life(e.Owner), Elsewhere: t.c.elsewhere(e.place), Required: r.required, Due: fromMicros(r.due), Scheduled: fromMicros(r.scheduled),
		Attempts: r.attempts, Tried: fromMicros(r.tried), Incident: r.incident, Said: fromMicros(r.said), Ended: fromMicros(r.ended), How: r.how,
		Size: r.size, Hash: hex.EncodeToString(r.sha), print: connector.Fingerprint(r.print), event: e,
	}
	if r.state == Ended && e.Hash != [32]byte{} { // the cache keeps none of what is gone
		f.Hash = hex.EncodeToString(e.Hash[:])
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
	op := idNamed(id)
	if op == 0 {
		return File{}, false, nil
	}
	for f, err := range c.files(ctx, "id = ?", []any{int64(op)}) {
		return f, err == nil, err
	}
	return File{}, false, nil
}
