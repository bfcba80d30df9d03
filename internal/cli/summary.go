package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"
)

// showReport prints what a run did, with a line about the checkpoint after it.
// stop is the error that ended it, if any.
func (a *app) showReport(pol *policy.Policy, r *purge.Report, k *keeping, cp *signed, stop error) error {
	if a.global.json {
		out := reportOf(pol, r, stop)
		out.Checkpoint = checkpointOf(cp)
		return a.printJSON(out)
	}
	w := a.stdout()
	w.linef("%s", heading(r, stop))
	w.linef("  Dry run: %t", r.DryRun)
	w.linef("  %s", retention(r))
	for _, k := range kindLines(pol, r) {
		w.linef("  %s: %d", k.label, k.n)
	}
	w.linef("  Kept: %d", keptOf(r))
	w.linef("  Unknown: %d", r.Unknown())
	w.linef("  Errors: %d", r.Errors())
	if r.Resumed > 0 {
		w.linef("  Finished from an earlier run: %d", r.Resumed)
	}
	if r.Incidents > 0 {
		w.linef("  %s: %d (see: epitaph trail --action incident --run %s)", w.red("Incidents"), r.Incidents, r.Run)
	}
	if r.Open > 0 {
		w.linef("  %s: %d batches; run again to settle them", w.red("Without an outcome"), r.Open)
	}
	w.linef("  Run: %s", r.Run)
	w.linef("  Checkpoint: %s", checkpointText(k, cp))
	for i := range r.Rules {
		ruleSummary(w, pol, &r.Rules[i], r)
	}
	label := "Stopped by an interlock"
	if r.DryRun {
		label = "An interlock would stop it"
	}
	if len(r.Stops) == 0 && slices.ContainsFunc(r.Rules, func(rule purge.RuleReport) bool { return rule.Unreadable != "" }) {
		w.linef("hint: %s", hintUnreadable)
	}
	for _, s := range r.Stops {
		w.linef("%s: %s", w.red(label), s.Error())
		if s.Hint != "" {
			w.linef("  hint: %s", s.Hint)
		}
	}
	return w.err
}

func heading(r *purge.Report, stop error) string {
	var lock *purge.Interlock
	switch {
	case errors.As(stop, &lock):
		return "Purge stopped before the first deletion:"
	case stop != nil:
		return "Purge ended early:"
	case r.Interrupted:
		return "Purge interrupted:"
	case slices.ContainsFunc(r.Rules, func(rule purge.RuleReport) bool { return rule.Unreadable != "" }):
		return "Purge incomplete, not every rule could be carried out:"
	default:
		return "Purge complete:"
	}
}

// retention is the number of days where every rule has whole days, and otherwise
// the period of each rule as the policy has it.
func retention(r *purge.Report) string {
	var periods, days []string
	whole := true
	for i := range r.Rules {
		p := r.Rules[i].Retain
		if !r.Rules[i].Enabled || slices.Contains(periods, p.String()) {
			continue
		}
		periods, days = append(periods, p.String()), append(days, strconv.Itoa(p.Days))
		whole = whole && p == policy.Period{Days: p.Days}
	}
	switch {
	case len(periods) == 0:
		return "Retention: none, every rule is switched off"
	case whole:
		return "Retention days: " + strings.Join(days, ", ")
	default:
		return "Retention: " + strings.Join(periods, ", ")
	}
}

// kindLine is one counter of the summary.
type kindLine struct {
	label string
	kind  string // whose deletions it counts; "" for another count
	n     int64
}

// kindLines counts what went, by kind of item, with the labels that the
// recorder's purge has: records, files and exports always, others when there
// are rules or stores for them, or linked rows with a word of their own. How many
// linked rows would go, a dry run does not know.
func kindLines(pol *policy.Policy, r *purge.Report) []kindLine {
	lines := []kindLine{{"Purged records", "record", 0}, {"Files deleted", "file", 0}, {"Exports deleted", "export", 0}}
	objects := int64(0)
	add := func(kind string, n int64) {
		switch kind {
		case "record":
			lines[0].n += n
		case "file":
			lines[1].n += n
		case "export":
			lines[2].n += n
		case "object":
			objects += n
		default:
			lines = addKind(lines, kind, "deleted", n)
		}
	}
	for i := range r.Rules {
		rule := &r.Rules[i]
		lines[1].n += rule.PartsGone - rule.ObjectsGone
		objects += rule.ObjectsGone
		if rule.Keeps {
			lines = addKind(lines, rule.Kind, "set", rule.Set)
			if rule.Gone == 0 {
				continue
			}
		}
		add(rule.Kind, rule.Gone)
		if p, ok := pol.Rule(rule.Rule); ok && !r.DryRun {
			for j, kind := range p.LinkKinds {
				if kind != "" {
					add(kind, rowsOf(rule.Rows, p.Links[j].Table))
				}
			}
		}
	}
	if slices.ContainsFunc(pol.Stores, func(s policy.Store) bool { return s.Kind == policy.Objects }) {
		lines = append(lines, kindLine{objectsLabel, "object", objects})
	}
	return lines
}

// rowsOf counts the rows of a table, which the policy may name without its schema.
func rowsOf(rows []connector.Count, table string) (n int64) {
	for _, c := range rows {
		if c.Table == table || strings.HasSuffix(c.Table, "."+table) {
			n += c.N
		}
	}
	return n
}

// addKind adds to the line of a kind, such as "Log files deleted".
func addKind(lines []kindLine, kind, what string, n int64) []kindLine {
	word := strings.ReplaceAll(kind, "_", " ")
	label := strings.ToUpper(word[:1]) + word[1:] + "s " + what
	j := slices.IndexFunc(lines, func(k kindLine) bool { return k.label == label })
	if j < 0 {
		if what != "deleted" {
			kind = ""
		}
		lines = append(lines, kindLine{label: label, kind: kind})
		j = len(lines) - 1
	}
	lines[j].n += n
	return lines
}

// objectsOf is the number on the line of objects.
func objectsOf(lines []kindLine) int64 {
	if last := lines[len(lines)-1]; last.label == objectsLabel {
		return last.n
	}
	return 0
}

const objectsLabel = "Objects deleted"

func keptOf(r *purge.Report) (n int64) {
	for i := range r.Rules {
		n += sum(r.Rules[i].Kept)
	}
	return n
}

func ruleSummary(w *printer, pol *policy.Policy, r *purge.RuleReport, of *purge.Report) {
	if !r.Enabled {
		off := "switched off"
		if rule, ok := pol.Rule(r.Rule); ok && rule.Off != "" {
			off += ": " + rule.Off
		}
		w.linef("Rule %s: %s; nothing was done", w.bold(r.Rule), off)
		return
	}
	w.linef("Rule %s: %s, kept %s, cutoff %s", w.bold(r.Rule), several(r.Kind), r.Retain, instant(r.Cutoff))
	if r.Unreadable != "" {
		w.linef("  %s (%s, error type %s); nothing was touched", w.red(unreadable(r.Unreadable)), r.Unreadable, r.ErrorType)
		return
	}
	gone, set := "Gone:   ", "Set:    "
	if of.DryRun {
		gone, set = "To go:  ", "To set: "
	}
	w.linef("  Due:     %s of %s", number(r.Due), number(r.Total))
	if r.Keeps {
		w.linef("  %s %s (%s); the rows stay", set, number(r.Set), strings.Join(columnsSet(pol, r.Rule), ", "))
	}
	if !r.Keeps || r.Gone > 0 {
		w.linef("  %s %s, %s", gone, number(r.Gone), bytesText(r.Bytes))
	}
	switch {
	case r.PartsGone+r.PartsShared+r.PartsMissing == 0:
	case of.DryRun: // who else needs a part is looked at under the lock of the rows only
		w.linef("  Parts:   %s would go unless they are shared, %s missing", number(r.PartsGone), number(r.PartsMissing))
	default:
		size := ""
		if r.Keeps {
			size = ", " + bytesText(r.Bytes)
		}
		w.linef("  Parts:   %s gone, %s shared, %s missing%s", number(r.PartsGone), number(r.PartsShared), number(r.PartsMissing), size)
	}
	if len(r.Rows) > 0 {
		w.linef("  Rows:    %s", rowsText(r.Rows))
	}
	for _, l := range []struct {
		label string
		n     int64
		by    map[connector.Reason]int64
		warn  bool
	}{
		{"Kept:   ", sum(r.Kept), r.Kept, false}, {"Drift:  ", sum(r.Drift), r.Drift, false}, {"Missing:", r.Missing, nil, false},
		{"Undated:", r.Undated, nil, false}, {"Unknown:", r.Unknown, nil, true}, {"Errors: ", r.Errors, nil, true},
	} {
		if l.n == 0 {
			continue
		}
		text := number(l.n)
		if len(l.by) > 0 {
			text += " (" + reasons(l.by) + ")"
		}
		if l.warn {
			text = w.red(text)
		}
		w.linef("  %s %s", l.label, text)
	}
	if r.Undated > 0 {
		w.linef("  hint: %s", hintUndated)
	}
	for _, f := range r.Failures {
		w.linef("  Failed:  %s %s: %s", spaced(r.Kind), f.Item, why(f))
	}
	if more := r.Errors - int64(len(r.Failures)); len(r.Failures) == purge.MaxFailures && more > 0 {
		w.linef("  Failed:  %s more; --log names each", number(more))
	}
	failureHints(w, r, of.Run)
}

// failureHints says where to look: at the rights, and at the names that ids stand for.
func failureHints(w *printer, r *purge.RuleReport, run string) {
	if slices.ContainsFunc(r.Failures, func(f purge.Failure) bool { return f.Reason == connector.NoPermission }) {
		w.linef("  hint: epitaph check says which right is missing, where it can tell")
	}
	if slices.ContainsFunc(r.Failures, func(f purge.Failure) bool { return strings.HasPrefix(f.Item, "h:") }) {
		w.linef("  hint: by name: epitaph trail --items --run %s", run)
	}
}

// why says what stood against an item, without a word of the store's own.
func why(f purge.Failure) string {
	if f.ErrorType == "" {
		return string(f.Reason)
	}
	return fmt.Sprintf("%s (error type %s)", f.Reason, f.ErrorType)
}

func rowsText(rows []connector.Count) string {
	parts := make([]string, len(rows))
	for i, c := range rows {
		parts[i] = fmt.Sprintf("%s %s", c.Table, number(c.N))
	}
	return strings.Join(parts, ", ")
}

// reportJSON is the result of a purge; its names are stable. The first ones
// are those of the recorder's statistics.
type reportJSON struct {
	PurgedCount    int64            `json:"purged_count"`
	FilesDeleted   int64            `json:"files_deleted"`
	ExportsDeleted int64            `json:"exports_deleted"`
	Errors         int64            `json:"errors"`
	DryRun         bool             `json:"dry_run"`
	ObjectsDeleted int64            `json:"objects_deleted"`
	Deleted        map[string]int64 `json:"deleted"` // by kind: all of the above, and the others
	Set            int64            `json:"set_count,omitempty"`
	Kept           int64            `json:"kept"`
	Unknown        int64            `json:"unknown"`
	Resumed        int64            `json:"resumed"`
	Incidents      int64            `json:"incidents"`
	Open           int64            `json:"open_intents"`
	Interrupted    bool             `json:"interrupted"`
	Error          string           `json:"error,omitempty"`
	Run            string           `json:"run"`
	AsOf           *time.Time       `json:"as_of"`
	Started        *time.Time       `json:"started"`
	Finished       *time.Time       `json:"finished"`
	PolicyHash     string           `json:"policy_hash"`
	PlanDigest     string           `json:"plan_digest"`
	Checkpoint     *checkpointJSON  `json:"checkpoint"`
	Rules          []ruleReportJSON `json:"rules"`
	Stops          []stopJSON       `json:"stops,omitempty"`
}

type ruleReportJSON struct {
	Rule          string                     `json:"rule"`
	Kind          string                     `json:"kind"`
	Store         string                     `json:"store"`
	Enabled       bool                       `json:"enabled"`
	Retain        string                     `json:"retain"`
	Cutoff        *time.Time                 `json:"cutoff"`
	Total         int64                      `json:"total"`
	Due           int64                      `json:"due"`
	Undated       int64                      `json:"undated"`
	Gone          int64                      `json:"gone"`
	Sets          []string                   `json:"sets,omitempty"`
	Set           int64                      `json:"set,omitempty"`
	Missing       int64                      `json:"missing"`
	Kept          map[connector.Reason]int64 `json:"kept"`
	Drift         map[connector.Reason]int64 `json:"drift"`
	Unknown       int64                      `json:"unknown"`
	Errors        int64                      `json:"errors"`
	PartsGone     int64                      `json:"parts_gone"`
	PartsShared   int64                      `json:"parts_shared"`
	PartsMissing  int64                      `json:"parts_missing"`
	Bytes         int64                      `json:"bytes"`
	Rows          map[string]int64           `json:"rows"`
	Resumed       int64                      `json:"resumed"`
	OldestDue     *time.Time                 `json:"oldest_due"`
	Done          bool                       `json:"done"`
	UnreadableFor connector.Reason           `json:"unreadable,omitempty"`
	ErrorType     string                     `json:"error_type,omitempty"`
	ObjectsGone   int64                      `json:"objects_gone"`
	Failures      []failureJSON              `json:"failures,omitempty"`
}

type failureJSON struct {
	Item      string           `json:"item"`
	Reason    connector.Reason `json:"reason"`
	ErrorType string           `json:"error_type,omitempty"`
}

type stopJSON struct {
	Code  string `json:"code"`
	Rule  string `json:"rule,omitempty"`
	Store string `json:"store,omitempty"`
	Have  int64  `json:"have"`
	Limit int64  `json:"limit"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

func reportOf(pol *policy.Policy, r *purge.Report, stop error) reportJSON {
	lines := kindLines(pol, r)
	out := reportJSON{
		PurgedCount: lines[0].n, FilesDeleted: lines[1].n, ExportsDeleted: lines[2].n, ObjectsDeleted: objectsOf(lines),
		Errors: r.Errors(), DryRun: r.DryRun, Kept: keptOf(r), Unknown: r.Unknown(), Resumed: r.Resumed, Incidents: r.Incidents,
		Open: r.Open, Interrupted: r.Interrupted, Run: r.Run,
		AsOf: instantJSON(r.AsOf), Started: instantJSON(r.Started), Finished: instantJSON(r.Finished),
		PolicyHash: hex.EncodeToString(r.PolicyHash[:]), PlanDigest: hex.EncodeToString(r.PlanDigest[:]),
		Rules: []ruleReportJSON{},
	}
	out.Deleted = map[string]int64{}
	for _, l := range lines {
		if l.kind != "" {
			out.Deleted[l.kind] = l.n
		}
	}
	if stop != nil {
		out.Error = explain(stop).text
	}
	for i := range r.Rules {
		out.Rules = append(out.Rules, ruleReportOf(&r.Rules[i], columnsSet(pol, r.Rules[i].Rule)))
		out.Set += r.Rules[i].Set
	}
	for _, s := range r.Stops {
		out.Stops = append(out.Stops, stopJSON{string(s.Code), s.Rule, s.Store, s.Have, s.Limit, s.Error(), s.Hint})
	}
	return out
}

func ruleReportOf(r *purge.RuleReport, sets []string) ruleReportJSON {
	rows := map[string]int64{}
	for _, c := range r.Rows {
		rows[c.Table] = c.N
	}
	var failures []failureJSON
	for _, f := range r.Failures {
		failures = append(failures, failureJSON(f))
	}
	return ruleReportJSON{
		Rule: r.Rule, Kind: r.Kind, Store: r.Store, Enabled: r.Enabled, Retain: r.Retain.String(), Cutoff: instantJSON(r.Cutoff),
		Total: r.Total, Due: r.Due, Undated: r.Undated, Gone: r.Gone, Sets: sets, Set: r.Set, Missing: r.Missing, Kept: orEmpty(r.Kept), Drift: orEmpty(r.Drift),
		Unknown: r.Unknown, Errors: r.Errors, PartsGone: r.PartsGone, PartsShared: r.PartsShared, PartsMissing: r.PartsMissing,
		Bytes: r.Bytes, Rows: rows, Resumed: r.Resumed, OldestDue: instantJSON(r.OldestDue), Done: r.Done,
		UnreadableFor: r.Unreadable, ErrorType: r.ErrorType, ObjectsGone: r.ObjectsGone, Failures: failures,
	}
}

func orEmpty(m map[connector.Reason]int64) map[connector.Reason]int64 {
	if m == nil {
		return map[connector.Reason]int64{}
	}
	return m
}
