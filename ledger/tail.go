package ledger

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// blockSize is the width of a C2SP tlog-tiles tile. Whole blocks of entries have
// their tree hash kept, and an index of what is in them.
const blockSize = 256

// bitmap says which entries of a block have a mark.
type bitmap [blockSize / 64]uint64

func (b *bitmap) set(i int) { b[i/64] |= 1 << (i % 64) }

func (b *bitmap) bytes() []byte {
	out := make([]byte, 0, blockSize/8)
	for _, w := range b {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	return out
}

// tail is what is known of the entries after the last whole block: their
// hashes, and their marks, which are written when the block is whole.
type tail struct {
	size    int64
	hashes  []tlog.Hash
	marks   map[string]*bitmap // nil when the tail is not loaded
	firstAt int64
	lastAt  int64
}

func newTail(size int64) *tail {
	return &tail{size: size, marks: map[string]*bitmap{}, firstAt: math.MaxInt64, lastAt: math.MinInt64}
}

// marksOf are the keys under which an entry is found.
func marksOf(r *record, visit func(key string)) {
	visit("kind " + r.kind)
	if r.run != "" {
		visit("run " + r.run)
	}
	if r.rule != "" {
		visit("rule " + r.rule)
	}
	if r.store != "" {
		visit("store " + r.store)
	}
}

func (t *tail) note(r *record, hash tlog.Hash) {
	place := len(t.hashes)
	marksOf(r, func(key string) {
		b := t.marks[key]
		if b == nil {
			b = new(bitmap)
			t.marks[key] = b
		}
		b.set(place)
	})
	at := r.at.UnixMicro()
	t.firstAt, t.lastAt = min(t.firstAt, at), max(t.lastAt, at)
	t.hashes = append(t.hashes, hash)
	t.size++
}

// add takes entries in and writes each block that they make whole.
func (t *tail) add(ctx context.Context, tx *txn, entries []*prepared) error {
	for _, p := range entries {
		t.note(&p.record, p.hash)
		if len(t.hashes) == blockSize {
			if err := t.writeBlock(ctx, tx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tail) writeBlock(ctx context.Context, tx *txn) error {
	block := t.size/blockSize - 1
	if err := tx.exec(ctx, insertBlock, block, t.firstAt, t.lastAt); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(t.marks)) {
		if err := tx.exec(ctx, insertMark, key, block, t.marks[key].bytes()); err != nil {
			return err
		}
	}
	if err := tx.addNode(ctx, 1, block, treeRoot(t.hashes)); err != nil {
		return err
	}
	*t = *newTail(t.size)
	return nil
}

// insertNode writes the hash of a whole tile, and that of the tile above which
// it makes whole.
func (t *txn) addNode(ctx context.Context, level int, idx int64, h tlog.Hash) error {
	for {
		if err := t.exec(ctx, insertNode, level, idx, h[:]); err != nil {
			return err
		}
		if (idx+1)%blockSize != 0 {
			return nil
		}
		below, err := readNodes(ctx, t, level, idx+1-blockSize, blockSize)
		if err != nil {
			return err
		}
		level, idx, h = level+1, idx/blockSize, treeRoot(below)
	}
}

// loadTail reads the tail of a ledger of that size.
func loadTail(ctx context.Context, q querier, size int64) (*tail, error) {
	whole := size / blockSize * blockSize
	t := newTail(whole)
	err := readEntries(ctx, q, span{whole + 1, size}, false, func(number int64, body string, hash []byte) error {
		var r record
		if err := decodeRecord(body, &r); err != nil || leafHash([]byte(body)) != [32]byte(hash) || number != t.size+1 {
			return fmt.Errorf("entry %d is damaged", number)
		}
		t.note(&r, tlog.Hash(hash))
		return nil
	})
	return t, err
}
