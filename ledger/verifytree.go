package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/epitaph/epitaph/proof"
)

// tree is the tree as it was computed from the entries: the hashes of whole
// blocks and of all subtrees over them.
type tree struct {
	s      *verifier
	levels [][]tlog.Hash // levels[k][i]: 2^k blocks
	known  int64         // blocks from the beginning without one that is damaged
}

// buildTree compares the computed hashes of blocks with those that are kept, and
// builds the tree over them. A block that was pruned, or verified before, counts
// as it is kept; what it hashes to is bound by the checkpoints.
func (s *verifier) buildTree(ctx context.Context, q querier) *tree {
	whole := s.size / blockSize
	level := make([]tlog.Hash, 0, whole)
	ok := make([]bool, whole)
	kept := s.keptNodes(ctx, q)
	for b := range whole {
		id := nodeID{1, b}
		k, there := kept[id]
		delete(kept, id)
		h := k
		if b >= s.first {
			sum := &s.blocks[b-s.first]
			if sum.whole {
				h, ok[b] = sum.root, true
				if !there || k != sum.root {
					s.fault(b*blockSize+1, fmt.Sprintf("entries %d to %d", b*blockSize+1, (b+1)*blockSize), "they do not have the hash that was kept of them together")
				}
			}
		} else if ok[b] = there; !there {
			s.fault(0, fmt.Sprintf("tree level 1, %d", b), "the hash is missing")
		}
		level = append(level, h)
	}
	t := &tree{s: s}
	for t.known < whole && ok[t.known] {
		t.known++
	}
	for len(level) > 0 {
		t.levels = append(t.levels, level)
		up := make([]tlog.Hash, len(level)/2)
		for i := range up {
			up[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
		level = up
	}
	s.checkNodes(t, kept)
	return t
}

type nodeID struct{ level, idx int64 }

func (s *verifier) keptNodes(ctx context.Context, q querier) map[nodeID]tlog.Hash {
	kept := map[nodeID]tlog.Hash{}
	rows, err := q.QueryContext(ctx, "SELECT level, idx, CASE WHEN octet_length(hash) = 32 THEN hash END FROM nodes")
	if err != nil {
		s.fault(0, "nodes", "they cannot be read")
		return kept
	}
	defer rows.Close()
	for rows.Next() {
		var id nodeID
		var h []byte
		if err := rows.Scan(&id.level, &id.idx, &h); err != nil || len(h) != tlog.HashSize {
			s.fault(0, fmt.Sprintf("tree level %d, %d", id.level, id.idx), "the hash is malformed")
			continue
		}
		kept[id] = tlog.Hash(h)
	}
	if rows.Err() != nil {
		s.fault(0, "nodes", "they cannot all be read")
	}
	return kept
}

// checkNodes compares the hashes kept for the higher levels.
func (s *verifier) checkNodes(t *tree, kept map[nodeID]tlog.Hash) {
	const height = 8
	for level := int64(2); int((level-1)*height) < len(t.levels); level++ {
		for i, want := range t.levels[(level-1)*height] {
			id := nodeID{level, int64(i)}
			got, there := kept[id]
			delete(kept, id)
			last := (id.idx + 1) << ((level - 1) * height) // blocks
			if last <= t.known && (!there || got != want) {
				s.fault(0, fmt.Sprintf("tree level %d, %d", level, i), "the hash is missing or wrong")
			}
		}
	}
	for id := range kept {
		s.fault(0, fmt.Sprintf("tree level %d, %d", id.level, id.idx), "there is a hash of entries that do not exist")
	}
}

// errUnknown reports a tree whose root cannot be computed because an entry in
// it is damaged or missing; that is a fault of its own.
var errUnknown = errors.New("an entry in it is damaged or missing")

// root computes the root of the first entries.
func (t *tree) root(size int64) (tlog.Hash, error) {
	blocks := size / blockSize
	if blocks > t.known {
		return tlog.Hash{}, errUnknown
	}
	var parts []tlog.Hash // the full subtrees, the largest first
	var at int64
	for k := len(t.levels) - 1; k >= 0; k-- {
		if width := int64(1) << k; blocks&width != 0 {
			parts = append(parts, t.levels[k][at>>k])
			at += width
		}
	}
	if size%blockSize != 0 {
		rest := t.s.prefix[size]
		if rest == nil {
			return tlog.Hash{}, errUnknown
		}
		parts = append(parts, rest...)
	}
	h := parts[len(parts)-1]
	for i := len(parts) - 2; i >= 0; i-- {
		h = tlog.NodeHash(parts[i], h)
	}
	return h, nil
}

// checkNotes compares the tree with each checkpoint.
func (s *verifier) checkNotes(ctx context.Context, q querier, t *tree, notes []outsideNote) {
	if s.size > 0 {
		s.report.Root, _ = t.root(s.size)
	}
	forks := s.forksFound()
	s.openAll(ctx, notes)
	for _, n := range notes {
		err := s.checkNote(t, &n, forks, treeReader{ctx, q})
		switch {
		case err == nil:
		case n.outside:
			s.missing(n.place, "%s", err)
		default:
			s.fault(0, n.place, "%s", err)
		}
	}
}

// readForks reads the forks before the first block that is read: what they say
// holds for every checkpoint after them.
func (s *verifier) readForks(ctx context.Context, q querier) {
	if s.first*blockSize <= s.minimum {
		return
	}
	for n, err := range s.l.numbers(ctx, &Filter{Kinds: []Kind{Forked}, Before: s.first*blockSize + 1}) {
		if err == nil {
			n.record, err = s.boundRecord(ctx, q, n.number)
		}
		if err != nil {
			s.fault(n.number, "forks", "an entry that says that history was lost cannot be read")
			return
		}
		s.acts = append(s.acts, n)
	}
}

// boundRecord reads an entry of a block that is not read as a whole. Its hash
// leads up to that of the block, which the checkpoints bind.
func (s *verifier) boundRecord(ctx context.Context, q querier, number int64) (r record, err error) {
	block := (number - 1) / blockSize
	leaves, err := readLeaves(ctx, q, block*blockSize, blockSize)
	if err != nil {
		return r, err
	}
	err = readEntries(ctx, q, span{number, number}, false, func(_ int64, body string, _ []byte) error {
		if leafHash([]byte(body)) != leaves[(number-1)%blockSize] {
			return errUnknown
		}
		return decodeRecord(body, &r)
	})
	if err != nil {
		return r, err
	}
	node, err := readNodes(ctx, q, 1, block, 1)
	if err == nil && node[0] != treeRoot(leaves) {
		err = errUnknown
	}
	return r, err
}

func (s *verifier) checkNote(t *tree, n *outsideNote, forks []fork, kept treeReader) error {
	signed, err := n.signed, n.err
	if err != nil {
		return err
	}
	c := signed.Checkpoint
	if explained(s.l.name, forks, c) {
		s.report.Unchecked++
		if n.outside {
			return fmt.Errorf("the history that it covers was lost, as a fork in the ledger says")
		}
		return nil
	}
	if !isOurs(s.l.name, forks, c) {
		return fmt.Errorf("it is of another ledger")
	}
	if c.Size > s.size {
		return fmt.Errorf("it covers %d entries, and the ledger has %d: the end is missing", c.Size, s.size)
	}
	var root tlog.Hash
	switch within := c.Size < s.first*blockSize && c.Size%blockSize != 0; {
	case c.Size == 0 || within && !n.outside:
		s.report.Unchecked++
		return nil
	case within && c.Size < s.minimum:
		// Whoever has the key could claim to have pruned all that it covers.
		return errors.New("it ends within what was pruned, so that nothing can be compared with it")
	case within:
		root, err = tlog.TreeHash(c.Size, kept)
	default:
		root, err = t.root(c.Size)
	}
	if err != nil {
		return fmt.Errorf("the tree of its %d entries cannot be computed: %w", c.Size, err)
	}
	if root != c.Root {
		return fmt.Errorf("its %d entries are not those of the ledger", c.Size)
	}
	if len(signed.By) > 0 {
		s.report.SignedTo = max(s.report.SignedTo, c.Size)
	}
	if !n.outside {
		s.report.Checkpoints++
		return nil
	}
	if len(signed.By) == 0 {
		s.report.Unchecked++ // it agrees, and nobody is known to have signed it
		return nil
	}
	if c.Size >= s.report.CompleteTo {
		s.report.CompleteTo, s.report.CompleteAt, s.report.Witnesses = c.Size, signed.At, signed.Witnesses
	}
	return nil
}

// openAll checks the signatures of all checkpoints, of which a ledger that is signed
// every minute has many.
func (s *verifier) openAll(ctx context.Context, notes []outsideNote) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(s.v.Workers, len(notes)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(notes)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				notes[i].signed, notes[i].err = s.open(&notes[i])
			}
		})
	}
	wg.Wait()
}

// open checks the signatures. Without any trusted key, a kept checkpoint is only
// compared with the tree.
func (s *verifier) open(n *outsideNote) (proof.Signed, error) {
	trust := s.v.Trust
	if !n.outside {
		trust = trust.WithoutQuorum()
	}
	if len(trust.Logs) > 0 {
		return trust.Open(n.note)
	}
	c, err := proof.Peek(n.note)
	return proof.Signed{Checkpoint: c, Note: n.note}, err
}
