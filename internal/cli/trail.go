package cli

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/report"
)

type trailFlags struct {
	ledger, run, rule, item, since, until string
	actions                               []string
	limit                                 int
	items                                 bool
}

func (a *app) trailCommand() *cobra.Command {
	var f trailFlags
	cmd := &cobra.Command{
		Use:   "trail",
		Short: "Show what was done, from the ledger",
		Long: `Reads the ledger: runs, rules evaluated, intents, outcomes, incidents, in the order
in which they were written. With --items or --item it names paths and keys, which
are personal data. Instants are in UTC.`,
		Example: "  epitaph trail --since 7d\n  epitaph trail --item 4711            # what became of record 4711?\n  epitaph trail --action incident --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			return a.runTrail(ctx, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.ledger, "ledger", "", "read this ledger, such as sqlite:epitaph.db, instead of the policy's")
	fl.StringVar(&f.run, "run", "", "only this `RUN`")
	fl.StringVar(&f.rule, "rule", "", "only this `RULE`")
	fl.StringSliceVar(&f.actions, "action", nil, "only these `ACTIONS`: "+actionList())
	fl.StringVar(&f.item, "item", "", "only what concerns this `ITEM`: an id, or a path or key in full")
	fl.StringVar(&f.since, "since", "", "not before `WHEN`: 2027-01-31, an instant, or a span such as 7d")
	fl.StringVar(&f.until, "until", "", "before `WHEN`")
	fl.IntVar(&f.limit, "limit", 0, "only the newest `N` entries")
	fl.BoolVar(&f.items, "items", false, "name every item and part, by path and key")
	return cmd
}

var actions = []ledger.Kind{ledger.RunStarted, ledger.RunFinished, ledger.Heartbeat, ledger.Intent, ledger.Outcome, ledger.Incident}

func actionList() string {
	names := make([]string, len(actions))
	for i, k := range actions {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

func (a *app) runTrail(ctx context.Context, f trailFlags) error {
	filter, err := f.filter(a.env.Now())
	if err != nil {
		return err
	}
	l, err := a.trailLedger(ctx, f.ledger)
	if err != nil {
		return err
	}
	defer l.Close()
	lines := report.Trail(ctx, l, report.Options{Filter: filter, Items: f.items})
	if f.limit > 0 {
		lines = reversed(lines)
	}
	if a.global.json {
		_, err := report.JSON(a.env.Stdout, lines)
		return err
	}
	p := a.stdout()
	n, err := report.Text(a.env.Stdout, lines, report.Style{Good: p.green, Bad: p.red, Warn: p.yellow, Dim: p.dim})
	if err == nil && n == 0 && !a.global.quiet {
		fmt.Fprintln(a.env.Stderr, "epitaph: no entry matches")
	}
	return err
}

func (a *app) trailLedger(ctx context.Context, dsn string) (*ledger.Ledger, error) {
	if dsn != "" {
		if !strings.Contains(dsn, ":") {
			dsn = "sqlite:" + dsn
		}
		return a.openLedgerAt(ctx, dsn, false)
	}
	pol, err := a.loadPolicy()
	if err != nil {
		return nil, err
	}
	return a.openLedger(ctx, pol, false)
}

func (f *trailFlags) filter(now time.Time) (ledger.Filter, error) {
	out := ledger.Filter{Run: f.run, Rule: f.rule, Item: f.item, Limit: f.limit, Newest: f.limit > 0}
	if f.limit < 0 {
		return out, usage("--limit must not be negative", "leave it out to see everything")
	}
	for _, name := range f.actions {
		k := ledger.Kind(name)
		if !slices.Contains(actions, k) {
			var names []string
			for _, known := range actions {
				names = append(names, string(known))
			}
			return out, usage(fmt.Sprintf("--action: there is no action %q", name), nearestHint(name, names, "", "the actions are: "+actionList()))
		}
		out.Kinds = append(out.Kinds, k)
	}
	var err error
	if out.Since, err = parseWhen("--since", f.since, now); err != nil {
		return out, err
	}
	out.Until, err = parseWhen("--until", f.until, now)
	return out, err
}

// parseWhen reads an instant, or a span that is counted back from now.
func parseWhen(flag, s string, now time.Time) (time.Time, error) {
	if p, err := policy.ParsePeriod(s); err == nil {
		return p.Before(now), nil
	}
	t, err := parseInstant(flag, s)
	if err != nil {
		return t, usage(fmt.Sprintf("%s: %q is neither an instant nor a span", flag, s), "write it as 2027-01-31, 2027-01-31T12:00:00Z, or 7d")
	}
	return t, nil
}

// reversed turns a trail that was read from its end. Its length is what a person
// asked for with --limit.
func reversed(lines iter.Seq2[report.Line, error]) iter.Seq2[report.Line, error] {
	return func(yield func(report.Line, error) bool) {
		var all []report.Line
		for l, err := range lines {
			if err != nil {
				yield(l, err)
				return
			}
			all = append(all, l)
		}
		for _, l := range slices.Backward(all) {
			if !yield(l, nil) {
				return
			}
		}
	}
}
