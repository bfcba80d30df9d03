package policy

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // a static binary in an empty container knows every zone

	"go.yaml.in/yaml/v4"
)

// parser turns the nodes of one file into a Policy.
type parser struct {
	*reader
	policy *Policy
	// off says what switched the whole policy off, "" when it is on.
	off    string
	parted int // parts of files and objects that were read
}

// Parse reads a policy. name is the file's name for messages, vars answers for
// the variables in it (nil: none is set). The error is an [*Errors] that holds
// everything that is wrong; it never quotes the value of a variable. Parse does
// no I/O but for the zone database, and is safe on hostile input.
func Parse(name string, src []byte, vars Lookup) (*Policy, error) {
	p := &parser{
		reader: newReader(name, src, vars),
		policy: &Policy{Path: name, Zone: time.UTC, Enabled: true, Ledger: "sqlite:epitaph.db", LedgerOptions: LedgerOptions{Retain: DefaultLedgerRetain()}},
	}
	if root := p.document(src); root != nil {
		p.top(root)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	p.policy.also()
	p.policy.Hash = p.policy.hash()
	return p.policy, nil
}

// keys of each mapping in the grammar; the JSON Schema has the same.
var (
	topKeys    = []string{"version", "ledger", "checkpoints", "stores", "rules", "custody", "limits", "schedule", "zone", "enabled", "dry_run"}
	limitsKeys = []string{"items", "share", "missing", "clock_jump"}
)

func (p *parser) top(root *yaml.Node) {
	f, ok := p.mapping(root, "the policy", topKeys...)
	if !ok {
		return
	}
	p.version(root, f)
	if n, ok := f["ledger"]; ok {
		p.ledger(n.val)
	}
	if n, ok := f["enabled"]; ok {
		p.policy.Enabled, p.off = p.enabled(n, "enabled")
	}
	if n, ok := f["dry_run"]; ok {
		p.policy.DryRun, _ = p.boolean(n.val, "dry_run")
	}
	if n, ok := f["zone"]; ok {
		if z, ok := p.zone(n.val); ok {
			p.policy.Zone = z
		}
	}
	if n, ok := f["schedule"]; ok {
		p.cron(n.val)
	}
	p.policy.Limits = DefaultLimits()
	if n, ok := f["limits"]; ok {
		p.policy.Limits = p.limits(n.val, "limits").Or(DefaultLimits())
	}
	if n, ok := f["stores"]; ok {
		p.stores(n.val)
	} else {
		p.add(pos(root), "the policy has no stores", "add stores: with the databases and directories it speaks of")
	}
	if n, ok := f["checkpoints"]; ok {
		p.checkpoints(n.val)
	}
	if n, ok := f["custody"]; ok {
		p.custody(n.val)
	}
	if n, ok := f["rules"]; ok {
		p.rules(n.val)
	} else {
		p.noRules(root, f)
	}
}

// noRules refuses a policy without rules, unless it is there for tracked files alone.
func (p *parser) noRules(root *yaml.Node, f map[string]field) {
	if _, ok := f["custody"]; !ok {
		p.add(pos(root), "the policy has no rules", "add rules: with what is to be kept for how long, or custody: for what applications register")
	} else if n, ok := f["schedule"]; ok {
		p.add(pos(n.key), "there is a schedule, and no rules that it could run", "add rules:, or leave the schedule out")
	}
}

func (p *parser) version(root *yaml.Node, f map[string]field) {
	n, ok := f["version"]
	switch {
	case !ok:
		p.add(pos(root), "the policy has no version", "add the line version: 1")
	case refused(n.val):
	case n.val.Kind != yaml.ScalarNode || n.val.Tag != "!!int" || n.val.Value != "1":
		p.add(pos(n.val), "this version of the policy is not known", "write version: 1")
	}
}

// enabled reads a switch, and when it is off says by what.
func (p *parser) enabled(f field, what string) (on bool, off string) {
	on, ok := p.boolean(f.val, what)
	if on || !ok {
		return true, ""
	}
	off = fmt.Sprintf("enabled on line %d", f.key.Line)
	if names := variablesIn(f.val.Value); len(names) > 0 {
		off += " (variable " + strings.Join(names, " and ") + ")"
	}
	return false, off
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)`)

// variablesIn names the variables that a text refers to.
func variablesIn(s string) []string {
	var list []string
	for _, m := range variable.FindAllStringSubmatch(s, -1) {
		list = append(list, m[1])
	}
	return list
}

func (p *parser) zone(n *yaml.Node) (*time.Location, bool) {
	v, ok := p.text(n, "zone")
	if !ok {
		return nil, false
	}
	const hint = "write a name of the IANA time zone database, such as UTC or Europe/Berlin"
	if strings.EqualFold(v.text, "local") {
		p.problem(v, 0, "the zone Local differs from machine to machine", hint)
		return nil, false
	}
	z, err := time.LoadLocation(v.text)
	if err != nil {
		p.problem(v, 0, "the zone "+quote(v.text)+" is not known", hint)
		return nil, false
	}
	return z, true
}

func (p *parser) cron(n *yaml.Node) {
	v, ok := p.text(n, "schedule")
	if !ok {
		return
	}
	const hint = `write five fields: minute, hour, day of month, month, day of week, such as "0 3 * * *"`
	switch {
	case strings.HasPrefix(v.text, "@"):
		p.problem(v, 0, "the schedule must have five fields", hint)
		return
	case strings.Contains(v.text, "TZ="):
		p.problem(v, 0, "the schedule cannot hold a zone", "write the zone under its own key, such as zone: Europe/Berlin")
		return
	}
	s, err := cronParser().Parse(v.text)
	if err != nil {
		p.problem(v, 0, "the schedule cannot be read", hint)
		return
	}
	// A leap day may be eight years away.
	if s.Next(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		p.problem(v, 0, "the schedule never comes", "there is no such day in the calendar; "+hint)
		return
	}
	p.policy.Schedule, p.policy.schedule = v.text, s
}

// limits reads the limits that are given; the others are zero.
func (p *parser) limits(n *yaml.Node, what string) Limits {
	var l Limits
	f, _ := p.mapping(n, what, limitsKeys...)
	if n, ok := f["items"]; ok {
		const hint = "write a number such as 10000, or the word unlimited"
		if n.val.Kind == yaml.ScalarNode && n.val.Value == "unlimited" {
			l.Items = Unlimited
		} else {
			l.Items, _ = p.integer(n.val, "items", hint)
		}
	}
	if n, ok := f["share"]; ok {
		l.Share = p.share(n.val, "share")
	}
	if n, ok := f["missing"]; ok {
		l.Missing = p.share(n.val, "missing")
	}
	if n, ok := f["clock_jump"]; ok {
		l.ClockJump, _ = p.period(n.val, "clock_jump")
	}
	return l
}

func (p *parser) share(n *yaml.Node, what string) Share {
	v, ok := p.scalar(n, what)
	if !ok {
		return 0
	}
	s, err := ParseShare(v.text)
	if err != nil {
		p.problem(v, 0, what+": "+err.Error(), "write a share such as 25%; 100% never stops a run")
	}
	return s
}
