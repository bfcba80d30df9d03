package policy

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// ParseDotenv reads the variables of a .env file: one NAME=value to a line, with
// or without "export " before it. A value in single quotes is taken as it is; in
// double quotes \n, \t, \r, \", \\ and \$ are understood; a bare value ends at
// the end of the line or at a # after a space. Nothing is expanded: $ is a
// dollar. A quoted value ends on the line where it began. name is the file's
// name for messages. The error is an [*Errors] that holds every bad line by
// number and, as the file holds secrets, quotes none.
func ParseDotenv(name string, src []byte) (map[string]string, error) {
	errs := &Errors{File: name}
	add := func(line, column int, text, hint string) {
		if len(errs.Problems) >= maxProblems {
			errs.More++
			return
		}
		errs.Problems = append(errs.Problems, Problem{Pos: Pos{line, column}, Text: text, Hint: hint})
	}
	switch {
	case len(src) > maxSize:
		add(0, 0, "the file is larger than 1 MiB", "")
		return nil, errs
	case !utf8.Valid(src) || bytes.IndexByte(src, 0) >= 0:
		add(0, 0, "the file is not UTF-8 text", "")
		return nil, errs
	}
	vars := map[string]string{}
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	for i, line := range strings.Split(string(src), "\n") {
		line = strings.Trim(line, " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "export "); ok {
			line = strings.TrimLeft(rest, " \t")
		}
		key, raw, ok := strings.Cut(line, "=")
		key = strings.TrimRight(key, " \t")
		if !ok || !isVariable(key) {
			add(i+1, 1, "this line is not NAME=value", "a name has letters, digits and _; a comment begins with #")
			continue
		}
		if _, twice := vars[key]; twice {
			add(i+1, 1, key+" is given twice", "keep one of the two lines")
			continue
		}
		value, bad := dotenvValue(strings.TrimLeft(raw, " \t"))
		if bad != "" {
			add(i+1, 1, bad, "write "+key+"=value, "+key+`="value" or `+key+"='value'")
		}
		vars[key] = value
	}
	if len(errs.Problems) > 0 {
		return nil, errs
	}
	return vars, nil
}

// dotenvValue reads what follows the equals sign; bad says what is wrong.
func dotenvValue(s string) (value, bad string) {
	if s == "" {
		return "", ""
	}
	var rest string
	switch s[0] {
	case '\'':
		v, after, closed := strings.Cut(s[1:], "'")
		if !closed {
			return "", "the quote is not closed on this line"
		}
		value, rest = v, after
	case '"':
		v, after, why := doubleQuoted(s[1:])
		if why != "" {
			return "", why
		}
		value, rest = v, after
	default:
		for i := range len(s) {
			if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
				s = s[:i]
				break
			}
		}
		return strings.TrimRight(s, " \t"), ""
	}
	after := strings.TrimLeft(rest, " \t")
	if after != "" && (after[0] != '#' || after == rest) {
		return "", "there is text after the closing quote"
	}
	return value, ""
}

func doubleQuoted(s string) (value, after, bad string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], ""
		case c != '\\':
			b.WriteByte(c)
		case i+1 == len(s):
			return "", "", "the quote is not closed on this line"
		default:
			i++
			at := strings.IndexByte(`ntr"\$`, s[i])
			if at < 0 {
				return "", "", `\` + "n, \\t, \\r, \\\", \\\\ and \\$ are the only escapes in double quotes"
			}
			b.WriteByte("\n\t\r\"\\$"[at])
		}
	}
	return "", "", "the quote is not closed on this line"
}
