package policy

import (
	"slices"
	"strings"
)

// Lookup returns the value of a variable and whether it is set. A variable that
// is set to the empty text is set.
type Lookup func(name string) (string, bool)

// Lookups asks each of several sources in turn; the first one that has the
// variable wins. Nil sources are passed over.
func Lookups(sources ...Lookup) Lookup {
	return func(name string) (string, bool) {
		for _, l := range sources {
			if l == nil {
				continue
			}
			if v, ok := l(name); ok {
				return v, true
			}
		}
		return "", false
	}
}

// LookupIn looks variables up in a map.
func LookupIn(m map[string]string) Lookup {
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

// maxValue bounds a value after its variables were filled in.
const maxValue = 64 << 10

// expansion is a text with its variables filled in.
type expansion struct {
	text string
	refs bool     // it had at least one ${…}
	from []string // the variables that were set, and so stand in text
}

// misuse is what is wrong with the variables of a text, and where in it.
type misuse struct {
	offset     int // bytes
	text, hint string
}

// maxMisuses bounds what is reported of one text.
const maxMisuses = 10

const dollarHint = "a variable is written ${NAME}, a literal dollar $$"

// expand fills in ${NAME} and ${NAME:-default} and turns $$ into $. The default
// stands in only for a variable that is not set; one that is set to the empty
// text is empty. That differs from the shell on purpose: falling back silently
// to another period is how data dies early. A value is never expanded again.
func expand(s string, vars Lookup) (expansion, []misuse) {
	var (
		out expansion
		bad []misuse
		b   strings.Builder
	)
	for i := 0; i < len(s) && len(bad) < maxMisuses; {
		d := strings.IndexByte(s[i:], '$')
		if d < 0 {
			b.WriteString(s[i:])
			break
		}
		b.WriteString(s[i : i+d])
		i += d
		switch {
		case strings.HasPrefix(s[i:], "$$"):
			b.WriteByte('$')
			i += 2
			continue
		case !strings.HasPrefix(s[i:], "${"):
			bad = append(bad, misuse{i, "a lone $", dollarHint})
			i++
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			bad = append(bad, misuse{i, "${ without its closing }", dollarHint})
			break
		}
		out.refs = true
		value, from, m := lookup(s[i+2:i+end], vars)
		if m != nil {
			m.offset = i
			bad = append(bad, *m)
		}
		if from != "" && !slices.Contains(out.from, from) {
			out.from = append(out.from, from)
		}
		b.WriteString(value)
		i += end + 1
	}
	out.text = b.String()
	if len(out.text) > maxValue {
		bad = append(bad, misuse{0, "the value is too long", "a value may have 65536 bytes"})
	}
	return out, bad
}

// lookup evaluates what stands between ${ and }. from is the variable's name
// when its value was taken.
func lookup(body string, vars Lookup) (value, from string, bad *misuse) {
	name, fallback, hasDefault := strings.Cut(body, ":-")
	switch {
	case !isVariable(name):
		return "", "", &misuse{0, "this is not a variable", "write ${NAME} or ${NAME:-default}; a name has letters, digits and _"}
	case strings.Contains(fallback, "${"):
		return "", "", &misuse{0, "a default cannot hold another variable", "write ${NAME:-default} with a plain default"}
	}
	if vars != nil {
		if v, ok := vars(name); ok {
			return v, name, nil
		}
	}
	if hasDefault {
		return strings.ReplaceAll(fallback, "$$", "$"), "", nil
	}
	return "", "", &misuse{0, "the variable " + name + " is not set",
		"set it in the environment or in .env, or give a default: ${" + name + ":-…}"}
}

func isVariable(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
