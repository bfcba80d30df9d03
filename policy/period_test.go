package policy_test

import (
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/epitaph/epitaph/policy"
)

func TestParsePeriod(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want policy.Period
		text string
	}{
		{"36h", policy.Period{Days: 1, Hours: 12}, "36h"},
		{"1d12h", policy.Period{Days: 1, Hours: 12}, "36h"},
		{"24h", policy.Period{Days: 1}, "1d"},
		{"14d", policy.Period{Days: 14}, "14d"},
		{"2w", policy.Period{Days: 14}, "14d"},
		{"1w7d", policy.Period{Days: 14}, "14d"},
		{"014d", policy.Period{Days: 14}, "14d"},
		{"6mo", policy.Period{Months: 6}, "6mo"},
		{"6y", policy.Period{Years: 6}, "6y"},
		{"12mo", policy.Period{Years: 1}, "1y"},
		{"18mo", policy.Period{Years: 1, Months: 6}, "1y6mo"},
		{"1y6mo", policy.Period{Years: 1, Months: 6}, "1y6mo"},
		{"1y1mo1w1d1h", policy.Period{Years: 1, Months: 1, Days: 8, Hours: 1}, "1y1mo8d1h"},
		{"1000y", policy.Period{Years: 1000}, "1000y"},
		{"0y14d", policy.Period{Days: 14}, "14d"},
	} {
		got, err := policy.ParsePeriod(c.in)
		if err != nil || got != c.want || got.String() != c.text {
			t.Errorf("ParsePeriod(%q) = %#v %q, %v; want %#v %q", c.in, got, got, err, c.want, c.text)
		}
	}
}

func TestParsePeriodErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"", "empty"},
		{"0", "no unit"},
		{"14", "no unit"},
		{"0d", "longer than zero"},
		{"0y0mo0d", "longer than zero"},
		{"-1d", "negative"},
		{"-", "negative"},
		{"d", "not a period"},
		{"abcd", "not a period"},
		{"+14d", "not a period"},
		{"1.5d", "whole numbers"},
		{"14 d", "spaces"},
		{"14D", "lower case"},
		{"P14D", "not a period"},
		{"6m", "smallest unit"},
		{"90min", "smallest unit"},
		{"3days", "units y, mo, w, d and h"},
		{"1d2", "last number"},
		{"1d1w", "large to small"},
		{"1d1d", "large to small"},
		{"1001y", "too long"},
		{"99999999999999999999d", "too long"},
		{"9223372036854775807h", "too long"},
		{"1000000d", "too long"},
		{"14d\x00", "not a period"},
		{"٣d", "not a period"},
		{strings.Repeat("1d", 40), "not a period"},
	} {
		got, err := policy.ParsePeriod(c.in)
		var perr *policy.PeriodError
		if !errors.As(err, &perr) || !strings.Contains(perr.Text, c.want) || perr.Hint == "" || !got.IsZero() {
			t.Errorf("ParsePeriod(%q) = %v, %v; want an error with %q and a hint", c.in, got, err, c.want)
		}
		if len(c.in) > 4 && err != nil && strings.Contains(err.Error(), c.in) {
			t.Errorf("ParsePeriod(%q) repeats the text in %q: it may be a secret in the wrong variable", c.in, err)
		}
	}
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestPeriodInTheCalendar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ period, from, before, after string }{
		{"14d", "2026-03-10T12:00:00Z", "2026-02-24T12:00:00Z", "2026-03-24T12:00:00Z"},
		{"36h", "2026-03-10T12:00:00Z", "2026-03-09T00:00:00Z", "2026-03-12T00:00:00Z"},
		{"1mo", "2026-03-28T12:00:00Z", "2026-02-28T12:00:00Z", "2026-04-28T12:00:00Z"},
		// February has no 29th: the instant at which it ended, whatever the hour.
		{"1mo", "2026-03-29T01:00:00Z", "2026-03-01T00:00:00Z", "2026-04-29T01:00:00Z"},
		{"1mo", "2026-03-31T23:00:00Z", "2026-03-01T00:00:00Z", "2026-05-01T00:00:00Z"},
		{"6mo", "2026-08-31T12:00:00Z", "2026-03-01T00:00:00Z", "2027-03-01T00:00:00Z"},
		{"1mo", "2024-03-29T12:00:00Z", "2024-02-29T12:00:00Z", "2024-04-29T12:00:00Z"},
		{"1y", "2024-02-29T12:00:00Z", "2023-03-01T00:00:00Z", "2025-03-01T00:00:00Z"},
		{"4y", "2024-02-29T12:00:00Z", "2020-02-29T12:00:00Z", "2028-02-29T12:00:00Z"},
		{"6y", "2026-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "2032-01-01T00:00:00Z"},
		{"1mo1d", "2026-03-01T00:00:00Z", "2026-01-31T00:00:00Z", "2026-04-02T00:00:00Z"},
	} {
		p, err := policy.ParsePeriod(c.period)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Before(at(c.from)); !got.Equal(at(c.before)) {
			t.Errorf("%s before %s = %s, want %s", c.period, c.from, got.Format(time.RFC3339), c.before)
		}
		if got := p.After(at(c.from)); !got.Equal(at(c.after)) {
			t.Errorf("%s after %s = %s, want %s", c.period, c.from, got.Format(time.RFC3339), c.after)
		}
	}
}

// A span is counted in UTC, so that neither the zone of the machine nor a change
// of its clocks moves a cutoff.
func TestPeriodIgnoresZonesAndDST(t *testing.T) {
	t.Parallel()
	p, _ := policy.ParsePeriod("1d")
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		z, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		// The nights in which Berlin and New York change their clocks.
		for _, s := range []string{"2026-03-29T01:30:00Z", "2026-10-25T01:30:00Z", "2026-03-08T07:30:00Z", "2026-11-01T06:30:00Z"} {
			got := p.Before(at(s).In(z))
			if want := at(s).Add(-24 * time.Hour); !got.Equal(want) || got.Location() != time.UTC {
				t.Errorf("1d before %s in %s = %v, want %v in UTC", s, zone, got, want)
			}
		}
	}
}

func TestPeriodAsFlagAndText(t *testing.T) {
	t.Parallel()
	var p policy.Period
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(new(strings.Builder))
	fs.Var(&p, "retain", "")
	if err := fs.Parse([]string{"--retain", "2w"}); err != nil || p.String() != "14d" {
		t.Errorf("--retain 2w gives %v, %v", p, err)
	}
	if err := fs.Parse([]string{"--retain", "0d"}); err == nil || p.String() != "14d" {
		t.Errorf("--retain 0d gives %v, %v; want an error and the old value", p, err)
	}
	text, _ := p.MarshalText()
	var q policy.Period
	if err := q.UnmarshalText(text); err != nil || q != p {
		t.Errorf("UnmarshalText(%s) = %v, %v", text, q, err)
	}
	if got := (policy.Period{}).String(); got != "0d" {
		t.Errorf("the zero period is %q, want 0d", got)
	}
}

func periods() *rapid.Generator[policy.Period] {
	return rapid.Custom(func(t *rapid.T) policy.Period {
		return policy.Period{
			Years: rapid.IntRange(0, 30).Draw(t, "years"), Months: rapid.IntRange(0, 40).Draw(t, "months"),
			Days: rapid.IntRange(0, 400).Draw(t, "days"), Hours: rapid.IntRange(0, 100).Draw(t, "hours"),
		}
	})
}

// instants are close to ends of months more often than chance has it.
func instants() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		day := time.Date(2020, time.Month(rapid.IntRange(1, 120).Draw(t, "month")), 1, 0, 0, 0, 0, time.UTC)
		return day.Add(time.Duration(rapid.Int64Range(-4*24*int64(time.Hour), 4*24*int64(time.Hour)).Draw(t, "offset")))
	})
}

func TestPeriodIsMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, a := periods().Draw(t, "period"), instants().Draw(t, "a")
		b := a.Add(time.Duration(rapid.Int64Range(0, 80*int64(time.Hour)).Draw(t, "later")))
		if p.Before(b).Before(p.Before(a)) {
			t.Fatalf("%v before %v is %v, but before the later %v it is %v", p, a, p.Before(a), b, p.Before(b))
		}
		if p.After(b).Before(p.After(a)) {
			t.Fatalf("%v after %v is %v, but after the later %v it is %v", p, a, p.After(a), b, p.After(b))
		}
	})
}

// After is the counterpart of Before: what happened at a is due for every later
// instant than After(a) and for no earlier one.
func TestPeriodAfterIsTheFirstDueInstant(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, a := periods().Draw(t, "period"), instants().Draw(t, "a")
		d := time.Duration(rapid.Int64Range(1, 80*int64(time.Hour)).Draw(t, "d"))
		end := p.After(a)
		if later := end.Add(d); !a.Before(p.Before(later)) {
			t.Fatalf("%v, %v after its end %v, is not due with %v", a, d, end, p)
		}
		if earlier := end.Add(-d); a.Before(p.Before(earlier)) {
			t.Fatalf("%v is due with %v at %v, before its end %v", a, p, earlier, end)
		}
	})
}

func TestPeriodSpellingRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := periods().Draw(t, "period")
		if p.IsZero() {
			return
		}
		q, err := policy.ParsePeriod(p.String())
		if err != nil || q.String() != p.String() {
			t.Fatalf("%#v is spelled %q, which reads as %#v, %v", p, p, q, err)
		}
		x := instants().Draw(t, "instant")
		if !p.Before(x).Equal(q.Before(x)) || !p.After(x).Equal(q.After(x)) {
			t.Fatalf("%#v and its canonical form %#v differ at %v", p, q, x)
		}
	})
}

func TestParsePeriodNeverOverflows(t *testing.T) {
	t.Parallel()
	now := at("2026-11-21T00:00:00Z")
	rapid.Check(t, func(t *rapid.T) {
		p, err := policy.ParsePeriod(rapid.StringMatching(`([0-9]{0,20}(y|mo|w|d|h)){0,5}`).Draw(t, "text"))
		if err != nil {
			return
		}
		if b := p.Before(now); !b.Before(now) {
			t.Fatalf("%v before now is %v", p, b)
		}
		if !p.After(now).After(now) {
			t.Fatalf("%v after now is %v", p, p.After(now))
		}
	})
}
