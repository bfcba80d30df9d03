package rows

import (
	"context"
	"slices"
	"strings"
)

// sources are the places (-1 the root, else a link) on which link i hangs.
func (b *binding) sources(i int) []int {
	var out []int
	for _, p := range b.links[i].pairs {
		if !slices.Contains(out, p.from) {
			out = append(out, p.from)
		}
	}
	return out
}

func (b *binding) at(i int) *table {
	if i < 0 {
		return b.root
	}
	return b.links[i].table
}

// linkJoin is a FROM clause of link i and its sources, and the condition that
// ties them.
func (b *binding) linkJoin(i int, table string) (from, on string) {
	parts := []string{table + " AS l"}
	for _, s := range b.sources(i) {
		parts = append(parts, quoteTable(b.d, b.at(s))+" AS "+alias(s))
	}
	return strings.Join(parts, ", "), b.on(b.links[i], "l", alias)
}

// linkedStmt finds the rows of link i that hang on dying rows.
func (b *binding) linkedStmt(i int, sets map[*table][]key) *stmt {
	l := b.links[i]
	from, on := b.linkJoin(i, b.source(l))
	s := newStmt(b.d, "SELECT DISTINCT ", keyList(b.d, of(b.d, "l", l.table.pk), l.table.pk), " FROM ", from, " WHERE ", on)
	for _, src := range b.sources(i) {
		t := b.at(src)
		s.add(" AND ")
		b.d.keyIn(s, of(b.d, alias(src), t.pk), t.pk, sets[t])
	}
	return s
}

// neededStmts find the rows of link i, among its dying set, that a surviving
// row still needs.
func (b *binding) neededStmts(i int, sets map[*table][]key) []*stmt {
	l := b.links[i]
	pk := of(b.d, "l", l.table.pk)
	var out []*stmt
	begin := func(from, on string) *stmt {
		s := newStmt(b.d, "SELECT DISTINCT ", keyList(b.d, pk, l.table.pk), " FROM ", from, " WHERE ", on, " AND ")
		b.d.keyIn(s, pk, l.table.pk, sets[l.table])
		out = append(out, s)
		return s
	}
	// By the columns of on: unless they can name one row only, which dies.
	sources := b.sources(i)
	var named []*column
	for _, p := range l.pairs {
		named = append(named, p.fromCol)
	}
	if len(sources) > 1 || !b.at(sources[0]).unique(named) {
		s := begin(b.linkJoin(i, quoteTable(b.d, l.table)))
		s.add(" AND NOT (")
		for n, src := range sources {
			if n > 0 {
				s.add(" AND ")
			}
			t := b.at(src)
			b.d.keyIn(s, of(b.d, alias(src), t.pk), t.pk, sets[t])
		}
		s.add(")")
		if slices.Contains(sources, -1) {
			b.unsettled(s, " AND ", alias(-1))
		}
	}
	byTable := map[*table]*node{}
	for _, n := range b.nodes {
		byTable[n.table] = n
	}
	for _, f := range l.table.in {
		if b.owned(f, byTable) {
			continue
		}
		s := begin(quoteTable(b.d, l.table)+" AS l JOIN "+quoteTable(b.d, f.child)+" AS c ON "+
			equal(of(b.d, "c", f.columns), of(b.d, "l", f.refs)), "1 = 1")
		b.stays(s, f.child, "c", byTable, sets, l.table)
	}
	for _, c := range l.named {
		s := begin(quoteTable(b.d, l.table)+" AS l JOIN "+quoteTable(b.d, c.table)+" AS c ON "+
			equal(of(b.d, "c", []*column{c}), of(b.d, "l", []*column{l.pairs[0].col})), "1 = 1")
		b.stays(s, c.table, "c", byTable, sets, nil)
	}
	return out
}

// stays adds the condition that the row of the table by that alias is not among
// those that go already, by themselves or with a row of another table than but.
func (b *binding) stays(s *stmt, t *table, as string, byTable map[*table]*node, sets map[*table][]key, but *table) {
	if dying, ok := sets[t]; ok {
		s.add(" AND NOT ")
		b.d.keyIn(s, of(b.d, as, t.pk), t.pk, dying)
		if t == b.root {
			b.unsettled(s, " AND ", as)
		}
		return
	}
	n := byTable[t]
	if n == nil {
		return
	}
	for _, by := range n.by {
		if dying, ok := sets[by.parent]; ok && by.parent != but {
			// A NULL edge is no edge: the row does not die by it.
			s.add(" AND CASE WHEN ")
			b.hangsOn(s, by, as, dying)
			s.add(" THEN 0 ELSE 1 END = 1")
		}
	}
}

// hangsOn adds the condition that a child row, by the edge, names one of the
// parent's keys.
func (b *binding) hangsOn(s *stmt, f *foreignKey, as string, parents []key) {
	if cols := inKeyOrder(f); cols != nil {
		b.d.keyIn(s, of(b.d, as, cols), f.parent.pk, parents)
		return
	}
	name := quoteTable(b.d, f.parent)
	s.add("(", strings.Join(of(b.d, as, f.columns), ", "), ") IN (SELECT ", strings.Join(of(b.d, "p", f.refs), ", "), " FROM ", name, " AS p WHERE ")
	b.d.keyIn(s, of(b.d, "p", f.parent.pk), f.parent.pk, parents)
	s.add(")")
}

// inKeyOrder lists the columns of an edge in the order of the parent's primary
// key; nil when the edge names other columns.
func inKeyOrder(f *foreignKey) []*column {
	if len(f.refs) != len(f.parent.pk) {
		return nil
	}
	out := make([]*column, len(f.refs))
	for i, c := range f.parent.pk {
		k := slices.Index(f.refs, c)
		if k < 0 {
			return nil
		}
		out[i] = f.columns[k]
	}
	return out
}

// linked decides which rows of link i go: those that hang on dying rows, but
// for those that a surviving row still needs.
func (cl *claim) linked(ctx context.Context, i int, sets map[*table][]key) ([]key, error) {
	t := cl.b.links[i].table
	for _, src := range cl.b.sources(i) {
		if len(sets[cl.b.at(src)]) == 0 {
			return nil, nil
		}
	}
	var dying []key
	read := func() (err error) {
		dying, err = cl.keysOf(ctx, cl.b.linkedStmt(i, sets), t)
		return err
	}
	var err error
	if cl.b.links[i].where != "" {
		err = cl.c.d.sealed(ctx, cl.conn, read)
	} else {
		err = read()
	}
	held := false
	for err == nil && len(dying) > 0 {
		sets[t] = dying
		var needed map[string]bool
		if needed, err = cl.needed(ctx, i, sets); err != nil || len(needed) == 0 {
			break
		}
		if !held {
			// The row that needs it may be dying in another claim: see keep.
			var names []string
			for n := range needed {
				names = append(names, "row\x00"+n)
			}
			held = true
			if err = cl.c.d.hold(ctx, cl.conn, names); err != nil {
				break
			}
			if needed, err = cl.needed(ctx, i, sets); err != nil {
				break
			}
		}
		before := len(dying)
		dying = slices.DeleteFunc(dying, func(k key) bool { return needed[string(locator(t, k, typed(cl.b.d)))] })
		if len(dying) == before {
			break
		}
	}
	delete(sets, t)
	return dying, err
}

func (cl *claim) needed(ctx context.Context, i int, sets map[*table][]key) (map[string]bool, error) {
	t := cl.b.links[i].table
	found := map[string]bool{}
	for _, s := range cl.b.neededStmts(i, sets) {
		keys, err := cl.keysOf(ctx, s, t)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			found[string(locator(t, k, typed(cl.b.d)))] = true
		}
	}
	return found, nil
}

// keysOf reads the keys of t that a statement lists.
func (cl *claim) keysOf(ctx context.Context, s *stmt, t *table) ([]key, error) {
	var out []key
	err := s.each(ctx, cl.conn, len(t.pk), func(v []any) error {
		if k, ok := takeKey(v); ok {
			out = append(out, k)
		}
		return nil
	})
	return out, err
}
