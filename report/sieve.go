package report

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/epitaph/epitaph/ledger"
)

// named reports that the trail shows items by name.
func (o *Options) named() bool { return o.Items || o.Filter.Item != "" || o.File != "" }

// sieve keeps what only the sealed texts can tell. Nil keeps everything.
type sieve struct {
	asked    []condition
	file     string
	fileAsks bool
}

// condition is one question about who, where or for whom.
type condition struct {
	name  string   // of the values of an item
	texts []string // names of secrets and facts of an entry
	want  string
	runs  map[string]bool // runs that were started so
}

func (o *Options) sieve() *sieve {
	s := &sieve{file: slashless(o.File), fileAsks: o.File != ""}
	for _, c := range []condition{
		{name: "actor", texts: []string{"who", "by"}, want: o.Actor},
		{name: "host", texts: []string{"host"}, want: o.Host},
		{name: "scope", want: o.Scope},
	} {
		if c.want != "" {
			c.runs = map[string]bool{}
			s.asked = append(s.asked, c)
		}
	}
	if !s.fileAsks && len(s.asked) == 0 {
		return nil
	}
	return s
}

// CheckFile reports a glob that cannot be read.
func CheckFile(glob string) error {
	_, err := path.Match(slashless(glob), "")
	return err
}

// literal is the longest text that every name which matches the glob holds.
func literal(glob string) (longest string) {
	var run []byte
	end := func() {
		if len(run) > len(longest) {
			longest = string(run)
		}
		run = run[:0]
	}
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; c {
		case '*', '?':
			end()
		case '[':
			end()
			if i++; i < len(glob) && glob[i] == '^' {
				i++
			}
			for ; i < len(glob) && glob[i] != ']'; i++ {
				if glob[i] == '\\' {
					i++
				}
			}
		case '\\':
			if i++; i < len(glob) {
				run = append(run, glob[i])
			}
		default:
			run = append(run, c)
		}
	}
	end()
	return longest
}

// slashless makes the slash a character like any other, so that "*.wav" is found
// in every directory.
func slashless(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

// findRuns remembers which runs were started by whom and where: their other
// entries do not say so.
func (s *sieve) findRuns(ctx context.Context, r Reader) error {
	if len(s.asked) == 0 {
		return nil
	}
	for _, c := range s.asked {
		if c.texts == nil {
			continue
		}
		f := ledger.Filter{Kinds: []ledger.Kind{ledger.RunStarted}, Unseal: true, Clues: []ledger.Clue{{Name: c.name, Text: c.want}}}
		for e, err := range r.Entries(ctx, f) {
			if err != nil {
				return err
			}
			if c.entry(&e) {
				c.runs[e.Run] = true
			}
		}
	}
	return nil
}

// clues are what the ledger can skip by.
func (s *sieve) clues() (clues []ledger.Clue) {
	for _, c := range s.asked {
		clues = append(clues, ledger.Clue{Name: c.name, Text: c.want, Runs: slices.Sorted(maps.Keys(c.runs))})
	}
	return clues
}

// keep tells whether a line passes, and takes items out of it that do not.
func (s *sieve) keep(l *Line) bool {
	if s == nil {
		return true
	}
	var items []*condition // those that only an item can meet
	for i := range s.asked {
		if c := &s.asked[i]; !c.entry(&l.Entry) && (l.Run == "" || !c.runs[l.Run]) {
			items = append(items, c)
		}
	}
	if len(items) == 0 && !s.fileAsks {
		return true
	}
	kept := l.Batch[:0:0]
	for i := range l.Batch {
		// What an intent or outcome holds is a record's, not an application's word.
		if len(items) > 0 && (l.Kind == ledger.Intent || l.Kind == ledger.Outcome) {
			break
		}
		if s.keepItem(&l.Batch[i], items) {
			kept = append(kept, l.Batch[i])
		}
	}
	l.Batch = kept
	return len(kept) > 0
}

func (s *sieve) keepItem(it *Item, asked []*condition) bool {
	for _, c := range asked {
		if !c.item(it) {
			return false
		}
	}
	if !s.fileAsks {
		return true
	}
	if s.matches(it.Locator) {
		return true
	}
	for _, p := range it.Parts {
		if s.matches(p.Locator) {
			return true
		}
	}
	return false
}

func (s *sieve) matches(locator string) bool {
	ok, err := path.Match(s.file, slashless(locator))
	return ok && err == nil && locator != ""
}

// entry reports that the entry itself says so.
func (c *condition) entry(e *ledger.Entry) bool {
	for _, name := range c.texts {
		if code, ok := e.Code(name); ok && code == c.want {
			return true
		}
		if text, ok := e.Secret(name); ok && hasWord(text, c.want) {
			return true
		}
	}
	return false
}

// item reports that an application said so of the item.
func (c *condition) item(it *Item) bool {
	for _, kind := range it.Values {
		for _, pair := range kind {
			if len(pair) == 2 && pair[0] == c.name && pair[1] == c.want {
				return true
			}
		}
	}
	return false
}

// hasWord reports that a text holds a word as a whole: "anna" is in "root (sudo
// by anna)", and not in "joanna".
func hasWord(text, word string) bool {
	inside := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return false
		}
		i += from
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, _ := utf8.DecodeRuneInString(text[i+len(word):])
		if (i == 0 || !inside(before)) && (i+len(word) == len(text) || !inside(after)) {
			return true
		}
		from = i + 1
	}
}
