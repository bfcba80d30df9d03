// Package rows is the connector for tables in SQLite, PostgreSQL, MySQL and MariaDB.
package rows

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// Options are the settings of a database. The zero value is fit for use.
type Options struct {
	// ReadOnly makes a connector that cannot delete: its sessions are read-only
	// and its claims refuse every item. The planner uses it.
	ReadOnly bool
	// Chunk is the number of rows read at once by a scan; default 2000.
	Chunk int
	// LockTimeout is the longest wait for a lock; default 5 seconds.
	LockTimeout time.Duration
	// StatementTimeout is the longest run of one statement of a claim; default
	// one minute.
	StatementTimeout time.Duration
}

// Connector is one database. It is safe for concurrent use.
type Connector struct{ at address }

var _ connector.Connector = (*Connector)(nil)

var errNotYet = errors.New("database not reached")

// Open reads the DSN and connects when first needed, so a database that is
// down is Unknown to every question rather than an error here.
func Open(_ context.Context, dsn string, _ Options) (*Connector, error) {
	at, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	return &Connector{at: at}, nil
}

// Close ends all connections.
func (c *Connector) Close() error { return nil }

// Check implements [connector.Connector].
func (c *Connector) Check(context.Context, *connector.Query) ([]connector.Finding, error) {
	return nil, errNotYet
}

// Scan implements [connector.Connector].
func (c *Connector) Scan(context.Context, *connector.Query, *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) { yield(connector.Item{}, errNotYet) }
}

// Probe implements [connector.Connector].
func (c *Connector) Probe(_ context.Context, at []connector.Locator) []connector.Result {
	return unreachable(len(at), errNotYet)
}

// Claim implements [connector.Connector].
func (c *Connector) Claim(_ context.Context, _ *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	return nothing{}, unreachable(len(items), errNotYet)
}

// unreachable answers n questions that could not be asked.
func unreachable(n int, err error) []connector.Result {
	rs := make([]connector.Result, n)
	for i := range rs {
		rs[i] = connector.Result{Reason: connector.Unreachable, Err: err}
	}
	return rs
}

// nothing is the claim on no item.
type nothing struct{}

func (nothing) Erase(_ context.Context, which []int) connector.Erased {
	return connector.Erased{Results: unreachable(len(which), errNotClaimed)}
}

func (nothing) Release() error { return nil }

var errNotClaimed = errors.New("item was not claimed")
