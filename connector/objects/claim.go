package objects

import (
	"context"
	"slices"

	"github.com/epitaph/epitaph/connector"
)

// claim is a list of items whose keys were seen to be what they were. An
// object store has no lock to take, so the keys are kept from the other claims of
// this connector only: what was seen goes with each delete as a condition, and
// what appears meanwhile is left and found by looking again.
type claim struct {
	c       *Connector
	items   []connector.Item
	claimed []*target // nil for an item that was not claimed
	done    bool
}

// target is one claimed key with what was seen under it.
type target struct {
	bucket *bucket
	key    string
	sight  sight
}

// Claim looks at each item again: everything under its key must be as its
// fingerprint says, still due where q dates objects, and not locked.
func (c *Connector) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	cl := &claim{c: c, items: slices.Clone(items), claimed: make([]*target, len(items))}
	results := make([]connector.Result, len(items))
	at := make([]connector.Locator, len(items))
	for i, it := range items {
		at[i] = it.Locator
	}
	for _, g := range c.group(at, results) {
		keys := g.keys()
		sights := c.look(ctx, g.bucket, keys, len(keys))
		answers := make([]connector.Result, len(keys))
		for i := range sights {
			answers[i] = sights[i].result()
		}
		c.readLocks(ctx, g.bucket, keys, sights, answers)
		due := c.dueAgain(ctx, g.bucket, q, keys, sights)
		for _, m := range g.members {
			i, _ := slices.BinarySearch(keys, m.key)
			r := judge(&sights[i], items[m.index].Print, answers[i], due(i))
			if r.State == connector.Present && r.Reason == connector.Eligible {
				if g.bucket.hold(m.key, cl) {
					cl.claimed[m.index] = &target{bucket: g.bucket, key: m.key, sight: sights[i]}
				} else {
					r.Reason = connector.InUse
				}
			}
			results[m.index] = r
		}
	}
	return cl, results
}

// judge says whether a key may go. locked is its answer after the locks were
// read; due is NotDue, Undated or Eligible, or an error when that is unknown.
func judge(s *sight, print connector.Fingerprint, locked connector.Result, due connector.Result) connector.Result {
	r := s.result()
	switch {
	case r.State != connector.Present:
		return r
	case r.Print != print:
		r.Reason = connector.Changed
	case due.Err != nil:
		return due
	case due.Reason != connector.Eligible:
		r.Reason = due.Reason
	case locked.State != connector.Present:
		return locked
	case locked.Reason != "":
		return locked
	default:
		r.Reason = connector.Eligible
	}
	return r
}

// dueAgain dates the keys again from what is seen now, where q says how
// objects are dated. For a part of another store's record it says Eligible:
// the record's own claim decides that.
func (c *Connector) dueAgain(ctx context.Context, b *bucket, q *connector.Query, keys []string, sights []sight) func(int) connector.Result {
	if q == nil || q.Cutoff.IsZero() || q.Anchor.Kind == connector.AnchorColumn {
		return func(int) connector.Result { return connector.Result{Reason: connector.Eligible} }
	}
	results := make([]connector.Result, len(keys))
	parallel(len(keys), c.o.Concurrency, func(i int) {
		if sights[i].err != nil || sights[i].empty() {
			return
		}
		at, err := c.anchor(ctx, b, q.Anchor, keys[i], &sights[i])
		switch {
		case err != nil:
			results[i] = unknown(err)
		case at.IsZero():
			results[i].Reason = connector.Undated
		case !at.Before(q.Cutoff):
			results[i].Reason = connector.NotDue
		default:
			results[i].Reason = connector.Eligible
		}
	})
	return func(i int) connector.Result { return results[i] }
}

// Erase deletes all that was seen under the keys and looks again.
func (cl *claim) Erase(ctx context.Context, which []int) connector.Erased {
	results := make([]connector.Result, len(which))
	if cl.done {
		return connector.Erased{Results: results}
	}
	cl.done = true
	at := make([]connector.Locator, 0, len(which))
	back := make([]int, 0, len(which))
	for n, i := range which {
		if i >= 0 && i < len(cl.claimed) && cl.claimed[i] != nil {
			at = append(at, cl.items[i].Locator)
			back = append(back, n)
		}
	}
	for _, g := range cl.c.group(at, make([]connector.Result, len(at))) {
		keys := g.keys()
		targets := make([]*target, len(keys))
		for _, m := range g.members {
			i, _ := slices.BinarySearch(keys, m.key)
			targets[i] = cl.claimed[which[back[m.index]]]
		}
		answers := cl.c.erase(ctx, g.bucket, targets)
		for _, m := range g.members {
			i, _ := slices.BinarySearch(keys, m.key)
			results[back[m.index]] = answers[i]
		}
	}
	return connector.Erased{Results: results}
}

// Holds is always nil: a bucket has no lock that others must heed.
func (cl *claim) Holds(context.Context) error { return nil }

// Release lets other claims have the keys.
func (cl *claim) Release() error {
	cl.done = true
	keys := map[*bucket][]string{}
	for _, t := range cl.claimed {
		if t != nil {
			keys[t.bucket] = append(keys[t.bucket], t.key)
		}
	}
	for b, ks := range keys {
		b.release(ks, cl)
	}
	return nil
}
