package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A batch is the items of an intent or the results of an outcome. The entry
// holds their number and the root of an RFC 6962 tree over one leaf for each,
// so that each can be proven alone. What the leaves are made of is specified
// in docs/ledger-format.md.

const (
	saltSize     = 16
	itemDomain   = "epitaph/item v1\n"
	secretDomain = "epitaph/secret v1\n"
	resultDomain = "epitaph/result v1\n"
)

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// appendItem encodes an item; there is one spelling.
func appendItem(b []byte, it *Item) []byte {
	b = appendText(b, it.ID)
	b = appendText(b, it.Locator)
	b = appendText(b, it.Print)
	if it.Anchor.IsZero() {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = binary.BigEndian.AppendUint64(b, uint64(it.Anchor.UnixMicro()))
	}
	b = binary.AppendUvarint(b, uint64(it.Bytes))
	b = binary.AppendUvarint(b, uint64(len(it.Values)))
	for _, tuples := range it.Values {
		b = binary.AppendUvarint(b, uint64(len(tuples)))
		for _, t := range tuples {
			b = binary.AppendUvarint(b, uint64(len(t)))
			for _, v := range t {
				b = appendText(b, v)
			}
		}
	}
	b = binary.AppendUvarint(b, uint64(len(it.Parts)))
	for i := range it.Parts {
		p := &it.Parts[i]
		b = appendText(b, p.Store)
		b = appendText(b, p.Locator)
		b = appendText(b, p.Print)
		b = binary.AppendUvarint(b, uint64(p.Bytes))
		gone := byte(0)
		if p.Gone {
			gone = 1
		}
		b = append(b, gone)
	}
	return b
}

func checkItem(it *Item) error {
	n := len(it.ID) | len(it.Locator) | len(it.Print)
	for i := range it.Parts {
		n |= len(it.Parts[i].Store) | len(it.Parts[i].Locator) | len(it.Parts[i].Print)
	}
	tuples, values := 0, 0
	for _, ts := range it.Values {
		tuples = max(tuples, len(ts))
		for _, t := range ts {
			values = max(values, len(t))
			for _, v := range t {
				n |= len(v)
			}
		}
	}
	if max(len(it.Values), tuples, values) > maxBatch {
		return fmt.Errorf("an item of more than %d values", maxBatch)
	}
	if n >= maxText {
		return fmt.Errorf("a text of %d bytes or more", maxText)
	}
	if len(it.Parts) > maxBatch {
		return fmt.Errorf("an item of more than %d parts", maxBatch)
	}
	return nil
}

// reader takes apart what the append functions put together. After a fault
// every further read gives zero values.
type reader struct {
	b   []byte
	bad bool
	// whole is what b is the rest of, where texts are parts of one string.
	whole string
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 { // the last byte 0 is a longer spelling
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// take returns the next n bytes. The length is compared before anything is
// allocated, so that a hostile one costs nothing.
func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string {
	n := r.uvarint()
	if n >= maxText {
		r.bad, r.b = true, nil
		return ""
	}
	if r.whole == "" {
		return string(r.take(n))
	}
	v := r.take(n)
	end := len(r.whole) - len(r.b)
	return r.whole[end-len(v) : end]
}

func (r *reader) byte(most byte) byte {
	v := r.take(1)
	if v == nil || v[0] > most {
		r.bad = true
		return 0
	}
	return v[0]
}

// count reads the length of a list whose elements take at least size bytes.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > maxBatch || n*uint64(size) > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

var errItem = errors.New("not an encoded item")

// decodeItem accepts exactly what appendItem writes.
func decodeItem(b []byte) (Item, error) {
	r := reader{b: b, whole: string(b)} // its many short texts cost one allocation
	it := Item{ID: r.text(), Locator: r.text(), Print: r.text()}
	if r.byte(1) == 1 {
		v := r.take(8)
		if v == nil {
			return Item{}, errItem
		}
		it.Anchor = time.UnixMicro(int64(binary.BigEndian.Uint64(v))).UTC()
		if it.Anchor.IsZero() || checkInstant(it.Anchor) != nil {
			return Item{}, errItem
		}
	}
	it.Bytes = int64(r.uvarint())
	it.Values = r.values()
	if n := r.count(5); n > 0 {
		it.Parts = make([]Part, n)
	}
	for i := range it.Parts {
		it.Parts[i] = Part{Store: r.text(), Locator: r.text(), Print: r.text(), Bytes: int64(r.uvarint()), Gone: r.byte(1) == 1}
	}
	if r.bad || len(r.b) > 0 {
		return Item{}, errItem
	}
	return it, nil
}

// values reads Item.Values; an empty list is nil at every level.
func (r *reader) values() [][][]string {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	values := make([][][]string, n)
	var room []string // for the texts of many tuples
	for w := range values {
		if n := r.count(1); n > 0 {
			values[w] = make([][]string, n)
		}
		for k := range values[w] {
			if n := r.count(1); n > 0 {
				if n > len(room) {
					room = make([]string, max(n, min(2*len(values[w]), len(r.b))))
				}
				values[w][k], room = room[:n:n], room[n:]
			}
			for i := range values[w][k] {
				values[w][k][i] = r.text()
			}
		}
	}
	return values
}

// itemCommitment is what the leaf of an item holds.
func itemCommitment(scratch, salt, item []byte) ([32]byte, []byte) {
	scratch = append(append(append(scratch[:0], itemDomain...), salt...), item...)
	return sha256.Sum256(scratch), scratch
}

func secretCommitment(name, text string, salt []byte) [32]byte {
	b := append([]byte(secretDomain), salt...)
	b = appendText(b, name)
	return sha256.Sum256(append(b, text...))
}

// appendResult encodes a result without its place.
func appendResult(b []byte, r *Result) []byte {
	b = append(b, byte(r.State))
	b = appendText(b, r.Reason)
	b = binary.AppendUvarint(b, uint64(len(r.Parts)))
	for i := range r.Parts {
		b = append(b, byte(r.Parts[i].State))
		b = appendText(b, r.Parts[i].Reason)
	}
	return b
}

func checkResult(r *Result) error {
	ok := r.State <= Gone && (r.Reason == "" || isCode(r.Reason)) && len(r.Parts) <= maxBatch
	for i := range r.Parts {
		p := &r.Parts[i]
		ok = ok && p.State <= Gone && (p.Reason == "" || isCode(p.Reason))
	}
	if !ok {
		return errors.New("a state or reason that is no code")
	}
	return nil
}

func decodeResult(b []byte) (Result, error) {
	r := reader{b: b}
	res := Result{State: State(r.byte(byte(Gone))), Reason: r.text()}
	if n := r.count(2); n > 0 {
		res.Parts = make([]PartResult, n)
	}
	for i := range res.Parts {
		res.Parts[i] = PartResult{State: State(r.byte(byte(Gone))), Reason: r.text()}
	}
	if r.bad || len(r.b) > 0 || checkResult(&res) != nil {
		return Result{}, errors.New("not an encoded result")
	}
	return res, nil
}

// appendResultLeaf is the leaf of a result: bound to the intent and to the
// place in it.
func appendResultLeaf(b []byte, intent int64, index int, result []byte) []byte {
	b = append(b, resultDomain...)
	b = binary.BigEndian.AppendUint64(b, uint64(intent))
	b = binary.BigEndian.AppendUint32(b, uint32(index))
	return append(b, result...)
}

// encodeResults writes results as a dictionary and runs: nearly always all
// results of a batch are the same. It returns the leaf hashes too.
func encodeResults(intent int64, results []Result) (blob []byte, leaves []tlog.Hash) {
	var dict, runs, enc, leaf, last []byte
	known := map[string]int{}
	leaves = make([]tlog.Hash, len(results))
	current, length := -1, 0
	flush := func() {
		if length > 0 {
			runs = binary.AppendUvarint(binary.AppendUvarint(runs, uint64(current)), uint64(length))
		}
	}
	for i := range results {
		enc = appendResult(enc[:0], &results[i])
		if current < 0 || !bytes.Equal(enc, last) {
			flush()
			n, ok := known[string(enc)]
			if !ok {
				n = len(known)
				known[string(enc)] = n
				dict = append(binary.AppendUvarint(dict, uint64(len(enc))), enc...)
			}
			last = append(last[:0], enc...)
			current, length = n, 0
		}
		length++
		leaf = appendResultLeaf(leaf[:0], intent, i, enc)
		leaves[i] = leafHash(leaf)
	}
	flush()
	blob = binary.AppendUvarint(nil, uint64(len(known)))
	return append(append(blob, dict...), runs...), leaves
}

// decodeResults reads count results. Equal results share their Parts.
func decodeResults(blob []byte, count int) ([]Result, error) {
	bad := errors.New("the results are malformed")
	r := reader{b: blob}
	dict := make([]Result, r.count(1))
	for i := range dict {
		var err error
		if dict[i], err = decodeResult(r.take(r.uvarint())); err != nil {
			return nil, bad
		}
	}
	results := make([]Result, 0, min(count, maxBatch))
	for len(results) < count && !r.bad {
		which, n := r.uvarint(), r.uvarint()
		if which >= uint64(len(dict)) || n == 0 || n > uint64(count-len(results)) {
			return nil, bad
		}
		for range n {
			results = append(results, dict[which])
		}
	}
	if r.bad || len(r.b) > 0 {
		return nil, bad
	}
	return results, nil
}

// treeRoot is the RFC 6962 root over leaf hashes. It overwrites them.
func treeRoot(h []tlog.Hash) tlog.Hash {
	for n := len(h); n > 1; n = (n + 1) / 2 {
		for i := 0; i+1 < n; i += 2 {
			h[i/2] = tlog.NodeHash(h[i], h[i+1])
		}
		if n%2 == 1 {
			h[n/2] = h[n-1]
		}
	}
	return h[0]
}
