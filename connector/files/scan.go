package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
)

// Scan streams the items of the glob q.Collection. See the package
// documentation for what matches and in which order.
func (c *Connector) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		if s == nil {
			s = new(connector.Survey)
		}
		w := &scan{ctx: ctx, q: q, s: s, yield: yield}
		if err := w.run(c); err != nil && !w.stopped {
			yield(connector.Item{}, err)
		}
	}
}

// scan is one walk through the collection.
type scan struct {
	ctx     context.Context
	q       *connector.Query
	s       *connector.Survey
	yield   func(connector.Item, error) bool
	stopped bool // the reader has had enough

	r       *root
	g       *glob
	layout  *connector.Layout
	l       lister
	inner   lister // for trees, while l is in use
	ahead   [block]sight
	scratch []byte
}

// block is how many names are looked at ahead of the reader, by several
// goroutines: a look waits for the kernel, on a network for a server.
const block = 512

// lookers is how many goroutines look.
const lookers = 4

// sight is what a look at a name saw.
type sight struct {
	st unix.Statx_t
	no errno
}

// errEnough ends a walk whose reader has stopped.
var errEnough = errors.New("the reader stopped")

// frame is a directory that waits to be read. after is set when a part of a
// very large one has been read already.
type frame struct {
	path   string // "" or ending in a slash
	states []state
	after  []byte
	// named means that the rule itself spells the path out: what is wrong with
	// it concerns the whole collection, and is not skipped.
	named bool
}

func (w *scan) run(c *Connector) (err error) {
	if w.g, err = compile(w.q.Collection); err != nil {
		return fmt.Errorf("read collection: %w", err)
	}
	if w.q.Anchor.Kind == connector.AnchorName {
		if w.layout, err = connector.CompileLayout(w.q.Anchor.Layout); err != nil {
			return fmt.Errorf("read anchor: %w", err)
		}
	}
	if w.r, err = c.openRoot(w.q.CrossMounts); err != nil {
		return err
	}
	defer w.r.close()
	for wait := []frame{{states: w.g.start(), named: true}}; len(wait) > 0; {
		f := wait[len(wait)-1]
		wait = wait[:len(wait)-1]
		if wait, err = w.directory(f, wait); err != nil {
			return err
		}
	}
	// The root must have been the root all along for the absence of anything
	// to mean something.
	return w.r.still()
}

// directory reads one directory, or one chunk of it, and adds the directories
// in it that are to be read next.
func (w *scan) directory(f frame, wait []frame) ([]frame, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	names, literal := w.g.names(f.states)
	how := unix.O_RDONLY
	if literal {
		how = unix.O_PATH
	}
	fd, err := w.r.dir(trimSlash(f.path), how)
	switch {
	case err == unix.ENOENT && f.path != "":
		return wait, nil // it went away since it was seen
	case !f.named && (err == unix.EXDEV || err == unix.ENOTDIR || err == unix.ELOOP):
		return wait, nil // another file system; or something else took its place
	case err != nil:
		return nil, fmt.Errorf("open directory: %w", err)
	}
	defer unix.Close(fd)
	if literal {
		return w.literals(fd, f, names, wait)
	}
	more, err := w.l.list(fd, f.after, func(e entry) bool { return w.wants(f.states, e) })
	if err != nil {
		return nil, fmt.Errorf("list directory: %w", err)
	}
	if more {
		last := bytes.Clone(w.l.at(w.l.len() - 1).name)
		wait = append(wait, frame{f.path, f.states, last, f.named})
	}
	for from := 0; from < w.l.len(); from += block {
		if err := w.names(fd, f, from, min(from+block, w.l.len())); err != nil {
			return nil, err
		}
	}
	for i := w.l.len() - 1; i >= 0; i-- {
		e := w.l.at(i)
		if e.typ != unix.DT_DIR && !(e.typ == unix.DT_UNKNOWN && w.isDirectory(fd, e)) || w.g.item(f.states, e.name, true) {
			continue
		}
		if ss := w.g.enter(f.states, e.name); len(ss) > 0 {
			wait = append(wait, frame{path: f.path + string(e.name) + "/", states: ss})
		}
	}
	return wait, nil
}

// wants reports whether a listed name can be an item or lead to one.
func (w *scan) wants(ss []state, e entry) bool {
	switch e.typ {
	case unix.DT_REG:
		return w.g.item(ss, e.name, false)
	case unix.DT_DIR:
		return w.g.item(ss, e.name, true) || len(w.g.enter(ss, e.name)) > 0
	case unix.DT_UNKNOWN:
		return true
	default:
		return false
	}
}

func (w *scan) isDirectory(fd int, e entry) bool {
	var st unix.Statx_t
	return statx(fd, e.terminated(), 0, &st) == 0 && isType(&st, unix.S_IFDIR)
}

// literals goes on where only certain names can match, without listing the
// directory: it may hold millions of others, or be unreadable.
func (w *scan) literals(fd int, f frame, names []string, wait []frame) ([]frame, error) {
	var deeper []frame
	done := make(map[string]bool, len(names))
	for _, name := range names {
		if done[name] {
			continue
		}
		done[name] = true
		b := terminated(nil, name)
		e := entry{name: b[:len(name)]}
		var st unix.Statx_t
		switch no := statx(fd, b, 0, &st); {
		case absent(no):
			continue
		case no != 0:
			return nil, fmt.Errorf("look at name: %w", no)
		}
		ss := w.g.enter(f.states, e.name)
		switch {
		case isType(&st, unix.S_IFDIR) && w.g.item(f.states, e.name, true), isType(&st, unix.S_IFREG):
			e.typ = unix.DT_UNKNOWN
			if err := w.name(fd, f, e, &sight{st: st}); err != nil {
				return nil, err
			}
		case isType(&st, unix.S_IFDIR) && len(ss) > 0:
			deeper = append(deeper, frame{path: f.path + name + "/", states: ss, named: f.named})
		case isType(&st, unix.S_IFLNK) && len(ss) > 0 && f.named:
			// The rule itself says that its collection lies behind this link.
			return nil, fmt.Errorf("open directory: %w", unix.ELOOP)
		}
	}
	for i := len(deeper) - 1; i >= 0; i-- {
		wait = append(wait, deeper[i])
	}
	return wait, nil
}

// names looks at the listed names from from to before to, and yields in their
// order those that are items and due.
func (w *scan) names(fd int, f frame, from, to int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	n := to - from
	each := max((n+lookers-1)/lookers, 32)
	var wg sync.WaitGroup
	look := func(k, end int) {
		for ; k < end; k++ {
			if e := w.l.at(from + k); w.item(f, e) {
				w.ahead[k].no = statx(fd, e.terminated(), 0, &w.ahead[k].st)
			}
		}
	}
	for k := each; k < n; k += each {
		wg.Go(func() { look(k, min(k+each, n)) })
	}
	look(0, min(each, n))
	wg.Wait()
	for k := range n {
		if err := w.name(fd, f, w.l.at(from+k), &w.ahead[k]); err != nil {
			return err
		}
	}
	return nil
}

// item reports whether a listed name can be an item.
func (w *scan) item(f frame, e entry) bool {
	file := e.typ != unix.DT_DIR && w.g.item(f.states, e.name, false)
	return file || e.typ != unix.DT_REG && w.g.item(f.states, e.name, true)
}

// name yields a name that was seen when it is an item that is due.
func (w *scan) name(fd int, f frame, e entry, seen *sight) error {
	if !w.item(f, e) {
		return nil
	}
	if f.path == "" && w.r.c.o.Marker != "" && string(e.name) == w.r.c.o.Marker {
		return nil
	}
	st := &seen.st
	switch no := seen.no; {
	case no == unix.ENOENT:
		return nil // it went away since it was listed
	case no != 0:
		return fmt.Errorf("look at name: %w", no)
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 && !w.r.cross:
		return nil // it lies on another file system
	case w.r.own[inode{device(st), st.Ino}]:
		return nil // it is the program's or a store's own
	case isType(st, unix.S_IFREG) && w.g.item(f.states, e.name, false):
		return w.file(f, e, st)
	case isType(st, unix.S_IFDIR) && w.g.item(f.states, e.name, true):
		return w.tree(fd, f, e)
	}
	return nil
}

func (w *scan) file(f frame, e entry, st *unix.Statx_t) error {
	w.s.Total++
	anchor, due := w.anchor(e.name, st.Mtime.Sec, st.Mtime.Nsec)
	if !due {
		return nil
	}
	// One allocation holds the locator and the fingerprint.
	w.scratch = append(append(w.scratch[:0], f.path...), e.name...)
	n := len(w.scratch)
	w.scratch = appendPrint(w.scratch, st)
	both := string(w.scratch)
	return w.give(connector.Item{Locator: connector.Locator(both[:n]), Anchor: anchor,
		Bytes: int64(st.Size), Print: connector.Fingerprint(both[n:])})
}

// anchor gives the anchor of a name, zero when undated, and whether the item is
// to be yielded. It allocates nothing for a file that is not due.
func (w *scan) anchor(name []byte, sec int64, nsec uint32) (time.Time, bool) {
	var at time.Time
	if w.layout == nil {
		at = time.Unix(sec, int64(nsec)).UTC()
	} else if w.q.Anchor.Zone != nil {
		var ok bool
		if at, ok = w.layout.Instant(string(name), w.q.Anchor.Zone); !ok {
			return time.Time{}, true
		}
	} else {
		return time.Time{}, true
	}
	return at, at.Before(w.q.Cutoff)
}

// tree yields a whole directory as one item. One that cannot be looked at to
// its end is yielded with the cause, and so stays.
func (w *scan) tree(fd int, f frame, e entry) error {
	it := connector.Item{Locator: connector.Locator(f.path + string(e.name) + "/")}
	t, err := w.r.walkTree(w.ctx, &w.inner, fd, string(e.name), false, false)
	switch {
	case w.ctx.Err() != nil:
		return w.ctx.Err()
	case err == unix.ENOENT:
		return nil // it went away since it was listed
	case err != nil:
		w.s.Total++
		it.Err = fmt.Errorf("look at directory: %w", err)
		return w.give(it)
	}
	w.s.Total++
	it.Bytes, it.Print = t.bytes, connector.Fingerprint(t.print())
	if t.mounts > 0 {
		it.Err = errMountInside
		return w.give(it)
	}
	var due bool
	if it.Anchor, due = w.anchor(e.name, t.newest.Unix(), uint32(t.newest.Nanosecond())); !due {
		return nil
	}
	return w.give(it)
}

var errMountInside = errors.New("another file system is mounted inside")

func (w *scan) give(it connector.Item) error {
	if !w.yield(it, nil) {
		w.stopped = true
		return errEnough
	}
	return nil
}

func trimSlash(path string) string {
	if path == "" {
		return ""
	}
	return path[:len(path)-1]
}
