package cli

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/report"
)

// followEvery is how often a trail that is followed looks for more; awaitMost how
// seldom while the ledger cannot be reached.
const (
	followEvery = 500 * time.Millisecond
	awaitMost   = 30 * time.Second
)

// following is a trail that goes on.
type following struct {
	ledger *ledger.Ledger
	o      report.Options
	write  func(iter.Seq2[report.Line, error]) (int, error)
	// Once it has begun, every entry up to shown was shown, or is none that is asked for.
	begun bool
	shown int64
	// unwritable: the output failed, not the ledger. Both may be an error of the network.
	unwritable bool
}

// follow shows the last entries, and then each one when it is there, each as one
// object of JSON or for people. A server that goes away is waited for.
func (a *app) follow(ctx context.Context, l *ledger.Ledger, o report.Options, objects bool) error {
	f := &following{ledger: l, o: o, write: a.trailText}
	if objects {
		f.write = func(lines iter.Seq2[report.Line, error]) (int, error) { return report.JSONLines(a.env.Stdout, lines) }
	}
	pause, lost := followEvery, false
	for {
		was := f.shown
		err := f.step(ctx)
		if err == nil || f.shown > was { // it was there
			pause, lost = followEvery, false
		}
		switch {
		case err == nil:
		case ctx.Err() != nil || f.unwritable || !l.Unreachable(err):
			return a.followed(err)
		case !lost:
			lost = true
			a.complain("the ledger cannot be reached; it is waited for")
		default:
			pause = min(2*pause, awaitMost)
		}
		select {
		case <-ctx.Done():
			return a.followed(ctx.Err())
		case <-time.After(pause):
		}
	}
}

// step shows what came since the last one, and at first what there is: the last
// entries, unless the person said which.
func (f *following) step(ctx context.Context) error {
	top, _, err := f.ledger.Newest(ctx)
	if err != nil || f.begun && top <= f.shown {
		return err
	}
	o := f.o
	o.Filter.Before = top + 1
	switch {
	case f.begun:
		o.Filter.After, o.Filter.Limit, o.Filter.Newest = f.shown, 0, false
	case o.Filter.Limit == 0 && o.Filter.Since.IsZero():
		o.Filter.Limit, o.Filter.Newest = 10, true
	}
	lines := report.Trail(ctx, f.ledger, o)
	if o.Filter.Newest {
		lines = reversed(lines)
	}
	var read error
	if _, err := f.write(f.noting(lines, &read)); err != nil {
		f.unwritable = read == nil
		return err
	}
	f.begun, f.shown = true, top
	return nil
}

// noting notes what was written, and how reading failed: a connection may break in
// the midst of it.
func (f *following) noting(lines iter.Seq2[report.Line, error], failed *error) iter.Seq2[report.Line, error] {
	return func(yield func(report.Line, error) bool) {
		for line, err := range lines {
			*failed = err
			if !yield(line, err) || err != nil {
				return
			}
			f.begun, f.shown = true, line.Number
		}
	}
}

// followed ends a trail that was followed: an interrupt is how it ends.
func (a *app) followed(err error) error {
	if a.stopped() && errors.Is(err, context.Canceled) {
		return ended(StatusInterrupted)
	}
	return err
}
