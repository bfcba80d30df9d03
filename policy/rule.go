// Package policy reads epitaph.yaml and says when an item may and must go. It
// is pure: it reads no clock, opens no store and touches no file but the ones
// it is given.
package policy

import (
	"time"

	"github.com/epitaph/epitaph/connector"
)

// Policy is one policy file, checked and with its variables filled in.
type Policy struct {
	// Path is the file's name as given, for messages.
	Path   string
	Ledger string // DSN: "sqlite:epitaph.db" (relative to the file's folder) or "postgres://…"
	Stores []Store
	Rules  []Rule
	Limits Limits
	// Schedule is a five-field cron expression, checked; empty when not given.
	Schedule string
	// Zone is where Schedule is read; UTC when not given.
	Zone *time.Location
	// Hash is the SHA-256 of the policy's canonical form with variables filled
	// in and credentials taken out. Two spellings of one policy have one hash.
	Hash [32]byte
}

// StoreKind says what a store holds.
type StoreKind string

// The kinds of store.
const (
	Rows    StoreKind = "rows"
	Files   StoreKind = "files"
	Objects StoreKind = "objects"
)

// Store is one database, directory or object store.
type Store struct {
	Name string
	Kind StoreKind
	// Target is the DSN of a database, the root directory of a file store, or
	// the bucket URL of an object store. It may hold a credential: never print.
	Target string
	// Mount requires a file root to be a mount point; Marker requires a file of
	// that name directly below it. Without them an unmounted root that left an
	// empty directory behind cannot be told from an empty one.
	Mount  bool
	Marker string
	// CrossMounts lets scans of a file store enter other file systems.
	CrossMounts bool
	// Options are the settings only one kind of store knows ("endpoint",
	// "region", "path_style", …), checked against a closed list when parsed.
	Options map[string]string
	Pos     Pos
}

// Rule says what is kept, for how long, and what goes with it.
type Rule struct {
	Name    string
	Purpose string
	// Kind is the field's word for the items: "record" for rows, "file" for
	// files, "object" for objects unless the rule says otherwise ("export",
	// "log", "session", …). It names log events and summary lines.
	Kind       string
	Enabled    bool
	Retain     Period
	Store      string    // the root's store
	StoreKind  StoreKind // of that store
	Collection string    // table, glob or prefix, without the store
	Anchor     connector.Anchor
	Where      string
	Hold       string
	InUse      string
	Parts      []Part
	Links      []connector.Link
	Limits     Limits // the policy's, with the rule's own on top
	Pos        Pos
}

// Part is a template for the files or objects that go with an item.
type Part struct {
	Kind StoreKind // Files or Objects
	// Store is the store's name as a template: "disk", or with references.
	Store Template
	// Path is the locator as a template.
	Path Template
	// Want is what the templates need of the record: their references in the
	// order in which they appear, store first, with referenced_by and when.
	Want connector.Want
	Pos  Pos
}

// Template is text with references: "files/{audio_assets.sha256}.bin".
type Template struct {
	// Literals has one element more than Refs; the text is l0 r0 l1 r1 … ln.
	Literals []string
	Refs     []connector.Ref
}

// Limits are the interlocks of a run. The zero value of a field means that the
// policy gives none and the default holds.
type Limits struct {
	Items int64 // most items one run may take of one rule; default 10000
	Share Share // most of a rule's collection one run may take; default 25 %
	// Missing is the most of a rule's parts that may be missing before the run
	// stops: a wrong template or root looks just like that. Default 50 %, and
	// never for fewer than ten parts.
	Missing Share
	// ClockJump is the longest silence since the ledger's newest entry that is
	// believed without a person's word. Default 45 days.
	ClockJump Period
}

// Share is a share in parts per million: 25 % is 250000.
type Share int64

// Pos is a place in the policy file, counted from 1.
type Pos struct{ Line, Column int }

// Decision is what a rule says of one item at one instant.
type Decision struct {
	// Due reports that the retention period is over. It says nothing of holds.
	Due bool
	// Reason is Eligible when the item may go; NotDue, Undated, Held, InUse or
	// Invalid when it stays.
	Reason connector.Reason
	// DueAt is the first instant at which the item is due, zero when undated.
	DueAt time.Time
}
