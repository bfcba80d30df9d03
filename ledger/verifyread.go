package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"math"
	"unsafe"

	"golang.org/x/mod/sumdb/tlog"
)

// chunk is some blocks, read by one worker.
type chunk struct {
	s        *verifier
	sizes    map[int64][]int64
	from, to int64 // blocks

	q       querier
	next    int64 // the number that must come
	end     int64 // the last number of the chunk
	sum     blockSum
	hashes  []tlog.Hash
	buf     []byte
	rec     record
	entries int64
	clued   bool                // the row at hand was written with its clues
	beside  []numbered          // entries with a batch or secrets
	sums    map[int64]*[32]byte // of clues, by block; nil where they are not known
	tail    tail                // the marks of the block
}

// Longest values a sound ledger has. What is longer is not even read.
const (
	maxBundle = blockSize * (2 + maxBody)
	maxLeaves = 64 << 20
	maxSealed = 1 << 28
)

// read checks the rows of the chunk. No damage ends it.
func (c *chunk) read(ctx context.Context) {
	c.next, c.end = c.from*blockSize+1, min(c.to*blockSize, c.s.size)
	c.reset()
	query := `SELECT number, count, CASE WHEN octet_length(bundle) <= $3 THEN bundle END, CASE WHEN octet_length(hashes) <= $4 THEN hashes END, ` + cluedColumn(c.s.l.clued) + `
		FROM entries WHERE number >= $1 AND number <= $2 ORDER BY number`
	tx, err := c.s.l.snapshot(ctx) // so that texts and what was sealed off are of one moment
	if err == nil {
		defer tx.Rollback()
		c.q = tx
		err = c.rows(ctx, query)
	}
	if err != nil && ctx.Err() == nil {
		c.s.fault(c.next, place(c.next), "the entries from here on cannot be read")
	}
	if c.q == nil {
		return
	}
	c.gap(c.end + 1)
	c.finishBlock()
	c.checkBeside(ctx)
	c.s.mu.Lock()
	c.s.report.Entries += c.entries
	c.s.mu.Unlock()
}

func (c *chunk) rows(ctx context.Context, query string) error {
	rows, err := c.q.QueryContext(ctx, query, c.next, c.end, int64(maxBundle), int64(blockSize*tlog.HashSize))
	if err != nil {
		return err
	}
	defer rows.Close()
	var bundle, hashes sql.RawBytes
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.number, &r.count, &bundle, &hashes, &c.clued); err != nil {
			c.s.fault(c.next, place(c.next), "a row from here on cannot be read")
			continue
		}
		r.bundle, r.hashes = bundle, hashes
		c.row(&r)
	}
	return rows.Err()
}

func cluedColumn(there bool) string {
	if there {
		return "clued IS NOT NULL"
	}
	return "1 = 0"
}

func place(number int64) string { return fmt.Sprintf("entry %d", number) }

func (c *chunk) reset() {
	c.sum = blockSum{whole: true, firstAt: math.MaxInt64, lastAt: math.MinInt64}
	c.hashes = c.hashes[:0]
	c.tail = *newTail(0)
}

// gap reports the entries that should have come before the number.
func (c *chunk) gap(number int64) {
	if c.next >= number {
		return
	}
	if c.next == number-1 {
		c.s.fault(c.next, place(c.next), "it is not in the ledger")
	} else {
		c.s.fault(c.next, fmt.Sprintf("entries %d to %d", c.next, number-1), "they are not in the ledger")
	}
	for c.next < number {
		c.sum.whole = false
		c.advance()
	}
}

// advance goes to the next number, and over the end of a block.
func (c *chunk) advance() {
	if c.next%blockSize == 0 {
		c.finishBlock()
	}
	c.next++
}

func (c *chunk) row(r *row) {
	bodies, err := r.bodies()
	if err != nil {
		c.gap(r.number)
		c.s.fault(r.number, place(r.number), "its row is malformed")
		return
	}
	if r.number < c.next {
		c.s.fault(r.number, place(r.number), "it is in the ledger twice")
		return
	}
	c.gap(r.number)
	for i, body := range bodies {
		c.entry(body, tlog.Hash(r.hash(i)))
	}
}

// entry checks one entry: strict decoding, the same bytes encoded again, the
// kept hash.
func (c *chunk) entry(body []byte, kept tlog.Hash) {
	n := c.next
	c.entries++
	hash := leafHash(body)
	c.hashes = append(c.hashes, hash)
	if hash != kept {
		c.s.fault(n, place(n), "it does not have the hash that was kept of it")
	}
	// The record lives no longer than body, but where it is copied below.
	err := decodeRecord(unsafe.String(unsafe.SliceData(body), len(body)), &c.rec)
	if err == nil {
		c.buf = appendRecord(c.buf[:0], &c.rec)
	}
	if err != nil || !bytes.Equal(c.buf, body) {
		c.s.fault(n, place(n), "it is not an entry in the one valid spelling")
	} else {
		c.take(n, body)
	}
	c.cutAt(n)
	c.advance()
}

// take notes what the entry implies for what lies beside it.
func (c *chunk) take(n int64, body []byte) {
	r := &c.rec
	spot := int((n - 1) % blockSize)
	marksOf(r, func(key string) {
		b := c.tail.marks[key]
		if b == nil {
			b = new(bitmap)
			c.tail.marks[key] = b
		}
		b.set(spot)
	})
	at := r.at.UnixMicro()
	c.sum.firstAt, c.sum.lastAt = min(c.sum.firstAt, at), max(c.sum.lastAt, at)
	kind := Kind(r.kind)
	own := kind == SealedOff || kind == Pruned || kind == Forked
	if r.batch == noBatch && len(r.secrets) == 0 && !own && kind != Intent && kind != Outcome && !(c.clued && r.mayHaveClue()) {
		return
	}
	copied := numbered{number: n, clued: c.clued}
	if decodeRecord(string(body), &copied.record) != nil {
		return
	}
	c.beside = append(c.beside, copied)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	switch {
	case own:
		c.s.acts = append(c.s.acts, copied)
	case kind == Intent:
		c.s.opened[n] = r.count
	case kind == Outcome && r.refers != 0:
		c.s.closed[span{r.refers, n}] = true
	}
}

// cutAt keeps the subtrees of a checkpoint that ends at this entry.
func (c *chunk) cutAt(n int64) {
	for _, size := range c.sizes[n/blockSize] {
		if size == n && n%blockSize != 0 && c.sum.whole {
			kept := subtrees(c.hashes)
			c.s.mu.Lock()
			c.s.prefix[size] = kept
			c.s.mu.Unlock()
		}
	}
}

// subtrees returns the roots of the full subtrees of which a list of leaves
// consists, the largest first.
func subtrees(leaves []tlog.Hash) (roots []tlog.Hash) {
	for width := blockSize; width > 0; width /= 2 {
		if len(leaves)&width != 0 {
			roots = append(roots, treeRoot(append([]tlog.Hash{}, leaves[:width]...)))
			leaves = leaves[width:]
		}
	}
	return roots
}

// finishBlock stores what the block came to. It is called at each block's end,
// and once more at the chunk's.
func (c *chunk) finishBlock() {
	if len(c.hashes) == 0 && c.sum.whole {
		return
	}
	b := (min(c.next, c.end) - 1) / blockSize
	c.sum.whole = c.sum.whole && len(c.hashes) == blockSize
	if c.sum.whole {
		c.sum.root = treeRoot(c.hashes)
		for key, bits := range c.tail.marks {
			mix(&c.sum.marks, key, b, bits.bytes())
		}
	}
	c.s.blocks[b-c.s.first] = c.sum
	c.reset()
}

// mix adds a mark to the sum of a block, in any order.
func mix(sum *[32]byte, key string, block int64, bits []byte) {
	h := sha256.Sum256(fmt.Appendf(nil, "%d %s\n%s", block, key, bits))
	for i := range sum {
		sum[i] ^= h[i]
	}
}
