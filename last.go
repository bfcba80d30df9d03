package epitaph

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
)

// LastRun returns when all rules of the policy were last evaluated: of their
// newest heartbeats, the oldest. A rule that was cut short does not count as
// evaluated, one that could not be read, is switched off, or was stopped by an
// interlock does; one that has no heartbeat yet is left out. The zero time says
// that none has. With dryRun the runs that only look count, without it those
// that dispose.
func (e *Engine) LastRun(ctx context.Context, dryRun bool) (time.Time, error) {
	if e.c.Ledger == nil {
		return time.Time{}, errNoLedger
	}
	mode := "purge"
	if dryRun {
		mode = "dry-run"
	}
	var last time.Time
	for i := range e.c.Policy.Rules {
		at, err := e.lastBeat(ctx, e.c.Policy.Rules[i].Name, mode)
		if err != nil {
			return time.Time{}, fmt.Errorf("find last run: %w", err)
		}
		if !at.IsZero() && (last.IsZero() || at.Before(last)) {
			last = at
		}
	}
	return last, nil
}

// whole are the states of a heartbeat whose rule was gone through to its end.
var whole = []string{"done", "errors", "disabled", "unreadable", "stopped"}

func (e *Engine) lastBeat(ctx context.Context, rule, mode string) (time.Time, error) {
	for b, err := range e.c.Ledger.Entries(ctx, ledger.Filter{Kinds: []ledger.Kind{ledger.Heartbeat}, Rule: rule, Newest: true}) {
		if err != nil {
			return time.Time{}, err
		}
		m, _ := b.Code("mode")
		state, _ := b.Code("state")
		if m == mode && slices.Contains(whole, state) {
			return b.At, nil
		}
	}
	return time.Time{}, nil
}

// ErrorType names the Go type of an error, which is safe to show where its text
// is not.
func ErrorType(err error) string { return plan.ErrorType(err) }
