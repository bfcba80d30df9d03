package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
)

// oldestTracked returns the oldest entry on which a file rests that is tracked;
// 0 when there is none. A ledger in which no file was ever registered is not asked
// further.
func (a *app) oldestTracked(ctx context.Context, k *keeping, l *ledger.Ledger, since time.Time) (oldest int64, err error) {
	c, err := a.custodyBeside(ctx, k, l)
	if c == nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if oldest, _, err = c.OldestInEffect(ctx, since); err != nil {
		return 0, err
	}
	return oldest, nil
}

// custodyBeside opens the custody of a ledger, without stores. It is nil where no
// file was ever registered.
func (a *app) custodyBeside(ctx context.Context, k *keeping, l *ledger.Ledger) (*custody.Custody, error) {
	registered := false
	for _, err := range l.Entries(ctx, ledger.Filter{Kinds: []ledger.Kind{ledger.CustodyOperations}, Limit: 1}) {
		if err != nil {
			return nil, err
		}
		registered = true
	}
	if !registered {
		return nil, nil
	}
	return custody.Open(ctx, custody.Options{Ledger: l, Cache: custodyCache(k), OneHost: strings.HasPrefix(k.dsn, "sqlite:"), Clock: a.env.Now, Who: a.who()})
}

// trackedNames returns a function that reports the names of files that must be
// gone and are not known to be, nil where there are none, and one that ends its use.
func (a *app) trackedNames(ctx context.Context, k *keeping, l *ledger.Ledger) (keep func(ledger.Kind, int64, int, ledger.Item) bool, done func() error, err error) {
	c, err := a.custodyBeside(ctx, k, l)
	if c == nil {
		return nil, func() error { return nil }, err
	}
	if keep, err = c.InEffect(ctx); err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return keep, c.Close, nil
}

// custodyCache is where the state of tracked files is kept for a ledger.
func custodyCache(k *keeping) string {
	if path, ok := strings.CutPrefix(k.dsn, "sqlite:"); ok {
		return strings.TrimPrefix(path, "//") + ".custody"
	}
	return filepath.Join(filepath.Dir(k.besidePath), ".epitaph.custody")
}
