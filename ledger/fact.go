package ledger

import (
	"fmt"
	"time"
)

// Int is a fact that is a number: a count, bytes, a process id.
func Int(name string, n int64) Fact { return Fact{name: name, kind: factInt, n: n} }

// Instant is a fact that is a point in time. It is kept in UTC, to the
// microsecond.
func Instant(name string, t time.Time) Fact {
	return Fact{name: name, kind: factInstant, at: t.UTC().Truncate(time.Microsecond)}
}

// Code is a fact out of a closed vocabulary: a version, a period, a name from
// the policy. Append refuses a code outside of [A-Za-z0-9._:+/@=-]{1,128}, so
// that a text cannot slip in; see [SafeCode].
func Code(name, code string) Fact { return Fact{name: name, kind: factCode, code: code} }

// Hash is a fact that is a SHA-256 hash of something that is kept elsewhere.
func Hash(name string, h [32]byte) Fact { return Fact{name: name, kind: factHash, hash: h} }

// Name returns the fact's name.
func (f Fact) Name() string { return f.name }

// String returns the value as the entry's encoding writes it.
func (f Fact) String() string { return string(f.appendValue(nil)) }

// Value returns the value: an int64, a time.Time, a string or a [32]byte.
func (f Fact) Value() any {
	switch f.kind {
	case factInt:
		return f.n
	case factInstant:
		return f.at
	case factCode:
		return f.code
	case factHash:
		return f.hash
	default:
		return nil
	}
}

func (e Entry) fact(name string, kind factKind) (Fact, bool) {
	for _, f := range e.Facts {
		if f.name == name && f.kind == kind {
			return f, true
		}
	}
	return Fact{}, false
}

// Int returns the number named name, and whether the entry has one.
func (e Entry) Int(name string) (int64, bool) {
	f, ok := e.fact(name, factInt)
	return f.n, ok
}

// Instant returns the point in time named name, and whether the entry has one.
func (e Entry) Instant(name string) (time.Time, bool) {
	f, ok := e.fact(name, factInstant)
	return f.at, ok
}

// Code returns the code named name, and whether the entry has one.
func (e Entry) Code(name string) (string, bool) {
	f, ok := e.fact(name, factCode)
	return f.code, ok
}

// Hash returns the hash named name, and whether the entry has one.
func (e Entry) Hash(name string) ([32]byte, bool) {
	f, ok := e.fact(name, factHash)
	return f.hash, ok
}

// Secret returns the text named name, and whether the entry has it and it was
// unsealed and not destroyed.
func (e Entry) Secret(name string) (string, bool) {
	for _, s := range e.Secrets {
		if s.Name == name && !s.SealedOff {
			return s.Text, true
		}
	}
	return "", false
}

// SafeCode writes any text as a code or fact name: a byte outside of the
// charset becomes "=XX" in hex, and what is longer than 128 bytes is cut. It is
// meant for names of tables and rules, which may hold any character; a text
// that could tell of a person belongs into a Secret.
func SafeCode(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if codeByte[s[i]] && s[i] != '=' {
			b = append(b, s[i])
		} else {
			b = fmt.Appendf(b, "=%02X", s[i])
		}
	}
	switch {
	case len(b) == 0:
		return "="
	case len(b) > maxCode:
		return string(b[:maxCode])
	default:
		return string(b)
	}
}
