package purge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

// work is one rule being carried out.
type work struct {
	*run
	rule  *policy.Rule
	sum   *plan.RuleSummary
	rep   *RuleReport
	query *connector.Query // shared by all batches, never changed
}

// batch is one batch on its way through the protocol.
type batch struct {
	*work
	intent int64 // number of the intent in the ledger
	old    bool  // the intent is of an earlier run
	kept   bool  // and it was to set the rows, not to erase them
	units  []unit
	things map[plan.Thing]*thing
	order  []*thing // in the order in which the items first name them
	rows   []connector.Count
}

// unit is one item.
type unit struct {
	it    plan.Item
	parts []part
	// out says that the item has its result and takes no further part.
	out bool
	// claimed says that the root was claimed, erasing that its erasure was
	// asked for.
	claimed, erasing bool
	// sealedOff says that the intent's texts were destroyed: what it named cannot
	// be looked at any more.
	sealedOff bool
	res       connector.Result
}

// part is one part of one item.
type part struct {
	plan.Part
	*thing
	// missing and shared are how the item stands to the thing.
	missing, shared bool
	// res is what became of it, as this item sees it.
	res connector.Result
}

// thing is one file or object. Several items of a batch may name it; it is
// looked at, claimed and erased once.
type thing struct {
	plan.Thing
	print   connector.Fingerprint
	bytes   int64
	users   []int // units
	claimed bool
	res     connector.Result
	// ours says that it is gone by our hand; counted, that an earlier outcome
	// says so too.
	ours, counted bool
}

// fresh runs a batch of the plan. The error says only that the batch was not
// run to its end.
func (w *work) fresh(ctx context.Context, items []plan.Item) error {
	b := &batch{work: w}
	parts := 0
	for i := range items {
		parts += len(items[i].Parts)
	}
	b.empty(len(items), parts)
	for i := range items {
		if !w.resumed[plan.Thing{Store: w.sum.Store, Locator: items[i].Locator}] {
			b.add(items[i])
		}
	}
	if len(b.units) == 0 {
		return nil
	}
	b.look(ctx)
	if ctx.Err() != nil {
		return errLeft
	}
	b.leave()
	if err := b.intend(ctx); err != nil {
		return err
	}
	b.dispose(ctx)
	return b.record(ctx)
}

// empty takes everything out of the batch and makes room for so many units and
// things.
func (b *batch) empty(units, things int) {
	b.units, b.order = make([]unit, 0, units), make([]*thing, 0, things)
	b.things = make(map[plan.Thing]*thing, things)
}

// add takes an item of the plan, after checking that its parts are what the
// rule makes of its values: a plan cannot name anything that the policy does not.
func (b *batch) add(it plan.Item) {
	parts, err := plan.Expand(b.rule, it.Item)
	ok := err == nil && len(parts) == len(it.Parts)
	for j := 0; ok && j < len(parts); j++ {
		ok = parts[j].Store == it.Parts[j].Store && parts[j].Locator == it.Parts[j].Locator
		it.Parts[j].Want, it.Parts[j].Tuple, it.Parts[j].Also = parts[j].Want, parts[j].Tuple, parts[j].Also
	}
	u := unit{it: it}
	if !ok {
		u.drop(connector.Result{State: connector.Present, Reason: connector.Changed, Err: err})
	}
	b.push(u)
}

// push adds a unit and its things.
func (b *batch) push(u unit) {
	n := len(b.units)
	u.parts = make([]part, len(u.it.Parts))
	for j, p := range u.it.Parts {
		key := plan.Thing{Store: p.Store, Locator: p.Locator}
		t := b.things[key]
		if t == nil {
			t = &thing{Thing: key}
			b.things[key] = t
			b.order = append(b.order, t)
		}
		t.users = append(t.users, n)
		u.parts[j] = part{Part: p, thing: t}
	}
	b.units = append(b.units, u)
}

// drop ends an item's way with a result.
func (u *unit) drop(r connector.Result) {
	u.out = true
	u.res = r
}

// half reports that some of the item is gone by our hand, or may be, while its
// root is not as it is to be, or unknown.
func (u *unit) half() bool {
	if u.done() {
		return false
	}
	if u.erasing && u.res.State == connector.Unknown {
		return true
	}
	for j := range u.parts {
		if p := &u.parts[j]; p.ours || p.asked() {
			return true
		}
	}
	return false
}

// asked reports a thing whose erasure was asked for and never answered, not
// even by looking again.
func (t *thing) asked() bool { return t.claimed && t.res.State == connector.Unknown }

// failed reports an item that was to go and could not.
func (u *unit) failed() bool {
	return u.res.State == connector.Unknown || failure(u.res.Reason) || u.half()
}

// look probes every thing of the batch once, store by store, and drops the
// items of which something is not known or not what it was.
func (b *batch) look(ctx context.Context) {
	seen := b.probe(ctx, b.order)
	for i := range b.units {
		u := &b.units[i]
		for j := range u.parts {
			p := &u.parts[j]
			r := seen[p.Thing]
			switch {
			case r.State == connector.Unknown:
				p.res = r
				if !u.out || u.res.State == connector.Present {
					u.drop(connector.Result{Reason: or(r.Reason, connector.Unreachable), Err: r.Err})
				}
			case r.State == connector.Gone:
				b.absent(p)
			case !free(r):
				p.res = r
				u.keep(r)
			case p.Print != r.Print || p.Print == "":
				p.res = connector.Result{State: connector.Present, Reason: connector.Changed}
				u.keep(p.res)
			default:
				p.thing.print, p.thing.bytes = r.Print, r.Bytes
				p.res = connector.Result{State: connector.Present, Reason: connector.Eligible}
			}
		}
	}
}

// absent settles a part that is not there. In an intent of an earlier run, what
// it saw and is gone now went by our hand.
func (b *batch) absent(p *part) {
	if !b.old || p.Print == "" {
		p.missing = true
		p.res = connector.Result{State: connector.Gone, Reason: connector.Missing}
		return
	}
	p.ours = true
	p.thing.bytes = p.Bytes
	p.thing.res = connector.Result{State: connector.Gone, Reason: connector.Erasure}
	p.res = p.thing.res
}

// keep drops an item because of a part, unless it is out already. The root
// itself is there, as far as the plan knows.
func (u *unit) keep(r connector.Result) {
	if !u.out {
		u.drop(connector.Result{State: connector.Present, Reason: or(r.Reason, connector.Unreachable), Until: r.Until, Err: r.Err})
	}
}

// probe looks at things, each store once.
func (b *batch) probe(ctx context.Context, things []*thing) map[plan.Thing]connector.Result {
	seen := make(map[plan.Thing]connector.Result, len(things))
	for _, g := range groups(things) {
		at := make([]connector.Locator, len(g))
		for i, t := range g {
			at[i] = t.Locator
		}
		for i, r := range b.stores[g[0].Store].probe(ctx, at) {
			seen[g[i].Thing] = r
		}
	}
	return seen
}

// groups sorts things by store, keeping their order.
func groups(things []*thing) [][]*thing {
	var out [][]*thing
	index := make(map[string]int)
	for _, t := range things {
		i, ok := index[t.Store]
		if !ok {
			i = len(out)
			index[t.Store] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], t)
	}
	return out
}

// leave counts the items that were dropped before anything began, and takes
// them out of the batch: an intent names only what is about to be disposed of.
func (b *batch) leave() {
	if !slices.ContainsFunc(b.units, func(u unit) bool { return u.out }) {
		return
	}
	left := &batch{work: b.work}
	stay := b.units[:0:0]
	for i := range b.units {
		if b.units[i].out {
			left.units = append(left.units, b.units[i])
		} else {
			stay = append(stay, b.units[i])
		}
	}
	b.tell(left)
	b.empty(len(stay), len(b.order))
	for _, u := range stay {
		old := u.parts
		b.push(u)
		now := b.units[len(b.units)-1].parts
		for j := range now {
			now[j].missing, now[j].res = old[j].missing, old[j].res
			now[j].thing.print, now[j].thing.bytes = old[j].thing.print, old[j].thing.bytes
		}
	}
}

// intend writes the intent. Until it is durable nothing is touched.
func (b *batch) intend(ctx context.Context) error {
	if len(b.units) == 0 {
		return nil
	}
	n, err := b.c.Ledger.Append(ctx, b.intentEntry(b.units, b.clock()))
	if err != nil {
		if ctx.Err() == nil {
			b.fail(fmt.Errorf("write to ledger: %w", err))
		}
		return errLeft
	}
	b.intent = n
	return nil
}

// intentEntry names items as the ledger keeps them: a part's fingerprint stands
// there only if it was seen and may be erased.
func (b *batch) intentEntry(units []unit, at time.Time) ledger.Entry {
	items := make([]ledger.Item, len(units))
	for i := range units {
		u := &units[i]
		it := ledger.Item{ID: u.it.ID, Locator: string(u.it.Locator), Print: string(u.it.Print), Anchor: u.it.Anchor, Bytes: u.it.Bytes,
			Values: values(u.it.Values)}
		if len(u.parts) > 0 {
			it.Parts = make([]ledger.Part, len(u.parts))
		}
		for j := range u.parts {
			p := &u.parts[j]
			it.Parts[j] = ledger.Part{Store: p.Thing.Store, Locator: string(p.Thing.Locator), Print: string(p.Print), Bytes: p.Part.Bytes, Gone: p.ours}
			if p.missing {
				it.Parts[j].Print = ""
			}
		}
		items[i] = it
	}
	e := ledger.Entry{At: at, Kind: ledger.Intent, Run: b.id, Rule: b.rule.Name, Store: b.rule.Store, Items: items}
	if b.grounds != nil {
		e.Facts, e.Secrets = b.grounds.facts, b.grounds.secrets
	} else {
		e.Facts = append([]ledger.Fact{ledger.Hash("policy", b.policy.Hash), ledger.Instant("cutoff", b.sum.Cutoff), ledger.Instant("as_of", b.plan.AsOf)},
			b.rootFacts(items)...)
	}
	if b.keeps() {
		e.Facts = append(slices.Clip(e.Facts), ledger.Code(thenFact, thenUpdate))
	}
	return e
}

func values(v [][]connector.Tuple) [][][]string {
	if len(v) == 0 {
		return nil
	}
	out := make([][][]string, len(v))
	for w := range v {
		if len(v[w]) > 0 {
			out[w] = make([][]string, len(v[w]))
		}
		for k := range v[w] {
			out[w][k] = v[w][k]
		}
	}
	return out
}

// dispose is what lies between the intent and the outcome.
func (b *batch) dispose(ctx context.Context) {
	roots, index := b.claimRoots(ctx)
	defer roots.release()
	b.eraseParts(ctx, roots)
	b.eraseRoots(ctx, roots, index)
}

// claimRoots claims the items still in and returns, for each claimed place, its
// unit. Items that are refused drop out with their reason.
func (b *batch) claimRoots(ctx context.Context) (claim, []int) {
	index, items := make([]int, 0, len(b.units)), make([]connector.Item, 0, len(b.units))
	for i := range b.units {
		if !b.units[i].out {
			index = append(index, i)
			items = append(items, b.units[i].it.Item)
		}
	}
	if len(items) == 0 {
		return claim{}, nil
	}
	cl, rs := b.stores[b.rule.Store].claim(ctx, b.query, items)
	for k, r := range rs {
		u := &b.units[index[k]]
		switch {
		case free(r):
			u.claimed = true
			u.share(r.Kept)
			b.keepShared(u)
		case r.State == connector.Gone && b.old:
			u.share(r.Kept) // left on purpose, where the store can still say so
			u.drop(b.rootGone(u))
		case r.Reason == connector.Set:
			u.drop(b.rootSet(u))
		case r.State == connector.Gone:
			u.drop(connector.Result{State: connector.Gone, Reason: connector.Missing})
		case r.State == connector.Unknown:
			u.drop(connector.Result{Reason: or(r.Reason, connector.Unreachable), Err: r.Err})
		default:
			u.drop(r)
		}
	}
	return cl, index
}

// share marks the parts that a surviving row still references.
func (u *unit) share(kept [][]bool) {
	is := func(o plan.Origin) bool {
		return o.Want < len(kept) && o.Tuple < len(kept[o.Want]) && kept[o.Want][o.Tuple]
	}
	for j := range u.parts {
		p := &u.parts[j]
		shared := is(plan.Origin{Want: p.Want, Tuple: p.Tuple})
		for _, o := range p.Also {
			shared = shared || is(o)
		}
		if shared && p.res.State == connector.Present {
			p.shared = true
			p.res = connector.Result{State: connector.Present, Reason: connector.Shared}
		}
	}
}

// eraseRoots erases the roots of the items whose parts are all gone, missing or
// shared, or sets them; lets go of the others, and looks again where no answer
// came.
func (b *batch) eraseRoots(ctx context.Context, roots claim, index []int) {
	var which []int
	for k, i := range index {
		if u := &b.units[i]; u.claimed && !u.out && b.bare(u) {
			u.erasing = true
			which = append(which, k)
		}
	}
	erased := roots.erase(ctx, which)
	b.rows = addCounts(nil, erased.Rows)
	var lost []int
	var at []connector.Locator
	for n, r := range erased.Results {
		i := index[which[n]]
		u := &b.units[i]
		if u.res = r; r.State == connector.Gone {
			u.res.Reason = or(r.Reason, connector.Erasure)
		} else if r.State == connector.Unknown {
			lost = append(lost, i)
			at = append(at, u.it.Locator)
		}
		u.out = true
	}
	roots.release()
	if b.keeps() {
		for n, r := range b.reclaim(ctx, lost) {
			u := &b.units[lost[n]]
			u.res = settledSet(u.res, r)
		}
		return
	}
	for n, r := range b.stores[b.rule.Store].probe(ctx, at) {
		u := &b.units[lost[n]]
		u.res = settled(u.res, r, u.it.Print)
	}
}
