package rows

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/epitaph/epitaph/connector"
)

// lookStmt finds the rows that may still name one of the things: those that
// have, at each place, a value that one of the things has there, but for kin.
func (b *binding) lookStmt(l *look, asked map[string]connector.Tuple, kin map[*table][]key) *stmt {
	s := newStmt(b.d, "SELECT DISTINCT ", strings.Join(l.exprs, ", "), " FROM ", l.from)
	glue := " WHERE "
	for i, r := range l.refs {
		by, cond := l.by[i], newStmt(b.d)
		switch {
		case !r.each && len(r.path) == 0:
			b.d.textIn(s.add(glue), by.expr, by.col, by.like, valuesAt(asked, i))
		case r.each && b.d.jsonIn(cond, by.expr, by.col, r.path, valuesAt(asked, i)):
			b.d.jsonIn(s.add(glue), by.expr, by.col, r.path, valuesAt(asked, i))
		default:
			continue
		}
		glue = " AND "
	}
	b.spare(s, glue, l.seats, kin)
	return s
}

// valuesAt are the distinct values of the tuples at one place, sorted.
func valuesAt(asked map[string]connector.Tuple, i int) []string {
	out := make([]string, 0, len(asked))
	for _, t := range asked {
		out = append(out, t[i])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func tupleName(t connector.Tuple) string { return strings.Join(t, "\x00") }

// survivors answers which of the asked tuples of a want a row still names.
// Called after the rehearsal, so that the rows that die are not seen; kin are
// those that count as if they did.
func (cl *claim) survivors(ctx context.Context, w int, asked map[string]connector.Tuple, kin map[*table][]key) (map[string]bool, error) {
	found := map[string]bool{}
	want := &cl.b.wants[w]
	for i := range want.looks {
		l := &want.looks[i]
		asked, names := l.words(asked)
		if len(asked) == 0 {
			continue
		}
		err := cl.b.lookStmt(l, asked, kin).each(ctx, cl.conn, len(l.exprs), func(v []any) error {
			get := func(r ref) any { return v[r.at] }
			ts, err := tuples(l.refs, get)
			if err != nil {
				for n, t := range asked {
					if mayName(l.refs, get, t) {
						mark(found, names, n)
					}
				}
				return nil
			}
			for _, t := range ts {
				if n := tupleName(t); asked[n] != nil {
					mark(found, names, n)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// mark notes as found what n, in the words of a look, stands for.
func mark(found map[string]bool, names map[string][]string, n string) {
	if names == nil {
		found[n] = true
	}
	for _, n := range names[n] {
		found[n] = true
	}
}

// words puts the asked tuples into those by which the rows of the look name
// things, and tells which of the asked each stands for: nil where each is itself.
func (l *look) words(asked map[string]connector.Tuple) (own map[string]connector.Tuple, names map[string][]string) {
	if l.of == nil {
		return asked, nil
	}
	own, names = make(map[string]connector.Tuple, len(asked)), make(map[string][]string, len(asked))
	for n, t := range asked {
		if t, ok := l.of(t); ok && len(t) == len(l.refs) {
			own[tupleName(t)] = t
			names[tupleName(t)] = append(names[tupleName(t)], n)
		}
	}
	return own, names
}

// mayName reports that a row of which some JSON cannot be read as it should be may
// name the thing: it has each value, at whatever place of the document.
func mayName(refs []ref, get func(ref) any, t connector.Tuple) bool {
	for i, r := range refs {
		text, _ := asText(get(r))
		if plain := !r.each && len(r.path) == 0; plain && text != t[i] || !plain && !stands(text, t[i]) {
			return false
		}
	}
	return true
}

// stands reports that a text or number of the document is the value. What follows
// a fault of the document is searched as it is written.
func stands(document, value string) bool {
	dec := json.NewDecoder(strings.NewReader(document))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			quoted, _ := json.Marshal(value)
			return strings.Contains(document, value) || strings.Contains(document, string(quoted[1:len(quoted)-1]))
		}
		switch token := token.(type) {
		case string:
			if token == value {
				return true
			}
		case json.Number:
			if token.String() == value {
				return true
			}
		}
	}
}

// keep finds out, for each want, which tuples of the rehearsed rows must stay.
// A row that still names one may be dying in another claim, which sees ours in
// turn and would keep the thing too; so both lock the name of the thing and
// look again, and the one that ends last takes it.
func (cl *claim) keep(ctx context.Context, which []int) ([]map[string]bool, error) {
	kept := make([]map[string]bool, len(cl.b.wants))
	asked := make([]map[string]connector.Tuple, len(cl.b.wants))
	var names []string
	kin, err := cl.kin(ctx, which)
	if err != nil {
		return nil, err
	}
	for w := range cl.b.wants {
		if len(cl.b.wants[w].looks) == 0 {
			continue
		}
		asked[w] = map[string]connector.Tuple{}
		for _, i := range which {
			for _, t := range cl.rows[i].values[w] {
				asked[w][tupleName(t)] = t
			}
		}
		if len(asked[w]) == 0 {
			continue
		}
		if kept[w], err = cl.survivors(ctx, w, asked[w], kin); err != nil {
			return nil, err
		}
		for n := range kept[w] {
			names = append(names, cl.b.wants[w].names(asked[w][n])...)
		}
	}
	if len(names) == 0 {
		return kept, nil
	}
	if err := cl.c.d.hold(ctx, cl.conn, names); err != nil {
		return nil, err
	}
	for w := range kept {
		if len(kept[w]) == 0 {
			continue
		}
		again := map[string]connector.Tuple{}
		for n := range kept[w] {
			again[n] = asked[w][n]
		}
		if kept[w], err = cl.survivors(ctx, w, again, kin); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// names are the words for one thing that claims lock: its own and those by which
// other rows name it, so that two claims which name it differently meet.
func (w *want) names(t connector.Tuple) []string {
	out := []string{"value\x00" + tupleName(t)}
	for i := range w.looks {
		if of := w.looks[i].of; of != nil {
			if t, ok := of(t); ok {
				out = append(out, "value\x00"+tupleName(t))
			}
		}
	}
	return out
}

// keepAfter tells of rows that are gone already which of the things they named
// a surviving row still names: a run that was cut off after its commit wants to
// know whether what is left was left on purpose.
func (cl *claim) keepAfter(ctx context.Context) error {
	var gone []int
	for i := range cl.out {
		if cl.out[i].State == connector.Gone && fits(cl.b.wants, cl.items[i].Values) {
			gone = append(gone, i)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	kept := make([]map[string]bool, len(cl.b.wants))
	for w := range cl.b.wants {
		asked := map[string]connector.Tuple{}
		for _, i := range gone {
			for _, t := range cl.items[i].Values[w] {
				asked[tupleName(t)] = t
			}
		}
		if len(asked) == 0 || len(cl.b.wants[w].looks) == 0 {
			continue
		}
		var err error
		if kept[w], err = cl.survivors(ctx, w, asked, nil); err != nil {
			return err
		}
	}
	for _, i := range gone {
		cl.out[i].Kept = keptOf(cl.items[i].Values, kept)
	}
	return nil
}

// fits reports values that can be of these wants: those of an older policy may
// not be.
func fits(wants []want, values [][]connector.Tuple) bool {
	if len(values) != len(wants) {
		return false
	}
	for w, ts := range values {
		for _, t := range ts {
			if len(t) != len(wants[w].refs) {
				return false
			}
		}
	}
	return true
}

// keptOf is Result.Kept for the tuples of one item; nil when nothing is kept.
func keptOf(values [][]connector.Tuple, kept []map[string]bool) [][]bool {
	var out [][]bool
	for w, ts := range values {
		for k, t := range ts {
			if !kept[w][tupleName(t)] {
				continue
			}
			if out == nil {
				out = make([][]bool, len(values))
				for i := range out {
					out[i] = make([]bool, len(values[i]))
				}
			}
			out[w][k] = true
		}
	}
	return out
}
