package purge

import (
	"context"
	"log/slog"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
)

// resume finishes the intents that earlier runs left open, for the rules of the
// plan: their items are looked at, claimed by the rule of today, and disposed of
// if they are still due. Intents of other rules wait for a run of theirs.
func (r *run) resume(ctx context.Context) {
	for _, e := range r.intents {
		if r.turn(ctx, e.Rule) != nil || r.over(ctx) {
			return
		}
		s, _ := r.plan.Rule(e.Rule)
		r.resumeIntent(ctx, e, s)
	}
	if r.report.Resumed > 0 {
		r.voice.say(slog.LevelWarn, ResumeEvent, num("items", r.report.Resumed), num("open_intents", r.report.Open))
	}
}

func (r *run) resumeIntent(ctx context.Context, e ledger.Entry, s *plan.RuleSummary) {
	rule, _ := r.policy.Rule(e.Rule)
	w := &work{run: r, rule: rule, sum: s}
	for i := range r.plan.Rules {
		if r.plan.Rules[i].Rule == e.Rule {
			w.rep = &r.report.Rules[i]
		}
	}
	w.query = rule.Query(r.resumeCutoff(e, s))
	b := &batch{work: w, intent: e.Number, old: true, things: make(map[plan.Thing]*thing)}
	then, _ := e.Code(thenFact)
	b.kept = then == thenUpdate
	for _, it := range e.Items {
		b.remember(it)
	}
	if e.Store != rule.Store || len(b.units) == 0 {
		return
	}
	b.look(ctx)
	b.lookAtRoots(ctx, s.Enabled)
	b.dispose(ctx)
	for i := range b.units {
		r.resumed[plan.Thing{Store: rule.Store, Locator: b.units[i].it.Locator}] = true
	}
	if b.blind() {
		r.mu.Lock()
		w.rep.Unknown += int64(len(b.units))
		w.rep.Errors += int64(len(b.units))
		r.mu.Unlock()
		return
	}
	b.record(ctx)
}

// resumeCutoff is the cutoff by which items of an earlier run are due: this
// run's, or the earlier run's where that lies later and was reckoned under the
// very same policy. A policy that has become longer since protects the items;
// a plan that is older than the crashed run does not.
func (r *run) resumeCutoff(e ledger.Entry, s *plan.RuleSummary) time.Time {
	then, ok := e.Instant("cutoff")
	hash, _ := e.Hash("policy")
	if ok && hash == r.policy.Hash && then.After(s.Cutoff) {
		return then
	}
	return s.Cutoff
}

// remember makes a unit of what an intent says. The values must still name the
// parts; where the policy has changed so that they do not, the item is left to
// the next plan.
func (b *batch) remember(it ledger.Item) {
	u := unit{it: plan.Item{Item: connector.Item{
		Locator: connector.Locator(it.Locator), ID: it.ID, Anchor: it.Anchor, Bytes: it.Bytes, Print: connector.Fingerprint(it.Print),
	}}}
	for _, tuples := range it.Values {
		var ts []connector.Tuple
		for _, t := range tuples {
			ts = append(ts, t)
		}
		u.it.Values = append(u.it.Values, ts)
	}
	for _, p := range it.Parts {
		u.it.Parts = append(u.it.Parts, plan.Part{Store: p.Store, Locator: connector.Locator(p.Locator),
			Print: connector.Fingerprint(p.Print), Bytes: p.Bytes})
	}
	now, err := plan.Expand(b.rule, u.it.Item)
	same := err == nil && len(now) == len(u.it.Parts)
	for j := 0; same && j < len(now); j++ {
		p := &u.it.Parts[j]
		same = now[j].Store == p.Store && now[j].Locator == p.Locator
		p.Want, p.Tuple, p.Also = now[j].Want, now[j].Tuple, now[j].Also
	}
	switch {
	case it.SealedOff:
		u.sealedOff = true
		u.drop(connector.Result{Reason: connector.Invalid})
	case !same:
		u.drop(connector.Result{State: connector.Present, Reason: connector.Changed, Err: err})
	}
	b.push(u)
	for j, p := range it.Parts {
		b.units[len(b.units)-1].parts[j].counted = p.Gone
	}
}

// lookAtRoots looks at the roots of the items that will not be claimed, because
// of what was seen of their parts, or because the rule is off: of those too
// nothing is said without having looked.
func (b *batch) lookAtRoots(ctx context.Context, enabled bool) {
	var at []connector.Locator
	var index []int
	for i := range b.units {
		if u := &b.units[i]; u.it.Locator != "" && (!enabled && !u.out || u.out && u.res.State == connector.Present) {
			at = append(at, u.it.Locator)
			index = append(index, i)
		}
	}
	rs := b.stores[b.rule.Store].probe
	if b.keeps() {
		rs = func(ctx context.Context, _ []connector.Locator) []connector.Result { return b.reclaim(ctx, index) }
	}
	for n, r := range rs(ctx, at) {
		u := &b.units[index[n]]
		switch r.State {
		case connector.Gone:
			u.drop(b.rootGone(u))
		case connector.Present:
			if r.Reason == connector.Set {
				u.drop(b.rootSet(u))
			}
			u.keep(connector.Result{State: connector.Present, Reason: connector.NotDue})
		default:
			u.drop(connector.Result{Reason: or(r.Reason, connector.Unreachable), Err: r.Err})
		}
	}
}

// rootGone says whose hand took a root that an open intent names. Parts go
// before their root: as long as all of them are there that were to go, it was
// not ours, nor where the intent was to set it.
func (b *batch) rootGone(u *unit) connector.Result {
	if b.kept {
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	}
	left, gone := false, false
	for j := range u.parts {
		p := &u.parts[j]
		gone = gone || p.ours
		left = left || p.res.State != connector.Gone && !p.shared
	}
	if left && !gone {
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	}
	return connector.Result{State: connector.Gone, Reason: connector.Erasure}
}

// blind reports that nothing at all was learned, as when the store is down. The
// intent then stays open as it is, and the items count as unknown.
func (b *batch) blind() bool {
	for i := range b.units {
		if b.units[i].res.State != connector.Unknown || b.units[i].sealedOff {
			return false
		}
		for j := range b.units[i].parts {
			if b.units[i].parts[j].res.State == connector.Gone && !b.units[i].parts[j].counted {
				return false
			}
		}
	}
	return true
}
