package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/epitaph/epitaph/connector"
	"go.yaml.in/yaml/v4"
)

// maxParts is how many parts of files and objects a policy may have.
const maxParts = 300

// The keys of a part, by kind.
var partKeys = map[StoreKind][]string{
	Rows:    {"rows", "kind", "on", "where", "referenced_by"},
	Files:   {"files", "referenced_by", "when"},
	Objects: {"objects", "referenced_by", "when"},
}

func (p *parser) parts(f field, r *Rule) {
	if refused(f.val) {
		return
	}
	if r.StoreKind == Files || r.StoreKind == Objects {
		p.add(pos(f.key), fmt.Sprintf("parts are named by the columns of a row, and this rule takes %s", r.StoreKind),
			"remove parts, or write a rule of its own for them")
		return
	}
	if f.val.Kind != yaml.SequenceNode || len(f.val.Content) == 0 {
		p.add(pos(f.val), "parts must be a list", `write each part on a line of its own: - files: "disk:{id}.bin"`)
		return
	}
	seen := map[string]bool{}
	for _, n := range f.val.Content {
		p.part(n, r, seen)
	}
}

func (p *parser) part(n *yaml.Node, r *Rule, seen map[string]bool) {
	const hint = `write files: "STORE:TEMPLATE", objects: "STORE:TEMPLATE" or rows: STORE.TABLE`
	var kind StoreKind
	keys := []string{"files", "objects", "rows", "kind", "on", "where", "referenced_by", "when"}
	if n.Kind == yaml.MappingNode {
		if kind = p.kindOfMapping(n, "a part", hint); kind != "" {
			keys = partKeys[kind]
		}
	}
	what := "a part"
	if kind != "" {
		what = "a part of " + string(kind)
	}
	f, ok := p.mapping(n, what, keys...)
	if !ok || kind == "" {
		return
	}
	if kind == Rows {
		p.link(pos(n), f, r)
		return
	}
	part := Part{Kind: kind, Pos: pos(n)}
	v, ok := p.text(f[string(kind)].val, string(kind))
	ok = ok && p.locator(v, r, &part)
	if w, given := f["when"]; given {
		part.Want.When = p.condition(w.val, "when")
	}
	if ref, given := f["referenced_by"]; given {
		if ok && len(part.Want.Refs) != 1 {
			p.add(pos(ref.key), "referenced_by needs a template with exactly one reference",
				"the referencing columns are compared with the value of that reference")
		}
		part.Want.ReferencedBy = p.referencedBy(ref, r, true)
	}
	if !ok {
		return
	}
	id := part.Store.String() + ":" + part.Path.String() + "\x00" + part.Want.When
	if seen[id] {
		p.add(pos(n), "this part is given twice", "keep one")
		return
	}
	seen[id] = true
	if p.parted++; p.parted > maxParts {
		if p.parted == maxParts+1 {
			p.add(pos(n), "the policy has too many parts", fmt.Sprintf("a policy has at most %d parts of files and objects, as each is held against every other", maxParts))
		}
		return
	}
	r.place(fmt.Sprintf("parts[%d]", len(r.Parts)), part.Pos)
	r.Parts = append(r.Parts, part)
}

// locator reads "store:template" into part.
func (p *parser) locator(v value, r *Rule, part *Part) bool {
	store, path, ok := splitStore(v.text)
	if !ok {
		p.problem(v, 0, fmt.Sprintf("%s does not say in which store", part.Kind), fmt.Sprintf(`write %s: "STORE:%s"`, part.Kind, "{column}"))
		return false
	}
	var bad *flaw
	if part.Store, bad = template(store); bad == nil {
		if part.Path, bad = template(path); bad != nil {
			bad.offset += len(store) + 1
		}
	}
	if bad != nil {
		p.problem(v, bad.offset, bad.text, bad.hint)
		return false
	}
	if !p.partStore(v, part) {
		return false
	}
	if len(part.Path.Refs) == 0 {
		p.problem(v, len(store)+1, "the template has no reference, so that every item would name the same thing", refHint)
		return false
	}
	if part.Kind == Files {
		bad = climbing(part.Path)
		part.Tree = strings.HasSuffix(part.Path.Literals[len(part.Path.Literals)-1], "/")
	} else if len(path) > maxPath {
		bad = &flaw{0, "the template is too long", "a template has at most 4096 bytes"}
	}
	if bad != nil {
		p.problem(v, len(store)+1, bad.text, bad.hint)
		return false
	}
	return p.references(v, r, part)
}

// partStore checks the store of a part: declared and of the right kind, or, for
// objects, a reference that names one of the declared buckets.
func (p *parser) partStore(v value, part *Part) bool {
	if len(part.Store.Refs) == 0 {
		return p.storeOf(v, part.Store.Literals[0], part.Kind)
	}
	if part.Kind == Files {
		p.problem(v, 0, "the store of files must be named", "only the bucket of objects can be named by a row")
		return false
	}
	part.Buckets = map[string]string{}
	for i := range p.policy.Stores {
		s := &p.policy.Stores[i]
		b := s.Bucket()
		if b == "" {
			continue
		}
		if other, twice := part.Buckets[b]; twice {
			p.problem(v, 0, fmt.Sprintf("the stores %s and %s hold the same bucket, so that its name does not tell which", other, s.Name),
				"keep one of the two stores")
			return false
		}
		part.Buckets[b] = s.Name
	}
	part.Patterns = p.bucketPatterns()
	if len(part.Buckets)+len(part.Patterns) == 0 {
		p.problem(v, 0, "no store declares a bucket that a row could name",
			"declare each bucket under stores: {objects: s3://BUCKET}, or a store {objects: s3://, buckets: [PATTERN]}")
		return false
	}
	return true
}

// bucketPatterns are the buckets that rows may name in stores without one. A
// store without patterns has none: it would let a row name any bucket.
func (p *parser) bucketPatterns() (list []BucketPattern) {
	for i := range p.policy.Stores {
		s := &p.policy.Stores[i]
		if s.Kind != Objects || s.Bucket() != "" || s.Options["buckets"] == "" {
			continue
		}
		for pattern := range strings.SplitSeq(s.Options["buckets"], ",") {
			list = append(list, BucketPattern{pattern, s.Name})
		}
	}
	return list
}

// references checks the references of a part together, and makes its Want.
func (p *parser) references(v value, r *Rule, part *Part) bool {
	own(part.Store.Refs, r)
	own(part.Path.Refs, r)
	refs := slices.Concat(part.Store.Refs, part.Path.Refs)
	table, each := "", 0
	for _, ref := range refs {
		if ref.Each {
			each++
		}
		if ref.Table == "" {
			continue
		}
		if table != "" && table != ref.Table {
			p.problem(v, 0, fmt.Sprintf("the template takes values of two tables besides the rule's own, %s and %s", quote(table), quote(ref.Table)),
				"a template takes values of the rule's table and of one other; write two parts, or a rule for the other table")
			return false
		}
		table = ref.Table
	}
	if each > 1 {
		p.problem(v, 0, "the template goes through two arrays", "a template has [*] at most once")
		return false
	}
	part.Want.Refs = refs
	return true
}

// own clears the table of references to the rule's own table.
func own(refs []connector.Ref, r *Rule) {
	for i := range refs {
		if sameTable(refs[i].Table, r.Collection) {
			refs[i].Table = ""
		}
	}
}

// sameTable reports whether name means the table: its name, with or without
// its schema.
func sameTable(name, table string) bool {
	return name == table || name != "" && strings.HasSuffix(table, "."+name)
}

// referencedBy reads a list of columns. Those of a file or object may hold arrays.
func (p *parser) referencedBy(f field, r *Rule, arrays bool) (columns []connector.Column) {
	for _, n := range p.list(f.val, "referenced_by") {
		v, ok := p.text(n, "referenced_by")
		if !ok {
			continue
		}
		list, end, bad := names(v.text, 0)
		each := bad == nil && v.text[end:] == "[*]"
		switch {
		case bad != nil:
			p.problem(v, bad.offset, bad.text, bad.hint)
		case each && !arrays:
			p.problem(v, end, "linked rows are not named in an array", "remove the [*], or the column if it holds arrays")
		case !each && end < len(v.text) || len(list) < 3 || len(list) > 4:
			p.problem(v, 0, "referenced_by must be STORE.TABLE.COLUMN", "such as app.project_files.sha256")
		case !p.storeOf(v, list[0], Rows):
		case r.Store != "" && list[0] != r.Store:
			p.problem(v, 0, fmt.Sprintf("referenced_by must be in the rule's own store %s", r.Store), "")
		default:
			columns = append(columns, connector.Column{Table: strings.Join(list[1:len(list)-1], "."), Column: list[len(list)-1], Each: each})
		}
	}
	return columns
}

// link reads a part of rows.
func (p *parser) link(at Pos, f map[string]field, r *Rule) {
	v, ok := p.text(f["rows"].val, "rows")
	if !ok {
		return
	}
	store, table := p.table(v, "rows")
	switch {
	case store == "":
		return
	case r.Store != "" && store != r.Store:
		p.problem(v, 0, fmt.Sprintf("linked rows must be in the rule's own store %s", r.Store), "write a rule for the other store")
		return
	case table == r.Collection:
		p.problem(v, 0, "a linked table cannot be the rule's own", "children by foreign key go with their parent without being named")
		return
	}
	for _, l := range r.Links {
		if l.Table == table {
			p.problem(v, 0, "this table is linked twice", "keep one part; several conditions go into one on, joined by AND")
			return
		}
	}
	link := connector.Link{Table: table}
	if n, ok := f["where"]; ok {
		link.Where = p.condition(n.val, "where")
	}
	if n, ok := f["on"]; ok {
		link.On = p.on(n.val, r, table)
	}
	if n, ok := f["referenced_by"]; ok {
		if len(link.On) != 1 {
			p.add(pos(n.key), "referenced_by of linked rows needs an on with exactly one equation",
				"the referencing columns are compared with the linked table's side of on")
		}
		link.ReferencedBy = p.referencedBy(n, r, false)
	}
	kind := ""
	if n, ok := f["kind"]; ok {
		kind = p.kind(n.val, "write the word for one of the linked rows, such as meeting or note")
	}
	r.place(fmt.Sprintf("links[%d]", len(r.Links)), at)
	r.Links, r.LinkKinds = append(r.Links, link), append(r.LinkKinds, kind)
}

// on reads the conditions of a link: "a.x = b.y", several joined by AND or as a list.
func (p *parser) on(n *yaml.Node, r *Rule, table string) []connector.Pair {
	var pairs []connector.Pair
	for _, n := range p.list(n, "on") {
		v, ok := p.text(n, "on")
		if !ok {
			continue
		}
		for i := 0; ; {
			pair, next, bad := p.pair(v.text, i, r, table)
			if bad != nil {
				p.problem(v, bad.offset, bad.text, bad.hint)
				break
			}
			if len(pairs) > 0 && pairs[0].Equals.Table != pair.Equals.Table {
				p.problem(v, i, "on names two tables besides the linked one", "all conditions of a link compare with the same table")
				break
			}
			pairs = append(pairs, pair)
			if i = next; i >= len(v.text) {
				break
			}
		}
	}
	return pairs
}

const onHint = "write on: LINKED.COLUMN = TABLE.COLUMN, such as meeting.id = transcripts.meeting_id"

// pair reads one equation beginning at s[i], and the AND after it.
func (p *parser) pair(s string, i int, r *Rule, linked string) (pair connector.Pair, next int, bad *flaw) {
	var sides [2]connector.Column
	for k := range sides {
		i = skipSpace(s, i)
		list, end, bad := names(s, i)
		if bad != nil {
			bad.hint = onHint
			return pair, i, bad
		}
		if len(list) < 2 || len(list) > 3 {
			return pair, i, &flaw{i, "both sides of on must be TABLE.COLUMN", onHint}
		}
		sides[k] = connector.Column{Table: strings.Join(list[:len(list)-1], "."), Column: list[len(list)-1]}
		i = skipSpace(s, end)
		if k == 0 {
			if i >= len(s) || s[i] != '=' {
				return pair, i, &flaw{min(i, len(s)), "on compares with =", onHint}
			}
			i++
		}
	}
	if i < len(s) {
		if len(s) < i+4 || !strings.EqualFold(s[i:i+3], "and") || s[i+3] > ' ' {
			return pair, i, &flaw{i, "on is one equation, or several joined by AND", onHint}
		}
		i += 4
	}
	if sameTable(sides[1].Table, linked) {
		sides[0], sides[1] = sides[1], sides[0]
	}
	if !sameTable(sides[0].Table, linked) || sameTable(sides[1].Table, linked) {
		return pair, i, &flaw{0, "one side of on, and only one, must be the linked table " + quote(linked), onHint}
	}
	sides[0].Table = linked
	for _, known := range slices.Concat([]string{r.Collection}, linkTables(r)) {
		if sameTable(sides[1].Table, known) {
			sides[1].Table = known
			return connector.Pair{Column: sides[0], Equals: sides[1]}, i, nil
		}
	}
	if r.Collection == "" {
		return connector.Pair{Column: sides[0], Equals: sides[1]}, i, nil // the selector is wrong, and that is said there
	}
	return pair, i, &flaw{0, fmt.Sprintf("the table %s is neither the rule's own nor linked above", quote(sides[1].Table)),
		"the other side is a column of " + r.Collection + ", or of a table in an earlier part"}
}

func linkTables(r *Rule) []string {
	var list []string
	for _, l := range r.Links {
		list = append(list, l.Table)
	}
	return list
}

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n') {
		i++
	}
	return i
}
