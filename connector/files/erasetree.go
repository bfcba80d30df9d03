package files

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
)

// tree takes the directory of item i, with everything in it, from the open
// directory fd. It walks through all of it once more, and takes the names of a
// directory only while it holds exactly what that walk saw. The zero result
// means that it was taken.
func (e *erasure) tree(fd, i int) connector.Result {
	h, it := &e.held[i], &e.items[i]
	t, err := e.r.walkTree(e.ctx, &e.l, fd, h.place.name, false, true)
	switch {
	case err == unix.ENOENT:
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	case err != nil:
		return failed(fmt.Errorf("look at directory: %w", err))
	}
	seen := connector.Result{State: connector.Present, Print: connector.Fingerprint(t.print()), Bytes: t.bytes}
	switch {
	case seen.Print != it.Print:
		seen.Reason, seen.Err = connector.Changed, errChanged
		return seen
	case t.mounts > 0:
		seen.Reason, seen.Err = connector.Refused, errMounted
		return seen
	}
	for id, n := range t.links {
		if n.all > e.remaining(id, n.here) {
			seen.Reason, seen.Err = connector.Shared, errLinked
			return seen
		}
	}
	cause := e.takeTree(fd, h.place.name, t)
	if cause == 0 {
		for id, n := range t.links {
			e.freed[id] += n.here
		}
		return connector.Result{}
	}
	return e.leftover(fd, i, refused(cause, seen))
}

// leftover says what is left of a tree that did not go to its end.
func (e *erasure) leftover(fd, i int, r connector.Result) connector.Result {
	e.dirty[e.held[i].dir] = true
	t, err := e.r.walkTree(context.WithoutCancel(e.ctx), &e.l, fd, e.held[i].place.name, false, false)
	if err != nil {
		return failed(fmt.Errorf("look at what is left: %w", err))
	}
	if r.State != connector.Present {
		r = connector.Result{State: connector.Present, Reason: connector.Changed, Err: r.Err}
	}
	if r.Err == nil {
		r.Err = errChanged
	}
	r.Print, r.Bytes = connector.Fingerprint(t.print()), t.bytes
	r.Err = fmt.Errorf("%d names are left: %w", t.count, r.Err)
	return r
}

// takeTree removes all that t saw: first the names of files, in every
// directory, then the directories, inner ones first. ENOTEMPTY means that it
// met something that t did not see, and left that.
func (e *erasure) takeTree(fd int, name string, t *tree) errno {
	top, err := e.r.open(fd, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err.(errno)
	}
	defer unix.Close(top)
	var st unix.Statx_t
	if no := statxHandle(top, &st); no != 0 || st.Ino != t.ino {
		return orChanged(no)
	}
	paths := slices.Sorted(maps.Keys(t.parts))
	var first errno
	for _, path := range paths {
		if e.ctx.Err() != nil {
			return unix.EINTR
		}
		switch no := e.emptyDirectory(top, path, t); {
		case no == unix.ENOTEMPTY:
			return no // someone is at work here: stop at once
		case first == 0:
			first = no
		}
	}
	if first != 0 {
		return first
	}
	for _, path := range slices.Backward(paths) {
		if path == "" {
			continue
		}
		if no := e.removeDirectory(top, path); no != 0 {
			return no
		}
	}
	// The name must still be that of the directory we emptied.
	e.name = terminated(e.name, name)
	if no := statx(fd, e.name, 0, &st); no != 0 || st.Ino != t.ino {
		return orChanged(no)
	}
	return unlinkat(fd, e.name, unix.AT_REMOVEDIR)
}

func orChanged(no errno) errno {
	if no == 0 {
		return unix.ENOTEMPTY
	}
	return no
}

// emptyDirectory removes every name but those of directories.
func (e *erasure) emptyDirectory(top int, path string, t *tree) (first errno) {
	fd, err := e.r.openIn(top, path)
	if err != nil {
		return unix.ENOTEMPTY
	}
	defer unix.Close(fd)
	var after []byte
	for part, more := 0, true; more; part++ {
		if more, err = e.l.list(fd, after, nil); err != nil {
			return err.(errno)
		}
		var files []int
		n := 0
		sum, err := e.r.digest(fd, &e.l, func(_ entry, st *unix.Statx_t) {
			if !isType(st, unix.S_IFDIR) {
				files = append(files, n)
			}
			n++
		}, &e.buf)
		if err != nil || part >= len(t.parts[path]) || sum != t.parts[path][part] {
			return unix.ENOTEMPTY
		}
		for _, i := range files {
			if no := unlinkat(fd, e.l.at(i).terminated(), 0); no != 0 && no != unix.ENOENT && first == 0 {
				first = no
			}
		}
		if n > 0 {
			after = bytes.Clone(e.l.at(n - 1).name)
		}
	}
	return first
}

func (e *erasure) removeDirectory(top int, path string) errno {
	cut := strings.LastIndexByte(path, '/')
	fd, err := e.r.openIn(top, path[:max(cut, 0)])
	if err != nil {
		return unix.ENOTEMPTY
	}
	defer unix.Close(fd)
	e.name = terminated(e.name, path[cut+1:])
	if no := unlinkat(fd, e.name, unix.AT_REMOVEDIR); no != unix.ENOENT {
		return no
	}
	return 0
}
