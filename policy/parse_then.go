package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/epitaph/epitaph/connector"
	"go.yaml.in/yaml/v4"
)

// The keys below then.
var (
	thenKeys    = []string{"update"}
	instantKeys = []string{"instant", "zone"}
)

const (
	thenHint = "write then: {update: {COLUMN: VALUE}}, such as then: {update: {audio_deleted: true}}"
	nowHint  = "write {instant: now}, with zone: UTC or another where the column has no zone of its own"
)

// then reads what a row is set to that stays when its parts are gone; false
// after a problem.
func (p *parser) then(f field, r *Rule) bool {
	before := len(p.problems)
	if r.StoreKind == Files || r.StoreKind == Objects {
		p.add(pos(f.key), fmt.Sprintf("then keeps a row, and this rule takes %s", r.StoreKind), "remove it")
		return false
	}
	keys, ok := p.mapping(f.val, "then", thenKeys...)
	if !ok {
		return false
	}
	u, ok := keys["update"]
	if !ok {
		if len(f.val.Content) == 0 { // else an unknown key was named already
			p.add(pos(f.val), "then has no update", thenHint)
		}
		return false
	}
	ok = p.each(u.val, "update", func(c field) { p.setting(c, r) })
	if ok && len(u.val.Content) == 0 {
		p.add(pos(u.val), "update sets no column", thenHint)
	}
	slices.SortFunc(r.Then, func(a, b connector.Setting) int { return strings.Compare(a.Column, b.Column) })
	return len(p.problems) == before
}

// setting reads one column and its value.
func (p *parser) setting(f field, r *Rule) {
	name, end, bad := oneName(f.key.Value, 0)
	switch {
	case bad != nil:
		p.add(pos(f.key), bad.text, bad.hint)
		return
	case end < len(f.key.Value):
		p.add(pos(f.key), "update sets columns of the rule's own table", "write the column's name alone, such as audio_deleted")
		return
	case strings.EqualFold(name, r.Anchor.Column):
		p.add(pos(f.key), fmt.Sprintf("the column %s starts the clock of the row, and stays as it is", quoteName(name)), "set another column")
		return
	case slices.ContainsFunc(r.Then, func(s connector.Setting) bool { return strings.EqualFold(s.Column, name) }):
		p.add(pos(f.key), fmt.Sprintf("the column %s is set twice", quoteName(name)), "keep one")
		return
	}
	if v, ok := p.constant(f.val, name); ok {
		r.Then = append(r.Then, connector.Setting{Column: name, Value: v})
	}
}

var plainNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,37})(\.[0-9]{1,37})?$`)

// constant reads the value of a column: a constant as YAML types it, or the
// present instant.
func (p *parser) constant(n *yaml.Node, column string) (connector.Value, bool) {
	none := connector.Value{}
	if n.Kind == yaml.MappingNode {
		return p.instant(n)
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Value != "" {
		return none, true
	}
	v, ok := p.scalar(n, column)
	if !ok {
		return none, false
	}
	switch n.Tag {
	case "!!bool":
		text := strings.ToLower(v.text)
		if text != "true" && text != "false" {
			break
		}
		return connector.Value{Kind: connector.BoolValue, Text: text}, true
	case "!!int", "!!float":
		if !plainNumber.MatchString(v.text) {
			p.add(pos(n), column+" is not a plain number", "write it in digits, such as 12 or -12.5")
			return none, false
		}
		return connector.Value{Kind: connector.NumberValue, Text: v.text}, true
	case "!!str":
		if strings.EqualFold(strings.TrimSpace(v.text), "now") {
			p.problem(v, 0, column+": now is only a text here", nowHint)
			return none, false
		}
		return connector.Value{Kind: connector.TextValue, Text: v.text}, true
	}
	p.add(pos(n), fmt.Sprintf("%s must be true, false, a number, a text, null or {instant: now}, and YAML reads this as %s", column, tagName(n.Tag)),
		"put a text in quotes")
	return none, false
}

func (p *parser) instant(n *yaml.Node) (connector.Value, bool) {
	v := connector.Value{Kind: connector.NowValue}
	f, ok := p.mapping(n, "an instant", instantKeys...)
	if !ok {
		return v, false
	}
	at, ok := f["instant"]
	if !ok {
		p.add(pos(n), "an instant has the key instant", nowHint)
		return v, false
	}
	if z, given := f["zone"]; given {
		if v.Zone, ok = p.zone(z.val); !ok {
			return v, false
		}
	}
	t, ok := p.text(at.val, "instant")
	if ok && t.text != "now" {
		p.problem(t, 0, "the only instant is now", nowHint)
		return v, false
	}
	return v, ok
}

// thenParts checks that there is something to wait for, and that no part says
// that rows go: with then none does.
func (p *parser) thenParts(f field, r *Rule) {
	if len(r.Parts) == 0 {
		p.add(pos(f.key), "then has no files or objects to wait for", "add parts: with the files and objects that go; a row alone is not changed")
		return
	}
	for i, l := range r.Links {
		if r.LinkKinds[i] != "" {
			p.add(pos(f.key), fmt.Sprintf("with then no row goes, so that there is none of %s to count by its kind", l.Table), "remove kind from that part")
		}
		named := slices.ContainsFunc(r.Parts, func(part Part) bool {
			return slices.ContainsFunc(part.Want.Refs, func(ref connector.Ref) bool { return sameTable(ref.Table, l.Table) })
		})
		leads := slices.ContainsFunc(r.Links[i+1:], func(later connector.Link) bool {
			return len(later.On) > 0 && sameTable(later.On[0].Equals.Table, l.Table)
		})
		if !named && !leads {
			p.add(pos(f.key), fmt.Sprintf("with then no row goes, and no file or object is named by the part with the rows of %s", l.Table),
				"remove that part, or write a rule of its own for those rows")
		}
	}
}
