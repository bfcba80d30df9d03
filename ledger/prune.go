package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Minimum returns how many entries at the beginning were pruned: the minimum
// index of C2SP tlog-tiles.
func (l *Ledger) Minimum(ctx context.Context) (n int64, err error) {
	err = l.read.QueryRowContext(ctx, minimumQuery).Scan(&n)
	return n, err
}

// Prune lets go of the entries at the beginning that are all older than the
// instant, in whole blocks of 256, up to the oldest open intent. The pruning is
// itself an entry, which holds the root of what was pruned. The tree does not
// change: checkpoints, and proofs of the entries that stay, remain valid. It
// returns how many entries were pruned; with dry, how many would be.
func (l *Ledger) Prune(ctx context.Context, before time.Time, dry bool, secrets ...Secret) (pruned int64, err error) {
	if l.write == nil && !dry {
		return 0, ErrReadOnly
	}
	old, err := l.Minimum(ctx)
	if err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	minimum, err := l.prunable(ctx, before)
	if err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	if minimum <= old || dry {
		return max(0, minimum-old), nil
	}
	root, err := tlog.TreeHash(minimum, treeReader{ctx, l.read})
	if err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	p, err := prepare(&Entry{Kind: Pruned, Secrets: secrets, Facts: []Fact{
		Int("minimum", minimum), Instant("before", before), Hash("root", root),
	}}, l.config.Clock(), l.config.Rand)
	if err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	_, err = l.submit(ctx, &request{
		entries: []*prepared{p}, alone: true, turn: make(chan bool, 1),
		within: func(ctx context.Context, tx *txn, first int64) error { return tx.prune(ctx, first, minimum) },
	})
	if err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	return minimum - old, l.Scrub(ctx)
}

// prunable is the largest number of entries at the beginning that may go.
func (l *Ledger) prunable(ctx context.Context, before time.Time) (int64, error) {
	if before.IsZero() {
		return 0, errors.New("no instant given")
	}
	var block, open int64
	err := l.read.QueryRowContext(ctx, `SELECT coalesce((SELECT min(block) FROM blocks WHERE last_at >= $1),
		(SELECT max(block) + 1 FROM blocks), 0)`, before.UnixMicro()).Scan(&block)
	if err != nil {
		return 0, err
	}
	err = l.read.QueryRowContext(ctx, "SELECT coalesce(min(number), 0) FROM open_intents").Scan(&open)
	if open > 0 {
		block = min(block, (open-1)/blockSize)
	}
	return block * blockSize, err
}

func (t *txn) prune(ctx context.Context, entry, minimum int64) error {
	var open int64
	if err := t.QueryRowContext(ctx, "SELECT count(*) FROM open_intents WHERE number <= $1", minimum).Scan(&open); err != nil {
		return err
	}
	if open > 0 {
		return errors.New("an intent was opened meanwhile")
	}
	if err := t.exec(ctx, "INSERT INTO prunes (entry, minimum) VALUES ($1, $2)", entry, minimum); err != nil {
		return err
	}
	for _, query := range []string{
		"DELETE FROM sealed WHERE number <= $1", "DELETE FROM lookup WHERE number <= $1",
		"DELETE FROM leaves WHERE number <= $1", "DELETE FROM answers WHERE intent <= $1",
		"DELETE FROM entries WHERE number <= $1", "DELETE FROM clues WHERE number <= $1",
	} {
		if !t.l.clued && strings.Contains(query, "clues") {
			continue
		}
		if err := t.exec(ctx, query, minimum); err != nil {
			return err
		}
	}
	for _, query := range []string{"DELETE FROM blocks WHERE block < $1", "DELETE FROM marks WHERE block < $1"} {
		if err := t.exec(ctx, query, minimum/blockSize); err != nil {
			return err
		}
	}
	return nil
}
