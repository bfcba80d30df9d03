package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
	"github.com/epitaph/epitaph/purge"
)

// The name under which the ledger keeps what happens here.
const (
	ruleName  = "sessions"
	storeName = "sessions"
)

var (
	// ErrNotRoot reports a directory that is not a root of sessions: it is not
	// there, or it has no marker.
	ErrNotRoot = errors.New("not a root of sessions")
	// ErrUnsafeRoot reports a root that others may write to: they could put other
	// directories in the place of sessions.
	ErrUnsafeRoot = errors.New("others may write to the root")
	// ErrVanished reports that the root is not any more what it was when it was
	// opened: removed, replaced, unmounted.
	ErrVanished = errors.New("the root is not there any more")
	// ErrExists reports that there is something under that id already.
	ErrExists = errors.New("the session exists already")
	// ErrNoSession reports that nothing is there under that id.
	ErrNoSession = errors.New("no such session")
	// ErrInUse reports that someone holds the lease of the session.
	ErrInUse = errors.New("the session is in use")
	// ErrClosed reports the use of a session or a store after its Close.
	ErrClosed = errors.New("closed")
)

// DefaultGrace is how long something in a root that is no session is left alone.
const DefaultGrace = time.Hour

// Options are what a store gets from outside. Ledger is required.
type Options struct {
	Ledger purge.Ledger
	Clock  func() time.Time // nil: time.Now
	// Uptime is how long this kernel runs, sleep included; nil: CLOCK_BOOTTIME. A
	// session of this boot is over when it and the clock say so: a clock that was
	// set ahead ends none.
	Uptime func() time.Duration
	Rand   io.Reader // nil: crypto/rand
	Host   string    // "": the kernel's host name
	// Who asks for disposals; sealed in the ledger.
	Who string
	// Create makes the root, with mode 0700, where it does not exist, and turns
	// an empty directory into one. Without it such a root is ErrNotRoot.
	Create bool
	// Grace is how long something that is no session is left alone by Sweep;
	// 0: DefaultGrace.
	Grace time.Duration
	// Sealed encrypts what is written through [Session.Create] and [Visit.Write],
	// with a key for each session. That of a session made by New is in the memory of
	// this process only, and that of one made by Leave in the kernel, for the
	// processes of this user. A power cut, and for the former a crash, then amounts
	// to cryptographic erasure of what was written through it, and of nothing else.
	Sealed bool
	// Lend, with Sealed, gives the key of a session made by New to the kernel too,
	// for the programs that the calling thread starts from then on: they can enter
	// the session. The caller locks its goroutine to the thread and stays on it
	// (runtime.LockOSThread).
	Lend bool
	// Observe gets the events of disposals; see package purge.
	Observe func(purge.Event)
}

// Store is a root of sessions. It may be used concurrently, and other processes
// may use the same root.
type Store struct {
	path     string
	o        Options
	root     int // the open root
	is       unix.Statx_t
	under    *files.Beneath
	me       owner.Process
	disposer *purge.Disposer
	group    group

	mu     sync.Mutex
	closed bool
	// held are the open, locked directories that a claim may use.
	held map[string]int
	// counts are what the claims of sessions saw, for whoever asked for them.
	counts map[string]Counts

	buffers sync.Pool
}

// Open opens a root of sessions. It is reached through one handle from here on;
// only what leads to it may be a link.
func Open(ctx context.Context, root string, o Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Ledger == nil {
		return nil, errors.New("open sessions: there is no ledger")
	}
	s, err := openStore(root, o)
	if err != nil {
		return nil, err
	}
	s.disposer, err = purge.NewDisposer(purge.Config{Ledger: o.Ledger, Stores: map[string]connector.Connector{storeName: tree{s}},
		Clock: s.o.Clock, Rand: s.o.Rand, Observe: o.Observe, Who: o.Who, Batch: mostGroup})
	if err != nil {
		unix.Close(s.root)
		return nil, err
	}
	s.group = group{most: 2, do: s.disposeGroup}
	return s, nil
}

// openStore opens a root, without what disposes of anything in it.
func openStore(root string, o Options) (*Store, error) {
	if root == "" || strings.IndexByte(root, 0) >= 0 {
		return nil, fmt.Errorf("open sessions: %w: the path is empty or holds a NUL", ErrNotRoot)
	}
	path, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open sessions: %w", pathless(err))
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Uptime == nil {
		o.Uptime = uptime
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.Host == "" {
		if o.Host, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("open sessions: %w", err)
		}
	}
	s := &Store{path: path, o: o, root: -1, held: make(map[string]int), counts: make(map[string]Counts)}
	s.buffers.New = func() any { b := make([]byte, 32<<10); return &b }
	if s.me, err = owner.Of(o.Host, os.Getpid()); err != nil {
		return nil, fmt.Errorf("open sessions: %w", err)
	}
	if err := s.openRoot(); err != nil {
		return nil, fmt.Errorf("open sessions: %w", err)
	}
	return s, nil
}

func (s *Store) openRoot() (err error) {
	if s.o.Create {
		if err := unix.Mkdir(s.path, 0o700); err == nil {
			err = os.Chmod(s.path, 0o700)
			if err != nil {
				return pathless(err)
			}
		} else if err != unix.EEXIST {
			return err
		}
	}
	s.root, err = openat(unix.AT_FDCWD, s.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return fmt.Errorf("%w: %w", ErrNotRoot, err)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			unix.Close(s.root)
		}
	}()
	if err := statx(s.root, "", &s.is); err != nil {
		return err
	}
	if s.is.Mode&0o022 != 0 {
		return ErrUnsafeRoot
	}
	if s.under, err = files.NewBeneath(s.root); err != nil {
		return err
	}
	return s.mark()
}

// mark looks for the marker, and puts it into an empty root.
func (s *Store) mark() error {
	var st unix.Statx_t
	err := statx(s.root, markerName, &st)
	if err == nil && isType(&st, unix.S_IFREG) {
		return nil
	}
	if err != nil && err != unix.ENOENT {
		return err
	}
	if !s.o.Create {
		return fmt.Errorf("%w: it has no marker", ErrNotRoot)
	}
	all, err := names(s.root, make([]byte, 32<<10), nil)
	if err != nil {
		return err
	}
	if len(all) > 0 && (len(all) != 1 || all[0] != markerName) {
		return fmt.Errorf("%w: it is not empty, and has no marker", ErrNotRoot)
	}
	fd, err := create(s.root, markerName)
	if err == unix.EEXIST {
		return nil // another process was quicker
	}
	if err != nil {
		return err
	}
	unix.Close(fd)
	return fsync(s.root)
}

// Path returns the absolute path of the root.
func (s *Store) Path() string { return s.path }

// Close waits for disposals that are under way and lets go of the root. Sessions
// that are still open lose their place in it but not their lease; close them
// before.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	s.group.drain()
	return unix.Close(s.root)
}

func (s *Store) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return nil
}

// still verifies that the root's path leads to the root that was opened.
func (s *Store) still() error {
	var st unix.Statx_t
	if err := statx(unix.AT_FDCWD, s.path, &st); err != nil || !sameInode(&st, &s.is) || st.Mnt_id != s.is.Mnt_id {
		return ErrVanished
	}
	return nil
}

// inside opens the directory that a file of a session is in.
func (s *Store) inside(p spot, do func(fd int, name string) error) error {
	top, err := s.under.Open(s.root, p.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	dir, name := split(p.file)
	if dir == "" {
		return do(top, name)
	}
	fd, err := s.under.Open(top, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd, name)
}

// grip returns the open and locked directory of a session: that which its closer
// holds, or one of its own, which the caller must close.
func (s *Store) grip(name string) (fd int, own bool, err error) {
	s.mu.Lock()
	fd, ok := s.held[name]
	s.mu.Unlock()
	if ok {
		return fd, false, nil
	}
	fd, err = s.seize(name)
	return fd, err == nil, err
}

// seize opens a directory of the root and takes its lock, without waiting. Every
// error is ErrInUse or an errno.
func (s *Store) seize(name string) (int, error) {
	for range 8 {
		fd, err := s.under.Open(s.root, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return -1, err
		}
		if err := lock(fd); err != nil {
			unix.Close(fd)
			if err == unix.EWOULDBLOCK {
				return -1, ErrInUse
			}
			return -1, err
		}
		// Between the two, whoever had the lock may have removed the directory.
		var now, mine unix.Statx_t
		if err = statx(fd, "", &mine); err == nil {
			err = statx(s.root, name, &now)
		}
		if err == nil && sameInode(&now, &mine) {
			return fd, nil
		}
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
	}
	return -1, unix.EBUSY
}

// count keeps what a claim saw of a session.
func (s *Store) count(name string, c Counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[name] = c
}

// doubtCount takes back what a claim said to be gone.
func (s *Store) doubtCount(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.counts[name]; ok {
		s.counts[name] = Counts{Left: c.Left, Unknown: c.Unknown + c.Gone, KeysLeft: c.KeysLeft}
	}
}

func (s *Store) counted(name string) Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts[name]
	delete(s.counts, name)
	return c
}

// fromDead reports an intent of a process that is known to be gone.
func (s *Store) fromDead(e ledger.Entry) bool { return s.me.Life(owner.From(e)) == owner.Dead }

func (s *Store) buffer() *[]byte    { return s.buffers.Get().(*[]byte) }
func (s *Store) giveBack(b *[]byte) { s.buffers.Put(b) }
func (s *Store) now() time.Time     { return s.o.Clock().UTC() }
