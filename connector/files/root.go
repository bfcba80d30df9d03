package files

import (
	"errors"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// rootError says that the root itself could not be verified. Whatever its
// cause, nothing is known of anything below.
type rootError struct{ err error }

func (e *rootError) Error() string { return "verify root: " + e.err.Error() }
func (e *rootError) Unwrap() error { return e.err }

// Why nothing is known of what lies below a root that is there.
var (
	ErrReplaced = errors.New("another directory stands where the root was")
	ErrNoMount  = errors.New("the root is not a mount point")
	ErrNoMarker = errors.New("the marker file is not there")
)

// root is the verified root, held for one batch.
type root struct {
	c   *Connector
	fd  int // O_PATH
	dev uint64
	own map[inode]bool // Options.Own and the directories they lie in
	resolver
}

// openRoot opens the root and verifies that it is the one that was seen before.
func (c *Connector) openRoot(cross bool) (*root, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, &rootError{errClosed}
	}
	fd, st, err := c.verify()
	if err != nil {
		return nil, &rootError{err}
	}
	if !c.pinned {
		c.walk = c.walk || !hasOpenat2(fd)
		c.pinned, c.dev, c.ino = true, device(st), st.Ino
	}
	return &root{c: c, fd: fd, dev: device(st), own: ownFiles(c.o.Own),
		resolver: resolver{cross: cross || c.o.CrossMounts, walk: c.walk, mount: st.Mnt_id}}, nil
}

// ownFiles looks up what must not be taken: the files at the paths, and every
// directory on the way to them.
func ownFiles(paths []string) map[inode]bool {
	own := make(map[inode]bool)
	var st unix.Statx_t
	for _, p := range paths {
		real, err := filepath.Abs(p)
		if err == nil {
			real, err = filepath.EvalSymlinks(real)
		}
		if err != nil {
			continue // it is not there
		}
		for {
			if unix.Statx(unix.AT_FDCWD, real, 0, unix.STATX_INO, &st) == nil {
				own[inode{device(&st), st.Ino}] = true
			}
			up := filepath.Dir(real)
			if up == real {
				break
			}
			real = up
		}
	}
	return own
}

// verify opens the root's path and checks everything that makes it the root.
// Only the last component must not be a link: what leads to it is the
// operator's own.
func (c *Connector) verify() (int, *unix.Statx_t, error) {
	fd, err := openat(unix.AT_FDCWD, c.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return -1, nil, err
	}
	st := new(unix.Statx_t)
	if err := c.verifyHandle(fd, st); err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, st, nil
}

func (c *Connector) verifyHandle(fd int, st *unix.Statx_t) error {
	if e := statxHandle(fd, st); e != 0 {
		return e
	}
	if c.pinned && (device(st) != c.dev || st.Ino != c.ino) {
		return ErrReplaced
	}
	if c.o.Mount && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return ErrNoMount
	}
	if c.o.Marker != "" {
		var m unix.Statx_t
		if e := statx(fd, terminated(nil, c.o.Marker), 0, &m); e != 0 && !absent(e) {
			return e
		} else if e != 0 || !isType(&m, unix.S_IFREG) {
			return ErrNoMarker
		}
	}
	return nil
}

// still verifies the root once more. Absence below it counts only when the
// root was the root before and after the look.
func (r *root) still() error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	fd, st, err := r.c.verify()
	if err != nil {
		return &rootError{err}
	}
	defer unix.Close(fd)
	if st.Mnt_id != r.mount {
		return &rootError{ErrReplaced}
	}
	return nil
}

// dir opens the directory at path below the root, "" for the root itself.
func (r *root) dir(path string, flags int) (int, error) {
	if path == "" {
		return openat(r.fd, ".", flags|unix.O_DIRECTORY)
	}
	return r.open(r.fd, path, flags|unix.O_DIRECTORY)
}

func (r *root) close() { unix.Close(r.fd) }

// resolver opens what lies beneath a directory without following a link and,
// unless cross is set, without leaving its mount.
type resolver struct {
	cross bool
	walk  bool   // openat2 is not to be had
	mount uint64 // the mount the root is on
}

// longest is the length up to which a path is given to the kernel in one piece;
// PATH_MAX is 4096 with its NUL.
const longest = 4000

// open opens path beneath base. Every error is an errno. A path longer than
// the kernel takes is opened in pieces, each beneath the one before.
func (r *resolver) open(base int, path string, flags int) (int, error) {
	at := base
	defer func() {
		if at != base {
			unix.Close(at)
		}
	}()
	for len(path) > longest {
		cut := strings.LastIndexByte(path[:longest], '/')
		if cut <= 0 {
			return -1, unix.ENAMETOOLONG
		}
		next, err := r.piece(at, path[:cut], unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return -1, err
		}
		if at != base {
			unix.Close(at)
		}
		at, path = next, path[cut+1:]
	}
	return r.piece(at, path, flags)
}

func (r *resolver) piece(base int, path string, flags int) (int, error) {
	if r.walk {
		return r.step(base, path, flags)
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if !r.cross {
		how.Resolve |= unix.RESOLVE_NO_XDEV
	}
	// EAGAIN means that a rename elsewhere raced with the resolution.
	for range 16 {
		fd, err := unix.Openat2(base, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// step does by single components what openat2 does at once: each is opened
// from the handle of the one before, none may be a link, none may lie on
// another mount.
func (r *resolver) step(base int, path string, flags int) (int, error) {
	at := base
	for more := true; more; {
		var name string
		name, path, more = strings.Cut(path, "/")
		how := flags
		if more {
			how = unix.O_PATH | unix.O_DIRECTORY
		}
		next, err := r.component(at, name, how)
		if at != base {
			unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

func (r *resolver) component(at int, name string, flags int) (int, error) {
	if name == "" || name == "." || name == ".." {
		return -1, unix.EXDEV
	}
	fd, err := openat(at, name, flags|unix.O_NOFOLLOW)
	var st unix.Statx_t
	if err == unix.ENOTDIR && statx(at, terminated(nil, name), 0, &st) == 0 && isType(&st, unix.S_IFLNK) {
		return -1, unix.ELOOP
	}
	if err != nil {
		return -1, err
	}
	if e := statxHandle(fd, &st); e != 0 {
		unix.Close(fd)
		return -1, e
	}
	if !r.cross && st.Mnt_id != r.mount {
		unix.Close(fd)
		return -1, unix.EXDEV
	}
	return fd, nil
}

// hasOpenat2 reports whether openat2 can be used. Kernels before 5.6 lack it,
// and sandboxes answer EPERM to a call they do not know.
func hasOpenat2(fd int) bool {
	h, err := unix.Openat2(fd, ".", &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return err != unix.ENOSYS && err != unix.EPERM
	}
	unix.Close(h)
	return true
}

func openat(at int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(at, path, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
