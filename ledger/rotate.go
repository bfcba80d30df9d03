package ledger

import (
	"context"
	"fmt"

	"github.com/epitaph/epitaph/proof"
)

// RotateKey makes a new signing key. An entry names it, and the checkpoint over
// that entry is signed by both keys, so that whoever trusts the old one can
// come to trust the new one. The caller writes the returned keys to the key
// file; the old private key is not in them. s says where the checkpoint goes; its
// Signers and Trust are filled in.
func (l *Ledger) RotateKey(ctx context.Context, old *proof.Keys, s Signing, secrets ...Secret) (*proof.Keys, proof.Signed, error) {
	signer, err := proof.NewSigner(l.name, l.config.Rand)
	if err != nil {
		return nil, proof.Signed{}, fmt.Errorf("rotate key: %w", err)
	}
	now := l.config.Clock()
	keys := old.Rotate(signer, now)
	_, err = l.Append(ctx, Entry{
		At: now, Kind: KeyRotated, Secrets: secrets,
		Facts: []Fact{Code("key", signer.Key().String()), Code("retired", old.Signer.Key().String())},
	})
	if err != nil {
		return nil, proof.Signed{}, fmt.Errorf("rotate key: %w", err)
	}
	s.Signers, s.Trust.Logs = []*proof.Signer{old.Signer, signer}, keys.Trust().Logs
	c, err := l.checkpointAt(ctx, s, now)
	if err != nil && c.Note == nil {
		return nil, c, fmt.Errorf("rotate key: %w", err)
	}
	return keys, c, err
}
