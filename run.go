package epitaph

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"
)

// PlanOptions say what to plan.
type PlanOptions struct {
	// Rules by name; none means all.
	Rules []string
	// AsOf is the instant from which retention is counted back; zero means now.
	AsOf time.Time
	// Retain replaces the period of the planned rules; nil means the policy's.
	Retain *policy.Period
	// Path is where the plan is written, with mode 0600: it names what is
	// personal data.
	Path string
	// Progress, when not nil, is called while planning.
	Progress func(plan.Progress)
}

// Plan looks at the stores and writes a plan: a frozen list of what is due. It
// holds nothing that is able to delete. The plan is the caller's to close.
func (e *Engine) Plan(ctx context.Context, o PlanOptions) (*plan.Plan, error) {
	if o.AsOf.IsZero() {
		o.AsOf = e.c.Clock()
	}
	return plan.Make(ctx, plan.Input{
		Policy:   e.c.Policy,
		Rules:    o.Rules,
		Stores:   plan.LookOnly(e.c.Stores),
		AsOf:     o.AsOf,
		Retain:   o.Retain,
		Clock:    e.c.Clock,
		Progress: o.Progress,
	}, o.Path)
}

// PurgeOptions say what to purge and how.
type PurgeOptions struct {
	// Plan is what to carry out. Nil means to make one first, from Rules, Retain
	// and Progress, in a private file that is removed afterwards.
	Plan     *plan.Plan
	Rules    []string
	Retain   *policy.Period
	Progress func(plan.Progress)
	// Confirm, when not nil, is shown the plan before it is carried out. False
	// ends the purge with ErrDeclined; nothing was touched.
	Confirm func(*plan.Plan) (bool, error)
	// DryRun tells what would be done and touches nothing.
	DryRun  bool
	Workers int // batches in flight; 0 means the default
	Batch   int // items of one batch; 0 means the default
	// Allow lifts interlocks knowingly.
	Allow purge.Allow
	// Stop, when closed, lets the running batches end and leaves the rest.
	Stop <-chan struct{}
	// Turn, when not nil, is called before each batch of a rule and returns when
	// its stores can bear it; see [purge.Config].
	Turn func(ctx context.Context, rule string, paused func(store string, why purge.Pause)) error
}

// ErrDeclined is returned by Purge when Confirm said no.
var ErrDeclined = errors.New("declined")

var errNoLedger = errors.New("the engine has no ledger")

// Purge carries out a plan. The report counts what the ledger holds as
// outcomes. A *purge.Interlock error is a stop before the first deletion; any
// other error ended the run before it was through.
func (e *Engine) Purge(ctx context.Context, o PurgeOptions) (purge.Report, error) {
	if e.c.Ledger == nil {
		return purge.Report{}, errNoLedger
	}
	p := o.Plan
	if p == nil {
		planning, end := until(ctx, o.Stop) // no effect yet: it may be cut anywhere
		made, err := e.privatePlan(planning, o)
		end()
		if err != nil {
			return purge.Report{}, err
		}
		defer made.Close()
		p = made
	}
	if o.Confirm != nil {
		ok, err := o.Confirm(p)
		if err != nil {
			return purge.Report{}, err
		}
		if !ok {
			return purge.Report{}, ErrDeclined
		}
	}
	c := purge.Config{
		Ledger:    e.c.Ledger,
		Clock:     e.c.Clock,
		Rand:      e.c.Rand,
		Observe:   e.c.Observe,
		Workers:   o.Workers,
		Batch:     o.Batch,
		Host:      e.c.Host,
		Who:       e.c.Who,
		Version:   e.c.Version,
		RequestID: e.c.RequestID,
		Allow:     o.Allow,
		Stop:      o.Stop,
		Turn:      o.Turn,
		Root:      e.root,
	}
	if o.DryRun {
		return purge.DryRun(ctx, e.c.Policy, p, c)
	}
	c.Stores = e.c.Stores
	return purge.Run(ctx, e.c.Policy, p, c)
}

// root is the inode of the directory of a store of files.
func (e *Engine) root(store string) (inode uint64, ok bool) {
	s, ok := e.c.Policy.Store(store)
	if !ok || s.Kind != policy.Files {
		return 0, false
	}
	info, err := os.Stat(e.c.Policy.Resolve(s.Target))
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Ino, true
}

// until returns a context that ends with ctx or when stop is closed.
func until(ctx context.Context, stop <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-ctx.Done():
		case <-stop:
			cancel()
		}
	}()
	return ctx, cancel
}

// privatePlan makes a plan in a directory that only this user can enter, and
// removes it at once: the open file is enough, and a run that is killed leaves
// no list of names behind.
func (e *Engine) privatePlan(ctx context.Context, o PurgeOptions) (p *plan.Plan, err error) {
	dir, err := os.MkdirTemp("", "epitaph-")
	if err != nil {
		return nil, fmt.Errorf("make a private directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return e.Plan(ctx, PlanOptions{Rules: o.Rules, Retain: o.Retain, Path: filepath.Join(dir, "plan"), Progress: o.Progress})
}

// Trail streams the entries of the ledger that match f, in the order of their
// numbers.
func (e *Engine) Trail(ctx context.Context, f ledger.Filter) iter.Seq2[ledger.Entry, error] {
	if e.c.Ledger == nil {
		return func(yield func(ledger.Entry, error) bool) { yield(ledger.Entry{}, errNoLedger) }
	}
	return e.c.Ledger.Entries(ctx, f)
}
