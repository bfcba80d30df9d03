package owner

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lease names a file of which an owner holds the lock, flock(2), as long as he
// lives: the kernel lets go of it when the last process ends that has the file
// open, however it ends. So it can be told whether he lives also where his
// process cannot be seen: from another container on the same host. Whoever holds
// the lock answers for the owner. The zero Lease is none. A path may be personal
// data.
type Lease struct {
	Path string // absolute
	// File says which file it is, so that another one in its place tells nothing:
	// device, inode, birth, and the mark of the holder where Hold took the lock.
	File string
}

// The ways in which a file cannot be a lease.
var (
	ErrHeld    = errors.New("somebody else holds the lock of the file")
	ErrNotHeld = errors.New("nobody holds the lock of the file")
	ErrNotLock = errors.New("it is not a regular file on a disk of this host, whose locks can be relied on")
)

// Held is a lease that this process holds. The lock is that of the open file: a
// child that is started does not have it.
type Held struct {
	fd    int
	lease Lease
}

// How long Hold waits for those who only look whether a lock is held.
const (
	looks    = 20
	lookWait = 5 * time.Millisecond
)

// Hold makes the file of a lease, mode 0600, or takes the one that is there, and
// holds its lock. It leaves a mark in it, so that a later holder of the same file
// is not taken for this one. ErrHeld tells of another holder, and ErrNotLock of a
// file that cannot be a lease. An error names no path.
func Hold(path string) (*Held, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("hold lease: %w", pathless(err))
	}
	for range looks {
		fd, err := openLease(abs, unix.O_RDWR|unix.O_CREAT)
		if err != nil {
			return nil, fmt.Errorf("hold lease: %w", err)
		}
		h, again, err := hold(fd, abs)
		if err == nil {
			return h, nil
		}
		unix.Close(fd)
		if !again {
			return nil, fmt.Errorf("hold lease: %w", err)
		}
		time.Sleep(lookWait)
	}
	return nil, fmt.Errorf("hold lease: %w", ErrHeld)
}

func hold(fd int, abs string) (h *Held, again bool, err error) {
	if err := flock(fd, unix.LOCK_EX); err != nil {
		return nil, err == unix.EWOULDBLOCK, err
	}
	id, err := identify(fd)
	if err != nil {
		return nil, false, err
	}
	// Between opening and locking, another may have put another file there.
	now, err := openLease(abs, unix.O_RDONLY)
	if err != nil {
		return nil, err == unix.ENOENT, err
	}
	defer unix.Close(now)
	if is, err := identify(now); err != nil || is != id {
		return nil, err == nil, cmpErr(err, ErrHeld)
	}
	mark, err := leaveMark(fd)
	if err != nil {
		return nil, false, err
	}
	return &Held{fd: fd, lease: Lease{Path: abs, File: id + "." + mark}}, false, nil
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// Lease returns the name of the lease, to be recorded with the owner.
func (h *Held) Lease() Lease { return h.lease }

// Release lets go of the lock: the owner is dead to all who ask. The file stays.
func (h *Held) Release() error { return unix.Close(h.fd) }

// LeaseOf names the lease that somebody holds on a file, by Hold or by any
// program that takes flock(2), such as flock(1). ErrNotHeld tells that nobody
// does. An error names no path.
func LeaseOf(path string) (Lease, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Lease{}, fmt.Errorf("read lease: %w", pathless(err))
	}
	fd, err := openLease(abs, unix.O_RDONLY)
	if err != nil {
		return Lease{}, fmt.Errorf("read lease: %w", err)
	}
	defer unix.Close(fd)
	id, err := identify(fd)
	if err != nil {
		return Lease{}, fmt.Errorf("read lease: %w", err)
	}
	held, err := isHeld(fd)
	switch {
	case err != nil:
		return Lease{}, fmt.Errorf("read lease: %w", err)
	case !held:
		return Lease{}, fmt.Errorf("read lease: %w", ErrNotHeld)
	}
	if marks, err := readMarks(fd); err == nil && len(marks) > 0 {
		id += "." + marks[len(marks)-1]
	}
	return Lease{Path: abs, File: id}, nil
}

// life says whether the lease is held. A file that is not there, is another one,
// or lies where locks do not reach all hosts, tells nothing.
func (l Lease) life() Life {
	fd, err := openLease(l.Path, unix.O_RDONLY)
	if err != nil {
		return Unknown
	}
	defer unix.Close(fd)
	id, err := identify(fd)
	if err != nil {
		return Unknown
	}
	mark, ok := strings.CutPrefix(l.File, id)
	if !ok || mark != "" && mark[0] != '.' {
		return Unknown
	}
	held, err := isHeld(fd)
	switch {
	case err != nil:
		return Unknown
	case !held:
		return Dead
	case mark == "":
		return Alive
	}
	marks, err := readMarks(fd)
	switch i := slices.Index(marks, strings.TrimPrefix(mark, ".")); {
	case err != nil || i < 0:
		return Unknown
	case i < len(marks)-1:
		return Dead // a later one has the lock
	default:
		return Alive
	}
}

func openLease(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// local are the file systems that only this host's kernel writes to, so that it
// knows of every lock; magic.h. Of any other, nothing is concluded.
var local = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC,
	unix.F2FS_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, 0x2fc12fc1 /* zfs */, 0xca451a4e /* bcachefs */}

// identify spells which file an open one is.
func identify(fd int) (string, error) {
	var fs unix.Statfs_t
	var st unix.Statx_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return "", err
	}
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || !slices.Contains(local, int64(fs.Type)) {
		return "", ErrNotLock
	}
	b := strconv.AppendUint(nil, unix.Mkdev(st.Dev_major, st.Dev_minor), 36)
	b = strconv.AppendUint(append(b, '.'), st.Ino, 36)
	if st.Mask&unix.STATX_BTIME != 0 {
		b = strconv.AppendInt(append(b, '.'), st.Btime.Sec, 36)
		b = strconv.AppendUint(append(b, '-'), uint64(st.Btime.Nsec), 36)
	}
	return string(b), nil
}

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// isHeld looks whether another open file has the lock, shared or not. Those who
// look share it for a moment, and make room for each other.
func isHeld(fd int) (bool, error) {
	if err := flock(fd, unix.LOCK_SH); err != nil {
		if err == unix.EWOULDBLOCK {
			return true, nil
		}
		return false, err
	}
	for range looks {
		switch err := flock(fd, unix.LOCK_EX); err {
		case nil:
			return false, nil
		case unix.EWOULDBLOCK:
			_ = flock(fd, unix.LOCK_UN)
			time.Sleep(lookWait / 5)
		default:
			return false, err
		}
	}
	return true, nil
}

// A mark is a line of 32 hex digits; the last one is the holder's.
const (
	markSize  = 32 + 1
	mostMarks = 1024
)

// errContent reports a file that holds something else than marks.
var errContent = errors.New("the file holds something else: give one that is empty or new")

// leaveMark adds the mark of this holder to the file, whose lock is held.
func leaveMark(fd int) (string, error) {
	marks, err := readMarks(fd)
	if err != nil {
		return "", err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	mark := hex.EncodeToString(random)
	at := int64(len(marks) * markSize)
	text := mark + "\n"
	if len(marks) >= mostMarks { // the oldest are forgotten: of their holders nothing is known
		text, at = strings.Join(append(marks[len(marks)-mostMarks/2:], mark), "\n")+"\n", 0
		if err := unix.Ftruncate(fd, 0); err != nil {
			return "", err
		}
	}
	if n, err := unix.Pwrite(fd, []byte(text), at); err != nil || n < len(text) {
		return "", cmpErr(err, io.ErrShortWrite)
	}
	return mark, nil
}

// readMarks reads the marks of a file that holds nothing else.
func readMarks(fd int) ([]string, error) {
	buf := make([]byte, (mostMarks+1)*markSize)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return nil, err
	}
	if n == len(buf) || n%markSize != 0 {
		return nil, errContent
	}
	var marks []string
	for b := buf[:n]; len(b) > 0; b = b[markSize:] {
		if b[markSize-1] != '\n' || len(bytes.Trim(b[:markSize-1], "0123456789abcdef")) > 0 {
			return nil, errContent
		}
		marks = append(marks, string(b[:markSize-1]))
	}
	return marks, nil
}
