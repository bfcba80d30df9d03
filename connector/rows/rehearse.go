package rows

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// refusal names items that cannot go, and why.
type refusal struct {
	items  []int // places in claim.items; none when it is not known which
	reason connector.Reason
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

var (
	errStillNamed = errors.New("a row that stays still names the row")
	errNotDeleted = errors.New("the database did not delete the row it was told to delete")
)

// rehearse deletes the items of which, with everything that hangs on them,
// inside the transaction. When the database refuses, what was done is undone
// and the list halved, until the items that cannot go stand alone. The answer
// of an item that cannot go is left in out; the others are good. An error means
// that the transaction is of no more use.
//
// The order is: look for rows of the root that stay and name one that goes;
// decide which linked rows go; collect the keys of rows on which others hang;
// delete, table by table, children first, one statement for each table and edge,
// which is many times faster than a cascade that fires for each row; check
// what can be checked before the commit. Foreign keys stay in force all the
// while, and a cascade that we did not foresee still happens.
func (cl *claim) rehearse(ctx context.Context, which []int, depth int) error {
	const name = "epitaph_try"
	for len(which) > 0 {
		if depth > 0 {
			if err := run(ctx, cl.conn, "SAVEPOINT "+name); err != nil {
				return err
			}
		}
		tally, err := cl.delete(ctx, which)
		if err == nil {
			for t, n := range tally {
				cl.tally[t] += n
			}
			for _, i := range which {
				cl.good[i] = true
			}
			if depth > 0 {
				return run(ctx, cl.conn, "RELEASE SAVEPOINT "+name)
			}
			return nil
		}
		var no *refusal
		named := errors.As(err, &no)
		class := refusedFailure
		slow := false
		if !named {
			class, slow = cl.c.d.classify(err), cl.c.d.timedOut(err)
			if slow {
				cl.slow++
			}
			if !slow && class == lostFailure || class == retryFailure || cl.slow > mostSlow {
				return err
			}
		}
		if depth > 0 {
			if err := run(ctx, cl.conn, "ROLLBACK TO SAVEPOINT "+name); err != nil {
				return err
			}
			if err := run(ctx, cl.conn, "RELEASE SAVEPOINT "+name); err != nil {
				return err
			}
		} else {
			var afresh bool
			var undone error
			if which, afresh, undone = cl.rewind(ctx, which); undone != nil {
				return undone
			}
			if afresh {
				continue // the rows are those of now, and so must be the refusal
			}
		}
		if named && len(no.items) > 0 {
			for _, i := range no.items {
				cl.out[i] = connector.Result{State: connector.Present, Reason: no.reason, Err: no.err}
			}
			which = slices.DeleteFunc(slices.Clone(which), func(i int) bool { return slices.Contains(no.items, i) })
			continue
		}
		if len(which) == 1 {
			cl.out[which[0]] = connector.Result{State: connector.Present, Reason: reasonFor(class, no), Err: err}
			return nil
		}
		if slow {
			if err := cl.c.d.hurry(ctx, cl.conn, min(cl.c.o.StatementTimeout, max(time.Second, cl.c.o.StatementTimeout/10))); err != nil {
				return err
			}
		}
		if class == busyFailure {
			if err := cl.c.d.impatient(ctx, cl.conn); err != nil {
				return err
			}
		}
		half := len(which) / 2
		if err := cl.rehearse(ctx, which[:half], depth+1); err != nil {
			return err
		}
		return cl.rehearse(ctx, which[half:], depth+1)
	}
	return nil
}

// mostSlow is how many statements of a claim may run too long, before it is
// given up: enough to find one bad item among a thousand by halving.
const mostSlow = 12

func reasonFor(class failure, no *refusal) connector.Reason {
	switch {
	case no != nil:
		return no.reason
	case class == deniedFailure:
		return connector.NoPermission
	case class == busyFailure:
		return connector.InUse
	case class == lostFailure: // it ran too long
		return connector.Unreachable
	}
	return connector.Refused
}

// delete deletes one set of items, or fails and leaves the undoing to its caller.
func (cl *claim) delete(ctx context.Context, which []int) (map[*table]int64, error) {
	b := cl.b
	if b.keeps() {
		return nil, cl.update(ctx, which)
	}
	keys := cl.keysAt(which)
	if err := cl.guard(ctx, which, keys); err != nil {
		return nil, err
	}
	sets := map[*table][]key{b.root: keys}
	for i := range b.links {
		dying, err := cl.linked(ctx, i, sets)
		if err != nil {
			return nil, err
		}
		sets[b.links[i].table] = dying
	}
	if !b.trusting {
		if err := cl.collect(ctx, sets); err != nil {
			return nil, err
		}
	}
	if b.deferred {
		if err := b.d.deferChecks(ctx, cl.conn); err != nil {
			return nil, err
		}
	}
	named, err := cl.namedBefore(ctx, sets)
	if err != nil {
		return nil, err
	}
	if err := cl.untie(ctx, sets); err != nil {
		return nil, err
	}
	cascades, err := cl.cascades(ctx, nil)
	if err != nil {
		return nil, err
	}
	tally := map[*table]int64{}
	for _, n := range b.nodes {
		if !b.own(n) {
			continue
		}
		if tally[n.table], err = cl.deleteFrom(ctx, n, sets, which); err != nil {
			return nil, err
		}
	}
	if err := cl.namedAfter(ctx, named); err != nil {
		return nil, err
	}
	if err := b.d.checkNow(ctx, cl.conn); err != nil {
		return nil, err
	}
	if cascades, err = cl.cascades(ctx, cascades); err != nil {
		return nil, err
	}
	for t, n := range cascades {
		tally[t] += n
	}
	return tally, nil
}

// untie takes the references out of rows that die in a circle of tables, where
// the database checks row by row and no order would satisfy it.
func (cl *claim) untie(ctx context.Context, sets map[*table][]key) error {
	b := cl.b
	if !b.d.rowByRow() {
		return nil
	}
	for _, n := range b.nodes {
		keys := sets[n.table]
		if !n.cyclic || len(keys) == 0 {
			continue
		}
		for _, f := range n.table.out {
			circle := slices.ContainsFunc(b.nodes, func(p *node) bool { return p.cyclic && p.table == f.parent })
			if !circle || f.parent == n.table || !f.onDelete.blocks() || slices.ContainsFunc(f.columns, func(c *column) bool { return c.notNull }) {
				continue
			}
			t := quoteTable(b.d, n.table)
			var set []string
			for _, c := range f.columns {
				set = append(set, b.d.quote(c.name)+" = NULL")
			}
			for part := range b.chunks(n.table, keys) {
				s := newStmt(b.d, "UPDATE ", t, b.d.byKey(), " SET ", strings.Join(set, ", "), " WHERE ")
				b.d.keyIn(s, of(b.d, t, n.table.pk), n.table.pk, part)
				if _, err := s.exec(ctx, cl.conn); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// cascades counts what the database has deleted by itself since before.
func (cl *claim) cascades(ctx context.Context, before map[*table]int64) (map[*table]int64, error) {
	var ts []*table
	for _, n := range cl.b.nodes {
		if !cl.b.own(n) {
			ts = append(ts, n.table)
		}
	}
	if len(ts) == 0 {
		return nil, nil
	}
	now, err := cl.c.d.deletions(ctx, cl.conn, ts)
	for t := range now {
		now[t] -= before[t]
	}
	return now, err
}

// guard finds items that a row of the root which stays refers to. Deleting
// them would take a row that is not due, or break its reference.
func (cl *claim) guard(ctx context.Context, which []int, keys []key) error {
	b := cl.b
	t := quoteTable(b.d, b.root)
	found := map[connector.Locator]bool{}
	for _, f := range b.guards {
		s := newStmt(b.d, "SELECT DISTINCT ", keyList(b.d, of(b.d, "p", b.root.pk), b.root.pk), " FROM ", t, " AS p JOIN ", t, " AS c ON ",
			equal(of(b.d, "c", f.columns), of(b.d, "p", f.refs)), " WHERE ")
		b.d.keyIn(s, of(b.d, "p", b.root.pk), b.root.pk, keys)
		s.add(" AND NOT ")
		b.d.keyIn(s, of(b.d, "c", b.root.pk), b.root.pk, keys)
		named, err := cl.keysOf(ctx, s, b.root)
		if err != nil {
			return err
		}
		for _, k := range named {
			found[b.locator(k)] = true
		}
	}
	if len(found) == 0 {
		return nil
	}
	no := &refusal{reason: connector.Shared, err: errStillNamed}
	for _, i := range which {
		if found[cl.rows[i].loc] {
			no.items = append(no.items, i)
		}
	}
	return no
}

// collect reads the keys of the rows on which further rows hang.
func (cl *claim) collect(ctx context.Context, sets map[*table][]key) error {
	if err := cl.descend(ctx, sets); err != nil {
		return err
	}
	return cl.strangers(ctx, sets)
}

// descend follows the cascading edges down to the last row, through cycles.
func (cl *claim) descend(ctx context.Context, sets map[*table][]key) error {
	b := cl.b
	seen := map[*table]map[connector.Locator]bool{}
	fresh := map[*table][]key{}
	for t, keys := range sets {
		fresh[t] = keys
	}
	for len(fresh) > 0 {
		next := map[*table][]key{}
		for _, n := range b.nodes {
			if !n.keyed || n.table == b.root || n.link >= 0 {
				continue
			}
			if seen[n.table] == nil {
				seen[n.table] = map[connector.Locator]bool{}
			}
			for _, f := range n.by {
				if len(fresh[f.parent]) == 0 {
					continue
				}
				s := newStmt(b.d, "SELECT ", keyList(b.d, of(b.d, "c", n.table.pk), n.table.pk), " FROM ", quoteTable(b.d, n.table), " AS c WHERE ")
				b.hangsOn(s, f, "c", fresh[f.parent])
				keys, err := cl.keysOf(ctx, s, n.table)
				if err != nil {
					return err
				}
				for _, k := range keys {
					if l := locator(n.table, k, typed(b.d)); !seen[n.table][l] {
						seen[n.table][l] = true
						next[n.table] = append(next[n.table], k)
						sets[n.table] = append(sets[n.table], k)
					}
				}
			}
		}
		fresh = next
	}
	return nil
}

// strangers fails when a row of the root that stays would go with a row that
// goes, round a cycle.
func (cl *claim) strangers(ctx context.Context, sets map[*table][]key) error {
	b := cl.b
	for _, f := range b.root.out {
		dying := sets[f.parent]
		if f.parent == b.root || len(dying) == 0 || f.onDelete == setNull || f.onDelete == setDefault ||
			slices.ContainsFunc(b.links, func(h hop) bool { return h.table == f.parent }) {
			continue
		}
		s := newStmt(b.d, "SELECT ", keyList(b.d, of(b.d, "c", b.root.pk), b.root.pk), " FROM ", quoteTable(b.d, b.root), " AS c WHERE ")
		b.hangsOn(s, f, "c", dying)
		s.add(" AND NOT ")
		b.d.keyIn(s, of(b.d, "c", b.root.pk), b.root.pk, sets[b.root])
		keys, err := cl.keysOf(ctx, s.add(" LIMIT 1"), b.root)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			return &refusal{reason: connector.Shared, err: errStillNamed}
		}
	}
	return nil
}

// deleteFrom deletes the rows of one table and counts them.
func (cl *claim) deleteFrom(ctx context.Context, n *node, sets map[*table][]key, which []int) (int64, error) {
	b := cl.b
	t := quoteTable(b.d, n.table)
	if !n.keyed {
		return cl.deleteByParents(ctx, n, sets)
	}
	keys := sets[n.table]
	if len(keys) == 0 {
		return 0, nil
	}
	pk := of(b.d, t, n.table.pk)
	levels, err := cl.levels(ctx, n, keys)
	if err != nil {
		return 0, err
	}
	var gone int64
	for _, level := range levels {
		for part := range b.chunks(n.table, level) {
			s := newStmt(b.d, "DELETE FROM ", t, " WHERE ")
			if by := b.d.byKey(); by != "" {
				s = newStmt(b.d, "DELETE ", t, " FROM ", t, by, " WHERE ")
			}
			b.d.keyIn(s, pk, n.table.pk, part)
			rows, err := s.exec(ctx, cl.conn)
			if err != nil {
				return 0, err
			}
			gone += rows
		}
	}
	if gone > int64(len(keys)) {
		return 0, &refusal{reason: connector.Invalid, err: errTwice}
	}
	if gone == int64(len(keys)) && !n.table.triggers {
		return gone, nil
	}
	// Someone else decides what a DELETE does here, so look.
	there, err := cl.c.present(ctx, cl.conn, n.table, keys)
	if err != nil {
		return 0, err
	}
	switch {
	case len(there) == 0 && (n.cyclic || n.table.triggers || n.self()):
		return int64(len(keys)), nil
	case len(there) == 0:
		return gone, nil
	case n.table != b.root:
		return 0, &refusal{reason: connector.Refused, err: errNotDeleted}
	}
	no := &refusal{reason: connector.Refused, err: errNotDeleted}
	for _, i := range which {
		if there[cl.rows[i].loc] {
			no.items = append(no.items, i)
		}
	}
	return 0, no
}

// levels parts keys, for a database that checks a table's blocking edges to
// itself at each row, so that no row goes before one that names it. Rows that
// name each other in a circle are left for the last, which then fails.
func (cl *claim) levels(ctx context.Context, n *node, keys []key) ([][]key, error) {
	b := cl.b
	if !b.d.rowByRow() || !slices.ContainsFunc(n.table.in, func(f *foreignKey) bool { return f.child == n.table && f.onDelete.blocks() }) {
		return [][]key{keys}, nil
	}
	namedBy := map[connector.Locator]int{} // how many of the rest name the row
	names := map[connector.Locator][]connector.Locator{}
	t, width := quoteTable(b.d, n.table), len(n.table.pk)
	for _, f := range n.table.in {
		if f.child != n.table || !f.onDelete.blocks() {
			continue
		}
		c, p := of(b.d, "c", n.table.pk), of(b.d, "p", n.table.pk)
		s := newStmt(b.d, "SELECT ", keyList(b.d, c, n.table.pk), ", ", keyList(b.d, p, n.table.pk), " FROM ", t, " AS c JOIN ", t, " AS p ON ",
			equal(of(b.d, "c", f.columns), of(b.d, "p", f.refs)), " WHERE ")
		b.d.keyIn(s, c, n.table.pk, keys)
		err := s.each(ctx, cl.conn, 2*width, func(v []any) error {
			child, _ := takeKey(v[:width])
			parent, _ := takeKey(v[width:])
			from, to := locator(n.table, child, typed(b.d)), locator(n.table, parent, typed(b.d))
			if from != to {
				namedBy[to]++
				names[from] = append(names[from], to)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var out [][]key
	for len(keys) > 0 {
		var now, rest []key
		for _, k := range keys {
			if namedBy[locator(n.table, k, typed(b.d))] == 0 {
				now = append(now, k)
			} else {
				rest = append(rest, k)
			}
		}
		if len(now) == 0 {
			return append(out, rest), nil
		}
		for _, k := range now {
			for _, to := range names[locator(n.table, k, typed(b.d))] {
				namedBy[to]--
			}
		}
		out, keys = append(out, now), rest
	}
	return out, nil
}

func (cl *claim) deleteByParents(ctx context.Context, n *node, sets map[*table][]key) (int64, error) {
	b := cl.b
	t := quoteTable(b.d, n.table)
	var total int64
	for _, f := range n.by {
		if len(sets[f.parent]) == 0 {
			continue
		}
		for part := range b.chunks(f.parent, sets[f.parent]) {
			gone, err := b.deleteHanging(f, part).exec(ctx, cl.conn)
			if err != nil {
				return 0, err
			}
			total += gone
		}
		if !n.table.triggers {
			continue
		}
		s := newStmt(b.d, "SELECT 1 FROM ", t, " WHERE ")
		b.hangsOn(s, f, t, sets[f.parent])
		left := false
		if err := s.add(" LIMIT 1").each(ctx, cl.conn, 1, func([]any) error { left = true; return nil }); err != nil {
			return 0, err
		}
		if left {
			return 0, &refusal{reason: connector.Refused, err: errNotDeleted}
		}
	}
	return total, nil
}

// deleteHanging deletes the child rows that name one of the parent's keys. Where
// the server has to be told to find rows by an index, it comes to the children from
// their parents, which are locked already.
func (b *binding) deleteHanging(f *foreignKey, parents []key) *stmt {
	child, by := quoteTable(b.d, f.child), b.d.byKey()
	if by == "" {
		s := newStmt(b.d, "DELETE FROM ", child, " WHERE ")
		b.hangsOn(s, f, child, parents)
		return s
	}
	s := newStmt(b.d, "DELETE c FROM ", quoteTable(b.d, f.parent), " AS p", by, " STRAIGHT_JOIN ", child, " AS c")
	if name := f.child.indexOn(f.columns); name != "" {
		s.add(" FORCE INDEX (", b.d.quote(name), ")")
	}
	s.add(" ON ", equal(of(b.d, "c", f.columns), of(b.d, "p", f.refs)), " WHERE ")
	b.d.keyIn(s, of(b.d, "p", f.parent.pk), f.parent.pk, parents)
	return s
}

// chunks are the lists in which rows of the table are locked and deleted.
func (b *binding) chunks(t *table, keys []key) iter.Seq[[]key] {
	return slices.Chunk(keys, b.d.mostKeys(len(t.pk)))
}

// reference is a blocking edge with the values by which a child would name
// what is about to go.
type reference struct {
	f      *foreignKey
	values []key
}

// namedBefore notes, for a database that finds a deferred constraint broken
// only at the commit, what the rehearsal has to look for itself.
func (cl *claim) namedBefore(ctx context.Context, sets map[*table][]key) ([]reference, error) {
	if !cl.b.d.deferredUnseen() {
		return nil, nil
	}
	var out []reference
	for _, n := range cl.b.nodes {
		for _, f := range n.table.in {
			keys := sets[n.table]
			if f.onDelete != noAction || len(keys) == 0 {
				continue
			}
			if !slices.Equal(f.refs, n.table.pk) {
				t := quoteTable(cl.b.d, n.table)
				s := newStmt(cl.b.d, "SELECT ", keyList(cl.b.d, of(cl.b.d, t, f.refs), f.refs), " FROM ", t, " WHERE ")
				cl.b.d.keyIn(s, of(cl.b.d, t, n.table.pk), n.table.pk, keys)
				keys = nil
				err := s.each(ctx, cl.conn, len(f.refs), func(v []any) error {
					if k, ok := takeKey(v); ok {
						keys = append(keys, k)
					}
					return nil
				})
				if err != nil {
					return nil, err
				}
			}
			out = append(out, reference{f, keys})
		}
	}
	return out, nil
}

// namedAfter fails when a row that was not deleted names one that was.
func (cl *claim) namedAfter(ctx context.Context, refs []reference) error {
	for _, r := range refs {
		if len(r.values) == 0 {
			continue
		}
		t := quoteTable(cl.b.d, r.f.child)
		s := newStmt(cl.b.d, "SELECT 1 FROM ", t, " WHERE ")
		cl.b.d.keyIn(s, of(cl.b.d, t, r.f.columns), r.f.refs, r.values)
		left := false
		if err := s.add(" LIMIT 1").each(ctx, cl.conn, 1, func([]any) error { left = true; return nil }); err != nil {
			return err
		}
		if left {
			return &refusal{reason: connector.Refused, err: errStillNamed}
		}
	}
	return nil
}
