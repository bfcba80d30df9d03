package custody

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/epitaph/epitaph/connector"

	"github.com/epitaph/epitaph/owner"
)

// Reservation is the record of a file that is about to be written. A process that
// dies before it commits leaves the reservation, which Orphans finds, and not a
// file that nobody knows.
type Reservation struct {
	c     *Custody
	event event
	id    string

	mu   sync.Mutex
	done bool
}

// Reserve records that a file is about to be made. The operation must be of a
// kind that makes a file, and is durable when Reserve returns.
func (c *Custody) Reserve(ctx context.Context, o Operation) (*Reservation, error) {
	e, err := c.prepare(c.resolver(), &o)
	if err != nil {
		return nil, err
	}
	if !e.kind.Makes() {
		return nil, refuse("an operation of kind "+e.kind.String()+" makes no file", "track it when it is done")
	}
	if e.Owner == (owner.Process{}) {
		e.Owner = c.o.Owner
	}
	e.stage = reserved
	one := []event{e}
	c.look(ctx, one)
	ids, err := c.record(ctx, one)
	if err != nil {
		return nil, err
	}
	return &Reservation{c: c, event: one[0], id: ids[0]}, nil
}

// Reserved returns the reservation of that ID, which this or another process has
// made and not committed.
func (c *Custody) Reserved(ctx context.Context, id string) (*Reservation, error) {
	f, ok, err := c.Find(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ErrNotTracked
	case f.Condition == Ended && f.How == Looked && f.event.stage == reserved:
		// Somebody looked before it was written.
	case f.Condition != Reserved:
		return nil, ErrSettled
	}
	return &Reservation{c: c, event: f.event, id: id}, nil
}

// ErrSettled reports a reservation that was committed or given up already.
var ErrSettled = errors.New("the reservation is settled already")

// ID names the reservation; it is safe to log.
func (r *Reservation) ID() string { return r.id }

// Path is the place that was reserved: absolute and resolved.
func (r *Reservation) Path() string { return r.event.name() }

// Commit records that the file is written, with the SHA-256 and the number of
// the bytes that were really written. A file that is not there, or has another
// size, is refused: the reservation stays.
func (r *Reservation) Commit(ctx context.Context, sum [32]byte, size int64) (Tracked, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return Tracked{}, ErrSettled
	}
	e := r.event
	e.stage, e.answers, e.Hash, e.Size, e.At = committed, r.id, sum, size, r.c.now()
	one := []event{e}
	r.c.look(ctx, one)
	switch e = one[0]; {
	case e.state == connector.Gone:
		return Tracked{}, refuse("there is no file at the path that was reserved", "write to the path that the reservation names")
	case e.state == connector.Present && e.bytes != size:
		return Tracked{}, refuse("the file does not have the size that was written", "close it before the commit, and write nothing past the hash")
	}
	ids, err := r.c.record(ctx, one)
	if err != nil {
		return Tracked{}, err
	}
	r.done = true
	return Tracked{ID: ids[0], Path: e.name(), Covered: e.store != "", Seen: e.state}, nil
}

// CommitFile reads the file that was reserved and commits what it read.
func (r *Reservation) CommitFile(ctx context.Context) (Tracked, error) {
	sum, size, err := r.c.digest(ctx, r.event.place)
	for _, known := range []error{errNotFile, errMoved, errNoContent} {
		if errors.Is(err, known) {
			return Tracked{}, refuse(known.Error(), "commit a file that is written and closed, in a store of files of this host")
		}
	}
	if err != nil {
		return Tracked{}, err
	}
	return r.Commit(ctx, sum, size)
}

// Abandon records that the file will not be written. What was written already is
// not touched: where it is still there, the reservation stays due.
func (r *Reservation) Abandon(ctx context.Context) (Tracked, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return Tracked{}, ErrSettled
	}
	e := r.event
	e.stage, e.answers, e.At = abandoned, r.id, r.c.now()
	one := []event{e}
	r.c.look(ctx, one)
	ids, err := r.c.record(ctx, one)
	if err != nil {
		return Tracked{}, err
	}
	r.done = true
	return Tracked{ID: ids[0], Path: e.name(), Covered: e.store != "", Seen: one[0].state}, nil
}

// Writer hashes what is written through it, so that the hash is that of the bytes
// and not of what was meant to be written. Commit is called after the file is
// closed.
type Writer struct {
	r    *Reservation
	to   io.Writer
	sum  hash.Hash
	size int64
}

// Writer returns a writer to the file of the reservation.
func (r *Reservation) Writer(to io.Writer) *Writer {
	return &Writer{r: r, to: to, sum: sha256.New()}
}

// Write writes and hashes. What the underlying writer did not take is not hashed.
func (w *Writer) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	n = max(0, min(n, len(b)))
	w.sum.Write(b[:n])
	w.size += int64(n)
	return n, err
}

// Commit commits the reservation with what was written.
func (w *Writer) Commit(ctx context.Context) (Tracked, error) {
	return w.r.Commit(ctx, [32]byte(w.sum.Sum(nil)), w.size)
}

// Create makes the reserved file, which must not exist, with mode 0600, has fill
// write it, flushes it to disk and commits. When fill or the disk fails, the
// reservation is left as it is, with the file as far as it was written.
func (r *Reservation) Create(ctx context.Context, fill func(io.Writer) error) (Tracked, error) {
	if r.event.abs == "" {
		return Tracked{}, errors.New("create: the reservation is not of a file on disk")
	}
	f, err := os.OpenFile(r.event.abs, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return Tracked{}, fmt.Errorf("create: %w", err)
	}
	w := r.Writer(f)
	err = fill(w)
	if e := f.Sync(); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return Tracked{}, fmt.Errorf("write: %w", err)
	}
	return w.Commit(ctx)
}
