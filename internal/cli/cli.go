// Package cli is the command line: it reads flags, opens the concrete stores
// and the ledger, hands them to the engine, and prints what came of it. It is
// the only package that links drivers, prints, or decides a status.
//
// # The terminal
//
// stdout is the result and nothing else. stderr is for people: problems as
// "epitaph: what is wrong", then "hint: what to type", lower case, no full
// stop. Neither names a path, key or column value that came out of a store;
// only trail and plan --show do, on stdout.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Env is what a command may use of the world.
type Env struct {
	Args   []string // without the program's name
	Stdin  *os.File
	Stdout io.Writer
	Stderr io.Writer
	Lookup func(string) (string, bool) // environment variables
	Now    func() time.Time
	// Signals delivers interrupts. The first asks for an orderly end, the
	// second ends at once.
	Signals <-chan os.Signal
}

// Main runs the command line of this process and returns its status.
func Main() int {
	// A reader that goes away must not kill a purge between two durable steps:
	// with the signal ignored, writing to it fails instead.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, heeded(os.Interrupt, syscall.SIGTERM)...)
	defer signal.Stop(signals)
	return Run(context.Background(), Env{
		Args:    os.Args[1:],
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Lookup:  os.LookupEnv,
		Now:     time.Now,
		Signals: signals,
	})
}

// heeded are those of the signals that whoever started us did not have ignored,
// as nohup does with one and a shell with another for what it runs in the
// background. There is at least one, since none would mean all.
func heeded(all ...os.Signal) []os.Signal {
	heeded := slices.DeleteFunc(slices.Clone(all), signal.Ignored)
	if len(heeded) == 0 {
		return []os.Signal{syscall.SIGTERM}
	}
	return heeded
}

// Run runs one command line and returns its status: one of the Status
// constants.
func Run(ctx context.Context, env Env) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &app{env: env, stop: make(chan struct{})}
	if slices.Contains(env.Args, "--json") {
		a.answer = &answer{w: env.Stdout}
		a.env.Stdout = a.answer
	}
	go a.listen(ctx, cancel)
	root := a.root()
	root.SetArgs(env.Args)
	root.SetOut(a.env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)
	return a.conclude(err)
}

// app is one run of the command line.
type app struct {
	env    Env
	global globals
	// stop is closed by the first interrupt, which is asked from then on.
	stop  chan struct{}
	asked os.Signal
	// answer notes, where JSON may be asked for, whether stdout has a result.
	answer *answer
	// said is the last problem told on stderr.
	said atomic.Pointer[problem]
	// noFlags is set when the flags could not be read.
	noFlags bool
	// deaf is set while signals are passed on to a program: they are not for us.
	deaf atomic.Bool
	// talk is held while a checkpoint is made and its result printed, where several
	// acts are done at once.
	talk sync.Mutex
}

// answer is stdout where one object is expected on it.
type answer struct {
	w       io.Writer
	written atomic.Bool
}

func (o *answer) Write(b []byte) (int, error) {
	if len(b) > 0 {
		o.written.Store(true)
	}
	return o.w.Write(b)
}

// globals are the flags that every command takes.
type globals struct {
	policy    string
	json      bool
	quiet     bool
	noColor   bool
	log       string
	requestID string
}

// listen turns the first signal into a request to stop and the second into the
// end of ctx. After that it listens no longer: a third has its usual effect.
func (a *app) listen(ctx context.Context, cancel context.CancelFunc) {
	for n := 1; n <= 2; n++ {
		select {
		case <-ctx.Done():
			return
		case sig := <-a.env.Signals:
			if a.deaf.Load() {
				n--
			} else if n == 1 {
				a.asked = sig
				close(a.stop)
			} else {
				cancel()
			}
		}
	}
	signal.Reset(os.Interrupt, syscall.SIGTERM)
}

// stopped reports whether a person asked for the end.
func (a *app) stopped() bool {
	select {
	case <-a.stop:
		return true
	default:
		return false
	}
}

// untilStopped returns a context that ends with the first interrupt already,
// for work that has no effect and may be cut anywhere.
func (a *app) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-ctx.Done():
		case <-a.stop:
			cancel()
		}
	}()
	return ctx, cancel
}
