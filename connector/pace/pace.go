// Package pace makes a connector a good neighbour: it bounds how much a store is
// asked to lose in a second, slows down when the store does, and stops while a
// pause file is there or a replica of the store is too far behind.
//
// Whoever disposes of items asks for a turn before each batch, in all stores that
// the batch concerns. That is the only place to wait, because the parts of an item
// are looked at and claimed while its row is locked and others wait for it. What
// an erasure cost is known only afterwards, so it is charged then, and the next
// turn comes when the debt is paid: the size of a batch never changes, only the
// time between two.
package pace

import (
	"context"
	"iter"
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
	// PauseFiles are the paths of files each of which stops the work as long as it
	// is there; see ReadPause.
	PauseFiles []string

	// Lag says how far a replica of the store is behind; an error means that this
	// is not known. Nil: there is none. While it is more than MaxLag, or not
	// known, the work stops. It is asked at most once a second, and has ten.
	Lag    func(context.Context) (time.Duration, error)
	MaxLag time.Duration

	// Clock, Sleep and Exists are for tests. The zero values are time.Now, a timer
	// and ReadPause.
	Clock  func() time.Time
	Sleep  func(context.Context, time.Duration) error
	Exists func(path string) (bool, error)
}

// pollPause is how often a pause file is looked for and a replica asked, and
// lagLimit how long that may take to answer.
const (
	pollPause = time.Second
	lagLimit  = 10 * time.Second
)

// Cause says what holds the work back until somebody or something else ends it.
// A rate and a rest are no cause: their end is known.
type Cause uint8

// The causes.
const (
	Free   Cause = iota
	ByFile       // a pause file is there, or may be
	Behind       // a replica is further behind than it may be
	Unseen       // it is not known how far a replica is behind
)

// Connector is a connector that keeps to limits. All that use the store should
// share one. It is safe for concurrent use.
type Connector struct {
	inner connector.Connector
	l     Limits

	mu                 sync.Mutex
	items, rows, bytes account
	fast, best         float64   // seconds for each item: of late, and at best
	rest               time.Time // until when the store has its rest, whoever asks

	asking sync.Mutex // one asks the replica, the others wait for the answer
	asked  time.Time
	told   Cause // what the answer meant
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
		l.Exists = func(path string) (bool, error) {
			on, _, err := ReadPause(path, l.Clock())
			return on, err
		}
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

// Paused reports whether a pause file is there, or may be.
func (c *Connector) Paused() bool {
	for _, path := range c.l.PauseFiles {
		if there, err := c.l.Exists(path); there || err != nil {
			return true
		}
	}
	return false
}

// held says what holds the work back now.
func (c *Connector) held(ctx context.Context) Cause {
	if c.Paused() {
		return ByFile
	}
	if c.l.Lag == nil || ctx.Err() != nil {
		return Free
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	if age := c.l.Clock().Sub(c.asked); !c.asked.IsZero() && age >= 0 && age < pollPause {
		return c.told
	}
	limited, cancel := context.WithTimeout(ctx, lagLimit)
	defer cancel()
	lag, err := c.l.Lag(limited)
	switch {
	case ctx.Err() != nil:
		return Free // nobody waits for the answer any more
	case err != nil:
		c.told = Unseen
	case lag > c.l.MaxLag:
		c.told = Behind
	default:
		c.told = Free
	}
	c.asked = c.l.Clock()
	return c.told
}

// Turn waits until nothing holds the work back, the debts are paid and the store
// has had its rest. It calls tell, unless nil, when it begins to wait for a
// cause, and again when the cause is another. The error is that of the context,
// when it ends first.
func (c *Connector) Turn(ctx context.Context, tell func(Cause)) error {
	last := Free
	for {
		for cause := c.held(ctx); cause != Free; cause = c.held(ctx) {
			if cause != last && tell != nil {
				tell(cause)
			}
			last = cause
			if err := c.l.Sleep(ctx, pollPause); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		c.mu.Lock()
		now := c.l.Clock()
		wait := max(c.items.settle(now), c.rows.settle(now), c.bytes.settle(now), c.rest.Sub(now))
		c.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		// In pieces, so that a pause that begins meanwhile shows at once.
		for wait > 0 && !c.Paused() {
			piece := min(wait, pollPause)
			if err := c.l.Sleep(ctx, piece); err != nil {
				return err
			}
			wait -= piece
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
		if r.Reason == connector.Set { // a row that was written, and stays
			gone++
			rows++
		}
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
		c.rest = now.Add(min(c.l.MaxPause, time.Duration((k-1)*float64(took))))
	}
}

// Check passes on.
func (c *Connector) Check(ctx context.Context, q *connector.Query) ([]connector.Finding, error) {
	return c.inner.Check(ctx, q)
}

// Scan passes on.
func (c *Connector) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	return c.inner.Scan(ctx, q, s)
}

// Probe passes on.
func (c *Connector) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	return c.inner.Probe(ctx, at)
}

// Claim passes on, and measures.
func (c *Connector) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	start := c.l.Clock()
	cl, results := c.inner.Claim(ctx, q, items)
	if cl == nil {
		return nil, results
	}
	return &claim{Claim: cl, c: c, n: len(items), took: c.l.Clock().Sub(start)}, results
}

// claim measures and charges its erasure.
type claim struct {
	connector.Claim
	c    *Connector
	n    int
	took time.Duration
}

// Erase passes on, and charges.
func (cl *claim) Erase(ctx context.Context, which []int) connector.Erased {
	start := cl.c.l.Clock()
	e := cl.Claim.Erase(ctx, which)
	cl.c.learn(e, cl.n, cl.took+cl.c.l.Clock().Sub(start))
	return e
}
