package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/purge"
)

// progress shows on a terminal how far the work has come: counts, a rate and
// an estimate. It shows nothing where stderr is no terminal, with --quiet, and
// where the log goes to stderr. It knows names of rules and counts only.
type progress struct {
	on   bool
	p    *mpb.Progress
	bar  *mpb.Bar
	rule string
}

func (a *app) newProgress() *progress {
	p := &progress{on: isTerminal(a.env.Stderr) && !a.global.quiet && a.global.log != "-"}
	if p.on {
		p.p = mpb.New(mpb.WithOutput(a.env.Stderr), mpb.WithWidth(40))
	}
	return p
}

func (p *progress) shown() bool { return p.on }

// planning is called by the planner.
func (p *progress) planning(at plan.Progress) {
	if !p.on {
		return
	}
	if p.bar == nil || p.rule != at.Rule {
		p.finish()
		p.rule = at.Rule
		p.bar = p.p.New(0, mpb.SpinnerStyle(), mpb.PrependDecorators(
			decor.Name("looking at "+at.Rule+" "),
			decor.CurrentNoUnit("%d"),
			rate(" (%.0f/s)"),
		))
	}
	p.bar.SetCurrent(at.Scanned)
}

// rate shows the items for each second since now. Unlike the library's own it
// does so also for work that was over before the first picture.
func rate(format string) decor.Decorator {
	start := time.Now()
	return decor.Any(func(s decor.Statistics) string {
		return fmt.Sprintf(format, float64(s.Current)/max(time.Since(start).Seconds(), 0.001))
	})
}

// begin starts the bar of a purge.
func (p *progress) begin(items int64) {
	if !p.on || items == 0 {
		return
	}
	p.finish()
	p.bar = p.p.AddBar(items,
		mpb.PrependDecorators(decor.Name("purging "), decor.CountersNoUnit("%d / %d")),
		mpb.AppendDecorators(decor.Percentage(), rate("  %.0f/s"), decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO)),
	)
}

// event counts the items whose end is known.
func (p *progress) event(e purge.Event) {
	if !p.on || p.bar == nil {
		return
	}
	name := string(e.Name())
	if strings.HasSuffix(name, "_purged") || strings.HasSuffix(name, "_set") || strings.HasSuffix(name, "_kept") || name != string(purge.RunFailedEvent) && strings.HasSuffix(name, "_failed") {
		p.bar.Increment()
	}
}

// finish ends the bar that is shown and leaves it on the screen.
func (p *progress) finish() {
	if p.bar != nil {
		p.bar.SetTotal(-1, true)
		p.bar.Abort(false)
		p.bar.Wait()
		p.bar = nil
	}
}

// end ends all bars, so that what is printed next stands below them.
func (p *progress) end() {
	if p.on {
		p.finish()
		p.p.Wait()
		p.on = false
	}
}
