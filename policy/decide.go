package policy

import (
	"time"

	"github.com/epitaph/epitaph/connector"
)

// Cutoff returns the instant before which the rule's items are due at asOf:
// one retention period earlier, in UTC.
func (r *Rule) Cutoff(asOf time.Time) time.Time { return r.Retain.Before(asOf) }

// Query puts the rule in a store's words, for one cutoff. Wants has one element
// for each element of r.Parts, in the same order.
func (r *Rule) Query(cutoff time.Time) *connector.Query {
	q := &connector.Query{
		Collection:  r.Collection,
		Anchor:      r.Anchor,
		Cutoff:      cutoff.UTC(),
		Where:       r.Where,
		Hold:        r.Hold,
		InUse:       r.InUse,
		Links:       r.Links,
		Then:        r.Then,
		CrossMounts: r.CrossMounts,
	}
	for _, p := range r.Parts {
		q.Wants = append(q.Wants, p.Want)
	}
	return q
}

// Decide says whether it may go at asOf, and if not, why. It reads no clock.
// The first of these that holds is the reason: Undated, NotDue, Held,
// LockedUntil, InUse, Invalid; else Eligible. Whether the rule is enabled is not asked.
func (r *Rule) Decide(it connector.Item, asOf time.Time) Decision {
	if it.Anchor.IsZero() {
		return Decision{Reason: connector.Undated}
	}
	d := Decision{
		Due:    it.Anchor.Before(r.Cutoff(asOf)),
		DueAt:  dueAt(r.Retain, it.Anchor),
		Reason: connector.Eligible,
	}
	switch {
	case !d.Due:
		d.Reason = connector.NotDue
	case it.Held:
		d.Reason = connector.Held
	case it.Until.After(asOf):
		d.Reason = connector.LockedUntil
	case it.InUse:
		d.Reason = connector.InUse
	case it.Err != nil:
		d.Reason = connector.Invalid
	}
	return d
}

// dueAt is the first instant, to the nanosecond, at which an item with this
// anchor lies strictly before the cutoff.
func dueAt(retain Period, anchor time.Time) time.Time {
	t := retain.After(anchor)
	if !anchor.Before(retain.Before(t)) {
		t = t.Add(1)
	}
	return t
}
