package purge

import (
	"maps"
	"slices"

	"github.com/epitaph/epitaph/ledger"
)

// rootFact, before the name of a store, is the inode of its root in an intent.
const rootFact = "root."

// rootFacts say in which directories the stores of files that an intent names had
// their root when they were looked at.
func (b *batch) rootFacts(items []ledger.Item) []ledger.Fact {
	if b.c.Root == nil {
		return nil
	}
	var out []ledger.Fact
	for _, s := range storesOf(b.rule.Store, items) {
		if inode, ok := b.c.Root(s); ok {
			out = append(out, ledger.Int(ledger.SafeCode(rootFact+s), int64(inode))) //nolint:gosec // only compared
		}
	}
	return out
}

// storesOf lists the stores that an intent names.
func storesOf(root string, items []ledger.Item) []string {
	names := map[string]bool{root: true}
	for i := range items {
		for j := range items[i].Parts {
			names[items[i].Parts[j].Store] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// otherRoot names a store whose root is not the directory that an open intent saw;
// "" when there is none. What is not there then may lie on a disk that is not
// mounted.
func (r *run) otherRoot(e *ledger.Entry) string {
	if r.c.Root == nil {
		return ""
	}
	for _, s := range storesOf(e.Store, e.Items) {
		was, known := e.Int(ledger.SafeCode(rootFact + s))
		if inode, ok := r.c.Root(s); known && ok && int64(inode) != was { //nolint:gosec // only compared
			return s
		}
	}
	return ""
}

// otherRoots stop a run that would take for its own work what is not there in a
// directory in which it never was.
func (r *run) otherRoots() []*Interlock {
	var stops []*Interlock
	for i := range r.intents {
		e := &r.intents[i]
		s := r.otherRoot(e)
		if s == "" || slices.ContainsFunc(stops, func(x *Interlock) bool { return x.Rule == e.Rule && x.Store == s }) {
			continue
		}
		stops = append(stops, &Interlock{Code: Root, Rule: e.Rule, Store: s, other: true,
			Hint: "mount what belongs there; or, if it is right, add --allow missing, and what is not there counts as erased"})
	}
	return stops
}
