package session

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
)

// tree is the root as the purge protocol sees it. A locator that ends in a slash
// is a directory in the root, "a/b" the file b of the session a, and a name
// alone anything else that lies in the root.
//
// What stands in the place of a database's lock is the lease: a session is
// claimed by whoever holds the lock of its directory. A session that is closed
// or swept is claimed with the lock that its closer took before.
type tree struct{ s *Store }

var _ connector.Connector = tree{}

var (
	errInvalid = errors.New("the locator names nothing in the root")
	errQuery   = errors.New("sessions are found by a sweep, not by a query")
	errOther   = errors.New("another thing stands in its place")
	errNoClaim = errors.New("not claimed, or used up")
)

// Check answers that no query can be run here.
func (t tree) Check(context.Context, *connector.Query) ([]connector.Finding, error) {
	return []connector.Finding{{Severity: connector.Fault, Subject: "collection", Text: errQuery.Error(), Hint: "epitaph session sweep"}}, nil
}

// Scan finds nothing: see Check.
func (t tree) Scan(context.Context, *connector.Query, *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) { yield(connector.Item{}, errQuery) }
}

// spot is a locator taken apart.
type spot struct {
	name string // in the root
	file string // below it, or ""
	dir  bool
}

func parse(at connector.Locator) (spot, bool) {
	name, rest, slash := strings.Cut(string(at), "/")
	p := spot{name: name, file: rest, dir: slash && rest == ""}
	if name == "" || name == "." || name == ".." || name == markerName || strings.IndexByte(name, 0) >= 0 {
		return p, false
	}
	return p, rest == "" || checkName(rest) == nil
}

func sessionPrint(st *unix.Statx_t, r record) connector.Fingerprint {
	return connector.Fingerprint("s." + strconv.FormatUint(st.Ino, 36) + "." + r.Nonce)
}

// Probe looks at each locator and changes nothing.
func (t tree) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	out := make([]connector.Result, len(at))
	absent := false
	lost := t.s.still()
	for i, l := range at {
		if err := cmp.Or(ctx.Err(), lost); err != nil {
			out[i] = connector.Result{Reason: connector.Unreachable, Err: err}
			continue
		}
		p, ok := parse(l)
		if !ok {
			out[i] = connector.Result{Reason: connector.Invalid, Err: errInvalid}
			continue
		}
		out[i] = t.look(p)
		absent = absent || out[i].State == connector.Gone
	}
	if absent {
		t.doubt(out)
	}
	return out
}

// doubt turns every Gone into Unknown when the root is not the root any more.
func (t tree) doubt(rs []connector.Result) {
	err := t.s.still()
	for i := range rs {
		if err != nil && rs[i].State == connector.Gone {
			rs[i] = connector.Result{Reason: connector.Unreachable, Err: err}
		}
	}
}

func failed(err error) connector.Result {
	if err == unix.ENOENT {
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	}
	return connector.Result{Reason: reasonOf(err), Err: err}
}

func (t tree) look(p spot) connector.Result {
	switch {
	case p.file != "":
		var r connector.Result
		err := t.s.inside(p, func(fd int, name string) error {
			r = lookAt(fd, name)
			return nil
		})
		if err != nil {
			return failed(err)
		}
		return r
	case p.dir:
		fd, err := t.s.under.Open(t.s.root, p.name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return failed(err)
		}
		defer unix.Close(fd)
		return lookIn(fd)
	default:
		return lookAt(t.s.root, p.name)
	}
}

// lookAt looks at a name that is not a session's directory.
func lookAt(fd int, name string) connector.Result {
	var st unix.Statx_t
	if err := statx(fd, name, &st); err != nil {
		return failed(err)
	}
	return connector.Result{State: connector.Present, Print: connector.Fingerprint(printOf(&st)), Bytes: size(&st)}
}

// lookIn looks at an open directory of the root.
func lookIn(fd int) connector.Result {
	var st unix.Statx_t
	if err := statx(fd, "", &st); err != nil {
		return failed(err)
	}
	rec, err := readRecord(fd)
	switch {
	case err == nil:
		return connector.Result{State: connector.Present, Print: sessionPrint(&st, rec)}
	case err == unix.ENOENT, err == errRecord, err == unix.ELOOP, err == unix.ENXIO:
		return connector.Result{State: connector.Present, Print: connector.Fingerprint(printOf(&st))}
	default:
		return connector.Result{Reason: reasonOf(err), Err: err}
	}
}

// claim is the right to erase.
type claim struct {
	t     tree
	held  []heldItem
	spent bool
}

type heldItem struct {
	spot
	print connector.Fingerprint
	fd    int // the session's directory, or -1
	own   bool
	ok    bool
}

// Claim takes the lease of each session that is not held for it already, and
// compares fingerprints.
func (t tree) Claim(ctx context.Context, _ *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	c := &claim{t: t, held: make([]heldItem, len(items))}
	out := make([]connector.Result, len(items))
	absent := false
	lost := t.s.still()
	for i, it := range items {
		h := &c.held[i]
		h.fd, h.print = -1, it.Print
		var ok bool
		if h.spot, ok = parse(it.Locator); !ok {
			out[i] = connector.Result{Reason: connector.Invalid, Err: errInvalid}
			continue
		}
		if err := cmp.Or(ctx.Err(), lost); err != nil {
			out[i] = connector.Result{Reason: connector.Unreachable, Err: err}
			continue
		}
		out[i] = c.item(h)
		h.ok = out[i].State == connector.Present && out[i].Reason == connector.Eligible
		absent = absent || out[i].State == connector.Gone
	}
	if absent {
		t.doubt(out)
	}
	return c, out
}

func (c *claim) item(h *heldItem) connector.Result {
	var r connector.Result
	if h.dir {
		fd, mine, err := c.t.s.grip(h.name)
		switch {
		case errors.Is(err, ErrInUse):
			return connector.Result{State: connector.Present, Reason: connector.InUse}
		case err != nil:
			return failed(err)
		}
		h.fd, h.own = fd, mine
		if r = c.t.stands(h); r.State != connector.Present || r.Reason != "" {
			return r
		}
		r = lookIn(fd)
	} else {
		r = c.t.look(h.spot)
	}
	switch {
	case r.State != connector.Present:
		return r
	case h.print == "" || r.Print != h.print:
		r.Reason = connector.Changed
	default:
		r.Reason = connector.Eligible
	}
	return r
}

// stands looks whether the name of a held directory is still its own: the
// program that it was made for may have removed it.
func (t tree) stands(h *heldItem) connector.Result {
	var mine, now unix.Statx_t
	if err := statx(h.fd, "", &mine); err != nil {
		return failed(err)
	}
	if err := statx(t.s.root, h.name, &now); err != nil {
		return failed(err)
	}
	r := connector.Result{State: connector.Present}
	if !sameInode(&mine, &now) {
		r.Reason, r.Err = connector.Changed, errOther
	}
	return r
}

// Erase erases what was claimed, as far as it can go, and looks again.
func (c *claim) Erase(ctx context.Context, which []int) connector.Erased {
	out := make([]connector.Result, len(which))
	spent := c.spent
	c.spent = true
	err := c.t.s.still()
	if err == nil {
		err = ctx.Err()
	}
	took := false
	for n, i := range which {
		switch {
		case spent || i < 0 || i >= len(c.held) || !c.held[i].ok:
			out[n] = connector.Result{Reason: connector.Unreachable, Err: errNoClaim}
		case err != nil:
			out[n] = connector.Result{Reason: connector.Unreachable, Err: err}
		default:
			out[n] = c.erase(&c.held[i])
			took = took || out[n].State == connector.Gone
		}
	}
	if took {
		if err := fsync(c.t.s.root); err != nil {
			for n := range out {
				if out[n].State == connector.Gone {
					out[n] = connector.Result{Reason: connector.Unreachable, Err: err}
				}
			}
		}
		c.t.doubt(out)
	}
	for n, i := range which {
		if out[n].State == connector.Unknown && i >= 0 && i < len(c.held) && c.held[i].dir {
			c.t.s.doubtCount(c.held[i].name)
		}
	}
	return connector.Erased{Results: out}
}

func (c *claim) erase(h *heldItem) connector.Result {
	s := c.t.s
	if h.dir {
		return c.directory(h)
	}
	if h.file == "" {
		return c.name(s.root, h.name, h)
	}
	var r connector.Result
	if err := s.inside(h.spot, func(fd int, name string) error {
		r = c.name(fd, name, h)
		if r.State == connector.Gone {
			return fsync(fd)
		}
		return nil
	}); err != nil {
		return failed(err)
	}
	return r
}

// name erases one name that is not a directory's.
func (c *claim) name(fd int, name string, h *heldItem) connector.Result {
	var st unix.Statx_t
	if err := statx(fd, name, &st); err != nil {
		return failed(err)
	}
	r := connector.Result{State: connector.Present, Print: connector.Fingerprint(printOf(&st)), Bytes: size(&st)}
	switch {
	case r.Print != h.print:
		r.Reason = connector.Changed
		return r
	case isType(&st, unix.S_IFDIR), st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0:
		r.Reason = connector.Refused
		return r
	case st.Nlink > 1:
		r.Reason = connector.Shared
		return r
	}
	if err := unlinkat(fd, name, 0); err != nil {
		if r.Reason, r.Err = reasonOf(err), err; r.Reason == connector.Unreachable {
			r.State = connector.Unknown
		}
		return r
	}
	switch again := lookAt(fd, name); again.State {
	case connector.Gone:
		return connector.Result{State: connector.Gone, Reason: connector.Erasure, Bytes: r.Bytes}
	case connector.Present:
		again.Reason = connector.Changed
		return again
	default:
		return again
	}
}

// directory erases a session, or another directory of the root. Its key goes
// first: what then stays, for whatever reason, nobody can read.
func (c *claim) directory(h *heldItem) connector.Result {
	s := c.t.s
	keysLeft := int64(0)
	if rec, err := readRecord(h.fd); err == nil && (kernelKey{rec.Key, keyName(rec.Nonce)}).drop() != nil {
		keysLeft = 1
	}
	buf := s.buffer()
	defer s.giveBack(buf)
	w := &wipe{under: s.under, top: h.fd, buf: *buf}
	var r connector.Result
	if w.run() {
		r = c.remove(h, w)
	} else {
		r = connector.Result{State: connector.Present, Reason: w.why, Err: w.err}
	}
	counts := w.gone
	counts.KeysLeft = keysLeft
	if r.State != connector.Gone {
		counts.Left, counts.Unknown = remaining(s.under, h.fd)
		counts.Unknown += w.lost
		endNow(h.fd, s.now())
		if fsync(h.fd) != nil {
			counts.Unknown, counts.Gone = counts.Unknown+counts.Gone, 0
		}
	}
	s.count(h.name, counts)
	r.Bytes = counts.Bytes
	return r
}

// remove takes the record and then the directory, if its name is still that of
// the directory that was emptied.
func (c *claim) remove(h *heldItem, w *wipe) connector.Result {
	s := c.t.s
	stays := func(why connector.Reason, err error) connector.Result {
		return connector.Result{State: connector.Present, Reason: why, Err: err}
	}
	if r := c.t.stands(h); r.State != connector.Present || r.Reason != "" {
		return r
	}
	rec, noRecord := readRecord(h.fd)
	if err := unlinkat(h.fd, recordName, 0); err != nil && err != unix.ENOENT {
		return stays(reasonOf(err), err)
	}
	if err := unlinkat(s.root, h.name, unix.AT_REMOVEDIR); err != nil {
		if noRecord == nil {
			_ = rec.write(h.fd) // so that it is still known whose it is
		}
		if err == unix.ENOTEMPTY {
			return stays(connector.Changed, err)
		}
		return stays(reasonOf(err), err)
	}
	if r := lookAt(s.root, h.name); r.State != connector.Gone {
		return stays(connector.Changed, errOther)
	}
	return connector.Result{State: connector.Gone, Reason: connector.Erasure}
}

// Holds is always nil: each lease is looked at again when its session is disposed of.
func (c *claim) Holds(context.Context) error { return nil }

// Release lets go of the leases that the claim took itself.
func (c *claim) Release() error {
	c.spent = true
	for i := range c.held {
		if h := &c.held[i]; h.own && h.fd >= 0 {
			unix.Close(h.fd)
			h.fd = -1
		}
	}
	return nil
}
