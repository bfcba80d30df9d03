package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// row is one row of the root as it was read.
type row struct {
	key     key
	keyless bool // key is the number of a row that has none
	loc     connector.Locator
	anchor  any
	match   bool // Where
	held    bool
	inUse   bool
	when    []bool
	settled bool  // it has all values of Then; read under the lock of a claim
	texts   []any // binding.reads
	values  [][]connector.Tuple
	err     error // the values cannot be read
	twice   bool  // another row has its key
}

// columns is what is read of a root row, and how many columns that is. In the
// place of a key that is NULL stands the number of the row.
func (b *binding) columns(keyless bool) (list string, n int) {
	t := quoteTable(b.d, b.root)
	key, n := keyList(b.d, of(b.d, t, b.root.pk), b.root.pk), len(b.root.pk)
	if keyless {
		key, n = t+"."+b.root.rowNumber(), 1
	}
	cols := []string{key, b.d.readAnchor(of(b.d, t, []*column{b.anchor})[0], b.kind)}
	n++
	conds := []string{b.q.Where, b.q.Hold, b.q.InUse}
	for _, w := range b.wants {
		conds = append(conds, w.when)
	}
	for i, c := range conds {
		switch {
		case c != "":
			cols = append(cols, truth(c))
		case i == 1 || i == 2: // no hold, not in use
			cols = append(cols, "0")
		default:
			cols = append(cols, "1")
		}
	}
	for _, c := range b.reads {
		cols = append(cols, b.d.readText(of(b.d, t, []*column{c})[0], c))
	}
	return strings.Join(cols, ", "), n + len(conds) + len(b.reads)
}

// take makes a row of what columns lists.
func (b *binding) take(v []any, keyless bool) (*row, error) {
	n := len(b.root.pk)
	if keyless {
		n = 1
	}
	k, ok := takeKey(v[:n])
	if !ok {
		return nil, errors.New("primary key is NULL")
	}
	v = v[n:]
	r := &row{key: k, keyless: keyless, match: isTrue(v[1]), held: isTrue(v[2]), inUse: isTrue(v[3])}
	if keyless {
		r.loc, r.err = noLocator(b.root, k), &NullKeyError{b.root.full()}
	} else {
		r.loc = b.locator(k)
	}
	r.anchor = v[0]
	if t, ok := v[0].([]byte); ok {
		r.anchor = string(t)
	}
	b.takeWants(r, v[4:])
	return r, nil
}

// takeWants fills in of which wants a row has something, and the columns read for
// them.
func (b *binding) takeWants(r *row, v []any) {
	for range b.wants {
		r.when = append(r.when, isTrue(v[0]))
		v = v[1:]
	}
	for _, x := range v {
		if t, ok := asText(x); ok {
			r.texts = append(r.texts, t)
		} else {
			r.texts = append(r.texts, nil)
		}
	}
}

func (b *binding) locator(k key) connector.Locator { return locator(b.root, k, typed(b.d)) }

// typed reports that a key's type has to be told by its locator.
func typed(d dialect) bool { return d.grammar().bracket }

// NullKeyError says that a row's primary key is NULL, which SQLite permits
// where the column is not declared NOT NULL. Such a row has no name by which it
// could be claimed and proven gone, so it stays.
type NullKeyError struct{ Table string }

// Error names the table.
func (e *NullKeyError) Error() string { return "the primary key of a row of " + e.Table + " is NULL" }

// pass is one walk of a scan: which rows, in which order.
type pass struct {
	keyless  bool // only rows whose key is NULL, by their number; else only the others
	byAnchor bool // by anchor and key, else by key
	dated    bool // rows that may lie before the cutoff
	undated  bool // rows without an anchor, or with one that is no timestamp
	tied     bool // only rows with the last row's anchor
}

// Scan implements [connector.Connector].
func (c *Connector) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		b, err := c.rebind(ctx, q)
		if err == nil {
			err = b.err()
		}
		if err == nil {
			if err = c.checkArrays(ctx, b); err == nil {
				err = b.err()
			}
		}
		if err == nil {
			err = c.survey(ctx, b, s)
		}
		if err != nil {
			yield(connector.Item{}, err)
			return
		}
		byAnchor, err := c.followAnchor(ctx, b)
		if err != nil {
			yield(connector.Item{}, fmt.Errorf("survey collection: %w", err))
			return
		}
		passes := []pass{{dated: true, undated: true}}
		if byAnchor {
			passes = []pass{{byAnchor: true, dated: true}, {undated: true}}
		}
		if b.root.nullKey() {
			passes = append(passes, pass{keyless: true, dated: true, undated: true})
		}
		for _, p := range passes {
			if !c.walk(ctx, b, p, yield) {
				return
			}
		}
	}
}

// muchDue is the share of a table, as a divisor, from which on a scan leaves the
// index of the anchor.
const muchDue = 10

// followAnchor decides on the order of a scan. The items are later disposed of
// in that order, batch by batch. Where rows lie in the file by their key and
// much of the table is due, batches in the order of age would each touch pages
// all over it, and write them again and again.
func (c *Connector) followAnchor(ctx context.Context, b *binding) (bool, error) {
	if !b.byAnchor || !c.d.liesByKey(b.root) {
		return b.byAnchor, nil
	}
	var due, all int64
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) error {
		t := quoteTable(c.d, b.root)
		s := newStmt(c.d, "SELECT (SELECT count(*) FROM ", t, " WHERE ")
		s.add(c.d.orderBy(of(c.d, t, []*column{b.anchor})[0], b.kind), " < ", c.d.bind(b.anchor, s.arg(b.kind.bound(b.q.Cutoff, b.zone))),
			"), (SELECT count(*) FROM ", t, ")")
		return s.each(ctx, conn, 2, func(v []any) error {
			due, _ = v[0].(int64)
			all, _ = v[1].(int64)
			return nil
		})
	})
	return due < all/muchDue, err
}

// survey counts the collection and reads the server's clock.
func (c *Connector) survey(ctx context.Context, b *binding, s *connector.Survey) error {
	var total int64
	var clock time.Time
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) error {
		count := newStmt(c.d, "SELECT count(*) FROM ", quoteTable(c.d, b.root))
		if b.q.Where != "" {
			count.add(" WHERE (", b.q.Where, "\n)")
			b.unsettled(count, " AND ", quoteTable(c.d, b.root))
		} else {
			b.unsettled(count, " WHERE ", quoteTable(c.d, b.root))
		}
		if err := count.each(ctx, conn, 1, func(v []any) error { total, _ = v[0].(int64); return nil }); err != nil {
			return err
		}
		if c.d.clock() == "" {
			return nil
		}
		return newStmt(c.d, c.d.clock()).each(ctx, conn, 1, func(v []any) (err error) {
			t, _ := asText(v[0])
			clock, err = parseInstant(t, nil, true)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("survey collection: %w", b.refused(err))
	}
	if s != nil {
		s.Total, s.Clock = total, clock
	}
	return nil
}

// ahead is a chunk that was read while the one before it was dealt with.
type ahead struct {
	due   []*row
	end   *row // the last row that was read
	n     int  // rows that were read
	err   error
	panic any
}

// walk yields the items of one pass; false ends the scan. While the items of a
// chunk are yielded, the database reads the next.
func (c *Connector) walk(ctx context.Context, b *binding, p pass, yield func(connector.Item, error) bool) bool {
	ctx, cancel := context.WithCancel(ctx)
	var next chan ahead
	fetch := func(last *row) {
		next = make(chan ahead, 1)
		go func(to chan<- ahead) { to <- c.chunkAhead(ctx, b, p, last) }(next)
	}
	defer func() {
		cancel()
		if next != nil {
			<-next // so that nothing is read any more when the scan has ended
		}
	}()
	for fetch(nil); ; {
		r := <-next
		next = nil
		if r.panic != nil {
			panic(r.panic)
		}
		if r.err != nil {
			yield(connector.Item{}, fmt.Errorf("scan collection: %w", b.refused(r.err)))
			return false
		}
		if r.n == c.o.Chunk {
			fetch(r.end)
		}
		for _, x := range r.due {
			if !yield(b.item(x), nil) {
				return false
			}
		}
		if next == nil {
			return true
		}
	}
}

// chunkAhead reads one chunk with all that its rows name.
func (c *Connector) chunkAhead(ctx context.Context, b *binding, p pass, last *row) (r ahead) {
	defer func() { r.panic = recover() }() // for the goroutine that asked
	if r.err = ctx.Err(); r.err != nil {
		return r
	}
	r.err = c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		if r.due, r.end, r.n, err = b.chunk(ctx, conn, p, last, c.o.Chunk); err != nil || p.keyless {
			return err
		}
		return b.fill(ctx, conn, r.due)
	})
	return r
}

// chunk reads up to limit rows after last. It returns those that are due or
// undated, the last row read, and the number of rows read.
func (b *binding) chunk(ctx context.Context, q querier, p pass, last *row, limit int) (due []*row, end *row, n int, err error) {
	read := func(p pass) error {
		width := 0
		s := b.chunkStmt(p, last, limit-n, &width)
		return s.each(ctx, q, width, func(v []any) error {
			r, err := b.take(v, p.keyless)
			if err != nil {
				return err
			}
			n++
			end = r
			if b.interesting(r) {
				due = append(due, r)
			}
			return nil
		})
	}
	end = last
	if p.byAnchor && last != nil {
		// An index finds the rows that share an anchor, but not the place among
		// them. Asked for together with those that follow, a million rows that
		// were imported at one instant would be read again for each chunk.
		tied := p
		tied.tied = true
		if err = read(tied); err != nil || n == limit {
			return due, end, n, err
		}
	}
	err = read(p)
	return due, end, n, err
}

func (b *binding) chunkStmt(p pass, last *row, limit int, width *int) *stmt {
	t := quoteTable(b.d, b.root)
	list, n := b.columns(p.keyless)
	*width = n
	anchor := of(b.d, t, []*column{b.anchor})[0]
	pk := of(b.d, t, b.root.pk)
	s := newStmt(b.d, "SELECT ", list, " FROM ", t, " WHERE ")
	if b.q.Where != "" {
		s.add("(", b.q.Where, "\n) AND ")
	}
	var range_ []string
	if p.dated {
		range_ = append(range_, b.d.orderBy(anchor, b.kind)+" < "+b.d.bind(b.anchor, s.arg(b.kind.bound(b.q.Cutoff, b.zone))))
	}
	if p.undated {
		range_ = append(range_, anchor+" IS NULL")
		if stray := b.d.strayAnchor(anchor, b.kind); stray != "" {
			range_ = append(range_, stray)
		}
	}
	s.add("(", strings.Join(range_, " OR "), ")")
	order, cols := pk, b.root.pk
	if p.keyless {
		s.add(" AND (", strings.Join(b.root.maybeNull(pk, " IS NULL"), " OR "), ")")
		order, cols = []string{t + "." + b.root.rowNumber()}, nil
	} else {
		for _, cond := range b.root.maybeNull(pk, " IS NOT NULL") {
			s.add(" AND ", cond)
		}
	}
	if p.byAnchor {
		order, cols = append([]string{b.d.orderBy(anchor, b.kind)}, pk...), append([]*column{b.anchor}, cols...)
	}
	switch {
	case last == nil:
	case p.tied:
		s.add(" AND ")
		b.d.same(s, order[0], b.anchor, last.anchor)
		s.add(" AND ")
		b.d.after(s, pk, b.root.pk, last.key)
		order = pk
	case p.byAnchor:
		s.add(" AND ")
		b.d.after(s, order[:1], cols[:1], []any{last.anchor})
	default:
		s.add(" AND ")
		b.d.after(s, order, cols, last.key)
	}
	b.unsettled(s, " AND ", t)
	return s.add(" ORDER BY ", strings.Join(order, ", "), fmt.Sprintf(" LIMIT %d", limit))
}

// refused makes an error of the policy's words out of one that the database
// gave for running what it understood: only the operator's own conditions can
// be the cause.
func (b *binding) refused(err error) error {
	var late *TimeoutError
	if !b.conditional() || errors.As(err, &late) || b.d.classify(err) != refusedFailure {
		return err
	}
	return &FaultError{[]connector.Finding{{Severity: connector.Fault, Subject: "where", Text: textRefused, Hint: hintRefused}}}
}

// interesting decides, by the instant itself, whether a row is an item.
func (b *binding) interesting(r *row) bool {
	at, dated, err := b.kind.instant(r.anchor, b.zone)
	return err != nil || !dated || at.Before(b.q.Cutoff)
}

func (b *binding) item(r *row) connector.Item {
	it := connector.Item{Locator: r.loc, Held: r.held, InUse: r.inUse, Values: r.values, Err: r.err}
	if !r.keyless {
		it.ID = publicID(b.d, b.root.pk, r.key)
	}
	at, dated, err := b.kind.instant(r.anchor, b.zone)
	switch {
	case err != nil:
		it.Err = err
	case dated:
		it.Anchor = at
	}
	return it
}
