// Package daemon does on time what the command line does when it is typed: it
// purges by the policy's schedule, signs and pins what others wrote to the
// ledger, disposes of tracked files and sessions that are due, and lets go of old
// entries. It knows when; what there is to do is the Work it is given.
//
// # What it promises
//
//   - A purge that was due while nobody was there runs at once.
//   - Nothing is left out in silence: what does not happen is an event of level
//     warn or error, and an alarm in [Health] until it is mended.
//   - While the policy cannot be read nothing is disposed of, and while the ledger
//     does not agree with what was pinned nothing is written to it.
//   - Each act is done once at a time, and one that hangs keeps no other waiting.
package daemon

import (
	"context"
	"fmt"
	"time"
)

// Act is something that is to be done from time to time.
type Act int

// The acts.
const (
	Check   Act = iota // compare the ledger with what was pinned
	Purge              // a run by the policy
	Sign               // sign and pin the ledger, if it has grown
	Cleanup            // dispose of tracked files that are due
	Sweep              // dispose of sessions that are over
	Prune              // let go of old entries
	acts
)

// Schedule says when a purge is due. [policy.Policy] is one.
//
// [policy.Policy]: https://pkg.go.dev/github.com/epitaph/epitaph/policy#Policy
type Schedule interface {
	// Next is the first instant after t at which it is due; zero for never.
	Next(t time.Time) time.Time
}

// Terms are what a policy asks of the daemon. A span of zero is never.
type Terms struct {
	Schedule Schedule
	// Policy is the hash of the policy, in hex.
	Policy string
	// DryRun says that runs only look.
	DryRun                      bool
	Sign, Cleanup, Sweep, Prune time.Duration
	// Key says that the ledger has a key to sign with.
	Key bool
}

// every is how often an act is done.
func (t *Terms) every(a Act) time.Duration {
	switch a {
	case Sign:
		return t.Sign
	case Cleanup:
		return t.Cleanup
	case Sweep:
		return t.Sweep
	case Prune:
		return t.Prune
	default:
		return 0
	}
}

// Work is what the daemon has done. The command line is one.
type Work interface {
	// Reload reads the policy again when its files changed since they were last
	// read, or when force is set. changed says that it was read; with an error it
	// cannot be used, and what is used is still the last that could. It is called
	// first of all, and never at the same time as itself.
	Reload(force bool) (t Terms, changed bool, err error)
	// LastRun is when every rule was last gone through; zero for never.
	LastRun(ctx context.Context) (time.Time, error)
	// Do does an act. Different acts may be done at the same time. When stop is
	// closed a run ends after the batches under way; when ctx ends, at once.
	Do(ctx context.Context, a Act, stop <-chan struct{}) Result
}

// Refusal is why the ledger may not be written to.
type Refusal string

// The refusals.
const (
	Behind   Refusal = "behind"   // it is shorter than what was pinned
	Altered  Refusal = "altered"  // it is not what was pinned
	Unpinned Refusal = "unpinned" // what was pinned cannot be read or trusted
	Unopened Refusal = "unopened" // it cannot be opened
)

// Result is what came of an act.
type Result struct {
	Status int   // as that of the command
	Err    error // why it is not 0, where there is a reason; only its type is told
	// Refusal says that the ledger may not be written to; nothing was done.
	Refusal Refusal
	// Busy says that another run is at work; nothing was done.
	Busy bool
	// Idle says that there was nothing to do.
	Idle bool

	Run                 string // the run's id
	Gone, Left, Unknown int64  // items, files or sessions
	Size                int64  // of the checkpoint
	// Entries were pruned, up to Held, which is still in effect because of HeldBy.
	Entries, Held int64
	HeldBy        string
}

// Config is what a daemon works with.
type Config struct {
	Work  Work
	Clock func() time.Time // nil: time.Now
	// Observe is told every event, one at a time.
	Observe func(Event)
	// Tell is told how things are after every change, and at every tick.
	Tell func(Health)
	// Reload asks for the policy to be read again.
	Reload <-chan struct{}
	// Tick is how often the daemon looks at the clock and the policy, at most;
	// zero: 30 seconds.
	Tick time.Duration
	// Version of the program, for the event.
	Version string
}

// The back-off of what failed, and of the check of a ledger that refuses.
const (
	firstRetry = time.Minute
	lastRetry  = 15 * time.Minute
	// manyRetries of a run that another is in the way of are an alarm: about half an
	// hour.
	manyRetries = 6
	// jump is how far the clock may be set before it is said.
	jump = 30 * time.Second
	// longest is how long a checkpoint or a check may take.
	longest = 2 * time.Minute
	// lastSign bounds the checkpoint at the end.
	lastSign = 20 * time.Second
)

// task is an act with when it is done next.
type task struct {
	next     time.Time // zero: not yet known, or never
	running  bool
	began    time.Time
	failures int  // one after the other
	slow     bool // it was said that it is late
	late     bool // the purge: it was due while nobody was there
	retry    bool // the purge: another run was at work
}

type done struct {
	act Act
	Result
}

// watch is what the daemon knows while it is at work.
type watch struct {
	c       Config
	terms   Terms
	tasks   [acts]task
	done    chan done
	refused Refusal
	broken  bool       // the policy cannot be used
	failed  [acts]bool // how each act ended last
	started time.Time
	// since is from when on a run is waited for where there was none before.
	since time.Time
	// ended is when the last purge of this daemon ended that need not be done again.
	ended time.Time
	// told is the run that was announced last, if any was.
	told   time.Time
	spoken bool
	// wall and steady are the clock and the time passed at the last tick.
	wall   time.Time
	steady time.Time
	health Health
}

// Run is at work until stop is closed or ctx ends. A policy or a ledger that cannot
// be used from the first is an error, and nothing was begun. Closing stop lets
// what is being disposed of come to the end of its batch; the end of ctx cuts it.
func Run(ctx context.Context, c Config, stop <-chan struct{}) error {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Tick <= 0 {
		c.Tick = 30 * time.Second
	}
	d := &watch{c: c, done: make(chan done, acts)}
	if err := d.start(ctx); err != nil {
		return err
	}
	gentle, cancel := context.WithCancel(ctx)
	defer cancel()
	d.loop(ctx, gentle, stop)
	cancel()
	d.end(ctx, stop)
	return nil
}

// now is the time of the wall clock, by which a schedule goes: without the reading
// of the steady one that Go compares otherwise.
func (d *watch) now() time.Time { return d.c.Clock().Round(0).UTC() }

// start reads the policy, looks at the ledger and says that the service is there.
func (d *watch) start(ctx context.Context) error {
	var err error
	if d.terms, _, err = d.c.Work.Reload(true); err != nil {
		return err
	}
	d.started = d.now()
	d.since = d.started
	d.wall, d.steady = d.started, time.Now()
	d.health = Health{Started: d.started, Policy: d.terms.Policy}
	r := d.do(ctx, Check, nil)
	if r.Status != 0 && (r.Refusal == "" || r.Refusal == Unopened) {
		return fmt.Errorf("open the ledger: %w", r.Err)
	}
	d.say(serviceStarted(&d.terms, d.c.Version))
	d.settle(done{Check, r})
	for a := Sign; a < acts; a++ {
		d.arm(a, d.started)
	}
	return nil
}

// arm sets when an act that is done at intervals is done next: never when the
// terms do not ask for it.
func (d *watch) arm(a Act, at time.Time) {
	if d.terms.every(a) == 0 {
		at = time.Time{}
	}
	d.tasks[a].next = at
}
