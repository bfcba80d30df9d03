package epitaph

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

// Finding is something that Check noticed. It names rules, stores, tables and
// settings only, never a value.
type Finding struct {
	Rule string     // "" when it concerns a store alone
	Pos  policy.Pos // of what it is about in the policy file, else of its rule or store
	connector.Finding
}

// sample is how many items of a rule Check takes to prove its templates.
const sample = 20

// sampleTime is how long it may look for them.
const sampleTime = time.Minute

// Check proves, without any effect, that the policy fits the stores: every
// store can be reached, every table, column, link and template exists, and the
// parts that the first records name can be looked at. It returns everything it
// noticed, in the order of the policy; rules that are switched off are checked
// too. A Fault means that a run could not do its work.
func (e *Engine) Check(ctx context.Context) []Finding {
	var all []Finding
	for i := range e.c.Policy.Rules {
		r := &e.c.Policy.Rules[i]
		for _, f := range e.checkRule(ctx, r) {
			all = append(all, Finding{Rule: r.Name, Pos: e.place(r, f.Subject), Finding: f})
		}
	}
	return append(all, e.checkUnused(ctx)...)
}

// place is where the policy says what a finding on a rule is about.
func (e *Engine) place(r *policy.Rule, subject string) policy.Pos {
	name, ofStore := strings.CutPrefix(subject, "store ")
	if subject == "root" {
		name, ofStore = r.Store, true
	}
	if s, ok := e.c.Policy.Store(name); ofStore && ok {
		return s.Pos
	}
	return r.Place(subject)
}

func (e *Engine) checkRule(ctx context.Context, r *policy.Rule) []connector.Finding {
	store, ok := e.c.Stores[r.Store]
	if !ok {
		return []connector.Finding{notOpen(r.Store)}
	}
	q := r.Query(e.c.Clock().UTC())
	found, err := store.Check(ctx, q)
	if err != nil {
		return append(found, e.notSeen(r.Store, err))
	}
	found = append(found, e.c.Policy.Unguarded(r)...)
	for _, f := range found {
		if f.Severity == connector.Fault {
			return found
		}
	}
	return append(found, e.checkSample(ctx, r, store, q)...)
}

// checkSample takes the first items of a rule, fills its templates and looks at
// the parts. A template or root that is wrong names nothing that exists.
func (e *Engine) checkSample(ctx context.Context, r *policy.Rule, store connector.Connector, q *connector.Query) (found []connector.Finding) {
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	source := plan.LookOnly(map[string]connector.Connector{r.Store: store})[r.Store]
	var survey connector.Survey
	var parts []plan.Part
	items, invalid := 0, 0
	for it, err := range source.Scan(ctx, q, &survey) {
		var late interface{ Timeout() bool }
		var wrong interface{ Faults() []connector.Finding }
		switch {
		case err == nil:
		case errors.As(err, &wrong):
			return wrong.Faults()
		case whole.Err() == nil && (ctx.Err() != nil || errors.As(err, &late) && late.Timeout()):
			return []connector.Finding{{
				Severity: connector.Warning, Subject: "collection",
				Text: fmt.Sprintf("the first items were not found within %v, so their parts were not looked at", sampleTime),
				Hint: "a run waits longer; an index on what the conditions of the rule name makes it shorter",
			}}
		default:
			return []connector.Finding{e.notSeen(r.Store, err)}
		}
		ps, err := plan.Expand(r, it)
		if err != nil || it.Err != nil {
			invalid++
		}
		parts = append(parts, ps...)
		if items++; items == sample {
			break
		}
	}
	if invalid > 0 {
		found = append(found, connector.Finding{
			Severity: connector.Warning, Subject: "parts",
			Text: fmt.Sprintf("%d of the first %d items name a part that no store may hold, such as a path out of the root; when they are due they are INVALID, and stay", invalid, items),
			Hint: "compare the templates of the rule with the values in the database",
		})
	}
	return append(found, e.checkParts(ctx, r, parts)...)
}

// checkParts looks at sampled parts, store by store in the order of the policy.
func (e *Engine) checkParts(ctx context.Context, r *policy.Rule, parts []plan.Part) (found []connector.Finding) {
	for _, s := range e.c.Policy.Stores {
		var at []connector.Locator
		for _, p := range parts {
			if p.Store == s.Name {
				at = append(at, p.Locator)
			}
		}
		if len(at) == 0 {
			continue
		}
		store, ok := e.c.Stores[s.Name]
		if !ok {
			found = append(found, notOpen(s.Name))
			continue
		}
		absent, unknown := 0, connector.Result{}
		for _, res := range store.Probe(ctx, at) {
			switch res.State {
			case connector.Unknown:
				unknown = res
			case connector.Gone:
				absent++
			case connector.Present:
			}
		}
		if unknown.Reason != "" {
			found = append(found, connector.Finding{
				Severity: connector.Fault, Subject: "parts",
				Text: fmt.Sprintf("parts in store %s could not be looked at (%s)", s.Name, unknown.Reason),
				Hint: storeHint(&s), Cause: unknown.Err,
			})
		}
		if absent == len(at) {
			found = append(found, connector.Finding{
				Severity: connector.Warning, Subject: "parts",
				Text: fmt.Sprintf("not one of the first %d parts is in store %s", len(at), s.Name),
				Hint: "a wrong root or template looks just like this: compare with epitaph plan --show " + r.Name,
			})
		}
	}
	return found
}

// checkUnused looks at the stores that no rule is rooted in: parts lie in them.
func (e *Engine) checkUnused(ctx context.Context) (found []Finding) {
	for _, s := range e.c.Policy.Stores {
		if e.rooted(s.Name) {
			continue
		}
		store, ok := e.c.Stores[s.Name]
		if !ok {
			found = append(found, Finding{Pos: s.Pos, Finding: notOpen(s.Name)})
			continue
		}
		at := probes(&s)
		if len(at) == 0 || s.Kind == policy.Rows {
			continue
		}
		for _, res := range store.Probe(ctx, at) {
			if res.State == connector.Unknown {
				f := e.notSeen(s.Name, res.Err)
				f.Text = fmt.Sprintf("store %s could not be looked at (%s)", s.Name, res.Reason)
				found = append(found, Finding{Pos: s.Pos, Finding: f})
				break
			}
		}
	}
	return found
}

// probes are names that no template gives; what matters is whether there is an
// answer at all. A store without a bucket of its own is asked for the buckets
// that it names in full.
func probes(s *policy.Store) (at []connector.Locator) {
	const name = "epitaph-check"
	switch {
	case s.Kind != policy.Objects:
		return []connector.Locator{name}
	case s.Bucket() != "":
		_, prefix, _ := strings.Cut(strings.TrimPrefix(s.Target, "s3://"), "/")
		return []connector.Locator{connector.Locator(prefix + name)}
	}
	for bucket := range strings.SplitSeq(s.Options["buckets"], ",") {
		if bucket != "" && !strings.ContainsAny(bucket, `*?[\`) {
			at = append(at, connector.Locator(bucket+"/"+name))
		}
	}
	return at
}

func (e *Engine) rooted(store string) bool {
	for i := range e.c.Policy.Rules {
		if e.c.Policy.Rules[i].Store == store {
			return true
		}
	}
	return false
}

func notOpen(store string) connector.Finding {
	return connector.Finding{
		Severity: connector.Fault, Subject: "store " + store,
		Text: "store " + store + " is not open",
		Hint: "this build of epitaph cannot open stores of its kind",
	}
}

func (e *Engine) notSeen(store string, err error) connector.Finding {
	hint := ""
	if s, ok := e.c.Policy.Store(store); ok {
		hint = storeHint(s)
	}
	return connector.Finding{
		Severity: connector.Fault, Subject: "store " + store,
		Text: fmt.Sprintf("store %s could not be looked at (error type %s)", store, plan.ErrorType(err)),
		Hint: hint, Cause: err,
	}
}

func storeHint(s *policy.Store) string {
	switch {
	case s.Kind == policy.Rows && (strings.HasPrefix(s.Target, "sqlite:") || !strings.Contains(s.Target, ":")):
		return "is the file there, and may this user read it? A path is relative to the policy's folder"
	case s.Kind == policy.Rows:
		return "is the database up, and may this user read it?"
	case s.Kind == policy.Files:
		return "is the directory there, mounted, not a link, and readable by this user? A path is relative to the policy's folder"
	default:
		return "is the service up, and are the credentials right?"
	}
}
