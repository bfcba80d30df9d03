package files

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// glob is a compiled collection: one or more alternatives, from braces, that
// are walked together, so that a file which several of them name is met once.
type glob struct{ alts []alternative }

type alternative struct {
	segs []segment
	tree bool // a trailing slash: whole directories are the items
}

// segment matches one element of a path.
type segment struct {
	any    bool   // "**": any number of directories
	plain  bool   // no wildcard: lit is the name
	lit    string // with plain
	tokens []token
	dotted bool // begins with a literal dot, and so may match a dotfile
}

type token struct {
	kind   tokenKind
	r      rune
	ranges []rune // pairs lo, hi
	negate bool
}

type tokenKind uint8

const (
	oneRune tokenKind = iota
	anyRune           // ?
	anyRun            // *
	class             // […]
)

// state is a place in an alternative: the elements before seg are matched.
type state struct{ alt, seg uint16 }

// mostAlternatives bounds what braces may expand to.
const mostAlternatives = 256

// compile reads a collection. Its errors name what is wrong, for Check.
func compile(pattern string) (*glob, error) {
	if pattern == "" {
		return nil, errors.New("the glob is empty")
	}
	if strings.IndexByte(pattern, 0) >= 0 {
		return nil, errors.New("the glob holds a NUL")
	}
	texts, err := expand(pattern)
	if err != nil {
		return nil, err
	}
	g := new(glob)
	for _, t := range texts {
		a, err := compileAlternative(t)
		if err != nil {
			return nil, err
		}
		g.alts = append(g.alts, a)
	}
	return g, nil
}

func compileAlternative(text string) (alternative, error) {
	var a alternative
	text, a.tree = strings.CutSuffix(text, "/")
	for _, el := range strings.Split(text, "/") {
		switch {
		case el == "":
			return a, errors.New("the glob is absolute or has an empty element")
		case el == "." || el == "..":
			return a, errors.New("an element . or .. would climb")
		case el == "**":
			if n := len(a.segs); n > 0 && a.segs[n-1].any {
				continue // "**/**" says no more than "**"
			}
			a.segs = append(a.segs, segment{any: true})
			continue
		case strings.Contains(el, "**"):
			return a, errors.New("** must stand alone between slashes")
		}
		s, err := compileSegment(el)
		if err != nil {
			return a, err
		}
		a.segs = append(a.segs, s)
	}
	return a, nil
}

// expand replaces {a,b} by its alternatives, the first brace first.
func expand(p string) ([]string, error) {
	open, end, commas := -1, -1, []int(nil)
	depth, inClass := 0, false
	for i := 0; i < len(p) && end < 0; i++ {
		switch c := p[i]; {
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
		case c == '}' && depth > 0:
			if depth--; depth == 0 {
				end = i
			}
		}
	}
	if open < 0 {
		return []string{p}, nil
	}
	if end < 0 {
		return nil, errors.New("a { is not closed")
	}
	var out []string
	from := open + 1
	for _, to := range append(commas, end) {
		more, err := expand(p[:open] + p[from:to] + p[end+1:])
		if err != nil {
			return nil, err
		}
		if out = append(out, more...); len(out) > mostAlternatives {
			return nil, errors.New("the braces expand to too many alternatives")
		}
		from = to + 1
	}
	return out, nil
}

func compileSegment(el string) (segment, error) {
	s := segment{plain: true, dotted: el[0] == '.' || strings.HasPrefix(el, `\.`)}
	var lit strings.Builder
	for i := 0; i < len(el); {
		r, n := utf8.DecodeRuneInString(el[i:])
		switch r {
		case '*':
			s.plain = false
			s.tokens = append(s.tokens, token{kind: anyRun})
		case '?':
			s.plain = false
			s.tokens = append(s.tokens, token{kind: anyRune})
		case '[':
			t, used, err := compileClass(el[i:])
			if err != nil {
				return s, err
			}
			s.plain, n = false, used
			s.tokens = append(s.tokens, t)
		case '\\':
			i += n
			if i == len(el) {
				return s, errors.New(`the glob ends in a \`)
			}
			r, n = decode(el[i:])
			lit.WriteString(el[i : i+n])
			s.tokens = append(s.tokens, token{r: r})
		default:
			r, n = decode(el[i:])
			lit.WriteString(el[i : i+n])
			s.tokens = append(s.tokens, token{r: r})
		}
		i += n
	}
	s.lit = lit.String()
	if s.plain && (s.lit == "." || s.lit == "..") {
		return s, errors.New("an element . or .. would climb")
	}
	return s, nil
}

// compileClass reads […] with ranges; ! or ^ in front negates.
func compileClass(el string) (token, int, error) {
	t := token{kind: class}
	i := 1
	if i < len(el) && (el[i] == '!' || el[i] == '^') {
		t.negate, i = true, i+1
	}
	next := func() (rune, bool) {
		if i < len(el) && el[i] == '\\' {
			i++
		}
		if i >= len(el) {
			return 0, false
		}
		r, n := decode(el[i:])
		i += n
		return r, true
	}
	for first := true; ; first = false {
		if i < len(el) && el[i] == ']' && !first {
			return t, i + 1, nil
		}
		lo, ok := next()
		if !ok {
			return t, 0, errors.New("a [ is not closed")
		}
		hi := lo
		if i+1 < len(el) && el[i] == '-' && el[i+1] != ']' {
			i++
			if hi, ok = next(); !ok {
				return t, 0, errors.New("a [ is not closed")
			}
		}
		if hi < lo {
			return t, 0, errors.New("a range in […] runs backwards")
		}
		t.ranges = append(t.ranges, lo, hi)
	}
}

// decode reads one rune, or one byte that is not UTF-8, told apart from every
// rune by lying below zero: file names are bytes.
func decode(s string) (rune, int) {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 {
		return -rune(s[0]), 1
	}
	return r, n
}

func decodeBytes(s []byte) (rune, int) {
	if s[0] < utf8.RuneSelf {
		return rune(s[0]), 1
	}
	r, n := utf8.DecodeRune(s)
	if r == utf8.RuneError && n == 1 {
		return -rune(s[0]), 1
	}
	return r, n
}

// match matches one name. As in a shell, a leading dot must be spelled out.
func (s *segment) match(name []byte) bool {
	if s.plain {
		return string(name) == s.lit
	}
	if name[0] == '.' && !s.dotted {
		return false
	}
	i, t := 0, 0
	star, retry := -1, 0 // the last * and where it would next resume
	for i < len(name) || t < len(s.tokens) {
		if t < len(s.tokens) {
			tok := &s.tokens[t]
			if tok.kind == anyRun {
				star, retry = t, i
				t++
				continue
			}
			if i < len(name) {
				r, n := decodeBytes(name[i:])
				if tok.matches(r) {
					i, t = i+n, t+1
					continue
				}
			}
		}
		if star < 0 || retry >= len(name) {
			return false
		}
		_, n := decodeBytes(name[retry:])
		retry += n
		i, t = retry, star+1
	}
	return true
}

func (t *token) matches(r rune) bool {
	switch t.kind {
	case anyRune:
		return true
	case class:
		in := false
		for k := 0; k < len(t.ranges); k += 2 {
			in = in || t.ranges[k] <= r && r <= t.ranges[k+1]
		}
		return in != t.negate
	default:
		return t.r == r
	}
}

// start is where a walk begins, at the root.
func (g *glob) start() []state {
	var ss []state
	for a := range g.alts {
		ss = g.add(ss, state{alt: uint16(a)})
	}
	return ss
}

// add adds s and, where it stands at "**", the state that skips it.
func (g *glob) add(ss []state, s state) []state {
	for _, have := range ss {
		if have == s {
			return ss
		}
	}
	ss = append(ss, s)
	segs := g.alts[s.alt].segs
	if segs[s.seg].any && int(s.seg)+1 < len(segs) {
		ss = g.add(ss, state{s.alt, s.seg + 1})
	}
	return ss
}

// enter gives the states inside the directory name, none when nothing below it
// can match. The dot rule holds for "**" too.
func (g *glob) enter(ss []state, name []byte) []state {
	var out []state
	for _, s := range ss {
		segs := g.alts[s.alt].segs
		switch seg := &segs[s.seg]; {
		case seg.any:
			if name[0] != '.' {
				out = g.add(out, s)
			}
		case int(s.seg)+1 < len(segs) && seg.match(name):
			out = g.add(out, state{s.alt, s.seg + 1})
		}
	}
	return out
}

// item reports whether name, found where ss holds, is an item: a whole
// directory with tree, a file without.
func (g *glob) item(ss []state, name []byte, tree bool) bool {
	for _, s := range ss {
		a := &g.alts[s.alt]
		if a.tree != tree || int(s.seg)+1 != len(a.segs) {
			continue
		}
		seg := &a.segs[s.seg]
		if seg.any && name[0] != '.' || !seg.any && seg.match(name) {
			return true
		}
	}
	return false
}

// names gives the only names that can matter where ss holds, in order, and
// false when a wildcard makes that any name. It is what lets a literal prefix
// be entered without listing what lies beside it.
func (g *glob) names(ss []state) ([]string, bool) {
	var out []string
	for _, s := range ss {
		seg := &g.alts[s.alt].segs[s.seg]
		if !seg.plain {
			return nil, false
		}
		out = append(out, seg.lit)
	}
	return out, true
}

// matches reports whether the item at p is in the collection.
func (g *glob) matches(p place) bool {
	ss := g.start()
	if p.dir != "" {
		for _, el := range strings.Split(p.dir, "/") {
			if g.item(ss, []byte(el), true) {
				return false // it belongs to the item above it
			}
			if ss = g.enter(ss, []byte(el)); len(ss) == 0 {
				return false
			}
		}
	}
	return g.item(ss, []byte(p.name), p.tree)
}
