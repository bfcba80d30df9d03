package policy

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a policy.
type Problem struct {
	Pos  Pos    // zero when the problem has no place
	Line string // the source line, with a password in a URL masked
	// caret is the column of Line to point at; it differs from Pos.Column where
	// something before it was masked.
	caret int
	Text  string // what is wrong, lower case, no full stop; never the value of a variable
	Hint  string // what to type; may be empty
}

// Errors is everything that is wrong with one file, in its order.
type Errors struct {
	File     string
	Problems []Problem
	More     int // problems found beyond those listed
}

// Error prints each problem as "file:line:column: text" with the source line, a
// caret below the place, and a hint.
func (e *Errors) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.File)
		if p.Pos.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Pos.Line, p.Pos.Column)
		}
		b.WriteString(": " + p.Text)
		if p.Line != "" {
			b.WriteString("\n  " + p.Line + "\n  " + caretLine(p.Line, p.caret))
		}
		if p.Hint != "" {
			b.WriteString("\nhint: " + p.Hint)
		}
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n%s: and %d more problems", e.File, e.More)
	}
	return b.String()
}

// caretLine is a line with a caret below the given column, counted from 1 in
// characters. Tabs are kept so that the caret lines up.
func caretLine(line string, column int) string {
	var b strings.Builder
	n := 1
	for _, r := range line {
		if n >= column {
			break
		}
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
		n++
	}
	return b.String() + "^"
}
