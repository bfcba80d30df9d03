package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"
)

type purgeFlags struct {
	plan    string
	retain  policy.Period
	dryRun  bool
	yes     bool
	allow   string
	workers int
	batch   int
}

func (a *app) purgeCommand() *cobra.Command {
	var f purgeFlags
	cmd := &cobra.Command{
		Use:   "purge [RULE…]",
		Short: "Dispose of what is due, and keep the record of it",
		Long: `Makes a plan, or takes one made before, and carries it out: parts first and looked
for again, the row that names them last, every batch in the ledger before and
after. What cannot be seen is unknown and stays. Running again finishes what was
cut short. Who starts it from a terminal is asked first; cron is not, nor is a pipe.

Status: 0 all done · 1 some failed or are unknown · 3 an interlock stopped it ·
130 interrupted: the first Ctrl-C ends after the running batch, the second at once.`,
		Example: "  epitaph purge --dry-run\n  epitaph purge exports --retain 30d\n  epitaph plan --out tonight.plan && epitaph purge --plan tonight.plan --yes",
		RunE: func(cmd *cobra.Command, rules []string) error {
			return a.runPurge(cmd.Context(), f, rules, cmd.Flags())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.plan, "plan", "", "carry out the plan in `FILE`, and nothing outside of it")
	retainFlag(cmd, &f.retain)
	fl.BoolVar(&f.dryRun, "dry-run", false, "show what would be done and touch nothing; =false overrides the policy's dry_run")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	fl.StringVar(&f.allow, "allow", "", "lift `INTERLOCKS` knowingly: items,share,missing,clock; it goes on record")
	fl.IntVar(&f.workers, "workers", 0, "batches in flight, 1 to 16 (default 3)")
	fl.IntVar(&f.batch, "batch", 0, "items of one batch, 1 to 10000 (default 1000)")
	cmd.ValidArgsFunction = a.ruleNames
	return cmd
}

// options checks the flags of a purge, before anything is opened.
func (f *purgeFlags) options(rules []string, fl *pflag.FlagSet) (epitaph.PurgeOptions, error) {
	o := epitaph.PurgeOptions{Rules: rules, Workers: f.workers, Batch: f.batch}
	if fl.Changed("workers") && (f.workers < 1 || f.workers > 16) {
		return o, usage(fmt.Sprintf("--workers %d: want 1 to 16", f.workers))
	}
	if fl.Changed("batch") && (f.batch < 1 || f.batch > 10000) {
		return o, usage(fmt.Sprintf("--batch %d: want 1 to 10000", f.batch))
	}
	var err error
	if o.Allow, err = purge.ParseAllow(f.allow); err != nil {
		return o, usage("--allow: "+err.Error(), "such as --allow items,share")
	}
	if fl.Changed("retain") {
		o.Retain = &f.retain
	}
	if err := filled(fl, "plan"); err != nil {
		return o, err
	}
	if f.plan != "" && (len(rules) > 0 || o.Retain != nil) {
		return o, usage("--plan says what to do; rules and --retain cannot be given with it", "name them when you make the plan: epitaph plan --retain 7d --out FILE RULE")
	}
	return o, nil
}

func (a *app) runPurge(ctx context.Context, f purgeFlags, rules []string, fl *pflag.FlagSet) (err error) {
	o, err := f.options(rules, fl)
	if err != nil {
		return err
	}
	pol, err := a.loadPolicy()
	if err != nil {
		return err
	}
	if err := pick(pol, rules); err != nil {
		return err
	}
	o.DryRun = pol.DryRun
	if fl.Changed("dry-run") {
		o.DryRun = f.dryRun
	}
	if !o.DryRun && !f.yes && isTerminal(a.env.Stdin) && !isTerminal(a.env.Stderr) {
		return usage("the question would not be seen: stderr is not the terminal; nothing was done", "add --yes, or leave stderr on the terminal")
	}
	if f.plan != "" {
		if o.Plan, err = openPlan(f.plan); err != nil {
			return err
		}
		defer o.Plan.Close()
	}
	log, err := a.openLog()
	if err != nil {
		return err
	}
	if log != nil {
		defer func() { err = log.end(err) }()
	}
	c, err := a.purgeBy(ctx, f, pol, log, o)
	a.complainRun(&c.report, err)
	return err
}

// complainRun says on stderr, in short, what the summary on stdout says at length:
// cron mails the one and keeps the other, or nothing of it. Where a person sees
// both, or events are on stderr, it is not said twice.
func (a *app) complainRun(r *purge.Report, err error) {
	var e ended
	if !errors.As(err, &e) || a.global.log == "-" || isTerminal(a.env.Stdout) && isTerminal(a.env.Stderr) {
		return
	}
	for i := range r.Rules {
		rule := &r.Rules[i]
		switch {
		case rule.Unreadable != "":
			what := unreadable(rule.Unreadable)
			a.complain(fmt.Sprintf("rule %s: %s (%s, error type %s); nothing was touched", rule.Rule, strings.ToLower(what[:1])+what[1:], rule.Unreadable, rule.ErrorType),
				hintUnreadable)
		case rule.Errors > 0:
			a.complain(fmt.Sprintf("rule %s: %s failed or unknown", rule.Rule, count(rule.Errors, rule.Kind)), "the summary says why; run again when the cause is gone")
		}
	}
	if r.Incidents > 0 {
		a.complain(count(r.Incidents, "incident"), "a person has to look: epitaph trail --action incident --run "+r.Run)
	}
	if r.Open > 0 {
		a.complain("batches without an outcome: "+number(r.Open), "run again to settle them")
	}
	for _, s := range r.Stops {
		a.complain("an interlock would stop it: "+s.Error(), hintsOf(s.Hint)...)
	}
}

// carried is what a run came to.
type carried struct {
	report     purge.Report
	checkpoint *signed // nil: none was signed
}

// purgeBy opens what the policy names, and purges by it.
func (a *app) purgeBy(ctx context.Context, f purgeFlags, pol *policy.Policy, log *eventLog, o epitaph.PurgeOptions) (carried, error) {
	st, err := openStores(ctx, pol, o.DryRun)
	if err != nil {
		return carried{}, err
	}
	defer st.Close()
	k, err := a.keepingOf(ctx, pol)
	if err != nil {
		return carried{}, err
	}
	led, err := a.openKept(ctx, k, write)
	if err != nil {
		return carried{}, err
	}
	defer led.Close()
	if err := a.remarkNoKey(ctx, k, led); err != nil {
		return carried{}, err
	}
	return a.carryOut(ctx, f, pol, k, led, st, log, o)
}

// remarkNoKey says once, in the first run of a ledger, that it has no key. Later
// the summary says so.
func (a *app) remarkNoKey(ctx context.Context, k *keeping, l *ledger.Ledger) error {
	n, _, err := l.Newest(ctx)
	if err != nil || n > 0 || k.keys != nil || a.global.quiet {
		return err
	}
	a.complain("the ledger is new and has no key: its checkpoints are not signed, and nothing can be proven from it",
		"make one: epitaph key new; if there should be a ledger already, see the line ledger: in the policy")
	return nil
}

// carryOut runs the engine and shows what came of it.
func (a *app) carryOut(ctx context.Context, f purgeFlags, pol *policy.Policy, k *keeping, led *ledger.Ledger, st *stores, log *eventLog, o epitaph.PurgeOptions) (carried, error) {
	bar := a.newProgress()
	if !o.DryRun {
		o.Turn = a.paced(pol, st, bar)
	}
	e, err := epitaph.New(epitaph.Config{
		Policy: pol, Stores: st.byName, Ledger: led, Clock: a.env.Now, Observe: observe(log, bar),
		Host: host(), Who: a.who(), Version: Version(), RequestID: a.global.requestID,
	})
	if err != nil {
		return carried{}, err
	}
	o.Stop = a.stop
	o.Progress = bar.planning
	o.Confirm = func(p *plan.Plan) (bool, error) {
		bar.finish()
		var items int64
		for i := range p.Rules {
			items += p.Rules[i].Items
		}
		if !o.DryRun && !f.yes && items > 0 && isTerminal(a.env.Stdin) && isTerminal(a.env.Stderr) {
			if ok, err := a.ask(pol, p); !ok || err != nil {
				return ok, err
			}
		}
		bar.begin(items)
		return true, nil
	}
	rep, err := e.Purge(ctx, o)
	bar.end()
	if rep.Run == "" {
		return carried{}, brokenOff("the run did not begin", err)
	}
	return a.concludeRun(ctx, pol, k, led, rep, err)
}

// concludeRun signs what a run wrote and shows what came of it. err is what ended
// the run.
func (a *app) concludeRun(ctx context.Context, pol *policy.Policy, k *keeping, led *ledger.Ledger, rep purge.Report, err error) (carried, error) {
	a.talk.Lock()
	defer a.talk.Unlock()
	cp, cerr := a.checkpoint(ctx, k, led)
	c := carried{rep, cp}
	if perr := a.showReport(pol, &rep, k, cp, err); perr != nil && err == nil {
		return c, perr
	}
	if ferr := a.flushNote(k); ferr != nil && err == nil {
		return c, ferr
	}
	var lock *purge.Interlock
	switch {
	case errors.As(err, &lock) && isTerminal(a.env.Stdout) && isTerminal(a.env.Stderr):
		return c, ended(StatusInterlock) // the report stands above and says it, with every hint
	case err != nil:
		return c, brokenOff("the run ended early", err)
	case cerr != nil:
		return c, cerr
	}
	if err := a.complainPins(cp); err != nil && reportStatus(&rep) == nil {
		return c, err
	}
	return c, reportStatus(&rep)
}

// brokenOff says of an error for which the engine has no words what it stopped: a
// store's errors stay with its items, and only the ledger or the plan end a run.
func brokenOff(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || explain(err).text != cause(err) {
		return err
	}
	return errors.Join(err, &problem{StatusPartly, what + ", for the ledger or the plan could not be used: " + cause(err),
		[]string{"is there room, and may this user write, where the ledger lies and in $TMPDIR (else /tmp)? Run it again then: what was begun is finished"}})
}

// reportStatus is the status of a run that came to its end.
func reportStatus(r *purge.Report) error {
	switch {
	case r.Interrupted:
		return ended(StatusInterrupted)
	case r.DryRun && len(r.Stops) > 0:
		return ended(StatusInterlock)
	case slices.ContainsFunc(r.Rules, func(rule purge.RuleReport) bool { return rule.Unreadable == connector.Invalid }):
		return ended(StatusUsage)
	case r.Errors() > 0 || r.Unknown() > 0 || r.Incidents > 0 || r.Open > 0:
		return ended(StatusPartly)
	default:
		return nil
	}
}

func openPlan(path string) (*plan.Plan, error) {
	p, err := plan.Open(path)
	var bad *plan.Error
	switch {
	case err == nil:
		return p, nil
	case errors.As(err, &bad):
		return nil, usage(path+": "+bad.Error(), hintsOf(bad.Hint)...)
	case errors.Is(err, fs.ErrNotExist):
		return nil, usage("no plan file "+path, "make one: epitaph plan --out "+path)
	default:
		return nil, usage(fmt.Sprintf("cannot read the plan file %s: %s", path, cause(err)))
	}
}

// ask shows what will go and waits for a yes.
func (a *app) ask(pol *policy.Policy, p *plan.Plan) (bool, error) {
	for i := range p.Rules {
		r := &p.Rules[i]
		switch set := columnsSet(pol, r.Rule); {
		case r.Items > 0 && len(set) > 0:
			fmt.Fprintf(a.env.Stderr, "  %s: %s of %s, %s; the rows stay, with %s set\n", r.Rule, count(r.Parts-r.PartsMissing, "part"), count(r.Items, r.Kind), bytesText(r.Bytes),
				strings.Join(set, ", "))
		case r.Items > 0:
			fmt.Fprintf(a.env.Stderr, "  %s: %s with %s, %s\n", r.Rule, count(r.Items, r.Kind), count(r.Parts-r.PartsMissing, "part"), bytesText(r.Bytes))
		}
	}
	return a.askYes("They will be gone for good")
}

// askYes asks on the terminal and waits for a yes.
func (a *app) askYes(what string) (bool, error) {
	fmt.Fprintf(a.env.Stderr, "%s. Type yes to go on: ", what)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.env.Stdin).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		return strings.EqualFold(strings.TrimSpace(line), "yes"), nil
	case <-a.stop:
		fmt.Fprintln(a.env.Stderr)
		return false, context.Canceled
	}
}
