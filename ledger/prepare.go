package ledger

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// prepared is an entry ready to be written: all that costs time is done
// before the writer's turn.
type prepared struct {
	record
	body   []byte
	hash   [32]byte
	leaves []byte // item commitments or encoded results; nil for none
	texts  []byte // sealed; nil for none
	lookup lookup // nil for none
	clues  map[string]struct{}
}

// prepare checks and encodes an entry. The error names what is wrong with it,
// without any value.
func prepare(e *Entry, now time.Time, random io.Reader) (*prepared, error) {
	at := e.At
	if at.IsZero() {
		at = now
	}
	p := &prepared{record: record{
		at: at.UTC().Truncate(time.Microsecond), kind: string(e.Kind),
		run: e.Run, rule: e.Rule, store: e.Store, refers: e.Refers,
		facts: sortFacts(e.Facts),
	}}
	if len(e.Items) > 0 && len(e.Results) > 0 {
		return nil, errors.New("an entry cannot have both items and results")
	}
	if len(e.Results) > 0 && e.Refers <= 0 {
		return nil, errors.New("results must refer to an intent")
	}
	if max(len(e.Items), len(e.Results)) > maxBatch {
		return nil, fmt.Errorf("a batch of more than %d", maxBatch)
	}
	for i := range e.Items {
		if err := checkItem(&e.Items[i]); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	for i := range e.Results {
		if err := checkResult(&e.Results[i]); err != nil {
			return nil, fmt.Errorf("result %d: %w", i, err)
		}
	}
	if err := p.seal(e, random); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	p.body = appendRecord(make([]byte, 0, 512), &p.record)
	if len(p.body) > maxBody {
		return nil, fmt.Errorf("entry of %d bytes; %d is the most", len(p.body), maxBody)
	}
	p.hash, p.clues = leafHash(p.body), cluesOf(e)
	return p, nil
}

// seal fills in the commitments, the batch root and what goes to the side
// tables.
func (p *prepared) seal(e *Entry, random io.Reader) error {
	secrets := e.Secrets
	if len(secrets) > 1 {
		secrets = slices.Clone(secrets)
		slices.SortStableFunc(secrets, func(a, b Secret) int { return strings.Compare(a.Name, b.Name) })
	}
	if n := len(secrets) + len(e.Items); n > 0 {
		salts := make([]byte, n*saltSize)
		if _, err := io.ReadFull(random, salts); err != nil {
			return fmt.Errorf("read random salts: %w", err)
		}
		slots := make([]sealedSlot, len(secrets))
		for i, s := range secrets {
			if len(s.Text) >= maxText {
				return fmt.Errorf("secret %d: a text of %d bytes or more", i, maxText)
			}
			salt := salts[i*saltSize : (i+1)*saltSize]
			slots[i] = sealedSlot{salt, []byte(s.Text)}
			p.secrets = append(p.secrets, commitment{s.Name, secretCommitment(s.Name, s.Text, salt)})
		}
		b := appendSlots(append(make([]byte, 0, 64+160*n), sealedVersion), slots)
		commitments, b, leaves, keys := sealItems(b, salts[len(secrets)*saltSize:], e.Items)
		if p.texts = b; len(b) > maxSealed {
			return fmt.Errorf("sealed texts of %d bytes; %d is the most", len(b), maxSealed)
		}
		if len(e.Items) > 0 {
			p.batch, p.count, p.leaves = itemBatch, len(e.Items), commitments
			p.root, p.lookup = treeRoot(leaves), newLookup(keys)
		}
	}
	if len(e.Results) > 0 {
		blob, leaves := encodeResults(e.Refers, e.Results)
		p.batch, p.count, p.leaves, p.root = resultBatch, len(e.Results), blob, treeRoot(leaves)
	}
	return nil
}
