package policy

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/epitaph/epitaph/connector"
)

// Canonical returns the text that Hash is the SHA-256 of: JSON with sorted keys,
// every default and variable filled in, and every credential taken out. It
// holds all that decides what goes and when; it leaves out the file's name, the
// order and spelling of keys, positions, the pace of stores, the pairs and agreement of custody, and dry_run.
// Lists keep their order. It may hold paths and host names.
func (p *Policy) Canonical() []byte {
	type object = map[string]any
	stores, rules := object{}, object{}
	for i := range p.Stores {
		s := &p.Stores[i]
		options := maps.Clone(s.Options)
		maps.DeleteFunc(options, func(k, _ string) bool { return slices.Contains(secretOptions, k) })
		if e, ok := options["endpoint"]; ok {
			options["endpoint"] = withoutCredentials(e)
		}
		stores[s.Name] = object{
			"kind": s.Kind, "target": withoutCredentials(s.Target), "mount": s.Mount, "marker": s.Marker,
			"cross_mounts": s.CrossMounts, "options": options,
		}
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		rule := object{
			"purpose": r.Purpose, "kind": r.Kind, "enabled": r.Enabled, "retain": r.Retain.String(),
			"store": r.Store, "store_kind": r.StoreKind, "collection": r.Collection,
			"anchor": canonicalAnchor(r.Anchor),
			"where":  r.Where, "hold": r.Hold, "in_use": r.InUse,
			"parts": canonicalParts(r.Parts), "links": canonicalLinks(r), "limits": canonicalLimits(r.Limits),
		}
		if len(r.Then) > 0 {
			rule["then"] = canonicalThen(r.Then)
		}
		rules[r.Name] = rule
	}
	all := object{
		"version": 1, "ledger": withoutCredentials(p.Ledger), "stores": stores, "rules": rules,
		"limits": canonicalLimits(p.Limits), "schedule": p.Schedule, "zone": p.Zone.String(), "enabled": p.Enabled,
	}
	if c := canonicalCustody(&p.Custody); len(c) > 0 {
		all["custody"] = c
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic("policy: " + err.Error()) // maps, texts, numbers and slices of them always have a JSON form
	}
	return text
}

func (p *Policy) hash() [32]byte { return sha256.Sum256(p.Canonical()) }

// canonicalCustody holds what decides which tracked files go, and when: the actions
// and the tracked stores. Pairs and agreement are looks.
func canonicalCustody(c *Custody) map[string]any {
	all := map[string]any{}
	if len(c.Actions) > 0 {
		actions := map[string]any{}
		for _, a := range c.Actions {
			kind := ""
			if a.Kind != 0 {
				kind = a.Kind.String()
			}
			actions[a.Name] = map[string]any{"kind": kind, "work": a.Work, "required": a.Temporary || a.Due > 0, "due": a.Due.String()}
		}
		all["actions"] = actions
	}
	if len(c.Tracked) > 0 {
		tracked := map[string]any{}
		for _, t := range c.Tracked {
			tracked[t.Store] = t.Grace.String()
		}
		all["tracked"] = tracked
	}
	return all
}

func canonicalAnchor(a connector.Anchor) map[string]any {
	anchor := map[string]any{"kind": a.Kind, "column": a.Column, "layout": a.Layout, "zone": zoneName(a)}
	if a.Tag != "" {
		anchor["tag"] = a.Tag
	}
	return anchor
}

func canonicalParts(parts []Part) []any {
	list := []any{}
	for _, part := range parts {
		one := map[string]any{
			"kind": part.Kind, "store": part.Store.String(), "path": part.Path.String(),
			"referenced_by": columnStrings(part.Want.ReferencedBy), "when": part.Want.When, "buckets": part.Buckets,
		}
		if len(part.Patterns) > 0 {
			patterns := []string{}
			for _, b := range part.Patterns {
				patterns = append(patterns, b.Store+":"+b.Pattern)
			}
			one["bucket_patterns"] = patterns
		}
		list = append(list, one)
	}
	return list
}

func canonicalLinks(r *Rule) []any {
	list := []any{}
	for i, l := range r.Links {
		on := []string{}
		for _, pair := range l.On {
			on = append(on, columnString(pair.Column)+" = "+columnString(pair.Equals))
		}
		link := map[string]any{"table": l.Table, "on": on, "where": l.Where}
		if len(l.ReferencedBy) > 0 {
			link["referenced_by"] = columnStrings(l.ReferencedBy)
		}
		if kind := r.LinkKinds[i]; kind != "" {
			link["kind"] = kind
		}
		list = append(list, link)
	}
	return list
}

func canonicalThen(settings []connector.Setting) map[string]any {
	then := map[string]any{}
	for _, s := range settings {
		one := map[string]any{"kind": int(s.Value.Kind), "text": s.Value.Text}
		if s.Value.Zone != nil {
			one["zone"] = s.Value.Zone.String()
		}
		then[s.Column] = one
	}
	return then
}

func columnStrings(columns []connector.Column) []string {
	list := []string{}
	for _, c := range columns {
		list = append(list, columnString(c))
	}
	return list
}

func columnString(c connector.Column) string {
	return refString(connector.Ref{Table: c.Table, Column: c.Column, Each: c.Each})
}

func canonicalLimits(l Limits) map[string]any {
	return map[string]any{"items": l.Items, "share": l.Share, "missing": l.Missing, "clock_jump": l.ClockJump.String()}
}

// zoneName is the zone's name, "" when none is given.
func zoneName(a connector.Anchor) string {
	if a.Zone == nil {
		return ""
	}
	return a.Zone.String()
}

// withoutCredentials takes user, password and secret parameters out of a DSN,
// in the forms URL, "user:password@tcp(host)/name" and "key=value key=value".
// Where it is not sure it takes out more rather than less.
func withoutCredentials(dsn string) string {
	head, query, hasQuery := strings.Cut(dsn, "?")
	if scheme, rest, ok := strings.Cut(head, "://"); ok {
		head = scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
	} else if at := strings.LastIndexByte(head, '@'); at >= 0 && strings.Contains(head[:at], ":") && !strings.HasPrefix(head, "sqlite:") {
		head = head[at+1:]
	} else if strings.Contains(head, "=") && !strings.ContainsAny(strings.SplitN(head, "=", 2)[0], "/:") {
		return withoutSecretPairs(dsn)
	}
	if !hasQuery {
		return head
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return head
	}
	maps.DeleteFunc(values, func(k string, _ []string) bool { return isSecretKey(k) })
	if len(values) == 0 {
		return head
	}
	return head + "?" + values.Encode()
}

// withoutSecretPairs handles the key=value form of PostgreSQL (libpq, section
// "Keyword/Value Connection Strings"): values may stand in single quotes.
func withoutSecretPairs(dsn string) string {
	var kept []string
	for rest := strings.TrimSpace(dsn); rest != ""; rest = strings.TrimSpace(rest) {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		after = strings.TrimLeft(after, " ")
		quoted := strings.HasPrefix(after, "'")
		end := 0
		for i := 0; i < len(after); i++ {
			if after[i] == '\\' {
				i++
			} else if quoted && i > 0 && after[i] == '\'' || !quoted && after[i] == ' ' {
				break
			}
			end = min(i+1, len(after))
		}
		value := after[:end]
		rest = strings.TrimPrefix(after[end:], "'")
		if key = strings.TrimSpace(key); !isSecretKey(key) {
			kept = append(kept, key+"="+strings.TrimPrefix(value, "'"))
		}
	}
	slices.Sort(kept)
	return strings.Join(kept, " ")
}

func isSecretKey(key string) bool {
	key = strings.ToLower(key)
	for _, word := range []string{"pass", "pwd", "user", "secret", "token", "key"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}
