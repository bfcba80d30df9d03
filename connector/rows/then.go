package rows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// setting is one column of the root that is set when the parts are gone.
type setting struct {
	col   *column
	value connector.Value
	kind  anchorKind // of a column that gets an instant
}

// keeps reports that the rows stay and are set.
func (b *binding) keeps() bool { return len(b.q.Then) > 0 }

// bindThen resolves the columns that are set. What the rule goes by is not
// among them: the key, the anchor, and the columns that tie rows together.
func (b *binding) bindThen() {
	const other = "set another column"
	for _, s := range b.q.Then {
		c := b.column("then", b.root, s.Column)
		if c == nil {
			continue
		}
		name := fmt.Sprintf("column %s of %s", c.name, b.root.full())
		if by := b.tie(c); by != "" {
			b.fault("then", name+" "+by, other)
			continue
		}
		if slices.ContainsFunc(b.then, func(x setting) bool { return x.col == c }) {
			b.fault("then", name+" is set twice", "keep one")
			continue
		}
		x := setting{col: c, value: s.Value}
		if b.bindValue(name, &x) {
			b.then = append(b.then, x)
		}
	}
}

// tie says why a column may not change; "" when it may.
func (b *binding) tie(c *column) string {
	switch {
	case slices.Contains(b.root.pk, c):
		return "is its key"
	case c == b.anchor:
		return "starts the clock of the row"
	case c.generated:
		return "is generated"
	}
	for _, f := range b.root.out {
		if slices.Contains(f.columns, c) {
			return fmt.Sprintf("is part of the foreign key %s", f)
		}
	}
	for _, f := range b.root.in {
		if slices.Contains(f.refs, c) {
			return fmt.Sprintf("is what the foreign key %s refers to", f)
		}
	}
	for _, l := range b.links {
		if slices.ContainsFunc(l.pairs, func(p pair) bool { return p.from < 0 && p.fromCol == c }) {
			return fmt.Sprintf("is how rows of %s are found", l.table.full())
		}
	}
	return ""
}

// bindValue checks that the column can hold the value and be compared with it.
func (b *binding) bindValue(name string, x *setting) bool {
	x.kind = b.d.anchor(x.col)
	switch v := x.value; v.Kind {
	case connector.NullValue:
		if x.col.notNull {
			b.fault("then", name+" cannot be NULL", "write the value that says so")
			return false
		}
		return true
	case connector.NowValue:
		switch {
		case x.kind == notAnchor:
			b.fault("then", fmt.Sprintf("%s is of type %s, which holds no timestamp", name, typeName(x.col)), "name a timestamp, date or text column")
			return false
		case x.kind.naive() && v.Zone == nil:
			b.fault("then", name+" holds timestamps without a zone",
				fmt.Sprintf("say in which zone they are written, such as UTC or Europe/Berlin: %s: {instant: now, zone: …}", x.col.name))
			return false
		}
		return true
	case connector.TextValue:
		if k := x.kind; k != notAnchor && k != textAnchor {
			if _, err := parseInstant(v.Text, time.UTC, true); err != nil {
				b.fault("then", name+" holds timestamps, and the value is none", "write {instant: now}, or a date and time such as \"2026-01-31 12:00:00\"")
				return false
			}
		}
	case connector.BoolValue, connector.NumberValue:
	}
	if !b.d.fits(x.col, x.value.Kind) {
		b.fault("then", fmt.Sprintf("%s is of type %s, and the value is %s", name, typeName(x.col), kindName(x.value.Kind)),
			"write true or false, a number, or a text in quotes, as the column holds")
		return false
	}
	return true
}

func kindName(k connector.ValueKind) string {
	switch k {
	case connector.BoolValue:
		return "true or false"
	case connector.NumberValue:
		return "a number"
	default:
		return "a text"
	}
}

// settled adds the condition that the row has all the values. A column that
// gets an instant has it when it holds any.
func (b *binding) settled(s *stmt, as string) {
	for i, x := range b.then {
		if i > 0 {
			s.add(" AND ")
		}
		expr := of(b.d, as, []*column{x.col})[0]
		switch x.value.Kind {
		case connector.NullValue:
			s.add(expr, " IS NULL")
		case connector.NowValue:
			s.add(expr, " IS NOT NULL")
		default:
			s.add(expr, " = ", b.d.constant(s, x.col, x.value))
		}
	}
}

// unsettled adds that a row of the root does not have all the values; nothing
// for a query that deletes.
func (b *binding) unsettled(s *stmt, glue, as string) {
	if !b.keeps() {
		return
	}
	s.add(glue, "CASE WHEN ")
	b.settled(s, as)
	s.add(" THEN 0 ELSE 1 END = 1")
}

// updateStmt sets the rows of keys.
func (b *binding) updateStmt(keys []key, now time.Time) *stmt {
	t := quoteTable(b.d, b.root)
	s := newStmt(b.d, "UPDATE ", t, b.d.byKey(), " SET ")
	for i, x := range b.then {
		if i > 0 {
			s.add(", ")
		}
		s.add(b.d.quote(x.col.name), " = ")
		switch x.value.Kind {
		case connector.NullValue:
			s.add("NULL")
		case connector.NowValue:
			s.add(b.d.bind(x.col, s.arg(x.kind.written(now, x.value.Zone))))
		default:
			s.add(b.d.constant(s, x.col, x.value))
		}
	}
	s.add(" WHERE ")
	b.d.keyIn(s, of(b.d, t, b.root.pk), b.root.pk, keys)
	return s
}

// written is an instant in the form of the column.
func (k anchorKind) written(at time.Time, zone *time.Location) any {
	const layout = "2006-01-02 15:04:05.000000"
	at = at.UTC()
	switch {
	case k == unixAnchor:
		return at.Unix()
	case k == dayAnchor:
		return at.In(zone).Format(time.DateOnly)
	case k == naiveAnchor, k == textAnchor && zone != nil:
		return at.In(zone).Format(layout)
	case k == textAnchor:
		return at.Format("2006-01-02T15:04:05.000000Z")
	default:
		return at.Format(layout) // sessions are in UTC
	}
}

// settledKeys reads which of the rows are there with all the values.
func (b *binding) settledKeys(ctx context.Context, q querier, keys []key) (map[connector.Locator]bool, error) {
	there := make(map[connector.Locator]bool, len(keys))
	t := quoteTable(b.d, b.root)
	pk := of(b.d, t, b.root.pk)
	s := newStmt(b.d, "SELECT ", keyList(b.d, pk, b.root.pk), " FROM ", t, " WHERE ")
	b.d.keyIn(s, pk, b.root.pk, keys)
	s.add(" AND (")
	b.settled(s, t)
	err := s.add(")").each(ctx, q, len(pk), func(v []any) error {
		if k, ok := takeKey(v); ok {
			there[b.locator(k)] = true
		}
		return nil
	})
	return there, err
}

var errNotSet = errors.New("the database did not set the row as it was told to")

// update is the rehearsal of rows that stay: they are set inside the transaction,
// and looked at, because a trigger or a type may have made something else of it.
func (cl *claim) update(ctx context.Context, which []int) error {
	keys := cl.keysAt(which)
	for part := range cl.b.chunks(cl.b.root, keys) {
		if _, err := cl.b.updateStmt(part, cl.now).exec(ctx, cl.conn); err != nil {
			return err
		}
	}
	set, err := cl.b.settledKeys(ctx, cl.conn, keys)
	if err != nil {
		return err
	}
	no := &refusal{reason: connector.Refused, err: errNotSet}
	for _, i := range which {
		if !set[cl.rows[i].loc] {
			no.items = append(no.items, i)
		}
	}
	if len(no.items) > 0 {
		return no
	}
	return cl.b.d.checkNow(ctx, cl.conn)
}

// lookSettled finds out which of the locked rows have all the values already.
func (cl *claim) lookSettled(ctx context.Context, rows []*row) error {
	keys := make([]key, len(rows))
	for i, r := range rows {
		keys[i] = r.key
	}
	settled, err := cl.b.settledKeys(ctx, cl.conn, keys)
	for _, r := range rows {
		r.settled = settled[r.loc]
	}
	return err
}

func (cl *claim) keysAt(which []int) []key {
	keys := make([]key, len(which))
	for n, i := range which {
		keys[n] = cl.rows[i].key
	}
	return keys
}

// kin lists the rows that belong to items which stay: those that would go with
// them. What only these name, nobody needs any more. Nil where rows go.
func (cl *claim) kin(ctx context.Context, which []int) (map[*table][]key, error) {
	if !cl.b.keeps() {
		return nil, nil
	}
	sets := map[*table][]key{cl.b.root: cl.keysAt(which)}
	for i := range cl.b.links {
		own, err := cl.linked(ctx, i, sets)
		if err != nil {
			return nil, err
		}
		sets[cl.b.links[i].table] = own
	}
	return sets, cl.descend(ctx, sets)
}

// seat is a table that a look reads, and by which alias.
type seat struct {
	table *table
	as    string
}

// spare adds to a look that kin, which are still there, do not count, nor rows
// of the root that are set.
func (b *binding) spare(s *stmt, glue string, seats []seat, kin map[*table][]key) {
	if !b.keeps() {
		return
	}
	s.add(glue, "1 = 1")
	byTable := map[*table]*node{}
	for _, n := range b.nodes {
		byTable[n.table] = n
	}
	for _, at := range seats {
		b.stays(s, at.table, at.as, byTable, kin, nil)
	}
}
