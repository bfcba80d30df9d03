package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"

	"github.com/epitaph/epitaph/owner"
)

// Standing says how a session stands.
type Standing string

// The standings. They are safe to log.
const (
	Held      Standing = "in use"    // someone holds its lease
	Waiting   Standing = "waiting"   // no lease is needed, its owner lives or is nobody, and its time is not over
	Foreign   Standing = "unknown"   // its owner cannot be seen from here, and its time is not over
	Expired   Standing = "expired"   // its time is over
	Abandoned Standing = "abandoned" // its owner is gone, or let go of it without disposing of all of it
)

// Info is what can be said of one session.
type Info struct {
	ID      string
	Stands  Standing
	Created time.Time // UTC
	Expires time.Time // UTC
	Owner   owner.Process
	Leased  bool
	Sealed  bool
	// KeyGone says of a sealed session that nobody can read it any more.
	KeyGone bool
	Files   int64
	Bytes   int64 // of regular files, as they are on disk
	// Unread counts directories inside that cannot be read.
	Unread int64
}

// Leftover is something in a root that is no session: a directory without a
// record, a link, a loose file.
type Leftover struct {
	Name string
	// Type is "directory", "file", "link", "fifo", "socket", "device" or
	// "unknown".
	Type string
	// Since is when it was last changed in any way.
	Since time.Time
	// Due is the first instant at which Sweep takes it.
	Due time.Time
}

// entries are the names in the root, sorted, without the marker.
func (s *Store) entries() ([]string, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.still(); err != nil {
		return nil, err
	}
	fd, err := s.under.Open(s.root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil { // the walking resolver takes no dot
		if fd, err = openat(s.root, ".", unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
	}
	defer unix.Close(fd)
	buf := s.buffer()
	defer s.giveBack(buf)
	all, err := names(fd, *buf, nil)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	all = slices.DeleteFunc(all, func(n string) bool { return n == markerName })
	slices.Sort(all)
	return all, nil
}

// List returns the sessions in the root, and what else lies there.
func (s *Store) List(ctx context.Context) ([]Info, []Leftover, error) {
	all, err := s.entries()
	if err != nil {
		return nil, nil, err
	}
	var infos []Info
	var rest []Leftover
	for _, name := range all {
		if err := ctx.Err(); err != nil {
			return infos, rest, err
		}
		i, ok, err := s.info(name)
		switch {
		case err == unix.ENOENT:
		case ok:
			infos = append(infos, i)
		default:
			rest = append(rest, s.leftover(name))
		}
	}
	return infos, rest, nil
}

// info describes one entry of the root; ok is false for what is no session.
func (s *Store) info(name string) (i Info, ok bool, err error) {
	if CheckID(name) != nil {
		return i, false, nil
	}
	fd, err := s.under.Open(s.root, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return i, false, err
	}
	defer unix.Close(fd)
	rec, err := readRecord(fd)
	if err != nil {
		return i, false, nil
	}
	i = Info{ID: name, Created: rec.Created, Expires: rec.Expires, Owner: rec.Owner, Leased: rec.Leased, Sealed: rec.Sealed}
	i.Unread = list(s.under, fd, func(f File, st *unix.Statx_t) {
		if !isType(st, unix.S_IFDIR) {
			i.Files++
			i.Bytes += f.Bytes
		}
	})
	switch err := lock(fd); err {
	case nil:
		_ = unix.Flock(fd, unix.LOCK_UN)
		i.Stands = s.stands(rec)
	case unix.EWOULDBLOCK:
		i.Stands = Held
	default:
		i.Stands = Foreign
	}
	if key := (kernelKey{rec.Key, keyName(rec.Nonce)}); rec.Key != 0 {
		i.KeyGone = key.gone(key.look())
	} else if rec.Sealed { // it was in the memory of the owner, which is gone
		i.KeyGone = i.Stands == Abandoned
	}
	return i, true, nil
}

// stands says how a session stands of which nobody holds the lock.
func (s *Store) stands(r record) Standing {
	if r.over(s.now(), s.me.Boot, s.o.Uptime()) {
		return Expired
	}
	life := s.me.Life(r.Owner)
	switch {
	// Its owner held the lock as long as it had a use for it, and on this kernel
	// a lock that is free was let go, in whatever container.
	case r.Leased && (r.Owner.Boot == s.me.Boot || life == owner.Dead):
		return Abandoned
	case r.Owner == (owner.Process{}):
		return Waiting
	case life == owner.Dead:
		return Abandoned
	case life == owner.Alive:
		return Waiting
	default:
		return Foreign
	}
}

func (s *Store) leftover(name string) Leftover {
	l := Leftover{Name: name, Type: "unknown"}
	var st unix.Statx_t
	if statx(s.root, name, &st) != nil {
		return l
	}
	l.Type, l.Since = typeOf(&st), changed(&st)
	if isType(&st, unix.S_IFDIR) {
		if fd, err := s.under.Open(s.root, name, unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
			list(s.under, fd, func(_ File, st *unix.Statx_t) {
				if c := changed(st); c.After(l.Since) {
					l.Since = c
				}
			})
			unix.Close(fd)
		}
	}
	l.Due = l.Since.Add(s.o.Grace)
	return l
}

func typeOf(st *unix.Statx_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFREG:
		return "file"
	case unix.S_IFLNK:
		return "link"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFBLK, unix.S_IFCHR:
		return "device"
	default:
		return "unknown"
	}
}

// changed is when a thing was last changed in any way, its mode, name and links
// among them.
func changed(st *unix.Statx_t) time.Time { return time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec)).UTC() }

// Files returns what is in a session, whoever made it.
func (s *Store) Files(_ context.Context, id string) ([]File, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	fd, err := s.under.Open(s.root, id, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT {
		if err := s.still(); err != nil {
			return nil, err
		}
		return nil, ErrNoSession
	}
	if err != nil {
		return nil, fmt.Errorf("list session: %w", err)
	}
	defer unix.Close(fd)
	return listed(s, fd)
}

// Swept is what a sweep did.
type Swept struct {
	// Ended are the sessions that were due, and the leftovers that were.
	Ended []Ended
	// InUse, Waiting and Foreign count the sessions that stay.
	InUse, Waiting, Foreign int64
	// Leftovers are still within their grace, or could not be looked at.
	Leftovers []Leftover
	// Settled counts the sessions that a process which died had begun to dispose
	// of and that are now known to be gone.
	Settled int64
	Counts
}

// Failed reports that something that was due is not gone, a key in the kernel
// among it.
func (w *Swept) Failed() bool {
	return w.KeysLeft > 0 || slices.ContainsFunc(w.Ended, func(e Ended) bool { return !e.Done() })
}

// Sweep disposes of the sessions whose time is over or whose owner is gone, and
// of what else lies in the root and has not changed for Options.Grace. It never
// takes a session of which someone holds the lease. Before that it finishes in
// the ledger what processes that died had begun.
func (s *Store) Sweep(ctx context.Context) (Swept, error) {
	var out Swept
	all, err := s.entries()
	if err != nil {
		return out, err
	}
	settled, err := s.settle(ctx)
	if err != nil {
		return out, fmt.Errorf("sweep: %w", err)
	}
	for _, c := range settled.saw {
		out.add(c)
	}
	out.Settled = settled.gone
	var due, loose []string
	for _, name := range all {
		i, ok, err := s.info(name)
		if err == unix.ENOENT {
			continue
		}
		if !ok {
			l := s.leftover(name)
			if l.Type != "unknown" && !s.now().Before(l.Due) {
				loose = append(loose, name)
			} else {
				out.Leftovers = append(out.Leftovers, l)
			}
			continue
		}
		switch i.Stands {
		case Expired, Abandoned:
			due = append(due, name)
		case Held:
			out.InUse++
		case Waiting:
			out.Waiting++
		default:
			out.Foreign++
		}
	}
	ended, err := s.endMany(ctx, due, func(_ string, fd int) bool {
		rec, err := readRecord(fd)
		st := s.stands(rec)
		return err == nil && (st == Expired || st == Abandoned)
	})
	out.take(ended)
	if err == nil {
		ended, err = s.endLoose(ctx, loose)
		out.take(ended)
	}
	if err != nil {
		return out, fmt.Errorf("sweep: %w", err)
	}
	return out, nil
}

func (w *Swept) take(es []Ended) {
	for _, e := range es {
		if e.Reason == connector.InUse {
			w.InUse++
			continue
		}
		w.Ended = append(w.Ended, e)
		w.add(e.Counts)
	}
}

// endLoose disposes of what is no session.
func (s *Store) endLoose(ctx context.Context, all []string) ([]Ended, error) {
	var dirs []string
	var es []*ending
	for _, name := range all {
		var st unix.Statx_t
		if statx(s.root, name, &st) != nil {
			continue
		}
		if isType(&st, unix.S_IFDIR) {
			dirs = append(dirs, name)
			continue
		}
		es = append(es, &ending{out: Ended{ID: name},
			item: connector.Item{Locator: connector.Locator(name), Print: connector.Fingerprint(printOf(&st)), Bytes: size(&st)}})
	}
	out, err := s.endMany(ctx, dirs, func(name string, fd int) bool {
		_, err := readRecord(fd)
		return (err == unix.ENOENT || errors.Is(err, errRecord) || err == unix.ELOOP) && !s.now().Before(s.leftover(name).Due)
	})
	if err != nil || len(es) == 0 {
		return out, err
	}
	s.disposeAll(context.WithoutCancel(ctx), es)
	for _, e := range es {
		switch {
		case e.out.Reason == connector.Erasure:
			e.out.Counts = Counts{Gone: 1, Bytes: e.item.Bytes}
		case e.out.State == connector.Present:
			e.out.Counts = Counts{Left: 1}
		}
		out = append(out, e.out)
	}
	return out, es[0].err
}
