package ledger

import (
	"cmp"
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

// Pruning says what may go from the beginning of a ledger.
type Pruning struct {
	// Before is the age: an entry goes only when it is older, and last was in
	// effect before.
	Before time.Time
	// Tracked is the oldest entry on which a file rests that is still tracked, or
	// was until after Before, as custody knows it. It stays, and all after it. 0:
	// there is none.
	Tracked int64
	// Dry tells what would go, and touches nothing.
	Dry bool
	// Secrets of the entry that says so: who, and why.
	Secrets []Secret
}

// PruneReport is what went, and what was old enough to go and stayed.
type PruneReport struct {
	// Entries is how many went; with Dry, how many would.
	Entries int64
	// Held is the oldest entry that is older than Before and in effect after it:
	// it stays, and all after it. 0: age alone decided.
	Held int64
	By   Effect
}

// Prune lets go of the entries at the beginning that are all older than the
// instant, in whole blocks of 256, up to the oldest that is still in effect; see
// [Effect]. The pruning is itself an entry, which holds the root of what was
// pruned, and says again what forks and the key's last rotation said that go with it:
// they hold for ever. The tree does not change: checkpoints, and proofs of the entries that
// stay, remain valid. When it returns nil, nothing of what was pruned, now or
// before, is left in the database's own files; with ErrCopiesLeft the entries
// went, and the next Prune tries again, also if nothing more is to go.
func (l *Ledger) Prune(ctx context.Context, p Pruning) (PruneReport, error) {
	if l.write == nil && !p.Dry {
		return PruneReport{}, ErrReadOnly
	}
	r, err := l.prune(ctx, &p)
	if err != nil {
		return PruneReport{}, fmt.Errorf("prune: %w", err)
	}
	return r, nil
}

func (l *Ledger) prune(ctx context.Context, p *Pruning) (r PruneReport, err error) {
	old, err := l.Minimum(ctx)
	if err != nil {
		return r, err
	}
	minimum, err := l.prunable(ctx, p, &r)
	if err != nil {
		return r, err
	}
	r.Entries = max(0, minimum-old)
	switch {
	case p.Dry || r.Entries == 0 && old == 0:
		return r, nil
	case r.Entries == 0: // one that was cut short may have left copies
		return r, l.Scrub(ctx)
	}
	root, err := tlog.TreeHash(minimum, treeReader{ctx, l.read})
	if err != nil {
		return r, err
	}
	facts := []Fact{Int("minimum", minimum), Instant("before", p.Before), Hash("root", root)}
	if r.Held > 0 {
		facts = append(facts, Int("held", r.Held), Code("held_by", string(r.By)))
	}
	sealing, err := lastSealing(ctx, l.read)
	if err != nil {
		return r, err
	}
	last, err := lastPruning(ctx, l.read)
	if err != nil {
		return r, err
	}
	es, err := l.toCarry(ctx, minimum)
	if err != nil {
		return r, err
	}
	again, texts := sayAgain(es)
	facts = append(facts, again...)
	entry, err := prepare(&Entry{Kind: Pruned, Secrets: append(texts, p.Secrets...), Facts: facts}, l.config.Clock(), l.config.Rand)
	if err != nil {
		return r, err
	}
	_, err = l.submit(ctx, &request{
		entries: []*prepared{entry}, alone: true, turn: make(chan bool, 1),
		within: func(ctx context.Context, tx *txn, first int64) error {
			if now, err := lastSealing(ctx, tx); err != nil || now != sealing {
				return cmp.Or(err, errors.New("texts were sealed off meanwhile, maybe one that would be said again; run it again"))
			}
			if now, err := lastPruning(ctx, tx); err != nil || now != last {
				return cmp.Or(err, errors.New("others pruned meanwhile, maybe what would be said again; run it again"))
			}
			return tx.prune(ctx, first, minimum)
		},
	})
	if err != nil {
		return r, err
	}
	return r, l.Scrub(ctx)
}

// prunable is how many entries at the beginning may go. It writes into r what
// holds the next.
func (l *Ledger) prunable(ctx context.Context, p *Pruning, r *PruneReport) (int64, error) {
	if p.Before.IsZero() {
		return 0, errors.New("no instant given")
	}
	var block int64
	err := l.read.QueryRowContext(ctx, `SELECT coalesce((SELECT min(block) FROM blocks WHERE last_at >= $1),
		(SELECT max(block) + 1 FROM blocks), 0)`, p.Before.UnixMicro()).Scan(&block)
	if err != nil {
		return 0, err
	}
	old := block * blockSize
	if r.Held, r.By, err = l.inEffect(ctx, old, p.Tracked); err != nil {
		return 0, err
	}
	if r.Held > 0 {
		return (r.Held - 1) / blockSize * blockSize, nil
	}
	return old, nil
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
