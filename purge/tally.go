package purge

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

// newRuleReport starts a report with what the plan already says: the items it
// kept back, those it could not look at, and a store that could not be read.
func newRuleReport(s *plan.RuleSummary, l Ledger) RuleReport {
	rep := RuleReport{
		Rule: s.Rule, Kind: s.Kind, Store: s.Store, StoreKind: s.StoreKind, Enabled: s.Enabled, Retain: s.Retain, Cutoff: s.Cutoff,
		Total: s.Total, Due: s.Due, Undated: s.Undated, Items: s.Items, OldestDue: s.OldestDue,
		Kept: make(map[connector.Reason]int64), Drift: make(map[connector.Reason]int64),
		Unreadable: s.Unreadable, ErrorType: s.ErrorType,
	}
	for reason, n := range s.Kept {
		switch {
		case plan.NotSeen(reason):
			rep.Unknown += n
			rep.Errors += n
		case failure(reason):
			rep.Errors += n
			fallthrough
		default:
			rep.Kept[reason] += n
		}
	}
	if s.Unreadable != "" {
		rep.Errors++
	}
	for _, f := range s.Failures {
		rep.fail(string(idOf(l, f.ID, string(f.Locator))), f.Reason, f.ErrorType)
	}
	return rep
}

func (rep *RuleReport) fail(item string, reason connector.Reason, errorType string) {
	if len(rep.Failures) < MaxFailures {
		rep.Failures = append(rep.Failures, Failure{item, reason, errorType})
	}
}

// failure reports a reason that should not be: the item was to go, and cannot.
// All other reasons are good ones for an item to stay.
func failure(r connector.Reason) bool {
	switch r {
	case connector.Refused, connector.NoPermission, connector.Unreachable, connector.Invalid:
		return true
	}
	return false
}

// count adds the outcome of one batch, which is in the ledger by now.
func (rep *RuleReport) count(b *batch) {
	for i := range b.units {
		u := &b.units[i]
		switch u.res.State {
		case connector.Gone:
			if u.res.Reason != connector.Erasure {
				rep.Missing++
				rep.Drift[connector.Missing]++
				continue
			}
			rep.Gone++
			rep.Bytes += u.it.Bytes
		case connector.Present:
			if u.done() {
				rep.Set++
				continue
			}
			rep.Kept[u.res.Reason]++
			if u.failed() {
				rep.Errors++
			} else {
				rep.Drift[u.res.Reason]++
			}
		default:
			rep.Unknown++
			rep.Errors++
		}
	}
	for _, t := range b.order {
		if t.res.State == connector.Gone && t.res.Reason == connector.Erasure && !t.counted {
			rep.PartsGone++
			rep.ObjectsGone += objects(b.policy, t.Store)
			rep.Bytes += t.bytes
		}
	}
	for i := range b.units {
		for j := range b.units[i].parts {
			switch p := &b.units[i].parts[j]; {
			case p.res.State == connector.Gone && p.res.Reason == connector.Missing:
				rep.PartsMissing++
			case p.res.State == connector.Present && p.res.Reason == connector.Shared:
				rep.PartsShared++
			}
		}
	}
	for i := range b.units {
		if u := &b.units[i]; u.res.State != connector.Gone && u.failed() {
			rep.fail(string(b.name(u)), u.res.Reason, plan.ErrorType(u.cause()))
		}
	}
	rep.Rows = addCounts(rep.Rows, b.rows)
	if b.old {
		rep.Resumed += int64(len(b.units))
	}
}

// objects is 1 for an object store, else 0.
func objects(p *policy.Policy, store string) int64 {
	if s, ok := p.Store(store); ok && s.Kind == policy.Objects {
		return 1
	}
	return 0
}

// addCounts adds counts by table, in the order of the tables' names.
func addCounts(to, more []connector.Count) []connector.Count {
	for _, c := range more {
		i, ok := slices.BinarySearchFunc(to, c.Table, func(x connector.Count, t string) int { return strings.Compare(x.Table, t) })
		if !ok {
			to = slices.Insert(to, i, connector.Count{Table: c.Table})
		}
		to[i].N += c.N
	}
	return to
}

// facts are the public counts of a rule, of an outcome, or of a run. What a dry
// run counts has other names: nobody who reads the ledger may take a plan for a
// deletion.
func (rep *RuleReport) facts(mode string) []ledger.Fact {
	would := ""
	if mode == modeDryRun {
		would = "would."
	}
	kept := int64(0)
	for _, n := range rep.Kept {
		kept += n
	}
	facts := []ledger.Fact{
		ledger.Int(would+"gone", rep.Gone), ledger.Int("missing", rep.Missing), ledger.Int("kept", kept),
		ledger.Int("unknown", rep.Unknown), ledger.Int("errors", rep.Errors), ledger.Int(would+"bytes", rep.Bytes),
		ledger.Int(would+"parts.gone", rep.PartsGone), ledger.Int("parts.shared", rep.PartsShared), ledger.Int("parts.missing", rep.PartsMissing),
	}
	if rep.Keeps || rep.Set > 0 {
		facts = append(facts, ledger.Int(would+"set", rep.Set))
	}
	for _, r := range slices.Sorted(maps.Keys(rep.Kept)) {
		facts = append(facts, ledger.Int(ledger.SafeCode("kept."+string(r)), rep.Kept[r]))
	}
	for _, c := range rep.Rows {
		facts = append(facts, ledger.Int(ledger.SafeCode("rows."+c.Table), c.N))
	}
	return facts
}

// totals are the counts of the whole run.
func totals(rep *Report, mode string) []ledger.Fact {
	sum := RuleReport{Kept: make(map[connector.Reason]int64)}
	for i := range rep.Rules {
		r := &rep.Rules[i]
		sum.Gone += r.Gone
		sum.Set += r.Set
		sum.Keeps = sum.Keeps || r.Keeps
		sum.Missing += r.Missing
		sum.Unknown += r.Unknown
		sum.Errors += r.Errors
		sum.Bytes += r.Bytes
		sum.PartsGone += r.PartsGone
		sum.PartsShared += r.PartsShared
		sum.PartsMissing += r.PartsMissing
		for reason, n := range r.Kept {
			sum.Kept[reason] += n
		}
		sum.Rows = addCounts(sum.Rows, r.Rows)
	}
	return sum.facts(mode)
}

// pulse is the heartbeat of a rule: written for every evaluation, also when
// nothing was due or the rule is off.
func (r *run) pulse(s *plan.RuleSummary, rep *RuleReport, state string) ledger.Entry {
	facts := append(rep.facts(r.mode),
		ledger.Code("mode", r.mode), ledger.Code("state", state), ledger.Code("retain", s.Retain.String()),
		ledger.Instant("cutoff", s.Cutoff), ledger.Int("total", s.Total), ledger.Int("due", s.Due),
		ledger.Int("items", s.Items), ledger.Int("undated", s.Undated))
	if !s.OldestDue.IsZero() {
		facts = append(facts, ledger.Instant("oldest_due", s.OldestDue))
	}
	if s.Unreadable != "" {
		facts = append(facts, ledger.Code("unreadable", ledger.SafeCode(string(s.Unreadable))), ledger.Code("error_type", ledger.SafeCode(s.ErrorType)))
	}
	return ledger.Entry{At: r.clock(), Kind: ledger.Heartbeat, Run: r.id, Rule: s.Rule, Store: s.Store, Refers: r.started, Facts: facts}
}

func (r *run) heartbeat(ctx context.Context, s *plan.RuleSummary, rep *RuleReport, state string) {
	if _, err := r.append(ctx, r.pulse(s, rep, state)); err != nil {
		return
	}
	if state == stateDisabled || state == stateUnreadable {
		return
	}
	kept := int64(0)
	for _, n := range rep.Kept {
		kept += n
	}
	gone, set, files := "gone", "set", "files_deleted"
	if r.mode == modeDryRun {
		gone, set, files = "would_go", "would_set", "files_would_go"
	}
	fields := []field{text("rule", code(s.Rule)), text("kind", code(s.Kind)), num("due", rep.Due), num(gone, rep.Gone)}
	if rep.Keeps {
		fields = append(fields, num(set, rep.Set))
	}
	r.voice.say(level(rep.Errors), RuleCompleteEvent, append(fields, num("kept", kept), num("unknown", rep.Unknown), num("missing", rep.Missing), num("errors", rep.Errors),
		num(files, rep.PartsGone), num("undated", rep.Undated), text("state", code(state)))...)
}

func level(errors int64) slog.Level {
	if errors > 0 {
		return slog.LevelError
	}
	return slog.LevelInfo
}

// sayEnd is the run's last event, with the recorder's counters.
func (r *run) sayEnd(state string, cause error) {
	var purged, files, exports, others, kept, set int64
	keeps := false
	for i := range r.report.Rules {
		rep := &r.report.Rules[i]
		set += rep.Set
		keeps = keeps || rep.Keeps
		files += rep.PartsGone
		for _, n := range rep.Kept {
			kept += n
		}
		switch {
		case rep.Kind == "export":
			exports += rep.Gone
		case rep.StoreKind == policy.Rows:
			purged += rep.Gone
		default:
			others += rep.Gone
		}
	}
	var fields []field
	if keeps {
		fields = append(fields, num("set_count", set))
	}
	fields = append([]field{
		num("purged_count", purged), num("files_deleted", files), num("exports_deleted", exports), num("items_deleted", others),
		num("kept", kept), num("unknown", r.report.Unknown()), num("errors", r.report.Errors()), num("resumed", r.report.Resumed),
		num("incidents", r.report.Incidents), flag("dry_run", r.mode == modeDryRun), text("state", code(state)),
	}, fields...)
	if cause != nil {
		r.voice.say(slog.LevelError, RunFailedEvent, append(fields, text("error_type", code(plan.ErrorType(cause))))...)
		return
	}
	r.voice.say(level(r.report.Errors()), RunCompleteEvent, fields...)
}

// plus writes a list with + where a code may hold no comma.
func plus(s string) string { return strings.ReplaceAll(s, ",", "+") }
