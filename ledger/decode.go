package ledger

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var errEncoding = errors.New("not an encoded entry")

// lines walks over the lines of an encoded entry.
type lines struct{ rest string }

// take returns what follows prefix on the next line, if that is how it starts.
func (l *lines) take(prefix string) (string, bool) {
	if !strings.HasPrefix(l.rest, prefix) {
		return "", false
	}
	end := strings.IndexByte(l.rest, '\n')
	if end < len(prefix) {
		return "", false
	}
	v := l.rest[len(prefix):end]
	l.rest = l.rest[end+1:]
	return v, true
}

// decodeRecord reads an encoded entry. It accepts exactly what appendRecord
// writes. The slices of r are reused.
func decodeRecord(body string, r *record) error {
	facts, secrets := r.facts[:0], r.secrets[:0]
	*r = record{}
	if len(body) > maxBody {
		return errors.New("entry is longer than an entry can be")
	}
	if !strings.HasPrefix(body, entryHeader) {
		return errEncoding
	}
	l := lines{body[len(entryHeader):]}
	v, ok := l.take("at ")
	if r.at, ok = parseInstant(v, ok); !ok {
		return errors.New("entry has no instant")
	}
	if r.kind, ok = l.take("kind "); !ok || !isCode(r.kind) {
		return errors.New("entry has no kind")
	}
	for _, f := range [...]struct {
		prefix string
		to     *string
	}{{"run ", &r.run}, {"rule ", &r.rule}, {"store ", &r.store}} {
		if *f.to, ok = l.take(f.prefix); ok && !isCode(*f.to) {
			return errEncoding
		}
	}
	if v, ok = l.take("refers "); ok {
		if r.refers, ok = parseInt(v); !ok || r.refers <= 0 {
			return errEncoding
		}
	}
	for v, ok = l.take("fact "); ok; v, ok = l.take("fact ") {
		f, good := parseFact(v)
		if !good || len(facts) > 0 && facts[len(facts)-1].name >= f.name {
			return errors.New("entry has a fact that is malformed or out of order")
		}
		facts = append(facts, f)
	}
	for v, ok = l.take("secret "); ok; v, ok = l.take("secret ") {
		name, hex, _ := strings.Cut(v, " ")
		c := commitment{name: name}
		if !isCode(name) || !parseHex(hex, &c.hash) || len(secrets) > 0 && secrets[len(secrets)-1].name >= name {
			return errors.New("entry has a secret that is malformed or out of order")
		}
		secrets = append(secrets, c)
	}
	r.facts, r.secrets = facts, secrets
	return decodeBatch(&l, r)
}

func decodeBatch(l *lines, r *record) error {
	v, ok := l.take("items ")
	if r.batch = itemBatch; !ok {
		v, ok = l.take("results ")
		if r.batch = resultBatch; !ok {
			r.batch = noBatch
		}
	}
	if ok {
		count, hex, _ := strings.Cut(v, " ")
		n, good := parseInt(count)
		if !good || n < 1 || n > maxBatch || !parseHex(hex, &r.root) {
			return errors.New("entry has a malformed batch")
		}
		r.count = int(n)
	}
	if l.rest != "" {
		return errors.New("entry has a line that does not belong there")
	}
	return nil
}

func parseFact(v string) (f Fact, ok bool) {
	f.name, v, ok = strings.Cut(v, " ")
	if !ok || !isCode(f.name) {
		return f, false
	}
	kind, v, ok := strings.Cut(v, " ")
	if !ok {
		return f, false
	}
	switch kind {
	case "int":
		f.kind = factInt
		f.n, ok = parseInt(v)
	case "instant":
		f.kind = factInstant
		f.at, ok = parseInstant(v, true)
	case "code":
		f.kind, f.code, ok = factCode, v, isCode(v)
	case "hash":
		f.kind = factHash
		ok = parseHex(v, &f.hash)
	default:
		ok = false
	}
	return f, ok
}

// parseInt reads the one spelling of a number: no plus, no leading zero, no -0.
func parseInt(s string) (int64, bool) {
	d := strings.TrimPrefix(s, "-")
	if d == "" || d[0] < '0' || d[0] > '9' || d[0] == '0' && s != "0" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func parseHex(s string, h *[32]byte) bool {
	if len(s) != 2*len(h) {
		return false
	}
	for i := range h {
		hi, lo := hexValue(s[2*i]), hexValue(s[2*i+1])
		if hi|lo > 15 {
			return false
		}
		h[i] = hi<<4 | lo
	}
	return true
}

func hexValue(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	default:
		return 255
	}
}

// parseInstant reads what appendInstant writes. It passes !ok on.
func parseInstant(s string, ok bool) (time.Time, bool) {
	const layout = "0000-00-00T00:00:00.000000Z"
	if !ok || len(s) != len(layout) {
		return time.Time{}, false
	}
	for i := range len(layout) {
		if layout[i] == '0' && (s[i] < '0' || s[i] > '9') || layout[i] != '0' && s[i] != layout[i] {
			return time.Time{}, false
		}
	}
	num := func(from, to int) (n int) {
		for _, c := range []byte(s[from:to]) {
			n = n*10 + int(c-'0')
		}
		return n
	}
	y, mo, d, h, mi, sec := num(0, 4), num(5, 7), num(8, 10), num(11, 13), num(14, 16), num(17, 19)
	if y < 1 || mo < 1 || mo > 12 || d < 1 || h > 23 || mi > 59 || sec > 59 {
		return time.Time{}, false
	}
	t := time.Date(y, time.Month(mo), d, h, mi, sec, num(20, 26)*1000, time.UTC)
	return t, t.Day() == d // 30 February would have become March
}
