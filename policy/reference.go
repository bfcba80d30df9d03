package policy

import (
	"strings"
	"unicode/utf8"

	"github.com/epitaph/epitaph/connector"
)

// flaw is what is wrong with a text, and where in it.
type flaw struct {
	offset     int // bytes
	text, hint string
}

// names reads names joined by dots: bare, or in double quotes with "" for a
// quote. It returns them with the offset of what follows.
func names(s string, from int) (list []string, next int, bad *flaw) {
	for i := from; ; {
		name, end, bad := oneName(s, i)
		if bad != nil {
			return nil, end, bad
		}
		list = append(list, name)
		if end == len(s) || s[end] != '.' {
			return list, end, nil
		}
		i = end + 1
	}
}

func oneName(s string, from int) (name string, next int, bad *flaw) {
	if from < len(s) && s[from] == '"' {
		return quotedName(s, from)
	}
	i := from
	for i < len(s) {
		c, n := utf8.DecodeRuneInString(s[i:])
		if !isNameRune(c, i == from) || strings.HasPrefix(s[i:], "->") {
			break
		}
		i += n
	}
	if i == from {
		return "", i, &flaw{from, "a name is missing here", `a name has letters, digits, _, - and $; put any other in double quotes: "my table"`}
	}
	return s[from:i], i, nil
}

func quotedName(s string, from int) (name string, next int, bad *flaw) {
	var b strings.Builder
	for i := from + 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		case b.Len() == 0:
			return "", i, &flaw{from, "the name is empty", "write the name between the quotes"}
		case strings.Contains(b.String(), "."):
			return "", i, &flaw{from, "a quoted name cannot hold a dot", `put each name in quotes of its own: "schema"."table"`}
		default:
			return b.String(), i + 1, nil
		}
	}
	return "", len(s), &flaw{from, "the quote is not closed", ""}
}

const refHint = "a reference is {column}, {table.column}, {column[*]} or {column->key->key[*]}; a literal brace is {{ or }}"

// reference reads what stands between braces.
func reference(s string) (connector.Ref, *flaw) {
	list, i, bad := names(s, 0)
	if bad != nil {
		bad.hint = refHint
		return connector.Ref{}, bad
	}
	if len(list) > 3 {
		return connector.Ref{}, &flaw{0, "a reference has at most a schema, a table and a column", "for a key inside a JSON column write {column->key}"}
	}
	ref := connector.Ref{Column: list[len(list)-1], Table: strings.Join(list[:len(list)-1], ".")}
	for strings.HasPrefix(s[i:], "->") {
		key, next, bad := oneName(s, i+2)
		if bad != nil {
			bad.hint = refHint
			return connector.Ref{}, bad
		}
		ref.Path = append(ref.Path, key)
		i = next
	}
	if s[i:] == "[*]" {
		ref.Each = true
		i = len(s)
	}
	if i < len(s) {
		return connector.Ref{}, &flaw{i, "this is not part of a reference", refHint}
	}
	return ref, nil
}

// ParseTemplate reads a template: text with references in braces, {{ and }} for
// literal braces. The error says what is wrong.
func ParseTemplate(s string) (Template, error) {
	t, bad := template(s)
	if bad != nil {
		return Template{}, bad
	}
	return t, nil
}

// Error returns what is wrong.
func (f *flaw) Error() string { return f.text }

func template(s string) (Template, *flaw) {
	var (
		t Template
		b strings.Builder
	)
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "{{"), strings.HasPrefix(s[i:], "}}"):
			b.WriteByte(s[i])
			i++
		case s[i] == '}':
			return t, &flaw{i, "a } without its {", refHint}
		case s[i] != '{':
			b.WriteByte(s[i])
		default:
			end := closing(s, i)
			if end < 0 {
				return t, &flaw{i, "a { without its }", refHint}
			}
			ref, bad := reference(s[i+1 : end])
			if bad != nil {
				bad.offset += i + 1
				return t, bad
			}
			t.Literals = append(t.Literals, b.String())
			t.Refs = append(t.Refs, ref)
			b.Reset()
			i = end
		}
	}
	t.Literals = append(t.Literals, b.String())
	return t, nil
}

// closing finds the } that ends the reference opened at s[open], passing over
// quoted names.
func closing(s string, open int) int {
	inQuotes := false
	for i := open + 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			inQuotes = !inQuotes
		case s[i] == '}' && !inQuotes:
			return i
		}
	}
	return -1
}

// splitStore cuts "store:rest" at the first colon outside of braces.
func splitStore(s string) (store, rest string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ':':
			return s[:i], s[i+1:], true
		case '{':
			if strings.HasPrefix(s[i:], "{{") {
				i++
			} else if end := closing(s, i); end > 0 {
				i = end
			}
		}
	}
	return "", "", false
}

const maxPath = 4096

// climbing checks the path of files that a template makes, as far as its text
// is known: it must stay below the root whatever the references hold. Values
// are checked again when they are known. The offset is not told.
func climbing(t Template) *flaw {
	// A reference stands for itself here: a byte that no literal holds.
	const mark = "\x00"
	p := strings.Join(t.Literals, mark)
	const hint = "a path is relative to the root of its store, such as files/{id}.bin"
	switch {
	case p == "" || p == "/":
		return &flaw{0, "the path is empty", hint}
	case strings.HasPrefix(p, "/"):
		return &flaw{0, "the path is absolute", hint}
	case len(p) > maxPath:
		return &flaw{0, "the path is too long", "a path has at most 4096 bytes"}
	}
	for _, element := range strings.Split(strings.TrimSuffix(p, "/"), "/") {
		if bad := badElement(element); bad != "" {
			return &flaw{0, bad, hint}
		}
	}
	return nil
}

func badElement(element string) string {
	switch element {
	case "":
		return "the path has an empty element (two slashes)"
	case "..":
		return "the path climbs out of its root with .."
	case ".":
		return "the path has an element that is only a dot"
	}
	return ""
}

// conditionFlaw checks what can be known of a SQL condition without a database:
// that it is one expression that cannot reach out of the parentheses it is put in.
func conditionFlaw(sql string) *flaw {
	depth := 0
	for i := 0; i < len(sql); i++ {
		switch c := sql[i]; c {
		case '\'', '"', '`':
			end := strings.IndexByte(sql[i+1:], c)
			if end < 0 {
				return &flaw{i, "the quote is not closed", "double a quote inside a text: 'it''s'"}
			}
			i += end + 1
		case '(':
			depth++
		case ')':
			if depth--; depth < 0 {
				return &flaw{i, "a ) without its (", "a condition is one expression, such as user_id IS NULL"}
			}
		case ';':
			return &flaw{i, "a condition cannot hold a semicolon", "a condition is one expression, such as user_id IS NULL"}
		}
		if rest := sql[i:]; strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "/*") {
			return &flaw{i, "a condition cannot hold a comment", "put the comment in the YAML, after #"}
		}
	}
	if depth > 0 {
		return &flaw{0, "a ( without its )", "close every parenthesis"}
	}
	return nil
}
