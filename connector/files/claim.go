package files

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
)

// claim is the right to erase the files that were claimed. A file system has no
// lock that others must heed: what a claim holds is the root and what was seen.
// Erase looks again right before it takes a name, in the directory that is there
// then: a handle would follow one that was renamed, out of the root too.
type claim struct {
	items []connector.Item
	held  []held // one for each item
	dirs  []directory
	trees map[string]bool
	spent bool

	prober // its root is nil when nothing is held
}

// held is what is remembered of one item.
type held struct {
	claimed bool
	place   place
	dir     int // in claim.dirs
	twin    int // where the batch named the same before, or -1
	id      inode
	nlink   uint32               // of a file
	links   map[inode]*linkCount // of a tree: data in it that has further names
}

var (
	errChanged = errors.New("not the version that was seen")
	errKind    = errors.New("not a regular file")
	errMarker  = errors.New("the marker of the root")
	errOwn     = errors.New("a file of the program or of a store itself, or a directory that holds one")
	errFixed   = errors.New("immutable or append-only")
	errMounted = errors.New("another file system is mounted there")
	errDenied  = errors.New("the directory lets no name go")
	errLinked  = errors.New("the data has a further name, under which it would live on")
	errTaken   = errors.New("the claim is released or used up")
	errNoClaim = errors.New("not claimed")
)

// Claim looks at each item again and rehearses its deletion: same fingerprint,
// still before the cutoff, a directory that lets names go, nothing immutable,
// nothing mounted, no name of the data outside the batch. With a nil q the
// items are parts of a record, whose row says when they are due.
func (c *Connector) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	cl := &claim{items: items, held: make([]held, len(items))}
	if err := ctx.Err(); err != nil {
		return cl, all(len(items), connector.Result{Reason: connector.Unreachable, Err: err})
	}
	due, err := newDueness(q)
	if err != nil {
		return cl, all(len(items), connector.Result{Reason: connector.Invalid, Err: err})
	}
	r, err := c.openRoot(q != nil && q.CrossMounts)
	if err != nil {
		return cl, all(len(items), failed(err))
	}
	cl.r = r
	rs := make([]connector.Result, len(items))
	cl.arrange(rs)
	for k := range cl.dirs {
		cl.directory(ctx, k, due, rs)
	}
	cl.keepLinked(rs, func(i int) bool { return rs[i].Reason == connector.Eligible })
	for i := range rs {
		cl.held[i].claimed = rs[i].State == connector.Present && rs[i].Reason == connector.Eligible
	}
	if has(rs, connector.Gone) {
		r.doubt(rs)
	}
	return cl, rs
}

func has(rs []connector.Result, s connector.State) bool {
	for i := range rs {
		if rs[i].State == s {
			return true
		}
	}
	return false
}

// arrange sorts the batch by directory and notes which items name the same.
func (cl *claim) arrange(rs []connector.Result) {
	cl.dirs = group(len(cl.items), func(i int) connector.Locator { return cl.items[i].Locator }, rs)
	first := make(map[connector.Locator]int, len(cl.items))
	for k, d := range cl.dirs {
		for _, e := range d.entries {
			h := &cl.held[e.i]
			h.place, h.dir, h.twin = place{d.path, e.name, e.tree}, k, -1
			if i, twice := first[cl.items[e.i].Locator]; twice {
				h.twin = i
			} else {
				first[cl.items[e.i].Locator] = e.i
			}
			if e.tree {
				if cl.trees == nil {
					cl.trees = make(map[string]bool)
				}
				cl.trees[below(d.path, []byte(e.name))] = true
			}
		}
	}
}

// directory claims what lies in one directory.
func (cl *claim) directory(ctx context.Context, k int, due *dueness, rs []connector.Result) {
	d := cl.dirs[k]
	fd, err := cl.r.dir(d.path, unix.O_RDONLY)
	if err != nil {
		answer := cl.unopened(err)
		for _, e := range d.entries {
			rs[e.i] = answer
		}
		return
	}
	defer unix.Close(fd)
	p := rehearse(fd)
	for n, e := range d.entries {
		if n%64 == 0 || e.tree {
			if err := ctx.Err(); err != nil {
				for _, e := range d.entries[n:] {
					rs[e.i] = connector.Result{Reason: connector.Unreachable, Err: err}
				}
				break
			}
		}
		rs[e.i] = cl.item(ctx, fd, p, e, due)
	}
}

// parent is what stands in the way of removing any name from a directory.
type parent struct {
	reason connector.Reason // empty: nothing
	err    error
	sticky bool // only names of our own may go
}

func rehearse(fd int) parent {
	var st unix.Statx_t
	if e := statxHandle(fd, &st); e != 0 {
		return parent{reason: reasonOf(e), err: e}
	}
	p := parent{sticky: st.Mode&unix.S_ISVTX != 0 && !owns(&st)}
	if st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0 {
		p.reason, p.err = connector.Refused, errFixed
	} else if err := unix.Faccessat(fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		p.reason, p.err = connector.NoPermission, err
	}
	return p
}

// item claims one name in the open directory fd.
func (cl *claim) item(ctx context.Context, fd int, p parent, e named, due *dueness) connector.Result {
	h, it := &cl.held[e.i], &cl.items[e.i]
	var st unix.Statx_t
	cl.name = terminated(cl.name, e.name)
	switch no := statx(fd, cl.name, 0, &st); {
	case absent(no):
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	case no != 0:
		return failed(fmt.Errorf("look at name: %w", no))
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 && !cl.r.cross:
		return failed(fmt.Errorf("look at name: %w", unix.EXDEV))
	case e.tree && !isType(&st, unix.S_IFDIR):
		return invalid("the locator names a directory, but what is there is none")
	}
	h.id, h.nlink = inode{device(&st), st.Ino}, st.Nlink
	seen := connector.Result{State: connector.Present, Bytes: int64(st.Size)}
	stay := func(why connector.Reason, err error) connector.Result {
		seen.Reason, seen.Err = why, err
		return seen
	}
	newest := modified(&st)
	var t *tree
	if e.tree {
		var err error
		switch t, err = cl.r.walkTree(ctx, &cl.l, fd, e.name, true, false); {
		case err == unix.ENOENT:
			return connector.Result{State: connector.Gone, Reason: connector.Missing}
		case err != nil:
			return failed(fmt.Errorf("look at directory: %w", err))
		}
		seen.Print, seen.Bytes = connector.Fingerprint(t.print()), t.bytes
		newest, h.links = t.newest, t.links
	} else if cl.buf = appendPrint(cl.buf[:0], &st); string(cl.buf) == string(it.Print) {
		seen.Print = it.Print
	} else {
		seen.Print = connector.Fingerprint(cl.buf)
	}
	switch {
	case it.Print == "" || seen.Print != it.Print:
		return stay(connector.Changed, errChanged)
	case !e.tree && !isType(&st, unix.S_IFREG):
		return stay(connector.Refused, errKind)
	case h.place.dir == "" && e.name == cl.r.c.o.Marker:
		return stay(connector.Refused, errMarker)
	case cl.r.own[h.id]:
		return stay(connector.Refused, errOwn)
	}
	if why := due.check(h.place, newest); why != connector.Eligible {
		return stay(why, nil)
	}
	switch {
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, t != nil && t.mounts > 0:
		return stay(connector.Refused, errMounted)
	case st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0, t != nil && t.fixed > 0:
		return stay(connector.Refused, errFixed)
	case p.reason != "":
		return stay(p.reason, p.err)
	case p.sticky && !owns(&st), t != nil && t.denied > 0:
		return stay(connector.NoPermission, errDenied)
	}
	return stay(connector.Eligible, nil)
}

// keepLinked refuses, as Shared, every item in the set whose data has a name
// that no item in the set takes: it would live on under that name, and must
// not be called gone. Refusing one may strand another, hence the loop.
func (cl *claim) keepLinked(rs []connector.Result, in func(i int) bool) map[inode]*linkCount {
	for {
		links := cl.countLinks(in)
		refused := false
		for i := range cl.held {
			if !in(i) || !cl.strands(i, links) {
				continue
			}
			rs[i].State, rs[i].Reason, rs[i].Err = connector.Present, connector.Shared, errLinked
			refused = true
		}
		if !refused {
			return links
		}
	}
}

// countLinks counts, for data with several names, how many of them the set
// takes. What lies in a tree of the batch is counted with the tree.
func (cl *claim) countLinks(in func(i int) bool) map[inode]*linkCount {
	links := make(map[inode]*linkCount)
	add := func(id inode, all, here uint32) {
		if links[id] == nil {
			links[id] = &linkCount{all: all}
		}
		links[id].here += here
	}
	for i := range cl.held {
		h := &cl.held[i]
		switch {
		case !in(i) || h.twin >= 0 || cl.covered(h.place, func(path string) bool { return cl.trees[path] }):
		case !h.place.tree && h.nlink > 1:
			add(h.id, h.nlink, 1)
		case h.place.tree:
			for id, n := range h.links {
				add(id, n.all, n.here)
			}
		}
	}
	return links
}

func (cl *claim) strands(i int, links map[inode]*linkCount) bool {
	h := &cl.held[i]
	if !h.place.tree {
		return h.nlink > 1 && (links[h.id] == nil || links[h.id].here < links[h.id].all)
	}
	for id := range h.links {
		if links[id] == nil || links[id].here < links[id].all {
			return true
		}
	}
	return false
}

// covered reports whether p lies in a directory of which is is true.
func (cl *claim) covered(p place, is func(path string) bool) bool {
	if len(cl.trees) == 0 {
		return false
	}
	for path := p.dir; path != ""; {
		if is(path) {
			return true
		}
		path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	}
	return false
}

// Holds is always nil: a file system has no lock that others must heed.
func (cl *claim) Holds(context.Context) error { return nil }

// Release closes what the claim holds. Nothing has to be put back.
func (cl *claim) Release() error {
	cl.spent = true
	if cl.r == nil {
		return nil
	}
	cl.r.close()
	cl.r = nil
	return nil
}

// dueness says again, from what a claim sees, whether an item is due.
type dueness struct {
	q      *connector.Query
	g      *glob
	layout *connector.Layout
}

func newDueness(q *connector.Query) (*dueness, error) {
	d := &dueness{q: q}
	if q == nil {
		return d, nil
	}
	var err error
	if d.g, err = compile(q.Collection); err != nil {
		return nil, fmt.Errorf("read collection: %w", err)
	}
	switch q.Anchor.Kind {
	case connector.AnchorModified:
	case connector.AnchorName:
		if d.layout, err = connector.CompileLayout(q.Anchor.Layout); err != nil {
			return nil, fmt.Errorf("read anchor: %w", err)
		}
	default:
		return nil, errors.New("read anchor: files have no columns")
	}
	return d, nil
}

// check answers Eligible, NotDue or Undated.
func (d *dueness) check(p place, modified time.Time) connector.Reason {
	if d.q == nil {
		return connector.Eligible
	}
	if !d.g.matches(p) {
		return connector.NotDue
	}
	at := modified
	if d.layout != nil {
		if d.q.Anchor.Zone == nil {
			return connector.Undated
		}
		var ok bool
		if at, ok = d.layout.Instant(p.name, d.q.Anchor.Zone); !ok {
			return connector.Undated
		}
	}
	if !at.Before(d.q.Cutoff) {
		return connector.NotDue
	}
	return connector.Eligible
}
