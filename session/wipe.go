package session

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
)

// Counts are numbers of files: everything in a session that is not a directory,
// links, FIFOs and devices among them, but not the owner record.
type Counts struct {
	Gone    int64 // erased by us, and seen to be gone
	Left    int64 // still there
	Unknown int64 // of which we cannot say; a directory that cannot be read counts as one
	Bytes   int64 // of the regular files that are gone
	// KeysLeft counts keys of sealed sessions that the kernel still has, or may
	// have: they are another user's, or keys are denied here. They end with the
	// session's time.
	KeysLeft int64
}

func (c *Counts) add(d Counts) {
	c.Gone += d.Gone
	c.Left += d.Left
	c.Unknown += d.Unknown
	c.Bytes += d.Bytes
	c.KeysLeft += d.KeysLeft
}

// wipe erases what is in one directory, as much of it as can go.
type wipe struct {
	under *files.Beneath
	top   int // the open directory
	buf   []byte
	gone  Counts
	// lost counts removals of which the kernel did not say what became of them.
	lost  int64
	why   connector.Reason // what stands in the way of the first name that stays
	err   error
	links map[inode]*linked
}

type inode struct {
	major, minor uint32
	ino          uint64
}

// linked is data with several names: those in this session, of how many.
type linked struct {
	all   uint32
	bytes int64
	at    []string // paths below top
}

// mostPasses is how often a directory is gone through while something goes on
// making files in it.
const mostPasses = 3

// run erases, and reports whether nothing is left but the record.
func (w *wipe) run() bool {
	for range mostPasses {
		w.links = nil
		w.why, w.err, w.lost = "", nil, 0
		dirs := w.pass()
		w.takeLinked()
		for _, path := range slices.Backward(dirs[1:]) {
			w.removeDirectory(path)
		}
		left, err := names(w.top, w.buf, nil)
		if err != nil {
			w.note(connector.Unreachable, err)
			return false
		}
		if len(left) == 0 || len(left) == 1 && left[0] == recordName {
			return true
		}
		if w.why != "" {
			return false
		}
	}
	w.note(connector.Changed, errors.New("files are still being made in it"))
	return false
}

func (w *wipe) note(why connector.Reason, err error) {
	if w.why == "" {
		w.why, w.err = why, err
	}
}

// in opens the directory at path below top for the length of do.
func (w *wipe) in(path string, do func(fd int) error) error {
	if path == "" {
		return do(w.top)
	}
	fd, err := w.under.Open(w.top, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd)
}

// pass removes every name that is not a directory's, and returns the paths of
// all directories, each after the one it is in. The first is top itself.
func (w *wipe) pass() []string {
	dirs := []string{""}
	for wait := []string{""}; len(wait) > 0; {
		path := wait[len(wait)-1]
		wait = wait[:len(wait)-1]
		err := w.in(path, func(fd int) error {
			all, err := names(fd, w.buf, nil)
			for _, name := range all {
				if path == "" && name == recordName {
					continue
				}
				if w.take(fd, path, name) {
					wait = append(wait, join(path, name))
					dirs = append(dirs, join(path, name))
				}
			}
			return err
		})
		if err != nil && err != unix.ENOENT {
			w.note(reasonOf(err), err)
		}
	}
	return dirs
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// take removes one name, or reports that it is a directory's.
func (w *wipe) take(fd int, dir, name string) (directory bool) {
	var st unix.Statx_t
	switch err := statx(fd, name, &st); {
	case err == unix.ENOENT:
		return false
	case err != nil:
		w.lost++
		w.note(reasonOf(err), err)
		return false
	case isType(&st, unix.S_IFDIR):
		return true
	case st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0:
		w.note(connector.Refused, errors.New("immutable or append-only"))
		return false
	case st.Nlink > 1:
		id := inode{st.Dev_major, st.Dev_minor, st.Ino}
		if w.links == nil {
			w.links = make(map[inode]*linked)
		}
		if w.links[id] == nil {
			w.links[id] = &linked{all: st.Nlink, bytes: size(&st)}
		}
		w.links[id].at = append(w.links[id].at, join(dir, name))
		return false
	}
	w.unlink(fd, name, size(&st))
	return false
}

func size(st *unix.Statx_t) int64 {
	if isType(st, unix.S_IFREG) {
		return int64(st.Size)
	}
	return 0
}

func (w *wipe) unlink(fd int, name string, bytes int64) {
	switch err := unlinkat(fd, name, 0); err {
	case nil:
		w.gone.Gone++
		w.gone.Bytes += bytes
	case unix.ENOENT, unix.EISDIR:
		// Someone else's hand: taken, or swapped for a directory, which the next
		// pass finds.
	default:
		if reasonOf(err) == connector.Unreachable {
			w.lost++
		}
		w.note(reasonOf(err), err)
	}
}

// takeLinked removes the names of data that has several, where all of them are
// in this session. Otherwise it would live on under the others, and must not be
// called gone.
func (w *wipe) takeLinked() {
	for _, l := range w.links {
		if int(l.all) > len(l.at) {
			w.note(connector.Shared, errors.New("the data has a further name, under which it would live on"))
			continue
		}
		for _, path := range l.at {
			dir, name := split(path)
			if err := w.in(dir, func(fd int) error { w.unlink(fd, name, l.bytes); return nil }); err != nil && err != unix.ENOENT {
				w.note(reasonOf(err), err)
			}
			l.bytes = 0 // it is one file's worth of data
		}
	}
}

func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

func (w *wipe) removeDirectory(path string) {
	dir, name := split(path)
	err := w.in(dir, func(fd int) error { return unlinkat(fd, name, unix.AT_REMOVEDIR) })
	switch err {
	case nil, unix.ENOENT, unix.ENOTEMPTY, unix.ENOTDIR: // not empty: the reason is known, or the next pass finds it
	default:
		w.note(reasonOf(err), err)
	}
}

// reasonOf gives the reason code for what the kernel said of a name.
func reasonOf(err error) connector.Reason {
	switch err {
	case unix.EACCES, unix.EPERM, unix.EROFS:
		return connector.NoPermission
	case unix.ELOOP, unix.EXDEV, unix.ENAMETOOLONG, unix.EINVAL, unix.ENOTDIR:
		return connector.Invalid
	case unix.EBUSY:
		return connector.Refused
	default:
		return connector.Unreachable
	}
}

// File is one name inside of a session.
type File struct {
	Name  string // the path below the session's directory, with slashes
	Bytes int64  // size; of a sealed file, as it is on disk
	// Regular is false for links, FIFOs, sockets and devices, which are listed
	// and disposed of, and never opened.
	Regular bool
}

// list streams what is in an open session directory, directories left out, in
// the order of a walk. It returns how many directories could not be read.
func list(under *files.Beneath, top int, see func(File, *unix.Statx_t)) (unread int64) {
	w := &wipe{under: under, top: top, buf: make([]byte, 8<<10)}
	for wait := []string{""}; len(wait) > 0; {
		path := wait[len(wait)-1]
		wait = wait[:len(wait)-1]
		err := w.in(path, func(fd int) error {
			all, err := names(fd, w.buf, nil)
			slices.Sort(all)
			for _, name := range all {
				var st unix.Statx_t
				if path == "" && name == recordName || statx(fd, name, &st) != nil {
					continue
				}
				if isType(&st, unix.S_IFDIR) {
					wait = append(wait, join(path, name))
				}
				see(File{Name: join(path, name), Bytes: size(&st), Regular: isType(&st, unix.S_IFREG)}, &st)
			}
			return err
		})
		if err != nil && err != unix.ENOENT {
			unread++
		}
	}
	return unread
}

// remaining counts what is left in an open directory.
func remaining(under *files.Beneath, top int) (left, unread int64) {
	var dirs int64
	unread = list(under, top, func(_ File, st *unix.Statx_t) {
		if isType(st, unix.S_IFDIR) {
			dirs++
		} else {
			left++
		}
	})
	if left == 0 && unread == 0 {
		left = dirs // empty directories that do not go
	}
	return left, unread
}
