// Package pace makes a connector a good neighbour: it bounds how much a store is
// asked to lose in a second, slows down when the store does, and stops while a
// pause file is there.
//
// It waits before a scan, a probe or a claim, and never between a claim and its
// end, because a claim may hold locks that others wait for. What an erasure cost
// is known only afterwards, so it is charged then, and the next claim waits until
// the debt is paid: the size of a batch never changes, only the time between two.
package pace

import (
	"context"
	"errors"
	"iter"
	"os"
	"sync"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// Limits are what a store is spared. The zero value of a field is no limit.
type Limits struct {
	// Items, Rows and Bytes are the most that may be erased in a second, on
	// average: items are the elements of a claim (objects, files, root rows),
	// rows all rows of all tables, bytes the sizes of files and objects.
	Items, Rows, Bytes float64
	// Slow is how many times slower than at its best the store may answer, for
	// each item of a claim, before the claims are spaced out. At the k-fold time
	// the pause after a batch is k-1 times as long as the batch took, at most
	// MaxPause. A sensible value is 2.
	Slow float64
	// MaxPause is the longest single pause for slowness. Default 30 s.
	MaxPause time.Duration
	// PauseFile is the path of a file that stops the work as long as it exists.
	PauseFile string

	// Clock, Sleep and Exists are for tests. The zero values are time.Now, a timer
	// and a look at the file system.
	Clock  func() time.Time
	Sleep  func(context.Context, time.Duration) error
	Exists func(path string) (bool, error)
}

// pollPause is how often a pause file is looked for.
const pollPause = time.Second

// Connector is a connector that keeps to limits. All that use the store should
// share one. It is safe for concurrent use.
type Connector struct {
	inner connector.Connector
	l     Limits

	mu                 sync.Mutex
	items, rows, bytes account
	fast, best         float64 // seconds for each item: of late, and at best
	pause              time.Duration
}

var _ connector.Connector = (*Connector)(nil)

// Wrap returns c with limits.
func Wrap(c connector.Connector, l Limits) *Connector {
	if l.MaxPause <= 0 {
		l.MaxPause = 30 * time.Second
	}
	if l.Clock == nil {
		l.Clock = time.Now
	}
	if l.Sleep == nil {
		l.Sleep = sleep
	}
	if l.Exists == nil {
		l.Exists = exists
	}
	return &Connector{inner: c, l: l, items: account{rate: l.Items}, rows: account{rate: l.Rows}, bytes: account{rate: l.Bytes}}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exists reports whether the pause file is there. A file that cannot be looked
// for is an error, and the work waits: it may be there.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// account is a debt that time pays off.
type account struct {
	rate float64 // a second; 0: no limit
	debt float64
	at   time.Time
}

// settle brings the debt up to date and says how long until it is paid.
func (a *account) settle(now time.Time) time.Duration {
	if a.rate <= 0 {
		return 0
	}
	if passed := now.Sub(a.at).Seconds(); !a.at.IsZero() && passed > 0 {
		a.debt = max(0, a.debt-passed*a.rate)
	}
	a.at = now
	return time.Duration(a.debt / a.rate * float64(time.Second))
}

// charge adds a cost.
func (a *account) charge(now time.Time, cost float64) {
	a.settle(now)
	a.debt += cost
}

// unpaused waits while the pause file is there.
func (c *Connector) unpaused(ctx context.Context) error {
	for c.l.PauseFile != "" {
		there, err := c.l.Exists(c.l.PauseFile)
		if err == nil && !there {
			break
		}
		if err := c.l.Sleep(ctx, pollPause); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// turn waits until the debts are paid and the store has had its rest.
func (c *Connector) turn(ctx context.Context) error {
	for {
		if err := c.unpaused(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		now := c.l.Clock()
		wait := max(c.items.settle(now), c.rows.settle(now), c.bytes.settle(now), c.pause)
		c.pause = 0
		c.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		if err := c.l.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// learn charges what an erasure took and notices how fast the store was.
func (c *Connector) learn(e connector.Erased, n int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.l.Clock()
	var gone, size, rows int64
	for _, r := range e.Results {
		if r.State == connector.Gone {
			gone++
			size += r.Bytes
		}
	}
	for _, t := range e.Rows {
		rows += t.N
	}
	c.items.charge(now, float64(gone))
	c.rows.charge(now, float64(rows))
	c.bytes.charge(now, float64(size))
	if n == 0 || c.l.Slow <= 0 {
		return
	}
	each := took.Seconds() / float64(n)
	if c.best == 0 {
		c.fast, c.best = each, each
	}
	c.fast += (each - c.fast) * 0.3
	// The best is forgotten slowly, so that a store that grew slower for good is
	// not waited for without end.
	c.best = min(c.best*1.002, c.fast)
	if k := c.fast / c.best; c.best > 0 && k > c.l.Slow {
		c.pause = min(c.l.MaxPause, time.Duration((k-1)*float64(took)))
	}
}

// Check passes on.
func (c *Connector) Check(ctx context.Context, q *connector.Query) ([]connector.Finding, error) {
	return c.inner.Check(ctx, q)
}

// Scan waits while the work is paused, and passes on.
func (c *Connector) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		if err := c.unpaused(ctx); err != nil {
			yield(connector.Item{}, err)
			return
		}
		c.inner.Scan(ctx, q, s)(yield)
	}
}

// Probe waits while the work is paused, and passes on.
func (c *Connector) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	if err := c.unpaused(ctx); err != nil {
		return unknown(len(at), err)
	}
	return c.inner.Probe(ctx, at)
}

// Claim waits for its turn and passes on. A context that ends while it waits
// claims nothing.
func (c *Connector) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	if err := c.turn(ctx); err != nil {
		return none{}, unknown(len(items), err)
	}
	start := c.l.Clock()
	cl, results := c.inner.Claim(ctx, q, items)
	return &claim{Claim: cl, c: c, n: len(items), took: c.l.Clock().Sub(start)}, results
}

func unknown(n int, err error) []connector.Result {
	results := make([]connector.Result, n)
	for i := range results {
		results[i] = connector.Result{State: connector.Unknown, Reason: connector.Unreachable, Err: err}
	}
	return results
}

// claim measures and charges its erasure.
type claim struct {
	connector.Claim
	c    *Connector
	n    int
	took time.Duration
}

// Erase passes on at once: the claim may hold locks.
func (cl *claim) Erase(ctx context.Context, which []int) connector.Erased {
	start := cl.c.l.Clock()
	e := cl.Claim.Erase(ctx, which)
	cl.c.learn(e, cl.n, cl.took+cl.c.l.Clock().Sub(start))
	return e
}

// none is a claim of nothing.
type none struct{}

// Erase answers Unknown.
func (none) Erase(_ context.Context, which []int) connector.Erased {
	return connector.Erased{Results: unknown(len(which), context.Canceled)}
}

// Release does nothing.
func (none) Release() error { return nil }
