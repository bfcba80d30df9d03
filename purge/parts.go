package purge

import (
	"context"

	"github.com/epitaph/epitaph/connector"
)

// eraseParts claims the parts of the claimed items, drops the items of which a
// part cannot go, erases the rest, and looks again. Before the parts of a store go, it
// looks whether the claim on the roots stands: what was let go meanwhile may be held
// now, or not due.
func (b *batch) eraseParts(ctx context.Context, roots claim) {
	var want []*thing
	for _, t := range b.order {
		if b.wanted(t) {
			want = append(want, t)
		}
	}
	type held struct {
		claim  claim
		things []*thing
	}
	var claims []held
	for _, g := range groups(want) {
		items := make([]connector.Item, len(g))
		for i, t := range g {
			items[i] = connector.Item{Locator: t.Locator, Print: t.print, Bytes: t.bytes}
		}
		cl, rs := b.stores[g[0].Store].claim(ctx, nil, items)
		claims = append(claims, held{cl, g})
		for i, r := range rs {
			b.claimedPart(g[i], r)
		}
	}
	b.keepTogether()
	for _, h := range claims {
		var which []int
		for i, t := range h.things {
			if t.claimed = t.claimed && b.wanted(t); t.claimed {
				which = append(which, i)
			}
		}
		if len(which) > 0 {
			if err := roots.holds(ctx); err != nil {
				b.letGo(err)
				which = nil
				for _, t := range h.things {
					t.claimed = false
				}
			}
		}
		for k, r := range h.claim.erase(ctx, which).Results {
			h.things[which[k]].res = r
		}
		h.claim.release()
	}
	b.settleParts(ctx, want)
}

// letGo drops the items whose roots are not claimed any more.
func (b *batch) letGo(err error) {
	for i := range b.units {
		if u := &b.units[i]; u.claimed && !u.out {
			u.claimed = false
			u.drop(connector.Result{Reason: connector.Unreachable, Err: err})
		}
	}
}

// wanted reports a thing that is to go: there is an item that takes it along,
// and none that stays and needs it.
func (b *batch) wanted(t *thing) bool {
	wanted := false
	for _, i := range t.users {
		u := &b.units[i]
		for j := range u.parts {
			p := &u.parts[j]
			if p.thing != t {
				continue
			}
			if p.shared || u.out && u.res.State != connector.Gone {
				return false
			}
			wanted = wanted || !u.out && p.res.State == connector.Present && p.res.Reason == connector.Eligible
		}
	}
	return wanted
}

// claimedPart takes in what a store says to the claim of one thing.
func (b *batch) claimedPart(t *thing, r connector.Result) {
	if t.claimed = free(r); t.claimed {
		return
	}
	for _, i := range t.users {
		u := &b.units[i]
		for j := range u.parts {
			p := &u.parts[j]
			if p.thing != t || u.out {
				continue
			}
			if r.State == connector.Gone {
				p.missing = true
				p.res = connector.Result{State: connector.Gone, Reason: connector.Missing}
				continue
			}
			p.res = r
			u.keep(r)
		}
	}
}

// settleParts looks at what was not answered, and tells every item what became
// of its parts. An item with a part that is not gone keeps its row.
func (b *batch) settleParts(ctx context.Context, want []*thing) {
	var lost []*thing
	for _, t := range want {
		if t.asked() {
			lost = append(lost, t)
		}
	}
	for key, r := range b.probe(ctx, lost) {
		t := b.things[key]
		t.res = settled(t.res, r, t.print)
	}
	for _, t := range b.order {
		if t.claimed {
			t.ours = t.res.State == connector.Gone && t.res.Reason != connector.Missing
			if t.ours {
				t.res.Reason = connector.Erasure
			}
		}
	}
	for i := range b.units {
		u := &b.units[i]
		for j := range u.parts {
			p := &u.parts[j]
			switch {
			case p.missing || p.shared || p.res.State == connector.Gone:
			case p.claimed:
				if p.res = p.thing.res; p.res.State != connector.Gone {
					u.keep(p.res)
				}
			case !u.out:
				// It was claimed for nobody, because an item of the batch stays that
				// needs it too.
				p.shared = true
				p.res = connector.Result{State: connector.Present, Reason: connector.Shared}
			}
		}
	}
}

// settled says what became of a thing whose erasure was not answered, from
// looking again. Gone now is gone by our hand: it was there, with the same
// fingerprint, when we claimed it.
func settled(answer, now connector.Result, print connector.Fingerprint) connector.Result {
	reason := or(answer.Reason, connector.Unreachable)
	switch now.State {
	case connector.Gone:
		return connector.Result{State: connector.Gone, Reason: connector.Erasure}
	case connector.Present:
		if print != "" && now.Print != print {
			reason = connector.Changed
		}
		return connector.Result{State: connector.Present, Reason: reason, Err: answer.Err}
	default:
		return connector.Result{Reason: or(now.Reason, connector.Unreachable), Err: or(now.Err, answer.Err)}
	}
}
