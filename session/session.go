package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"

	"github.com/epitaph/epitaph/owner"
)

// Session is an open session: a directory whose lease this process holds. Its
// methods may be called concurrently.
type Session struct {
	s    *Store
	id   string
	fd   int // its directory, locked
	rec  record
	seal *seal // nil: not sealed

	mu    sync.RWMutex // held for reading while anything is done in the directory
	over  bool
	ended Ended
	err   error
}

// New makes a session with a random id that may live for ttl at the longest. It
// is leased to this process until it is closed.
func (s *Store) New(ctx context.Context, ttl time.Duration) (*Session, error) {
	id, err := newID(s.o.Rand)
	if err != nil {
		return nil, err
	}
	return s.NewID(ctx, id, ttl)
}

// NewID makes a session with the given id. ErrID reports an id that is none,
// ErrExists one under which something lies in the root, whatever it is, and
// ErrKeyring, with Options.Lend, a kernel that takes no key.
func (s *Store) NewID(ctx context.Context, id string, ttl time.Duration) (*Session, error) {
	return s.make(ctx, id, ttl, s.me, true)
}

// Leave makes a session that no process holds: it ends when it is deleted, when
// ttl is over, or, unless by is nobody, when a sweep finds that owner
// dead. An id of "" stands for a random one. It returns the id and the instant
// at which the session's time is over. With Options.Sealed the key of the
// session is in the kernel, for the processes of this user; ErrKeyring reports a
// kernel that does not take it, and nothing is made then.
func (s *Store) Leave(ctx context.Context, id string, ttl time.Duration, by owner.Process) (string, time.Time, error) {
	if id == "" {
		var err error
		if id, err = newID(s.o.Rand); err != nil {
			return "", time.Time{}, err
		}
	}
	x, err := s.make(ctx, id, ttl, by, false)
	if err != nil {
		return "", time.Time{}, err
	}
	return id, x.rec.Expires, unix.Close(x.fd)
}

// make makes the key, the directory, takes its lease, and writes the record.
func (s *Store) make(ctx context.Context, id string, ttl time.Duration, by owner.Process, leased bool) (x *Session, err error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	if ttl <= 0 {
		return nil, errors.New("make session: its time must be longer than nothing")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.still(); err != nil {
		return nil, err
	}
	nonce, err := newNonce(s.o.Rand)
	if err != nil {
		return nil, err
	}
	now := s.now()
	x = &Session{s: s, id: id, rec: record{Version: 1, Nonce: nonce, Created: now, Expires: now.Add(ttl), Boot: s.me.Boot, Up: s.o.Uptime(), Owner: by, Leased: leased, Sealed: s.o.Sealed}}
	if s.o.Sealed {
		if x.seal, err = newSeal(); err == nil {
			x.rec.Key, err = x.seal.hand(s.keeper(leased), keyName(nonce), ttl)
		}
		if err != nil {
			return nil, fmt.Errorf("make session: %w", err)
		}
		defer func() {
			if err != nil {
				_ = x.seal.forget()
			}
		}()
	}
	x.fd, err = makeDirectory(s.root, id)
	if err == unix.EEXIST {
		return nil, ErrExists
	}
	if err != nil {
		return nil, fmt.Errorf("make session: %w", err)
	}
	if err = lock(x.fd); err == nil {
		err = x.rec.write(x.fd)
	}
	if err != nil {
		_ = unlinkat(x.fd, recordName, 0)
		unix.Close(x.fd)
		_ = unlinkat(s.root, id, unix.AT_REMOVEDIR)
		return nil, fmt.Errorf("make session: %w", err)
	}
	return x, nil
}

// keeper is who else has the key of a sealed session.
func (s *Store) keeper(leased bool) keeper {
	switch {
	case !leased:
		return keepForUser
	case s.o.Lend:
		return keepForChildren
	default:
		return nil
	}
}

// ID returns the session's id.
func (x *Session) ID() string { return x.id }

// Path returns the absolute path of the session's directory, for programs that
// write into it themselves. What they write is not sealed.
func (x *Session) Path() string { return x.s.path + "/" + x.id }

// Expires returns the instant at which the session's time is over, UTC.
func (x *Session) Expires() time.Time { return x.rec.Expires }

// use runs do in the directory of name, unless the session is over.
func (x *Session) use(name string, do func(fd int, base string) error) error {
	if err := checkName(name); err != nil {
		return err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.over {
		return ErrClosed
	}
	dir, base := split(name)
	if dir == "" {
		return do(x.fd, base)
	}
	fd, err := x.s.under.Open(x.fd, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd, base)
}

// Create makes a new file of mode 0600, and the directories that lead to it, of
// mode 0700. name is a path below the session's directory, with slashes; ErrName
// reports one that cannot be. A name that exists is fs.ErrExist: nothing that
// someone has put there is ever written into. In a sealed session what is
// written is encrypted, and is complete only once the file has been closed.
func (x *Session) Create(name string) (io.WriteCloser, error) {
	f, err := x.createFile(name)
	if err != nil {
		return nil, err
	}
	return x.sealing(f)
}

// sealing writes into f what is sealed in a sealed session, and plain otherwise.
func (x *Session) sealing(f *os.File) (io.WriteCloser, error) {
	if x.seal == nil {
		return f, nil
	}
	return x.seal.writer(f)
}

func (x *Session) createFile(name string) (*os.File, error) {
	if err := x.directories(name); err != nil {
		return nil, fmt.Errorf("create file: %w", err)
	}
	var f *os.File
	err := x.use(name, func(fd int, base string) error {
		n, err := create(fd, base)
		if err == nil {
			f = os.NewFile(uintptr(n), base)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create file: %w", err)
	}
	return f, nil
}

// directories makes what leads to name.
func (x *Session) directories(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		err := x.use(name[:i], func(fd int, base string) error {
			n, err := makeDirectory(fd, base)
			if err == nil {
				unix.Close(n)
			}
			return err
		})
		if err != nil && err != unix.EEXIST {
			return err
		}
	}
	return nil
}

// Open opens a regular file for reading. A link, FIFO or device is refused with
// ErrName, and nothing of it is opened but a handle. A file that is not there is
// fs.ErrNotExist.
func (x *Session) Open(name string) (io.ReadCloser, error) {
	var f *os.File
	err := x.use(name, func(fd int, base string) error {
		var st unix.Statx_t
		if err := statx(fd, base, &st); err != nil {
			return err
		}
		if !isType(&st, unix.S_IFREG) {
			return ErrName
		}
		n, err := openat(fd, base, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
		if err != nil {
			return err
		}
		var now unix.Statx_t
		if err := statx(n, "", &now); err != nil || !isType(&now, unix.S_IFREG) {
			unix.Close(n)
			return ErrName
		}
		f = os.NewFile(uintptr(n), base)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open file: %w", err)
	}
	if x.seal == nil {
		return f, nil
	}
	return x.seal.reader(f)
}

// List returns what is in the session, in nested directories too, but not the
// directories themselves.
func (x *Session) List() ([]File, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.over {
		return nil, ErrClosed
	}
	return listed(x.s, x.fd)
}

func listed(s *Store, fd int) ([]File, error) {
	var out []File
	if n := list(s.under, fd, func(f File, st *unix.Statx_t) {
		if !isType(st, unix.S_IFDIR) {
			out = append(out, f)
		}
	}); n > 0 {
		return out, fmt.Errorf("list session: %d directories cannot be read", n)
	}
	return out, nil
}

// Remove disposes of one file and says whether it was there. It is false and no
// error for one that was not. An error says that it is still there, or may be.
func (x *Session) Remove(ctx context.Context, name string) (bool, error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.over {
		return false, ErrClosed
	}
	r, err := x.s.Remove(ctx, x.id, name)
	if err == nil && r.State != connector.Gone {
		err = fmt.Errorf("remove file: %s, %s", r.State, r.Reason)
	}
	return r.Was && r.State == connector.Gone, err
}

// Close disposes of the session and looks: it says how many files are gone, left
// or unknown. What is left is not an error, but Done is false, and the next
// sweep tries again. The error is for a ledger that failed, in which case
// nothing is counted. A second Close returns what the first did.
func (x *Session) Close() (Ended, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return x.ended, x.err
	}
	x.over = true
	_ = x.seal.forget() // a key that stays in the kernel is counted by the disposal, which tries again
	x.ended, x.err = x.s.end(x.id, x.fd)
	unix.Close(x.fd)
	return x.ended, x.err
}

// With makes a session, calls do, and disposes of the session when do returns,
// with an error or without, and when it panics. The error is that of do, joined
// with that of Close; a session of which something is left or unknown is an
// error that wraps ErrLeft.
func (s *Store) With(ctx context.Context, ttl time.Duration, do func(context.Context, *Session) error) (err error) {
	x, err := s.New(ctx, ttl)
	if err != nil {
		return err
	}
	defer func() {
		e, cerr := x.Close()
		if cerr == nil && !e.Done() {
			cerr = fmt.Errorf("%w: %d left, %d unknown, %s", ErrLeft, e.Left, e.Unknown, e.Reason)
		}
		err = errors.Join(err, cerr)
	}()
	return do(ctx, x)
}

// ErrLeft reports a session that did not go to its end.
var ErrLeft = errors.New("something of the session is left")
