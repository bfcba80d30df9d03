package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/report"
)

type planFlags struct {
	show   bool
	asOf   string
	out    string
	retain policy.Period
}

func (a *app) planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan [RULE…]",
		Short: "Show what is due, without any effect",
		Long: `Looks at the stores and shows, for each rule, what is due, what is kept back and
why, what is undated, and the size. The plan can be kept as a file that
epitaph purge --plan carries out: that and nothing else.

A plan file and --show name what is personal data: paths and keys. The file is
readable by its owner only. Status: 1 when a store, or a part of an item, could not be looked at.`,
		Example: "  epitaph plan --show exports\n  epitaph plan --as-of 2027-01-01          # look ahead\n  epitaph plan --out tonight.plan && epitaph purge --plan tonight.plan",
		RunE: func(cmd *cobra.Command, rules []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			if err := filled(cmd.Flags(), "as-of", "out"); err != nil {
				return err
			}
			return a.runPlan(ctx, f, rules)
		},
	}
	cmd.Flags().BoolVar(&f.show, "show", false, "list every item and its parts, by path and key")
	cmd.Flags().StringVar(&f.asOf, "as-of", "", "count back from `INSTANT` instead of now: 2027-01-31 or 2027-01-31T12:00:00Z")
	cmd.Flags().StringVar(&f.out, "out", "", "keep the plan as `FILE`, mode 0600")
	retainFlag(cmd, &f.retain)
	cmd.ValidArgsFunction = a.ruleNames
	return cmd
}

func (a *app) runPlan(ctx context.Context, f planFlags, rules []string) error {
	o := epitaph.PlanOptions{Rules: rules, Path: f.out}
	if !f.retain.IsZero() {
		o.Retain = &f.retain
	}
	var err error
	if o.AsOf, err = parseInstant("--as-of", f.asOf); err != nil {
		return err
	}
	if err := mayWrite(f.out); err != nil {
		return err
	}
	pol, err := a.loadPolicy()
	if err != nil {
		return err
	}
	if err := pick(pol, rules); err != nil {
		return err
	}
	if o.Path == "" {
		dir, err := os.MkdirTemp("", "epitaph-")
		if err != nil {
			return usage("cannot make a private directory for the plan: "+cause(err), "set $TMPDIR to a directory that this user may write")
		}
		defer os.RemoveAll(dir)
		o.Path = filepath.Join(dir, "plan")
	}
	st, err := openStores(ctx, pol, true)
	if err != nil {
		return err
	}
	defer st.Close()
	e, err := epitaph.New(epitaph.Config{Policy: pol, Stores: st.byName, Clock: a.env.Now})
	if err != nil {
		return err
	}
	bar := a.newProgress()
	o.Progress = bar.planning
	p, err := e.Plan(ctx, o)
	bar.end()
	if err != nil {
		return planProblem(err, f.out)
	}
	defer p.Close()
	if err := a.showPlan(pol, p, f); err != nil {
		return err
	}
	if err := a.showFaults(ctx, e, pol, p); err != nil {
		return err
	}
	return planStatus(p)
}

// showFaults names what stands against the rules that could not be read, or that
// find nothing but items without a date: a missing column, an anchor without a
// zone, a foreign key that no part covers.
func (a *app) showFaults(ctx context.Context, e *epitaph.Engine, pol *policy.Policy, p *plan.Plan) error {
	unread := make(map[string]bool)
	for i := range p.Rules {
		if r := &p.Rules[i]; r.Unreadable != "" || r.Undated > 0 && r.Due == 0 {
			unread[r.Rule] = true
		}
	}
	if len(unread) == 0 || a.global.json {
		return nil
	}
	w := a.stdout()
	for _, f := range e.Check(ctx) {
		if unread[f.Rule] && f.Severity == connector.Fault {
			printFinding(w, pol, asJSON(pol, "fault", f))
		}
	}
	return w.err
}

// planStatus is 2 when a rule does not fit its store, and 1 when a store, or a
// part of an item, could not be looked at.
func planStatus(p *plan.Plan) error {
	for i := range p.Rules {
		if p.Rules[i].Unreadable == connector.Invalid {
			return ended(StatusUsage)
		}
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		if _, unknown := keptAndUnknown(r); r.Unreadable != "" || len(r.Unseen) > 0 || len(unknown) > 0 {
			return ended(StatusPartly)
		}
	}
	return nil
}

func planProblem(err error, out string) error {
	var path *fs.PathError
	if errors.As(err, &path) && out != "" {
		return usage(fmt.Sprintf("cannot write the plan file %s: %s", out, cause(err)), "choose another place: --out FILE")
	}
	return err
}

// parseInstant reads a date, or a date and time with a zone. A date means its
// first instant in UTC.
func parseInstant(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && !t.IsZero() {
			return t.UTC(), nil
		}
	}
	return time.Time{}, usage(fmt.Sprintf("%s: %q is not an instant", flag, s), "write it as 2027-01-31 (in UTC) or 2027-01-31T12:00:00+01:00")
}

// mayWrite refuses to write a plan over anything but an earlier plan: a slip
// must not cost the policy.
func mayWrite(out string) error {
	if out == "" {
		return nil
	}
	if _, err := os.Lstat(out); err != nil {
		return nil // absent; any other trouble shows when it is written
	}
	old, err := plan.Open(out)
	if err != nil {
		return usage(fmt.Sprintf("%s exists and is not a plan", out), "choose another name: --out FILE")
	}
	return old.Close()
}

func (a *app) showPlan(pol *policy.Policy, p *plan.Plan, f planFlags) error {
	if a.global.json {
		return a.planJSON(pol, p, f)
	}
	w := a.stdout()
	for i := range p.Rules {
		printRule(w, &p.Rules[i], p.AsOf, columnsSet(pol, p.Rules[i].Rule))
		if f.show {
			printItems(w, p, p.Rules[i].Rule, len(columnsSet(pol, p.Rules[i].Rule)) > 0)
		}
	}
	w.linef("As of: %s", instant(p.AsOf))
	w.linef("Digest: %s", hex.EncodeToString(p.Digest[:]))
	if f.out != "" {
		w.linef("Plan file: %s", f.out)
	}
	return w.err
}

// retainFlag has no default to show: without it the policy's period counts.
func retainFlag(cmd *cobra.Command, p *policy.Period) {
	cmd.Flags().Var(p, "retain", "use this retention `PERIOD` instead of the policy's, such as 7d")
	cmd.Flags().Lookup("retain").DefValue = ""
}

// unreadable says in words why nothing is known of a rule's items.
func unreadable(why connector.Reason) string {
	if why == connector.Invalid {
		return "The rule does not fit its store"
	}
	return "Store could not be looked at"
}

// hintUnreadable follows a rule whose store answered with an error.
const hintUnreadable = "epitaph check names what stands against it"

// hintUndated follows items without an anchor.
const hintUndated = "they have no date that can be read, and stay; where the policy is the cause, epitaph check says so"

// columnsSet names the columns that a rule sets which keeps its rows; none of one
// that erases them.
func columnsSet(pol *policy.Policy, rule string) []string {
	var cols []string
	if r, ok := pol.Rule(rule); ok {
		for _, s := range r.Then {
			cols = append(cols, s.Column)
		}
	}
	return cols
}

func printRule(w *printer, r *plan.RuleSummary, asOf time.Time, set []string) {
	if !r.Enabled {
		w.linef("Rule %s: switched off; not looked at", w.bold(r.Rule))
		w.linef("")
		return
	}
	w.linef("Rule %s: %s in %s, kept %s, cutoff %s", w.bold(r.Rule), several(r.Kind), r.Store, r.Retain, instant(r.Cutoff))
	if r.Unreadable != "" {
		w.linef("  %s (%s, error type %s); nothing is known of its items, and nothing is planned", w.red(unreadable(r.Unreadable)), r.Unreadable, r.ErrorType)
		w.linef("  hint: %s", hintUnreadable)
	} else {
		w.linef("  Due:        %s of %s", number(r.Due), count(r.Total, r.Kind))
		missing := ""
		if r.PartsMissing > 0 {
			missing = ", " + number(r.PartsMissing) + " of them missing"
		}
		if len(set) > 0 {
			w.linef("  To set:     %s (%s); the rows stay", count(r.Items, r.Kind), strings.Join(set, ", "))
			w.linef("  To go:      %s of theirs%s, %s", count(r.Parts, "part"), missing, bytesText(r.Bytes))
		} else {
			w.linef("  To go:      %s, %s", count(r.Items, r.Kind), bytesText(r.Bytes))
		}
		if r.Parts > 0 && len(set) == 0 {
			w.linef("  With them:  %s%s", count(r.Parts, "part"), missing)
		}
		kept, unknown := keptAndUnknown(r)
		if n := sum(kept); n > 0 {
			w.linef("  Kept:       %s (%s)", number(n), reasons(kept))
		}
		if n := sum(unknown); n > 0 {
			w.linef("  Unknown:    %s (%s)", w.red(number(n)), reasons(unknown))
		}
		if r.Undated > 0 {
			w.linef("  Undated:    %s", number(r.Undated))
			w.linef("  hint: %s", hintUndated)
		}
		if !r.OldestDue.IsZero() {
			w.linef("  Oldest due: %s (%s old)", instant(r.OldestDue), count(days(r.OldestDue, asOf), "day"))
		}
	}
	for _, s := range r.Unseen {
		w.linef("  %s in store %s; the items it belongs to stay", w.red("Not one part could be looked at"), s)
	}
	w.linef("")
}

// keptAndUnknown parts the items that are not in a plan, as a purge does: those
// that stay for a reason, and those of which nothing could be seen.
func keptAndUnknown(r *plan.RuleSummary) (kept, unknown map[connector.Reason]int64) {
	kept, unknown = map[connector.Reason]int64{}, map[connector.Reason]int64{}
	for reason, n := range r.Kept {
		if plan.NotSeen(reason) {
			unknown[reason] = n
		} else {
			kept[reason] = n
		}
	}
	return kept, unknown
}

// printItems lists the items of a rule by path and key, for a person who may
// see them.
func printItems(w *printer, p *plan.Plan, rule string, stays bool) {
	n := 0
	for batch, err := range p.Batches(rule, 1000) {
		if err != nil {
			w.err = err
			return
		}
		for i := range batch {
			it := &batch[i]
			note := sizeOf(it.Bytes)
			if stays {
				note = "  stays, and is set"
			}
			w.linef("  %s  %s%s", instant(it.Anchor), report.Printable(string(it.Locator)), note)
			for _, part := range it.Parts {
				note := sizeOf(part.Bytes)
				if part.State == connector.Gone {
					note = "  " + w.yellow("missing")
				}
				w.linef("      %s:%s%s", part.Store, report.Printable(string(part.Locator)), note)
			}
			n++
		}
	}
	if n > 0 {
		w.linef("")
	}
}

func sizeOf(n int64) string {
	if n == 0 {
		return ""
	}
	return "  " + bytesText(n)
}

// planRuleJSON is one rule of a plan; its names are stable.
type planRuleJSON struct {
	Rule         string                     `json:"rule"`
	Kind         string                     `json:"kind"`
	Store        string                     `json:"store"`
	Enabled      bool                       `json:"enabled"`
	Retain       string                     `json:"retain"`
	Cutoff       *time.Time                 `json:"cutoff"`
	Total        int64                      `json:"total"`
	Due          int64                      `json:"due"`
	Items        int64                      `json:"items"`
	Bytes        int64                      `json:"bytes"`
	Undated      int64                      `json:"undated"`
	Kept         map[connector.Reason]int64 `json:"kept"`
	Unknown      int64                      `json:"unknown"`
	Why          map[connector.Reason]int64 `json:"unknown_reasons,omitempty"`
	Parts        int64                      `json:"parts"`
	PartsMissing int64                      `json:"parts_missing"`
	OldestDue    *time.Time                 `json:"oldest_due"`
	Unreadable   connector.Reason           `json:"unreadable,omitempty"`
	ErrorType    string                     `json:"error_type,omitempty"`
	Unseen       []string                   `json:"unseen_stores,omitempty"`
	Sets         []string                   `json:"sets,omitempty"`
}

// instantJSON leaves out what is not known.
func instantJSON(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// planJSON writes one object; the items, which may be many, are streamed.
func (a *app) planJSON(pol *policy.Policy, p *plan.Plan, f planFlags) error {
	rules := []planRuleJSON{}
	for i := range p.Rules {
		r := &p.Rules[i]
		kept, unknown := keptAndUnknown(r)
		rules = append(rules, planRuleJSON{r.Rule, r.Kind, r.Store, r.Enabled, r.Retain.String(), instantJSON(r.Cutoff), r.Total, r.Due,
			r.Items, r.Bytes, r.Undated, kept, sum(unknown), unknown, r.Parts, r.PartsMissing, instantJSON(r.OldestDue), r.Unreadable, r.ErrorType, r.Unseen, columnsSet(pol, r.Rule)})
	}
	head, err := json.Marshal(struct {
		AsOf       time.Time      `json:"as_of"`
		Digest     string         `json:"digest"`
		PolicyHash string         `json:"policy_hash"`
		File       string         `json:"file,omitempty"`
		Rules      []planRuleJSON `json:"rules"`
	}{p.AsOf.UTC(), hex.EncodeToString(p.Digest[:]), hex.EncodeToString(p.PolicyHash[:]), f.out, rules})
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	if !f.show {
		_, err = fmt.Fprintf(a.env.Stdout, "%s\n", head)
		return err
	}
	if _, err := fmt.Fprintf(a.env.Stdout, "%s,\"items\":[", strings.TrimSuffix(string(head), "}")); err != nil {
		return err
	}
	if err := a.itemsJSON(p); err != nil {
		return err
	}
	_, err = io.WriteString(a.env.Stdout, "\n]}\n")
	return err
}

type planPartJSON struct {
	Store   string `json:"store"`
	Locator string `json:"locator"`
	Bytes   int64  `json:"bytes"`
	Missing bool   `json:"missing"`
}

type planItemJSON struct {
	Rule    string         `json:"rule"`
	ID      string         `json:"id,omitempty"`
	Locator string         `json:"locator"`
	Anchor  *time.Time     `json:"anchor"`
	Bytes   int64          `json:"bytes"`
	Parts   []planPartJSON `json:"parts"`
}

func (a *app) itemsJSON(p *plan.Plan) error {
	comma := "\n"
	for i := range p.Rules {
		for batch, err := range p.Batches(p.Rules[i].Rule, 1000) {
			if err != nil {
				return err
			}
			for j := range batch {
				it := &batch[j]
				out := planItemJSON{p.Rules[i].Rule, it.ID, string(it.Locator), instantJSON(it.Anchor), it.Bytes, []planPartJSON{}}
				for _, part := range it.Parts {
					out.Parts = append(out.Parts, planPartJSON{part.Store, string(part.Locator), part.Bytes, part.State == connector.Gone})
				}
				text, err := json.Marshal(out)
				if err != nil {
					return fmt.Errorf("encode item: %w", err)
				}
				if _, err := fmt.Fprintf(a.env.Stdout, "%s%s", comma, text); err != nil {
					return err
				}
				comma = ",\n"
			}
		}
	}
	return nil
}
