package rows

import (
	"cmp"
	"fmt"
	"slices"
)

// node is a table of which rows go with an item.
type node struct {
	table *table
	// by are the cascading edges by which rows of it are reached.
	by []*foreignKey
	// link is its place in binding.links, or -1.
	link int
	// keyed says that the keys of its rows are collected before anything is
	// deleted, because rows of other tables hang on them. Rows of a table that
	// is not keyed are deleted by the keys of their parents.
	keyed bool
	// cyclic says that deleting rows of another node may take rows of this one
	// first, so that rows are counted by their keys.
	cyclic bool
}

// self reports that deleting a row of the table may take others of it.
func (n *node) self() bool {
	return slices.ContainsFunc(n.table.in, func(f *foreignKey) bool { return f.child == n.table && f.onDelete == cascade })
}

// bindDeletion follows the live foreign keys from the root and the links, and
// puts the tables in an order in which they can go.
func (b *binding) bindDeletion() {
	byTable := map[*table]*node{}
	add := func(t *table, link int) *node {
		n := byTable[t]
		if n == nil {
			n = &node{table: t, link: link}
			byTable[t] = n
			b.nodes = append(b.nodes, n)
		}
		return n
	}
	add(b.root, -1).keyed = true
	for i, l := range b.links {
		add(l.table, i).keyed = true
	}
	for i := 0; i < len(b.nodes); i++ { // grows
		parent := b.nodes[i]
		if len(parent.table.pk) == 0 {
			continue // its rows cannot be collected; the database takes what hangs on them
		}
		for _, f := range parent.table.in {
			if f.onDelete != cascade || f.child == b.root || f.child == parent.table && parent.link >= 0 {
				continue
			}
			child := add(f.child, -1)
			child.by = append(child.by, f)
			parent.keyed = true
		}
	}
	if b.keeps() {
		if b.root.unfit != "" {
			b.fault("collection", fmt.Sprintf("table %s %s", b.root.full(), b.root.unfit), "")
		}
		return
	}
	for _, f := range b.root.in {
		if f.child == b.root && f.onDelete != setNull && f.onDelete != setDefault {
			b.guards = append(b.guards, f)
		}
	}
	for _, n := range b.nodes {
		if n.table.unfit != "" {
			b.fault("collection", fmt.Sprintf("table %s %s", n.table.full(), n.table.unfit), "")
		}
		for _, f := range n.table.out {
			b.deferred = b.deferred || f.deferrable && byTable[f.parent] != nil
		}
	}
	b.uncovered(byTable)
	b.order(byTable)
	b.trusting = b.d.trusts() && !slices.ContainsFunc(b.nodes, func(n *node) bool {
		// A cascade may meet a blocking edge between two tables it empties, or
		// come round to the root, or leave rows that a trigger keeps, without a
		// word. Then the order, the keys and the look are ours to see to.
		return n.cyclic || n.table.triggers && n.table != b.root && n.link < 0 || slices.ContainsFunc(n.table.out, func(f *foreignKey) bool {
			to := byTable[f.parent]
			switch {
			case to == nil || to == n && f.onDelete == cascade || f.onDelete == setNull || f.onDelete == setDefault:
				return false
			case n.table == b.root:
				return to.link < 0 && to != n
			}
			return f.onDelete.blocks() && to.link < 0 && f.parent != b.root && n.link < 0
		})
	})
}

// own reports that rows of the node are deleted by a statement of ours.
func (b *binding) own(n *node) bool { return !b.trusting || n.table == b.root || n.link >= 0 }

// owned reports that rows of the child go with a row of the link rather than
// keep it.
func (b *binding) owned(f *foreignKey, byTable map[*table]*node) bool {
	child, parent := byTable[f.child], byTable[f.parent]
	if child == nil || f.child == b.root || f.child == f.parent {
		return false
	}
	if child.link >= 0 {
		return slices.ContainsFunc(b.links[child.link].pairs, func(p pair) bool { return p.from == parent.link })
	}
	return f.onDelete == cascade
}

// uncovered names the edges that would keep a row from going though the policy
// does not say what becomes of the rows behind them.
func (b *binding) uncovered(byTable map[*table]*node) {
	for _, parent := range b.nodes {
		for _, f := range parent.table.in {
			child := byTable[f.child]
			switch {
			case f.onDelete == cascade && f.child != b.root:
				b.indexWarning("collection", f.child, f.columns)
			case f.onDelete == setNull || f.onDelete == setDefault:
				b.indexWarning("collection", f.child, f.columns)
				if f.onDelete == setNull && !f.nullable() {
					b.warn("collection", fmt.Sprintf("foreign key %s is SET NULL, but its column cannot be NULL", f), "")
				}
			case f.child == b.root && f.parent == b.root:
				b.indexWarning("collection", f.child, f.columns)
			case parent.link >= 0 && !b.owned(f, byTable), child != nil:
				// A row behind the edge keeps the linked row, or goes too.
			default:
				b.fault("collection", fmt.Sprintf("foreign key %s (%s) is not covered: rows of %s would keep theirs of %s",
					f, f.onDelete, f.child.full(), f.parent.full()), fmt.Sprintf("name %s as a part of the rule: - rows: STORE.%s", f.child.name, f.child.full()))
			}
		}
	}
}

// order sorts the nodes so that children come before parents. In a cycle the
// cascading edges give way first: the database then takes those rows itself;
// then the edges whose check can be deferred.
func (b *binding) order(byTable map[*table]*node) {
	pending := slices.Clone(b.nodes)
	slices.SortFunc(pending, func(x, y *node) int { return cmp.Compare(x.table.full(), y.table.full()) })
	var done []*node
	blocked := func(n *node, level int) bool {
		for _, f := range n.table.in {
			if f.child == n.table || !slices.Contains(pending, byTable[f.child]) || f.onDelete == setNull || f.onDelete == setDefault {
				continue
			}
			switch {
			case level >= 1 && f.onDelete == cascade, level >= 2 && f.deferrable:
			default:
				return true
			}
		}
		return false
	}
	for len(pending) > 0 {
		next, level := -1, 0
		for ; next < 0 && level < 3; level++ {
			next = slices.IndexFunc(pending, func(n *node) bool { return !blocked(n, level) })
		}
		if level > 1 || next < 0 {
			for _, n := range pending {
				n.cyclic = true
				n.keyed = n.keyed || len(n.table.pk) > 0
			}
		}
		next = max(next, 0)
		done = append(done, pending[next])
		pending = slices.Delete(pending, next, next+1)
	}
	b.nodes = done
}
