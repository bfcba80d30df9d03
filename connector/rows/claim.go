package rows

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// claim is one transaction in which the claimed rows are deleted already.
type claim struct {
	c     *Connector
	b     *binding
	conn  *sql.Conn
	items []connector.Item
	rows  []*row // by item; nil when it was not found
	out   []connector.Result
	good  []bool // claimed
	tally map[*table]int64
	kept  []map[string]bool
	ended bool
	slow  int       // statements that ran too long
	now   time.Time // what a column is set to that gets the present instant
	// serial says that the database has one writer at a time. A claim then
	// waits for the one before it, but not for the items that one holds.
	serial bool
	hold   []connector.Locator // registered in Connector.open
	// marked says that the savepoint stands to which the rehearsal is undone.
	// Else it is undone as a whole; see rewind.
	marked bool
}

// claimStatements is how many times the longest run of a statement a claim may
// take as a whole.
const claimStatements = 5

// attempts is how often a claim is tried when it meets a deadlock or a
// serialization failure.
const attempts = 4

// Claim implements [connector.Connector].
func (c *Connector) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	if c.o.ReadOnly {
		out := unreachable(len(items), errReadOnly)
		for i := range out {
			out[i].Reason = connector.NoPermission
		}
		return nothing{}, out
	}
	if len(items) == 0 {
		return nothing{}, nil
	}
	b, err := c.binding(ctx, q)
	if err != nil {
		out := unreachable(len(items), err)
		var f *FaultError
		if errors.As(err, &f) {
			for i := range out {
				out[i].Reason = connector.Invalid
			}
		}
		return nothing{}, out
	}
	if c.d.lock() != "" { // else it waits for the one writer before it
		// Where the server does not end a DELETE that runs too long (MySQL), or
		// does not answer at all, this ends the claim.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, claimStatements*c.o.StatementTimeout)
		defer cancel()
	}
	for n := 1; ; n++ {
		cl := &claim{c: c, b: b, items: items, serial: c.d.lock() == "", now: c.o.Clock()}
		err := cl.take(ctx)
		if err == nil && slices.Contains(cl.good, true) {
			return cl, cl.out
		}
		cl.abandon(ctx)
		if err == nil {
			return nothing{}, cl.out
		}
		if c.d.classify(err) != retryFailure || n == attempts || !pause(ctx, time.Duration(n*n)*20*time.Millisecond) {
			return nothing{}, c.failed(len(items), err)
		}
	}
}

var (
	errReadOnly = errors.New("the database was opened for reading only")
	// Which a primary key does not forbid where tables of PostgreSQL inherit from
	// another: what is done by the key would be done to both.
	errTwice = errors.New("more than one row has the key")
)

// pause waits; false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// failed answers for items that could not be looked at.
func (c *Connector) failed(n int, err error) []connector.Result {
	out := unreachable(n, err)
	reason := connector.Unreachable
	switch c.d.classify(err) {
	case busyFailure, retryFailure:
		reason = connector.InUse
	case deniedFailure:
		reason = connector.NoPermission
	case refusedFailure:
		reason = connector.Refused
	}
	for i := range out {
		out[i].Reason = reason
	}
	return out
}

// take begins the transaction, locks, judges and rehearses.
func (cl *claim) take(ctx context.Context) error {
	cl.rows = make([]*row, len(cl.items))
	cl.good = make([]bool, len(cl.items))
	cl.out = unreachable(len(cl.items), nil)
	cl.tally = map[*table]int64{}
	keys, at := cl.keys()
	if cl.serial {
		keys = cl.sift(keys, at)
	}
	if len(keys) == 0 {
		return nil
	}
	if err := cl.begin(ctx); err != nil {
		return err
	}
	if err := cl.lock(ctx, keys, at); err != nil {
		return err
	}
	var which []int
	for i, r := range cl.rows {
		if r != nil && cl.judge(i, r) {
			which = append(which, i)
		}
	}
	if len(which) == 0 {
		return cl.keepAfter(ctx)
	}
	costly, err := cl.c.d.costlySavepoint(ctx, cl.conn)
	if err == nil && !costly {
		err = cl.mark(ctx)
	}
	if err != nil {
		return err
	}
	if err := cl.rehearse(ctx, which, 0); err != nil {
		return err
	}
	which = cl.claimed()
	kept, err := cl.keep(ctx, which)
	if err != nil {
		return err
	}
	cl.kept = kept
	for _, i := range which {
		cl.out[i] = connector.Result{State: connector.Present, Reason: connector.Eligible, Kept: keptOf(cl.items[i].Values, kept)}
	}
	return cl.keepAfter(ctx)
}

func (cl *claim) begin(ctx context.Context) error {
	if err := cl.c.still(); err != nil {
		return err
	}
	cl.c.waiting.Add(1)
	conn, err := cl.c.writer.Conn(ctx)
	cl.c.waiting.Add(-1)
	if err != nil {
		return err
	}
	cl.conn = conn
	if err := cl.c.d.beginWrite(ctx, conn, waits{cl.c.o.LockTimeout, cl.c.o.StatementTimeout}); err != nil {
		_ = end(ctx, conn, "ROLLBACK")
		_ = conn.Close()
		cl.conn = nil
		return err
	}
	return nil
}

// abandon leaves everything as it was.
func (cl *claim) abandon(ctx context.Context) {
	if cl.conn != nil {
		_ = end(ctx, cl.conn, "ROLLBACK")
		cl.letGo(ctx)
	}
	cl.unregister()
	cl.ended = true
}

// letGo gives the connection back after the transaction.
func (cl *claim) letGo(ctx context.Context) {
	if err := cl.c.d.unhold(context.WithoutCancel(ctx), cl.conn); err != nil {
		discard(cl.conn)
	}
	_ = cl.conn.Close()
	cl.conn = nil
	cl.unregister()
}

func (cl *claim) claimed() []int {
	var which []int
	for i, ok := range cl.good {
		if ok {
			which = append(which, i)
		}
	}
	return which
}

// keys reads the items' locators. One that is no row of the root is Invalid; a
// repetition is answered as held by the first.
func (cl *claim) keys() ([]key, map[connector.Locator]int) {
	keys := make([]key, 0, len(cl.items))
	at := make(map[connector.Locator]int, len(cl.items))
	for i, it := range cl.items {
		schema, name, k, err := parseLocator(it.Locator, typed(cl.b.d))
		if err != nil || schema != cl.b.root.schema || name != cl.b.root.name || len(k) != len(cl.b.root.pk) {
			cl.out[i] = connector.Result{Reason: connector.Invalid, Err: errLocator}
			continue
		}
		if _, again := at[it.Locator]; again {
			cl.out[i] = connector.Result{State: connector.Present, Reason: connector.InUse}
			continue
		}
		at[it.Locator] = i
		keys = append(keys, k)
	}
	return keys, at
}

// sift takes the items out of the list that an open claim of this connector
// holds, and registers the others.
func (cl *claim) sift(keys []key, at map[connector.Locator]int) []key {
	cl.c.mu.Lock()
	defer cl.c.mu.Unlock()
	return slices.DeleteFunc(keys, func(k key) bool {
		l := cl.b.locator(k)
		if i := at[l]; cl.c.open[l] {
			cl.out[i] = connector.Result{State: connector.Present, Reason: connector.InUse}
			return true
		}
		cl.c.open[l] = true
		cl.hold = append(cl.hold, l)
		return false
	})
}

func (cl *claim) unregister() {
	cl.c.mu.Lock()
	defer cl.c.mu.Unlock()
	for _, l := range cl.hold {
		delete(cl.c.open, l)
	}
	cl.hold = nil
}

// lock locks the rows that nobody else has locked, then reads them as they are
// under the lock. What could not be locked is told from what is not there.
func (cl *claim) lock(ctx context.Context, keys []key, at map[connector.Locator]int) error {
	b := cl.b
	t := quoteTable(b.d, b.root)
	pk := of(b.d, t, b.root.pk)
	apart := b.d.lock() != "" && b.conditional()
	mine := keys
	if apart {
		// The conditions are evaluated in a statement of their own, which sees
		// what was committed before the lock was given.
		mine = nil
		for part := range b.chunks(b.root, keys) {
			s := newStmt(b.d, "SELECT ", keyList(b.d, pk, b.root.pk), " FROM ", t, b.d.byKey(), " WHERE ")
			b.d.keyIn(s, pk, b.root.pk, part)
			locked, err := cl.keysOf(ctx, s.add(b.d.lock()), b.root)
			if err != nil {
				return err
			}
			mine = append(mine, locked...)
		}
	}
	list, n := b.columns(false)
	var rows []*row
	take := func(v []any) error {
		r, err := b.take(v, false)
		if err != nil {
			return err
		}
		if i, ok := at[r.loc]; ok {
			r.twice = cl.rows[i] != nil
			cl.rows[i] = r
			rows = append(rows, r)
		}
		return nil
	}
	read := func() error {
		rows = rows[:0]
		for part := range b.chunks(b.root, mine) {
			s := newStmt(b.d, "SELECT ", list, " FROM ", t, b.d.byKey(), " WHERE ")
			b.d.keyIn(s, pk, b.root.pk, part)
			if !apart {
				s.add(b.d.lock())
			}
			if err := s.each(ctx, cl.conn, n, take); err != nil {
				return err
			}
		}
		return nil
	}
	fill := func() error { return b.fill(ctx, cl.conn, rows) }
	err := error(nil)
	switch {
	case len(mine) == 0:
	case b.conditional() && (apart || b.d.lock() == ""):
		err = b.d.sealed(ctx, cl.conn, func() error { return errors.Join(read(), fill()) })
	default:
		if err = read(); err == nil {
			err = fill()
		}
	}
	if err == nil && b.keeps() && len(rows) > 0 {
		err = cl.lookSettled(ctx, rows)
	}
	if err != nil {
		return err
	}
	return cl.others(ctx, keys, at)
}

// others answers for the rows that were not locked.
func (cl *claim) others(ctx context.Context, keys []key, at map[connector.Locator]int) error {
	found := 0
	for _, r := range cl.rows {
		if r != nil {
			found++
		}
	}
	if found == len(keys) {
		return nil
	}
	var rest []key
	for _, k := range keys {
		if cl.rows[at[cl.b.locator(k)]] == nil {
			rest = append(rest, k)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	there, err := cl.c.present(ctx, cl.conn, cl.b.root, rest)
	if err != nil {
		return err
	}
	for _, k := range rest {
		l := cl.b.locator(k)
		cl.out[at[l]] = connector.Result{State: connector.Gone, Reason: connector.Missing}
		if there[l] {
			cl.out[at[l]] = connector.Result{State: connector.Present, Reason: connector.InUse}
		}
	}
	return nil
}

// judge checks a locked row again; false leaves its answer in out.
func (cl *claim) judge(i int, r *row) bool {
	at, dated, err := cl.b.kind.instant(r.anchor, cl.b.zone)
	res := connector.Result{State: connector.Present}
	switch {
	case r.twice:
		res.Reason, res.Err = connector.Invalid, errTwice
	case r.settled:
		res.Reason = connector.Set
	case !r.match:
		res.Reason = connector.NotDue
	case err != nil:
		res.Reason, res.Err = connector.Invalid, err
	case !dated:
		res.Reason = connector.Undated
	case !at.Before(cl.b.q.Cutoff):
		res.Reason = connector.NotDue
	case r.held:
		res.Reason = connector.Held
	case r.inUse:
		res.Reason = connector.InUse
	case r.err != nil:
		res.Reason, res.Err = connector.Invalid, r.err
	case cl.items[i].Values != nil && !sameValues(cl.items[i].Values, r.values):
		res.Reason = connector.Changed
	default:
		return true
	}
	cl.out[i] = res
	return false
}

// sameValues compares the tuples as sets.
func sameValues(a, b [][]connector.Tuple) bool {
	return slices.EqualFunc(a, b, func(x, y []connector.Tuple) bool {
		if slices.EqualFunc(x, y, slices.Equal[connector.Tuple]) {
			return true
		}
		same := func(x, y connector.Tuple) bool { return slices.Equal(x, y) }
		return slices.EqualFunc(distinct(slices.Clone(x)), distinct(slices.Clone(y)), same)
	})
}
