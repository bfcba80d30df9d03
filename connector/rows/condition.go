package rows

import (
	"errors"
	"strings"
)

// grammar is what the reading of a condition needs to know of a dialect.
type grammar struct {
	backslash bool   // a backslash escapes inside '…'
	backtick  bool   // `name`
	bracket   bool   // [name]
	dollar    bool   // $tag$…$tag$
	escapeE   bool   // E'…' knows the backslash
	params    string // characters that begin a parameter
}

// closed reports why cond, set between parentheses, might not stay between
// them: it closes more than it opens, leaves something open, or holds a second
// statement, a comment or a parameter. The database then parses it; this is
// what makes certain that it parses all of it as one expression.
func (g grammar) closed(cond string) error {
	if strings.TrimSpace(cond) == "" {
		return errors.New("is empty")
	}
	if strings.ContainsRune(cond, 0) {
		return errors.New("holds a NUL")
	}
	depth := 0
	for i := 0; i < len(cond); {
		rest := cond[i:]
		switch c := cond[i]; {
		case c == '(':
			depth, i = depth+1, i+1
		case c == ')':
			depth, i = depth-1, i+1
			if depth < 0 {
				return errors.New("closes a parenthesis it did not open")
			}
		case c == ';':
			return errors.New("holds a second statement")
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "/*"), c == '#' && g.backslash:
			return errors.New("holds a comment")
		case c == '\'':
			n := quoted(rest, '\'', g.backslash || g.escapeE && i > 0 && isE(cond[:i]))
			if n == 0 {
				return errors.New("leaves a text open")
			}
			i += n
		case c == '"' || c == '`' && g.backtick:
			n := quoted(rest, c, c == '"' && g.backslash)
			if n == 0 {
				return errors.New("leaves a name open")
			}
			i += n
		case c == '[' && g.bracket:
			n := strings.IndexByte(rest, ']')
			if n < 0 {
				return errors.New("leaves a name open")
			}
			i += n + 1
		case c == '$' && g.dollar:
			n, err := dollarQuoted(rest, i > 0 && isName(cond[i-1]))
			if err != nil {
				return err
			}
			i += n
		case strings.IndexByte(g.params, c) >= 0:
			return errors.New("holds a parameter")
		default:
			i++
		}
	}
	if depth != 0 {
		return errors.New("leaves a parenthesis open")
	}
	return nil
}

// quoted is the length of the quoted text that s begins with; 0 when it does
// not end.
func quoted(s string, q byte, backslash bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && backslash:
			i++
		case s[i] == q && i+1 < len(s) && s[i+1] == q:
			i++
		case s[i] == q:
			return i + 1
		}
	}
	return 0
}

// isE reports that before ends with the E of E'…' as a word of its own.
func isE(before string) bool {
	n := len(before) - 1
	return (before[n] == 'e' || before[n] == 'E') && (n == 0 || !isName(before[n-1]))
}

func isName(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// dollarQuoted is the length of $tag$…$tag$, or 1 for a dollar inside a name.
func dollarQuoted(s string, inName bool) (int, error) {
	if inName {
		return 1, nil
	}
	end := 1
	for end < len(s) && s[end] != '$' && isName(s[end]) {
		end++
	}
	if end >= len(s) || s[end] != '$' {
		return 0, errors.New("holds a parameter")
	}
	tag := s[:end+1]
	if len(tag) > 2 && tag[1] >= '0' && tag[1] <= '9' {
		return 0, errors.New("holds a parameter")
	}
	n := strings.Index(s[len(tag):], tag)
	if n < 0 {
		return 0, errors.New("leaves a text open")
	}
	return n + 2*len(tag), nil
}
