// Package purge is the one place where data dies. It carries out a plan: for
// each batch of items it looks at their parts, writes the intent to the ledger,
// claims the roots and the parts, erases the parts, looks again, erases the
// roots whose parts are gone, looks again, and writes the outcome.
//
// # What a run promises
//
//   - Nothing outside the plan is touched, but for items that an earlier run left
//     half done under the same rules; those are finished first.
//   - No effect without a durable intent, and no count without a durable outcome.
//   - A row goes only after everything it points to is gone, is shared with a row
//     that stays, or was seen not to be there. Where the rule keeps its rows, one is
//     set only after everything it points to is gone or was seen not to be there.
//   - What was not looked at is unknown, and an answer that was lost is settled by
//     looking again.
//   - A failure of one item, batch, store or rule leaves the others running; a
//     failure of the ledger ends the run.
//
// There is no resume: running again is the resume.
package purge

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
)

// Ledger is what a run needs of the ledger. [ledger.Ledger] is one.
type Ledger interface {
	// Append writes entries with consecutive numbers; they are durable when the
	// error is nil.
	Append(ctx context.Context, es ...ledger.Entry) (first int64, err error)
	// Entries streams entries in the order of their numbers.
	Entries(ctx context.Context, f ledger.Filter) iter.Seq2[ledger.Entry, error]
	// OpenIntents streams the intents without an outcome, unsealed, oldest first.
	OpenIntents(ctx context.Context) iter.Seq2[ledger.Entry, error]
	// Newest returns the number and time of the newest entry, 0 when empty.
	Newest(ctx context.Context) (number int64, at time.Time, err error)
	// Lease keeps other runs on this ledger out until released.
	Lease(ctx context.Context, name string) (release func() error, err error)
	// ShortHash returns a keyed hash that is safe to show.
	ShortHash(s string) string
}

// Config is what a run works with.
type Config struct {
	Ledger Ledger
	// Stores by their name in the policy. A store that is not here is
	// unreachable. DryRun does not use them.
	Stores map[string]connector.Connector
	Clock  func() time.Time // nil: time.Now
	Rand   io.Reader        // nil: crypto/rand; names the run
	// Observe is called for every event, one call at a time, from the goroutines
	// of the run. It must not block for long.
	Observe func(Event)
	// Workers is the number of batches in flight; 0: 3, at most 16.
	Workers int
	// Batch is the number of items of one intent; 0: 1000, at most 10000.
	Batch int
	Host  string // where the run takes place
	Who   string // who asked for it; sealed
	// Version of the program.
	Version string
	// RequestID of the outside request that led to the run, if any. It is sealed
	// and hashed in events unless it is made of letters, digits and ._:+/@=- only.
	RequestID string
	Allow     Allow
	// Stop, when closed, lets running batches end and leaves the rest untouched.
	Stop <-chan struct{}
	// Root tells the inode of the directory that is the root of a store of files;
	// not ok where it cannot, or the store is another. An intent keeps it, and is
	// finished by a later run only where it is the same. Nil: it is not compared.
	Root func(store string) (inode uint64, ok bool)
	// Turn, when not nil, is called before each batch of a rule, on several
	// goroutines, and returns when the stores of the rule can bear it: before
	// anything is claimed or an intent is written. It calls paused where it has to
	// wait, and why. An error leaves the batch as it is, and the run is interrupted.
	Turn func(ctx context.Context, rule string, paused func(store string, why Pause)) error
}

// Pause says why a run waits, in a form that may be logged.
type Pause uint8

// The reasons to wait.
const (
	PauseFile      Pause = iota // somebody has paused it
	ReplicaBehind               // a replica of the store is too far behind
	ReplicaUnknown              // it is not known how far a replica of the store is behind
	pauses                      // how many there are
)

// String returns "pause", "replica_behind" or "replica_unknown".
func (p Pause) String() string {
	return [...]string{"pause", "replica_behind", "replica_unknown"}[min(p, ReplicaUnknown)]
}

// Allow names the interlocks that a person has lifted knowingly for this run.
type Allow struct{ Items, Share, Missing, Clock bool }

// ParseAllow reads a list such as "items,share". The empty text allows nothing.
func ParseAllow(s string) (Allow, error) {
	var a Allow
	if s == "" {
		return a, nil
	}
	for name := range strings.SplitSeq(s, ",") {
		switch strings.TrimSpace(name) {
		case "items":
			a.Items = true
		case "share":
			a.Share = true
		case "missing":
			a.Missing = true
		case "clock":
			a.Clock = true
		default:
			return Allow{}, fmt.Errorf("unknown interlock %q: want items, share, missing or clock", name)
		}
	}
	return a, nil
}

// String returns the list that ParseAllow reads.
func (a Allow) String() string {
	var names []string
	for _, x := range []struct {
		set  bool
		name string
	}{{a.Items, "items"}, {a.Share, "share"}, {a.Missing, "missing"}, {a.Clock, "clock"}} {
		if x.set {
			names = append(names, x.name)
		}
	}
	return strings.Join(names, ",")
}

// InterlockCode says which interlock stopped a run.
type InterlockCode string

// The interlocks. Root, Future and Busy cannot be lifted, but for a root that is
// not the one which an unfinished run saw: Missing lifts that.
const (
	TooMany    InterlockCode = "items"   // more items than the rule's limit
	TooLarge   InterlockCode = "share"   // a larger share of the collection than the limit
	TooMissing InterlockCode = "missing" // too many parts are not there
	Clock      InterlockCode = "clock"   // a clock that jumped, or a store's clock that is off
	Root       InterlockCode = "root"    // a file root that could not be looked at, or is not mounted
	Future     InterlockCode = "future"  // a plan for an instant that has not come
	Busy       InterlockCode = "busy"    // another run is at work on this ledger
)

// Interlock is a run that was stopped before the first deletion.
type Interlock struct {
	Code InterlockCode
	Rule string // "" when it concerns the whole run
	// Store is the store it is about, "" when none.
	Store string
	// Have and Limit are what was found and what is allowed: items, parts per
	// million, or seconds, as the code says.
	Have, Limit int64
	Hint        string // what to type

	sinceRun bool // the clock was compared with the last run, not the newest entry
	other    bool // the root is not the one that an unfinished run saw
}

// Error says what stopped the run. It holds names of rules and stores and
// numbers only.
func (i *Interlock) Error() string {
	subject := ""
	if i.Rule != "" {
		subject = "rule " + i.Rule + ": "
	}
	switch i.Code {
	case TooMany:
		return fmt.Sprintf("%sthe plan takes %d items, the limit is %d", subject, i.Have, i.Limit)
	case TooLarge:
		return fmt.Sprintf("%sthe plan takes %s of the collection, the limit is %s", subject, percent(i.Have), percent(i.Limit))
	case TooMissing:
		return fmt.Sprintf("%s%s of the parts are missing, the limit is %s", subject, percent(i.Have), percent(i.Limit))
	case Clock:
		switch {
		case i.Store != "":
			return fmt.Sprintf("%sthe clocks of this host and of store %s are %s apart, the limit is %s", subject, i.Store, span(abs(i.Have)), span(i.Limit))
		case i.Have < 0:
			return fmt.Sprintf("the clock stands %s before the newest entry of the ledger, the limit is %s", span(-i.Have), span(i.Limit))
		case i.sinceRun:
			return fmt.Sprintf("the clock stands %s after the last run in the ledger, the limit is %s", span(i.Have), span(i.Limit))
		default:
			return fmt.Sprintf("the clock stands %s after the newest entry of the ledger, the limit is %s", span(i.Have), span(i.Limit))
		}
	case Root:
		if i.other {
			return fmt.Sprintf("%sthe root of store %s is not the directory in which an unfinished run was at work", subject, i.Store)
		}
		return fmt.Sprintf("%sthe root of store %s could not be looked at", subject, i.Store)
	case Future:
		return fmt.Sprintf("the plan is for an instant that has not come: it lies %s ahead", span(i.Have))
	case Busy:
		return "another run is at work on this ledger"
	default:
		return subject + "interlock " + string(i.Code)
	}
}

// percent writes parts per million as percent with at most two decimals.
func percent(ppm int64) string {
	s := fmt.Sprintf("%d.%02d", ppm/10000, ppm%10000/100)
	s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	return s + " %"
}

func abs(n int64) int64 { return max(n, -n) }

func span(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	if d >= 48*time.Hour || d <= -48*time.Hour {
		return fmt.Sprintf("%d days", int64(d/(24*time.Hour)))
	}
	return d.String()
}

// Report is what a run did. Everything in it that went is counted from outcomes
// that are in the ledger, never from what was attempted.
type Report struct {
	Run    string
	DryRun bool
	// PlanDigest and PolicyHash are what was carried out.
	PlanDigest, PolicyHash [32]byte
	AsOf                   time.Time
	Started, Finished      time.Time
	Rules                  []RuleReport
	// Resumed counts the items of earlier runs that were settled. They are
	// counted in their rules too.
	Resumed int64
	// Incidents counts what a person must look at.
	Incidents int64
	// Open counts the intents that are still without an outcome.
	Open int64
	// Interrupted says that the run was asked to end before it was through.
	Interrupted bool
	// Stops are the interlocks that stopped the run, or would stop it when it
	// was a dry run.
	Stops []*Interlock
}

// Errors is the sum over all rules.
func (r *Report) Errors() int64 {
	var n int64
	for i := range r.Rules {
		n += r.Rules[i].Errors
	}
	return n
}

// Unknown is the sum over all rules.
func (r *Report) Unknown() int64 {
	var n int64
	for i := range r.Rules {
		n += r.Rules[i].Unknown
	}
	return n
}

// MaxFailures is how many failures of a rule a report names.
const MaxFailures = 10

// Failure is an item that was to go and could not. It holds nothing of a person.
type Failure struct {
	Item      string // an id that tells nothing, else a short keyed hash
	Reason    connector.Reason
	ErrorType string // of the error behind it; empty when there was none
}

// RuleReport is what a run did for one rule. In a dry run Gone, PartsGone and
// Bytes are what would go, and Set what would be set.
type RuleReport struct {
	Rule  string
	Kind  string
	Store string
	// StoreKind tells records (rows) from files and objects.
	StoreKind policy.StoreKind
	Enabled   bool
	Retain    policy.Period
	Cutoff    time.Time

	Total, Due, Undated int64 // as planned
	Gone                int64 // items seen to be gone, erased by us
	// Keeps says that the rule sets its rows instead of erasing them. Set counts
	// those seen to be there and set by us, after their parts were gone.
	Keeps bool
	Set   int64
	// Missing counts items of the plan that were gone already when their turn
	// came, by somebody else's hand. They are not deletions.
	Missing int64
	// Kept counts the items that stay, by reason: those the plan kept back and
	// those refused when their turn came.
	Kept map[connector.Reason]int64
	// Drift counts the items of the plan that were not any more what the plan
	// said, by reason. They are in Kept or Missing too.
	Drift   map[connector.Reason]int64
	Unknown int64 // items of which we cannot say whether they are there
	// Errors counts the items that were to go and could not, the unknown ones
	// among them, and one for a store that could not be looked at.
	Errors       int64
	PartsGone    int64 // parts seen to be gone, erased by us; one for each blob
	ObjectsGone  int64 // those of PartsGone that were in object stores
	PartsShared  int64 // parts that a surviving row still references
	PartsMissing int64 // parts that were not there; not deletions
	Bytes        int64 // of the items and parts that are gone
	// Items is how many the plan would take.
	Items int64
	Rows  []connector.Count
	// Resumed counts the items of earlier runs among these.
	Resumed int64
	// Unreadable and ErrorType are the plan's word on a store that could not be
	// looked at.
	Unreadable connector.Reason
	ErrorType  string
	// Failures are the first items that were to go and could not, at most
	// [MaxFailures]: those that the plan could not take, then those of the run.
	Failures []Failure
	// Done says that the whole of the rule's plan was carried out.
	Done bool
	// OldestDue is the plan's: the earliest anchor among all due items.
	OldestDue time.Time
}
