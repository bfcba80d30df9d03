package rows

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/epitaph/epitaph/connector"
)

func (b *binding) bindWant(cat *catalog, i int, q connector.Want) {
	subject := fmt.Sprintf("parts[%d]", i)
	w := want{when: q.When}
	defer func() { b.wants = append(b.wants, w) }()
	var t *table
	var by *foreignKey
	for _, r := range q.Refs {
		if r.Table == "" {
			continue
		}
		rt := b.table(cat, subject, r.Table)
		switch {
		case rt == nil:
			return
		case rt == b.root:
			continue
		case t != nil && rt != t:
			b.fault(subject, fmt.Sprintf("columns of %s and of %s in one part", t.full(), rt.full()), "a part may name the rule's table and one other")
			return
		}
		t = rt
	}
	if t != nil {
		var ok bool
		if w.path, by, ok = b.pathTo(subject, t); !ok {
			return
		}
		w.direct = b.directColumns(w.path)
		if b.keeps() && by != nil && !(by.child == t && by.onDelete == cascade) {
			b.fault(subject, fmt.Sprintf("rows of %s are not told to belong to those of %s, so that a file which they name would always be needed by them", t.full(), b.root.full()),
				fmt.Sprintf("name %s as a part of the rule: - rows: STORE.%s", t.name, t.full()))
			return
		}
	}
	if !b.bindRefs(cat, subject, &w, t, q.Refs) {
		return
	}
	b.ownLook(subject, &w, t, by)
	for _, c := range q.ReferencedBy {
		b.otherLook(cat, subject, &w, c)
	}
	for _, q := range q.Also {
		b.alsoLook(cat, subject, &w, q)
	}
}

// pathTo is how rows of t belong to the root: by a link, else by the only
// foreign key, which is then returned.
func (b *binding) pathTo(subject string, t *table) ([]hop, *foreignKey, bool) {
	if k := slices.IndexFunc(b.links, func(h hop) bool { return h.table == t }); k >= 0 {
		return b.chain(k), nil, true
	}
	h, f, ok := b.byForeignKey(subject, t)
	if !ok {
		return nil, nil, false
	}
	b.indexWarning(subject, t, columnsIn(h.pairs))
	return []hop{h}, f, true
}

// directColumns are the columns of the only hop that equal the primary key of
// the root in its order and in the same written form; nil when there are none.
func (b *binding) directColumns(path []hop) []*column {
	if len(path) != 1 || len(path[0].pairs) != len(b.root.pk) {
		return nil
	}
	out := make([]*column, len(b.root.pk))
	for i, c := range b.root.pk {
		k := slices.IndexFunc(path[0].pairs, func(p pair) bool { return p.fromCol == c })
		if k < 0 || !b.d.exact(path[0].pairs[k].col, c) {
			return nil
		}
		out[i] = path[0].pairs[k].col
	}
	return out
}

func (b *binding) bindRefs(cat *catalog, subject string, w *want, t *table, refs []connector.Ref) bool {
	var each *connector.Ref
	for i := range refs {
		q := &refs[i]
		r := ref{each: q.Each, path: q.Path, root: true}
		on := b.root
		if q.Table != "" && b.table(cat, subject, q.Table) != b.root {
			r.root, on = false, t
		}
		c := b.column(subject, on, q.Column)
		if c == nil {
			return false
		}
		if q.Each {
			if each != nil && (each.Column != q.Column || each.Table != q.Table || !slices.Equal(each.Path, q.Path)) {
				b.fault(subject, "two JSON arrays in one part", "write a part for each")
				return false
			}
			each = q
		}
		list := &b.reads
		if !r.root {
			list = &w.reads
		}
		if r.at = slices.Index(*list, c); r.at < 0 {
			r.at = len(*list)
			*list = append(*list, c)
		}
		w.refs = append(w.refs, r)
	}
	return true
}

// refColumns are the columns of the refs on one side; plain is false when one
// of them looks into JSON.
func (b *binding) refColumns(w *want, root bool) (cols []*column, plain bool) {
	plain = true
	for _, r := range w.refs {
		if r.root != root {
			continue
		}
		if r.root {
			cols = append(cols, b.reads[r.at])
		} else {
			cols = append(cols, w.reads[r.at])
		}
		plain = plain && !r.each && len(r.path) == 0
	}
	return cols, plain
}

// ownLook adds the look at the table that the values come from, unless no
// other row of it can hold the same ones.
func (b *binding) ownLook(subject string, w *want, t *table, by *foreignKey) {
	if len(w.refs) == 0 {
		return
	}
	onRoot, plainRoot := b.refColumns(w, true)
	onTable, plainTable := b.refColumns(w, false)
	if len(onRoot) > 0 && plainRoot && b.root.unique(onRoot) {
		return // the root's row is the only one, and it dies
	}
	dies := by != nil && by.child == t && by.onDelete == cascade
	if len(onRoot) == 0 && plainTable && dies && t.unique(onTable) {
		return
	}
	l := look{}
	switch {
	case t == nil:
		l.from, l.seats = quoteTable(b.d, b.root)+" AS r", []seat{{b.root, "r"}}
	case len(onRoot) == 0:
		l.from, l.seats = quoteTable(b.d, t)+" AS "+alias(len(w.path)-1), []seat{{t, alias(len(w.path) - 1)}}
	default:
		l.from, l.seats = b.join(w.path), []seat{{b.root, "r"}}
		for i, h := range w.path {
			l.seats = append(l.seats, seat{h.table, alias(i)})
		}
	}
	for _, r := range w.refs {
		as, c := alias(-1), (*column)(nil)
		if r.root {
			c = b.reads[r.at]
		} else {
			as, c = alias(len(w.path)-1), w.reads[r.at]
		}
		expr := of(b.d, as, []*column{c})[0]
		l.by = append(l.by, place{c, expr, c})
		l.refs = append(l.refs, ref{at: len(l.exprs), each: r.each, path: r.path})
		l.exprs = append(l.exprs, b.d.readText(expr, c))
	}
	b.lookWarning(subject, &l)
	w.looks = append(w.looks, l)
}

// lookWarning tells of a look that no index helps. Of several columns one is
// enough; the last is named, as the first may be of few values, such as a bucket.
// Elements of an array are found without one.
func (b *binding) lookWarning(subject string, l *look) {
	var last *column
	for i, r := range l.refs {
		if r.each {
			return
		}
		if len(r.path) > 0 {
			continue
		}
		if last = l.by[i].col; last.table.indexed([]*column{last}) {
			return
		}
	}
	if last != nil {
		b.indexWarning(subject, last.table, []*column{last})
	}
}

// alsoLook adds the look at rows that name the same things in words of their own.
// What does not exist is for the rule that speaks of it to say.
func (b *binding) alsoLook(cat *catalog, subject string, w *want, q connector.Also) {
	l := look{of: q.Of}
	for _, r := range q.Refs {
		if len(cat.find(r.Table)) == 0 {
			return
		}
		t := b.table(cat, subject, r.Table)
		if t == nil {
			return
		}
		c := t.column(r.Column)
		if c == nil || len(l.seats) > 0 && l.seats[0].table != t {
			return
		}
		l.from, l.seats = quoteTable(b.d, t)+" AS r", []seat{{t, "r"}}
		expr := of(b.d, "r", []*column{c})[0]
		by := place{c, expr, &column{}} // a value that was made of others need not be one of the column's type
		if _, strict := b.d.(postgresDialect); strict && !r.Each && len(r.Path) == 0 {
			if ok := spelling(c.typ); ok != nil { // one that is can be compared by an index
				by.like, l.of = c, onlySpelled(l.of, len(l.refs), ok)
			}
		}
		l.by = append(l.by, by)
		l.refs = append(l.refs, ref{at: len(l.exprs), each: r.Each, path: r.Path})
		l.exprs = append(l.exprs, b.d.readText(expr, c))
	}
	if len(l.refs) == 0 {
		return
	}
	b.lookWarning(subject, &l)
	w.looks = append(w.looks, l)
}

// spelling reports the texts that PostgreSQL reads as values of the type and gives
// again as they were; nil for types of which that is not known.
func spelling(typ string) func(string) bool {
	bits := map[string]int{"smallint": 16, "integer": 32, "bigint": 64}[typ]
	switch {
	case typ == "uuid":
		return uuid.MatchString
	case bits > 0:
		return func(s string) bool {
			n, err := strconv.ParseInt(s, 10, bits)
			return err == nil && strconv.FormatInt(n, 10) == s
		}
	}
	return nil
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// onlySpelled passes on the tuples whose ith value a column can hold. No row has
// another, and PostgreSQL would refuse to compare it.
func onlySpelled(of func(connector.Tuple) (connector.Tuple, bool), i int, ok func(string) bool) func(connector.Tuple) (connector.Tuple, bool) {
	return func(t connector.Tuple) (connector.Tuple, bool) {
		t, can := of(t)
		return t, can && i < len(t) && ok(t[i])
	}
}
