// Package plan turns rules and stores into a frozen, ordered, digested list of
// the items that are due, with everything that goes with them.
//
// # A plan holds nothing able to delete
//
// The package looks through [Source], which can find and look and nothing else.
// A dry run is a plan; the plan file is what [purge] then carries out, and
// nothing outside it.
//
// # The file
//
// A plan is a text file, mode 0600, one line for each item, because it names
// what is personal data. It ends with the SHA-256 of all that stands before. It
// holds nothing random and nothing of the host: the same data, policy and
// instant give the same digest. The format is described in format.go.
//
// [purge]: https://pkg.go.dev/github.com/epitaph/epitaph/purge
package plan

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

// Source is what planning needs of a store: to find and to look. There is no
// way from a Source to the deleter; see [LookOnly].
type Source interface {
	Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error]
	Probe(ctx context.Context, at []connector.Locator) []connector.Result
}

// LookOnly wraps each connector so that what Make holds has no Claim, not even
// behind a type assertion.
func LookOnly(stores map[string]connector.Connector) map[string]Source {
	out := make(map[string]Source, len(stores))
	for name, c := range stores {
		out[name] = look{scan: c.Scan, probe: c.Probe}
	}
	return out
}

// look holds two method values instead of the connector they come from.
type look struct {
	scan  func(context.Context, *connector.Query, *connector.Survey) iter.Seq2[connector.Item, error]
	probe func(context.Context, []connector.Locator) []connector.Result
}

func (l look) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	return l.scan(ctx, q, s)
}

func (l look) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	return l.probe(ctx, at)
}

// Input is what a plan is made of.
type Input struct {
	Policy *policy.Policy
	// Rules names the rules to plan, in any order; empty means all. The plan
	// keeps the order of the policy. A name the policy does not have is an error.
	Rules []string
	// Stores by their name in the policy. A store that is not here is
	// unreachable.
	Stores map[string]Source
	// AsOf is the instant from which retention is counted back. It may lie in
	// the future, to look ahead; such a plan cannot be carried out before.
	AsOf time.Time
	// Retain replaces the period of every rule that is planned. Nil: the
	// policy's. Zero and negative periods are an error.
	Retain *policy.Period
	// Clock is this host's clock, to compare with the stores' own. Nil: time.Now.
	Clock func() time.Time
	// Progress, when not nil, is called from the planning goroutine after every
	// batch.
	Progress func(Progress)
}

// Progress says how far planning has come. It holds nothing but names of rules
// and counts.
type Progress struct {
	Rule    string
	Scanned int64 // items the rule's scan has yielded so far
	Items   int64 // of which are in the plan
}

// Item is one unit of disposal with its parts, as the plan names it.
type Item struct {
	connector.Item
	Parts []Part
}

// Part is a file or object that goes with an item.
type Part struct {
	Store   string
	Locator connector.Locator
	// Print is the version that was seen; empty when the part is missing.
	Print connector.Fingerprint
	Bytes int64
	// Want and Tuple say which value named the part: Item.Values[Want][Tuple].
	Want, Tuple int
	// Also are further values of the item that name the same part. It is filled
	// by Expand and not kept in the file.
	Also []Origin
	// State is Present, or Gone with reason Missing. Items with an unknown part
	// are not in the plan.
	State  connector.State
	Reason connector.Reason
}

// Origin is a place in Item.Values.
type Origin struct{ Want, Tuple int }

// RuleSummary is what planning learned of one rule.
type RuleSummary struct {
	Rule      string
	Kind      string
	Store     string
	StoreKind policy.StoreKind
	// Enabled is false for a rule that the policy switches off. It was not
	// looked at.
	Enabled bool
	// Retain is the effective period and Cutoff the instant it gives.
	Retain policy.Period
	Cutoff time.Time

	Total   int64 // items in the collection, due or not
	Due     int64 // whose period is over, those kept back among them
	Items   int64 // in the plan: due, and nothing stands against them
	Bytes   int64 // of those items and their parts, a blob of several items once per batch
	Undated int64 // without an anchor: reported, never taken
	// Kept counts the items that were found and stay, by reason; of those with a
	// reason that is NotSeen no more is known than that. Undated ones are not among
	// them.
	Kept         map[connector.Reason]int64
	Parts        int64 // parts of the items in the plan
	PartsMissing int64 // of which are not there
	// OldestDue is the earliest anchor of all due items, kept ones too; zero
	// when none is due.
	OldestDue time.Time
	// Unreadable is set when the rule's store could not be looked at, or not to
	// the end. The rule's part of the plan is then not complete: its items are
	// left out, and nothing may be concluded from the counts.
	Unreadable connector.Reason
	// ErrorType is the Go type of the cause, with Unreadable.
	ErrorType string
	// Unseen names the stores of which not one part could be looked at, though
	// some were asked for.
	Unseen []string
	// Skew is how far the store's clock is from this host's, in whole minutes;
	// zero while it is not more than five.
	Skew time.Duration
	// Failures are the first items that were to go and are left out because
	// something is wrong with them or with the store of a part. Only the plan that
	// Make returns has them: they are not in the file.
	Failures []Failure
}

// NotSeen reports a reason of Kept that says that nothing is known: a look failed
// or was denied, so that nobody can say whether the item could go.
func NotSeen(r connector.Reason) bool {
	return r == connector.Unreachable || r == connector.NoPermission
}

// Failure is an item that could not be planned.
type Failure struct {
	ID      string            // as connector.Item.ID
	Locator connector.Locator // personal data
	Reason  connector.Reason
	// ErrorType is the Go type of the cause; empty when there was none.
	ErrorType string
}

// ErrorKind says what is wrong with a plan file.
type ErrorKind string

// The kinds of error. Damaged, Truncated and OtherVersion come from Open;
// OtherPolicy and CarriedOut are found when the plan is to be carried out.
const (
	Damaged      ErrorKind = "damaged"
	Truncated    ErrorKind = "truncated"
	OtherVersion ErrorKind = "other version"
	OtherPolicy  ErrorKind = "other policy"
	CarriedOut   ErrorKind = "carried out"
)

// Error is a plan that must not be carried out.
type Error struct {
	Kind ErrorKind
	// Line is the line of the file, counted from 1; 0 when not known.
	Line int
	Text string
	Hint string // what to type
}

// Error returns what is wrong, without the hint.
func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("plan, line %d: %s", e.Line, e.Text)
	}
	return "plan: " + e.Text
}
