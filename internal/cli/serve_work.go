package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/internal/daemon"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"
	"github.com/epitaph/epitaph/session"
)

// service does for the daemon what the commands do. It opens the ledger and the
// stores anew for each act: what was moved, replaced or restored meanwhile is
// seen, and compared with what was pinned.
type service struct {
	*app
	flags          serveFlags
	every, cleanup time.Duration
	notifier       *notifier

	log *eventLog // nil: none

	mu    sync.Mutex     // guards what follows
	pol   *policy.Policy // the last that could be used
	seen  string         // of the files of the policy
	bad   error          // why what is there cannot be used
	state *stateFile
	// kept is the size of the newest checkpoint that every pin has.
	kept int64

	began bool // the service is there; used by the daemon's own goroutine only
}

func (s *service) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.state != nil {
		errs = append(errs, s.state.close())
	}
	if s.log != nil {
		errs = append(errs, s.log.close())
	}
	return errors.Join(errs...)
}

func (s *service) policy() *policy.Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pol
}

// Reload implements daemon.Work.
func (s *service) Reload(force bool) (daemon.Terms, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.policyPath()
	seen := sight(path) + sight(filepath.Join(filepath.Dir(path), ".env"))
	if !force && seen == s.seen {
		return s.terms(), false, s.bad
	}
	first := s.pol == nil
	if force && !first {
		s.notifier.reloading()
		defer s.notifier.say("READY=1")
		if err := s.reopenLog(); err != nil {
			s.app.tell(err)
		}
	}
	s.seen = seen
	pol, err := s.loadPolicy()
	if err == nil {
		err = s.lock(pol)
	}
	if s.bad = err; err != nil {
		if first {
			return daemon.Terms{}, true, err
		}
		s.app.tell(err)
		return s.terms(), true, err
	}
	s.pol, s.kept = pol, 0 // a pin may be new
	return s.terms(), true, nil
}

// sight is what can be seen of a file without reading it.
func sight(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Sprintf("%T %s;", err, cause(err))
	}
	inode := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return fmt.Sprintf("%d %d %d %v;", inode, info.Size(), info.ModTime().UnixNano(), info.Mode())
}

// reopenLog opens the log anew, after it was rotated.
func (s *service) reopenLog() error {
	log, err := s.openLog()
	if err != nil || log == nil {
		return err
	}
	return s.log.goOnIn(log)
}

// lock makes sure that this is the only service for the policy's ledger.
func (s *service) lock(pol *policy.Policy) error {
	path := s.flags.state
	if path == "" {
		path = serveState(pol)
	}
	if s.state != nil && s.state.path == path {
		return nil
	}
	state, err := openState(path)
	if err != nil {
		return err
	}
	if s.state != nil {
		err = s.state.close()
	}
	s.state = state
	return err
}

// terms are what the policy and the flags ask for.
func (s *service) terms() daemon.Terms {
	if s.pol == nil {
		return daemon.Terms{}
	}
	t := daemon.Terms{Policy: hex.EncodeToString(s.pol.Hash[:]), DryRun: s.pol.DryRun, Sign: policy.DefaultCheckpointEvery, Cleanup: s.cleanup}
	if s.pol.Schedule != "" {
		t.Schedule = s.pol
	}
	if s.pol.Checkpoints.Every > 0 {
		t.Sign = s.pol.Checkpoints.Every
	}
	if s.every > 0 {
		t.Sign = s.every
	}
	if len(s.flags.sessions) > 0 {
		t.Sweep = sweepEvery
	}
	if s.flags.prune {
		t.Prune = pruneEvery
	}
	_, err := os.Stat(keepingFiles(s.pol).keyPath)
	t.Key = err == nil
	return t
}

// LastRun implements daemon.Work.
func (s *service) LastRun(ctx context.Context) (last time.Time, err error) {
	pol := s.policy()
	err = s.within(ctx, pol, readOnly, func(_ *keeping, l *ledger.Ledger) error {
		e, err := epitaph.New(epitaph.Config{Policy: pol, Ledger: l})
		if err != nil {
			return err
		}
		last, err = e.LastRun(ctx, pol.DryRun)
		return err
	})
	return last, err
}

// within runs do with the policy's ledger.
func (s *service) within(ctx context.Context, pol *policy.Policy, how access, do func(*keeping, *ledger.Ledger) error) (err error) {
	k, err := s.keepingOf(ctx, pol)
	if err != nil {
		return err
	}
	l, err := s.openKept(ctx, k, how)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return do(k, l)
}

// Do implements daemon.Work. Stop is the command's own.
func (s *service) Do(ctx context.Context, act daemon.Act, _ <-chan struct{}) daemon.Result {
	do := map[daemon.Act]func(context.Context, *policy.Policy, *daemon.Result) error{
		daemon.Check: s.check, daemon.Purge: s.purge, daemon.Sign: s.sign,
		daemon.Cleanup: s.cleanUp, daemon.Sweep: s.sweep, daemon.Prune: s.letGo,
	}
	var r daemon.Result
	err := do[act](ctx, s.policy(), &r)
	if err == nil {
		return r
	}
	var lock *purge.Interlock
	r.Busy = errors.As(err, &lock) && lock.Code == purge.Busy
	if r.Refusal = refusalOf(err); r.Refusal == "" && act == daemon.Check {
		r.Refusal = daemon.Unopened
		if !s.began { // it ends the command, which says why
			r.Status, r.Err = StatusUsage, err
			return r
		}
	}
	var only ended
	if !errors.As(err, &only) { // else the result said why
		r.Err = err
	}
	r.Status = s.app.tell(err)
	return r
}

// refusalOf says whether an error is that of a ledger which may not be written to.
func refusalOf(err error) daemon.Refusal {
	var p *problem
	switch {
	case errors.Is(err, ledger.ErrBehind):
		return daemon.Behind
	case errors.Is(err, ledger.ErrAltered):
		return daemon.Altered
	case errors.As(err, &p) && p.status == StatusLedger:
		return daemon.Unpinned
	default:
		return ""
	}
}

// check compares the ledger with what was pinned. It makes a ledger where there is
// none, as the first purge does.
func (s *service) check(ctx context.Context, pol *policy.Policy, _ *daemon.Result) error {
	return s.within(ctx, pol, write, func(*keeping, *ledger.Ledger) error { return nil })
}

func (s *service) purge(ctx context.Context, pol *policy.Policy, r *daemon.Result) error {
	c, err := s.purgeBy(ctx, purgeFlags{yes: true}, pol, s.log, epitaph.PurgeOptions{DryRun: pol.DryRun})
	r.Run = c.report.Run
	s.keptAll(pol, c.checkpoint)
	return err
}

// keptAll notes a checkpoint that every pin and witness of the policy has.
func (s *service) keptAll(pol *policy.Policy, c *signed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c != nil && c.failed == nil && pol == s.pol {
		s.kept = c.Size
	}
}

// sign signs and pins the ledger, unless every pin has it already.
func (s *service) sign(ctx context.Context, pol *policy.Policy, r *daemon.Result) error {
	s.mu.Lock()
	kept := s.kept
	s.mu.Unlock()
	r.Idle = true
	err := s.within(ctx, pol, readOnly, func(_ *keeping, l *ledger.Ledger) error {
		n, _, err := l.Newest(ctx)
		r.Idle = n == kept
		return err
	})
	if err != nil || r.Idle {
		return err
	}
	return s.within(ctx, pol, write, func(k *keeping, l *ledger.Ledger) error {
		if k.keys == nil {
			r.Idle = true
			return nil
		}
		s.talk.Lock()
		defer s.talk.Unlock()
		c, err := s.checkpoint(ctx, k, l)
		if err != nil || c == nil {
			r.Idle = c == nil
			return err
		}
		r.Size = c.Size
		s.keptAll(pol, c)
		if err := s.printNote(k, c); err != nil {
			return err
		}
		if err := s.complainPins(c); err != nil {
			return errors.Join(err, c.failed)
		}
		return nil
	})
}

// printNote prints a checkpoint where stdout is a pin.
func (s *service) printNote(k *keeping, c *signed) error {
	if s.global.json && k.out.Len() > 0 {
		k.out.Reset()
		return s.printJSON(checkpointOf(c))
	}
	return s.flushNote(k)
}

// cleanUp disposes of the tracked files that are due.
func (s *service) cleanUp(ctx context.Context, pol *policy.Policy, r *daemon.Result) (err error) {
	if err := s.check(ctx, pol, r); err != nil { // custody itself looks at the pin beside the ledger alone
		return err
	}
	k, o := &keeper{}, custody.Options{Clock: s.env.Now, Who: s.who()}
	defer func() { err = errors.Join(err, k.Close()) }()
	dsn, err := s.policyStores(ctx, k, &o)
	if err != nil {
		return err
	}
	if err := s.custodyLedger(ctx, dsn, true, k, &o); err != nil {
		return err
	}
	c, err := custody.Open(ctx, o)
	if err != nil {
		return err
	}
	k.close = append(k.close, c.Close)
	list, err := c.Run(ctx, custody.Cleanup{})
	for i := range list {
		switch list[i].State {
		case connector.Gone:
			r.Gone++
		case connector.Present:
			r.Left++
		default:
			r.Unknown++
		}
	}
	if err == nil && r.Left+r.Unknown > 0 {
		err = ended(StatusPartly)
	}
	return err
}

// sweep disposes of the sessions that are over, in every root.
func (s *service) sweep(ctx context.Context, pol *policy.Policy, r *daemon.Result) error {
	var errs []error
	for _, root := range s.flags.sessions {
		errs = append(errs, s.within(ctx, pol, write, func(_ *keeping, l *ledger.Ledger) (err error) {
			st, err := session.Open(ctx, root, session.Options{Ledger: l, Clock: s.env.Now, Host: host(), Who: s.who(), Observe: s.event})
			if err != nil {
				return rootProblem(err)
			}
			defer func() { err = errors.Join(err, st.Close()) }()
			w, err := st.Sweep(ctx)
			for i := range w.Ended {
				if w.Ended[i].Done() {
					r.Gone++
				} else {
					r.Left++
				}
			}
			if err == nil && w.Failed() {
				err = ended(StatusPartly)
			}
			return sessionProblem(err)
		}))
	}
	return errors.Join(errs...)
}

// event writes an event of a disposal to the log.
func (s *service) event(e purge.Event) {
	if s.log != nil {
		s.log.event(e)
	}
}

// letGo prunes the ledger. It looks first: a pruning that has nothing to let go
// of rewrites tables all the same, and on PostgreSQL appends wait for that.
func (s *service) letGo(ctx context.Context, pol *policy.Policy, r *daemon.Result) error {
	return s.within(ctx, pol, write, func(k *keeping, l *ledger.Ledger) (err error) {
		now := s.env.Now()
		p := ledger.Pruning{Before: k.retain.Before(now), Dry: true}
		if p.Tracked, err = s.oldestTracked(ctx, k, l, p.Before); err != nil {
			return err
		}
		done, err := l.Prune(ctx, p)
		if err == nil && done.Entries > 0 {
			if err := clockStop(ctx, l, now, k.clockJump); err != nil {
				return err
			}
			p.Dry, p.Secrets = false, s.secrets("")
			done, err = l.Prune(ctx, p)
		}
		r.Entries, r.Held, r.HeldBy, r.Idle = done.Entries, done.Held, string(done.By), err == nil && done.Entries+done.Held == 0
		return ownersOnly(err)
	})
}
