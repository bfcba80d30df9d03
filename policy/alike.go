package policy

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/epitaph/epitaph/connector"
)

// One thing may be named by several columns: as the object of a recording and as
// a track of another, or by the tables of two rules. A part therefore looks also
// at the rows by which every other part, of any rule on the same database, names
// things in the same place.

// also fills in Want.Also of every part.
func (p *Policy) also() {
	spelled := map[*Part]string{}
	for i := range p.Rules {
		r := &p.Rules[i]
		for j := range r.Parts {
			part := &r.Parts[j]
			p.others(r, part, spelled, func(other *Rule, q *Part) {
				if of := p.translation(part, q); of != nil && p.sameRows(r, other) && oneTable(other, q) {
					part.Want.Also = append(part.Want.Also, connector.Also{Refs: fullRefs(other, q), Of: of})
				}
			})
		}
	}
}

// others calls f for every part that may name what this one does, but for those
// that do so by the same columns, or by columns in its referenced_by. spelled keeps
// the words of the parts from one call to the next.
func (p *Policy) others(r *Rule, part *Part, spelled map[*Part]string, f func(*Rule, *Part)) {
	words := func(r *Rule, q *Part) string {
		w, ok := spelled[q]
		if !ok {
			list := slices.Concat(q.Store.Literals, []string{"\x01"}, q.Path.Literals)
			for _, ref := range fullRefs(r, q) {
				list = append(list, refString(ref))
			}
			if s, ok := p.Store(r.Store); ok {
				list = append(list, s.Target) // two databases may have a table of one name
			}
			w = strings.Join(list, "\x00")
			spelled[q] = w
		}
		return w
	}
	seen := map[string]bool{words(r, part): true}
	for i := range p.Rules {
		other := &p.Rules[i]
		for j := range other.Parts {
			q := &other.Parts[j]
			if q.Kind != part.Kind || q.Tree != part.Tree || !p.meet(part, q) || p.sameRows(r, other) && listed(r, part, other, q) {
				continue
			}
			if w := words(other, q); !seen[w] {
				seen[w] = true
				f(other, q)
			}
		}
	}
}

// fullRefs are the references of a part, each with its table.
func fullRefs(r *Rule, q *Part) []connector.Ref {
	refs := slices.Clone(q.Want.Refs)
	for i := range refs {
		refs[i].Table = cmp.Or(refs[i].Table, r.Collection)
	}
	return refs
}

func oneTable(r *Rule, q *Part) bool {
	refs := fullRefs(r, q)
	return !slices.ContainsFunc(refs, func(ref connector.Ref) bool { return ref.Table != refs[0].Table })
}

// sameRows reports rules on one database.
func (p *Policy) sameRows(r, other *Rule) bool {
	a, _ := p.Store(r.Store)
	b, _ := p.Store(other.Store)
	return a != nil && b != nil && (a == b || a.Target == b.Target)
}

// listed reports that referenced_by has the column of q, which names things as
// part does, in the same place.
func listed(r *Rule, part *Part, other *Rule, q *Part) bool {
	refs := fullRefs(other, q)
	if len(refs) != 1 || refs[0].Each || len(refs[0].Path) > 0 || !slices.Equal(part.Path.Literals, q.Path.Literals) ||
		!slices.Equal(part.Store.Literals, q.Store.Literals) {
		return false
	}
	return slices.ContainsFunc(part.Want.ReferencedBy, func(c connector.Column) bool {
		return c.Column == refs[0].Column && (sameTable(c.Table, refs[0].Table) || sameTable(refs[0].Table, c.Table))
	})
}

// meet reports that two parts may name one thing, as far as their text tells.
func (p *Policy) meet(a, b *Part) bool {
	x, y := p.constant(a), p.constant(b)
	switch {
	case x == nil || y == nil:
	case x.place != y.place:
		return false
	case x.bucket == y.bucket:
	case a.Kind == Files:
		return below(x.bucket, y.bucket) || below(y.bucket, x.bucket)
	case x.bucket != "" && y.bucket != "":
		return false
	}
	inPath := func(s *spot) bool { return s != nil && a.Kind == Objects && s.bucket == "" }
	return inPath(x) != inPath(y) || meet(a.Path, b.Path)
}

// constant is where all things of a part are; nil when rows say where.
func (p *Policy) constant(part *Part) *spot {
	if len(part.Store.Refs) > 0 {
		return nil
	}
	s := p.spot(part.Store.Literals[0])
	return &s
}

// meet reports that the fixed ends of two templates go together.
func meet(a, b Template) bool {
	x, y := a.Literals, b.Literals
	return meetFront(x[0], y[0]) && meetBack(x[len(x)-1], y[len(y)-1])
}

// spot is where the things of a store are: two stores may be one place. Of files
// the bucket is the root directory.
type spot struct{ place, bucket string }

// below reports a directory in another.
func below(dir, other string) bool { return strings.HasPrefix(dir, strings.TrimSuffix(other, "/")+"/") }

func (p *Policy) spot(store string) spot {
	s, ok := p.Store(store)
	switch {
	case !ok:
		return spot{}
	case s.Kind == Objects:
		return spot{"objects " + strings.TrimSuffix(s.Options["endpoint"], "/"), s.Bucket()}
	case filepath.IsAbs(s.Target):
		return spot{string(s.Kind), filepath.Clean(s.Target)}
	default: // below the policy's folder, wherever that is
		return spot{string(s.Kind), filepath.Join("~", s.Target)}
	}
}

// translation returns how q would name what part names by a tuple; nil when that
// cannot be told from the name.
func (p *Policy) translation(part, q *Part) func(connector.Tuple) (connector.Tuple, bool) {
	store, path := values(part.Store, q.Store), values(part.Path, q.Path)
	if path == nil || len(q.Store.Refs) > 0 && store == nil {
		return nil
	}
	if x, y := p.constant(part), p.constant(q); len(q.Path.Refs) > 1 && x != nil && y != nil && *x != *y {
		return nil // what is alike here begins in different directories
	}
	ns := len(part.Store.Refs)
	return func(t connector.Tuple) (connector.Tuple, bool) {
		if len(t) != len(part.Want.Refs) {
			return nil, false
		}
		name, prefix, ok := part.Place(part.Store.Fill(t[:ns]))
		if !ok {
			return nil, false
		}
		written := part.Path.Fill(t[ns:])
		at, text := p.spot(name), prefix+written
		if part.Kind == Objects && at.bucket == "" {
			if at.bucket, text, ok = strings.Cut(text, "/"); !ok {
				return nil, false
			}
		}
		other := p.constant(q)
		var tuple connector.Tuple
		switch {
		case other == nil:
			if tuple, ok = store(at.bucket, t[:ns]); ok {
				name, _, ok = q.Place(at.bucket)
				ok = ok && p.spot(name).place == at.place
			}
		case part.Kind == Files:
			text, ok = strings.CutPrefix(at.bucket+"/"+text, other.bucket+"/")
		case part.Kind == Objects && other.bucket == "":
			text, ok = at.bucket+"/"+text, other.place == at.place
		default:
			ok = *other == at
		}
		if !ok || len(q.Path.Refs) > 1 && text != written {
			return nil, false
		}
		rest, ok := path(text, t[ns:])
		return append(tuple, rest...), ok
	}
}

// values returns how the references of to are read from a text that from, filled
// with values, came to: with one reference, from what stands at its place; with
// several only where both templates are alike. Nil: not at all.
func values(from, to Template) func(text string, values []string) (connector.Tuple, bool) {
	switch {
	case len(to.Refs) == 1:
		head, tail := to.Literals[0], to.Literals[1]
		return func(text string, _ []string) (connector.Tuple, bool) {
			if len(text) <= len(head)+len(tail) || !strings.HasPrefix(text, head) || !strings.HasSuffix(text, tail) {
				return nil, false
			}
			return connector.Tuple{text[len(head) : len(text)-len(tail)]}, true
		}
	case len(to.Refs) > 1 && slices.Equal(from.Literals, to.Literals):
		return func(_ string, values []string) (connector.Tuple, bool) { return slices.Clone(values), true }
	}
	return nil
}

// Unguarded are the warnings that things which a rule takes may be named by rows
// that are not looked at: as far as the text of the policy tells, without a store.
func (p *Policy) Unguarded(r *Rule) (found []connector.Finding) {
	warn := func(subject, text, hint string) {
		found = append(found, connector.Finding{Severity: connector.Warning, Subject: subject, Text: text, Hint: hint})
	}
	spelled := map[*Part]string{}
	for j := range r.Parts {
		part, subject := &r.Parts[j], fmt.Sprintf("parts[%d]", j)
		p.others(r, part, spelled, func(other *Rule, q *Part) {
			text := fmt.Sprintf("rows that the part %s of the rule %s names by may have the same things, and are not looked at", q, other.Name)
			switch {
			case !p.sameRows(r, other):
				warn(subject, text+": they are in another database", "give each database a place of its own: a directory, prefix or bucket")
			case !oneTable(other, q):
				warn(subject, text+": their name is made of two tables", "give each part a place of its own, or keep the whole name in one column")
			case p.translation(part, q) == nil:
				warn(subject, text+": which values made a name cannot be told from it", "write both templates alike, but for their columns, or keep the whole name in one column")
			}
		})
		if other := p.waits(r, part); other != nil {
			warn(subject, fmt.Sprintf("rows of the rule %s, which stay too, may name the same things: where both are due, each waits for the other", other.Name),
				"write one rule for both, or give each a place of its own")
		}
		p.inside(r, part, func(other *Rule, q *Part) {
			warn(subject, fmt.Sprintf("the directory may hold files that the part %s of the rule %s names; they go with it, whichever rows still name them", q, other.Name),
				"give the files a place outside of such directories")
		})
	}
	if r.StoreKind != Rows {
		p.byAge(r, func(other *Rule, q *Part) {
			warn("collection", fmt.Sprintf("it may take what rows name by the part %s of the rule %s; it goes by its age, and the rows stay", q, other.Name),
				"give what rows name a place of its own: a directory, prefix or bucket")
		})
	}
	return found
}

// waits returns another rule that sets its rows and may name what a part of this
// one does, which sets its rows too. Each would keep the thing for the other.
func (p *Policy) waits(r *Rule, part *Part) *Rule {
	for i := range p.Rules {
		other := &p.Rules[i]
		if len(r.Then) == 0 || len(other.Then) == 0 || other.Name == r.Name || !p.sameRows(r, other) {
			continue
		}
		for j := range other.Parts {
			if q := &other.Parts[j]; q.Kind == part.Kind && q.Tree == part.Tree && p.meet(part, q) {
				return other
			}
		}
	}
	return nil
}

// inside calls f for the files that may lie in a directory which goes as a whole,
// but for those that the part's own row names there.
func (p *Policy) inside(r *Rule, part *Part, f func(*Rule, *Part)) {
	if !part.Tree {
		return
	}
	tree := part.Path.String()
	for i := range p.Rules {
		other := &p.Rules[i]
		for j := range other.Parts {
			q := &other.Parts[j]
			own := p.sameRows(r, other) && other.Collection == r.Collection && strings.HasPrefix(q.Path.String(), tree)
			if q.Kind == Files && !q.Tree && !own && *p.constant(part) == *p.constant(q) && meetFront(part.Path.Literals[0], q.Path.Literals[0]) {
				f(other, q)
			}
		}
	}
}

func meetFront(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }
func meetBack(a, b string) bool  { return strings.HasSuffix(a, b) || strings.HasSuffix(b, a) }

// byAge calls f for the parts of rows that a rule over files or objects may take.
func (p *Policy) byAge(r *Rule, f func(*Rule, *Part)) {
	at := p.spot(r.Store)
	const meta = "*?[]{}!\\"
	first, last := strings.IndexAny(r.Collection, meta), strings.LastIndexAny(r.Collection, meta)
	front, back := r.Collection, r.Collection
	if first >= 0 {
		front, back = r.Collection[:first], r.Collection[last+1:]
	}
	if r.StoreKind == Objects {
		front, back = strings.TrimSuffix(r.Collection, "*"), ""
	}
	flat := r.StoreKind == Files && !strings.Contains(r.Collection, "/")
	for i := range p.Rules {
		other := &p.Rules[i]
		for j := range other.Parts {
			q := &other.Parts[j]
			here := q.Kind == r.StoreKind
			if c := p.constant(q); c != nil {
				here = here && *c == at
			} else if here && at.bucket != "" {
				name, _, ok := q.Place(at.bucket)
				here = ok && p.spot(name).place == at.place
			}
			lits := q.Path.Literals
			deep := strings.Contains(strings.Join(lits, ""), "/")
			if here && !(flat && deep) && meetFront(front, lits[0]) && (q.Tree || meetBack(back, lits[len(lits)-1])) {
				f(other, q)
			}
		}
	}
}

// String is the part as a policy writes it.
func (part *Part) String() string { return part.Store.String() + ":" + part.Path.String() }
