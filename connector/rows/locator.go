package rows

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/epitaph/epitaph/connector"
)

// A locator is TABLE/KEY or SCHEMA.TABLE/KEY/KEY…, percent-encoded where a name
// or value holds one of the separators or is no plain text. For SQLite, whose
// columns hold any type, a text that reads like a number is led by ', a real by
// r, a blob by x'.

func locator(t *table, k key, typed bool) connector.Locator {
	b := make([]byte, 0, 128) // on the stack
	if t.schema != "" {
		b = append(escape(b, t.schema, "%/."), '.')
	}
	b = escape(b, t.name, "%/.")
	for _, v := range k {
		b = append(b, '/')
		switch v := v.(type) {
		case string:
			if typed && tagged(v) {
				b = append(b, '\'')
			}
			b = escape(b, v, "%/")
		case int64:
			b = strconv.AppendInt(b, v, 10)
		case float64:
			b = strconv.AppendFloat(append(b, 'r'), v, 'g', -1, 64)
		case []byte:
			b = hex.AppendEncode(append(b, "x'"...), v)
		default:
			b = escape(b, fmt.Sprint(v), "%/")
		}
	}
	return connector.Locator(b)
}

// noLocator names a row that has no key, for a person to find it by its number.
// It is never read back: after % come two hexadecimal digits.
func noLocator(t *table, number key) connector.Locator {
	return locator(t, nil, true) + connector.Locator(fmt.Sprintf("/%%rowid=%v", number[0]))
}

// tagged reports that a text could be taken for another type of value.
func tagged(s string) bool {
	if s == "" || s[0] == '\'' || strings.HasPrefix(s, "x'") {
		return true
	}
	if s[0] == 'r' {
		_, err := strconv.ParseFloat(s[1:], 64)
		return err == nil
	}
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil
}

func escape(b []byte, s, special string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r < 0x20 || r == 0x7f || r == utf8.RuneError && n == 1 || r < 0x80 && strings.IndexByte(special, byte(r)) >= 0 {
			const digits = "0123456789ABCDEF"
			b = append(b, '%', digits[s[i]>>4], digits[s[i]&15])
			i++
			continue
		}
		b = append(b, s[i:i+n]...)
		i += n
	}
	return b
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errLocator
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", errLocator
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), nil
}

var errLocator = errors.New("locator names no row of this database")

// parseLocator takes a locator apart.
func parseLocator(l connector.Locator, typed bool) (schema, name string, k key, err error) {
	parts := strings.Split(string(l), "/")
	if len(parts) < 2 {
		return "", "", nil, errLocator
	}
	s, n, both := strings.Cut(parts[0], ".")
	if !both {
		s, n = "", s
	}
	if schema, err = unescape(s); err != nil {
		return "", "", nil, err
	}
	if name, err = unescape(n); err != nil {
		return "", "", nil, err
	}
	for _, p := range parts[1:] {
		v, err := parseValue(p, typed)
		if err != nil {
			return "", "", nil, err
		}
		k = append(k, v)
	}
	return schema, name, k, nil
}

func parseValue(p string, typed bool) (any, error) {
	if typed {
		if t, ok := strings.CutPrefix(p, "'"); ok {
			return unescape(t)
		}
		if x, ok := strings.CutPrefix(p, "x'"); ok {
			b, err := hex.DecodeString(x)
			if err != nil {
				return nil, errLocator
			}
			return b, nil
		}
		if n, err := strconv.ParseInt(p, 10, 64); err == nil {
			return n, nil
		}
		if r, ok := strings.CutPrefix(p, "r"); ok {
			if f, err := strconv.ParseFloat(r, 64); err == nil {
				return f, nil
			}
		}
	}
	return unescape(p)
}

// publicID is the key as text when it can tell nothing of a person: a single
// integer or UUID.
func publicID(d dialect, pk []*column, k key) string {
	if len(k) != 1 {
		return ""
	}
	switch v := k[0].(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case string:
		if d.isID(pk[0]) || isUUID(v) {
			return v
		}
	}
	return ""
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
