package rows

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/epitaph/epitaph/connector"
)

// arrayRows is how many values that begin like an array are read to find one.
const arrayRows = 100

// checkArrays finds columns of text in referenced_by that hold JSON arrays: read as
// one value, what a surviving row names in them would go.
func (c *Connector) checkArrays(ctx context.Context, b *binding) error {
	for i := range b.q.Wants {
		subject := fmt.Sprintf("parts[%d]", i)
		for _, col := range b.wants[i].plain {
			found, err := c.arraysIn(ctx, col)
			var late *TimeoutError
			switch {
			case errors.As(err, &late):
				b.warn(subject, fmt.Sprintf("no JSON array was found in column %s of %s within %v; the rest was not looked at", col.name, col.table.full(), late.Limit),
					"say that it holds arrays if it does: referenced_by: [STORE."+col.table.name+"."+col.name+"[*]]")
			case err != nil:
				return err
			case found:
				b.fault(subject, fmt.Sprintf("column %s of %s holds JSON arrays, and would be read as one value", col.name, col.table.full()),
					"write referenced_by: [STORE."+col.table.name+"."+col.name+"[*]]")
			}
		}
	}
	return nil
}

func (c *Connector) arraysIn(ctx context.Context, col *column) (found bool, err error) {
	t := quoteTable(c.d, col.table)
	expr := of(c.d, t, []*column{col})[0]
	s := newStmt(c.d, "SELECT ", expr, " FROM ", t, " WHERE SUBSTR(LTRIM(", expr, fmt.Sprintf("), 1, 1) = '[' LIMIT %d", arrayRows)) // not LIKE, which some collations refuse
	err = c.readWithin(ctx, c.trial(), func(ctx context.Context, conn *sql.Conn) error {
		return s.each(ctx, conn, 1, func(v []any) error {
			text, _ := asText(v[0])
			var list []string
			found = found || json.Unmarshal([]byte(text), &list) == nil && len(list) > 0
			return nil
		})
	})
	return found, err
}

// otherLook adds the look at a column of referenced_by.
func (b *binding) otherLook(cat *catalog, subject string, w *want, q connector.Column) {
	if len(w.refs) != 1 {
		b.fault(subject, "referenced_by needs a part with exactly one column", "name the column by which the other table refers to it")
		return
	}
	t := b.table(cat, subject, q.Table)
	if t == nil {
		return
	}
	c := b.column(subject, t, q.Column)
	if c == nil {
		return
	}
	text := b.d.anchor(c) == textAnchor
	if json := b.d.isJSON(c); q.Each && !json && !text {
		b.fault(subject, fmt.Sprintf("column %s of %s is of type %s, which holds no JSON", c.name, t.full(), typeName(c)), "leave out the [*]")
		return
	} else if json {
		q.Each = true
	}
	if text && !q.Each {
		w.plain = append(w.plain, c)
	}
	like := w.refs[0]
	by := place{col: c, expr: of(b.d, "r", []*column{c})[0]}
	if like.root {
		by.like = b.reads[like.at]
	} else {
		by.like = w.reads[like.at]
	}
	l := look{from: quoteTable(b.d, t) + " AS r", seats: []seat{{t, "r"}}, by: []place{by}, refs: []ref{{each: q.Each}}, exprs: []string{b.d.readText(by.expr, c)}}
	if !q.Each {
		b.indexWarning(subject, t, []*column{c})
	}
	w.looks = append(w.looks, l)
}
