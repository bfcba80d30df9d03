package report

import (
	"encoding/csv"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/epitaph/epitaph/ledger"
)

// csvHeader are the columns of CSV; new ones come at the end.
var csvHeader = []string{"number", "at", "action", "run", "rule", "store", "refers", "gone", "present", "unknown",
	"said", "id", "locator", "part_store", "part", "state", "reason"}

// CSV writes a table (RFC 4180): one row for each entry, or one for each item and
// part where the trail has them. A cell that a spreadsheet would take for a
// formula begins with an apostrophe. It returns the number of entries.
func CSV(w io.Writer, lines iter.Seq2[Line, error]) (int, error) {
	out := csv.NewWriter(w)
	if err := out.Write(csvHeader); err != nil {
		return 0, err
	}
	n := 0
	for l, err := range lines {
		if err != nil {
			out.Flush()
			return n, err
		}
		for _, row := range csvRows(&l) {
			for i := range row {
				row[i] = unformulaic(row[i])
			}
			if err := out.Write(row); err != nil {
				return n, err
			}
		}
		n++
	}
	out.Flush()
	return n, out.Error()
}

func csvRows(l *Line) [][]string {
	head := []string{strconv.FormatInt(l.Number, 10), l.At.UTC().Format(time.RFC3339Nano), string(l.Kind), l.Run, l.Rule, l.Store, "", "", "", "", "", "", "", "", "", "", ""}
	if l.Refers != 0 {
		head[6] = strconv.FormatInt(l.Refers, 10)
	}
	if l.Kind == ledger.Outcome {
		for i, c := range []int64{l.Tally.Gone, l.Tally.Present, l.Tally.Unknown} {
			head[7+i] = strconv.FormatInt(c, 10)
		}
	}
	var said []string
	for _, f := range l.Facts {
		said = append(said, f.Name()+"="+factText(f))
	}
	for _, s := range l.Secrets {
		said = append(said, s.Name+"="+secretText(s))
	}
	head[10] = strings.Join(said, " ")
	if len(l.Batch) == 0 {
		return [][]string{head}
	}
	var rows [][]string
	for i := range l.Batch {
		it := itemOf(&l.Batch[i])
		name := Printable(it.Locator)
		if it.Sealed {
			name = sealedOff
		}
		row := append([]string{}, head...)
		copy(row[11:], []string{it.ID, name, "", "", it.State, it.Reason})
		rows = append(rows, row)
		for _, p := range it.Parts {
			part := append([]string{}, head...)
			at := Printable(p.Locator)
			if it.Sealed {
				at = sealedOff
			}
			copy(part[11:], []string{it.ID, name, p.Store, at, p.State, p.Reason})
			rows = append(rows, part)
		}
	}
	return rows
}

// unformulaic keeps a spreadsheet from computing what a file was named.
func unformulaic(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
