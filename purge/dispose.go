package purge

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

// Disposer disposes of items that no policy names: sessions that have ended,
// files that an application registered with a due date. They take the same way
// as the items of a plan — intent, claim, erase, look, outcome — but each is a
// root without parts, and there is no cutoff: the store's claim says whether an
// item may go.
//
// Unlike a run, a Disposer keeps no other at bay: many processes may dispose at
// the same time on one ledger, as long as the claims of their stores exclude
// each other. Its methods may be called concurrently.
type Disposer struct {
	c  Config
	id string
	// mu is held for reading while anything is disposed of, so that Settle may
	// know which open intents of this very Disposer nobody works on any more.
	mu sync.RWMutex
}

// Disposal is what is to be disposed of, and why.
type Disposal struct {
	Rule  string // the name that the ledger keeps it under, such as "sessions"
	Kind  string // the field's word for an item, such as "session"; it names the events
	Store string // a name in Config.Stores
	// Items with the fingerprints that were seen. Without one an item cannot be
	// claimed in a store of files.
	Items []connector.Item
	// Query is handed to the store's Claim; nil where the store does not need it.
	Query *connector.Query
	// Facts are public, and stand in every intent: who is at work, so that
	// another process can tell one that has died.
	Facts []ledger.Fact
	// Tell gives further public facts for the outcome, after the items were
	// erased and looked at; nil for none.
	Tell func() []ledger.Fact
}

// grounds is what an intent says in the place of a policy and a cutoff.
type grounds struct {
	facts   []ledger.Fact
	secrets []ledger.Secret
	tell    func() []ledger.Fact
}

// NewDisposer returns a Disposer that writes to c.Ledger and erases in c.Stores.
// Of c it uses Ledger, Stores, Clock, Rand, Observe, Batch, Who and RequestID.
func NewDisposer(c Config) (*Disposer, error) {
	if c.Ledger == nil {
		return nil, fmt.Errorf("dispose: there is no ledger")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	c.Batch = min(max(or(c.Batch, 1000), 1), 10000)
	id, err := newID(c.Clock(), c.Rand)
	if err != nil {
		return nil, err
	}
	return &Disposer{c: c, id: id}, nil
}

// Run returns the id under which the ledger keeps what this Disposer does.
func (d *Disposer) Run() string { return d.id }

// Dispose carries out a disposal, in batches of at most Config.Batch items, each
// with an intent and an outcome of its own. There is one result for each item,
// in order: Gone with reason Erasure was erased by us and seen to be gone; Gone
// with Missing was not there any more.
//
// An error says that the ledger failed, or that ctx ended; the items whose
// outcome is not in the ledger are Unknown then, and the report does not count
// them. What was begun stays as an open intent, which Settle finishes.
func (d *Disposer) Dispose(ctx context.Context, x Disposal) ([]connector.Result, RuleReport, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	w := d.work(x)
	out := make([]connector.Result, 0, len(x.Items))
	for items := range slices.Chunk(x.Items, d.c.Batch) {
		b := &batch{work: w, things: make(map[plan.Thing]*thing)}
		for _, it := range items {
			b.push(unit{it: plan.Item{Item: it}})
		}
		err := b.intend(ctx)
		if err == nil {
			b.dispose(ctx)
			err = b.record(ctx)
		}
		if err != nil {
			rest := unknown(len(x.Items)-len(out), context.Cause(ctx))
			return append(out, rest...), *w.rep, w.cause(ctx)
		}
		for i := range b.units {
			out = append(out, b.units[i].res)
		}
	}
	return out, *w.rep, nil
}

// Settle finishes the intents under x.Rule and x.Store that were left without an
// outcome: by this Disposer, or by one of which dead reports that it is no more.
// Their items are looked at, and those that are still there are claimed and
// disposed of. x.Items is not used. An intent about which nothing can be learned
// stays open.
func (d *Disposer) Settle(ctx context.Context, x Disposal, dead func(ledger.Entry) bool) (RuleReport, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.work(x)
	for e, err := range d.c.Ledger.OpenIntents(ctx) {
		if err != nil {
			return *w.rep, fmt.Errorf("read open intents: %w", err)
		}
		if e.Rule != x.Rule || e.Store != x.Store || e.Run != d.id && !dead(e) {
			continue
		}
		if e.Run != d.id { // who is dead now may have ended it after it was read
			open, err := d.isOpen(ctx, e.Number)
			if err != nil {
				return *w.rep, fmt.Errorf("read open intents: %w", err)
			}
			if !open {
				continue
			}
		}
		b := &batch{work: w, intent: e.Number, old: true, things: make(map[plan.Thing]*thing)}
		for _, it := range e.Items {
			b.remember(it)
		}
		b.lookAtRoots(ctx, true)
		b.dispose(ctx)
		if b.blind() {
			w.rep.Unknown += int64(len(b.units))
			w.rep.Errors += int64(len(b.units))
			continue
		}
		if err := b.record(ctx); err != nil {
			return *w.rep, w.cause(ctx)
		}
	}
	return *w.rep, nil
}

// isOpen reports an intent that has no outcome now.
func (d *Disposer) isOpen(ctx context.Context, number int64) (bool, error) {
	for e, err := range d.c.Ledger.OpenIntents(ctx) {
		if err != nil || e.Number >= number {
			return e.Number == number, err
		}
	}
	return false, nil
}

// work makes what the batches of one disposal share.
func (d *Disposer) work(x Disposal) *work {
	g := &grounds{facts: x.Facts, tell: x.Tell}
	if d.c.Who != "" {
		g.secrets = []ledger.Secret{{Name: "who", Text: d.c.Who}}
	}
	r := &run{id: d.id, mode: "dispose", policy: &policy.Policy{}, plan: &plan.Plan{}, c: d.c, stores: make(map[string]store), grounds: g,
		voice: voice{observe: d.c.Observe, run: safe(d.id), request: requestOf(d.c.Ledger, d.c.RequestID)}}
	for name, s := range d.c.Stores {
		r.stores[name] = store{s}
	}
	rule := &policy.Rule{Name: x.Rule, Kind: x.Kind, Store: x.Store}
	return &work{run: r, rule: rule, query: x.Query,
		sum: &plan.RuleSummary{Rule: x.Rule, Kind: x.Kind, Store: x.Store},
		rep: &RuleReport{Rule: x.Rule, Kind: x.Kind, Store: x.Store, Enabled: true,
			Kept: make(map[connector.Reason]int64), Drift: make(map[connector.Reason]int64)}}
}

// cause says why a batch was left.
func (w *work) cause(ctx context.Context) error {
	if err := w.err(); err != nil {
		return err
	}
	return fmt.Errorf("dispose: %w", context.Cause(ctx))
}
