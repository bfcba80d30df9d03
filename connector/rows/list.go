package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/epitaph/epitaph/connector"
)

// List yields every row of q.Collection that q.Where matches, with the values of
// q.Wants, in the order of the primary key. It reads as Scan does, by chunks, but
// asks for no anchor and not whether a row could go: what it yields is to be
// compared, not to be erased. The wants are of columns of the collection itself.
// Anchor, Cutoff, Hold, InUse and Links are passed over. An error ends the
// sequence: what was yielded stands, and nothing may be concluded from what is
// absent. A row whose key is NULL cannot be named: it ends the sequence too, with a
// [*NullKeyError]. A query that does not fit is a [*FaultError].
func (c *Connector) List(ctx context.Context, q *connector.Query) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		b, err := c.bindList(ctx, q)
		if err == nil {
			err = b.err()
		}
		if err != nil {
			yield(connector.Item{}, err)
			return
		}
		var last *row
		for {
			var rows []*row
			err := ctx.Err()
			if err == nil {
				err = c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
					if rows, err = b.listChunk(ctx, conn, last, c.o.Chunk); err != nil {
						return err
					}
					return b.fill(ctx, conn, rows)
				})
			}
			if err != nil {
				yield(connector.Item{}, fmt.Errorf("list rows: %w", err))
				return
			}
			for _, r := range rows {
				if !yield(connector.Item{Locator: r.loc, ID: publicID(b.d, b.root.pk, r.key), Values: r.values, Err: r.err}, nil) {
					return
				}
			}
			if len(rows) < c.o.Chunk {
				if err := c.nameless(ctx, b); err != nil {
					yield(connector.Item{}, fmt.Errorf("list rows: %w", err))
				}
				return
			}
			last = rows[len(rows)-1]
		}
	}
}

// nameless is a [*NullKeyError] when there are rows of the list that its chunks
// pass over, since their key is NULL.
func (c *Connector) nameless(ctx context.Context, b *binding) error {
	if !b.root.nullKey() {
		return nil
	}
	t := quoteTable(b.d, b.root)
	s := newStmt(b.d, "SELECT 1 FROM ", t, " WHERE (", strings.Join(b.root.maybeNull(of(b.d, t, b.root.pk), " IS NULL"), " OR "), ")")
	if b.q.Where != "" {
		s.add(" AND (", b.q.Where, "\n)")
	}
	found := false
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) error {
		return s.add(" LIMIT 1").each(ctx, conn, 1, func([]any) error {
			found = true
			return nil
		})
	})
	if err == nil && found {
		err = &NullKeyError{b.root.full()}
	}
	return err
}

// CheckList proves, without any effect, that List can run q. As in Check, the
// error is for a database that could not be looked at.
func (c *Connector) CheckList(ctx context.Context, q *connector.Query) ([]connector.Finding, error) {
	b, err := c.bindList(ctx, q)
	if err != nil || !b.sound() {
		return b.all(), err
	}
	for _, cond := range b.conditions() {
		s := newStmt(c.d, "SELECT 1 FROM ", quoteTable(c.d, cond.on), " WHERE (", cond.text, "\n)")
		if err := c.try(ctx, b, s, cond.subject, "the condition is not understood",
			"write one condition on "+cond.on.full()+" that is true or false for a row"); err != nil {
			return nil, err
		}
	}
	if b.sound() {
		err = c.try(ctx, b, b.listStmt(nil, 1), "collection", "the table cannot be read", "")
	}
	return b.findings, err
}

func (b *binding) all() []connector.Finding {
	if b == nil {
		return nil
	}
	return b.findings
}

// bindList resolves a query for a list against the catalog of now.
func (c *Connector) bindList(ctx context.Context, q *connector.Query) (*binding, error) {
	var cat *catalog
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		cat, err = c.d.catalog(ctx, conn)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	own := &connector.Query{Collection: q.Collection, Where: q.Where, Wants: q.Wants}
	b := &binding{d: c.d, q: own}
	if b.root = b.table(cat, "collection", q.Collection); b.root == nil {
		return b, nil
	}
	if len(b.root.pk) == 0 {
		b.fault("collection", fmt.Sprintf("table %s has no primary key", b.root.full()), "give the table a primary key")
		return b, nil
	}
	b.bindConditions()
	for i, q := range own.Wants {
		subject, w := fmt.Sprintf("parts[%d]", i), want{when: q.When}
		for _, r := range q.Refs {
			if r.Table != "" && !isTable(cat, r.Table, b.root) {
				b.fault(subject, fmt.Sprintf("column %s is not of the table %s", r.Column, b.root.full()), "name a column of the table itself")
				return b, nil
			}
		}
		b.bindRefs(cat, subject, &w, nil, q.Refs)
		b.wants = append(b.wants, w)
	}
	return b, nil
}

// isTable reports a name that means this table and no other.
func isTable(cat *catalog, name string, t *table) bool {
	found := cat.find(name)
	return len(found) == 1 && found[0] == t
}

// listStmt reads the key of a row, whether each want is wanted of it, and the
// columns of the wants.
func (b *binding) listStmt(last *row, limit int) *stmt {
	t := quoteTable(b.d, b.root)
	pk := of(b.d, t, b.root.pk)
	cols := []string{keyList(b.d, pk, b.root.pk)}
	for _, w := range b.wants {
		if w.when == "" {
			cols = append(cols, "1")
		} else {
			cols = append(cols, truth(w.when))
		}
	}
	for _, c := range b.reads {
		cols = append(cols, b.d.readText(of(b.d, t, []*column{c})[0], c))
	}
	s := newStmt(b.d, "SELECT ", strings.Join(cols, ", "), " FROM ", t, " WHERE ")
	if b.q.Where == "" {
		s.add("1 = 1")
	} else {
		s.add("(", b.q.Where, "\n)")
	}
	for i, c := range b.root.pk {
		if !c.notNull {
			s.add(" AND ", pk[i], " IS NOT NULL")
		}
	}
	if last != nil {
		s.add(" AND ")
		b.d.after(s, pk, b.root.pk, last.key)
	}
	return s.add(" ORDER BY ", strings.Join(pk, ", "), fmt.Sprintf(" LIMIT %d", limit))
}

func (b *binding) listChunk(ctx context.Context, q querier, last *row, limit int) (rows []*row, err error) {
	n := len(b.root.pk)
	err = b.listStmt(last, limit).each(ctx, q, n+len(b.wants)+len(b.reads), func(v []any) error {
		k, ok := takeKey(v[:n])
		if !ok {
			return errors.New("primary key is NULL")
		}
		r := &row{key: k, loc: b.locator(k)}
		b.takeWants(r, v[n:])
		rows = append(rows, r)
		return nil
	})
	return rows, err
}
