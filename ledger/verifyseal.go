package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"

	"golang.org/x/mod/sumdb/tlog"
)

// checkBeside checks what lies beside the entries of the chunk: the leaves of
// their batches, and their sealed texts.
func (c *chunk) checkBeside(ctx context.Context) {
	leaves := c.blobs(ctx, "leaves", "blob", maxLeaves)
	texts := c.blobs(ctx, "sealed", "texts", maxSealed)
	filters := c.blobs(ctx, "lookup", "filter", maxLeaves)
	off := c.sealings(ctx)
	c.sums = map[int64]*[32]byte{}
	defer c.keepClues()
	for i := range c.beside {
		n := &c.beside[i]
		commitments := c.checkLeaves(n, leaves[n.number])
		c.checkTexts(n, texts[n.number], filters[n.number], commitments, off[n.number])
		delete(leaves, n.number)
		delete(texts, n.number)
		delete(filters, n.number)
	}
	for _, left := range []struct {
		of   map[int64][]byte
		what string
	}{{leaves, "leaves"}, {texts, "sealed texts"}, {filters, "a filter"}} {
		for n := range left.of {
			c.s.fault(n, place(n), "there are %s of it, and it has none", left.what)
		}
	}
	c.beside = nil
}

// blobs reads a column for the entries of the chunk. What is too long is there
// and empty.
func (c *chunk) blobs(ctx context.Context, table, column string, most int64) map[int64][]byte {
	m := map[int64][]byte{}
	if len(c.beside) == 0 {
		var n int
		// Rows beside entries that can have none are found by a count.
		err := c.q.QueryRowContext(ctx, "SELECT count(*) FROM "+table+" WHERE number > $1 AND number <= $2", c.from*blockSize, c.end).Scan(&n)
		if err == nil && n == 0 {
			return m
		}
	}
	rows, err := c.q.QueryContext(ctx, "SELECT number, CASE WHEN octet_length("+column+") <= $3 THEN "+column+
		" END FROM "+table+" WHERE number > $1 AND number <= $2 ORDER BY number", c.from*blockSize, c.end, most)
	if err != nil {
		c.s.fault(0, table, "it cannot be read")
		return m
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		var b []byte
		if err := rows.Scan(&n, &b); err != nil {
			c.s.fault(0, table, "a row of it cannot be read")
			continue
		}
		if b == nil {
			b = []byte{}
		}
		m[n] = b
	}
	if rows.Err() != nil && ctx.Err() == nil {
		c.s.fault(0, table, "it cannot be read")
	}
	return m
}

// sealings reads what of the chunk was sealed off.
func (c *chunk) sealings(ctx context.Context) map[int64][]target {
	m := map[int64][]target{}
	rows, err := c.q.QueryContext(ctx, "SELECT target, entry, CASE WHEN octet_length(slots) <= $3 THEN slots END FROM sealings WHERE target > $1 AND target <= $2 ORDER BY target, entry",
		c.from*blockSize, c.end, int64(maxLeaves))
	if err != nil {
		c.s.fault(0, "sealings", "it cannot be read")
		return m
	}
	defer rows.Close()
	for rows.Next() {
		var n, entry int64
		var b []byte
		err := rows.Scan(&n, &entry, &b)
		var t target
		if err == nil {
			t, err = decodeSlots(n, b)
		}
		if err != nil {
			c.s.fault(n, place(n), "the list of what was sealed off of it is malformed")
			continue
		}
		m[n] = append(m[n], t)
	}
	return m
}

// checkLeaves checks the batch against the root in the entry, and returns the
// commitments to its items.
func (c *chunk) checkLeaves(n *numbered, blob []byte) [][]byte {
	r := &n.record
	var leaves []tlog.Hash
	var commitments [][]byte
	switch r.batch {
	case noBatch:
		if blob != nil {
			c.s.fault(n.number, place(n.number), "there are leaves of it, and it has none")
		}
		return nil
	case itemBatch:
		if len(blob) != 32*r.count {
			c.s.fault(n.number, place(n.number), "the leaves of its items are missing or malformed")
			return nil
		}
		for i := range r.count {
			commitments = append(commitments, blob[32*i:32*i+32])
			leaves = append(leaves, leafHash(commitments[i]))
		}
	case resultBatch:
		results, err := decodeResults(blob, r.count)
		if err != nil {
			c.s.fault(n.number, place(n.number), "its results are missing or malformed")
			return nil
		}
		again, hashes := encodeResults(r.refers, results)
		if !bytes.Equal(again, blob) {
			c.s.fault(n.number, place(n.number), "its results are not in the one valid spelling")
		}
		leaves = hashes
	}
	if treeRoot(leaves) != r.root {
		c.s.fault(n.number, place(n.number), "its batch is not the one it was written with")
		return nil
	}
	return commitments
}

// checkTexts checks each sealed text against its commitment, and each that is
// gone against the entries that say so.
func (c *chunk) checkTexts(n *numbered, blob, filter []byte, commitments [][]byte, off []target) {
	r := &n.record
	items := 0
	if r.batch == itemBatch {
		items = r.count
	}
	offSecrets, offItems := make([]bool, len(r.secrets)), make([]bool, items)
	for _, t := range off {
		c.mark(n, offSecrets, t.secrets)
		c.mark(n, offItems, t.items)
	}
	s := &sealed{secrets: make([]sealedSlot, len(r.secrets)), items: make([]sealedSlot, items)}
	if blob != nil {
		got, err := decodeSealed(blob)
		if err != nil || len(got.secrets) != len(r.secrets) || len(got.items) != items {
			c.s.fault(n.number, place(n.number), "its sealed texts are malformed")
			c.sums[(n.number-1)/blockSize] = nil
			return
		}
		s = got
	}
	var good, gone int64
	for i, slot := range s.secrets {
		what := fmt.Sprintf("secret %s of entry %d", r.secrets[i].name, n.number)
		if c.checkSlot(n, what, slot, offSecrets[i], &gone) {
			if secretCommitment(r.secrets[i].name, string(slot.text), slot.salt) != r.secrets[i].hash {
				c.s.fault(n.number, what, "the sealed text is not the one that was committed to")
			} else {
				good++
			}
		}
	}
	var scratch []byte
	for i, slot := range s.items {
		what := fmt.Sprintf("item %d of entry %d", i, n.number)
		if !c.checkSlot(n, what, slot, offItems[i], &gone) || commitments == nil {
			continue
		}
		var h [32]byte
		h, scratch = itemCommitment(scratch, slot.salt, slot.text)
		if h != [32]byte(commitments[i]) || !isItem(slot.text) {
			c.s.fault(n.number, what, "the sealed item is not the one that was committed to")
		} else {
			good++
		}
	}
	if int(good) != len(s.secrets)+len(s.items)-int(gone) {
		// what is not committed to is not decoded
		c.sums[(n.number-1)/blockSize] = nil
	} else if want, err := s.lookup(); err == nil && !bytes.Equal(want, filter) {
		c.s.fault(n.number, place(n.number), "the filter by which its items are found is not theirs")
	}
	c.addClues(n, s)
	c.s.mu.Lock()
	c.s.report.Sealed += good
	c.s.report.Off += gone
	c.s.mu.Unlock()
}

// addClues adds those of an entry to the sum of its block.
func (c *chunk) addClues(n *numbered, s *sealed) {
	block := (n.number - 1) / blockSize
	sum, known := c.sums[block]
	if !n.clued || known && sum == nil {
		return
	}
	set, err := cluesLeft(&n.record, s)
	if err != nil {
		c.sums[block] = nil
		return
	}
	for _, key := range c.s.l.clueKeys(set) {
		if sum == nil {
			sum = new([32]byte)
			c.sums[block] = sum
		}
		mixClue(sum, key, n.number)
	}
}

func (c *chunk) keepClues() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	maps.Copy(c.s.clues, c.sums)
}

func mixClue(sum *[32]byte, key, number int64) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(key))
	binary.BigEndian.PutUint64(b[8:], uint64(number))
	h := sha256.Sum256(b[:])
	for i := range sum {
		sum[i] ^= h[i]
	}
}

func (c *chunk) mark(n *numbered, off []bool, places []int) {
	for _, p := range places {
		if p >= len(off) || off[p] {
			c.s.fault(n.number, place(n.number), "what was sealed off of it was never there, or is said to be gone twice")
			continue
		}
		off[p] = true
	}
}

// checkSlot compares that a text is there or gone with what the entries say,
// and reports that it is there.
func (c *chunk) checkSlot(n *numbered, what string, slot sealedSlot, off bool, gone *int64) bool {
	switch {
	case slot.salt == nil && off:
		*gone++
	case slot.salt == nil:
		c.s.fault(n.number, what, "the sealed text is gone, and no entry says that it was sealed off")
	case off:
		c.s.fault(n.number, what, "an entry says that it was sealed off, and it is still there")
	default:
		return true
	}
	return false
}

func isItem(b []byte) bool {
	_, err := decodeItem(b)
	return err == nil
}
