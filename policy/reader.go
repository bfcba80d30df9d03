package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// reader reads typed values from YAML nodes and collects every problem.
type reader struct {
	file     string
	lines    []string
	vars     Lookup
	problems []Problem
	more     int
}

func newReader(file string, src []byte, vars Lookup) *reader {
	r := &reader{file: file, vars: vars}
	if len(src) <= maxSize {
		text := strings.TrimPrefix(strings.ToValidUTF8(string(src), "�"), "\ufeff")
		r.lines = strings.Split(text, "\n")
	}
	return r
}

// add records a problem. text and hint never hold the value of a variable.
func (r *reader) add(at Pos, text, hint string) {
	for _, p := range r.problems {
		if p.Pos == at && p.Text == text {
			return
		}
	}
	if len(r.problems) >= maxProblems {
		r.more++
		return
	}
	p := Problem{Pos: at, Text: text, Hint: hint}
	if at.Line > 0 && at.Line <= len(r.lines) && len(r.lines[at.Line-1]) <= maxLine {
		p.Line, p.caret = snippet(strings.TrimRight(r.lines[at.Line-1], "\r"), at.Column)
	}
	r.problems = append(r.problems, p)
}

// err returns the problems in the order of the file, or nil.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	return &Errors{File: r.file, Problems: r.problems, More: r.more}
}

// credentials finds passwords that were written into the file itself.
var credentials = regexp.MustCompile(`(?i)://[^\s"'/:@]*:([^\s"']+)@|(?:password|passwd|pwd|secret|token)[a-z_]*["']?\s*[=:]\s*["']?([^\s"'&,}]+)`)

// snippet is a source line fit to be shown: passwords masked, nothing
// unprintable, at most about 120 characters around the column, which is moved
// along with the text.
func snippet(line string, column int) (string, int) {
	for from := 0; from < len(line); {
		m := credentials.FindStringSubmatchIndex(line[from:])
		if m == nil {
			break
		}
		start, end := from+max(m[2], m[4]), from+max(m[3], m[5])
		if strings.Contains(line[start:end], "${") {
			from = end
			continue
		}
		first := utf8.RuneCountInString(line[:start]) + 1
		width := utf8.RuneCountInString(line[start:end])
		switch {
		case column >= first+width:
			column += 3 - width
		case column > first:
			column = first
		}
		line = line[:start] + "***" + line[end:]
		from = start + 3
	}
	runes := []rune(printable(line))
	const before, after = 80, 40
	if len(runes) <= before+after {
		return string(runes), column
	}
	lo, hi := max(0, column-before), min(len(runes), column+after)
	if lo > hi {
		lo = hi
	}
	out := string(runes[lo:hi])
	if hi < len(runes) {
		out += "…"
	}
	if lo > 0 {
		out, column = "…"+out, column-lo+1
	}
	return out, column
}

// printable replaces what could act on a terminal.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == '\t' || unicode.IsPrint(c) {
			return c
		}
		return '�'
	}, s)
}

// value is a scalar with its variables filled in.
type value struct {
	expansion
	node *yaml.Node
}

// quoted names the value in a message: itself where the file shows it, else the
// variables it was made from.
func (v value) quoted() string {
	if len(v.from) > 0 {
		return "the value of " + strings.Join(v.from, " and ")
	}
	return quote(v.text)
}

func quote(s string) string {
	if utf8.RuneCountInString(s) > 60 {
		s = string([]rune(s)[:60]) + "…"
	}
	return strconv.Quote(s)
}

// checked says where a value with variables comes from, for a hint.
func (v value) checked(hint string) string {
	if len(v.from) == 0 {
		return hint
	}
	return strings.TrimSuffix("check the value of "+strings.Join(v.from, " and ")+": "+hint, ": ")
}

// at is the place of a byte of v.text in the file, where that can be told: in a
// value on one line without escapes and variables. Elsewhere it is the value's.
func (r *reader) at(v value, offset int) Pos {
	return r.inside(v.node, v.text, offset)
}

func (r *reader) inside(n *yaml.Node, text string, offset int) Pos {
	at := pos(n)
	if text == "" || n.Value != text || offset > len(text) || at.Line < 1 || at.Line > len(r.lines) || len(r.lines[at.Line-1]) > maxLine {
		return at
	}
	line := []rune(r.lines[at.Line-1])
	start := at.Column - 1
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		start++
	}
	if start > len(line) || !strings.HasPrefix(string(line[start:]), text) {
		return at
	}
	at.Column = start + 1 + utf8.RuneCountInString(text[:offset])
	return at
}

// problem records what is wrong with a value, at an offset in it. What text and
// hint quote is left out when it may have come from a variable.
func (r *reader) problem(v value, offset int, text, hint string) {
	if len(v.from) > 0 {
		text = quotations.ReplaceAllString(text, "…")
	}
	r.add(r.at(v, offset), text, v.checked(hint))
}

var quotations = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// scalar reads a single value and fills its variables in.
func (r *reader) scalar(n *yaml.Node, what string) (value, bool) {
	switch {
	case refused(n):
		return value{}, false
	case n.Kind != yaml.ScalarNode:
		r.add(pos(n), what+" must be a single value, not "+kindOf(n), "")
		return value{}, false
	case n.Tag == "!!null":
		r.add(pos(n), what+" has no value", "write a value after the colon, or remove the key")
		return value{}, false
	}
	e, bad := expand(n.Value, r.vars)
	for _, m := range bad {
		r.add(r.inside(n, n.Value, m.offset), m.text, m.hint)
	}
	v := value{e, n}
	if len(bad) > 0 {
		return v, false
	}
	if !utf8.ValidString(v.text) {
		r.problem(v, 0, what+" is not UTF-8 text", "")
		return v, false
	}
	for i, c := range v.text {
		if c == '\n' || c == '\t' || c >= ' ' && c != 0x7f {
			continue
		}
		r.problem(v, i, what+" holds a control character", "remove it")
		return v, false
	}
	return v, true
}

// text reads a text that is not empty.
func (r *reader) text(n *yaml.Node, what string) (value, bool) {
	v, ok := r.maybeEmpty(n, what)
	if ok && strings.TrimSpace(v.text) == "" {
		r.problem(v, 0, what+" is empty", "write a value, or remove the key")
		return v, false
	}
	return v, ok
}

// maybeEmpty reads a text.
func (r *reader) maybeEmpty(n *yaml.Node, what string) (value, bool) {
	v, ok := r.scalar(n, what)
	if ok && n.Tag != "!!str" {
		r.add(pos(n), fmt.Sprintf("%s must be text, and YAML reads this as %s", what, tagName(n.Tag)), "put it in quotes")
		return v, false
	}
	return v, ok
}

// boolean reads true or false; from a variable also 1, 0, yes and no.
func (r *reader) boolean(n *yaml.Node, what string) (val, ok bool) {
	v, ok := r.scalar(n, what)
	if !ok {
		return false, false
	}
	text := strings.ToLower(v.text)
	if n.Tag == "!!bool" || v.refs {
		switch text {
		case "true":
			return true, true
		case "false":
			return false, true
		}
	}
	if v.refs {
		switch text {
		case "1", "yes":
			return true, true
		case "0", "no":
			return false, true
		}
		why := " is neither true nor false"
		if text == "" {
			why = " is empty"
		}
		r.problem(v, 0, fmt.Sprintf("%s: %s%s", what, v.quoted(), why), "write true, false, 1, 0, yes or no")
		return false, false
	}
	r.add(pos(n), what+" must be true or false", "write true or false, without quotes")
	return false, false
}

// integer reads a whole number above zero.
func (r *reader) integer(n *yaml.Node, what, hint string) (int64, bool) {
	v, ok := r.scalar(n, what)
	if !ok {
		return 0, false
	}
	digits := strings.Trim(v.text, "0123456789") == "" && v.text != "" && (v.text[0] != '0' || v.text == "0")
	if n.Tag != "!!int" && !v.refs || !digits {
		r.problem(v, 0, what+" must be a whole number", hint)
		return 0, false
	}
	i, err := strconv.ParseInt(v.text, 10, 64)
	switch {
	case err != nil:
		r.problem(v, 0, what+" is too large", hint)
		return 0, false
	case i == 0:
		r.problem(v, 0, what+" must be more than zero", hint)
		return 0, false
	}
	return i, true
}

// period reads a period.
func (r *reader) period(n *yaml.Node, what string) (Period, bool) {
	v, ok := r.scalar(n, what)
	if !ok {
		return Period{}, false
	}
	p, err := ParsePeriod(v.text)
	if err == nil {
		return p, true
	}
	perr := err.(*PeriodError)
	text := perr.Text
	if len(v.from) > 0 {
		text = fmt.Sprintf("%s, with %s filled in", text, strings.Join(v.from, " and "))
		for _, name := range v.from {
			if s, _ := r.vars(name); s == "" {
				text = name + " is empty, so this is not a period"
			}
		}
	}
	r.problem(v, 0, what+": "+text, perr.Hint)
	return Period{}, false
}

// field is one key of a mapping with its value.
type field struct{ key, val *yaml.Node }

// mapping reads a mapping with keys from a closed list. Unknown and repeated keys
// are problems; what is returned holds known keys only, the first of each.
func (r *reader) mapping(n *yaml.Node, what string, allowed ...string) (map[string]field, bool) {
	fields := map[string]field{}
	ok := r.each(n, what, func(f field) {
		name := f.key.Value
		if !slices.Contains(allowed, name) {
			hint := what + " has the keys " + strings.Join(allowed, ", ")
			if len(allowed) == 1 {
				hint = "the only key of " + what + " is " + allowed[0]
			}
			if near := nearest(name, allowed); near != "" {
				hint = "did you mean " + near + "?"
			}
			r.add(pos(f.key), fmt.Sprintf("unknown key %s in %s", quote(name), what), hint)
			return
		}
		fields[name] = f
	})
	return fields, ok
}

// each calls fn for every key of a mapping, in the order of the file, once each.
func (r *reader) each(n *yaml.Node, what string, fn func(field)) bool {
	if refused(n) {
		return false
	}
	if n.Kind != yaml.MappingNode {
		r.add(pos(n), fmt.Sprintf("%s must be a mapping of keys to values, not %s", what, kindOf(n)), "")
		return false
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f := field{n.Content[i], n.Content[i+1]}
		switch {
		case refused(f.key) || f.key.Tag == "!!merge":
			continue
		case f.key.Kind != yaml.ScalarNode:
			r.add(pos(f.key), "a key must be a single word", "")
			continue
		}
		if line, twice := first[f.key.Value]; twice {
			r.add(pos(f.key), fmt.Sprintf("the key %s is given twice in %s", quote(f.key.Value), what),
				fmt.Sprintf("the other is on line %d; keep one", line))
			continue
		}
		first[f.key.Value] = f.key.Line
		fn(f)
	}
	return true
}

// list reads a list, or a single value as a list of one.
func (r *reader) list(n *yaml.Node, what string) []*yaml.Node {
	switch {
	case refused(n):
		return nil
	case n.Kind == yaml.ScalarNode:
		return []*yaml.Node{n}
	case n.Kind != yaml.SequenceNode:
		r.add(pos(n), what+" must be a list, not "+kindOf(n), "write each element on a line of its own, after a hyphen")
		return nil
	case len(n.Content) == 0:
		r.add(pos(n), what+" is an empty list", "add an element, or remove the key")
	}
	return n.Content
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	default:
		return "a single value"
	}
}

func tagName(tag string) string {
	switch tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	default:
		return strings.TrimPrefix(tag, "!!")
	}
}

// nearest returns the name most like s, or "" when none is close.
func nearest(s string, names []string) string {
	if len(s) > 64 {
		return ""
	}
	best, limit := "", max(1, len(s)/3)
	for _, n := range names {
		if d := distance(strings.ToLower(s), n); d <= limit {
			best, limit = n, d-1
		}
	}
	return best
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func distance(a, b string) int {
	var rows [3][]int
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
	}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur, prev, older := rows[2], rows[1], rows[0]
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], older[j-2]+1)
			}
		}
		rows[0], rows[1], rows[2] = prev, cur, older
	}
	return rows[1][len(b)]
}
