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
	ledger, run, rule, store, item, since, until string
	actor, host, scope, file, object             string
	actions                                      []string
	limit                                        int
	items, follow, csv, jsonl, stats             bool
}

func (a *app) trailCommand() *cobra.Command {
	var f trailFlags
	cmd := &cobra.Command{
		Use:   "trail",
		Short: "Show what was done, from the ledger",
		Long: `Reads the ledger: runs, rules evaluated, intents, outcomes, incidents, in the order
in which they were written. With --items, --item or --file it names paths and keys,
which are personal data; what was destroyed shows as ‹sealed off›. Instants are
in UTC. --json is one object with all entries; with --jsonl, or with --follow and
--json, each entry is an object on a line of its own. A server that goes away is
waited for while a trail is followed, and no entry is skipped or shown twice.

Actions: ` + actionList() + `.`,
		Example: "  epitaph trail --since 7d\n  epitaph trail --item 4711            # what became of record 4711?\n  epitaph trail --file '*.wav' --actor anna --csv\n  epitaph trail --follow --jsonl",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			if err := filled(cmd.Flags(), "run", "rule", "action", "item", "store", "actor", "host", "scope", "file", "object", "since", "until"); err != nil {
				return err
			}
			if a.ofFiles(&f) {
				return a.runHistory(ctx, f)
			}
			return a.runTrail(ctx, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.ledger, "ledger", "", "read this ledger, such as sqlite:epitaph.db, instead of the policy's (also $EPITAPH_LEDGER, where there is no policy)")
	fl.StringVar(&f.run, "run", "", "only this `RUN`")
	fl.StringVar(&f.rule, "rule", "", "only this `RULE`")
	fl.StringSliceVar(&f.actions, "action", nil, "only these `ACTIONS`: those above, or those of epitaph track --list")
	fl.StringVar(&f.item, "item", "", "only what concerns this `ITEM`: an id, or a path or key in full")
	fl.StringVar(&f.store, "store", "", "only this `STORE`")
	fl.StringVar(&f.actor, "actor", "", "only what this `PERSON` or application did")
	fl.StringVar(&f.host, "host", "", "only what was done on this `HOST`")
	fl.StringVar(&f.scope, "scope", "", "only files that an application tracked under this `SCOPE`")
	fl.StringVar(&f.file, "file", "", "only items of which a path or key matches this `GLOB`; * matches a slash too")
	fl.StringVar(&f.object, "object", "", "only what was done with tracked files of this `KIND:ID`, and what became of them")
	fl.StringVar(&f.since, "since", "", "not before `WHEN`: 2027-01-31, an instant, or a span such as 7d")
	fl.StringVar(&f.until, "until", "", "before `WHEN`")
	fl.IntVar(&f.limit, "limit", 0, "only the newest `N` entries")
	fl.BoolVar(&f.items, "items", false, "name every item and part, by path and key")
	fl.BoolVarP(&f.follow, "follow", "f", false, "go on with what is written from now on, until interrupted; begins with the last 10")
	fl.BoolVar(&f.csv, "csv", false, "a table, as comma-separated values")
	fl.BoolVar(&f.jsonl, "jsonl", false, "one JSON object for each entry, each on a line of its own")
	fl.BoolVar(&f.stats, "stats", false, "sums instead of entries")
	return cmd
}

var actions = []ledger.Kind{ledger.RunStarted, ledger.RunFinished, ledger.Heartbeat, ledger.Intent, ledger.Outcome, ledger.Incident,
	ledger.CustodyOperations, ledger.CustodyLooks, ledger.CustodyWord,
	ledger.SealedOff, ledger.Pruned, ledger.Forked, ledger.Copied, ledger.KeyRotated}

// actionList names the actions, in lines of six.
func actionList() string {
	var b strings.Builder
	for i, k := range actions {
		switch {
		case i == 0:
		case i%6 == 0:
			b.WriteString(",\n")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(k))
	}
	return b.String()
}

func (a *app) runTrail(ctx context.Context, f trailFlags) error {
	filter, err := f.filter(a.env.Now())
	if err != nil {
		return err
	}
	if err := f.agree(a.global.json); err != nil {
		return err
	}
	f.ledger = a.ledgerAlone(f.ledger)
	l, err := a.trailLedger(ctx, f.ledger)
	if err != nil {
		return err
	}
	defer l.Close()
	if f.ledger == "" {
		if filter.Item, err = a.itemName(ctx, l, f.item); err != nil {
			return err
		}
	}
	o := report.Options{Filter: filter, Items: f.items, Actor: f.actor, Host: f.host, Scope: f.scope, File: f.file}
	switch {
	case f.stats:
		return a.trailStats(ctx, l, o)
	case f.follow:
		return a.follow(ctx, l, o, f.jsonl || a.global.json)
	}
	lines := report.Trail(ctx, l, o)
	if f.limit > 0 {
		lines = reversed(lines)
	}
	if a.global.json {
		_, err := report.JSON(a.env.Stdout, lines)
		return err
	}
	write := a.trailText
	switch {
	case f.jsonl:
		write = func(lines iter.Seq2[report.Line, error]) (int, error) { return report.JSONLines(a.env.Stdout, lines) }
	case f.csv:
		write = func(lines iter.Seq2[report.Line, error]) (int, error) { return report.CSV(a.env.Stdout, lines) }
	}
	n, err := write(lines)
	if err == nil && n == 0 && !a.global.quiet {
		a.complain("no entry matches", itemHints(f.item)...)
	}
	return err
}

func (a *app) trailText(lines iter.Seq2[report.Line, error]) (int, error) {
	return report.Text(a.env.Stdout, lines, a.style())
}

func (a *app) style() report.Style {
	p := a.stdout()
	return report.Style{Good: p.green, Bad: p.red, Warn: p.yellow, Dim: p.dim, Width: terminalWidth(a.env.Stdout)}
}

// agree refuses flags that contradict each other.
func (f *trailFlags) agree(json bool) error {
	for _, c := range []struct {
		both        bool
		what, reply string
	}{
		{f.csv && json, "--csv and --json", "choose one form"},
		{f.jsonl && json, "--jsonl and --json", "choose one form"},
		{f.jsonl && f.csv, "--jsonl and --csv", "choose one form"},
		{f.stats && f.jsonl, "--stats and --jsonl", "the sums come as text or --json"},
		{f.stats && f.csv, "--stats and --csv", "the sums come as text or --json"},
		{f.follow && f.stats, "--follow and --stats", "choose one"},
		{f.follow && f.csv, "--follow and --csv", "follow with --jsonl instead"},
		{f.follow && f.until != "", "--follow and --until", "what is written from now on is after any such instant"},
		{f.stats && f.limit > 0, "--stats and --limit", "bound them with --since and --until"},
	} {
		if c.both {
			return usage(c.what+" cannot go together", c.reply)
		}
	}
	if err := report.CheckFile(f.file); err != nil {
		return usage(fmt.Sprintf("--file: %q is not a glob", f.file), `such as --file '*.wav'; a [ must be closed`)
	}
	return nil
}

func (a *app) trailStats(ctx context.Context, l *ledger.Ledger, o report.Options) error {
	o.Items = false
	s, err := report.Summarize(report.Trail(ctx, l, o))
	switch {
	case err != nil:
		return err
	case a.global.json:
		return a.printJSON(s)
	default:
		return s.Text(a.env.Stdout, a.style())
	}
}

func (a *app) trailLedger(ctx context.Context, dsn string) (*ledger.Ledger, error) {
	if dsn != "" {
		if !strings.Contains(dsn, ":") {
			dsn = "sqlite:" + dsn
		}
		return a.openLedgerAt(ctx, dsn, false)
	}
	pol, err := a.policyOrLedger()
	if err != nil {
		return nil, err
	}
	return a.openLedger(ctx, pol, false)
}

func (f *trailFlags) filter(now time.Time) (ledger.Filter, error) {
	out := ledger.Filter{Run: f.run, Rule: f.rule, Store: f.store, Item: f.item, Limit: f.limit, Newest: f.limit > 0}
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
			return out, usage(fmt.Sprintf("--action: there is no action %q", name), nearestHint(name, names, "", "the actions are: "+strings.ReplaceAll(actionList(), "\n", " ")))
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

// hintItem says how items are named: what has no id is known by its place only.
const hintItem = "an item is its id (a number or a UUID), its key or TABLE/KEY, or a path as epitaph trail --items shows it, alone or as STORE:PATH"

func itemHints(item string) []string {
	if item == "" {
		return nil
	}
	return []string{hintItem}
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
