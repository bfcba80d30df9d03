package plan

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

// The plan file, version 1. Lines end in one line feed; fields are separated by
// one space. A text is written bare when it is not empty and holds no space,
// quote, or control byte; otherwise it stands in double quotes, with \" and \\
// for those two and \xHH for control bytes. Every value has one spelling, and
// the decoder refuses any other, so a plan can be compared byte by byte.
//
//	epitaph-plan 1
//	policy SHA256
//	as-of INSTANT
//	rule NAME KIND STORE STOREKIND enabled|disabled RETAIN CUTOFF   one for each rule
//	items NAME                                                      for each rule, in the same order:
//	i LOCATOR ID ANCHOR BYTES PRINT VALUES PARTS                    one for each item, in the connector's order
//	total NAME TOTAL DUE ITEMS BYTES UNDATED PARTS MISSING OLDEST UNREADABLE ERRORTYPE SKEW KEPT UNSEEN
//	digest SHA256                                                   of every byte before this line
//
// A list is its length followed by its elements. VALUES is a list, by want, of
// lists of tuples, each a list of texts. A part is STORE LOCATOR PRINT BYTES WANT
// TUPLE and p for present or m for missing. INSTANT is RFC 3339 in UTC with as
// many decimals as it needs; OLDEST is - when there is none. SKEW is in minutes.
// KEPT is a list of REASON COUNT in the order of the reasons.
const (
	magic        = "epitaph-plan "
	version      = "1"
	digestPrefix = "digest "
	digestLen    = len(digestPrefix) + 64 + 1
)

const hexDigits = "0123456789abcdef"

func appendText(b []byte, s string) []byte {
	if !needsQuotes(s) {
		return append(b, s...)
	}
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case control(c):
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func control(c byte) bool { return c < ' ' || c == 0x7f }

func needsQuotes(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == 0x7f || c == '"' {
			return true
		}
	}
	return s == ""
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(append(b, ' '), n, 10) }

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, '-')
	}
	return t.UTC().AppendFormat(b, time.RFC3339Nano)
}

func appendItem(b []byte, it *Item) []byte {
	b = append(b, "i "...)
	b = appendText(b, string(it.Locator))
	b = appendText(append(b, ' '), it.ID)
	b = appendTime(append(b, ' '), it.Anchor)
	b = appendInt(b, it.Bytes)
	b = appendText(append(b, ' '), string(it.Print))
	b = appendInt(b, int64(len(it.Values)))
	for _, tuples := range it.Values {
		b = appendInt(b, int64(len(tuples)))
		for _, t := range tuples {
			b = appendInt(b, int64(len(t)))
			for _, v := range t {
				b = appendText(append(b, ' '), v)
			}
		}
	}
	b = appendInt(b, int64(len(it.Parts)))
	for i := range it.Parts {
		p := &it.Parts[i]
		b = appendText(append(b, ' '), p.Store)
		b = appendText(append(b, ' '), string(p.Locator))
		b = appendText(append(b, ' '), string(p.Print))
		b = appendInt(b, p.Bytes)
		b = appendInt(b, int64(p.Want))
		b = appendInt(b, int64(p.Tuple))
		if p.State == connector.Gone {
			b = append(b, " m"...)
		} else {
			b = append(b, " p"...)
		}
	}
	return append(b, '\n')
}

func appendRule(b []byte, s *RuleSummary) []byte {
	b = appendText(append(b, "rule "...), s.Rule)
	b = appendText(append(b, ' '), s.Kind)
	b = appendText(append(b, ' '), s.Store)
	b = appendText(append(b, ' '), string(s.StoreKind))
	if s.Enabled {
		b = append(b, " enabled "...)
	} else {
		b = append(b, " disabled "...)
	}
	b = appendText(b, s.Retain.String())
	b = appendTime(append(b, ' '), s.Cutoff)
	return append(b, '\n')
}

func appendTotal(b []byte, s *RuleSummary) []byte {
	b = appendText(append(b, "total "...), s.Rule)
	for _, n := range []int64{s.Total, s.Due, s.Items, s.Bytes, s.Undated, s.Parts, s.PartsMissing} {
		b = appendInt(b, n)
	}
	b = appendTime(append(b, ' '), s.OldestDue)
	b = appendText(append(b, ' '), string(s.Unreadable))
	b = appendText(append(b, ' '), s.ErrorType)
	b = appendInt(b, int64(s.Skew/time.Minute))
	b = appendInt(b, int64(len(s.Kept)))
	for _, r := range sortedReasons(s.Kept) {
		b = appendText(append(b, ' '), string(r))
		b = appendInt(b, s.Kept[r])
	}
	b = appendInt(b, int64(len(s.Unseen)))
	for _, u := range s.Unseen {
		b = appendText(append(b, ' '), u)
	}
	return append(b, '\n')
}

// fields reads the fields of one line. The first thing that is wrong sticks.
type fields struct {
	s   string
	err error
}

var (
	errShort = errors.New("the line is too short")
	errLong  = errors.New("the line is too long")
	errQuote = errors.New("a text is not quoted as it should be")
	errInt   = errors.New("a number is not written as it should be")
	errTime  = errors.New("an instant is not written as it should be")
	errWord  = errors.New("a word is not one of those that may stand there")
)

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
	f.s = ""
}

// raw returns the bytes up to the next space.
func (f *fields) raw() string {
	if f.s == "" {
		f.fail(errShort)
		return ""
	}
	i := strings.IndexByte(f.s, ' ')
	if i < 0 {
		w := f.s
		f.s = ""
		return w
	}
	w := f.s[:i]
	f.step(i)
	return w
}

// step moves past the space at i; a space must be followed by a field.
func (f *fields) step(i int) {
	if f.s = f.s[i+1:]; f.s == "" {
		f.fail(errShort)
	}
}

func (f *fields) text() string {
	if f.s == "" || f.s[0] != '"' {
		w := f.raw()
		if f.err == nil && needsQuotes(w) {
			f.fail(errQuote)
		}
		return w
	}
	return f.quoted()
}

func (f *fields) quoted() string {
	var b []byte // nil until the first escape: then the text is not a substring
	start := 1
	for i := 1; i < len(f.s); i++ {
		switch c := f.s[i]; {
		case c == '"':
			w := f.s[start:i]
			if b != nil {
				w = string(append(b, w...))
			}
			switch {
			case !needsQuotes(w):
				f.fail(errQuote)
			case i+1 == len(f.s):
				f.s = ""
			case f.s[i+1] != ' ':
				f.fail(errQuote)
			default:
				f.step(i + 1)
			}
			return w
		case c == '\\':
			v, n := unescape(f.s[i:])
			if n == 0 {
				f.fail(errQuote)
				return ""
			}
			b = append(append(b, f.s[start:i]...), v)
			i += n - 1
			start = i + 1
		case control(c):
			f.fail(errQuote)
			return ""
		}
	}
	f.fail(errQuote)
	return ""
}

// unescape reads one escape and returns its length, 0 when it is none.
func unescape(s string) (byte, int) {
	if len(s) >= 2 && (s[1] == '"' || s[1] == '\\') {
		return s[1], 2
	}
	if len(s) < 4 || s[1] != 'x' {
		return 0, 0
	}
	hi, lo := strings.IndexByte(hexDigits, s[2]), strings.IndexByte(hexDigits, s[3])
	if hi < 0 || lo < 0 || !control(byte(hi<<4|lo)) {
		return 0, 0
	}
	return byte(hi<<4 | lo), 4
}

func (f *fields) int() int64 {
	w := f.raw()
	n, err := strconv.ParseInt(w, 10, 64)
	if f.err == nil && (err != nil || w[0] == '+' || w[0] == '0' && len(w) > 1 || w[0] == '-' && (n == 0 || w[1] == '0')) {
		f.fail(errInt)
		return 0
	}
	return n
}

// count reads the length of a list; each element takes at least two bytes, which
// bounds what a hostile length can make us allocate.
func (f *fields) count() int {
	n := f.int()
	if n < 0 || n > int64(len(f.s)+1)/2 {
		f.fail(errInt)
		return 0
	}
	return int(n)
}

func (f *fields) instant() time.Time {
	w := f.raw()
	if f.err != nil || w == "-" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, w)
	var buf [40]byte
	if err != nil || w[len(w)-1] != 'Z' || string(t.AppendFormat(buf[:0], time.RFC3339Nano)) != w || t.IsZero() {
		f.fail(errTime)
		return time.Time{}
	}
	return t
}

func (f *fields) end() error {
	if f.err == nil && f.s != "" {
		f.err = errLong
	}
	return f.err
}

// decodeItem reads an item line without its "i " and its line feed.
func decodeItem(line string) (Item, error) {
	f := &fields{s: line}
	var it Item
	it.Locator = connector.Locator(f.text())
	it.ID = f.text()
	it.Anchor = f.instant()
	it.Bytes = f.int()
	it.Print = connector.Fingerprint(f.text())
	if n := f.count(); n > 0 {
		it.Values = make([][]connector.Tuple, n)
		for w := range it.Values {
			it.Values[w] = decodeTuples(f)
		}
	}
	if n := f.count(); n > 0 {
		it.Parts = make([]Part, n)
		for i := range it.Parts {
			decodePart(f, &it.Parts[i])
		}
	}
	return it, f.end()
}

func decodeTuples(f *fields) []connector.Tuple {
	n := f.count()
	if n == 0 {
		return nil
	}
	ts := make([]connector.Tuple, n)
	for k := range ts {
		m := f.count()
		ts[k] = make(connector.Tuple, m)
		for i := range ts[k] {
			ts[k][i] = f.text()
		}
	}
	return ts
}

func decodePart(f *fields, p *Part) {
	p.Store = f.text()
	p.Locator = connector.Locator(f.text())
	p.Print = connector.Fingerprint(f.text())
	p.Bytes = f.int()
	p.Want = int(f.int())
	p.Tuple = int(f.int())
	switch f.raw() {
	case "p":
		p.State, p.Reason = connector.Present, connector.Eligible
	case "m":
		p.State, p.Reason = connector.Gone, connector.Missing
	default:
		f.fail(errWord)
	}
}

func decodeRule(line string, asOf time.Time) (RuleSummary, error) {
	f := &fields{s: line}
	s := RuleSummary{Rule: f.text(), Kind: f.text(), Store: f.text(), StoreKind: policy.StoreKind(f.text())}
	switch f.raw() {
	case "enabled":
		s.Enabled = true
	case "disabled":
	default:
		f.fail(errWord)
	}
	retain := f.text()
	s.Cutoff = f.instant()
	if err := f.end(); err != nil {
		return s, err
	}
	p, err := policy.ParsePeriod(retain)
	if err != nil || p.String() != retain {
		return s, errors.New("the period is not written as it should be")
	}
	if s.Retain = p; !p.Before(asOf).Equal(s.Cutoff) {
		return s, errors.New("the cutoff is not one period before the instant of the plan")
	}
	return s, nil
}

// decodeTotal fills in s from a total line without its "total ".
func decodeTotal(line string, s *RuleSummary) error {
	f := &fields{s: line}
	if f.text() != s.Rule {
		f.fail(errors.New("the total is of another rule"))
	}
	for _, n := range []*int64{&s.Total, &s.Due, &s.Items, &s.Bytes, &s.Undated, &s.Parts, &s.PartsMissing} {
		*n = f.int()
	}
	s.OldestDue = f.instant()
	s.Unreadable = connector.Reason(f.text())
	s.ErrorType = f.text()
	s.Skew = time.Duration(f.int()) * time.Minute
	s.Kept = make(map[connector.Reason]int64)
	last := ""
	for range f.count() {
		r := f.text()
		if r <= last {
			f.fail(errors.New("the reasons are not in order"))
		}
		last = r
		s.Kept[connector.Reason(r)] = f.int()
	}
	for range f.count() {
		s.Unseen = append(s.Unseen, f.text())
	}
	return f.end()
}
