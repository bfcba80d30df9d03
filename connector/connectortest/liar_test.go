package connectortest_test

import (
	"context"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
)

// liar is a Memory that breaks one clause of the contract.
type liar struct {
	*connectortest.Memory
	lie string
}

// lies are the ways to break the contract, each with the case that must notice.
var lies = map[string]string{
	"check is always fine":           "Check/errs_when_the_store_is_down",
	"check takes an item":            "Check/finds_no_fault",
	"scan hides the outage":          "Scan/ends_with_an_error_when_the_store_is_down",
	"scan ignores the context":       "Scan/ends_with_an_error_when_the_context_has_ended",
	"scan yields the young":          "Scan/yields_what_is_due",
	"scan drops the undated":         "Scan/yields_what_is_due",
	"scan counts only the due":       "Scan/yields_what_is_due",
	"scan speaks local time":         "Scan/yields_what_is_due",
	"scan changes its order":         "Scan/gives_the_same_order",
	"probe calls an outage gone":     "Probe/is_Unknown_when_the_store_is_down",
	"probe answers backwards":        "Probe/answers_each_in_order",
	"probe drops a result":           "Probe/answers_each_in_order",
	"probe gives no print":           "Probe/answers_each_in_order",
	"probe calls a miss unknown":     "Probe/answers_each_in_order",
	"claim ignores versions":         "Claim/refuses_what_changed",
	"claim ignores the cutoff":       "Claim/refuses_what_is_young",
	"claim is nil when down":         "Claim/is_Unknown,_with_a_claim",
	"claim does not rehearse":        "Claim/rehearses",
	"claim erases at once":           "Claim/changes_nothing_for_any_eye",
	"claim locks nothing":            "Claim/keeps_others_off",
	"claim fails as a whole":         "Claim/answers_each_in_order",
	"erase takes everything claimed": "Erase/erases_what_is_asked_for",
	"erase only says so":             "Erase/erases_what_is_asked_for",
	"erase trusts every index":       "Erase/leaves_alone_an_index",
	"erase acts twice":               "Erase/acts_once",
	"erase calls an outage gone":     "Erase/is_never_Gone_when_the_store_goes_down",
	"release is forgotten":           "Release/is_idempotent",
	"release works once":             "Release/is_idempotent",
	"second run erases again":        "Erase/leaves_nothing_for_a_second_run",
	"then is not read":               "Then/sets_what_is_asked_for",
	"then only says so":              "Then/sets_what_is_asked_for",
	"then counts rows":               "Then/sets_what_is_asked_for",
	"then is set at once":            "Then/shows_the_rehearsal_to_nobody",
	"then is forgotten by scan":      "Then/passes_over_what_is_set",
	"then is taken twice":            "Then/passes_over_what_is_set",
	"then calls an outage set":       "Then/never_says_SET",
}

// The suite notices every lie, each in the case that is named for it.
func TestSuiteNoticesLies(t *testing.T) {
	t.Parallel()
	if lie := os.Getenv("EPITAPH_LIE"); lie != "" {
		connectortest.Run(t, connectortest.Harness{Locks: true, Refuses: true, Sets: true, New: func(t *testing.T) connectortest.Fixture {
			m := connectortest.NewMemory()
			return memoryFixture(m, &liar{m, lie})
		}})
		return
	}
	for lie, where := range lies {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestSuiteNoticesLies$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), "EPITAPH_LIE="+lie)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestSuiteNoticesLies/"+where) {
				t.Errorf("not noticed in %s: %v\n%s", where, err, out)
			}
		})
	}
}

func (l *liar) Check(ctx context.Context, q *connector.Query) ([]connector.Finding, error) {
	fs, err := l.Memory.Check(ctx, q)
	switch l.lie {
	case "check is always fine":
		err = nil
	case "check takes an item":
		for _, at := range l.Locators()[:min(1, len(l.Locators()))] {
			l.Remove(at)
		}
	}
	return fs, err
}

func (l *liar) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	if l.lie == "scan ignores the context" {
		ctx = context.WithoutCancel(ctx)
	}
	return func(yield func(connector.Item, error) bool) {
		var items []connector.Item
		var failed error
		for it, err := range l.Memory.Scan(ctx, l.wider(q), s) {
			if err != nil {
				failed = err
				break
			}
			items = append(items, it)
		}
		items = l.retell(items, s)
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
		if failed != nil && l.lie != "scan hides the outage" {
			yield(connector.Item{}, failed)
		}
	}
}

func (l *liar) wider(q *connector.Query) *connector.Query {
	if q == nil {
		return q
	}
	wide := *q
	switch l.lie {
	case "then is not read", "then is forgotten by scan":
		wide.Then = nil
		return &wide
	case "scan yields the young", "claim ignores the cutoff":
	default:
		return q
	}
	wide.Cutoff = q.Cutoff.AddDate(1, 0, 0)
	return &wide
}

var turn = make(chan struct{}, 1)

func (l *liar) retell(items []connector.Item, s *connector.Survey) []connector.Item {
	switch l.lie {
	case "scan drops the undated":
		items = slices.DeleteFunc(items, func(it connector.Item) bool { return it.Anchor.IsZero() })
	case "scan counts only the due":
		s.Total = int64(len(items))
	case "scan speaks local time":
		for i := range items {
			items[i].Anchor = items[i].Anchor.In(time.FixedZone("local", 3600))
		}
	case "scan changes its order":
		select {
		case turn <- struct{}{}:
		default:
			<-turn
			slices.Reverse(items)
		}
	case "claim ignores the cutoff":
		items = slices.DeleteFunc(items, func(it connector.Item) bool { return !it.Anchor.Before(cutoff) })
	}
	return items
}

func (l *liar) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	rs := l.Memory.Probe(ctx, at)
	for i := range rs {
		switch {
		case l.lie == "probe calls an outage gone" && rs[i].State == connector.Unknown:
			rs[i] = connector.Result{State: connector.Gone, Reason: connector.Missing}
		case l.lie == "probe gives no print":
			rs[i].Print = ""
		case l.lie == "probe calls a miss unknown" && rs[i].State == connector.Gone:
			rs[i].State = connector.Unknown
		}
	}
	switch l.lie {
	case "probe answers backwards":
		slices.Reverse(rs)
	case "probe drops a result":
		rs = rs[:max(len(rs)-1, 0)]
	}
	return rs
}

func (l *liar) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	told := slices.Clone(items)
	for i, r := range l.Memory.Probe(ctx, locators(items)) {
		if l.lie == "claim ignores versions" {
			told[i].Print = r.Print
		}
	}
	if l.lie == "claim does not rehearse" {
		for _, it := range items {
			if r, ok := l.Get(it.Locator); ok && r.Refuse != "" {
				at := slices.Index(locators(items), it.Locator)
				r.Refuse = ""
				l.Put(it.Locator, r)
				told[at].Print = l.Memory.Probe(ctx, []connector.Locator{it.Locator})[0].Print
			}
		}
	}
	if l.lie != "then is forgotten by scan" {
		q = l.wider(q)
	}
	c, rs := l.Memory.Claim(ctx, q, told)
	lc := &liarClaim{Claim: c, l: l, items: items}
	for i, r := range rs {
		lc.claimed = append(lc.claimed, r.Reason == connector.Eligible)
		if l.lie == "second run erases again" && r.State == connector.Gone {
			rs[i] = connector.Result{State: connector.Present, Reason: connector.Eligible}
		}
		if l.lie == "then is taken twice" && r.Reason == connector.Set {
			rs[i] = connector.Result{State: connector.Present, Reason: connector.Eligible}
		}
	}
	switch l.lie {
	case "then is set at once":
		for i, it := range items {
			if r, ok := l.Get(it.Locator); ok && lc.claimed[i] {
				r.Set = true
				l.Put(it.Locator, r)
			}
		}
	case "claim is nil when down":
		if len(rs) > 0 && rs[0].State == connector.Unknown {
			return nil, rs
		}
	case "claim erases at once":
		for i, it := range items {
			if lc.claimed[i] {
				l.Remove(it.Locator)
			}
		}
	case "claim locks nothing":
		c.Release()
	case "claim fails as a whole":
		if slices.Contains(lc.claimed, false) {
			for i := range rs {
				rs[i] = connector.Result{Reason: connector.Unreachable}
			}
		}
	}
	return lc, rs
}

type liarClaim struct {
	connector.Claim
	l        *liar
	items    []connector.Item
	claimed  []bool
	released bool
}

func (c *liarClaim) Erase(ctx context.Context, which []int) connector.Erased {
	said := connector.Result{State: connector.Gone, Reason: connector.Erasure}
	switch c.l.lie {
	case "erase takes everything claimed":
		e := c.Claim.Erase(ctx, which)
		for i, it := range c.items {
			if c.claimed[i] {
				c.l.Remove(it.Locator)
			}
		}
		return e
	case "erase only says so":
		return connector.Erased{Results: slices.Repeat([]connector.Result{said}, len(which))}
	case "erase trusts every index", "erase acts twice":
		e := c.Claim.Erase(ctx, which)
		for n, i := range which {
			if i < 0 || i >= len(c.items) || c.l.lie == "erase acts twice" && !c.claimed[i] {
				continue
			}
			c.l.Remove(c.items[i].Locator)
			e.Results[n] = said
		}
		return e
	}
	if c.l.lie == "then only says so" {
		return connector.Erased{Results: slices.Repeat([]connector.Result{{State: connector.Present, Reason: connector.Set}}, len(which))}
	}
	e := c.Claim.Erase(ctx, which)
	if c.l.lie == "then counts rows" {
		e.Rows = []connector.Count{{Table: "things", N: int64(len(which))}}
	}
	for n := range e.Results {
		if c.l.lie == "then calls an outage set" && e.Results[n].Err == connectortest.ErrDown {
			e.Results[n] = connector.Result{State: connector.Present, Reason: connector.Set}
		}
		if c.l.lie == "erase calls an outage gone" && e.Results[n].Err == connectortest.ErrDown {
			e.Results[n] = said
		}
	}
	return e
}

func (c *liarClaim) Release() error {
	if c.l.lie == "release is forgotten" {
		return nil
	}
	if c.l.lie == "release works once" && c.released {
		return os.ErrClosed
	}
	c.released = true
	return c.Claim.Release()
}
