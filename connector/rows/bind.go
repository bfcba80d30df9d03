package rows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// binding is a query resolved against the live catalog: every name is a table
// or column that exists, and what has to be read, looked at and deleted is known.
type binding struct {
	d        dialect
	q        *connector.Query
	root     *table
	anchor   *column
	kind     anchorKind
	zone     *time.Location
	byAnchor bool      // an index leads by the anchor, so a scan may follow it
	reads    []*column // of the root, read as text with each row
	wants    []want
	links    []hop
	then     []setting
	nodes    []*node // what goes, children first; with then, what would
	guards   []*foreignKey
	deferred bool // some constraint among the nodes can be deferred
	// trusting leaves the rows behind cascading edges to the database.
	trusting bool
	findings []connector.Finding
}

// hop is a table joined to the root or to an earlier hop.
type hop struct {
	table *table
	where string
	pairs []pair
	// named are further columns, of other tables, that hold the value of the
	// only pair's col: a row that stays and has it needs the linked row.
	named []*column
}

// pair equates a column of a hop with one of the root (from -1) or of an
// earlier hop.
type pair struct {
	col     *column
	from    int
	fromCol *column
}

// want is one connector.Want, resolved.
type want struct {
	refs  []ref
	path  []hop // how its table is joined; empty when all refs are on the root
	reads []*column
	when  string
	looks []look
	plain []*column // of text, in referenced_by, that are read as one value
	// direct are the columns of the only hop that equal the root's primary key,
	// in its order: the root itself then need not be read again.
	direct []*column
}

// ref is one value of a tuple.
type ref struct {
	root bool
	at   int // in binding.reads or want.reads
	each bool
	path []string
}

// look is a place where a surviving row may still name a thing.
type look struct {
	from  string   // FROM clause
	seats []seat   // the tables in it
	exprs []string // read as text
	refs  []ref    // at counts in exprs
	by    []place  // of each ref: rows are found by all of them together
	// of is how these rows would name what a tuple of the want names; nil: alike.
	of func(connector.Tuple) (connector.Tuple, bool)
}

// place is where one value of a look is compared.
type place struct {
	col  *column
	expr string  // the column, unread
	like *column // where the values came from
}

// fault and warn note a finding.
func (b *binding) fault(subject, text, hint string) {
	b.findings = append(b.findings, connector.Finding{Severity: connector.Fault, Subject: subject, Text: text, Hint: hint})
}

func (b *binding) warn(subject, text, hint string) {
	b.findings = append(b.findings, connector.Finding{Severity: connector.Warning, Subject: subject, Text: text, Hint: hint})
}

// sound reports that nothing was found that forbids to run the query.
func (b *binding) sound() bool {
	return !slices.ContainsFunc(b.findings, func(f connector.Finding) bool { return f.Severity == connector.Fault })
}

func bind(d dialect, cat *catalog, q *connector.Query) *binding {
	b := &binding{d: d, q: q, zone: q.Anchor.Zone}
	if cat.unfit != "" {
		b.fault("collection", cat.unfit, "it takes MySQL 8.0.1 or MariaDB 10.6, or newer")
		return b
	}
	b.root = b.table(cat, "collection", q.Collection)
	if b.root == nil {
		return b
	}
	if len(b.root.pk) == 0 {
		b.fault("collection", fmt.Sprintf("table %s has no primary key", b.root.full()), "give the table a primary key")
		return b
	}
	for _, c := range b.root.pk {
		if !c.notNull {
			b.warn("collection", fmt.Sprintf("primary key column %s of %s may be NULL; such a row cannot go, and is reported as INVALID when it is due", c.name, b.root.full()), "declare it NOT NULL")
		}
	}
	if b.root.nullKey() && b.root.rowNumber() == "" {
		b.fault("collection", fmt.Sprintf("the primary key of %s may be NULL, and its columns hide the number of such a row", b.root.full()), "declare the key NOT NULL")
		return b
	}
	b.bindAnchor()
	b.bindConditions()
	for i, l := range q.Links {
		b.bindLink(cat, i, l)
	}
	b.bindThen()
	if b.sound() {
		for i, w := range q.Wants {
			b.bindWant(cat, i, w)
		}
		b.bindDeletion()
	}
	for _, w := range cat.warn {
		b.warn("collection", w, "")
	}
	return b
}

// table resolves a name; nil after a finding.
func (b *binding) table(cat *catalog, subject, name string) *table {
	found := cat.find(name)
	switch {
	case len(found) > 1:
		var all []string
		for _, t := range found {
			all = append(all, t.full())
		}
		b.fault(subject, fmt.Sprintf("%q is ambiguous: %s", name, strings.Join(all, ", ")), "write the schema before the table")
		return nil
	case len(found) == 0:
		hint := ""
		if other := cat.elsewhere(name); len(other) > 0 {
			hint = "write " + strings.Join(other, " or ")
		} else {
			var all []string
			for _, t := range cat.tables {
				all = append(all, t.full())
				if t.visible {
					all = append(all, t.name)
				}
			}
			slices.Sort(all)
			hint = didYouMean(nearest(name, slices.Compact(all)), "no table has a name like it")
		}
		b.fault(subject, fmt.Sprintf("there is no table %q", name), hint)
		return nil
	}
	t := found[0]
	switch {
	case t.partitionOf != "":
		b.fault(subject, fmt.Sprintf("%s is a partition of %s", t.full(), t.partitionOf), "name the partitioned table")
		return nil
	case t.view:
		b.fault(subject, fmt.Sprintf("%s is not a table but a view or the like", t.full()), "name the table behind it")
		return nil
	}
	return t
}

func didYouMean(names []string, otherwise string) string {
	if len(names) == 0 {
		return otherwise
	}
	return "did you mean " + strings.Join(names, " or ") + "?"
}

// column resolves a column; nil after a finding.
func (b *binding) column(subject string, t *table, name string) *column {
	if c := t.column(name); c != nil {
		return c
	}
	var all []string
	for _, c := range t.columns {
		all = append(all, c.name)
	}
	b.fault(subject, fmt.Sprintf("table %s has no column %q", t.full(), name), didYouMean(nearest(name, all), "its columns are "+strings.Join(all, ", ")))
	return nil
}

func (b *binding) bindAnchor() {
	a := b.q.Anchor
	if a.Kind != connector.AnchorColumn || a.Column == "" {
		b.fault("anchor", "rows need a column that holds their timestamp", "write anchor: COLUMN or anchor: {column: COLUMN, zone: ZONE}")
		return
	}
	c := b.column("anchor", b.root, a.Column)
	if c == nil {
		return
	}
	b.anchor, b.kind = c, b.d.anchor(c)
	switch {
	case b.kind == notAnchor:
		b.fault("anchor", fmt.Sprintf("column %s of %s is of type %s, which holds no timestamp", c.name, b.root.full(), typeName(c)), "name a timestamp, date or ISO 8601 text column")
		return
	case b.kind.naive() && b.zone == nil:
		b.fault("anchor", fmt.Sprintf("column %s of %s holds timestamps without a zone", c.name, b.root.full()), fmt.Sprintf("say in which zone they were written, such as UTC or Europe/Berlin: anchor: {column: %s, zone: …}", c.name))
	}
	b.byAnchor = b.root.indexed([]*column{c})
	if !b.byAnchor {
		b.warn("anchor", fmt.Sprintf("column %s of %s has no index, so each scan reads the whole table", c.name, b.root.full()),
			createIndex(b.root, []*column{c}))
	}
}

func typeName(c *column) string {
	if c.typ == "" {
		return "none"
	}
	return c.typ
}

// condition names one of the operator's conditions and its table.
type condition struct {
	subject, text string
	on            *table
}

func (b *binding) conditions() []condition {
	all := []condition{{"where", b.q.Where, b.root}, {"hold", b.q.Hold, b.root}, {"in_use", b.q.InUse, b.root}}
	for i, w := range b.q.Wants {
		all = append(all, condition{fmt.Sprintf("parts[%d]", i), w.When, b.root})
	}
	for i, l := range b.links {
		all = append(all, condition{fmt.Sprintf("links[%d]", i), l.where, l.table})
	}
	return slices.DeleteFunc(all, func(c condition) bool { return c.text == "" || c.on == nil })
}

// conditional reports that the root's rows are judged by the operator's SQL.
func (b *binding) conditional() bool {
	return b.q.Where != "" || b.q.Hold != "" || b.q.InUse != "" ||
		slices.ContainsFunc(b.wants, func(w want) bool { return w.when != "" })
}

func (b *binding) bindConditions() {
	texts := []condition{{"where", b.q.Where, nil}, {"hold", b.q.Hold, nil}, {"in_use", b.q.InUse, nil}}
	for i, w := range b.q.Wants {
		texts = append(texts, condition{fmt.Sprintf("parts[%d]", i), w.When, nil})
	}
	for i, l := range b.q.Links {
		texts = append(texts, condition{fmt.Sprintf("links[%d]", i), l.Where, nil})
	}
	for _, c := range texts {
		if c.text == "" {
			continue
		}
		if err := b.d.grammar().closed(c.text); err != nil {
			b.fault(c.subject, "the condition "+err.Error(), "write one condition that is true or false for a row")
		}
	}
}

// edges lists the foreign keys between two tables, in both directions.
func edges(a, b *table) []*foreignKey {
	var found []*foreignKey
	for _, f := range a.out {
		if f.parent == b {
			found = append(found, f)
		}
	}
	if a != b {
		for _, f := range b.out {
			if f.parent == a {
				found = append(found, f)
			}
		}
	}
	return found
}

// byForeignKey is the hop from the root to t along its only foreign key.
func (b *binding) byForeignKey(subject string, t *table) (hop, *foreignKey, bool) {
	found := edges(t, b.root)
	switch len(found) {
	case 1:
	case 0:
		b.fault(subject, fmt.Sprintf("no foreign key joins %s and %s", t.full(), b.root.full()),
			fmt.Sprintf("say how they belong together: on: %s.COLUMN = %s.COLUMN", t.name, b.root.name))
		return hop{}, nil, false
	default:
		var all []string
		for _, f := range found {
			all = append(all, f.String())
		}
		b.fault(subject, fmt.Sprintf("%s and %s are joined by more than one foreign key: %s", t.full(), b.root.full(), strings.Join(all, "; ")),
			fmt.Sprintf("say which is meant: on: %s.COLUMN = %s.COLUMN", t.name, b.root.name))
		return hop{}, nil, false
	}
	f := found[0]
	h := hop{table: t}
	for i := range f.columns {
		if f.child == t {
			h.pairs = append(h.pairs, pair{f.columns[i], -1, f.refs[i]})
		} else {
			h.pairs = append(h.pairs, pair{f.refs[i], -1, f.columns[i]})
		}
	}
	return h, f, true
}

func (b *binding) bindLink(cat *catalog, i int, l connector.Link) {
	subject := fmt.Sprintf("links[%d]", i)
	b.links = append(b.links, hop{})
	t := b.table(cat, subject, l.Table)
	if t == nil {
		return
	}
	switch {
	case t == b.root:
		b.fault(subject, fmt.Sprintf("%s is the rule's own table", t.full()), "leave it out")
		return
	case len(t.pk) == 0:
		b.fault(subject, fmt.Sprintf("table %s has no primary key", t.full()), "give the table a primary key")
		return
	}
	for _, other := range b.links[:i] {
		if other.table == t {
			b.fault(subject, fmt.Sprintf("%s is named twice", t.full()), "name it once")
			return
		}
	}
	h := hop{table: t, where: l.Where}
	if len(l.On) == 0 {
		by, _, ok := b.byForeignKey(subject, t)
		if !ok {
			return
		}
		h.pairs = by.pairs
	}
	for _, on := range l.On {
		p, ok := b.bindPair(cat, subject, i, t, on)
		if !ok {
			return
		}
		h.pairs = append(h.pairs, p)
	}
	if len(l.ReferencedBy) > 0 && len(l.On) != 1 {
		b.fault(subject, "referenced_by needs an on with exactly one equation", fmt.Sprintf("on: %s.COLUMN = %s.COLUMN", t.name, b.root.name))
		return
	}
	for _, q := range l.ReferencedBy {
		c, ok := b.bindNamed(cat, subject, i, q)
		if !ok {
			return
		}
		h.named = append(h.named, c)
	}
	b.links[i] = h
	b.indexWarning(subject, t, columnsIn(h.pairs))
}

// bindNamed resolves a column that names rows of link i. The rows of its table
// that go are told from those that stay, so a table that goes along must come
// first.
func (b *binding) bindNamed(cat *catalog, subject string, i int, q connector.Column) (*column, bool) {
	t := b.table(cat, subject, q.Table)
	if t == nil {
		return nil, false
	}
	for _, later := range b.q.Links[i:] {
		if slices.Contains(cat.find(later.Table), t) {
			b.fault(subject, fmt.Sprintf("referenced_by names %s, which is not linked above", t.full()), "put the part with that table first")
			return nil, false
		}
	}
	c := b.column(subject, t, q.Column)
	if c != nil {
		b.indexWarning(subject, t, []*column{c})
	}
	return c, c != nil
}

func columnsIn(pairs []pair) []*column {
	var cols []*column
	for _, p := range pairs {
		cols = append(cols, p.col)
	}
	return cols
}

func (b *binding) indexWarning(subject string, t *table, cols []*column) {
	if !t.indexed(cols) {
		b.warn(subject, fmt.Sprintf("no index on %s(%s), so each batch reads the whole table", t.full(), names(cols)),
			createIndex(t, cols))
	}
}

// createIndex is the statement that makes an index, with a name, which SQLite
// and MariaDB ask for.
func createIndex(t *table, cols []*column) string {
	return fmt.Sprintf("CREATE INDEX %s_%s ON %s (%s)", t.name, strings.ReplaceAll(names(cols), ", ", "_"), t.full(), names(cols))
}

func (b *binding) bindPair(cat *catalog, subject string, i int, t *table, on connector.Pair) (pair, bool) {
	own, other := on.Column, on.Equals
	ot := b.table(cat, subject, own.Table)
	et := b.table(cat, subject, other.Table)
	if ot == nil || et == nil {
		return pair{}, false
	}
	if ot != t && et == t {
		own, other, ot, et = other, own, et, ot
	}
	if ot != t {
		b.fault(subject, fmt.Sprintf("neither side of on: is a column of %s", t.full()), fmt.Sprintf("on: %s.COLUMN = %s.COLUMN", t.name, b.root.name))
		return pair{}, false
	}
	from := -1
	if et != b.root {
		from = slices.IndexFunc(b.links[:i], func(h hop) bool { return h.table == et })
		if from < 0 {
			b.fault(subject, fmt.Sprintf("%s is neither the rule's table nor an earlier link", et.full()), "put the link to it first")
			return pair{}, false
		}
	}
	c, e := b.column(subject, ot, own.Column), b.column(subject, et, other.Column)
	if c == nil || e == nil {
		return pair{}, false
	}
	if b.d.lossy(c, e) {
		b.fault(subject, fmt.Sprintf("%s.%s is of type %s and %s.%s of type %s: values that differ would be called equal", ot.full(), c.name, c.typ, et.full(), e.name, e.typ),
			"equate columns of the same type")
		return pair{}, false
	}
	return pair{c, from, e}, true
}

// chain is the list of hops that leads to link k, with places in that list.
func (b *binding) chain(k int) []hop {
	var need []int
	var visit func(int)
	visit = func(i int) {
		if i < 0 || slices.Contains(need, i) {
			return
		}
		for _, p := range b.links[i].pairs {
			visit(p.from)
		}
		need = append(need, i)
	}
	visit(k)
	out := make([]hop, len(need))
	for n, i := range need {
		h := hop{table: b.links[i].table, where: b.links[i].where}
		for _, p := range b.links[i].pairs {
			h.pairs = append(h.pairs, pair{p.col, slices.Index(need, p.from), p.fromCol})
		}
		out[n] = h
	}
	return out
}

func alias(i int) string {
	if i < 0 {
		return "r"
	}
	return fmt.Sprintf("h%d", i)
}

// source is the table of a hop, restricted to the rows its condition names.
func (b *binding) source(h hop) string {
	if h.where == "" {
		return quoteTable(b.d, h.table)
	}
	t := quoteTable(b.d, h.table)
	return "(SELECT * FROM " + t + " WHERE (" + h.where + "\n))"
}

// join is a FROM clause over the root and the hops.
func (b *binding) join(path []hop) string {
	var s strings.Builder
	s.WriteString(quoteTable(b.d, b.root) + " AS r")
	for i, h := range path {
		s.WriteString(" JOIN " + b.source(h) + " AS " + alias(i) + " ON " + b.on(h, alias(i), alias))
	}
	return s.String()
}

// on is the condition that ties a hop to what it hangs on.
func (b *binding) on(h hop, as string, alias func(int) string) string {
	var out []string
	for _, p := range h.pairs {
		out = append(out, of(b.d, as, []*column{p.col})[0]+" = "+of(b.d, alias(p.from), []*column{p.fromCol})[0])
	}
	return strings.Join(out, " AND ")
}
