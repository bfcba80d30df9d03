package connector

import (
	"errors"
	"strings"
	"time"
)

// Layout reads the date that a name carries: see [Anchor]. It is immutable.
type Layout struct {
	tokens []dateToken
	unit   int // the smallest element given
}

type dateToken struct {
	kind int // one of the elements, or literal, or anything
	lit  string
}

// The elements in order of size, and the two tokens that are no element.
const (
	year = iota
	month
	day
	hour
	minute
	second
	literal
	anything
)

var elements = [...]struct {
	text   string
	lo, hi int
}{{"YYYY", 1, 9999}, {"MM", 1, 12}, {"DD", 1, 31}, {"hh", 0, 23}, {"mm", 0, 59}, {"ss", 0, 60}}

// CompileLayout reads a layout. The error says what is wrong with it. An element is read once, and hh, mm and ss only
// to the right of the next larger one, so that the ss of "session-" and the
// mm of "summary-" are the letters they look like.
func CompileLayout(text string) (*Layout, error) {
	l := new(Layout)
	var have [literal]bool
	for i := 0; i < len(text); {
		k := elementAt(text[i:], &have)
		switch {
		case text[i] == '*':
			if n := len(l.tokens); n == 0 || l.tokens[n-1].kind != anything {
				l.tokens = append(l.tokens, dateToken{kind: anything})
			}
			i++
		case k < literal:
			if have[k] {
				return nil, errors.New("the layout gives " + elements[k].text + " twice")
			}
			have[k] = true
			l.tokens = append(l.tokens, dateToken{kind: k})
			i += len(elements[k].text)
		default:
			if n := len(l.tokens); n > 0 && l.tokens[n-1].kind == literal {
				l.tokens[n-1].lit += text[i : i+1]
			} else {
				l.tokens = append(l.tokens, dateToken{kind: literal, lit: text[i : i+1]})
			}
			i++
		}
	}
	if !have[year] {
		return nil, errors.New("the layout has no YYYY")
	}
	for k := month; k < literal; k++ {
		if have[k] && !have[k-1] {
			return nil, errors.New("the layout has " + elements[k].text + " without " + elements[k-1].text)
		}
		if have[k] {
			l.unit = k
		}
	}
	return l, nil
}

func elementAt(text string, have *[literal]bool) int {
	for k := range elements {
		if !strings.HasPrefix(text, elements[k].text) {
			continue
		}
		if k >= hour && (!have[k-1] || have[k]) {
			continue
		}
		return k
	}
	return literal
}

// mostSteps bounds the search for the date in one name.
const mostSteps = 20_000

// Instant gives the end of the smallest element in zone, UTC. Where the name
// can be read in more than one way, or the wall clock shows a time twice, it is
// the latest of them: a file is never due too early. False: no date is there.
func (l *Layout) Instant(name string, zone *time.Location) (time.Time, bool) {
	m := dateMatch{l: l, zone: zone, steps: mostSteps, at: [literal]int{month: 1, day: 1}}
	m.try(name, 0)
	return m.best, m.found && m.steps > 0
}

type dateMatch struct {
	l     *Layout
	zone  *time.Location
	at    [literal]int
	best  time.Time
	found bool
	steps int
}

func (m *dateMatch) try(name string, t int) {
	if m.steps--; m.steps <= 0 {
		return
	}
	if t == len(m.l.tokens) {
		if at, ok := m.end(); name == "" && ok && (!m.found || at.After(m.best)) {
			m.best, m.found = at, true
		}
		return
	}
	switch tok := m.l.tokens[t]; tok.kind {
	case literal:
		if rest, ok := strings.CutPrefix(name, tok.lit); ok {
			m.try(rest, t+1)
		}
	case anything:
		for i := 0; i <= len(name); i++ {
			m.try(name[i:], t+1)
		}
	default:
		e := elements[tok.kind]
		n, ok := digits(name, len(e.text))
		if ok && e.lo <= n && n <= e.hi {
			m.at[tok.kind] = n
			m.try(name[len(e.text):], t+1)
		}
	}
}

func digits(s string, width int) (int, bool) {
	if len(s) < width {
		return 0, false
	}
	n := 0
	for i := range width {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

// end gives the first instant after the smallest element.
func (m *dateMatch) end() (time.Time, bool) {
	a := m.at
	first := time.Date(a[year], time.Month(a[month]), a[day], 0, 0, 0, 0, time.UTC)
	if first.Day() != a[day] {
		return time.Time{}, false // 30 February
	}
	a[m.l.unit]++
	wall := time.Date(a[year], time.Month(a[month]), a[day], a[hour], a[minute], a[second], 0, time.UTC)
	return latest(wall, m.zone), true
}

// latest gives the last instant at which the clocks of zone show wall, whose
// fields are read as a wall clock. For a time that they skip it is the instant
// by the offset that gives the later one.
func latest(wall time.Time, zone *time.Location) time.Time {
	var best, skipped time.Time
	for _, near := range []time.Duration{-26 * time.Hour, 0, 26 * time.Hour} {
		_, offset := wall.Add(near).In(zone).Zone()
		at := wall.Add(-time.Duration(offset) * time.Second)
		if _, there := at.In(zone).Zone(); there == offset && at.After(best) {
			best = at
		}
		if at.After(skipped) {
			skipped = at
		}
	}
	if best.IsZero() {
		best = skipped
	}
	return best.UTC()
}
