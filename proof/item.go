package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Item is an item as a receipt tells it.
type Item struct {
	ID, Locator, Print string
	Anchor             time.Time // zero when undated
	Bytes              int64
	// Values are what the record said of its parts, by kind of part, tuple and
	// value.
	Values [][][]string
	Parts  []Part
}

// Part is a file or object that goes with an item.
type Part struct {
	Store, Locator, Print string
	Bytes                 int64
	// Gone is set when an earlier outcome had recorded it as erased already.
	Gone bool
}

// Result is what became of an item and of its parts, in their order.
type Result struct {
	Outcome
	Parts []Outcome
}

// Outcome is a state, "unknown", "present" or "gone", and a reason code.
type Outcome struct{ State, Reason string }

const (
	itemDomain   = "epitaph/item v1\n"
	resultDomain = "epitaph/result v1\n"
	saltSize     = 16
	maxElements  = 1 << 20
)

// open checks a leaf against the batch root in the entry, and fills in what it
// tells.
func (s *ShownEntry) open(l *Leaf) error {
	word := "items"
	if l.Result != nil {
		word = "results"
	}
	count, root, err := batchRoot(s.Body, word)
	if err != nil {
		return err
	}
	leaf, err := l.data(s.Body)
	if err != nil {
		return err
	}
	if l.Index < 0 || l.Index >= count || tlog.CheckRecord(l.Path, count, root, l.Index, tlog.RecordHash(leaf)) != nil {
		return errors.New("what is shown of the batch is not in the batch")
	}
	s.Place = l.Index
	switch {
	case l.Opening != nil:
		s.Item, err = decodeItem(l.Opening.Item)
	case l.Commitment != nil:
		s.Hidden = true
	default:
		s.Result, err = decodeResult(l.Result)
	}
	return err
}

// data is what the leaf of the batch's tree holds.
func (l *Leaf) data(body string) ([]byte, error) {
	switch {
	case l.Opening != nil:
		if len(l.Opening.Salt) != saltSize {
			return nil, errors.New("the salt is malformed")
		}
		h := sha256.Sum256(append(append([]byte(itemDomain), l.Opening.Salt...), l.Opening.Item...))
		return h[:], nil
	case l.Commitment != nil:
		return l.Commitment[:], nil
	}
	refers, _ := field(body, "refers")
	intent, err := parseSize(refers)
	if err != nil || l.Index < 0 || l.Index > maxElements {
		return nil, errors.New("the results refer to no intent")
	}
	leaf := binary.BigEndian.AppendUint64([]byte(resultDomain), uint64(intent))
	leaf = binary.BigEndian.AppendUint32(leaf, uint32(l.Index))
	return append(leaf, l.Result...), nil
}

func batchRoot(body, word string) (int64, tlog.Hash, error) {
	bad := errors.New("the entry has no such batch")
	v, ok := field(body, word)
	number, encoded, _ := strings.Cut(v, " ")
	count, err := parseSize(number)
	raw, hexErr := hex.DecodeString(encoded)
	if !ok || err != nil || hexErr != nil || len(raw) != tlog.HashSize || count > maxElements {
		return 0, tlog.Hash{}, bad
	}
	return count, tlog.Hash(raw), nil
}

// bytesReader reads the encoding of items and results. After a fault it gives
// zero values.
type bytesReader struct {
	b   []byte
	bad bool
}

func (r *bytesReader) fail() { r.bad, r.b = true, nil }

func (r *bytesReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *bytesReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *bytesReader) text() string { return string(r.take(r.uvarint())) }

func (r *bytesReader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

// list returns how many elements of at least one byte follow.
func (r *bytesReader) list() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) || n > maxElements {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *bytesReader) done() bool { return !r.bad && len(r.b) == 0 }

func decodeItem(b []byte) (*Item, error) {
	r := bytesReader{b: b}
	it := &Item{ID: r.text(), Locator: r.text(), Print: r.text()}
	switch r.byte() {
	case 0:
	case 1:
		if v := r.take(8); v != nil {
			it.Anchor = time.UnixMicro(int64(binary.BigEndian.Uint64(v))).UTC()
		}
	default:
		r.fail()
	}
	it.Bytes = int64(r.uvarint())
	for range r.list() {
		var tuples [][]string
		for range r.list() {
			var tuple []string
			for range r.list() {
				tuple = append(tuple, r.text())
			}
			tuples = append(tuples, tuple)
		}
		it.Values = append(it.Values, tuples)
	}
	for range r.list() {
		p := Part{Store: r.text(), Locator: r.text(), Print: r.text(), Bytes: int64(r.uvarint())}
		switch r.byte() {
		case 0:
		case 1:
			p.Gone = true
		default:
			r.fail()
		}
		it.Parts = append(it.Parts, p)
	}
	if !r.done() {
		return nil, errors.New("the item is malformed")
	}
	return it, nil
}

func decodeResult(b []byte) (*Result, error) {
	r := bytesReader{b: b}
	res := &Result{Outcome: r.outcome()}
	for range r.list() {
		res.Parts = append(res.Parts, r.outcome())
	}
	if !r.done() {
		return nil, errors.New("the result is malformed")
	}
	return res, nil
}

func (r *bytesReader) outcome() Outcome {
	states := []string{"unknown", "present", "gone"}
	n := r.byte()
	if int(n) >= len(states) {
		r.fail()
		return Outcome{}
	}
	return Outcome{states[n], r.text()}
}
