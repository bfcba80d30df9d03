// Package ledger is the append-only record of what Epitaph did: every run,
// heartbeat, intent, outcome and incident is an entry, numbered from 1 without
// gaps, and the entry numbered n is leaf n-1 of a Merkle tree.
//
// # What an entry may hold
//
// An entry holds no personal data in the clear. Its facts are of a closed set
// of safe types. Everything that could tell of a person — locators, names of
// actors, texts — is sealed: the entry holds a salted hash of it, and the
// text itself lies apart, where it can be destroyed without changing the entry.
package ledger

import "time"

// Kind says what an entry records. Kinds are part of the format.
type Kind string

// The kinds of entry.
const (
	RunStarted  Kind = "run.started"
	RunFinished Kind = "run.finished"
	Heartbeat   Kind = "heartbeat" // one rule was evaluated, also when nothing was due
	Intent      Kind = "intent"    // a batch is about to be disposed of
	Outcome     Kind = "outcome"   // what became of the batch of an intent
	Incident    Kind = "incident"  // something a person must look at

	// The kinds that stand for files which applications register. Each item is
	// an operation, with its fields in Values.
	CustodyOperations Kind = "custody.operations" // what applications say they did
	CustodyLooks      Kind = "custody.looks"      // what was seen of due clean-ups, and tried
	CustodyWord       Kind = "custody.word"       // a person's word that a clean-up is done

	// The kinds the ledger itself appends.
	SealedOff  Kind = "ledger.sealed-off" // sealed texts were destroyed
	Pruned     Kind = "ledger.pruned"     // a prefix of the ledger was let go
	Forked     Kind = "ledger.forked"     // history was lost, and someone said why
	Copied     Kind = "ledger.copied"     // the ledger was moved here from another database
	KeyRotated Kind = "ledger.key"        // another key signs checkpoints from here on
)

// Entry is one act. An entry with Items or Results stands for a batch; each
// item in it can be proven alone, as a leaf of the batch's own small tree.
type Entry struct {
	// Number is given by Append: 1 for the first entry. 0 before.
	Number int64
	At     time.Time // UTC, microseconds; Append fills in its clock's when zero
	Kind   Kind
	Run    string // id of the run, "" outside of one
	Rule   string // name of the rule, "" when it concerns none
	Store  string // name of the store, "" when it concerns none
	// Refers is the number of the entry this one answers: an outcome its intent,
	// a finish its start. 0 for none.
	Refers int64
	// Facts are public, and each name occurs once.
	Facts []Fact
	// Secrets are sealed texts: the actor, a reason a person gave.
	Secrets []Secret
	// Items are sealed; with Kind Intent.
	Items []Item
	// Results are public codes, one for each item of the intent referred to, in
	// its order; with Kind Outcome.
	Results []Result
	// Count is the number of Items or Results of the batch. It is public, and
	// filled when an entry is read, also where the items themselves are not.
	Count int
}

// Fact is one public statement. The constructors Int, Instant, Code and Hash
// are the only way to make one.
type Fact struct {
	name string
	kind factKind
	n    int64
	at   time.Time
	code string
	hash [32]byte
}

type factKind uint8

const (
	factInt factKind = iota + 1
	factInstant
	factCode
	factHash
)

// Secret is a named text that is committed to but kept apart.
type Secret struct {
	Name, Text string
	// SealedOff is set when an entry is read whose text was destroyed.
	SealedOff bool
}

// Item is one unit of disposal with its parts, as an intent names it. All of
// it is sealed.
type Item struct {
	ID      string // the connector's safe id, or "" where there is none
	Locator string
	Print   string
	Anchor  time.Time
	Bytes   int64
	// Values are what the record said of its parts when the intent was written,
	// by kind of part, tuple and value, so that an intent finished later can
	// still tell whether the record has changed. Nil when there were none.
	Values [][][]string
	Parts  []Part
	// SealedOff is set when an entry is read whose item was destroyed; all
	// other fields are empty then.
	SealedOff bool
}

// Part is a file or object that goes with an item.
type Part struct {
	Store   string
	Locator string
	// Print is the version that was seen and may be erased; empty when the part
	// was not there.
	Print string
	Bytes int64
	// Gone reports a part that an earlier outcome already recorded as erased:
	// the item is handed on because the rest of it is still to go. Such a part is
	// not counted again.
	Gone bool
}

// Result is what became of one item and its parts.
type Result struct {
	State  State
	Reason string // a reason code, such as "GONE" or "CHANGED"
	Parts  []PartResult
}

// PartResult is what became of one part, in the order of Item.Parts.
type PartResult struct {
	State  State
	Reason string
}

// State is what was known of a thing when the entry was written.
type State uint8

// The three states. Their values are part of the format.
const (
	Unknown State = 0
	Present State = 1
	Gone    State = 2
)
