package purge

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
)

// record writes the outcome, and in the same append the incidents and, for the
// items that are half gone, the intent that hands them on to the next run. Only
// then is anything counted or told.
func (b *batch) record(ctx context.Context) error {
	if len(b.units) == 0 {
		return nil
	}
	if ctx.Err() != nil && b.unsettled() {
		// We were stopped before we could look. The intent stays open, and the next
		// run sees for itself.
		return errLeft
	}
	now := b.clock()
	out := ledger.Entry{At: now, Kind: ledger.Outcome, Run: b.id, Rule: b.rule.Name, Store: b.rule.Store, Refers: b.intent}
	for i := range b.units {
		out.Results = append(out.Results, b.units[i].result())
	}
	var one RuleReport
	one.Kept, one.Drift = make(map[connector.Reason]int64), make(map[connector.Reason]int64)
	one.count(b)
	out.Facts = one.facts(modePurge)
	if b.grounds != nil && b.grounds.tell != nil {
		out.Facts = append(out.Facts, b.grounds.tell()...)
	}
	es := []ledger.Entry{out}
	incidents := b.incidents()
	for _, i := range incidents {
		es = append(es, i.entry(b, now))
	}
	var on []unit
	for i := range b.units {
		if u := &b.units[i]; b.open(u) {
			on = append(on, *u)
		}
	}
	if len(on) > 0 {
		e := b.intentEntry(on, now)
		e.Facts = append(slices.Clip(e.Facts), ledger.Int("handed_on_from", b.intent))
		es = append(es, e)
	}
	if _, err := b.append(ctx, es...); err != nil {
		return errLeft
	}
	b.mu.Lock()
	b.report.Incidents += int64(len(incidents))
	if len(on) > 0 {
		b.report.Open++
	}
	if b.old {
		b.report.Open--
		b.report.Resumed += int64(len(b.units))
	}
	b.mu.Unlock()
	for _, i := range incidents {
		i.say(b, now)
	}
	b.tell(b)
	return nil
}

// open reports an item that a later run must finish: half gone, or, of an earlier
// run, not known.
func (b *batch) open(u *unit) bool {
	if u.done() || u.sealedOff || b.final(u) {
		return false
	}
	if u.half() || b.old && u.res.State == connector.Unknown {
		return true
	}
	for j := range u.parts {
		if b.old && u.parts[j].res.State == connector.Unknown {
			return true
		}
	}
	return false
}

// unsettled reports that something was begun of which the end is not known.
func (b *batch) unsettled() bool {
	for i := range b.units {
		u := &b.units[i]
		if u.res.State == connector.Unknown || b.old && u.half() {
			return true
		}
		for j := range u.parts {
			if u.parts[j].asked() {
				return true
			}
		}
	}
	return false
}

// result is an item's outcome as the ledger keeps it.
func (u *unit) result() ledger.Result {
	r := ledger.Result{State: state(u.res.State), Reason: reasonCode(u.res.Reason)}
	if len(u.parts) > 0 {
		r.Parts = make([]ledger.PartResult, len(u.parts))
	}
	for j := range u.parts {
		r.Parts[j] = ledger.PartResult{State: state(u.parts[j].res.State), Reason: reasonCode(u.parts[j].res.Reason)}
	}
	return r
}

func reasonCode(r connector.Reason) string {
	if r == "" {
		return ""
	}
	return ledger.SafeCode(string(r))
}

func state(s connector.State) ledger.State {
	switch s {
	case connector.Present:
		return ledger.Present
	case connector.Gone:
		return ledger.Gone
	default:
		return ledger.Unknown
	}
}

// The incidents.
const (
	survived   = "row-survived" // parts are gone, and the row is not due any more
	leftBehind = "left-behind"  // the row is gone, and a part is still there
	sealed     = "sealed-off"   // the intent's texts were destroyed, so that it cannot be finished
)

// incident is something a person must look at: one item, or, where one cause
// touches many, all of a batch.
type incident struct {
	what string
	n    int64
	u    *unit // the item; of several, the first
}

// incidents finds what a person must look at. After a crash, parts that are
// left behind are one incident, however many: each of them either had to stay
// because another row needs it, or lost its row to somebody else, and which of
// the two it is can only be seen by looking.
func (b *batch) incidents() []incident {
	var out []incident
	behind := incident{what: leftBehind}
	for i := range b.units {
		u := &b.units[i]
		switch {
		case u.sealedOff:
			out = append(out, incident{sealed, 1, u})
		case u.half() && b.final(u):
			out = append(out, incident{survived, 1, u})
		case b.old && u.res.State == connector.Gone && !u.erasing && u.left():
			behind.n++
			behind.u = or(behind.u, u)
		}
	}
	if behind.n > 0 {
		out = append(out, behind)
	}
	return out
}

func (i incident) entry(b *batch, at time.Time) ledger.Entry {
	e := ledger.Entry{At: at, Kind: ledger.Incident, Run: b.id, Rule: b.rule.Name, Store: b.rule.Store, Refers: b.intent,
		Facts: []ledger.Fact{ledger.Code("incident", i.what), ledger.Int("items", i.n)}}
	if i.n == 1 {
		e.Facts = append(e.Facts, ledger.Code("reason", ledger.SafeCode(string(i.u.res.Reason))), ledger.Code("item", string(b.name(i.u))))
		e.Secrets = []ledger.Secret{{Name: "locator", Text: string(i.u.it.Locator)}}
	}
	return e
}

func (i incident) say(b *batch, at time.Time) {
	fields := []field{text("rule", code(b.rule.Name))}
	if i.n == 1 {
		fields = append(itemFields(b.c.Ledger, b.sum, &i.u.it.Item, at), text("reason", code(string(i.u.res.Reason))))
	}
	b.voice.say(slog.LevelError, IncidentEvent, append(fields, text("incident", code(i.what)), num("items", i.n))...)
}

// left reports that a part of an item that is gone is still there.
func (u *unit) left() bool {
	for j := range u.parts {
		if p := &u.parts[j]; p.res.State == connector.Present && !p.shared {
			return true
		}
	}
	return false
}

// final reports an item that no later run may finish: it is half gone, and not
// due any more, or not the one it was.
func (b *batch) final(u *unit) bool {
	if !b.old || u.claimed || u.res.State != connector.Present {
		return false
	}
	switch u.res.Reason {
	case connector.NotDue, connector.Changed, connector.Undated, connector.Held, connector.Invalid:
		return true
	}
	return false
}

// name is the safe name of an item.
func (b *batch) name(u *unit) safe { return idOf(b.c.Ledger, u.it.ID, string(u.it.Locator)) }

// tell counts the results of a batch and sends their events.
func (b *batch) tell(of *batch) {
	b.mu.Lock()
	b.rep.count(of)
	b.mu.Unlock()
	if b.c.Observe == nil {
		return
	}
	names := familyOf(b.sum.Kind)
	now := b.clock()
	for i := range of.units {
		u := &of.units[i]
		fields := itemFields(b.c.Ledger, b.sum, &u.it.Item, now)
		switch {
		case u.res.State == connector.Gone && u.res.Reason == connector.Erasure:
			why := safe("retention_expired")
			if u.it.Anchor.IsZero() {
				why = "disposed"
			}
			b.voice.say(slog.LevelInfo, names.purged, append(fields, text("reason", why), num("files_deleted", u.filesGone()))...)
		case u.done() && u.res.Reason == connector.Set:
			b.voice.say(slog.LevelInfo, names.set, append(fields, text("reason", "retention_expired"), num("files_deleted", u.filesGone()))...)
		case u.res.State == connector.Gone || !u.failed():
			b.voice.say(slog.LevelWarn, names.kept, append(fields, text("reason", code(string(u.res.Reason))))...)
		default:
			b.voice.say(slog.LevelError, names.failed, append(fields, text("reason", code(string(u.res.Reason))),
				text("error_type", code(or(plan.ErrorType(u.cause()), "none"))), num("files_deleted", u.filesGone()))...)
		}
	}
}

// filesGone counts the item's parts that went by our hand.
func (u *unit) filesGone() int64 {
	var n int64
	for j := range u.parts {
		if p := &u.parts[j]; p.ours {
			n++
		}
	}
	return n
}

// cause is the error behind a failure.
func (u *unit) cause() error {
	if u.res.Err != nil {
		return u.res.Err
	}
	for j := range u.parts {
		if err := u.parts[j].res.Err; err != nil {
			return err
		}
	}
	return nil
}
