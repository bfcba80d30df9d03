package rows

import (
	"errors"
	"time"
)

// anchorKind is the form in which a column stores its instants.
type anchorKind uint8

const (
	notAnchor     anchorKind = iota
	instantAnchor            // carries its zone: timestamptz, MySQL's TIMESTAMP
	naiveAnchor              // wall clock without a zone
	dayAnchor                // a date
	textAnchor               // ISO 8601 text
	unixAnchor               // seconds since 1970 in UTC, as SQLite documents for INTEGER
)

// naive reports that a declared zone is needed to read the column.
func (k anchorKind) naive() bool { return k == naiveAnchor || k == dayAnchor }

var (
	errNoZone  = errors.New("timestamp carries no zone and none is declared")
	errNoTime  = errors.New("anchor holds no timestamp")
	errUnixFar = errors.New("anchor holds a number that is no plausible second")
)

// instant reads the anchor of one row. ok is false when the row has none.
func (k anchorKind) instant(v any, zone *time.Location) (t time.Time, ok bool, err error) {
	switch v := v.(type) {
	case nil:
		return time.Time{}, false, nil
	case int64:
		// Milliseconds read as seconds lie beyond the year 5000. They are an
		// error rather than "never due", so that somebody learns of it.
		if v > 1e11 || v < -1e11 {
			return time.Time{}, true, errUnixFar
		}
		return time.Unix(v, 0).UTC(), true, nil
	case string:
		t, err = parseInstant(v, zone, k == instantAnchor)
		return t, true, err
	}
	return time.Time{}, true, errNoTime
}

// parseInstant reads ISO 8601 as databases and applications write it:
// date, then optionally T or a space and the time, then optionally a zone. A
// date alone means the end of that day, so that nothing of a day goes before
// the day is over. utc reads a value without a zone as UTC.
func parseInstant(s string, zone *time.Location, utc bool) (time.Time, error) {
	p := digits{s: s}
	year, month, day := p.number(4), p.after('-', 2), p.after('-', 2)
	if p.bad || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return time.Time{}, errNoTime
	}
	var hour, minute, sec, nano int
	clock := p.peek() == 'T' || p.peek() == 't' || p.peek() == ' ' && len(p.s) > 1 && isDigit(p.s[1])
	if clock {
		p.s = p.s[1:]
		hour, minute = p.number(2), p.after(':', 2)
		if p.peek() == ':' {
			sec = p.after(':', 2)
			nano = p.fraction()
		}
		if p.bad || hour > 24 || minute > 59 || sec > 60 || hour == 24 && minute+sec+nano > 0 {
			return time.Time{}, errNoTime
		}
	}
	offset, has := p.offset()
	if p.bad || p.s != "" || has && !clock {
		return time.Time{}, errNoTime
	}
	if !clock {
		hour = 24
	}
	wall := time.Date(year, time.Month(month), day, hour, minute, sec, nano, time.UTC)
	switch {
	case has:
		return wall.Add(-offset), nil
	case utc:
		return wall, nil
	case zone == nil:
		return time.Time{}, errNoZone
	}
	return inZone(wall, zone), nil
}

// inZone is the instant at which clocks in zone show wall. Where they show it
// twice, or skip it, the later of the two readings is taken: the retention
// period is then never cut short.
func inZone(wall time.Time, zone *time.Location) time.Time {
	_, before := wall.Add(-24 * time.Hour).In(zone).Zone()
	_, after := wall.Add(24 * time.Hour).In(zone).Zone()
	first := wall.Add(-time.Duration(before) * time.Second)
	second := wall.Add(-time.Duration(after) * time.Second)
	if before == after {
		return first
	}
	_, atFirst := first.In(zone).Zone()
	_, atSecond := second.In(zone).Zone()
	switch {
	case atFirst == before && atSecond != after:
		return first
	case atSecond == after && atFirst != before:
		return second
	case first.After(second):
		return first
	}
	return second
}

// bound is a value, in the column's own form, such that every row whose
// instant lies before cutoff compares less. Rows that compare less and are not
// before the cutoff are dropped after reading; that costs at most two days of
// rows and makes zones, gaps and mixed spellings exact.
func (k anchorKind) bound(cutoff time.Time, zone *time.Location) any {
	up := cutoff.UTC().Add(time.Microsecond - 1).Truncate(time.Microsecond)
	const layout = "2006-01-02 15:04:05.000000"
	switch k {
	case instantAnchor:
		return up.Format(layout) // sessions are in UTC
	case naiveAnchor, dayAnchor:
		if zone != nil {
			_, off := up.In(zone).Zone()
			up = up.Add(time.Duration(off) * time.Second)
		}
		up = up.Add(26 * time.Hour)
		if k == dayAnchor {
			return up.Format(time.DateOnly)
		}
		return up.Format(layout)
	case unixAnchor:
		return up.Unix() + 1
	default:
		return up.Add(48 * time.Hour).Format(time.DateOnly)
	}
}

// digits takes numbers from the front of a text.
type digits struct {
	s   string
	bad bool
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (p *digits) peek() byte {
	if p.s == "" {
		return 0
	}
	return p.s[0]
}

func (p *digits) number(n int) int {
	if len(p.s) < n {
		p.bad = true
		return 0
	}
	v := 0
	for _, c := range []byte(p.s[:n]) {
		if !isDigit(c) {
			p.bad = true
			return 0
		}
		v = v*10 + int(c-'0')
	}
	p.s = p.s[n:]
	return v
}

func (p *digits) after(sep byte, n int) int {
	if p.peek() != sep {
		p.bad = true
		return 0
	}
	p.s = p.s[1:]
	return p.number(n)
}

func (p *digits) fraction() int {
	if p.peek() != '.' && p.peek() != ',' {
		return 0
	}
	p.s = p.s[1:]
	v, n := 0, 0
	for ; p.s != "" && isDigit(p.s[0]); p.s = p.s[1:] {
		if n < 9 {
			v = v*10 + int(p.s[0]-'0')
			n++
		}
	}
	if n == 0 {
		p.bad = true
	}
	for ; n < 9; n++ {
		v *= 10
	}
	return v
}

func (p *digits) offset() (time.Duration, bool) {
	if p.peek() == ' ' && len(p.s) > 1 {
		p.s = p.s[1:]
	}
	switch p.peek() {
	case 'Z', 'z':
		p.s = p.s[1:]
		return 0, true
	case '+', '-':
		sign := time.Duration(1)
		if p.peek() == '-' {
			sign = -1
		}
		p.s = p.s[1:]
		d := time.Duration(p.number(2)) * time.Hour
		for _, unit := range []time.Duration{time.Minute, time.Second} {
			if p.s == "" {
				break
			}
			if p.peek() == ':' {
				p.s = p.s[1:]
			}
			d += time.Duration(p.number(2)) * unit
		}
		return sign * d, true
	}
	if p.s == "UTC" || p.s == "GMT" {
		p.s = ""
		return 0, true
	}
	return 0, false
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// key is a primary key: text for servers, the stored types for SQLite.
type key []any
