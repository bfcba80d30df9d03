package files

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
)

// place is a locator taken apart: name in the directory dir below the root,
// "" for the root itself.
type place struct {
	dir, name string
	tree      bool // a trailing slash: the directory with everything in it
}

// parse takes a locator apart. It is false for one that no store may hold:
// empty, absolute, climbing, with a NUL, or with an element that is empty or a
// dot, so that a thing below the root has exactly one spelling.
func parse(loc connector.Locator) (place, bool) {
	var p place
	path, tree := strings.CutSuffix(string(loc), "/")
	p.tree = tree
	if strings.IndexByte(path, 0) >= 0 {
		return place{}, false
	}
	for rest, more := path, true; more; {
		var el string
		el, rest, more = strings.Cut(rest, "/")
		if el == "" || el == "." || el == ".." {
			return place{}, false
		}
	}
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		p.dir, p.name = path[:i], path[i+1:]
	} else {
		p.name = path
	}
	return p, true
}

// appendPrint spells the fingerprint of anything but a tree: type, inode, size
// and modification time to the nanosecond. The device is left out, because its
// number changes with a reboot and the root is verified anyhow; the change
// time, because a backup, a chmod or a new link moves it.
func appendPrint(b []byte, st *unix.Statx_t) []byte {
	b = append(b, typeLetter(st.Mode))
	b = strconv.AppendUint(b, st.Ino, 36)
	b = append(b, '.')
	b = strconv.AppendUint(b, st.Size, 36)
	b = append(b, '.')
	b = strconv.AppendInt(b, st.Mtime.Sec, 36)
	b = append(b, '.')
	return strconv.AppendUint(b, uint64(st.Mtime.Nsec), 36)
}

// typeLetter is the letter ls shows for a type, but f for a regular file.
func typeLetter(mode uint16) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 'f'
	case unix.S_IFDIR:
		return 'd'
	case unix.S_IFLNK:
		return 'l'
	case unix.S_IFIFO:
		return 'p'
	case unix.S_IFSOCK:
		return 's'
	case unix.S_IFBLK:
		return 'b'
	case unix.S_IFCHR:
		return 'c'
	default:
		return '?'
	}
}
