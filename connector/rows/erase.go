package rows

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// lookLimit is how long the look after a commit may take, also when the
// caller's context has ended: what was committed should be known.
const lookLimit = 30 * time.Second

// Erase implements [connector.Claim]. When all that was claimed goes, the
// rehearsal is committed. When only some go, the rehearsal is undone, which
// keeps the locks, and done again for these.
func (cl *claim) Erase(ctx context.Context, which []int) connector.Erased {
	out := nothing{}.eraseNothing(len(which))
	if cl.ended {
		return connector.Erased{Results: out}
	}
	at := make(map[int]int, len(which)) // item → place in out
	for n, i := range which {
		if _, again := at[i]; !again && i >= 0 && i < len(cl.good) && cl.good[i] {
			at[i] = n
			out[n] = connector.Result{Reason: connector.Unreachable, Err: ctx.Err()}
		}
	}
	defer cl.Release() //nolint:errcheck // nothing is left to roll back after a commit
	if len(at) == 0 || ctx.Err() != nil {
		return connector.Erased{Results: out}
	}
	if len(at) < len(cl.claimed()) {
		if err := cl.again(ctx, at); err != nil {
			for i, n := range at {
				out[n] = cl.c.failed(1, err)[0]
				cl.good[i] = false
			}
			return connector.Erased{Results: out}
		}
		for i, n := range at {
			if !cl.good[i] {
				out[n] = cl.out[i]
				delete(at, i)
			}
		}
	}
	if len(at) == 0 {
		return connector.Erased{Results: out}
	}
	commit := cl.c.still()
	if commit == nil {
		commit = run(ctx, cl.conn, "COMMIT")
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
	defer cancel()
	if commit != nil {
		discard(cl.conn)
	} else {
		cl.flush(look)
	}
	cl.letGo(look)
	cl.ended = true
	gone := cl.look(look, at, out, commit)
	e := connector.Erased{Results: out}
	if commit == nil || gone {
		e.Rows = cl.counts()
	}
	return e
}

func (nothing) eraseNothing(n int) []connector.Result {
	return nothing{}.Erase(context.Background(), make([]int, n)).Results
}

// again rehearses only the items of at. An item that was told that a thing it
// names is kept, and that would now be the last to name it, stays for another
// run: nobody would erase that thing.
func (cl *claim) again(ctx context.Context, at map[int]int) error {
	which := make([]int, 0, len(at))
	for i := range at {
		which = append(which, i)
	}
	slices.Sort(which)
	for {
		var err error
		if which, _, err = cl.rewind(ctx, which); err != nil {
			return err
		}
		clear(cl.tally)
		for i := range cl.good {
			cl.good[i] = false
		}
		if err := cl.rehearse(ctx, which, 0); err != nil {
			return err
		}
		kept, err := cl.keep(ctx, cl.claimed())
		if err != nil {
			return err
		}
		var lonely []int
		for _, i := range cl.claimed() {
			if cl.orphans(i, kept) {
				lonely = append(lonely, i)
				cl.out[i] = connector.Result{State: connector.Present, Reason: connector.InUse}
			}
		}
		if len(lonely) == 0 {
			return nil
		}
		which = slices.DeleteFunc(cl.claimed(), func(i int) bool { return slices.Contains(lonely, i) })
		if len(which) == 0 {
			for _, i := range lonely {
				cl.good[i] = false
			}
			return nil
		}
	}
}

// orphans reports that a thing which the first rehearsal kept would no longer
// be kept.
func (cl *claim) orphans(i int, kept []map[string]bool) bool {
	for w, ts := range cl.items[i].Values {
		for _, t := range ts {
			if n := tupleName(t); cl.kept[w][n] && !kept[w][n] {
				return true
			}
		}
	}
	return false
}

// look looks for the rows from another connection and fills out; it reports
// whether all were seen to be gone.
func (cl *claim) look(ctx context.Context, at map[int]int, out []connector.Result, commit error) bool {
	keys := make([]key, 0, len(at))
	for i := range at {
		keys = append(keys, cl.rows[i].key)
	}
	var there, settled map[connector.Locator]bool
	err := cl.c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		if there, err = cl.c.present(ctx, conn, cl.b.root, keys); err == nil && cl.b.keeps() {
			settled, err = cl.b.settledKeys(ctx, conn, keys)
		}
		return err
	})
	all := err == nil
	for i, n := range at {
		switch {
		case err != nil:
			out[n] = connector.Result{Reason: connector.Unreachable, Err: errors.Join(commit, err)}
		case settled[cl.rows[i].loc]:
			out[n] = connector.Result{State: connector.Present, Reason: connector.Set}
		case !there[cl.rows[i].loc] && cl.b.keeps(): // by another hand
			out[n] = connector.Result{State: connector.Gone, Reason: connector.Missing}
		case !there[cl.rows[i].loc]:
			out[n] = connector.Result{State: connector.Gone, Reason: connector.Erasure}
		case commit == nil: // somebody put it back, or set it to something else
			out[n] = connector.Result{State: connector.Present, Reason: connector.Changed}
		case cl.c.d.classify(commit) == lostFailure:
			// The commit may still be on its way.
			out[n] = connector.Result{Reason: connector.Unreachable, Err: commit}
		default:
			out[n] = cl.c.failed(1, commit)[0]
			out[n].State = connector.Present
		}
		all = all && out[n].State == connector.Gone
	}
	return all
}

// Holds asks the server on the claim's own connection, in its transaction. The
// transaction of SQLite is ours to end.
func (cl *claim) Holds(ctx context.Context) error {
	if cl.ended {
		return errNotClaimed
	}
	if err := cl.c.still(); err != nil || cl.serial {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cl.c.o.StatementTimeout)
	defer cancel()
	return run(ctx, cl.conn, "SELECT 1")
}

func (cl *claim) counts() []connector.Count {
	var out []connector.Count
	for t, n := range cl.tally {
		if n > 0 {
			out = append(out, connector.Count{Table: t.full(), N: n})
		}
	}
	slices.SortFunc(out, func(a, b connector.Count) int { return cmp.Compare(a.Table, b.Table) })
	return out
}

// Release implements [connector.Claim].
func (cl *claim) Release() error {
	if cl.ended {
		return nil
	}
	cl.ended = true
	ctx := context.Background()
	err := end(ctx, cl.conn, "ROLLBACK")
	cl.letGo(ctx)
	if err != nil {
		return fmt.Errorf("roll back claim: %w", err)
	}
	return nil
}
