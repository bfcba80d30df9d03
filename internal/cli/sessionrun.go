package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/session"
)

// What a program is told of its session: its directory, its id, and the root.
const (
	sessionVariable = "EPITAPH_SESSION"
	idVariable      = "EPITAPH_SESSION_ID"
	rootVariable    = "EPITAPH_SESSIONS"
)

func (a *app) sessionRun(f *sessionFlags) *cobra.Command {
	var id, ttl string
	var sealed bool
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG…]",
		Short: "Run a program with a session that ends when it does",
		Long: `Makes a session, runs the program with the session's directory in $EPITAPH_SESSION,
and disposes of the session when the program ends, however it ends. Signals are
passed on, but for the terminal's Ctrl-C, which reaches the program by itself. The
status is that of the program: 128 and the signal's number when a signal ended it,
and 1 where it was 0 but something of the session is left. stdout and
stderr are the program's; what became of the session stands at the end of stderr. If
epitaph itself is killed, the program is killed too, and the next sweep takes the
session.

With --sealed the program gets no directory, because nobody would encrypt what it
puts there. It has epitaph session write and read, with $EPITAPH_SESSION_ID. The key
is in the kernel for it and its children alone, and goes with the last of them.`,
		Example: "  epitaph session run -- python3 convert.py note.txt\n" +
			"  epitaph session run --sealed -- sh -c 'epitaph session write $EPITAPH_SESSION_ID note.txt'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd.CommandPath()+" takes the program to run", "such as "+cmd.CommandPath()+" -- ./convert note.txt")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			span, err := parseTTL(ttl)
			if err == nil && cmd.Flags().Changed("id") {
				err = checkSession(id)
			}
			if err != nil {
				return err
			}
			if a.global.json {
				return usage("run has no --json: its stdout is the program's", "what became of the session is in the ledger: epitaph trail --json")
			}
			program, err := exec.LookPath(args[0])
			if err != nil {
				return usage(fmt.Sprintf("there is no program %q", args[0]), "give its path, or a name that is found in $PATH")
			}
			return a.inStore(cmd.Context(), f, session.Options{Create: true, Sealed: sealed, Lend: true}, func(s *session.Store) error {
				return a.runIn(s, id, span, program, args, sealed)
			})
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&id, "id", "", "use this `ID` instead of a random one")
	cmd.Flags().StringVar(&ttl, "ttl", "24h", "the longest it may live if it is left behind")
	cmd.Flags().BoolVar(&sealed, "sealed", false, "encrypt what is written, with a key that only the program has")
	return cmd
}

// runIn runs a program in a session of its own. Signals end the program, not
// this: the session must still be disposed of.
func (a *app) runIn(s *session.Store, id string, ttl time.Duration, program string, args []string, sealed bool) error {
	// The kernel kills the program when the thread that started it ends, and lends
	// the key of a session to what this thread starts. The process ends soon.
	runtime.LockOSThread()
	signals := make(chan os.Signal, 16)
	a.deaf.Store(true)
	signal.Notify(signals, heeded(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)...)
	defer signal.Stop(signals)
	ctx := context.Background()
	var x *session.Session
	var err error
	if id == "" {
		x, err = s.New(ctx, ttl)
	} else {
		x, err = s.NewID(ctx, id, ttl)
	}
	if err != nil {
		return err
	}
	status, ran := a.child(program, args, programEnv(s, x, sealed), signals)
	e, cerr := x.Close()
	if err := a.sayEnded(e, cerr); err != nil {
		return errors.Join(ran, err)
	}
	switch {
	case ran != nil:
		return ran
	case a.remarkKeys(e.KeysLeft) && status == 0, status == 0 && (cerr != nil || !e.Done()):
		return ended(StatusPartly)
	case status != 0:
		return ended(status)
	}
	return nil
}

// sayEnded tells on stderr what became of a session: stdout is the program's.
func (a *app) sayEnded(e session.Ended, err error) error {
	switch {
	case err != nil:
		a.complain("the session is not disposed of: "+cause(err), "epitaph session sweep tries again")
	case !e.Done():
		a.complain(fmt.Sprintf("the session is %s (%s): %s", e.State, e.Reason, filesText(e.Counts)), "epitaph session sweep tries again")
	case a.global.quiet:
	case e.Reason == connector.Missing:
		_, err := fmt.Fprintln(a.env.Stderr, "epitaph: the session was gone already: 0 files gone")
		return err
	default:
		_, err := fmt.Fprintf(a.env.Stderr, "epitaph: session deleted: %s\n", filesText(e.Counts))
		return err
	}
	return nil
}

// hasItToo reports whether a signal is one that a terminal sends to all in its
// foreground, the program among them: passed on it would come twice, and a second
// interrupt means something else to many.
func (a *app) hasItToo(sig os.Signal) bool {
	if sig != syscall.SIGINT && sig != syscall.SIGQUIT {
		return false
	}
	for _, v := range []any{a.env.Stdin, a.env.Stderr} {
		if f, ok := v.(*os.File); ok && f != nil {
			if group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP); err == nil {
				return group == unix.Getpgrp()
			}
		}
	}
	return false
}

// programEnv is the environment of the program. In a sealed session it is not
// told a directory, not even that of another session which this one runs in.
func programEnv(s *session.Store, x *session.Session, sealed bool) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, sessionVariable+"=") })
	env = append(env, idVariable+"="+x.ID(), rootVariable+"="+s.Path())
	if !sealed {
		env = append(env, sessionVariable+"="+x.Path())
	}
	return env
}

// child runs the program and returns its status. The error is for one that could
// not be started.
func (a *app) child(program string, args, env []string, signals <-chan os.Signal) (int, error) {
	stdout := a.env.Stdout
	if a.answer != nil { // it is the program's own --json
		stdout = a.answer.w
	}
	cmd := &exec.Cmd{Path: program, Args: args, Stdin: a.env.Stdin, Stdout: stdout, Stderr: a.env.Stderr, Env: env,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
	// A signal that is ignored stays so in the program.
	signal.Reset(syscall.SIGPIPE)
	syscall.Umask(0o077) // what it writes is for nobody else
	err := cmd.Start()
	signal.Ignore(syscall.SIGPIPE)
	if err != nil {
		return 0, &problem{StatusUsage, "the program cannot be started: " + cause(err), nil}
	}
	over := make(chan struct{})
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		for {
			select {
			case <-over:
				return
			case sig := <-signals:
				if !a.hasItToo(sig) {
					_ = cmd.Process.Signal(sig)
				}
			}
		}
	}()
	err = cmd.Wait()
	close(over)
	<-passed
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case !errors.As(err, &exit):
		return 0, fmt.Errorf("run program: %w", err)
	}
	if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal()), nil
	}
	return exit.ExitCode(), nil
}
