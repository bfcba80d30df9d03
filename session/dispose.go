package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/purge"
)

// Ended is what became of one session, or of another thing in a root.
type Ended struct {
	ID string
	// State is Gone when its directory was seen to be gone, Present when
	// something of it is left, Unknown when that cannot be said.
	State connector.State
	// Reason is GONE when it went by our hand, MISSING when it was gone already;
	// otherwise it says what stands in the way.
	Reason connector.Reason
	Counts
	// Err is the cause of a failure. Its text may hold personal data.
	Err error
}

// Done reports that nothing is left, by whose hand ever.
func (e Ended) Done() bool { return e.State == connector.Gone }

// ending is something on its way out.
type ending struct {
	item connector.Item
	out  Ended
	err  error // of the ledger
}

// end disposes of one session of which fd is the open, locked directory.
func (s *Store) end(id string, fd int) (Ended, error) {
	e, err := s.prepare(id, fd)
	if err != nil {
		return e.out, err
	}
	s.group.submit(e)
	s.letGo(id)
	return e.out, e.err
}

// prepare looks at a session and lends its handle to the claims.
func (s *Store) prepare(id string, fd int) (*ending, error) {
	e := &ending{out: Ended{ID: id}}
	if err := s.open(); err != nil {
		e.out.Reason, e.out.Err = connector.Unreachable, err
		return e, err
	}
	r := lookIn(fd)
	if r.State != connector.Present {
		e.out.Reason, e.out.Err = connector.Unreachable, r.Err
		return e, fmt.Errorf("look at session: %w", r.Err)
	}
	e.item = connector.Item{Locator: connector.Locator(id + "/"), Print: r.Print}
	s.mu.Lock()
	s.held[id] = fd
	s.mu.Unlock()
	return e, nil
}

func (s *Store) letGo(id string) {
	s.mu.Lock()
	delete(s.held, id)
	s.mu.Unlock()
}

// disposeGroup is what a leader does.
func (s *Store) disposeGroup(rs []*request) {
	es := make([]*ending, len(rs))
	for i := range rs {
		es[i] = rs[i].ending
	}
	s.disposeAll(context.Background(), es)
}

// disposeAll takes things through the purge protocol, in one disposal.
func (s *Store) disposeAll(ctx context.Context, es []*ending) {
	x := s.disposal()
	for _, e := range es {
		x.Items = append(x.Items, e.item)
	}
	var sum Counts
	x.Tell = func() []ledger.Fact {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range es {
			sum.add(s.counts[e.out.ID])
		}
		return []ledger.Fact{ledger.Int("files.gone", sum.Gone), ledger.Int("files.left", sum.Left), ledger.Int("files.unknown", sum.Unknown)}
	}
	rs, _, err := s.disposer.Dispose(ctx, x)
	for i, e := range es {
		r := rs[i]
		e.err = err
		e.out.State, e.out.Reason, e.out.Err = r.State, r.Reason, r.Err
		e.out.Counts = s.counted(e.out.ID)
		switch {
		case err != nil:
			e.out.Err, e.out.Counts = err, Counts{Unknown: 1}
		case r.State == connector.Unknown && e.out.Counts == Counts{}:
			e.out.Unknown = 1
		}
	}
}

func (s *Store) disposal() purge.Disposal {
	return purge.Disposal{Rule: ruleName, Kind: "session", Store: storeName, Facts: s.me.Facts()}
}

// patience is how long Delete waits for a lease.
const patience = 2 * time.Second

// Delete disposes of a session, whoever made it. One that is gone already is no
// error: State is Gone, Reason MISSING and the counts are zero. One of which
// someone holds the lease is waited for up to two seconds, since two may be
// closing it at once, and is then ErrInUse. The error is for an id that is none
// (ErrID), for ErrInUse, for a root that vanished, and for a ledger that failed;
// what is left of the session is no error.
func (s *Store) Delete(ctx context.Context, id string) (Ended, error) {
	out := Ended{ID: id}
	if err := CheckID(id); err != nil {
		return out, err
	}
	if err := s.open(); err != nil {
		return out, err
	}
	before, err := s.settle(ctx)
	if err != nil {
		return out, err
	}
	fd, err := s.await(ctx, id)
	switch {
	case err == unix.ENOENT:
		if err := s.still(); err != nil {
			out.Reason, out.Err = connector.Unreachable, err
			return out, err
		}
		out.State, out.Reason = connector.Gone, connector.Missing
		if c, ok := before.saw[id]; ok { // begun by another, finished by us just now
			out.Reason, out.Counts = connector.Erasure, c
		}
		return out, nil
	case errors.Is(err, ErrInUse):
		out.State, out.Reason = connector.Present, connector.InUse
		return out, err
	case err == unix.ELOOP || err == unix.ENOTDIR || err == unix.EXDEV:
		// There is something, but no session: a link, a file, a mount.
		out.State, out.Reason, out.Err = connector.Present, connector.Invalid, err
		out.Left = 1
		return out, nil
	case err != nil:
		out.Reason, out.Err, out.Unknown = reasonOf(err), err, 1
		return out, nil
	}
	defer unix.Close(fd)
	return s.end(id, fd)
}

// settle finishes in the ledger, and on disk, what processes that died had begun,
// so that nothing is counted twice.
func (s *Store) settle(ctx context.Context) (settled, error) {
	rep, err := s.disposer.Settle(ctx, s.disposal(), s.fromDead)
	if err != nil {
		return settled{}, fmt.Errorf("settle: %w", err)
	}
	saw := make(map[string]Counts)
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, c := range s.counts {
		if _, busy := s.held[name]; !busy {
			saw[name] = c
			delete(s.counts, name)
		}
	}
	return settled{rep.Gone, saw}, nil
}

// settled is what settling did: the sessions that are now known to be gone, and
// the files that went while it looked, by session.
type settled struct {
	gone int64
	saw  map[string]Counts
}

// await takes the lock of a session's directory, with patience.
func (s *Store) await(ctx context.Context, id string) (int, error) {
	if err := s.open(); err != nil {
		return -1, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		fd, err := s.seize(id)
		if !errors.Is(err, ErrInUse) {
			return fd, err
		}
		select {
		case <-ctx.Done():
			return -1, ErrInUse
		case <-time.After(pause):
		}
	}
}

// DeleteAll disposes of every session, but for those that are in use: they are
// Present with reason IN_USE. What else lies in the root is left to Sweep.
func (s *Store) DeleteAll(ctx context.Context) ([]Ended, error) {
	all, err := s.entries()
	if err == nil {
		_, err = s.settle(ctx)
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range all {
		if _, ok, _ := s.info(name); ok {
			ids = append(ids, name)
		}
	}
	return s.endMany(ctx, ids, func(_ string, fd int) bool { _, err := readRecord(fd); return err == nil })
}

// endMany disposes of those of the named directories that due still says are
// due once their lock is taken, many at a time.
func (s *Store) endMany(ctx context.Context, ids []string, due func(id string, fd int) bool) ([]Ended, error) {
	var out []Ended
	for len(ids) > 0 {
		n := min(len(ids), mostGroup)
		part, err := s.endSome(ctx, ids[:n], due)
		out = append(out, part...)
		if err != nil {
			return out, err
		}
		ids = ids[n:]
	}
	return out, nil
}

func (s *Store) endSome(ctx context.Context, ids []string, due func(string, int) bool) ([]Ended, error) {
	out := make([]Ended, 0, len(ids))
	var es []*ending
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		fd, err := s.seize(id)
		switch {
		case err == unix.ENOENT:
			continue
		case errors.Is(err, ErrInUse):
			out = append(out, Ended{ID: id, State: connector.Present, Reason: connector.InUse})
			continue
		case err == unix.ELOOP || err == unix.ENOTDIR || err == unix.EXDEV:
			out = append(out, Ended{ID: id, State: connector.Present, Reason: connector.Invalid, Err: err, Counts: Counts{Left: 1}})
			continue
		case err != nil:
			out = append(out, Ended{ID: id, Reason: reasonOf(err), Err: err, Counts: Counts{Unknown: 1}})
			continue
		}
		defer unix.Close(fd)
		if !due(id, fd) {
			continue
		}
		e, err := s.prepare(id, fd)
		if err != nil {
			out = append(out, e.out)
			continue
		}
		defer s.letGo(id)
		es = append(es, e)
	}
	if len(es) == 0 {
		return out, nil
	}
	s.disposeAll(context.WithoutCancel(ctx), es)
	for _, e := range es {
		out = append(out, e.out)
	}
	return out, es[0].err
}

// Removal is what became of one file.
type Removal struct {
	// Was reports that the file was there.
	Was    bool
	State  connector.State
	Reason connector.Reason
	Err    error // the cause of a failure; its text may hold personal data
}

// Remove disposes of one file of a session, whoever made it, through the purge
// protocol. A file, or a session, that is not there is no error.
func (s *Store) Remove(ctx context.Context, id, name string) (Removal, error) {
	if err := CheckID(id); err != nil {
		return Removal{}, err
	}
	if err := checkName(name); err != nil {
		return Removal{}, err
	}
	if err := s.open(); err != nil {
		return Removal{}, err
	}
	at := connector.Locator(id + "/" + name)
	r := tree{s}.Probe(ctx, []connector.Locator{at})[0]
	out := Removal{State: r.State, Reason: r.Reason, Err: r.Err}
	if r.State != connector.Present {
		return out, nil
	}
	out.Was = true
	x := s.disposal()
	x.Kind, x.Items = "session-file", []connector.Item{{Locator: at, Print: r.Print, Bytes: r.Bytes}}
	rs, _, err := s.disposer.Dispose(context.WithoutCancel(ctx), x)
	out.State, out.Reason, out.Err = rs[0].State, rs[0].Reason, rs[0].Err
	return out, err
}
