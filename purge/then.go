package purge

import (
	"context"

	"github.com/epitaph/epitaph/connector"
)

// What is told apart for rules that keep their rows and set them when the parts
// are gone. Such a row says that they are, so no part of it may stay.

// keeps reports that the rule's rows stay, and are set when their parts are gone.
func (w *work) keeps() bool { return len(w.rule.Then) > 0 }

// done reports an item whose root is as it is to be: gone, or there and set.
func (u *unit) done() bool {
	return u.res.State == connector.Gone || u.res.State == connector.Present && u.res.Reason == connector.Set
}

// keepShared drops an item that is to say that its parts are gone, where one of
// them has to stay.
func (b *batch) keepShared(u *unit) (kept bool) {
	if !b.keeps() || u.out {
		return false
	}
	for j := range u.parts {
		if p := &u.parts[j]; p.shared {
			u.keep(p.res)
			return true
		}
	}
	return false
}

// keepTogether does the same for parts that have to stay because another item of
// the batch does, until no item is left that this concerns: before anything of
// any of them is erased.
func (b *batch) keepTogether() {
	for again := b.keeps(); again; {
		again = false
		for i := range b.units {
			u := &b.units[i]
			for j := range u.parts {
				p := &u.parts[j]
				if !u.out && p.res.State == connector.Present && p.res.Reason == connector.Eligible && !b.wanted(p.thing) {
					p.shared = true
					p.res = connector.Result{State: connector.Present, Reason: connector.Shared}
				}
			}
			again = b.keepShared(u) || again
		}
	}
}

// bare is the last word before a root goes or is set: one that is to say that its
// parts are gone has none left, whatever was thought before. It drops the others.
func (b *batch) bare(u *unit) bool {
	if !b.keeps() {
		return true
	}
	for j := range u.parts {
		if p := &u.parts[j]; p.res.State != connector.Gone {
			u.keep(p.res)
			return false
		}
	}
	return true
}

// rootSet says whose hand set a root that was to be set. We set it when all its
// parts are gone, and only in an earlier run can it have been us.
func (b *batch) rootSet(u *unit) connector.Result {
	ours := b.old
	for j := range u.parts {
		ours = ours && u.parts[j].res.State == connector.Gone
	}
	if ours {
		return connector.Result{State: connector.Present, Reason: connector.Set}
	}
	return connector.Result{State: connector.Present, Reason: connector.NotDue}
}

// reclaim looks what became of roots that were to be set. A probe sees that they
// are there; whether they are set is the answer to a claim, which is let go.
func (b *batch) reclaim(ctx context.Context, index []int) []connector.Result {
	if len(index) == 0 {
		return nil
	}
	items := make([]connector.Item, len(index))
	for n, i := range index {
		items[n] = b.units[i].it.Item
	}
	cl, rs := b.stores[b.rule.Store].claim(ctx, b.query, items)
	cl.release()
	return rs
}

// settledSet says what became of a root whose update was not answered. One that
// is locked may still be set by the update that we lost.
func settledSet(answer, now connector.Result) connector.Result {
	switch {
	case now.State == connector.Present && now.Reason == connector.Set:
		return connector.Result{State: connector.Present, Reason: connector.Set}
	case now.State == connector.Gone:
		return connector.Result{State: connector.Gone, Reason: connector.Missing} // not by our hand
	case free(now):
		return connector.Result{State: connector.Present, Reason: or(answer.Reason, connector.Unreachable), Err: answer.Err}
	case now.State == connector.Present && now.Reason != connector.InUse:
		return connector.Result{State: connector.Present, Reason: now.Reason, Err: or(now.Err, answer.Err)}
	default:
		return connector.Result{Reason: or(now.Reason, connector.Unreachable), Err: or(now.Err, answer.Err)}
	}
}
