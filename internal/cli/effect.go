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
	registered := false
	for _, err := range l.Entries(ctx, ledger.Filter{Kinds: []ledger.Kind{ledger.CustodyOperations}, Limit: 1}) {
		if err != nil {
			return 0, err
		}
		registered = true
	}
	if !registered {
		return 0, nil
	}
	c, err := custody.Open(ctx, custody.Options{Ledger: l, Cache: custodyCache(k), OneHost: strings.HasPrefix(k.dsn, "sqlite:"), Clock: a.env.Now, Who: a.who()})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if oldest, _, err = c.OldestInEffect(ctx, since); err != nil {
		return 0, err
	}
	return oldest, nil
}

// custodyCache is where the state of tracked files is kept for a ledger.
func custodyCache(k *keeping) string {
	if path, ok := strings.CutPrefix(k.dsn, "sqlite:"); ok {
		return strings.TrimPrefix(path, "//") + ".custody"
	}
	return filepath.Join(filepath.Dir(k.besidePath), ".epitaph.custody")
}
