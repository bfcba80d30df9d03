package ledger

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/epitaph/epitaph/proof"
)

// ErrNoCheckpoint reports that what is to be proven is newer than the newest
// checkpoint.
var ErrNoCheckpoint = errors.New("no checkpoint covers it yet")

// ErrNotFound reports that the ledger knows nothing of what was asked for.
var ErrNotFound = errors.New("not in the ledger")

// prover makes receipts under one checkpoint, in one snapshot.
type prover struct {
	treeReader
	note []byte
	size int64
}

func (l *Ledger) newProver(ctx context.Context) (p *prover, done func() error, err error) {
	forks, err := l.forks(ctx)
	if err != nil {
		return nil, nil, err
	}
	tx, err := l.snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	note, c, err := l.lastHeld(ctx, tx, forks)
	if err == nil && note == nil {
		err = ErrNoCheckpoint
	}
	if err != nil {
		return nil, nil, errors.Join(err, tx.Rollback())
	}
	return &prover{treeReader{ctx, tx}, note, c.Size}, tx.Rollback, nil
}

// inclusion proves one entry.
func (p *prover) inclusion(number int64) (proof.Inclusion, *record, error) {
	if number > p.size {
		return proof.Inclusion{}, nil, ErrNoCheckpoint
	}
	in := proof.Inclusion{Index: number - 1}
	err := readEntries(p.ctx, p.q, span{number, number}, false, func(_ int64, body string, _ []byte) error {
		in.Body = []byte(body)
		return nil
	})
	if err == nil && in.Body == nil {
		err = fmt.Errorf("entry %d: %w", number, ErrNotFound)
	}
	if err == nil {
		in.Path, err = tlog.ProveRecord(p.size, number-1, p)
	}
	var r record
	if err == nil {
		err = decodeRecord(string(in.Body), &r)
	}
	return in, &r, err
}

// ProveEntry returns a receipt for an entry, by its number.
func (l *Ledger) ProveEntry(ctx context.Context, number int64) (*proof.Receipt, error) {
	return l.prove(ctx, func(p *prover) (*proof.Receipt, error) {
		in, _, err := p.inclusion(number)
		return &proof.Receipt{Entries: []proof.Inclusion{in}, Checkpoint: p.note}, err
	})
}

func (l *Ledger) prove(ctx context.Context, f func(p *prover) (*proof.Receipt, error)) (*proof.Receipt, error) {
	p, done, err := l.newProver(ctx)
	if err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	defer done()
	r, err := f(p)
	if err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	return r, nil
}

// ProveRun returns a receipt for a run: that it finished, and that it started.
// A run that was cut short is shown by its start alone.
func (l *Ledger) ProveRun(ctx context.Context, run string) (*proof.Receipt, error) {
	var numbers []int64
	for e, err := range l.Entries(ctx, Filter{Run: run, Kinds: []Kind{RunStarted, RunFinished}, Newest: true}) {
		if err != nil {
			return nil, fmt.Errorf("prove: %w", err)
		}
		numbers = append(numbers, e.Number)
	}
	if len(numbers) == 0 || run == "" {
		return nil, fmt.Errorf("prove: the run is %w", ErrNotFound)
	}
	return l.prove(ctx, func(p *prover) (*proof.Receipt, error) {
		r := &proof.Receipt{Checkpoint: p.note}
		for _, n := range numbers {
			in, _, err := p.inclusion(n)
			if err != nil {
				return nil, err
			}
			r.Entries = append(r.Entries, in)
		}
		return r, nil
	})
}

// ProveItem returns a receipt for each intent that names the item, by its id or
// locator or that of a part, oldest first: the outcome with the item's result,
// and the intent with the item. With show, the receipt tells the item in the
// clear; without, only its place in the batch. An intent that is still open is
// shown alone.
func (l *Ledger) ProveItem(ctx context.Context, item string, show bool) ([]*proof.Receipt, error) {
	var receipts []*proof.Receipt
	maybe, err := l.findItem(ctx, &Filter{Item: item}, span{1, maxNumber})
	if err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	for _, n := range maybe {
		if n.record.batch != itemBatch {
			continue
		}
		outcomes, err := l.answers(ctx, n.number)
		if err != nil {
			return nil, fmt.Errorf("prove: %w", err)
		}
		s, err := loadSealed(ctx, l.read, n.number, &n.record)
		if err != nil {
			return nil, fmt.Errorf("prove: %w", err)
		}
		places, err := s.find(item, n.record.store)
		if err != nil {
			return nil, fmt.Errorf("prove: %w", err)
		}
		for _, place := range places {
			r, err := l.proveItem(ctx, n.number, outcomes, place, s.items[place], show)
			if err != nil {
				return nil, err
			}
			receipts = append(receipts, r)
		}
	}
	if len(receipts) == 0 {
		return nil, fmt.Errorf("prove: the item is %w", ErrNotFound)
	}
	return receipts, nil
}

const maxNumber = 1<<62 - 1

func (l *Ledger) proveItem(ctx context.Context, intent int64, outcomes []int64, place int, slot sealedSlot, show bool) (*proof.Receipt, error) {
	return l.prove(ctx, func(p *prover) (*proof.Receipt, error) {
		r := &proof.Receipt{Checkpoint: p.note}
		for i := len(outcomes) - 1; i >= 0; i-- {
			in, rec, err := p.inclusion(outcomes[i])
			if err != nil {
				return nil, err
			}
			if in.Leaf, err = p.resultLeaf(outcomes[i], rec, place); err != nil {
				return nil, err
			}
			r.Entries = append(r.Entries, in)
		}
		in, rec, err := p.inclusion(intent)
		if err != nil {
			return nil, err
		}
		if in.Leaf, err = p.itemLeaf(intent, rec, place, slot, show); err != nil {
			return nil, err
		}
		r.Entries = append(r.Entries, in)
		return r, nil
	})
}

func (p *prover) blob(number int64) (blob []byte, err error) {
	err = p.q.QueryRowContext(p.ctx, "SELECT blob FROM leaves WHERE number = $1", number).Scan(&blob)
	if err != nil {
		err = fmt.Errorf("leaves of entry %d: %w", number, err)
	}
	return blob, err
}

func (p *prover) resultLeaf(number int64, r *record, place int) (*proof.Leaf, error) {
	if r.batch != resultBatch || place >= r.count {
		return nil, nil
	}
	blob, err := p.blob(number)
	if err != nil {
		return nil, err
	}
	results, err := decodeResults(blob, r.count)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", number, err)
	}
	_, leaves := encodeResults(r.refers, results)
	return &proof.Leaf{Index: int64(place), Result: appendResult(nil, &results[place]), Path: batchPath(leaves, place)}, nil
}

func (p *prover) itemLeaf(number int64, r *record, place int, slot sealedSlot, show bool) (*proof.Leaf, error) {
	blob, err := p.blob(number)
	if err != nil {
		return nil, err
	}
	if len(blob) != 32*r.count || place >= r.count {
		return nil, fmt.Errorf("leaves of entry %d are malformed", number)
	}
	leaves := make([]tlog.Hash, r.count)
	for i := range leaves {
		leaves[i] = leafHash(blob[32*i : 32*i+32])
	}
	l := &proof.Leaf{Index: int64(place), Path: batchPath(leaves, place)}
	if show && slot.salt != nil {
		l.Opening = &proof.Opening{Salt: slot.salt, Item: slot.text}
	} else {
		c := [32]byte(blob[32*place : 32*place+32])
		l.Commitment = &c
	}
	return l, nil
}

// batchPath is the inclusion proof (RFC 6962, 2.1.1) of a leaf, from the leaf up.
// It overwrites the hashes.
func batchPath(h []tlog.Hash, place int) (path []tlog.Hash) {
	for n := len(h); n > 1; n = (n + 1) / 2 {
		if sibling := place ^ 1; sibling < n {
			path = append(path, h[sibling])
		}
		for i := 0; i+1 < n; i += 2 {
			h[i/2] = tlog.NodeHash(h[i], h[i+1])
		}
		if n%2 == 1 {
			h[n/2] = h[n-1]
		}
		place /= 2
	}
	return path
}
