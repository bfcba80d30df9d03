package policy

import (
	"path"
	"strings"
)

const globHint = "a glob is relative to the root of its store: export-*.zip, logs/**/*.{json,log}"

// mostAlternatives bounds what the braces of one glob may expand to.
const mostAlternatives = 256

// globFlaw checks a glob below a root: elements of literal text, *, ?,
// [classes] and {alternatives,of,text}, \ before a literal character, and ** as an
// element of its own for any number of directories. A slash at the end takes
// whole directories as items.
func globFlaw(glob string) *flaw {
	switch {
	case glob == "":
		return &flaw{0, "the glob is empty", globHint}
	case len(glob) > maxPath:
		return &flaw{0, "the glob is too long", "a glob has at most 4096 bytes"}
	}
	texts, bad := alternatives(glob)
	if bad != nil {
		return bad
	}
	for _, text := range texts {
		if strings.HasPrefix(text, "/") {
			return &flaw{0, "the glob is absolute", globHint}
		}
		for _, element := range strings.Split(strings.TrimSuffix(text, "/"), "/") {
			if bad := elementFlaw(element); bad != nil {
				bad.offset = max(0, strings.Index(glob, element))
				return bad
			}
		}
	}
	return nil
}

func elementFlaw(element string) *flaw {
	bare := strings.ReplaceAll(element, `\`, "")
	if bad := badElement(bare); bad != "" {
		return &flaw{0, strings.Replace(bad, "the path", "the glob", 1), globHint}
	}
	if strings.Contains(element, "**") && element != "**" {
		return &flaw{0, "** stands alone between slashes", "write **/*.json, not **.json"}
	}
	// path.Match negates a class with ^ only; ! is as good here.
	if _, err := path.Match(strings.ReplaceAll(element, "[!", "[^"), ""); err != nil {
		return &flaw{0, "a [ of the glob is not closed, or its class is empty", "a class is [abc], [a-z] or [!a-z]"}
	}
	return nil
}

// alternatives replaces {a,b} by what it stands for, the first brace first.
func alternatives(glob string) ([]string, *flaw) {
	open, end, commas, bad := firstBraces(glob)
	switch {
	case bad != nil:
		return nil, bad
	case open < 0:
		return []string{glob}, nil
	case len(commas) == 0:
		return nil, &flaw{open, "a selector has no references, and braces without a comma say nothing", "write {json,log} for alternatives"}
	}
	var out []string
	from := open + 1
	for _, to := range append(commas, end) {
		more, bad := alternatives(glob[:open] + glob[from:to] + glob[end+1:])
		if bad != nil {
			return nil, bad
		}
		if out = append(out, more...); len(out) > mostAlternatives {
			return nil, &flaw{open, "the braces of the glob have too many alternatives", "write several rules, or a simpler glob"}
		}
		from = to + 1
	}
	return out, nil
}

// firstBraces finds the first pair of braces outside of a class, and the commas
// directly inside it.
func firstBraces(s string) (open, end int, commas []int, bad *flaw) {
	open = -1
	depth, inClass := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case inClass:
			inClass = c != ']'
		case c == '[':
			inClass = true
		case c == '{':
			if depth++; depth == 1 {
				open = i
			}
		case c == ',' && depth == 1:
			commas = append(commas, i)
		case c == '}' && depth == 0:
			return 0, 0, nil, &flaw{i, "a } without its {", globHint}
		case c == '}':
			if depth--; depth == 0 {
				return open, i, commas, nil
			}
		}
	}
	if depth > 0 {
		return 0, 0, nil, &flaw{open, "a { without its }", globHint}
	}
	return -1, 0, nil, nil
}

// layoutFlaw checks the pattern of a date in a file name. The elements YYYY, MM
// and DD are understood anywhere, hh, mm and ss only in this order, so that the
// mm of "summary" and the ss of "session" are text.
func layoutFlaw(layout string, kind StoreKind) *flaw {
	const hint = "a name is literal text, * and the elements YYYY MM DD hh mm ss: app-YYYY-MM-DD*.log"
	if i := strings.IndexByte(layout, '/'); i >= 0 && kind != Objects {
		return &flaw{i, "the anchor's name is a base name, without directories", hint}
	}
	seen := map[string]bool{}
	for i := 0; i < len(layout); {
		e := layoutElement(layout[i:], seen)
		if e == "" {
			i++
			continue
		}
		if seen[e] {
			return &flaw{i, "the element " + e + " is given twice", hint}
		}
		seen[e] = true
		i += len(e)
	}
	for _, need := range [][2]string{{"MM", "YYYY"}, {"DD", "MM"}, {"hh", "DD"}} {
		if seen[need[0]] && !seen[need[1]] {
			return &flaw{0, "the anchor's name has " + need[0] + " but no " + need[1], hint}
		}
	}
	if !seen["YYYY"] {
		return &flaw{0, "the anchor's name has no date", hint}
	}
	return nil
}

// layoutElement returns the element that s begins with, or "".
func layoutElement(s string, seen map[string]bool) string {
	for _, e := range []struct{ name, after string }{
		{"YYYY", ""}, {"MM", ""}, {"DD", ""}, {"hh", "DD"}, {"mm", "hh"}, {"ss", "mm"},
	} {
		lower := e.after != ""
		if strings.HasPrefix(s, e.name) && (!lower || seen[e.after] && !seen[e.name]) {
			return e.name
		}
	}
	return ""
}
