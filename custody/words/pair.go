package words

import (
	"errors"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Pair is a rule that a file must have another within a time.
type Pair struct {
	// Made is the name of the action that made files of the rule, and Store the
	// store they lie in; "" for any.
	Made, Store string
	// File is a pattern for the base name or, when it holds a slash, for the whole
	// path below the root of the store. * stands for anything within a name, ** for
	// any number of directories, ? for one character, [a-z] and [!a-z] for one of
	// a class.
	File string
	// Beside names the other file: in the same directory or, when it holds a
	// slash, below the root of its store. Its nth * stands for what the nth of File
	// matched, and its nth ** for what the nth ** did.
	Beside string
	// In is the store of the other file; "" for the same one. Another store has no
	// same directory: Beside is then a path below its root.
	In string
	// Within is how long after the operation the other file must be there.
	Within time.Duration
}

// Pattern is a Pair that was read. It is immutable.
type Pattern struct {
	Pair
	re    *regexp.Regexp
	stars []bool // of each group of re: it is **
}

// PairError says what is wrong with a pair, in the field that it names.
type PairError struct {
	Field string // "file" or "beside"
	Text  string
}

// Error returns what is wrong.
func (e *PairError) Error() string { return e.Field + " " + e.Text }

// Compile reads the patterns of a pair. The error is an [*PairError].
func (p Pair) Compile() (*Pattern, error) {
	re, stars, err := compile(p.File)
	if err != nil {
		return nil, &PairError{"file", err.Error()}
	}
	_, used, err := compile(p.Beside)
	switch {
	case err != nil:
		return nil, &PairError{"beside", err.Error()}
	case strings.ContainsAny(p.Beside, "?[\\"):
		return nil, &PairError{"beside", "can hold * and ** only"}
	case count(used, true) > count(stars, true) || count(used, false) > count(stars, false):
		return nil, &PairError{"beside", "holds more wildcards than the pattern of the file"}
	}
	return &Pattern{p, re, stars}, nil
}

func count(list []bool, of bool) (n int) {
	for _, b := range list {
		if b == of {
			n++
		}
	}
	return n
}

// compile turns a pattern into an expression that matches all of a text, in time
// proportional to its length, and says of each group whether it is **.
func compile(pattern string) (re *regexp.Regexp, stars []bool, err error) {
	switch {
	case pattern == "":
		return nil, nil, errors.New("is empty")
	case !utf8.ValidString(pattern):
		return nil, nil, errors.New("is not UTF-8 text")
	case len(pattern) > 4096:
		return nil, nil, errors.New("is too long")
	case strings.HasPrefix(pattern, "/") || strings.HasSuffix(pattern, "/"):
		return nil, nil, errors.New("begins or ends with a slash: it is below the root, and names a file")
	}
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	elements := strings.Split(pattern, "/")
	for i, element := range elements {
		last := i == len(elements)-1
		switch {
		case element == "" || element == "." || element == "..":
			return nil, nil, errors.New("has an element that is empty or only dots")
		case element == "**" && !last:
			b.WriteString(`((?:[^/]+/)*)`)
			stars = append(stars, true)
			continue
		case strings.Contains(element, "**"):
			return nil, nil, errors.New("has a ** that does not stand alone before a slash")
		}
		n, err := wildcards(&b, element)
		if err != nil {
			return nil, nil, err
		}
		stars = append(stars, make([]bool, n)...)
		if !last {
			b.WriteString("/")
		}
	}
	re, err = regexp.Compile(b.String() + `\z`)
	if err != nil {
		return nil, nil, errors.New("has a class that is none")
	}
	return re, stars, nil
}

// wildcards writes one element of a path, and returns how many * it has.
func wildcards(b *strings.Builder, s string) (stars int, err error) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*':
			b.WriteString(`([^/]*)`)
			stars++
		case '?':
			b.WriteString(`[^/]`)
		case '[':
			end := strings.IndexByte(s[i:], ']')
			class := strings.TrimLeft(s[i+1:max(i+1, i+end)], "!^")
			if end < 2 || class == "" || len(class) < end-2 {
				return 0, errors.New("has a [ that is not closed, or an empty class")
			}
			not := ""
			if len(class) < end-1 {
				not = "^"
			}
			b.WriteString("[" + not + strings.NewReplacer(`\`, `\\`, `[`, `\[`, `^`, `\^`, `&`, `\&`).Replace(class) + "]")
			i += end
		default:
			b.WriteString(regexp.QuoteMeta(s[i : i+1]))
		}
	}
	return stars, nil
}

// Other returns the path, below the root of its store, of the file that must be
// there because of the one at path. It is not ok when the pair does not speak of
// that file.
func (p *Pattern) Other(path string) (other string, ok bool) {
	dir, base := path[:strings.LastIndexByte(path, '/')+1], path[strings.LastIndexByte(path, '/')+1:]
	text := base
	if strings.Contains(p.File, "/") {
		text = path
	}
	found := p.re.FindStringSubmatch(text)
	if found == nil {
		return "", false
	}
	var names, dirs []string
	for i, star := range p.stars {
		if star {
			dirs = append(dirs, found[i+1])
		} else {
			names = append(names, found[i+1])
		}
	}
	rest := p.Beside
	var b strings.Builder
	if p.In == "" && !strings.Contains(rest, "/") {
		b.WriteString(dir)
	}
	for rest != "" {
		switch {
		case strings.HasPrefix(rest, "**/"):
			b.WriteString(dirs[0])
			dirs, rest = dirs[1:], rest[3:]
		case rest[0] == '*':
			b.WriteString(names[0])
			names, rest = names[1:], rest[1:]
		default:
			b.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	return b.String(), true
}
