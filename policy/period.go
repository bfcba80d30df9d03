package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Period is a calendar span: 36h, 14d, 2w, 6mo, 6y, or 1y6mo. It is counted in
// the UTC calendar, where a day always has 24 hours, so that two spellings of
// one span (2w and 14d, 24h and 1d, 12mo and 1y) are one value: periods made by
// [ParsePeriod] are equal under == when they mean the same. The zero Period is
// no time at all; ParsePeriod never returns it.
type Period struct{ Years, Months, Days, Hours int }

// maxYears bounds a period, so that no arithmetic on it can overflow.
const maxYears = 1000

// PeriodError says why a text is not a period. It never quotes the text, which
// may have come from a variable.
type PeriodError struct {
	Text string // what is wrong: "a period must be longer than zero"
	Hint string // what to type
}

// Error returns what is wrong.
func (e *PeriodError) Error() string { return e.Text }

const periodHint = "write a number and a unit, such as 36h, 14d, 2w, 6mo or 6y"

// units are the units in the order in which they may follow each other. The
// spelling m is left out on purpose: it would read as minutes and as months.
var units = [...]struct {
	name          string
	months, hours int
}{
	{"y", 12, 0}, {"mo", 1, 0}, {"w", 0, 7 * 24}, {"d", 0, 24}, {"h", 0, 1},
}

// ParsePeriod reads a period: one or more numbers with a unit, from the largest
// unit to the smallest, each at most once. The units are y, mo, w, d and h. A
// period of zero or less, one of more than 1000 years, and a number without a
// unit are errors of type [*PeriodError].
func ParsePeriod(s string) (Period, error) {
	if err := periodShape(s); err != nil {
		return Period{}, err
	}
	var months, hours int
	next := 0 // index of the largest unit that may still follow
	for rest := s; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		letters := len(rest[digits:]) - len(strings.TrimLeft(rest[digits:], "abcdefghijklmnopqrstuvwxyz"))
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || n > maxYears*366*24 {
			return Period{}, &PeriodError{"the period is too long", "the longest period is 1000y"}
		}
		u, err := unit(rest[digits:digits+letters], next)
		if err != nil {
			return Period{}, err
		}
		next = u + 1
		months += n * units[u].months
		hours += n * units[u].hours
		rest = rest[digits+letters:]
	}
	switch {
	case months == 0 && hours == 0:
		return Period{}, &PeriodError{"a period must be longer than zero", "a period of zero would make everything due; " + periodHint}
	case months > maxYears*12 || hours > maxYears*366*24:
		return Period{}, &PeriodError{"the period is too long", "the longest period is 1000y"}
	}
	return Period{Years: months / 12, Months: months % 12, Days: hours / 24, Hours: hours % 24}, nil
}

// periodShape refuses what is not a run of numbers with units, saying for each
// common mistake what it is.
func periodShape(s string) error {
	switch {
	case s == "":
		return &PeriodError{"the period is empty", periodHint}
	case len(s) > 64:
		return &PeriodError{"this is not a period", periodHint}
	case s[0] == '-':
		return &PeriodError{"a period cannot be negative", periodHint}
	case strings.ToLower(s) != s && strings.ToLower(s)[0] == 'p':
		return &PeriodError{"this is not a period", "ISO 8601 durations such as P14D are not read; " + periodHint}
	case strings.ToLower(s) != s:
		return &PeriodError{"units are written in lower case", periodHint}
	case strings.ContainsAny(s, " \t"):
		return &PeriodError{"a period has no spaces", periodHint}
	case strings.ContainsAny(s, ".,"):
		return &PeriodError{"a period is made of whole numbers", "instead of 1.5d write 36h"}
	case strings.Trim(s, "0123456789") == "":
		return &PeriodError{"the period has no unit", "for days write d after the number, such as 14d"}
	}
	digit := false
	for i, r := range []byte(s) {
		isDigit := r >= '0' && r <= '9'
		isLetter := r >= 'a' && r <= 'z'
		if !isDigit && !isLetter || i == 0 && !isDigit {
			return &PeriodError{"this is not a period", periodHint}
		}
		digit = isDigit
	}
	if digit {
		return &PeriodError{"the last number of the period has no unit", periodHint}
	}
	return nil
}

// unit finds the unit with this name at or after index next.
func unit(name string, next int) (int, error) {
	for i, u := range units {
		if u.name != name {
			continue
		}
		if i < next {
			return 0, &PeriodError{"the units of a period go from large to small, each once", "write 1y6mo, not 6mo1y"}
		}
		return i, nil
	}
	if name == "m" || name == "min" || name == "s" {
		return 0, &PeriodError{"the smallest unit of a period is the hour", "for months write mo, such as 6mo"}
	}
	return 0, &PeriodError{"a period has the units y, mo, w, d and h", periodHint}
}

// IsZero reports whether p is no time at all.
func (p Period) IsZero() bool { return p == Period{} }

// String returns the one spelling of the period, which [ParsePeriod] reads
// back: "14d" for two weeks, "1y6mo" for 18 months. Days and hours alone are
// given in hours when they are not whole days: "36h".
func (p Period) String() string {
	months, hours := p.span()
	if months == 0 && hours%24 != 0 {
		return strconv.Itoa(hours) + "h"
	}
	var b strings.Builder
	for _, f := range []struct {
		n    int
		unit string
	}{{months / 12, "y"}, {months % 12, "mo"}, {hours / 24, "d"}, {hours % 24, "h"}} {
		if f.n != 0 {
			fmt.Fprintf(&b, "%d%s", f.n, f.unit)
		}
	}
	if b.Len() == 0 {
		return "0d"
	}
	return b.String()
}

// span is the period in whole months and, besides, hours.
func (p Period) span() (months, hours int) {
	return p.Years*12 + p.Months, p.Days*24 + p.Hours
}

// Before returns the instant one period before t, in UTC. Years and months are
// counted in the calendar: 6mo before 31 August is the end of February. A day
// that the month does not have is clamped to the instant at which that month
// ended, and not to some hour of its last day, so that a later t never gives an
// earlier result.
func (p Period) Before(t time.Time) time.Time {
	months, hours := p.span()
	return addHours(addMonths(t.UTC(), -months), -hours)
}

// After returns the instant one period after t, in UTC: the counterpart of
// [Period.Before]. What happened at a lies before p.Before(t) for every t after
// p.After(a), and for no t before it. A later t never gives an earlier result.
func (p Period) After(t time.Time) time.Time {
	months, hours := p.span()
	return addMonths(addHours(t.UTC(), hours), months)
}

// addHours moves t, which is in UTC, by n hours; whole days by the calendar,
// because a [time.Duration] ends at 292 years.
func addHours(t time.Time, n int) time.Time {
	return t.AddDate(0, 0, n/24).Add(time.Duration(n%24) * time.Hour)
}

// addMonths moves t, which is in UTC, by n months. Where the month reached is
// too short it returns the instant at which that month ends.
func addMonths(t time.Time, n int) time.Time {
	if n == 0 {
		return t
	}
	y, m, d := t.Date()
	first := time.Date(y, m+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	end := first.AddDate(0, 1, 0)
	if d > end.AddDate(0, 0, -1).Day() {
		return end
	}
	return time.Date(first.Year(), first.Month(), d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// MarshalText returns the canonical spelling.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what [ParsePeriod] reads.
func (p *Period) UnmarshalText(text []byte) error { return p.Set(string(text)) }

// Set reads a period from the command line. With String and Type it makes a
// *Period a flag value.
func (p *Period) Set(s string) error {
	v, err := ParsePeriod(s)
	if err != nil {
		return err
	}
	*p = v
	return nil
}

// Type names the kind of flag value in a usage text.
func (p *Period) Type() string { return "period" }
