package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/epitaph/epitaph/proof"
)

// ErrEmpty reports that there is nothing to sign or prove.
var ErrEmpty = errors.New("the ledger is empty")

// Signing says who signs a checkpoint and where it goes.
type Signing struct {
	// Signers are the ledger's keys: one, or two while a key is replaced.
	Signers []*proof.Signer
	// Trust checks what was signed before.
	Trust     proof.Trust
	Witnesses []Witness
	Pins      []Pin
}

// Origin returns the origin that checkpoints of this ledger have now: its name,
// and after a fork the name of the fork.
func (l *Ledger) Origin(ctx context.Context) (string, error) {
	forks, err := l.forks(ctx)
	if err != nil {
		return "", err
	}
	return proof.ForkOrigin(l.name, newest(forks)), nil
}

// Name returns the origin under which the ledger was made. A key that signs
// for it bears this name.
func (l *Ledger) Name() string { return l.name }

// Checkpoint signs the ledger as it is, keeps the checkpoint, has it cosigned,
// and pins it. It signs nothing that contradicts what was signed or pinned
// before: then errors.Is(err, ErrAltered) or ErrBehind. Where a witness or a
// pin fails, the checkpoint is returned together with the error.
func (l *Ledger) Checkpoint(ctx context.Context, s Signing) (proof.Signed, error) {
	return l.checkpointAt(ctx, s, l.config.Clock())
}

// checkpointAt signs again where a pin or witness has a longer tree because
// another process signed at the same time, and the ledger has grown since.
func (l *Ledger) checkpointAt(ctx context.Context, s Signing, at time.Time) (signed proof.Signed, err error) {
	const attempts = 4
	for range attempts {
		if signed, err = l.checkpointOnce(ctx, s, at); !errors.Is(err, ErrBehind) || signed.Note == nil {
			break
		}
		var size int64
		if l.read.QueryRowContext(ctx, sizeQuery).Scan(&size) != nil || size <= signed.Size {
			break
		}
	}
	return signed, err
}

func (l *Ledger) checkpointOnce(ctx context.Context, s Signing, at time.Time) (proof.Signed, error) {
	signed, err := l.sign(ctx, s, at)
	if err != nil {
		return proof.Signed{}, fmt.Errorf("checkpoint: %w", err)
	}
	var errs []error
	for _, w := range s.Witnesses {
		n, err := l.cosign(ctx, w, signed)
		if err != nil {
			errs = append(errs, fmt.Errorf("witness %s: %w", w.Name(), err))
			continue
		}
		signed.Note = n
	}
	if len(s.Witnesses) > len(errs) {
		again, err := s.Trust.WithoutQuorum().Open(signed.Note)
		if err != nil {
			return proof.Signed{}, fmt.Errorf("checkpoint: %w", err)
		}
		signed = again
		if err := l.keep(ctx, signed); err != nil {
			return proof.Signed{}, fmt.Errorf("checkpoint: %w", err)
		}
	}
	for _, p := range s.Pins {
		if err := p.Put(ctx, signed.Note); err != nil {
			errs = append(errs, fmt.Errorf("pin %s: %w", p.Name(), err))
		}
	}
	return signed, errors.Join(errs...)
}

// sign returns a checkpoint of the present tree: the newest kept one when the
// tree has not grown since.
func (l *Ledger) sign(ctx context.Context, s Signing, at time.Time) (proof.Signed, error) {
	if l.write == nil {
		return proof.Signed{}, ErrReadOnly
	}
	if err := l.inUse(ctx, s.Signers); err != nil {
		return proof.Signed{}, err
	}
	if err := l.checkPins(ctx, s.Trust, s.Pins); err != nil {
		return proof.Signed{}, err
	}
	forks, err := l.forks(ctx)
	if err != nil {
		return proof.Signed{}, err
	}
	c, last, err := l.head(ctx, forks)
	if err != nil {
		return proof.Signed{}, err
	}
	trust := s.Trust.WithoutQuorum()
	for _, k := range s.Signers {
		trust.Logs = append(trust.Logs, proof.TrustedKey{Key: k.Key()})
	}
	if last != nil {
		old, err := trust.Open(last)
		if err == nil && old.Checkpoint == c && sameSigners(old, s.Signers) {
			return old, nil
		}
	}
	n, err := c.Sign(at, s.Signers...)
	if err != nil {
		return proof.Signed{}, err
	}
	signed, err := trust.Open(n)
	if err != nil {
		return proof.Signed{}, err
	}
	return signed, l.keep(ctx, signed)
}

func sameSigners(s proof.Signed, signers []*proof.Signer) bool {
	for _, want := range signers {
		found := false
		for _, k := range s.By {
			found = found || k.String() == want.Key().String()
		}
		if !found {
			return false
		}
	}
	return true
}

// head computes the checkpoint of the present tree, and returns the newest kept
// note, which the tree must agree with.
func (l *Ledger) head(ctx context.Context, forks []fork) (c proof.Checkpoint, last []byte, err error) {
	tx, err := l.snapshot(ctx)
	if err != nil {
		return c, nil, err
	}
	defer tx.Rollback()
	c.Origin = proof.ForkOrigin(l.name, newest(forks))
	if err := tx.QueryRowContext(ctx, sizeQuery).Scan(&c.Size); err != nil {
		return c, nil, err
	}
	if c.Size == 0 {
		return c, nil, ErrEmpty
	}
	r := treeReader{ctx, tx}
	if c.Root, err = tlog.TreeHash(c.Size, r); err != nil {
		return c, nil, err
	}
	last, old, err := l.lastHeld(ctx, tx, forks)
	if err != nil || last == nil {
		return c, nil, err
	}
	if old.Origin != c.Origin {
		return c, last, nil // of before a fork
	}
	return c, last, compare(r, old, c.Size)
}

// snapshot opens a transaction that sees one state of the ledger.
func (l *Ledger) snapshot(ctx context.Context) (*sql.Tx, error) {
	return l.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: l.isolation()})
}

// lastHeld returns the newest kept checkpoint of history that is still there: one
// that was lost by a fork may be of a longer tree.
func (l *Ledger) lastHeld(ctx context.Context, q querier, forks []fork) (note []byte, c proof.Checkpoint, err error) {
	if note, err = lastNote(ctx, q); err != nil || note == nil {
		return nil, c, err
	}
	c, err = proof.Peek(note)
	if err == nil && !explained(l.name, forks, c) {
		return note, c, nil
	}
	rows, err := q.QueryContext(ctx, "SELECT note FROM checkpoints WHERE octet_length(note) <= 65536 ORDER BY size DESC, id DESC")
	if err != nil {
		return nil, c, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&note); err != nil {
			return nil, c, err
		}
		if c, err = proof.Peek(note); err != nil {
			return nil, c, fmt.Errorf("%w: the newest kept checkpoint cannot be read", ErrAltered)
		}
		if !explained(l.name, forks, c) {
			return note, c, nil
		}
	}
	return nil, c, rows.Err()
}

func lastNote(ctx context.Context, q querier) ([]byte, error) {
	var text []byte
	err := q.QueryRowContext(ctx, "SELECT note FROM checkpoints WHERE octet_length(note) <= 65536 ORDER BY size DESC, id DESC LIMIT 1").Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return text, err
}

// compare checks that the tree, of that size, begins with the checkpoint's.
func compare(r tlog.HashReader, c proof.Checkpoint, size int64) error {
	if c.Size > size {
		return fmt.Errorf("%w: it has %d entries, and a checkpoint has %d", ErrBehind, size, c.Size)
	}
	if c.Size == 0 {
		return nil
	}
	root, err := tlog.TreeHash(c.Size, r)
	if err != nil {
		return err
	}
	if root != c.Root {
		return fmt.Errorf("%w: its first %d entries are not those that were signed", ErrAltered, c.Size)
	}
	return nil
}

// keep stores a checkpoint in the ledger.
func (l *Ledger) keep(ctx context.Context, s proof.Signed) error {
	tx, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	_, err = tx.ExecContext(ctx, "INSERT INTO checkpoints (id, size, note) SELECT coalesce(max(id), 0) + 1, $1, $2 FROM checkpoints", s.Size, string(s.Note))
	if err != nil {
		return err
	}
	return tx.Commit()
}

// Checkpoints returns the notes that are kept, the oldest first, unchecked.
func (l *Ledger) Checkpoints(ctx context.Context) (notes [][]byte, err error) {
	err = l.eachNote(ctx, l.read, func(_, _ int64, note []byte) { notes = append(notes, note) })
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	return notes, nil
}

// eachNote visits the kept checkpoints. A note too long to be one is nil.
func (l *Ledger) eachNote(ctx context.Context, q querier, visit func(id, size int64, note []byte)) error {
	rows, err := q.QueryContext(ctx, "SELECT id, size, CASE WHEN octet_length(note) <= 65536 THEN note END FROM checkpoints ORDER BY id")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, size int64
		var note []byte
		if err := rows.Scan(&id, &size, &note); err != nil {
			return err
		}
		visit(id, size, note)
	}
	return rows.Err()
}

// Consistency proves that the tree of the newer size begins with that of the
// older one (RFC 6962, 2.1.2).
func (l *Ledger) Consistency(ctx context.Context, older, newer int64) ([]tlog.Hash, error) {
	if older < 1 || older >= newer {
		return nil, nil // nothing to prove, and the proof must be empty
	}
	tx, err := l.snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	defer tx.Rollback()
	p, err := tlog.ProveTree(newer, older, treeReader{ctx, tx})
	if err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	return p, nil
}
