package purge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

// What the ledger's entries call things. They are listed in docs/events.md.
const (
	modePurge  = "purge"
	modeDryRun = "dry-run"

	stateDone        = "done"        // everything in the plan is settled
	stateErrors      = "errors"      // carried out, but some items failed or are unknown
	stateInterrupted = "interrupted" // ended before it was through
	stateStopped     = "stopped"     // by an interlock, before the first deletion
	stateFailed      = "failed"      // the ledger or the plan could not be used to the end
	stateDisabled    = "disabled"
	stateUnreadable  = "unreadable"

	stoppedByClock = "stopped.clock"

	thenFact   = "then" // of an intent to set rows
	thenUpdate = "update"

	leaseName     = "purge"
	lastWords     = 10 * time.Second // for what must be written though the context has ended
	mostFactRules = 200              // rules whose periods fit into one entry
)

// run is one run at work.
type run struct {
	id      string
	mode    string
	policy  *policy.Policy
	plan    *plan.Plan
	c       Config
	stores  map[string]store
	voice   voice
	started int64 // number of the RunStarted entry
	start   time.Time
	report  Report

	// resumed are the roots that were settled before the plan's turn came, and
	// erased the parts that open intents name.
	resumed map[plan.Thing]bool
	erased  map[plan.Thing]bool
	intents []ledger.Entry
	// grounds stand in an intent in the place of the policy's; of a Disposer.
	grounds *grounds

	paused [pauses]sync.Once // for the events
	mu     sync.Mutex        // guards report and broken
	broken error             // what ends the run: the ledger or the plan failed
}

// Run carries out a plan. The error is nil when the run came to its end, also
// when items failed: those are in the report.
//
//   - *plan.Error: the plan is of another policy, or was carried out already.
//   - *Interlock: stopped before the first deletion.
//   - an error that wraps the context's: ended at once. What was under way stays
//     in the ledger as an open intent, and the next run finishes it.
//   - any other error: the ledger or the plan file failed. Nothing was done that
//     the ledger does not know of.
//
// The report is valid with every error.
func Run(ctx context.Context, pol *policy.Policy, p *plan.Plan, c Config) (Report, error) {
	r, err := newRun(modePurge, pol, p, c)
	if err != nil {
		return Report{}, err
	}
	release, err := c.Ledger.Lease(ctx, leaseName)
	if errors.Is(err, ledger.ErrBusy) {
		stop := &Interlock{Code: Busy, Hint: "wait until the other run has ended"}
		r.report.Stops = []*Interlock{stop}
		return r.report, stop
	}
	if err != nil {
		return r.report, fmt.Errorf("lease ledger: %w", err)
	}
	err = r.do(ctx)
	if e := release(); e != nil && err == nil {
		err = fmt.Errorf("release ledger: %w", e)
	}
	return r.report, err
}

// newRun checks what the caller gave.
func newRun(mode string, pol *policy.Policy, p *plan.Plan, c Config) (*run, error) {
	if p.PolicyHash != pol.Hash {
		return nil, &plan.Error{Kind: plan.OtherPolicy, Text: "the plan was made with another policy, or the policy has changed since",
			Hint: "make a new one with epitaph plan"}
	}
	for i := range p.Rules {
		rule, ok := pol.Rule(p.Rules[i].Rule)
		if s := &p.Rules[i]; !ok || rule.Store != s.Store || rule.Enabled != s.Enabled || rule.Kind != s.Kind || rule.StoreKind != s.StoreKind {
			return nil, &plan.Error{Kind: plan.Damaged, Text: "the plan does not agree with the policy it names", Hint: "make a new one with epitaph plan"}
		}
		if len(rule.Then) > 0 && rule.StoreKind != policy.Rows {
			return nil, fmt.Errorf("rule %s: then sets rows, and the rule takes %s", rule.Name, rule.StoreKind)
		}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	c.Workers = min(max(or(c.Workers, 3), 1), 16)
	c.Batch = min(max(or(c.Batch, 1000), 1), 10000)
	r := &run{mode: mode, policy: pol, plan: p, c: c, stores: make(map[string]store),
		resumed: make(map[plan.Thing]bool), erased: make(map[plan.Thing]bool)}
	for name, s := range c.Stores {
		r.stores[name] = store{s}
	}
	r.start = r.clock()
	var err error
	if r.id, err = newID(r.start, c.Rand); err != nil {
		return nil, err
	}
	r.voice = voice{observe: c.Observe, run: safe(r.id), request: requestOf(c.Ledger, c.RequestID)}
	r.report = Report{Run: r.id, DryRun: mode == modeDryRun, PlanDigest: p.Digest, PolicyHash: pol.Hash, AsOf: p.AsOf, Started: r.start}
	for i := range p.Rules {
		rep := newRuleReport(&p.Rules[i], c.Ledger)
		if rule, ok := pol.Rule(rep.Rule); ok {
			rep.Keeps = len(rule.Then) > 0
		}
		r.report.Rules = append(r.report.Rules, rep)
	}
	return r, nil
}

func (r *run) clock() time.Time { return r.c.Clock().UTC() }

// newID makes the id of a run: its start, to be read, and 48 random bits.
func newID(at time.Time, random io.Reader) (string, error) {
	var b [6]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("name the run: %w", err)
	}
	return at.UTC().Format("20060102T150405Z-") + hex.EncodeToString(b[:]), nil
}

// do is the run between lease and release.
func (r *run) do(ctx context.Context) error {
	known, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	stops, err := r.interlocks(ctx, known)
	if err != nil {
		return r.finish(ctx, err)
	}
	if len(stops) > 0 {
		return r.stop(ctx, stops)
	}
	r.resume(ctx)
	for i := range r.plan.Rules {
		if r.over(ctx) {
			break
		}
		r.rule(ctx, &r.plan.Rules[i], &r.report.Rules[i])
	}
	return r.finish(ctx, nil)
}

// prepare reads what the ledger knows: the instants to believe, whether the plan was
// carried out, and the intents that are open.
func (r *run) prepare(ctx context.Context) (marks, error) {
	known, err := reference(ctx, r.c.Ledger)
	if err != nil {
		return known, fmt.Errorf("read ledger: %w", err)
	}
	if err := r.carriedOut(ctx); err != nil {
		return known, err
	}
	for e, err := range r.c.Ledger.OpenIntents(ctx) {
		if err != nil {
			return known, fmt.Errorf("read open intents: %w", err)
		}
		r.report.Open++
		if _, ok := r.plan.Rule(e.Rule); !ok {
			continue
		}
		r.intents = append(r.intents, e)
		for _, it := range e.Items {
			for _, p := range it.Parts {
				if p.Print != "" || p.Gone {
					r.erased[plan.Thing{Store: p.Store, Locator: connector.Locator(p.Locator)}] = true
				}
			}
		}
	}
	return known, nil
}

// carriedOut refuses a plan that an earlier run has settled to the last item. A
// run that was interrupted, or left errors, may be run again; a plan without
// items has nothing to repeat.
func (r *run) carriedOut(ctx context.Context) error {
	items := int64(0)
	for i := range r.plan.Rules {
		items += r.plan.Rules[i].Items
	}
	if items == 0 {
		return nil
	}
	for e, err := range r.c.Ledger.Entries(ctx, ledger.Filter{Kinds: []ledger.Kind{ledger.RunFinished}, Newest: true}) {
		if err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		digest, _ := e.Hash("plan")
		mode, _ := e.Code("mode")
		state, _ := e.Code("state")
		if digest == r.plan.Digest && mode == modePurge && state == stateDone {
			return &plan.Error{Kind: plan.CarriedOut, Text: "the plan was carried out already, by run " + e.Run,
				Hint: "make a new one with epitaph plan; epitaph trail --run " + e.Run + " shows what became of it"}
		}
	}
	return nil
}

// begin writes that the run starts. Until this is durable nothing happens.
func (r *run) begin(ctx context.Context) error {
	facts := []ledger.Fact{
		ledger.Code("mode", r.mode), ledger.Hash("policy", r.policy.Hash), ledger.Hash("plan", r.plan.Digest),
		ledger.Instant("as_of", r.plan.AsOf), ledger.Int("rules", int64(len(r.plan.Rules))),
	}
	var secrets []ledger.Secret
	for _, x := range []struct{ name, value string }{
		{"host", r.c.Host}, {"version", r.c.Version}, {"request", r.c.RequestID},
	} {
		switch {
		case x.value == "":
		case ledger.SafeCode(x.value) == x.value:
			facts = append(facts, ledger.Code(x.name, x.value))
		default:
			secrets = append(secrets, ledger.Secret{Name: x.name, Text: x.value})
		}
	}
	if r.c.Who != "" {
		secrets = append(secrets, ledger.Secret{Name: "who", Text: r.c.Who})
	}
	if a := r.c.Allow.String(); a != "" {
		facts = append(facts, ledger.Code("allow", ledger.SafeCode(plus(a))))
	}
	if len(r.plan.Rules) <= mostFactRules {
		for i := range r.plan.Rules {
			s := &r.plan.Rules[i]
			facts = append(facts, ledger.Code(ledger.SafeCode("retain."+s.Rule), s.Retain.String()),
				ledger.Instant(ledger.SafeCode("cutoff."+s.Rule), s.Cutoff))
		}
	}
	n, err := r.c.Ledger.Append(ctx, ledger.Entry{At: r.start, Kind: ledger.RunStarted, Run: r.id, Facts: facts, Secrets: secrets})
	if err != nil {
		return fmt.Errorf("write to ledger: %w", err)
	}
	r.started = n
	fields := []field{flag("dry_run", r.mode == modeDryRun), num("rules", int64(len(r.plan.Rules)))}
	if days, ok := r.days(); ok {
		fields = append(fields, num("retention_days", days))
	}
	r.voice.say(slog.LevelInfo, RunStartedEvent, append(fields, text("plan", safe(hex.EncodeToString(r.plan.Digest[:]))),
		text("policy", safe(hex.EncodeToString(r.policy.Hash[:]))), instant("as_of", r.plan.AsOf))...)
	return nil
}

// days is the retention period in days where all rules that are on share one.
func (r *run) days() (int64, bool) {
	days, n := 0, 0
	for i := range r.plan.Rules {
		s := &r.plan.Rules[i]
		if !s.Enabled {
			continue
		}
		if p := s.Retain; p.Years != 0 || p.Months != 0 || p.Hours != 0 || n > 0 && p.Days != days {
			return 0, false
		}
		days = s.Retain.Days
		n++
	}
	return int64(days), n > 0
}

// rule carries out one rule's part of the plan and writes its heartbeat.
func (r *run) rule(ctx context.Context, s *plan.RuleSummary, rep *RuleReport) {
	state := stateDone
	switch {
	case !s.Enabled:
		state = stateDisabled
		rep.Done = true
		r.voice.say(slog.LevelInfo, RuleDisabled, text("rule", code(s.Rule)))
	case s.Unreadable != "":
		state = stateUnreadable
		r.voice.say(slog.LevelError, RuleUnreadable, text("rule", code(s.Rule)), text("store", code(s.Store)),
			text("reason", code(string(s.Unreadable))), text("error_type", code(or(s.ErrorType, "none"))))
	default:
		r.voice.say(slog.LevelInfo, RuleStartedEvent, text("rule", code(s.Rule)), text("retain", code(s.Retain.String())),
			instant("cutoff", s.Cutoff), num("items", s.Items))
		if rep.Done = r.batches(ctx, s, rep); !rep.Done {
			state = stateInterrupted
		}
	}
	if r.err() != nil {
		return
	}
	if state == stateDone && rep.Errors > 0 {
		state = stateErrors
	}
	r.heartbeat(ctx, s, rep, state)
}

// batches runs the batches of a rule on the workers and reports whether all of
// them were run.
func (r *run) batches(ctx context.Context, s *plan.RuleSummary, rep *RuleReport) bool {
	rule, _ := r.policy.Rule(s.Rule)
	w := &work{run: r, rule: rule, sum: s, rep: rep, query: rule.Query(s.Cutoff)}
	var g errgroup.Group
	g.SetLimit(r.c.Workers)
	all := true
	batches := r.plan.Batches
	if w.keeps() {
		batches = r.plan.Together
	}
	for items, err := range batches(s.Rule, r.c.Batch) {
		if err != nil {
			r.fail(fmt.Errorf("read plan: %w", err))
		}
		if err != nil || r.over(ctx) {
			all = false
			break
		}
		g.Go(func() error {
			if r.turn(ctx, s.Rule) != nil || r.over(ctx) {
				return errLeft
			}
			return w.fresh(ctx, items)
		})
	}
	if g.Wait() != nil || !all {
		r.over(ctx) // for the report: a batch may have been left half way
		return false
	}
	return true
}

// turn waits until a batch of the rule may begin, and tells once in a run of each
// reason why it has to.
func (r *run) turn(ctx context.Context, rule string) error {
	if r.c.Turn == nil {
		return nil
	}
	err := r.c.Turn(ctx, rule, func(store string, why Pause) {
		why = min(why, pauses-1)
		r.paused[why].Do(func() {
			r.voice.say(slog.LevelWarn, PausedEvent, text("rule", code(rule)), text("store", code(store)), text("why", safe(why.String())))
		})
	})
	if err != nil {
		r.mu.Lock()
		r.report.Interrupted = true
		r.mu.Unlock()
	}
	return err
}

// errLeft marks a batch that was not run, or not to its end.
var errLeft = errors.New("batch left")

// over reports that no further batch may start.
func (r *run) over(ctx context.Context) bool {
	if r.err() != nil {
		return true
	}
	stopped := ctx.Err() != nil
	if !stopped && r.c.Stop != nil {
		select {
		case <-r.c.Stop:
			stopped = true
		default:
		}
	}
	if stopped {
		r.mu.Lock()
		r.report.Interrupted = true
		r.mu.Unlock()
	}
	return stopped
}

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = err
	}
}

func (r *run) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// append writes what has happened: it must not be lost because the context has
// ended in the meantime.
func (r *run) append(ctx context.Context, es ...ledger.Entry) (int64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	n, err := r.c.Ledger.Append(ctx, es...)
	if err != nil {
		err = fmt.Errorf("write to ledger: %w", err)
		r.fail(err)
	}
	return n, err
}

// finish writes that the run has ended. cause is what kept it from starting its
// work, if anything did.
func (r *run) finish(ctx context.Context, cause error) error {
	if cause == nil {
		cause = r.err()
	}
	rep := &r.report
	rep.Finished = r.clock()
	state := stateDone
	var stop *Interlock
	switch {
	case errors.As(cause, &stop):
		state = stateStopped
	case cause != nil:
		state = stateFailed
	case rep.Interrupted:
		state = stateInterrupted
	case rep.Errors() > 0 || rep.Unknown() > 0:
		state = stateErrors
	}
	facts := append(totals(rep, r.mode), ledger.Code("mode", r.mode), ledger.Code("state", state),
		ledger.Hash("plan", r.plan.Digest), ledger.Hash("policy", r.policy.Hash),
		ledger.Int("resumed", rep.Resumed), ledger.Int("incidents", rep.Incidents), ledger.Int("open_intents", rep.Open))
	for _, s := range rep.Stops {
		if s.Code == Clock && state == stateStopped {
			facts = append(facts, ledger.Int(stoppedByClock, 1))
			break
		}
	}
	_, err := r.append(ctx, ledger.Entry{At: rep.Finished, Kind: ledger.RunFinished, Run: r.id, Refers: r.started, Facts: facts})
	r.sayEnd(state, cause)
	switch {
	case cause != nil:
		return cause
	case err != nil:
		return err
	case rep.Interrupted && ctx.Err() != nil:
		return fmt.Errorf("purge: %w", ctx.Err())
	}
	return nil
}

// stop records the interlocks and ends the run before anything was touched. The
// rules were evaluated, so they have their heartbeats.
func (r *run) stop(ctx context.Context, stops []*Interlock) error {
	r.report.Stops = stops
	var es []ledger.Entry
	now := r.clock()
	for _, s := range stops {
		facts := []ledger.Fact{ledger.Code("incident", "interlock"), ledger.Code("interlock", string(s.Code)),
			ledger.Int("have", s.Have), ledger.Int("limit", s.Limit)}
		es = append(es, ledger.Entry{At: now, Kind: ledger.Incident, Run: r.id, Rule: s.Rule, Store: s.Store, Refers: r.started, Facts: facts})
		fields := []field{text("interlock", code(string(s.Code))), num("have", s.Have), num("limit", s.Limit)}
		if s.Rule != "" {
			fields = append(fields, text("rule", code(s.Rule)))
		}
		if s.Store != "" {
			fields = append(fields, text("store", code(s.Store)))
		}
		r.voice.say(slog.LevelError, InterlockEvent, fields...)
	}
	for i := range r.plan.Rules {
		es = append(es, r.pulse(&r.plan.Rules[i], &r.report.Rules[i], stateStopped))
	}
	if _, err := r.append(ctx, es...); err != nil {
		return err
	}
	return r.finish(ctx, stops[0])
}
