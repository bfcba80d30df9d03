package policy

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/epitaph/epitaph/connector"
	"go.yaml.in/yaml/v4"
)

var ruleKeys = []string{"purpose", "kind", "enabled", "retain", "rows", "files", "objects", "anchor", "where", "hold",
	"in_use", "parts", "then", "limits"}

var kindName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// defaultKind is the word for the items of a rule that names none.
var defaultKind = map[StoreKind]string{Rows: "record", Files: "file", Objects: "object"}

func (p *parser) rules(n *yaml.Node) {
	ok := p.each(n, "rules", func(f field) {
		if !nameOf.MatchString(f.key.Value) {
			p.add(pos(f.key), "the name of a rule has letters, digits, _ and -, and begins with a letter", "")
			return
		}
		r := Rule{Name: f.key.Value, Pos: pos(f.key)}
		p.rule(f, &r)
		p.policy.Rules = append(p.policy.Rules, r)
	})
	if ok && len(n.Content) == 0 {
		p.add(pos(n), "the policy has no rules", "add what is to be kept for how long")
	}
}

func (p *parser) rule(f field, r *Rule) {
	what := "the rule " + r.Name
	fields, ok := p.mapping(f.val, what, ruleKeys...)
	if !ok {
		return
	}
	kind := p.kindOfMapping(f.val, what, "add rows: STORE.TABLE, files: STORE:GLOB or objects: STORE:PREFIX")
	if kind != "" {
		p.selector(fields[string(kind)].val, kind, r)
		r.place("collection", pos(fields[string(kind)].key))
	}
	for _, key := range []string{"anchor", "where", "hold", "in_use", "parts", "then"} {
		if n, ok := fields[key]; ok {
			r.place(key, pos(n.key))
		}
	}
	r.StoreKind, r.Kind = kind, defaultKind[kind]
	if n, ok := fields["kind"]; ok {
		if kind := p.kind(n.val, "write the word for one item, such as record, export or log"); kind != "" {
			r.Kind = kind
		}
	}
	if n, ok := fields["purpose"]; ok {
		v, _ := p.text(n.val, "purpose")
		r.Purpose = strings.TrimSpace(v.text)
	}
	if n, ok := fields["retain"]; ok {
		r.Retain, _ = p.period(n.val, "retain")
	} else {
		p.add(pos(f.key), what+" has no retain", "add the retention period, such as retain: 14d")
	}
	if n, ok := fields["anchor"]; ok {
		r.Anchor = p.anchor(n.val, kind)
		if n.val.Kind == yaml.MappingNode && len(n.val.Content) > 0 {
			r.place("anchor", anchorPlace(n.val))
		}
	} else {
		p.add(pos(f.key), what+" has no anchor", anchorHint(kind))
	}
	p.ruleSwitch(fields, r)
	p.conditions(fields, r)
	p.ruleLimits(fields, r)
	before := len(p.problems)
	if n, ok := fields["parts"]; ok {
		p.parts(n, r)
	}
	whole := len(p.problems) == before
	if n, ok := fields["then"]; ok && p.then(n, r) && whole {
		p.thenParts(n, r)
	}
}

func (p *parser) ruleSwitch(fields map[string]field, r *Rule) {
	r.Enabled = true
	if n, ok := fields["enabled"]; ok {
		r.Enabled, r.Off = p.enabled(n, "enabled")
	}
	if !p.policy.Enabled {
		r.Enabled, r.Off = false, p.off
	}
}

func (p *parser) ruleLimits(fields map[string]field, r *Rule) {
	r.Limits = p.policy.Limits
	n, ok := fields["limits"]
	if !ok {
		return
	}
	if n.val.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.val.Content); i += 2 {
			if k := n.val.Content[i]; k.Value == "clock_jump" {
				p.add(pos(k), "clock_jump is a limit of the whole policy", "move it to the limits at the top")
			}
		}
	}
	r.Limits = p.limits(n.val, "the limits of a rule").Or(p.policy.Limits)
}

// kind reads the word for one item; "" after a problem.
func (p *parser) kind(n *yaml.Node, hint string) string {
	v, ok := p.text(n, "kind")
	switch {
	case !ok:
		return ""
	case !kindName.MatchString(v.text):
		p.problem(v, 0, "a kind is one lower-case word of letters, digits and _", hint)
		return ""
	}
	return v.text
}

// selector reads where the rule's items are.
func (p *parser) selector(n *yaml.Node, kind StoreKind, r *Rule) {
	v, ok := p.text(n, string(kind))
	if !ok {
		return
	}
	if kind == Rows {
		r.Store, r.Collection = p.table(v, "rows")
		return
	}
	name, rest, ok := strings.Cut(v.text, ":")
	if !ok {
		example := "files: STORE:GLOB, such as disk:export-*.zip"
		if kind == Objects {
			example = "objects: STORE:PREFIX, such as media:recordings/*"
		}
		p.problem(v, 0, fmt.Sprintf("%s does not say in which store", kind), "write "+example)
		return
	}
	if !p.storeOf(v, name, kind) {
		return
	}
	r.Store, r.Collection = name, rest
	var bad *flaw
	if kind == Files {
		bad = globFlaw(rest)
		if s, ok := p.policy.Store(name); ok {
			r.CrossMounts = s.CrossMounts
		}
	} else {
		r.Collection = strings.TrimSuffix(rest, "*")
		bad = prefixFlaw(rest)
	}
	if bad != nil {
		p.problem(v, len(name)+1+bad.offset, bad.text, bad.hint)
	}
}

// prefixFlaw checks an object selector: a key prefix, with or without * at the end.
func prefixFlaw(s string) *flaw {
	const hint = "write a prefix such as recordings/*; every key of the bucket is *"
	prefix := strings.TrimSuffix(s, "*")
	switch i := strings.IndexByte(prefix, '*'); {
	case s == "":
		return &flaw{0, "the prefix is empty", hint}
	case i >= 0:
		return &flaw{i, "* stands only at the end of a prefix", hint}
	case len(prefix) > 1024:
		return &flaw{0, "the prefix is longer than any key", hint}
	}
	if i := strings.IndexAny(prefix, "{}"); i >= 0 {
		return &flaw{i, "a selector has no references", hint}
	}
	return nil
}

// table reads "store.table" or "store.schema.table". The store is empty when it
// is not one of rows.
func (p *parser) table(v value, what string) (store, table string) {
	list, end, bad := names(v.text, 0)
	switch {
	case bad != nil:
		p.problem(v, bad.offset, bad.text, bad.hint)
	case end < len(v.text):
		p.problem(v, end, what+" must be STORE.TABLE", "such as app.transcripts or app.public.transcripts")
	case len(list) < 2 || len(list) > 3:
		p.problem(v, 0, what+" must be STORE.TABLE", "such as app.transcripts or app.public.transcripts")
	case p.storeOf(v, list[0], Rows):
		return list[0], strings.Join(list[1:], ".")
	default:
		return "", strings.Join(list[1:], ".")
	}
	return "", ""
}

// storeOf checks that a store of this name and kind is declared.
func (p *parser) storeOf(v value, name string, kind StoreKind) bool {
	s, ok := p.policy.Store(name)
	if ok {
		if s.Kind != kind && s.Kind != "" {
			p.problem(v, 0, fmt.Sprintf("the store %s holds %s, not %s", s.Name, s.Kind, kind), "")
		}
		return s.Kind == kind
	}
	if len(p.policy.Stores) == 0 {
		return false // said already, once
	}
	var known []string
	for _, s := range p.policy.Stores {
		if s.Kind == kind || s.Kind == "" {
			known = append(known, s.Name)
		}
	}
	hint := "declare it under stores"
	if near := nearest(name, known); near != "" {
		hint = "did you mean " + near + "?"
	} else if len(known) > 0 {
		hint = fmt.Sprintf("declare it under stores; stores with %s are %s", kind, strings.Join(known, ", "))
	}
	text := "there is no store " + quote(name)
	if len(v.from) > 0 {
		text = "there is no store as named by " + v.quoted()
	}
	p.problem(v, 0, text, hint)
	return false
}

func anchorHint(kind StoreKind) string {
	switch kind {
	case Rows:
		return "add what starts the clock, such as anchor: {column: created_at, zone: UTC}"
	case Files:
		return "add what starts the clock: anchor: modified, or anchor: {name: app-YYYY-MM-DD.log, zone: UTC}"
	case Objects:
		return "add what starts the clock: anchor: modified, {name: app-YYYY-MM-DD.log, zone: UTC} or {tag: recorded-on, zone: UTC}"
	}
	return "add what starts the clock"
}

func (p *parser) anchor(n *yaml.Node, kind StoreKind) connector.Anchor {
	var a connector.Anchor
	if n.Kind == yaml.ScalarNode {
		v, ok := p.text(n, "anchor")
		switch {
		case !ok:
		case v.text != "modified":
			p.problem(v, 0, "anchor must be modified, or a mapping with column, name or tag", anchorHint(kind))
		case kind == Rows:
			p.problem(v, 0, "a row has no modification time", anchorHint(kind))
		default:
			a.Kind = connector.AnchorModified
		}
		return a
	}
	f, ok := p.mapping(n, "anchor", "column", "name", "tag", "zone")
	if !ok {
		return a
	}
	if z, ok := f["zone"]; ok {
		a.Zone, _ = p.zone(z.val)
	}
	column, hasColumn := f["column"]
	name, hasName := f["name"]
	tag, hasTag := f["tag"]
	_, zoned := f["zone"]
	switch {
	case count(hasColumn, hasName, hasTag) != 1:
		p.add(pos(n), "anchor must have either column or name or tag", anchorHint(kind))
	case hasColumn && kind != Rows && kind != "":
		p.add(pos(column.key), fmt.Sprintf("%s have no columns", kind), anchorHint(kind))
	case hasColumn:
		p.anchorColumn(column.val, &a)
	case hasTag && kind != Objects && kind != "":
		p.add(pos(tag.key), fmt.Sprintf("%s have no tags", kind), anchorHint(kind))
	case hasTag:
		p.anchorTag(tag, zoned, &a)
	case kind == Rows:
		p.add(pos(name.key), "a row has no file name", anchorHint(kind))
	default:
		p.anchorName(name, kind, zoned, &a)
	}
	return a
}

// anchorPlace is the key of the mapping that says what the anchor is.
func anchorPlace(n *yaml.Node) Pos {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "zone" {
			return pos(n.Content[i])
		}
	}
	return pos(n)
}

func count(facts ...bool) (n int) {
	for _, is := range facts {
		if is {
			n++
		}
	}
	return n
}

// maxTag is the longest key of a tag (Amazon S3 User Guide, "Categorizing your
// objects using tags"), in characters.
const maxTag = 128

func (p *parser) anchorTag(f field, zoned bool, a *connector.Anchor) {
	v, ok := p.text(f.val, "tag")
	if !ok {
		return
	}
	a.Kind, a.Tag = connector.AnchorTag, v.text
	if utf8.RuneCountInString(v.text) > maxTag {
		p.problem(v, 0, "the tag is longer than the key of any tag", "a tag's key has at most 128 characters")
	}
	if !zoned {
		p.add(pos(f.key), "a date in a tag has no zone of its own", "add the zone in which the tags are made, such as zone: UTC")
	}
}

func (p *parser) anchorColumn(n *yaml.Node, a *connector.Anchor) {
	v, ok := p.text(n, "column")
	if !ok {
		return
	}
	name, end, bad := oneName(v.text, 0)
	switch {
	case bad != nil:
		p.problem(v, bad.offset, bad.text, bad.hint)
	case end < len(v.text):
		p.problem(v, end, "the anchor is one column of the rule's own table", "write its name alone, such as created_at")
	}
	a.Column = name
}

func (p *parser) anchorName(f field, kind StoreKind, zoned bool, a *connector.Anchor) {
	v, ok := p.text(f.val, "name")
	if !ok {
		return
	}
	a.Kind, a.Layout = connector.AnchorName, v.text
	if bad := layoutFlaw(v.text, kind); bad != nil {
		p.problem(v, bad.offset, bad.text, bad.hint)
	}
	if !zoned {
		p.add(pos(f.key), "a date in a name has no zone of its own", "add the zone in which the names are made, such as zone: UTC")
	}
}

// conditions reads where, hold and in_use.
func (p *parser) conditions(f map[string]field, r *Rule) {
	for _, c := range []struct {
		key string
		to  *string
	}{{"where", &r.Where}, {"hold", &r.Hold}, {"in_use", &r.InUse}} {
		n, ok := f[c.key]
		if !ok {
			continue
		}
		if r.StoreKind == Files || r.StoreKind == Objects {
			p.add(pos(n.key), fmt.Sprintf("%s is a condition on rows, and this rule takes %s", c.key, r.StoreKind),
				"remove it; a selector says which "+string(r.StoreKind)+" are meant")
			continue
		}
		*c.to = p.condition(n.val, c.key)
	}
}

func (p *parser) condition(n *yaml.Node, what string) string {
	v, ok := p.text(n, what)
	if !ok {
		return ""
	}
	if bad := conditionFlaw(v.text); bad != nil {
		p.problem(v, bad.offset, what+": "+bad.text, bad.hint)
	}
	return strings.TrimSpace(v.text)
}
