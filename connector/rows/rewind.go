package rows

import (
	"context"
	"slices"

	"github.com/epitaph/epitaph/connector"
)

// mark sets the savepoint to which the rehearsal is undone.
func (cl *claim) mark(ctx context.Context) error {
	cl.marked = true
	return run(ctx, cl.conn, "SAVEPOINT epitaph_rehearsal")
}

// rewind undoes the rehearsal and keeps the locks: it goes back to the
// savepoint. Where one would have cost too much to be set before it was needed,
// the transaction is rolled back and begun again on the same connection, now
// with a savepoint. In between, another process may write, so that everything is
// judged again: rewind returns those of which that still can go, and leaves the
// answers of the others in out. afresh reports that this was done.
func (cl *claim) rewind(ctx context.Context, which []int) (still []int, afresh bool, err error) {
	if cl.marked {
		return which, false, run(ctx, cl.conn, "ROLLBACK TO SAVEPOINT epitaph_rehearsal")
	}
	if err := run(ctx, cl.conn, "ROLLBACK"); err != nil {
		return nil, true, err
	}
	if err := cl.c.d.beginWrite(ctx, cl.conn, waits{cl.c.o.LockTimeout, cl.c.o.StatementTimeout}); err != nil {
		return nil, true, err
	}
	keys, at := cl.keys()
	mine := make(map[connector.Locator]bool, len(cl.hold))
	for _, l := range cl.hold {
		mine[l] = true
	}
	if cl.serial {
		keys = slices.DeleteFunc(keys, func(k key) bool { return !mine[cl.b.locator(k)] })
	}
	clear(cl.rows)
	if err := cl.lock(ctx, keys, at); err != nil {
		return nil, true, err
	}
	still = slices.DeleteFunc(slices.Clone(which), func(i int) bool { return cl.rows[i] == nil || !cl.judge(i, cl.rows[i]) })
	return still, true, cl.mark(ctx)
}
