package policy

import "strings"

// quoteName writes a name as a policy spells it: bare where that is possible,
// else in double quotes.
func quoteName(s string) string {
	if isBareName(s) {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// isBareName reports whether s can stand without quotes in a selector or
// reference: letters, digits, _, $ and -, not first a digit or hyphen.
func isBareName(s string) bool {
	if s == "" {
		return false
	}
	for i, r := range s {
		if !isNameRune(r, i == 0) {
			return false
		}
	}
	return true
}

func isNameRune(r rune, first bool) bool {
	switch {
	case r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0x80:
		return true
	default:
		return !first && (r >= '0' && r <= '9' || r == '$' || r == '-')
	}
}
