package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The encoding of an entry is specified in docs/ledger-format.md. It is text,
// line by line, with one spelling for each entry, so that an entry has one hash.

const (
	entryHeader = "epitaph/entry v1\n"
	// maxBody is the longest encoded entry: the length of an entry in a C2SP
	// tlog-tiles bundle is an unsigned 16-bit number.
	maxBody  = 1<<16 - 1
	maxCode  = 128
	maxBatch = 1 << 20
	maxText  = 1 << 20 // bytes of one sealed text
)

// codeByte holds the bytes a code, name or id may have.
var codeByte = func() (ok [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:+/@=-") {
		ok[c] = true
	}
	return ok
}()

func isCode(s string) bool {
	if len(s) == 0 || len(s) > maxCode {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !codeByte[s[i]] {
			return false
		}
	}
	return true
}

// commitment is what the entry says of a sealed text.
type commitment struct {
	name string
	hash [32]byte
}

// record is an entry as its encoding holds it: the public part.
type record struct {
	at                     time.Time
	kind, run, rule, store string
	refers                 int64
	facts                  []Fact
	secrets                []commitment
	batch                  batchKind
	count                  int
	root                   [32]byte
}

type batchKind uint8

const (
	noBatch batchKind = iota
	itemBatch
	resultBatch
)

var (
	hexDigits  = "0123456789abcdef"
	batchNames = [...]string{itemBatch: "items ", resultBatch: "results "}
	factNames  = [...]string{factInt: " int ", factInstant: " instant ", factCode: " code ", factHash: " hash "}
)

func appendHex(b []byte, h *[32]byte) []byte {
	for _, c := range h {
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

func appendDigits(b []byte, n, width int) []byte {
	var d [6]byte
	for i := width - 1; i >= 0; i-- {
		d[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, d[:width]...)
}

// appendInstant writes t, which is UTC with whole microseconds and a year of
// four digits, as RFC 3339 with six decimals and Z.
func appendInstant(b []byte, t time.Time) []byte {
	y, mo, d := t.Date()
	h, mi, s := t.Clock()
	b = append(appendDigits(b, y, 4), '-')
	b = append(appendDigits(b, int(mo), 2), '-')
	b = append(appendDigits(b, d, 2), 'T')
	b = append(appendDigits(b, h, 2), ':')
	b = append(appendDigits(b, mi, 2), ':')
	b = append(appendDigits(b, s, 2), '.')
	return append(appendDigits(b, t.Nanosecond()/1000, 6), 'Z')
}

func (f Fact) appendValue(b []byte) []byte {
	switch f.kind {
	case factInt:
		return strconv.AppendInt(b, f.n, 10)
	case factInstant:
		return appendInstant(b, f.at)
	case factCode:
		return append(b, f.code...)
	case factHash:
		return appendHex(b, &f.hash)
	default:
		return b
	}
}

func appendLine(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, name...)
	b = append(b, value...)
	return append(b, '\n')
}

// appendRecord encodes r, which must have passed check.
func appendRecord(b []byte, r *record) []byte {
	b = append(b, entryHeader...)
	b = append(b, "at "...)
	b = append(appendInstant(b, r.at), '\n')
	b = appendLine(b, "kind ", r.kind)
	b = appendLine(b, "run ", r.run)
	b = appendLine(b, "rule ", r.rule)
	b = appendLine(b, "store ", r.store)
	if r.refers != 0 {
		b = append(b, "refers "...)
		b = append(strconv.AppendInt(b, r.refers, 10), '\n')
	}
	for i := range r.facts {
		f := &r.facts[i]
		b = append(b, "fact "...)
		b = append(b, f.name...)
		b = append(b, factNames[f.kind]...)
		b = append(f.appendValue(b), '\n')
	}
	for i := range r.secrets {
		b = append(b, "secret "...)
		b = append(b, r.secrets[i].name...)
		b = append(b, ' ')
		b = append(appendHex(b, &r.secrets[i].hash), '\n')
	}
	if r.batch != noBatch {
		b = append(b, batchNames[r.batch]...)
		b = append(strconv.AppendInt(b, int64(r.count), 10), ' ')
		b = append(appendHex(b, &r.root), '\n')
	}
	return b
}

func checkInstant(t time.Time) error {
	if y := t.Year(); y < 1 || y > 9999 {
		return errors.New("an instant outside of the years 1 to 9999")
	}
	return nil
}

// check reports what about r has no encoding.
func (r *record) check() error {
	if err := checkInstant(r.at); err != nil {
		return err
	}
	if !isCode(r.kind) {
		return errors.New("kind is not a code")
	}
	for _, f := range [...]struct{ name, value string }{{"run", r.run}, {"rule", r.rule}, {"store", r.store}} {
		if f.value != "" && !isCode(f.value) {
			return fmt.Errorf("%s is not a code of 1 to %d characters out of A-Z a-z 0-9 . _ : + / @ = -", f.name, maxCode)
		}
	}
	if r.refers < 0 {
		return errors.New("refers to a negative number")
	}
	for i := range r.facts {
		if err := r.facts[i].check(); err != nil {
			return err
		}
		if i > 0 && r.facts[i-1].name == r.facts[i].name {
			return fmt.Errorf("fact %s occurs twice", r.facts[i].name)
		}
	}
	for i := range r.secrets {
		if !isCode(r.secrets[i].name) {
			return errors.New("name of a secret is not a code")
		}
		if i > 0 && r.secrets[i-1].name == r.secrets[i].name {
			return fmt.Errorf("secret %s occurs twice", r.secrets[i].name)
		}
	}
	if r.count > maxBatch {
		return fmt.Errorf("a batch of more than %d", maxBatch)
	}
	return nil
}

func (f *Fact) check() error {
	if !isCode(f.name) {
		return errors.New("name of a fact is not a code")
	}
	switch f.kind {
	case factInt, factHash:
		return nil
	case factInstant:
		if err := checkInstant(f.at); err != nil {
			return fmt.Errorf("fact %s: %w", f.name, err)
		}
		return nil
	case factCode:
		if !isCode(f.code) {
			return fmt.Errorf("fact %s is not a code of 1 to %d characters out of A-Z a-z 0-9 . _ : + / @ = -", f.name, maxCode)
		}
		return nil
	default:
		return errors.New("a fact that no constructor made")
	}
}

// leafHash is the RFC 6962 hash of a leaf: tlog.RecordHash without its
// allocations.
func leafHash(data []byte) [32]byte {
	var buf [1024]byte
	b := append(append(buf[:0], 0), data...)
	return sha256.Sum256(b)
}

func sortFacts(facts []Fact) []Fact {
	byName := func(a, b Fact) int { return strings.Compare(a.name, b.name) }
	if slices.IsSortedFunc(facts, byName) {
		return facts
	}
	facts = slices.Clone(facts)
	slices.SortStableFunc(facts, byName)
	return facts
}
