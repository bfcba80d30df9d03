package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody/words"
)

// Custody is what a policy says of the files that applications register.
type Custody struct {
	// Actions are own ones, and what is said of those built in; fit for
	// [words.NewVocabulary].
	Actions []words.Action
	// Tracked are the stores whose every file must be tracked.
	Tracked []Tracked
	Pairs   []words.Pair
	// Agreement are the application's own tables of files, in the order of the
	// file.
	Agreement []Agreement
}

// Tracked is a store of files whose every file must be tracked.
type Tracked struct {
	Store string
	// Grace is how long a file may be there untracked; DefaultGrace unless given.
	Grace time.Duration
	Pos   Pos
}

// DefaultGrace is how long a file may be in a tracked store without an operation
// that made it, when the policy does not say.
const DefaultGrace = 4 * time.Hour

// Agreement compares the tracked files with a table that the application keeps of
// them.
type Agreement struct {
	Name string
	// Store is the database, Table the table in it, and Where a condition on its
	// rows; "" for all.
	Store, Table, Where string
	// In is the store in which the paths lie; "" for absolute paths.
	In   string
	Path Template
	// Size and SHA256 are columns of the table; "" when it has none.
	Size, SHA256 string
	// Ref is KIND:ID of the application's object; without literals not given.
	Ref Template
	// Made are the actions whose files must have a row, Within how long after.
	Made   []string
	Within time.Duration
	Pos    Pos
}

// keys of the mappings about custody; the JSON Schema has the same.
var (
	custodyKeys   = []string{"actions", "tracked", "pairs", "agreement"}
	actionKeys    = []string{"kind", "work", "required", "due"}
	trackedKeys   = []string{"store", "grace"}
	pairKeys      = []string{"file", "beside", "store", "in", "made", "within"}
	agreementKeys = []string{"rows", "where", "path", "size", "sha256", "ref", "made", "within"}
)

// custody reads the section about tracked files. The stores are known already.
func (p *parser) custody(n *yaml.Node) {
	f, ok := p.mapping(n, "custody", custodyKeys...)
	if !ok {
		return
	}
	v := p.actions(f["actions"].val)
	if n, ok := f["tracked"]; ok {
		for _, one := range p.list(n.val, "tracked") {
			p.tracked(one)
		}
	}
	if n, ok := f["pairs"]; ok {
		for _, one := range p.list(n.val, "pairs") {
			p.pairOf(one, v)
		}
	}
	if n, ok := f["agreement"]; ok {
		p.each(n.val, "agreement", func(f field) {
			if !nameOf.MatchString(f.key.Value) || f.key.Value == "none" {
				p.add(pos(f.key), "the name of an agreement has letters, digits, _ and -, begins with a letter, and is not none", "")
				return
			}
			p.agreement(f, v)
		})
	}
}

// actions reads the own actions and returns the whole vocabulary.
func (p *parser) actions(n *yaml.Node) *words.Vocabulary {
	builtin, err := words.NewVocabulary()
	if err != nil {
		panic("policy: " + err.Error()) // without own actions there is nothing that could be wrong
	}
	if n == nil {
		return builtin
	}
	p.each(n, "actions", func(f field) {
		if a, ok := p.action(f, builtin); ok {
			p.policy.Custody.Actions = append(p.policy.Custody.Actions, a)
		}
	})
	v, err := words.NewVocabulary(p.policy.Custody.Actions...)
	if err != nil {
		// Each action was checked; what is left is said of all of them.
		p.add(pos(n), err.Error(), "")
		return builtin
	}
	return v
}

func (p *parser) action(f field, builtin *words.Vocabulary) (a words.Action, ok bool) {
	a.Name = f.key.Value
	if !words.IsWord(a.Name) {
		p.add(pos(f.key), "the name of an action has 1 to 64 lower-case letters, digits and underscores", "")
		return a, false
	}
	what := "the action " + a.Name
	fields, ok := p.mapping(f.val, what, actionKeys...)
	if !ok {
		return a, false
	}
	there, known := builtin.Find(a.Name)
	kind := there.Kind
	switch given, has := fields["kind"]; {
	case known && has:
		p.add(pos(given.key), what+" is built in, and its kind is "+there.Kind.String(), "remove kind; only due and required can be given for it")
		return a, false
	case !known && !has:
		p.add(pos(f.key), what+" has no kind", "write {kind: created}; the kinds are "+strings.Join(words.KindNames(), ", "))
		return a, false
	case !known:
		if a.Kind, ok = p.actionKind(given.val); !ok {
			return a, false
		}
		kind = a.Kind
		a.Work, ok = p.work(f, fields, a)
	default:
		if n, has := fields["work"]; has {
			p.add(pos(n.key), what+" is built in", "remove work; only due and required can be given for it")
			return a, false
		}
	}
	return a, p.cleanUp(what, fields, kind, there.Temporary, &a) && ok
}

func (p *parser) actionKind(n *yaml.Node) (words.Kind, bool) {
	v, ok := p.text(n, "kind")
	if !ok {
		return 0, false
	}
	kind, ok := words.KindNamed(v.text)
	if !ok {
		hint := "the kinds are " + strings.Join(words.KindNames(), ", ")
		if near := nearest(v.text, words.KindNames()); near != "" {
			hint = "did you mean " + near + "?"
		}
		p.problem(v, 0, "there is no kind "+quote(v.text), hint)
	}
	return kind, ok
}

// work is what an action begins or ends: given, or its name without the last
// word.
func (p *parser) work(f field, fields map[string]field, a words.Action) (string, bool) {
	n, given := fields["work"]
	if !a.Kind.Works() {
		if given {
			p.add(pos(n.key), fmt.Sprintf("an action of kind %s begins and ends no work", a.Kind), "remove work")
		}
		return "", !given
	}
	if !given {
		work, _, _ := cutLast(a.Name, "_")
		if !words.IsWord(work) {
			p.add(pos(f.key), "the action "+a.Name+" does not say which work it begins or ends", fmt.Sprintf("write {kind: %s, work: NAME}", a.Kind))
			return "", false
		}
		return work, true
	}
	v, ok := p.text(n.val, "work")
	if ok && !words.IsWord(v.text) {
		p.problem(v, 0, "the name of work has 1 to 64 lower-case letters, digits and underscores", "")
		return "", false
	}
	return v.text, ok
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}

// cleanUp reads whether the files of an action must be gone, and when.
func (p *parser) cleanUp(what string, fields map[string]field, kind words.Kind, always bool, a *words.Action) bool {
	required, hasRequired := fields["required"]
	due, hasDue := fields["due"]
	for _, n := range []field{required, due} {
		if n.key != nil && !kind.Makes() {
			p.add(pos(n.key), fmt.Sprintf("an action of kind %s makes no file that could be due", kind), "give it where the file comes into being")
			return false
		}
	}
	ok := true
	if hasDue {
		if a.Due, ok = p.span(due.val, "due"); ok && a.Due == 0 {
			p.add(pos(due.val), "due must be longer than zero", "write it as 30m, 2h or 7d")
			ok = false
		}
	}
	if !hasRequired {
		return ok
	}
	on, read := p.boolean(required.val, "required")
	a.Temporary = on
	if read && !on && (hasDue || always) {
		p.add(pos(required.key), "the files of "+what+" must be cleaned up", "remove required: false, or the due date")
		return false
	}
	return ok && read
}

const spanHint = "write it as 90s, 30m, 2h, 7d or 2w"

// maxSpan bounds a span, so that no arithmetic on it can overflow.
const maxSpan = 100 * 366 * 24 * time.Hour

var spanOf = regexp.MustCompile(`^(?:([0-9]{1,6})w)?(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?$`)

// span reads a length of time, which may be zero. Unlike a period it has no
// months, whose length hangs on the calendar, and so m is minutes.
func (p *parser) span(n *yaml.Node, what string) (time.Duration, bool) {
	v, ok := p.scalar(n, what)
	if !ok {
		return 0, false
	}
	m := spanOf.FindStringSubmatch(v.text)
	if m == nil || v.text == "" {
		p.problem(v, 0, what+" is no length of time", spanHint)
		return 0, false
	}
	var seconds int64
	for i, unit := range []int64{7 * 86400, 86400, 3600, 60, 1} {
		if m[i+1] != "" {
			k, _ := strconv.ParseInt(m[i+1], 10, 64) // at most six digits
			seconds += k * unit
		}
	}
	if seconds > int64(maxSpan/time.Second) {
		p.problem(v, 0, what+" is too long", "the longest is 100 years")
		return 0, false
	}
	return time.Duration(seconds) * time.Second, true
}

// tracked reads one store whose every file must be tracked.
func (p *parser) tracked(n *yaml.Node) {
	t := Tracked{Grace: DefaultGrace, Pos: pos(n)}
	name := n
	if n.Kind == yaml.MappingNode {
		f, ok := p.mapping(n, "a tracked store", trackedKeys...)
		if !ok {
			return
		}
		if g, ok := f["grace"]; ok {
			if t.Grace, ok = p.span(g.val, "grace"); !ok {
				return
			}
		}
		store, ok := f["store"]
		if !ok {
			p.add(pos(n), "a tracked store has no store", "write {store: NAME, grace: 4h}")
			return
		}
		name = store.val
	}
	v, ok := p.text(name, "store")
	if !ok || !p.storeOf(v, v.text, Files) {
		return
	}
	t.Store = v.text
	if slices.ContainsFunc(p.policy.Custody.Tracked, func(o Tracked) bool { return o.Store == t.Store }) {
		p.problem(v, 0, "the store "+t.Store+" is tracked twice", "name each store once")
		return
	}
	p.policy.Custody.Tracked = append(p.policy.Custody.Tracked, t)
}

// pairOf reads one rule that a file must have another.
func (p *parser) pairOf(n *yaml.Node, v *words.Vocabulary) {
	f, ok := p.mapping(n, "a pair", pairKeys...)
	if !ok {
		return
	}
	var pair words.Pair
	texts := map[string]value{}
	for _, c := range []struct {
		key      string
		to       *string
		required bool
	}{{"file", &pair.File, true}, {"beside", &pair.Beside, true}, {"store", &pair.Store, false}, {"in", &pair.In, false}, {"made", &pair.Made, false}} {
		given, has := f[c.key]
		switch {
		case !has && c.required:
			p.add(pos(n), "a pair has no "+c.key, "write {file: '*.csv', beside: '*.duckdb', within: 2h}")
			ok = false
		case has:
			t, read := p.text(given.val, c.key)
			*c.to, texts[c.key] = t.text, t
			ok = ok && read
		}
	}
	if within, has := f["within"]; has {
		var read bool
		pair.Within, read = p.span(within.val, "within")
		ok = ok && read
	} else {
		p.add(pos(n), "a pair has no within", "write within what time the other file must be there: within: 2h")
		ok = false
	}
	for _, key := range []string{"store", "in"} {
		if t, has := texts[key]; has && t.text != "" {
			ok = p.holder(t) && ok
		}
	}
	if pair.Made != "" {
		ok = p.known(texts["made"], v) && ok
	}
	if !ok {
		return
	}
	var bad *words.PairError
	if _, err := pair.Compile(); errors.As(err, &bad) {
		p.problem(texts[bad.Field], 0, bad.Field+" "+bad.Text, "write a pattern such as '*.csv' or 'raw/**/*.csv', and the other file with the same wildcards")
		return
	}
	p.policy.Custody.Pairs = append(p.policy.Custody.Pairs, pair)
}

// holder checks the name of a store in which tracked files may lie.
func (p *parser) holder(v value) bool {
	if s, ok := p.policy.Store(v.text); ok && s.Kind == Objects {
		return true
	}
	return p.storeOf(v, v.text, Files)
}

// known checks the name of an action after which a file is there.
func (p *parser) known(v value, w *words.Vocabulary) bool {
	switch a, ok := w.Find(v.text); {
	case !ok:
		hint := "the actions are listed by: epitaph track --list"
		if near := w.Nearest(v.text); len(near) > 0 {
			hint = "did you mean " + strings.Join(near, " or ") + "?"
		}
		p.problem(v, 0, "there is no action "+quote(v.text), hint)
		return false
	case !a.Kind.Makes():
		p.problem(v, 0, "an action of kind "+a.Kind.String()+" makes no file", "name those after which the file is there")
		return false
	}
	return true
}

// agreement reads one table of the application.
func (p *parser) agreement(f field, w *words.Vocabulary) {
	a := Agreement{Name: f.key.Value, Pos: pos(f.key)}
	what := "the agreement " + a.Name
	fields, ok := p.mapping(f.val, what, agreementKeys...)
	if !ok {
		return
	}
	for _, key := range []string{"rows", "path"} {
		if _, has := fields[key]; !has {
			p.add(pos(f.key), what+" has no "+key, `write {rows: STORE.TABLE, path: "STORE:{column}"}`)
			return
		}
	}
	if v, ok := p.text(fields["rows"].val, "rows"); ok {
		a.Store, a.Table = p.table(v, "rows")
	}
	if n, has := fields["where"]; has {
		a.Where = p.condition(n.val, "where")
	}
	p.agreedPath(fields["path"].val, &a)
	for _, c := range []struct {
		key string
		to  *string
	}{{"size", &a.Size}, {"sha256", &a.SHA256}} {
		if n, has := fields[c.key]; has {
			*c.to = p.ownColumn(n.val, c.key)
		}
	}
	if n, has := fields["ref"]; has {
		p.agreedRef(n.val, &a)
	}
	if n, has := fields["made"]; has {
		for _, one := range p.list(n.val, "made") {
			if v, ok := p.text(one, "made"); ok && p.known(v, w) {
				a.Made = append(a.Made, v.text)
			}
		}
	}
	if n, has := fields["within"]; has {
		a.Within, _ = p.span(n.val, "within")
		if _, has := fields["made"]; !has {
			p.add(pos(n.key), "within says how soon a file must have a row, and made says which files", "add made: [ACTION], or remove within")
		}
	}
	p.policy.Custody.Agreement = append(p.policy.Custody.Agreement, a)
}

// agreedPath reads "STORE:TEMPLATE", or a template of an absolute path.
func (p *parser) agreedPath(n *yaml.Node, a *Agreement) {
	v, ok := p.text(n, "path")
	if !ok {
		return
	}
	text, offset := v.text, 0
	if !strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "{") {
		store, rest, ok := splitStore(text)
		if !ok {
			p.problem(v, 0, "path does not say in which store", `write path: "STORE:{column}", or "{column}" for absolute paths`)
			return
		}
		named := v
		if named.text = store; !p.holder(named) {
			return
		}
		a.In, text, offset = store, rest, len(store)+1
	}
	t, bad := template(text)
	if s, ok := p.policy.Store(a.In); bad == nil && ok && s.Kind == Files {
		bad = climbing(t)
	}
	if bad != nil {
		p.problem(v, offset+bad.offset, bad.text, bad.hint)
		return
	}
	a.Path = t
	p.ownRefs(v, a, t)
}

func (p *parser) agreedRef(n *yaml.Node, a *Agreement) {
	v, ok := p.text(n, "ref")
	if !ok {
		return
	}
	t, bad := template(v.text)
	switch {
	case bad != nil:
		p.problem(v, bad.offset, bad.text, bad.hint)
		return
	case !strings.Contains(t.Literals[0], ":") || strings.HasPrefix(t.Literals[0], ":"):
		p.problem(v, 0, "ref must be KIND:ID", `such as "data-file:{id}"`)
		return
	}
	a.Ref = t
	p.ownRefs(v, a, t)
}

// ownRefs checks that a template is made of columns of the table itself, each of
// one value.
func (p *parser) ownRefs(v value, a *Agreement, t Template) {
	if len(t.Refs) == 0 {
		p.problem(v, 0, "the template has no reference, so that every row would name the same thing", "a reference is {column} or {column->key}; a literal brace is {{ or }}")
	}
	for i := range t.Refs {
		ref := &t.Refs[i]
		if sameTable(ref.Table, a.Table) {
			ref.Table = ""
		}
		if ref.Table != "" || ref.Each {
			p.problem(v, 0, "an agreement compares columns of the table itself, each of one value", "write {column} or {column->key}; for another table write an agreement of its own")
			return
		}
	}
}

// ownColumn reads the name of one column.
func (p *parser) ownColumn(n *yaml.Node, what string) string {
	v, ok := p.text(n, what)
	if !ok {
		return ""
	}
	name, end, bad := oneName(v.text, 0)
	switch {
	case bad != nil:
		p.problem(v, bad.offset, bad.text, bad.hint)
	case end < len(v.text):
		p.problem(v, end, what+" is one column of the table", "write its name alone, such as file_"+what)
	}
	return name
}

// Query asks for the rows of the agreement, for a check of it.
func (a *Agreement) Query() *connector.Query {
	q := &connector.Query{Collection: a.Table, Where: a.Where, Wants: []connector.Want{{Refs: a.Path.Refs}, {Refs: a.Ref.Refs}}}
	for _, column := range []string{a.Size, a.SHA256} {
		if column != "" {
			q.Wants = append(q.Wants, connector.Want{Refs: []connector.Ref{{Column: column}}})
		}
	}
	return q
}
