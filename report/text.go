package report

import (
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/epitaph/epitaph/ledger"
)

// Style paints words of a timeline by what they mean. The zero Style leaves
// them as they are.
type Style struct {
	Good, Bad, Warn, Dim func(string) string
	// Width is where the line of an entry is broken between two facts, in columns;
	// 0 is nowhere. Names of items are never broken.
	Width int
}

func paint(f func(string) string, s string) string {
	if f == nil {
		return s
	}
	return f(s)
}

// Text writes a timeline: one line for each entry, and below it one line for
// each item and part where the trail has them. It returns the number of entries.
func Text(w io.Writer, lines iter.Seq2[Line, error], st Style) (int, error) {
	n := 0
	for l, err := range lines {
		if err != nil {
			return n, err
		}
		if err := writeLine(w, &l, st); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func writeLine(w io.Writer, l *Line, st Style) error {
	words := []string{kindText(l.Kind, st)}
	if l.Rule != "" {
		words = append(words, l.Rule)
	}
	head := fmt.Sprintf("%6d  %s", l.Number, l.At.UTC().Format("2006-01-02 15:04:05"))
	if _, err := fmt.Fprintln(w, strings.TrimRight(joined(head, append(words, said(l, st)...), st.Width), " ")); err != nil {
		return err
	}
	for i := range l.Batch {
		if err := writeItem(w, &l.Batch[i], st); err != nil {
			return err
		}
	}
	return nil
}

// joined puts words behind a head, and where a line would be wider than width
// goes on in another, below the first word.
func joined(head string, words []string, width int) string {
	var b strings.Builder
	b.WriteString(head)
	indent := columns(head)
	at := indent
	for _, word := range words {
		n := 2 + columns(word)
		if width > 0 && at > indent && at+n > width {
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		}
		b.WriteString("  " + word)
		at += n
	}
	return b.String()
}

// columns counts what a terminal shows of s: escape sequences that paint have no
// width.
func columns(s string) (n int) {
	painting := false
	for _, r := range s {
		switch {
		case r == '\x1b':
			painting = true
		case painting:
			painting = r != 'm'
		default:
			n++
		}
	}
	return n
}

// kindText pads before it paints: escape sequences have no width.
func kindText(k ledger.Kind, st Style) string {
	s := fmt.Sprintf("%-12s", k)
	switch k {
	case ledger.Outcome:
		return paint(st.Good, s)
	case ledger.Incident, ledger.Forked:
		return paint(st.Bad, s)
	case ledger.Intent, ledger.SealedOff, ledger.Pruned, ledger.Copied, ledger.KeyRotated:
		return paint(st.Warn, s)
	default:
		return paint(st.Dim, s)
	}
}

// said puts what an entry holds in words: counts of an outcome first, then the
// facts in their order, then what is sealed.
func said(l *Line, st Style) (words []string) {
	if l.Kind == ledger.Outcome {
		words = append(words, tallyText(l.Tally, st)...)
	}
	for _, f := range l.Facts {
		if worthSaying(l, f) {
			words = append(words, f.Name()+"="+factOf(l, f))
		}
	}
	for _, s := range l.Secrets {
		words = append(words, s.Name+"="+secretText(s))
	}
	if l.Refers != 0 {
		words = append(words, paint(st.Dim, "of "+strconv.FormatInt(l.Refers, 10)))
	}
	if l.Run != "" {
		words = append(words, paint(st.Dim, "run "+l.Run))
	}
	return words
}

// worthSaying leaves out what a reader of the line knows already: counts of
// nothing, counts that the tally shows, what the start of the run says for all
// that follows, and the numbers by which a root is known. The JSON has everything.
func worthSaying(l *Line, f ledger.Fact) bool {
	switch v := f.Value().(type) {
	case int64:
		return v != 0 && (l.Kind != ledger.Outcome || f.Name() == "bytes") && (l.Kind != ledger.Intent || !strings.HasPrefix(f.Name(), "root."))
	case [32]byte:
		return l.Kind == ledger.RunStarted
	case time.Time:
		return l.Kind != ledger.Intent
	case string:
		return l.Kind == ledger.RunStarted || f.Name() != "mode" || v != "purge"
	default:
		return true
	}
}

func tallyText(t Tally, st Style) (words []string) {
	for _, v := range Verdicts(t.Reasons) {
		s := fmt.Sprintf("%s %d", StateName(v.State), t.Reasons[v])
		if v.Reason != "GONE" {
			s += " (" + v.Reason + ")"
		}
		words = append(words, paint(verdictStyle(v, st), s))
	}
	return words
}

// verdictStyle knows one that is present on purpose: the row stays, and is set.
func verdictStyle(v Verdict, st Style) func(string) string {
	if v.State == ledger.Present && v.Reason == "SET" {
		return st.Good
	}
	return stateStyle(v.State, st)
}

func stateStyle(s ledger.State, st Style) func(string) string {
	switch s {
	case ledger.Gone:
		return st.Good
	case ledger.Present:
		return st.Warn
	default:
		return st.Bad
	}
}

// Verdicts returns the keys of m in a stable order: gone, present, unknown,
// then by reason.
func Verdicts(m map[Verdict]int64) []Verdict {
	vs := make([]Verdict, 0, len(m))
	for v := range m {
		vs = append(vs, v)
	}
	rank := map[ledger.State]int{ledger.Gone: 0, ledger.Present: 1, ledger.Unknown: 2}
	slices.SortFunc(vs, func(a, b Verdict) int {
		if d := rank[a.State] - rank[b.State]; d != 0 {
			return d
		}
		return strings.Compare(a.Reason, b.Reason)
	})
	return vs
}

// factOf shows what an interlock found as people write it: shares are kept in
// millionths.
func factOf(l *Line, f ledger.Fact) string {
	n, whole := f.Value().(int64)
	if !whole || l.Kind != ledger.Incident || f.Name() != "have" && f.Name() != "limit" {
		return factText(f)
	}
	for _, o := range l.Facts {
		if o.Name() == "interlock" && (o.Value() == "share" || o.Value() == "missing") {
			return strconv.FormatFloat(float64(n)/1e4, 'f', -1, 64) + "%"
		}
	}
	return factText(f)
}

func factText(f ledger.Fact) string {
	switch v := f.Value().(type) {
	case time.Time:
		return v.UTC().Format(time.RFC3339)
	case [32]byte:
		return hex.EncodeToString(v[:6]) + "…"
	default:
		return f.String()
	}
}

// sealedOff stands for a name that was destroyed.
const sealedOff = "‹sealed off›"

func secretText(s ledger.Secret) string {
	if s.SealedOff {
		return sealedOff
	}
	return Printable(s.Text)
}

func writeItem(w io.Writer, it *Item, st Style) error {
	name := Printable(it.Locator)
	if it.Sealed {
		name = sealedOff
	}
	if _, err := fmt.Fprintf(w, "          %s  %s\n", verdictText(it.Settled, it.Result.State, it.Result.Reason, st), name); err != nil {
		return err
	}
	for i := range max(len(it.Parts), len(it.Result.Parts)) {
		name, res := sealedOff, ledger.PartResult{}
		if i < len(it.Parts) {
			name = it.Parts[i].Store + ":" + Printable(it.Parts[i].Locator)
		}
		if i < len(it.Result.Parts) {
			res = it.Result.Parts[i]
		}
		if _, err := fmt.Fprintf(w, "          %s    %s\n", verdictText(it.Settled, res.State, res.Reason, st), name); err != nil {
			return err
		}
	}
	return nil
}

func verdictText(settled bool, s ledger.State, reason string, st Style) string {
	if !settled {
		return paint(st.Dim, fmt.Sprintf("%-7s %-13s", "", ""))
	}
	style := verdictStyle(Verdict{s, reason}, st)
	if reason == "GONE" {
		reason = ""
	}
	return paint(style, fmt.Sprintf("%-7s %-13s", StateName(s), reason))
}

// Printable makes a name safe for a terminal: one that holds control or other
// unprintable characters is quoted.
func Printable(s string) string {
	for _, r := range s {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return strconv.Quote(s)
		}
	}
	return s
}
