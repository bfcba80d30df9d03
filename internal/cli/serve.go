package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/internal/daemon"
	"github.com/epitaph/epitaph/policy"
)

type serveFlags struct {
	every    string
	cleanup  string
	sessions []string
	prune    bool
	state    string
	status   bool
}

// How often what has no schedule of its own is done.
const (
	sweepEvery = 5 * time.Minute
	pruneEvery = 24 * time.Hour
)

func (a *app) serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Do all this on time, as a service",
		Long: `Stays and purges by the policy's schedule, as epitaph purge does; a run that was
missed is made at once. In a policy without a schedule it purges nothing. It signs
and pins the ledger when others wrote to it, and lets go of entries older than the
ledger's retention, once a day. On request it disposes of tracked files that are
due, and of sessions that are over.

A policy that changed is read again; while it cannot be read nothing is disposed
of. SIGHUP reads it now, and opens the log anew. While the ledger does not agree
with what was pinned, nothing is written. SIGTERM and Ctrl-C end it after the
running batch, the second at once.

--status asks the one that is at work how things are: 0 well, 1 something is wrong
or none is at work.

Status: 0 ended by SIGTERM · 2 policy or set-up error · 3 another is at work ·
130 ended by Ctrl-C`,
		Example: "  epitaph serve --log -\n  epitaph serve --cleanup 15m --sessions /run/sessions\n  epitaph serve --status",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.status {
				return a.showServe(f.state)
			}
			return a.runServe(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.every, "checkpoint-every", "", "sign what others wrote at most every `SPAN`, such as 60s (default: the policy's, or 60s)")
	fl.StringVar(&f.cleanup, "cleanup", "", "dispose of tracked files that are due every `SPAN`, such as 15m")
	fl.StringArrayVar(&f.sessions, "sessions", nil, "sweep the root of sessions `DIR` every 5m; may be given several times")
	fl.BoolVar(&f.prune, "prune", true, "let go of entries older than the ledger's retention, once a day")
	fl.StringVar(&f.state, "state", "", "keep the lock and the state in `FILE` (default beside the ledger, or the policy)")
	fl.BoolVar(&f.status, "status", false, "say how the service at work is, and end")
	return cmd
}

// spans checks the flags that are lengths of time.
func (f *serveFlags) spans() (every, cleanup time.Duration, err error) {
	if f.every != "" {
		if every, err = policy.ParseCheckpointEvery(f.every); err != nil {
			return 0, 0, usage("--checkpoint-every: "+err.Error(), "such as --checkpoint-every 60s")
		}
	}
	if f.cleanup != "" {
		if cleanup, err = time.ParseDuration(f.cleanup); err != nil || cleanup < time.Second || cleanup > 24*time.Hour {
			return 0, 0, usage("--cleanup: it must be a length of time from 1s to 24h", "such as --cleanup 15m")
		}
	}
	return every, cleanup, nil
}

func (a *app) runServe(ctx context.Context, f serveFlags) (err error) {
	s := &service{app: a, flags: f}
	if s.every, s.cleanup, err = f.spans(); err != nil {
		return err
	}
	for _, root := range f.sessions {
		if info, err := os.Stat(root); err != nil || !info.IsDir() {
			return usage("--sessions "+root+": it is no directory", "epitaph session new and run make one")
		}
	}
	// From here on several speak at once.
	a.env.Stdout, a.env.Stderr = &oneAtATime{w: a.env.Stdout}, &oneAtATime{w: a.env.Stderr}
	if s.log, err = a.openLog(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	hangup, reload := make(chan os.Signal, 1), make(chan struct{})
	if !signal.Ignored(syscall.SIGHUP) { // else nohup started it
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case <-over:
				return
			case <-hangup:
			}
			select {
			case <-over:
				return
			case reload <- struct{}{}:
			}
		}
	}()
	s.notifier = newNotifier(a.env.Lookup)
	go func() {
		select {
		case <-over:
		case <-a.stop:
			s.notifier.say("STOPPING=1")
		}
	}()
	err = daemon.Run(ctx, daemon.Config{
		Work: s, Clock: a.env.Now, Observe: s.observe, Tell: s.keepHealth, Reload: reload,
		Tick: s.notifier.tick(), Version: Version(),
	}, a.stop)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil || a.asked != syscall.SIGTERM:
		return interrupted
	}
	return nil
}

// interrupted ends a service by the status of a person's interrupt.
const interrupted = ended(StatusInterrupted)

// observe writes an event to the log, and for people to stderr unless the log is
// there.
func (s *service) observe(e daemon.Event) {
	if s.log != nil {
		s.log.service(e)
	}
	if s.global.log != "-" && (!s.global.quiet || e.Level() >= slog.LevelError) {
		fmt.Fprintf(s.env.Stderr, "%s %s\n", s.env.Now().UTC().Format(time.RFC3339), e)
	}
	if e.Name() == daemon.ServiceStarted {
		s.began = true
		s.notifier.say("READY=1")
	}
}
