package connectortest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/epitaph/epitaph/connector"
)

// Op is a method of a connector or claim.
type Op string

// The methods.
const (
	OpCheck   Op = "Check"
	OpScan    Op = "Scan"
	OpProbe   Op = "Probe"
	OpClaim   Op = "Claim"
	OpErase   Op = "Erase"
	OpRelease Op = "Release"
)

// Ops lists all methods.
func Ops() []Op { return []Op{OpCheck, OpScan, OpProbe, OpClaim, OpErase, OpRelease} }

// Moment says when in a call a fault strikes.
type Moment uint8

// The moments. The caller learns the same from each, that the reply was lost;
// what the store did is what differs.
const (
	// Before the store has done anything.
	Before Moment = iota
	// Midway: an Erase of the first half, rounded up, was carried out; a Scan had
	// yielded one item; a Probe answers the first half and no more. Claim, Check
	// and Release strike After.
	Midway
	// After the store has done all of it: the effect is there, the reply is not.
	After
)

// String returns "before", "midway" or "after".
func (m Moment) String() string { return [...]string{"before", "midway", "after"}[m] }

// Moments lists all moments.
func Moments() []Moment { return []Moment{Before, Midway, After} }

// Fault is one failure on purpose.
type Fault struct {
	Op   Op
	N    int // which call of Op, from 1; 0 strikes every one
	When Moment
	// Err is the cause, ErrInjected when nil.
	Err error
	// Then, if set, is called when the fault strikes, by the goroutine that made
	// the call: to cut other stores and the ledger at the same step.
	Then func()
}

// String names the fault for a failing test: when, of which call, which one.
func (f Fault) String() string { return fmt.Sprintf("%v of %s %d", f.When, f.Op, f.N) }

// ErrInjected is the cause of a fault that names no other.
var ErrInjected = errors.New("injected fault")

// ErrCut is the cause in all answers after Cut.
var ErrCut = errors.New("cut off")

// Call is one call that a Faulty saw.
type Call struct {
	Op    Op
	N     int // ordinal among the calls of Op, from 1
	Items int // length of its list; 0 for Check, Scan and Release
}

// Faulty is a connector that passes calls on to another one, records them, and
// fails where it was told to: an error from Check, Scan and Release, Unknown
// with reason Unreachable from the others. It never panics, and its claims are
// never nil. It may be used concurrently; calls are numbered as they begin.
type Faulty struct {
	inner connector.Connector

	mu     sync.Mutex
	faults []Fault
	fired  []int
	calls  []Call
	count  map[Op]int
	cut    bool
	open   map[*faultyClaim]bool
}

var _ connector.Connector = (*Faulty)(nil)

// NewFaulty wraps c. A fault that has not struck when t ends fails t: a test of
// a failure that never happened proves nothing.
func NewFaulty(t testing.TB, c connector.Connector, faults ...Fault) *Faulty {
	t.Helper()
	f := &Faulty{inner: c, faults: faults, fired: make([]int, len(faults)),
		count: make(map[Op]int), open: make(map[*faultyClaim]bool)}
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, n := range f.fired {
			if n == 0 {
				t.Errorf("the fault %v never struck; calls seen: %v", f.faults[i], f.count)
			}
		}
	})
	return f
}

// Calls returns what was called so far, in the order in which calls began.
func (f *Faulty) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Fired returns how many times faults have struck.
func (f *Faulty) Fired() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, k := range f.fired {
		n += k
	}
	return n
}

// Cut ends the connector as the death of its process would: claims that are
// open are released in the store, as an operating system or a server does for a
// client that died, and no later call reaches it. It may be called by Fault.Then.
func (f *Faulty) Cut() {
	f.mu.Lock()
	f.cut = true
	open := make([]*faultyClaim, 0, len(f.open))
	for c := range f.open {
		open = append(open, c)
	}
	clear(f.open)
	f.mu.Unlock()
	for _, c := range open {
		c.letGo()
	}
}

// begin records a call and says how it fails, if it does.
func (f *Faulty) begin(op Op, items int) *strike {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut {
		return &strike{when: Before, err: ErrCut}
	}
	f.count[op]++
	n := f.count[op]
	f.calls = append(f.calls, Call{op, n, items})
	for i, x := range f.faults {
		if x.Op == op && (x.N == n || x.N == 0) {
			f.fired[i]++
			s := &strike{when: x.When, err: x.Err, then: x.Then}
			if s.err == nil {
				s.err = ErrInjected
			}
			return s
		}
	}
	return nil
}

// strike is a fault about to happen; nil is none.
type strike struct {
	when Moment
	err  error
	then func()
}

func (s *strike) before() bool { return s != nil && s.when == Before }
func (s *strike) midway() bool { return s != nil && s.when == Midway }

// land makes the fault happen and returns its cause.
func (s *strike) land() error {
	if s.then != nil {
		s.then()
	}
	return s.err
}

func lost(n int, err error) []connector.Result {
	rs := make([]connector.Result, n)
	for i := range rs {
		rs[i] = connector.Result{Reason: connector.Unreachable, Err: err}
	}
	return rs
}

// Check passes on or fails.
func (f *Faulty) Check(ctx context.Context, q *connector.Query) ([]connector.Finding, error) {
	s := f.begin(OpCheck, 0)
	if s.before() {
		return nil, s.land()
	}
	fs, err := f.inner.Check(ctx, q)
	if s != nil {
		return nil, s.land()
	}
	return fs, err
}

// Scan passes on or fails. A scan that fails After has yielded every item.
func (f *Faulty) Scan(ctx context.Context, q *connector.Query, v *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		s := f.begin(OpScan, 0)
		if s.before() {
			yield(connector.Item{}, s.land())
			return
		}
		for it, err := range f.inner.Scan(ctx, q, v) {
			if !yield(it, err) || err != nil {
				if s != nil {
					s.land()
				}
				return
			}
			if s.midway() {
				break
			}
		}
		if s != nil {
			yield(connector.Item{}, s.land())
		}
	}
}

// Probe passes on or fails.
func (f *Faulty) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	s := f.begin(OpProbe, len(at))
	if s.before() {
		return lost(len(at), s.land())
	}
	if s.midway() {
		half := (len(at) + 1) / 2
		rs := f.inner.Probe(ctx, at[:half])
		return append(slices.Clone(rs), lost(len(at)-half, s.land())...)
	}
	rs := f.inner.Probe(ctx, at)
	if s != nil {
		return lost(len(at), s.land())
	}
	return rs
}

// Claim passes on or fails. After a lost reply the claim still stands in the
// store, until it is released.
func (f *Faulty) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	c := &faultyClaim{f: f}
	s := f.begin(OpClaim, len(items))
	if s.before() {
		return c, lost(len(items), s.land())
	}
	inner, rs := f.inner.Claim(ctx, q, items)
	c.inner = inner
	f.mu.Lock()
	cut := f.cut
	if !cut {
		f.open[c] = true
	}
	f.mu.Unlock()
	if cut { // by another goroutine, while the store was at work
		c.letGo()
		return c, lost(len(items), ErrCut)
	}
	if s != nil {
		return c, lost(len(items), s.land())
	}
	return c, rs
}

type faultyClaim struct {
	f     *Faulty
	mu    sync.Mutex // one goroutine uses a claim, but Cut may come from another
	inner connector.Claim
}

// letGo releases the claim in the store.
func (c *faultyClaim) letGo() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		return nil
	}
	err := c.inner.Release()
	c.inner = nil
	return err
}

func (c *faultyClaim) Erase(ctx context.Context, which []int) connector.Erased {
	s := c.f.begin(OpErase, len(which))
	if s.before() {
		return connector.Erased{Results: lost(len(which), s.land())}
	}
	todo := which
	if s.midway() {
		todo = which[:(len(which)+1)/2]
	}
	e := c.pass(ctx, todo)
	if s != nil {
		return connector.Erased{Results: lost(len(which), s.land())}
	}
	return e
}

func (c *faultyClaim) pass(ctx context.Context, which []int) connector.Erased {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		return connector.Erased{Results: lost(len(which), ErrCut)}
	}
	return c.inner.Erase(ctx, which)
}

// Holds passes on; of a store that was cut off nothing is held.
func (c *faultyClaim) Holds(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		return ErrCut
	}
	return c.inner.Holds(ctx)
}

func (c *faultyClaim) Release() error {
	s := c.f.begin(OpRelease, 0)
	if s.before() {
		return s.land()
	}
	c.f.mu.Lock()
	delete(c.f.open, c)
	c.f.mu.Unlock()
	err := c.letGo()
	if s != nil {
		return s.land()
	}
	return err
}
