package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/epitaph/epitaph/proof"
)

// ErrBehind reports that the ledger is shorter than a checkpoint of it: it was
// restored from an old backup, or its end was cut off.
var ErrBehind = errors.New("the ledger is behind a checkpoint of it")

// ErrAltered reports that the ledger is not the one that was signed.
var ErrAltered = errors.New("the ledger was altered")

// ErrMoved reports that the ledger was copied to another database and goes on
// there.
var ErrMoved = errors.New("the ledger was moved to another database")

// fork is what a fork entry says: which checkpoint no longer holds.
type fork struct {
	number     int64
	lostSize   int64
	lostRoot   [32]byte
	generation int64 // the number in the origin of the checkpoints after it
}

func (l *Ledger) forks(ctx context.Context) ([]fork, error) {
	es, err := l.lasting(ctx, Forked)
	if err != nil {
		return nil, err
	}
	return forksOf(l.name, es), nil
}

// forksOf reads fork entries, which come in their order. One that says that an
// earlier fork was lost goes on after the number of that: no origin has two trees.
func forksOf(name string, es []Entry) (list []fork) {
	for _, e := range es {
		f := fork{number: e.Number}
		f.lostSize, _ = e.Int("lost_size")
		f.lostRoot, _ = e.Hash("lost_root")
		lost, _ := e.Code("lost_origin")
		if n, ok := proof.ForkNumber(name, lost); ok {
			f.generation = n
		}
		f.generation = max(f.generation, newest(list)) + 1
		list = append(list, f)
	}
	return list
}

// newest is the number in the origin of checkpoints now: 0 before the first fork.
func newest(forks []fork) int64 {
	if len(forks) == 0 {
		return 0
	}
	return forks[len(forks)-1].generation
}

// explains reports that a checkpoint of an earlier origin no longer holds
// because of this fork, and that someone said so.
func (f fork) explains(c proof.Checkpoint) bool {
	return c.Size >= f.number && c.Size <= f.lostSize || c.Size == f.lostSize && c.Root == f.lostRoot
}

// isOurs reports a checkpoint under an origin that the ledger has or had.
func isOurs(name string, forks []fork, c proof.Checkpoint) bool {
	g, ok := proof.ForkNumber(name, c.Origin)
	return ok && (g == 0 || slices.ContainsFunc(forks, func(f fork) bool { return f.generation == g }))
}

// checkPins compares the ledger with each pinned checkpoint and with the newest
// kept one. Without a trusted key, what is pinned is taken at its word.
func (l *Ledger) checkPins(ctx context.Context, trust proof.Trust, pins []Pin) error {
	var notes [][]byte
	for _, p := range pins {
		note, err := p.Latest(ctx)
		if err != nil {
			return fmt.Errorf("read pinned checkpoint (%s): %w", p.Name(), err)
		}
		if note == nil {
			continue
		}
		if len(trust.Logs) > 0 {
			if _, err := trust.WithoutQuorum().Open(note); err != nil {
				return fmt.Errorf("pinned checkpoint (%s): %w", p.Name(), err)
			}
		}
		notes = append(notes, note)
	}
	_, err := l.behind(ctx, trust, notes)
	return err
}

// signedForks are those under which a checkpoint was signed, and those of this
// process: that history was lost is said by whoever has the key, not by whoever can
// write an entry. Without a trusted key all are believed.
func (l *Ledger) signedForks(ctx context.Context, q querier, trust proof.Trust) ([]fork, error) {
	forks, err := l.forks(ctx)
	if err != nil || len(forks) == 0 || len(trust.Logs) == 0 {
		return forks, err
	}
	note, c, err := l.lastHeld(ctx, q, forks)
	if err != nil {
		return nil, err
	}
	signed := int64(-1)
	if note != nil {
		if _, err := trust.WithoutQuorum().Open(note); err == nil {
			signed, _ = proof.ForkNumber(l.name, c.Origin)
		}
	}
	l.mu.Lock()
	own := l.forked
	l.mu.Unlock()
	return slices.DeleteFunc(forks, func(f fork) bool { return f.generation > signed && f.number > own }), nil
}

// behind returns the longest checkpoint that the ledger does not contain and
// no fork explains, with an error that says which it is. Its origin is the latest of
// all such.
func (l *Ledger) behind(ctx context.Context, trust proof.Trust, notes [][]byte) (worst *proof.Checkpoint, err error) {
	tx, err := l.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	forks, err := l.signedForks(ctx, tx, trust)
	if err != nil {
		return nil, err
	}
	kept, _, err := l.lastHeld(ctx, tx, forks)
	if err != nil {
		return nil, err
	}
	if kept != nil {
		notes = append(notes, kept)
	}
	var size int64
	if err := tx.QueryRowContext(ctx, sizeQuery).Scan(&size); err != nil {
		return nil, err
	}
	var minimum int64
	if err := tx.QueryRowContext(ctx, minimumQuery).Scan(&minimum); err != nil {
		return nil, err
	}
	var latest int64
	for i, note := range notes {
		c, peekErr := proof.Peek(note)
		if peekErr != nil {
			return nil, fmt.Errorf("checkpoint: %w", peekErr)
		}
		pruned := c.Size < minimum && c.Size%blockSize != 0
		if pruned && kept != nil && i == len(notes)-1 || explained(l.name, forks, c) {
			continue
		}
		var cErr error
		if pruned { // whoever has the key could claim to have pruned all that it covers
			cErr = fmt.Errorf("%w: a checkpoint outside of it ends within what was pruned", ErrAltered)
		} else {
			cErr = compare(treeReader{ctx, tx}, c, size)
		}
		if !isOurs(l.name, forks, c) {
			cErr = fmt.Errorf("%w: a checkpoint is of another ledger", ErrBehind)
		}
		if cErr == nil {
			continue
		}
		if g, ok := proof.ForkNumber(l.name, c.Origin); ok {
			latest = max(latest, g)
		}
		if worst == nil || c.Size > worst.Size {
			worst, err = &c, cErr
		}
	}
	if worst != nil {
		worst.Origin = proof.ForkOrigin(l.name, latest)
	}
	return worst, err
}

// explained reports that a fork after the checkpoint's own generation accounts
// for it.
func explained(name string, forks []fork, c proof.Checkpoint) bool {
	g, ok := proof.ForkNumber(name, c.Origin)
	return ok && slices.ContainsFunc(forks, func(f fork) bool { return f.generation > g && f.explains(c) })
}

// Fork says why the ledger is behind a checkpoint, and lets it go on. The reason
// is an entry; from there on, checkpoints have an origin of their own, so that
// nothing is ever signed that contradicts what was signed before. The secrets
// say who and why, such as {"reason", …}.
func (l *Ledger) Fork(ctx context.Context, secrets ...Secret) (number int64, err error) {
	if l.write == nil {
		return 0, ErrReadOnly
	}
	var notes [][]byte
	for _, p := range l.config.Pins {
		note, err := p.Latest(ctx)
		if err != nil {
			return 0, fmt.Errorf("fork: read pinned checkpoint (%s): %w", p.Name(), err)
		}
		if note != nil {
			notes = append(notes, note)
		}
	}
	lost, err := l.behind(ctx, l.config.Trust, notes)
	if lost == nil {
		if err == nil {
			err = errors.New("the ledger agrees with every checkpoint; there is nothing to fork from")
		}
		return 0, fmt.Errorf("fork: %w", err)
	}
	p, err := prepare(&Entry{
		Kind:    Forked,
		Facts:   []Fact{Int("lost_size", lost.Size), Hash("lost_root", lost.Root), Code("lost_origin", lost.Origin)},
		Secrets: secrets,
	}, l.config.Clock(), l.config.Rand)
	if err != nil {
		return 0, fmt.Errorf("fork: %w", err)
	}
	number, err = l.submit(ctx, &request{entries: []*prepared{p}, alone: true, despite: true, turn: make(chan bool, 1)})
	if err == nil {
		l.mu.Lock()
		l.refusal, l.forked = nil, number
		l.mu.Unlock()
	}
	return number, err
}
