package purge

import (
	"context"
	"fmt"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

// The limits that hold where a policy gives none.
const (
	defaultItems   int64        = 10000
	defaultShare   policy.Share = 250000
	defaultMissing policy.Share = 500000
	defaultJump                 = 45 // days

	// grace is how far two clocks may be apart without a word.
	grace = 5 * time.Minute
	// fewMissing is the number of missing parts below which their share says
	// nothing, unless not one part is there.
	fewMissing = 10
)

// tooMissing reports whether the parts that are not there, of all, say that
// something is wrong with where they are looked for. One alone says nothing; where
// there are more, and not one of them is there, the root or the template is
// likely wrong, however few they are.
func tooMissing(gone, all, limit int64) bool {
	return share(gone, all) > limit && (gone >= fewMissing || gone > 1 && gone >= all)
}

// interlocks returns everything that stands against the run, in the order of
// the rules. Nothing has been touched yet.
func (r *run) interlocks(ctx context.Context, known marks) ([]*Interlock, error) {
	var stops []*Interlock
	now := r.clock()
	if ahead := r.plan.AsOf.Sub(now); ahead > grace {
		stops = append(stops, &Interlock{Code: Future, Have: seconds(ahead), Limit: seconds(grace),
			Hint: "a plan that looks ahead is for looking; make one without --as-of to carry it out"})
	}
	if !r.c.Allow.Clock {
		if stop := jumped(now, known, r.policy.Limits.ClockJump); stop != nil {
			stops = append(stops, stop)
		}
	}
	if !r.c.Allow.Missing {
		stops = append(stops, r.otherRoots()...)
	}
	for i := range r.plan.Rules {
		s := &r.plan.Rules[i]
		if !s.Enabled {
			continue
		}
		more, err := r.ruleInterlocks(ctx, s)
		if err != nil {
			return nil, err
		}
		stops = append(stops, more...)
	}
	return stops, nil
}

// ClockJump returns the interlock that stands against disposing of anything at an
// instant, for those who do it without a plan; nil when none does. The instant may
// stand five minutes before the newest entry of the ledger, and a limit after its
// newest run or clean-up, 45 days where none is given. What a run wrote which the
// clock stopped does not count. An error is the ledger's.
func ClockJump(ctx context.Context, l Ledger, now time.Time, limit policy.Period) (*Interlock, error) {
	known, err := reference(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return jumped(now, known, limit), nil
}

// marks are the instants that a clock is compared with.
type marks struct {
	newest time.Time // of the newest entry: the clock cannot be before it
	// ran is when a run or clean-up last was at work. Applications that write to
	// the ledger all day go by the wrong clock too: their entries would hide a jump.
	// Where nothing ever ran it is newest.
	ran   time.Time
	never bool // nothing ever ran
}

// jumped compares a clock with what reference found.
func jumped(now time.Time, known marks, limit policy.Period) *Interlock {
	if known.newest.IsZero() {
		return nil
	}
	const hint = "set the clock right, or add --allow clock if it is right"
	if back := known.newest.Sub(now); back > grace {
		return &Interlock{Code: Clock, Have: -seconds(back), Limit: seconds(grace), Hint: hint}
	}
	if limit.IsZero() {
		limit = policy.Period{Days: defaultJump}
	}
	if last := limit.After(known.ran); now.After(last) {
		return &Interlock{Code: Clock, Have: seconds(now.Sub(known.ran)), Limit: seconds(last.Sub(known.ran)), Hint: hint, sinceRun: !known.never}
	}
	return nil
}

func (r *run) ruleInterlocks(ctx context.Context, s *plan.RuleSummary) ([]*Interlock, error) {
	var stops []*Interlock
	rule, _ := r.policy.Rule(s.Rule)
	allow := r.c.Allow
	if s.Unreadable != "" && s.StoreKind == policy.Files {
		return []*Interlock{r.rootStop(s.Rule, s.Store)}, nil
	}
	for _, name := range s.Unseen {
		if st, ok := r.policy.Store(name); ok && st.Kind == policy.Files {
			stops = append(stops, r.rootStop(s.Rule, name))
		}
	}
	if s.Skew != 0 && !allow.Clock {
		stops = append(stops, &Interlock{Code: Clock, Rule: s.Rule, Store: s.Store, Have: seconds(s.Skew), Limit: seconds(grace),
			Hint: "set the clock of this host or of the store right, or add --allow clock"})
	}
	if limit := or(rule.Limits.Items, defaultItems); s.Items > limit && !allow.Items {
		stops = append(stops, &Interlock{Code: TooMany, Rule: s.Rule, Have: s.Items, Limit: limit,
			Hint: "look at the plan; then raise limits: {items: …} in the policy, or add --allow items"})
	}
	if limit := or(rule.Limits.Share, defaultShare); !allow.Share {
		if have := share(s.Items, s.Total); have > int64(limit) {
			stops = append(stops, &Interlock{Code: TooLarge, Rule: s.Rule, Have: have, Limit: int64(limit),
				Hint: "look at the plan; then raise limits: {share: …} in the policy, or add --allow share"})
		}
	}
	if allow.Missing {
		return stops, nil
	}
	stop, err := r.missing(ctx, s, int64(or(rule.Limits.Missing, defaultMissing)))
	if stop != nil {
		stops = append(stops, stop)
	}
	return stops, err
}

func (r *run) rootStop(rule, store string) *Interlock {
	return &Interlock{Code: Root, Rule: rule, Store: store,
		Hint: "mount or create the store's root and make it readable; epitaph check names it"}
}

// missing counts the parts that are not there. Those that an unfinished run of
// ours erased are known to be gone and do not count.
func (r *run) missing(ctx context.Context, s *plan.RuleSummary, limit int64) (*Interlock, error) {
	gone, all := s.PartsMissing, s.Parts
	if !tooMissing(gone, all, limit) {
		return nil, nil
	}
	if len(r.erased) > 0 {
		for batch, err := range r.plan.Batches(s.Rule, r.c.Batch) {
			if err != nil {
				return nil, err
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			for i := range batch {
				for _, p := range batch[i].Parts {
					if r.erased[plan.Thing{Store: p.Store, Locator: p.Locator}] && p.Print == "" {
						gone--
					}
				}
			}
		}
	}
	if !tooMissing(gone, all, limit) {
		return nil, nil
	}
	return &Interlock{Code: TooMissing, Rule: s.Rule, Have: share(gone, all), Limit: limit,
		Hint: "is the template right, and the root the right one? then add --allow missing"}, nil
}

// share is n of all in parts per million, rounded up so that what is over a
// limit is never rounded to it. A collection smaller than what is taken from it
// was not counted right; then the share is the whole.
func share(n, all int64) int64 {
	switch {
	case n <= 0:
		return 0
	case n >= all:
		return 1_000_000
	default:
		return int64((float64(n)*1e6 + float64(all) - 1) / float64(all))
	}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// reference finds the instants to compare the clock with, among what no
// clock-stopped run wrote. Such a run's entries carry the wrong clock's time;
// believed, they would lift the interlock for the next run.
func reference(ctx context.Context, l Ledger) (marks, error) {
	var m marks
	var err error
	if m.newest, err = believed(ctx, l, nil); err != nil {
		return m, err
	}
	// These a run or clean-up writes whatever was due.
	m.ran, err = believed(ctx, l, []ledger.Kind{ledger.Heartbeat, ledger.RunFinished, ledger.CustodyLooks})
	if m.never = m.ran.IsZero(); m.never {
		m.ran = m.newest
	}
	return m, err
}

// believed is the instant of the newest entry of some kinds, nil for all.
func believed(ctx context.Context, l Ledger, kinds []ledger.Kind) (time.Time, error) {
	stopped := make(map[string]bool)
	for e, err := range l.Entries(ctx, ledger.Filter{Kinds: kinds, Newest: true}) {
		if err != nil {
			return time.Time{}, err
		}
		if n, _ := e.Int(stoppedByClock); e.Kind == ledger.RunFinished && n > 0 {
			stopped[e.Run] = true
		}
		if e.Run == "" || !stopped[e.Run] {
			return e.At, nil
		}
	}
	return time.Time{}, nil
}
