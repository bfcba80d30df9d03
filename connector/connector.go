// Package connector is the seam between Epitaph and the stores that hold
// sensitive data. It declares what the engine needs of a store — find, look,
// claim, erase — and the words both sides use. It does no I/O of its own.
//
// # The one rule
//
// A connector never states that something is gone without having looked.
// The zero [State] is [Unknown], so that forgetting to look never reads as
// success. A store that is unreachable, unmounted, denied or failing to list
// answers Unknown for every item it was asked about.
//
// # Lists
//
// Every method that takes a list answers with one result for each element, in
// the order of the list, also when the store is down. A failure of one element
// never changes the answer for another.
//
// The package connectortest holds this contract as a test suite.
package connector

import (
	"context"
	"iter"
	"time"
)

// Connector is one store: a database, a directory tree, a bucket.
//
// All methods may be called concurrently. All instants are UTC. A context that
// ends makes the answers that are still missing Unknown; answers that were
// already observed stand.
type Connector interface {
	// Check proves, without any effect, that the store can be reached and that
	// q can be run on it: every table, column, link and reference exists. The
	// error is for a store that could not be looked at; what is wrong with q is
	// a Finding.
	Check(ctx context.Context, q *Query) ([]Finding, error)

	// Scan streams the items of the collection whose anchor lies before
	// q.Cutoff, and those without an anchor. The same data gives the same
	// order. s is complete once the sequence has ended without an error. An
	// error ends the sequence: what was yielded before stands, but the scan is
	// not complete and no conclusion may be drawn from what is absent.
	Scan(ctx context.Context, q *Query, s *Survey) iter.Seq2[Item, error]

	// Probe looks at each locator and changes nothing. Present carries the
	// fingerprint; Gone with reason Missing means that the store was looked at
	// and the thing is not there; all else is Unknown.
	Probe(ctx context.Context, at []Locator) []Result

	// Claim takes hold of the items and checks them again under the store's own
	// lock: still there, still due, still the same, held by nobody, and able to
	// go. What can be rehearsed is rehearsed: rows are deleted inside the
	// transaction that Erase commits, so that an item the store would refuse is
	// refused here, before any part of it has been touched. The result of a
	// claimed item is Present with reason Eligible; every other result means
	// that the item is not claimed and says why: Set, with Query.Then, that its
	// row has those values already. The claim is never nil, must be released, and
	// may be used by one goroutine at a time.
	Claim(ctx context.Context, q *Query, items []Item) (Claim, []Result)
}

// Claim is the right to erase the items that were claimed.
type Claim interface {
	// Erase erases the claimed items at the given indexes of the claimed list
	// and looks again. It is called at most once. Results are in the order of
	// which; Gone means seen to be gone after a durable erasure. With Query.Then
	// the rows are set instead, and Present with reason Set means seen to be there
	// with those values after a durable update. An index that was not claimed is
	// answered Unknown and left alone.
	Erase(ctx context.Context, which []int) Erased

	// Holds looks whether the claim stands: an error says that what was claimed may
	// have been let go, as by a server that ended the connection, and changed by
	// others since. Nothing of it can be erased then. A store without locks of its
	// own, which looks again at each thing that it erases, answers nil.
	Holds(ctx context.Context) error

	// Release lets go of all that was not erased, leaving it as it was. It is
	// idempotent, and safe after Erase.
	Release() error
}

// Erased is what an Erase did.
type Erased struct {
	Results []Result
	// Rows counts the rows that went, by table, children and root alike, in
	// table order. Nil for stores without tables.
	Rows []Count
}

// Count is a number of rows of one table. A table name is not personal data.
type Count struct {
	Table string
	N     int64
}

// Locator names one thing in one store. It is opaque to everyone but the
// connector that made it: a path below the root, a primary key, an object key.
// Equal locators name the same thing. A locator is personal data: it never
// reaches a log, metric, error text or ledger entry in the clear.
type Locator string

// Fingerprint says which version of a thing was seen, so that another version
// is never erased in its place: inode, size and modification time of a file;
// ETag and version of an object. It is compared for equality only. Empty means
// that none was seen.
type Fingerprint string

// State is what is known of a thing.
type State uint8

// The three states. Unknown is the zero value on purpose.
const (
	Unknown State = iota // not looked at, or the look failed
	Present              // looked at, and there
	Gone                 // looked at, and not there
)

// String returns "unknown", "present" or "gone".
func (s State) String() string {
	switch s {
	case Present:
		return "present"
	case Gone:
		return "gone"
	default:
		return "unknown"
	}
}

// Reason is a stable code that says why a thing is in its state or was left
// alone. Reasons are safe to log.
type Reason string

// The reason codes. They are part of the ledger format and never change
// meaning.
const (
	Eligible     Reason = "ELIGIBLE"      // due, and nothing stands against it
	Held         Reason = "HELD"          // a hold keeps it
	Shared       Reason = "SHARED"        // a surviving row still references it
	InUse        Reason = "IN_USE"        // active, or locked by someone else
	Changed      Reason = "CHANGED"       // not the version that was seen
	Undated      Reason = "UNDATED"       // no anchor: its clock never started
	NotDue       Reason = "NOT_DUE"       // no longer before the cutoff, or outside the predicate
	LockedUntil  Reason = "LOCKED_UNTIL"  // the store keeps it until Result.Until
	NoPermission Reason = "NO_PERMISSION" // the store denies us
	Unreachable  Reason = "UNREACHABLE"   // the store could not be looked at
	Invalid      Reason = "INVALID"       // the record names something no store may hold, such as a path out of the root
	Refused      Reason = "REFUSED"       // the store refused to let it go (constraint, trigger, immutable file)
	Missing      Reason = "MISSING"       // not there when first looked for; nobody here erased it
	Erasure      Reason = "GONE"          // erased by us, and seen to be gone
	Set          Reason = "SET"           // the row stays, and has the values of Query.Then
)

// Result is what is known of one thing after a look or an act.
type Result struct {
	State  State
	Reason Reason
	Print  Fingerprint // when Present
	Bytes  int64       // size as seen; 0 when not known
	Until  time.Time   // with LockedUntil: the first instant at which it may go
	// Err is the cause when something failed. Its text may hold personal data:
	// only its type may be shown.
	Err error
	// Kept is filled by Claim for items with values: Kept[w][k] reports that the
	// thing named by Item.Values[w][k] is still referenced by a row that
	// survives this claim and must stay (reason Shared). Nil means none. Rows that
	// Query.Then keeps count as if the items went: what belongs to a claimed item
	// needs nothing any more. A store that can tell fills it for items that are
	// Gone too, for whoever finishes the work of a run that was cut off.
	Kept [][]bool
}

// Item is a unit of disposal as the store knows it: one row, file or object.
type Item struct {
	Locator Locator
	// ID is set where the locator can be shown without telling anything of a
	// person: an integer or UUID primary key. Otherwise it is empty.
	ID     string
	Anchor time.Time // UTC; zero when undated
	Bytes  int64     // size of a file or object; 0 for a row
	Print  Fingerprint
	Held   bool // Query.Hold matched
	InUse  bool // Query.InUse matched
	// Until is the instant until which the store keeps the item, whatever the
	// policy says; zero when it does not.
	Until time.Time
	// Values[w] are the distinct tuples for Query.Wants[w], in a stable order:
	// one for each child or linked row, and each element of a JSON array. A
	// tuple with a NULL or empty value is left out.
	Values [][]Tuple
	// Err reports an item that was found but whose values cannot be read (a
	// JSON column that holds no array, say), or that nothing can name again (a
	// row whose key is NULL). Such an item is Invalid and stays.
	Err error
}

// Tuple holds one value for each Ref of a Want, as text.
type Tuple []string

// Query says what to find in a store, in the words of a policy rule. It is
// built once for each rule and run, shared by pointer, and never changed: a
// connector may keep what it derives from it, under the pointer.
type Query struct {
	// Collection is a table ("transcripts", "recorder.transcripts"), a glob
	// below the root ("export-*.zip", "logs/**/*.json"), or a key prefix.
	Collection string
	Anchor     Anchor
	// Cutoff is frozen for the run: an item is due when its anchor lies
	// strictly before it.
	Cutoff time.Time
	// Where, Hold and InUse are the operator's own SQL conditions on the root
	// table; empty when not given. Connectors without SQL refuse them in Check.
	Where, Hold, InUse string
	// Wants are the values from which the parts in other stores are named.
	Wants []Want
	// Links are the rows of the same database that go with the item though no
	// cascading foreign key says so.
	Links []Link
	// Then, unless empty, keeps the root rows: Erase sets these columns instead of
	// deleting anything, and no row of another table goes either. A row that has
	// all these values already is no item: Scan passes over it and does not count
	// it, and Claim answers Set. Connectors without tables refuse it.
	Then []Setting
	// CrossMounts lets a file scan enter other file systems below the root.
	CrossMounts bool
}

// Setting is a column of the root with the value it is to have.
type Setting struct {
	Column string
	Value  Value
}

// ValueKind says what a Value is.
type ValueKind uint8

// The kinds of value.
const (
	NullValue   ValueKind = iota // NULL; the zero Value
	BoolValue                    // Text is "true" or "false"
	NumberValue                  // Text is a decimal number without exponent: "-12.50"
	TextValue                    // Text is the text
	// NowValue is the instant of the claim. A column that holds any instant has
	// it already.
	NowValue
)

// Value is a constant, or the present instant.
type Value struct {
	Kind ValueKind
	Text string
	// Zone, with NowValue, is the zone of the wall clock that a column without a
	// zone of its own gets. Nil: the column must carry its own, or be text, which
	// then gets one.
	Zone *time.Location
}

// AnchorKind says where the instant that starts an item's clock is read.
type AnchorKind uint8

// The kinds of anchor.
const (
	AnchorColumn   AnchorKind = iota // a timestamp, date or text column
	AnchorModified                   // modification time of a file, last-modified of an object
	AnchorName                       // a date inside the base name, by Layout
	AnchorTag                        // a date or instant in an object's tag
)

// Anchor is the timestamp that starts the clock.
type Anchor struct {
	Kind   AnchorKind
	Column string // with AnchorColumn
	// Layout, with AnchorName, is a pattern of literal text, * and the
	// elements YYYY MM DD hh mm ss, matched against the whole base name, such
	// as "app-YYYY-MM-DD*.log". The instant is the end of the smallest element
	// given, so that a file for a day is never taken before that day is over.
	Layout string
	// Tag, with AnchorTag, is the key of the object tag that holds an RFC 3339
	// instant, or a date YYYY-MM-DD, which stands for the end of that day.
	Tag string
	// Zone is the zone of a naive value. Nil means that the value must carry
	// its own zone; a naive one is then a Finding.
	Zone *time.Location
}

// Ref names one value of a record.
type Ref struct {
	// Table is empty for the root; otherwise a table that has exactly one
	// foreign key to the root, or that is the target of one, or is in Links.
	Table  string
	Column string
	// Each takes every element of the JSON array that the column holds
	// ("track_keys[*]"). Path leads to it ("meta.audio.keys[*]").
	Each bool
	Path []string
}

// Column names a column of a table of the same database.
type Column struct {
	Table, Column string
	// Each says that the column holds JSON arrays, of whose elements each is such a
	// value. It is told of ReferencedBy of a Want only; where the column is of type
	// JSON, it need not be.
	Each bool
}

// Want asks for the values that name one kind of part. All refs outside the
// root belong to one table, so that a tuple comes from one row.
type Want struct {
	Refs []Ref
	// ReferencedBy are further columns that hold the same value as the only Ref:
	// where a surviving row still has it, the part stays (Shared). A surviving
	// row of the Ref's own table counts always, without being listed.
	ReferencedBy []Column
	// Also are rows that name the same things in other words, and count like
	// those of ReferencedBy.
	Also []Also
	// When is the operator's SQL condition on the root: a root row that does not
	// match yields no tuples for this want. Empty: always.
	When string
}

// Also says that rows of another table, or other columns, may name the thing that
// a tuple of a Want names.
type Also struct {
	// Refs give the tuple by which such a row names a thing. All are of one table,
	// which each of them names. One that does not exist names nothing.
	Refs []Ref
	// Of returns the tuple with which Refs would name the thing that t names, with
	// one value for each; false when they cannot. It is a pure function.
	Of func(t Tuple) (Tuple, bool)
}

// Link is a table whose rows go with the item. Without On, the single foreign
// key between Table and the root is meant, in either direction. A linked row
// stays while a surviving row still needs it, by foreign key or by the On
// columns of another root row.
type Link struct {
	Table string
	On    []Pair
	// Where restricts which linked rows go; the operator's SQL on Table.
	Where string
	// ReferencedBy are further columns that name a linked row without a foreign
	// key, by the value of the only On column: while a surviving row has it, the
	// linked row stays.
	ReferencedBy []Column
}

// Pair equates a column of the linked table with one of the root, or of an
// earlier link.
type Pair struct {
	Column Column // of the linked table
	Equals Column // of the root or an earlier link
}

// Survey is what a scan learned of its collection besides the items.
type Survey struct {
	Total int64     // items in the collection, due or not
	Clock time.Time // the store's own clock, where it has one
}

// Severity grades a finding.
type Severity uint8

// The severities: a Warning lets the run go on, a Fault does not.
const (
	Warning Severity = iota
	Fault
)

// Finding is something Check noticed about a query. Subject, Text and Hint name
// tables, columns and settings only, never values.
type Finding struct {
	Severity Severity
	Subject  string // what of the query it is about: "anchor", "where", "parts[2]", "links[0]", "then", "collection"
	Text     string // what is wrong, lower case, no full stop
	Hint     string // what to type
	// Cause is why a store could not be looked at, and nil otherwise. Its text may
	// hold anything: it tells one cause from another, and is not for printing.
	Cause error
}
