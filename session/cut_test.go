package session_test

import (
	"context"
	"errors"

	"github.com/epitaph/epitaph/ledger"
)

// cut is a ledger to which nothing can be written. It remembers the fingerprint
// of the last thing that somebody tried to begin.
type cut struct {
	*ledger.Ledger
	print string
}

var errCut = errors.New("the ledger is cut off")

func (c *cut) Append(_ context.Context, es ...ledger.Entry) (int64, error) {
	for _, e := range es {
		if len(e.Items) > 0 {
			c.print = e.Items[0].Print
		}
	}
	return 0, errCut
}
