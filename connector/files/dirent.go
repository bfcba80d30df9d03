package files

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// lister reads directories in the order of their names' bytes. A directory with
// at most chunk names is read once. A larger one is read again for each further
// chunk, so that memory stays flat also for millions of names in one place.
type lister struct {
	buf   []byte
	arena []byte // for each name: its type, the name, NUL
	names []span
	limit int // chunk, unless a test sets it
}

// span is where a record begins in the arena and how long its name is.
type span struct {
	off uint32
	n   uint8
}

// chunk is how many names are held at once; up to twice as many while reading.
// It is part of the fingerprint of a tree with a directory larger than this.
const chunk = 1 << 19

// readBuffer is what one getdents call may fill.
const readBuffer = 256 << 10

// entry is a name as listed. It is valid until the next call of list.
type entry struct {
	typ  uint8  // unix.DT_…
	name []byte // without NUL; one follows it in memory
}

// terminated returns the name with the NUL that follows it.
func (e entry) terminated() []byte { return e.name[:len(e.name)+1] }

func (l *lister) len() int { return len(l.names) }

func (l *lister) at(i int) entry {
	s := l.names[i]
	rec := l.arena[s.off:]
	return entry{typ: rec[0], name: rec[1 : 1+int(s.n) : 2+int(s.n)]}
}

// list reads the names of the open directory fd that come after after and that
// keep wants, smallest first. more reports that the directory holds further
// ones. keep may be nil.
func (l *lister) list(fd int, after []byte, keep func(entry) bool) (more bool, err error) {
	if l.buf == nil {
		l.buf = make([]byte, readBuffer)
	}
	if l.limit == 0 {
		l.limit = chunk
	}
	l.arena, l.names = l.arena[:0], l.names[:0]
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return false, err
	}
	var bound []byte // once set: names from here on belong to a later chunk
	for {
		n, err := unix.Getdents(fd, l.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, err
		}
		if n == 0 {
			break
		}
		for b := l.buf[:n]; len(b) > 0; {
			size := binary.NativeEndian.Uint16(b[16:])
			rec := b[18:size]
			b = b[size:]
			name := rec[1 : 1+bytes.IndexByte(rec[1:], 0)]
			if dots(name) || after != nil && bytes.Compare(name, after) <= 0 {
				continue
			}
			if bound != nil && bytes.Compare(name, bound) >= 0 {
				continue
			}
			if keep != nil && !keep(entry{typ: rec[0], name: name}) {
				continue
			}
			l.names = append(l.names, span{uint32(len(l.arena)), uint8(len(name))})
			l.arena = append(append(append(l.arena, rec[0]), name...), 0)
		}
		if len(l.names) >= 2*l.limit {
			bound, more = l.cut(), true
		}
	}
	l.sort()
	if len(l.names) > l.limit {
		l.cut()
		more = true
	}
	return more, nil
}

func dots(name []byte) bool {
	return len(name) <= 2 && name[0] == '.' && (len(name) == 1 || name[1] == '.')
}

func (l *lister) name(s span) []byte { return l.arena[s.off+1:][:s.n] }

func (l *lister) sort() {
	slices.SortFunc(l.names, func(a, b span) int { return bytes.Compare(l.name(a), l.name(b)) })
}

// cut keeps the chunk smallest names and returns the first that it drops.
func (l *lister) cut() []byte {
	l.sort()
	bound := bytes.Clone(l.name(l.names[l.limit]))
	kept := make([]byte, 0, len(l.arena)*3/4)
	l.names = l.names[:l.limit]
	for i, s := range l.names {
		l.names[i].off = uint32(len(kept))
		kept = append(kept, l.arena[s.off:][:int(s.n)+2]...)
	}
	l.arena = kept
	return bound
}
