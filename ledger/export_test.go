package ledger

import (
	"context"
	"fmt"
	"time"
)

// Wait sets how long a SQLite ledger waits for somebody who is in its way, for
// tests in which he does not go.
func (l *Ledger) Wait(ctx context.Context, most time.Duration) error {
	_, err := l.write.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", most.Milliseconds()))
	return err
}
