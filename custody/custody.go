package custody

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"

	"github.com/epitaph/epitaph/owner"
)

// Rule is the name under which the ledger keeps disposals and incidents of
// tracked files.
const Rule = "custody"

// Options are what a Custody gets from outside. Ledger and Cache are needed.
type Options struct {
	// Ledger takes the operations. It must be writable to track anything.
	Ledger purge.Ledger
	// Cache is the path of the state's cache, a SQLite file that is made when it is
	// absent and can be deleted at any time.
	Cache   string
	Stores  []Store
	Actions []Action // besides those built in
	Clock   func() time.Time
	Rand    io.Reader
	// Host is the name by which this host is known to those who share the ledger,
	// and Role what it is there for; they stand in every operation that gives none.
	// Host defaults to the name of this host.
	Host, Role string
	// OneHost says that every program with this ledger runs on one host, whatever
	// name it has, so that a path is the same file to all. Otherwise a file in a
	// directory that is not shared can be looked at from its own host only.
	OneHost bool
	// Owner answers for files of operations that give no owner. The zero Owner
	// stands for this process.
	Owner owner.Process
	// Lease is one that this process holds, for the Owner that stands for it.
	Lease owner.Lease
	// Who asked, for the sealed part of entries.
	Who string
	// Paused reports a store in which nothing is disposed of for now: its files stay,
	// count no attempt, and are called InUse. Nil: none.
	Paused func(store string) bool
	// MostUntracked is the most untracked files that one Dispose takes: 10,000
	// unless given, and negative for no limit. AnyLedger lets it take those of a
	// store in which the ledger never tracked a file; else a ledger that was lost
	// would make orphans of all.
	MostUntracked int64
	AnyLedger     bool
	// ClockJump is how far the clock may stand after the ledger's newest entry for
	// Run and Dispose to take anything, and for Verify to record what it saw, as
	// [purge.ClockJump] says; AnyClock lifts that. A clock that was set ahead makes
	// everything due.
	ClockJump policy.Period
	AnyClock  bool
	// Observe gets the events of disposals; nil for nobody.
	Observe func(purge.Event)
}

// Custody is open on a ledger. Its methods may be called concurrently, and other
// processes may have the same ledger and cache open.
type Custody struct {
	o     Options
	words *Vocabulary
	me    owner.Process // this process
	state *projection
}

// Open opens the custody of a ledger.
func Open(ctx context.Context, o Options) (*Custody, error) {
	if o.Ledger == nil || o.Cache == "" {
		return nil, errors.New("open custody: a ledger and a place for the cache are needed")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Host == "" {
		o.Host, _ = os.Hostname() // an owner without a host is an unknown one
	}
	words, err := NewVocabulary(o.Actions...)
	if err != nil {
		return nil, fmt.Errorf("open custody: %w", err)
	}
	c := &Custody{o: o, words: words}
	c.o.Stores = make([]Store, len(o.Stores))
	for i, s := range o.Stores {
		if s.Root != "" {
			if s.Root, err = filepath.Abs(s.Root); err != nil {
				return nil, fmt.Errorf("open custody: %w", err)
			}
			if real, err := filepath.EvalSymlinks(s.Root); err == nil {
				s.Root = real
			}
		}
		if s.Root != "" && !s.Shared {
			s.host = o.Host
		}
		c.o.Stores[i] = s
	}
	// Where the system does not tell of processes, owners stay unknown.
	c.me, _ = owner.Of(c.o.Host, os.Getpid())
	if c.o.Owner == (owner.Process{}) {
		c.o.Owner = c.me
		c.o.Owner.Lease = o.Lease
	}
	if c.state, err = openProjection(ctx, &c.o); err != nil {
		return nil, fmt.Errorf("open custody: %w", err)
	}
	return c, nil
}

// Close lets go of the cache. The ledger is the caller's.
func (c *Custody) Close() error { return c.state.close() }

// Vocabulary returns the actions that are known.
func (c *Custody) Vocabulary() *Vocabulary { return c.words }

// Life says what this process can know of an owner.
func (c *Custody) Life(o owner.Process) owner.Life { return c.me.Life(o) }

func (c *Custody) store(name string) (Store, bool) {
	for _, s := range c.o.Stores {
		if s.Name == name {
			return s, true
		}
	}
	return Store{}, false
}

// common reports a store that is known to be the same from every host.
func (o *Options) common(store string) bool {
	for i := range o.Stores {
		if o.Stores[i].Name == store {
			return o.Stores[i].host == ""
		}
	}
	return false
}

// elsewhere reports a place that can be looked at from another host only.
func (c *Custody) elsewhere(p place) bool {
	return p.host != "" && p.host != c.o.Host && !c.o.OneHost && !c.o.common(p.store)
}

func (c *Custody) now() time.Time { return c.o.Clock().UTC().Truncate(time.Microsecond) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// pathless takes the path out of an error: it may not reach a log.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return err
}
