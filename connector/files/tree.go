package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// tree is what a walk through a whole directory saw. No link is followed and
// nothing is opened but directories.
type tree struct {
	ino    uint64
	count  int64 // everything below, directories included
	bytes  int64 // of regular files
	newest time.Time
	sum    [sha256.Size]byte
	// mounts counts names on which another file system lies; fixed, names that
	// are immutable or append-only, directories too; denied, directories from
	// which we may not remove names.
	mounts, fixed, denied int64
	// links are the inodes that have further names, with how many of them are in
	// this tree.
	links map[inode]*linkCount
	// parts holds the digest of each chunk of each directory, in order, by path
	// below the tree: what a deletion must find again before it takes anything.
	parts map[string][][sha256.Size]byte
}

type inode struct{ dev, ino uint64 }

type linkCount struct{ all, here uint32 }

// print spells the fingerprint of a tree.
func (t *tree) print() string {
	b := append(make([]byte, 0, 80), 'd')
	b = strconv.AppendUint(b, t.ino, 36)
	b = append(b, '.')
	b = strconv.AppendInt(b, t.count, 36)
	b = append(b, '.')
	b = strconv.AppendInt(b, t.bytes, 36)
	b = append(b, '.')
	return string(hex.AppendEncode(b, t.sum[:16]))
}

// treeWalk walks one tree.
type treeWalk struct {
	ctx      context.Context
	r        *resolver
	l        *lister
	rehearse bool // look too whether each directory lets names go
	remember bool // fill parts
	t        *tree
	all      hash.Hash
	scratch  []byte
}

// mostTries is how often a tree is walked that others are changing meanwhile.
const mostTries = 16

// walkTree looks at everything in the directory name of the open directory dir,
// reading with l. ENOENT means that the directory is not there. Any other error
// means that something could not be looked at.
func (r *resolver) walkTree(ctx context.Context, l *lister, dir int, name string, rehearse, remember bool) (*tree, error) {
	for range mostTries {
		t, err := r.walkOnce(ctx, l, dir, name, rehearse, remember)
		if err != unix.ENOENT && err != unix.ENOTDIR && err != unix.ELOOP {
			return t, err
		}
		var st unix.Statx_t
		if e := statx(dir, terminated(nil, name), 0, &st); e != 0 {
			return nil, e
		} else if !isType(&st, unix.S_IFDIR) {
			return nil, unix.ELOOP // something else took its place
		}
	}
	return nil, unix.EBUSY
}

func (r *resolver) walkOnce(ctx context.Context, l *lister, dir int, name string, rehearse, remember bool) (*tree, error) {
	top, err := r.open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(top)
	var st unix.Statx_t
	if e := statxHandle(top, &st); e != 0 {
		return nil, e
	}
	w := &treeWalk{ctx: ctx, r: r, l: l, rehearse: rehearse, remember: remember, all: sha256.New(),
		t: &tree{ino: st.Ino, newest: modified(&st)}}
	if remember {
		w.t.parts = make(map[string][][sha256.Size]byte)
	}
	w.note(&st)
	// Directories wait here by path below top; the last is next.
	for wait := []string{""}; len(wait) > 0; {
		path := wait[len(wait)-1]
		wait = wait[:len(wait)-1]
		if wait, err = w.directory(top, path, wait); err != nil {
			return nil, err
		}
	}
	w.all.Sum(w.t.sum[:0])
	return w.t, nil
}

// openIn opens the directory at path beneath the tree's own handle top.
func (r *resolver) openIn(top int, path string) (int, error) {
	if path == "" {
		return openat(top, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	}
	return r.open(top, path, unix.O_RDONLY|unix.O_DIRECTORY)
}

func (w *treeWalk) directory(top int, path string, wait []string) ([]string, error) {
	fd, err := w.r.openIn(top, path)
	if err == unix.EXDEV {
		w.t.mounts++
		return wait, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if w.rehearse && unix.Faccessat(fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
		w.t.denied++
	}
	first := len(wait)
	var after []byte
	for more := true; more; {
		if err := w.ctx.Err(); err != nil {
			return nil, err
		}
		if more, err = w.l.list(fd, after, nil); err != nil {
			return nil, err
		}
		sum, err := w.r.digest(fd, w.l, func(e entry, st *unix.Statx_t) {
			if w.see(st); isType(st, unix.S_IFDIR) {
				wait = append(wait, below(path, e.name))
			}
		}, &w.scratch)
		if err != nil {
			return nil, err
		}
		w.all.Write(binary.BigEndian.AppendUint32(nil, uint32(len(path))))
		w.all.Write([]byte(path))
		w.all.Write(sum[:])
		if w.remember {
			w.t.parts[path] = append(w.t.parts[path], sum)
		}
		if n := w.l.len(); n > 0 {
			after = bytes.Clone(w.l.at(n - 1).name)
		}
	}
	for i, j := first, len(wait)-1; i < j; i, j = i+1, j-1 {
		wait[i], wait[j] = wait[j], wait[i]
	}
	return wait, nil
}

// digest looks at every name that l holds of the open directory fd and hashes
// what it saw. Of a directory only its name and inode count, since its own
// digest speaks for what is in it. see may be nil.
func (r *resolver) digest(fd int, l *lister, see func(entry, *unix.Statx_t), scratch *[]byte) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	var st unix.Statx_t
	for i := range l.len() {
		e := l.at(i)
		if e := statx(fd, e.terminated(), 0, &st); e != 0 {
			return sum, e
		}
		b := append((*scratch)[:0], e.terminated()...)
		if isType(&st, unix.S_IFDIR) {
			b = binary.BigEndian.AppendUint64(append(b, 'd'), st.Ino)
		} else {
			b = append(appendPrint(b, &st), 0)
		}
		h.Write(b)
		*scratch = b
		if see != nil {
			see(e, &st)
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

func (w *treeWalk) see(st *unix.Statx_t) {
	w.t.count++
	if m := modified(st); m.After(w.t.newest) {
		w.t.newest = m
	}
	if isType(st, unix.S_IFREG) {
		w.t.bytes += int64(st.Size)
	}
	if !isType(st, unix.S_IFDIR) && st.Nlink > 1 {
		if w.t.links == nil {
			w.t.links = make(map[inode]*linkCount)
		}
		id := inode{device(st), st.Ino}
		if w.t.links[id] == nil {
			w.t.links[id] = &linkCount{all: st.Nlink}
		}
		w.t.links[id].here++
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 && (w.r.cross || !isType(st, unix.S_IFDIR)) {
		w.t.mounts++ // a directory that may not be entered is counted where it is refused
	}
	w.note(st)
}

func (w *treeWalk) note(st *unix.Statx_t) {
	if st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0 {
		w.t.fixed++
	}
	if w.rehearse && isType(st, unix.S_IFDIR) && st.Mode&unix.S_ISVTX != 0 && !owns(st) {
		w.t.denied++
	}
}

// owns reports whether the sticky bit of a directory does not stand in the way.
func owns(st *unix.Statx_t) bool { return os.Geteuid() == 0 || uint32(os.Geteuid()) == st.Uid }

func modified(st *unix.Statx_t) time.Time {
	return time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)).UTC()
}

func below(path string, name []byte) string {
	if path == "" {
		return string(name)
	}
	return path + "/" + string(name)
}
