package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/epitaph/epitaph/proof"
)

// ErrRetired reports a key that an entry of the ledger says was replaced: what it
// signed from then on would be taken for forged.
var ErrRetired = errors.New("the ledger's key was replaced by another")

// RotateKey replaces the signing key by next. An entry names it, and the
// checkpoint over that entry is signed by both keys, so that whoever trusts the
// old one can come to trust the new one. The caller has stored next durably
// before, and writes the returned keys to the key file; the old private key is
// not in them. When it was cut short, calling it again with the same next goes on
// where it was. s says where the checkpoint goes; its Signers and Trust are
// filled in. A key that was replaced by another than next gives ErrRetired.
func (l *Ledger) RotateKey(ctx context.Context, old *proof.Keys, next *proof.Signer, s Signing, secrets ...Secret) (*proof.Keys, proof.Signed, error) {
	_, said, err := l.successor(ctx, old.Signer.Key())
	if err == nil && said != next.Key().String() {
		var by string
		if by, err = l.Replaced(ctx, old.Signer.Key()); err == nil && by != "" {
			err = ErrRetired
		}
	}
	now := l.config.Clock()
	if err == nil && said != next.Key().String() {
		_, err = l.Append(ctx, Entry{
			At: now, Kind: KeyRotated, Secrets: secrets,
			Facts: []Fact{Code("key", next.Key().String()), Code("retired", old.Signer.Key().String())},
		})
	}
	if err != nil {
		return nil, proof.Signed{}, fmt.Errorf("rotate key: %w", err)
	}
	keys := old.Rotate(next, now)
	s.Signers, s.Trust.Logs = []*proof.Signer{old.Signer, next}, keys.Trust().Logs
	c, err := l.checkpointAt(ctx, s, now)
	if err != nil && c.Note == nil {
		return nil, c, fmt.Errorf("rotate key: %w", err)
	}
	return keys, c, err
}

// successor returns the newest entry that says that another key took the place of
// a key, and which; 0 when none does.
func (l *Ledger) successor(ctx context.Context, key proof.Key) (number int64, next string, err error) {
	es, err := l.lasting(ctx, KeyRotated)
	if err != nil {
		return 0, "", fmt.Errorf("read rotations of the key: %w", err)
	}
	for _, e := range slices.Backward(es) {
		if was, _ := e.Code("retired"); was == key.String() {
			next, _ = e.Code("key")
			return e.Number, next, nil
		}
	}
	return 0, "", nil
}

// Replaced returns the public key that took the place of a key: an entry says so,
// and a kept checkpoint over it is signed by both. "" when none did. An entry alone
// can be written by anybody who writes to the ledger.
func (l *Ledger) Replaced(ctx context.Context, key proof.Key) (string, error) {
	number, by, err := l.successor(ctx, key)
	if err != nil || number == 0 {
		return "", err
	}
	next, err := proof.ParseKey(by)
	if err != nil {
		return "", nil // no key took its place
	}
	rows, err := l.read.QueryContext(ctx, "SELECT note FROM checkpoints WHERE size >= $1 AND octet_length(note) <= 65536 ORDER BY size, id LIMIT 100", number)
	if err != nil {
		return "", fmt.Errorf("read rotations of the key: %w", err)
	}
	defer rows.Close()
	trust := proof.Trust{Logs: []proof.TrustedKey{{Key: key}, {Key: next}}}
	for rows.Next() {
		var note []byte
		if err := rows.Scan(&note); err != nil {
			return "", fmt.Errorf("read rotations of the key: %w", err)
		}
		if s, err := trust.Open(note); err == nil && len(s.By) == len(trust.Logs) {
			return by, nil
		}
	}
	return "", rows.Err()
}

// inUse refuses to sign with a key that was replaced, but in the checkpoint that
// its successor signs too.
func (l *Ledger) inUse(ctx context.Context, signers []*proof.Signer) error {
	for _, s := range signers {
		by, err := l.Replaced(ctx, s.Key())
		if err != nil {
			return err
		}
		together := by == ""
		for _, other := range signers {
			together = together || other.Key().String() == by
		}
		if !together {
			return ErrRetired
		}
	}
	return nil
}
