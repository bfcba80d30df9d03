package connectortest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// Memory is a store in memory that keeps the whole contract: for tests of what
// is built on connectors, not of connectors. It locks what is claimed and
// rehearses what is refused, as a database does. It may be used concurrently.
type Memory struct {
	mu      sync.Mutex
	records map[connector.Locator]*record
	version int
	down    error
}

// Record is one thing in a Memory.
type Record struct {
	Collection string    // which Query.Collection it belongs to; "" for parts
	Anchor     time.Time // zero: undated
	ID         string
	Bytes      int64
	Held       bool
	InUse      bool
	Values     [][]connector.Tuple
	Err        error // Scan's Item.Err
	// Refuse, unless empty, is the reason with which Claim refuses it.
	Refuse connector.Reason
	Until  time.Time // with Refuse LockedUntil
	// Kept is what Claim answers in Result.Kept.
	Kept [][]bool
	// Rows is what an Erase of it adds to Erased.Rows.
	Rows []connector.Count
	// Set says that it has the values of Query.Then.
	Set bool
}

type record struct {
	Record
	version int
	claimed bool
}

var _ connector.Connector = (*Memory)(nil)

// ErrDown is the cause in answers of a Memory that was broken.
var ErrDown = errors.New("the store is down")

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{records: make(map[connector.Locator]*record)} }

// Put puts a record under a locator, as a new version where there is one.
func (m *Memory) Put(at connector.Locator, r Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.version++
	m.records[at] = &record{Record: r, version: m.version}
}

// Remove takes a record away behind the connector's back.
func (m *Memory) Remove(at connector.Locator) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, at)
}

// Has reports whether a record is there, also while the store is down.
func (m *Memory) Has(at connector.Locator) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[at] != nil
}

// Get returns the record at a locator, also while the store is down.
func (m *Memory) Get(at connector.Locator) (Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.records[at]; r != nil {
		return r.Record, true
	}
	return Record{}, false
}

// Locators returns all locators in order, also while the store is down.
func (m *Memory) Locators() []connector.Locator {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sorted()
}

// Dump spells the whole content.
func (m *Memory) Dump() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for _, at := range m.sorted() {
		fmt.Fprintf(&b, "%q v%d %+v\n", at, m.records[at].version, m.records[at].Record)
	}
	return b.String()
}

// Break makes the store unreachable, also for claims that are held.
func (m *Memory) Break() { m.setDown(ErrDown) }

// Restore ends what Break began.
func (m *Memory) Restore() { m.setDown(nil) }

func (m *Memory) setDown(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

func (m *Memory) sorted() []connector.Locator {
	at := make([]connector.Locator, 0, len(m.records))
	for loc := range m.records {
		at = append(at, loc)
	}
	slices.Sort(at)
	return at
}

// closed is why no answer can be given, or nil. The caller holds m.mu.
func (m *Memory) closed(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.down
}

func (r *record) print() connector.Fingerprint {
	return connector.Fingerprint("v" + strconv.Itoa(r.version))
}

func (r *record) item(at connector.Locator) connector.Item {
	return connector.Item{Locator: at, ID: r.ID, Anchor: r.Anchor.UTC(), Bytes: r.Bytes, Print: r.print(),
		Held: r.Held, InUse: r.InUse, Values: r.Values, Err: r.Err}
}

// Check finds no fault.
func (m *Memory) Check(ctx context.Context, _ *connector.Query) ([]connector.Finding, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return nil, m.closed(ctx)
}

// Scan yields the records of q.Collection in the order of their locators.
func (m *Memory) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		for _, at := range m.Locators() {
			it, due, err := m.scanOne(ctx, q, s, at)
			if err != nil {
				yield(connector.Item{}, err)
				return
			}
			if due && !yield(it, nil) {
				return
			}
		}
		m.mu.Lock()
		err := m.closed(ctx)
		m.mu.Unlock()
		if err != nil {
			yield(connector.Item{}, err)
		}
	}
}

func (m *Memory) scanOne(ctx context.Context, q *connector.Query, s *connector.Survey, at connector.Locator) (connector.Item, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.closed(ctx); err != nil {
		return connector.Item{}, false, err
	}
	r := m.records[at]
	if r == nil || r.Collection != q.Collection || r.isSet(q) {
		return connector.Item{}, false, nil
	}
	s.Total++
	return r.item(at), r.Anchor.IsZero() || r.Anchor.Before(q.Cutoff), nil
}

// Probe looks at each locator.
func (m *Memory) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	rs := make([]connector.Result, len(at))
	for i, loc := range at {
		rs[i] = m.look(ctx, loc)
	}
	return rs
}

func (m *Memory) look(ctx context.Context, at connector.Locator) connector.Result {
	if err := m.closed(ctx); err != nil {
		return connector.Result{Reason: connector.Unreachable, Err: err}
	}
	r := m.records[at]
	if r == nil {
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	}
	return connector.Result{State: connector.Present, Print: r.print(), Bytes: r.Bytes}
}

// Claim locks and checks each item. With a nil q they are parts, and never
// undated or not due.
func (m *Memory) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &memoryClaim{m: m, items: items, held: make([]*record, len(items)), sets: q != nil && len(q.Then) > 0}
	rs := make([]connector.Result, len(items))
	for i, it := range items {
		if rs[i] = m.look(ctx, it.Locator); rs[i].State != connector.Present {
			continue
		}
		r := m.records[it.Locator]
		rs[i].Reason = r.standing(q, it)
		rs[i].Kept = r.Kept
		if rs[i].Reason == connector.LockedUntil {
			rs[i].Until = r.Until
		}
		if rs[i].Reason == connector.Eligible {
			r.claimed, c.held[i] = true, r
		}
	}
	return c, rs
}

// isSet reports a record that q would only set to what it is.
func (r *record) isSet(q *connector.Query) bool { return q != nil && len(q.Then) > 0 && r.Set }

// standing says what stands against the erasure of a record.
func (r *record) standing(q *connector.Query, it connector.Item) connector.Reason {
	switch {
	case r.claimed:
		return connector.InUse
	case r.isSet(q):
		return connector.Set
	case it.Print != r.print():
		return connector.Changed
	case q != nil && r.Held:
		return connector.Held
	case q != nil && r.InUse:
		return connector.InUse
	case q != nil && r.Anchor.IsZero():
		return connector.Undated
	case q != nil && (r.Collection != q.Collection || !r.Anchor.Before(q.Cutoff)):
		return connector.NotDue
	case r.Refuse != "":
		return r.Refuse
	default:
		return connector.Eligible
	}
}

type memoryClaim struct {
	m     *Memory
	items []connector.Item
	held  []*record
	sets  bool // instead of erasing
	spent bool
}

var (
	errSpent    = errors.New("the claim is released or used up")
	errNotTaken = errors.New("not claimed")
)

func (c *memoryClaim) Erase(ctx context.Context, which []int) connector.Erased {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	e := connector.Erased{Results: make([]connector.Result, len(which))}
	rows := make(map[string]int64)
	for n, i := range which {
		err := c.m.closed(ctx)
		switch {
		case c.spent:
			err = errSpent
		case i < 0 || i >= len(c.held) || c.held[i] == nil:
			err = errNotTaken
		}
		if err != nil {
			e.Results[n] = connector.Result{Reason: connector.Unreachable, Err: err}
			continue
		}
		e.Results[n] = c.erase(i, rows)
	}
	for _, table := range slices.Sorted(maps.Keys(rows)) {
		e.Rows = append(e.Rows, connector.Count{Table: table, N: rows[table]})
	}
	c.spent = true
	return e
}

func (c *memoryClaim) erase(i int, rows map[string]int64) connector.Result {
	at := c.items[i].Locator
	switch now := c.m.records[at]; {
	case now == nil && c.held[i].version < 0: // erased just now, named twice
	case now == nil:
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	case now != c.held[i]:
		return connector.Result{State: connector.Present, Reason: connector.Changed, Print: now.print()}
	case c.sets:
		if !now.Set {
			c.m.version++
			now.Set, now.version = true, c.m.version
		}
		return connector.Result{State: connector.Present, Reason: connector.Set}
	default:
		for _, n := range now.Rows {
			rows[n.Table] += n.N
		}
		delete(c.m.records, at)
		now.version = -1
	}
	return connector.Result{State: connector.Gone, Reason: connector.Erasure, Bytes: c.held[i].Bytes}
}

// Holds is nil until the claim is used up.
func (c *memoryClaim) Holds(context.Context) error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.spent {
		return errors.New("the claim is used up")
	}
	return nil
}

func (c *memoryClaim) Release() error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.spent = true
	for i, r := range c.held {
		if r != nil {
			r.claimed = false
			c.held[i] = nil
		}
	}
	return nil
}
