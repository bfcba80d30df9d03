package custody

import (
	"context"
	"fmt"
	"strings"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/purge"
)

// Interlock stops a disposal before the first deletion.
type Interlock struct {
	// Store is set when the ledger never tracked a file in it; else there are more
	// Files than Limit.
	Store        string
	Files, Limit int64
}

// Error names stores and numbers only.
func (i *Interlock) Error() string {
	if i.Store != "" {
		return "the ledger never tracked a file in store " + i.Store + ", so that all in it would go"
	}
	return fmt.Sprintf("%d untracked files would go, the limit is %d", i.Files, i.Limit)
}

// clock stops a disposal, or a record of what was seen, by a clock that jumped.
func (c *Custody) clock(ctx context.Context) error {
	if c.o.AnyClock {
		return nil
	}
	stop, err := purge.ClockJump(ctx, c.o.Ledger, c.now(), c.o.ClockJump)
	if stop != nil {
		return stop
	}
	return err
}

// guard stops a disposal that would take what it should not: with a wrong ledger, or
// a new one, every file looks untracked.
func (c *Custody) guard(ctx context.Context, orphans []Orphan) error {
	byStore := map[string]int64{}
	var all int64
	for _, o := range orphans {
		if o.Kind == Untracked {
			byStore[o.Store]++
			all++
		}
	}
	limit := c.o.MostUntracked
	if limit == 0 {
		limit = 10_000
	}
	if limit > 0 && all > limit {
		return &Interlock{Files: all, Limit: limit}
	}
	if c.o.AnyLedger || all == 0 {
		return nil
	}
	for f, err := range c.files(ctx, "1", nil) {
		if err != nil {
			return err
		}
		if delete(byStore, f.Store); len(byStore) == 0 {
			return nil
		}
	}
	for _, name := range sortedKeys(byStore) {
		return &Interlock{Store: name, Files: byStore[name]}
	}
	return nil
}

// lifted says, for the record, what of the guard was lifted.
func (c *Custody) lifted() []ledger.Fact {
	var names []string
	if c.o.MostUntracked < 0 {
		names = append(names, "items")
	}
	if c.o.AnyLedger {
		names = append(names, "ledger")
	}
	if c.o.AnyClock {
		names = append(names, "clock")
	}
	if len(names) == 0 {
		return nil
	}
	return []ledger.Fact{ledger.Code("allow", strings.Join(names, "+"))}
}
