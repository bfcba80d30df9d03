package rows

import (
	"cmp"
	"slices"
	"strings"
)

// catalog is what the database says of its tables, read once for each query.
type catalog struct {
	tables []*table
	warn   []string // remarks on the database as a whole, for Check
	unfit  string   // why nothing in the database can be purged; "" when it can
}

type table struct {
	schema, name string
	view         bool // or anything else that is no table
	partitionOf  string
	unfit        string // why rows cannot be purged from it; "" when they can
	visible      bool   // an unqualified name finds it
	triggers     bool   // something may run, or happen instead, when a row is deleted
	columns      []*column
	pk           []*column
	indexes      []index
	in, out      []*foreignKey // by which others name it; by which it names others
}

type column struct {
	table   *table
	name    string
	typ     string // as the catalog spells it, lower case
	notNull bool
	// generated says that it cannot be set, where the planning of an UPDATE does
	// not say so (MySQL).
	generated bool
	// json says that it was declared as JSON where its type does not (MariaDB).
	json bool
}

// index is an index over plain columns; an expression is a nil column.
type index struct {
	name    string // where a statement may have to name it
	columns []*column
	unique  bool
	partial bool
}

type action uint8

const (
	noAction action = iota
	restrict
	cascade
	setNull
	setDefault
)

func (a action) String() string {
	return [...]string{"NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"}[a]
}

// blocks reports that a row cannot go while a child row names it.
func (a action) blocks() bool { return a == noAction || a == restrict }

type foreignKey struct {
	name          string
	child, parent *table
	columns, refs []*column // of the child; of the parent
	onDelete      action
	deferrable    bool
}

// full is the table's name as people write it.
func (t *table) full() string {
	if t.schema == "" {
		return t.name
	}
	return t.schema + "." + t.name
}

func (t *table) column(name string) *column {
	for _, c := range t.columns {
		if c.name == name {
			return c
		}
	}
	var found *column
	for _, c := range t.columns {
		if strings.EqualFold(c.name, name) {
			if found != nil {
				return nil
			}
			found = c
		}
	}
	return found
}

// nullKey reports that a row may lack its primary key, which SQLite permits.
func (t *table) nullKey() bool {
	return slices.ContainsFunc(t.pk, func(c *column) bool { return !c.notNull })
}

// maybeNull are the expressions of those key columns that may be NULL, each
// followed by what.
func (t *table) maybeNull(pk []string, what string) []string {
	var out []string
	for i, c := range t.pk {
		if !c.notNull {
			out = append(out, pk[i]+what)
		}
	}
	return out
}

// rowNumber is a name by which SQLite knows the number of a row; "" when columns
// of the table have taken all of them. A table without such numbers has no key
// that may be NULL.
func (t *table) rowNumber() string {
	for _, name := range []string{"_rowid_", "rowid", "oid"} {
		if !slices.ContainsFunc(t.columns, func(c *column) bool { return strings.EqualFold(c.name, name) }) {
			return name
		}
	}
	return ""
}

// indexOn is the name of an index that begins with these columns; "" when none
// is known by name.
func (t *table) indexOn(cols []*column) string {
	for _, x := range t.indexes {
		if x.name != "" && !x.partial && prefixOf(x.columns, cols) {
			return x.name
		}
	}
	return ""
}

// indexed reports that an index begins with these columns, in any order.
func (t *table) indexed(cols []*column) bool {
	if prefixOf(t.pk, cols) {
		return true
	}
	return slices.ContainsFunc(t.indexes, func(x index) bool {
		return !x.partial && prefixOf(x.columns, cols)
	})
}

func prefixOf(have, want []*column) bool {
	if len(have) < len(want) {
		return false
	}
	for _, c := range have[:len(want)] {
		if c == nil || !slices.Contains(want, c) {
			return false
		}
	}
	return true
}

// unique reports that no two rows can agree in all these columns.
func (t *table) unique(cols []*column) bool {
	within := func(key []*column) bool {
		if len(key) == 0 {
			return false
		}
		for _, c := range key {
			if c == nil || !slices.Contains(cols, c) {
				return false
			}
		}
		return true
	}
	return within(t.pk) || slices.ContainsFunc(t.indexes, func(x index) bool {
		return x.unique && !x.partial && within(x.columns)
	})
}

func (f *foreignKey) nullable() bool {
	return slices.ContainsFunc(f.columns, func(c *column) bool { return !c.notNull })
}

// String names an edge for people: child(columns) → parent.
func (f *foreignKey) String() string {
	return f.child.full() + "(" + names(f.columns) + ") → " + f.parent.full()
}

func names(cols []*column) string {
	out := make([]string, len(cols))
	for i, c := range cols {
		out[i] = c.name
	}
	return strings.Join(out, ", ")
}

// link ties the foreign keys to their tables, in a stable order.
func (c *catalog) link(keys []*foreignKey) {
	slices.SortStableFunc(keys, func(a, b *foreignKey) int {
		return cmp.Or(cmp.Compare(a.child.full(), b.child.full()), cmp.Compare(names(a.columns), names(b.columns)),
			cmp.Compare(a.parent.full(), b.parent.full()))
	})
	for _, k := range keys {
		k.child.out = append(k.child.out, k)
		k.parent.in = append(k.parent.in, k)
	}
	slices.SortFunc(c.tables, func(a, b *table) int { return cmp.Compare(a.full(), b.full()) })
}

// find resolves a name as a person wrote it. More than one table means that the
// name is ambiguous, none that it is absent.
func (c *catalog) find(name string) []*table {
	for _, same := range []func(a, b string) bool{func(a, b string) bool { return a == b }, strings.EqualFold} {
		var found []*table
		for _, t := range c.tables {
			if t.visible && same(t.name, name) {
				found = append(found, t)
				continue
			}
			for i := range len(name) {
				if name[i] == '.' && same(t.schema, name[:i]) && same(t.name, name[i+1:]) && t.schema != "" {
					found = append(found, t)
					break
				}
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// elsewhere lists tables of that bare name which an unqualified name does not find.
func (c *catalog) elsewhere(name string) []string {
	var out []string
	for _, t := range c.tables {
		if !t.visible && strings.EqualFold(t.name, name) {
			out = append(out, t.full())
		}
	}
	return out
}

// nearest lists up to three names that are a slip of the finger away.
func nearest(name string, of []string) []string {
	type near struct {
		name string
		d    int
	}
	var found []near
	low := strings.ToLower(name)
	for _, n := range of {
		d := distance(low, strings.ToLower(n))
		if d <= max(2, len(name)/3) || strings.HasSuffix(strings.ToLower(n), "."+low) {
			found = append(found, near{n, d})
		}
	}
	slices.SortFunc(found, func(a, b near) int { return cmp.Or(cmp.Compare(a.d, b.d), cmp.Compare(a.name, b.name)) })
	var out []string
	for _, f := range found[:min(3, len(found))] {
		out = append(out, f.name)
	}
	return out
}

// distance counts the edits between two names (Levenshtein).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		last := row[0]
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, last+cost)
		}
	}
	return row[len(y)]
}
