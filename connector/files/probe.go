package files

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
)

// Probe looks at each locator and changes nothing. Each directory that they name
// is opened once for the batch.
func (c *Connector) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	if err := ctx.Err(); err != nil {
		return all(len(at), connector.Result{Reason: connector.Unreachable, Err: err})
	}
	r, err := c.openRoot(false)
	if err != nil {
		return all(len(at), failed(err))
	}
	defer r.close()
	rs := make([]connector.Result, len(at))
	p := prober{r: r}
	for _, d := range group(len(at), func(i int) connector.Locator { return at[i] }, rs) {
		p.directory(ctx, d, rs)
	}
	if has(rs, connector.Gone) {
		r.doubt(rs)
	}
	return rs
}

// doubt turns every Gone into Unknown when the root is no longer the root: what
// was looked at may be another tree by now.
func (r *root) doubt(rs []connector.Result) {
	err := r.still()
	if err == nil {
		return
	}
	for i := range rs {
		if rs[i].State == connector.Gone {
			rs[i] = failed(err)
		}
	}
}

// directory is the part of a batch that lies in one directory.
type directory struct {
	path    string
	entries []named
}

type named struct {
	i    int // in the batch
	name string
	tree bool
}

// group sorts the places of a batch by directory, in the order in which the
// batch first names them. What no store may hold is answered in rs at once.
func group(n int, loc func(int) connector.Locator, rs []connector.Result) []directory {
	var ds []directory
	index := make(map[string]int)
	last := -1
	for i := range n {
		p, ok := parse(loc(i))
		if !ok {
			rs[i] = invalid("the locator names nothing below the root")
			continue
		}
		if last < 0 || ds[last].path != p.dir {
			k, seen := index[p.dir]
			if !seen {
				k = len(ds)
				index[p.dir] = k
				ds = append(ds, directory{path: p.dir})
			}
			last = k
		}
		ds[last].entries = append(ds[last].entries, named{i, p.name, p.tree})
	}
	return ds
}

// prober holds what a batch of looks needs again and again.
type prober struct {
	r    *root
	l    lister
	name []byte
	buf  []byte
}

func (p *prober) directory(ctx context.Context, d directory, rs []connector.Result) {
	fd, err := p.r.dir(d.path, unix.O_PATH)
	if err != nil {
		answer := p.unopened(err)
		for _, e := range d.entries {
			rs[e.i] = answer
		}
		return
	}
	defer unix.Close(fd)
	for n, e := range d.entries {
		if n%64 == 0 || e.tree {
			if err := ctx.Err(); err != nil {
				for _, e := range d.entries[n:] {
					rs[e.i] = connector.Result{Reason: connector.Unreachable, Err: err}
				}
				return
			}
		}
		rs[e.i] = p.look(ctx, fd, e)
	}
}

// unopened is the answer for everything in a directory that cannot be opened.
func (p *prober) unopened(err error) connector.Result {
	if e, ok := err.(errno); ok && absent(e) {
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	}
	return failed(fmt.Errorf("open directory: %w", err))
}

// look looks at one name in the open directory fd.
func (p *prober) look(ctx context.Context, fd int, e named) connector.Result {
	var st unix.Statx_t
	p.name = terminated(p.name, e.name)
	switch no := statx(fd, p.name, 0, &st); {
	case absent(no):
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	case no != 0:
		return failed(fmt.Errorf("look at name: %w", no))
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 && !p.r.cross:
		return failed(fmt.Errorf("look at name: %w", unix.EXDEV))
	case !e.tree:
		p.buf = appendPrint(p.buf[:0], &st)
		return connector.Result{State: connector.Present,
			Print: connector.Fingerprint(p.buf), Bytes: int64(st.Size)}
	case !isType(&st, unix.S_IFDIR):
		return invalid("the locator names a directory, but what is there is none")
	}
	t, err := p.r.walkTree(ctx, &p.l, fd, e.name, false, false)
	switch {
	case err == unix.ENOENT:
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	case err != nil:
		return failed(fmt.Errorf("look at directory: %w", err))
	}
	return connector.Result{State: connector.Present,
		Print: connector.Fingerprint(t.print()), Bytes: t.bytes}
}
