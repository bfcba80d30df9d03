// Package policy reads epitaph.yaml and says when an item may and must go. It
// is pure: it reads no clock, opens no store and touches no file but the ones
// it is given.
package policy

import (
	"cmp"
	"math"
	"path"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// Policy is one policy file, checked and with its variables filled in.
type Policy struct {
	// Path is the file's name as given, for messages.
	Path   string
	Ledger string // DSN: "sqlite:epitaph.db" (relative to the file's folder) or "postgres://…"
	// LedgerOptions and Checkpoints are about the ledger; they are not part of Hash,
	// for they decide nothing about the data.
	LedgerOptions LedgerOptions
	Checkpoints   Checkpoints
	Stores        []Store // in the order of the file
	Rules         []Rule  // in the order of the file
	// Custody is what is said of tracked files.
	Custody Custody
	// Limits has the defaults filled in.
	Limits Limits
	// Enabled is the switch of the whole policy. When it is off, every rule is.
	Enabled bool
	// DryRun makes a purge show what it would do and touch nothing, unless the
	// command line says --dry-run=false.
	DryRun bool
	// Schedule is a five-field cron expression, checked; empty when not given.
	Schedule string
	// Zone is where Schedule is read; UTC when not given.
	Zone     *time.Location
	schedule schedule
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
	// Shared says that the directory is the same from every host with this policy,
	// so that tracked files in it can be looked at from each.
	Shared bool
	// Options are the settings only one kind of store knows ("endpoint",
	// "region", "path_style", …), checked against a closed list when parsed.
	Options map[string]string
	// Pace is what the store is spared while a purge is at work.
	Pace Pace
	Pos  Pos
}

// Rule says what is kept, for how long, and what goes with it.
type Rule struct {
	Name    string
	Purpose string
	// Kind is the field's word for the items: "record" for rows, "file" for
	// files, "object" for objects unless the rule says otherwise ("export",
	// "log", "session", …). It names log events and summary lines.
	Kind string
	// Enabled is false when the rule or the whole policy is switched off; Off
	// then says by which line and variable, for people: "enabled on line 31
	// (variable PUBLIC_MODE)".
	Enabled    bool
	Off        string
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
	// LinkKinds are the words for the rows of Links, in their order, under which a
	// summary counts them; "" for those that it only counts by table.
	LinkKinds []string
	// Then, unless empty, keeps the rows of the rule and those of Links, and sets
	// these columns when the parts are gone, in the order of their names.
	Then []connector.Setting
	// CrossMounts is that of the rule's store.
	CrossMounts bool
	Limits      Limits // the policy's, with the rule's own on top and defaults filled in
	Pos         Pos
	// places are where the file says what a finding is about; see Place.
	places map[string]Pos
}

// Place returns where the policy says what the subject of a [connector.Finding]
// is about, such as "anchor" or "parts[2]"; the rule's own place where it has
// none.
func (r *Rule) Place(subject string) Pos {
	if at, ok := r.places[subject]; ok {
		return at
	}
	return r.Pos
}

// place keeps where the file says what subject is about.
func (r *Rule) place(subject string, at Pos) {
	if r.places == nil {
		r.places = make(map[string]Pos)
	}
	r.places[subject] = at
}

// Part is a template for the files or objects that go with an item.
type Part struct {
	Kind StoreKind // Files or Objects
	// Store is the store's name as a template: "disk", or with references.
	Store Template
	// Path is the locator as a template. A path of files that ends in a slash
	// names a directory with all that is in it; see Tree.
	Path Template
	// Tree reports that Path names a whole directory.
	Tree bool
	// Buckets and Patterns tell, where Store has references, which store holds
	// the bucket that a record names; see Place. A record that names a bucket of
	// no store is Invalid: a row must not be able to send a deletion anywhere.
	Buckets map[string]string
	// Patterns are those of the stores that name no bucket of their own.
	Patterns []BucketPattern
	// Want is what the templates need of the record: their references in the
	// order in which they appear, store first, with referenced_by and when.
	Want connector.Want
	Pos  Pos
}

// BucketPattern is a pattern of [path.Match] for the names of the buckets that a
// store without a bucket of its own may touch.
type BucketPattern struct{ Pattern, Store string }

// Template is text with references: "files/{audio_assets.sha256}.bin".
type Template struct {
	// Literals has one element more than Refs; the text is l0 r0 l1 r1 … ln.
	Literals []string
	Refs     []connector.Ref
}

// Limits are the interlocks of a run. In a parsed policy every field is set;
// elsewhere the zero value of a field means that the default holds.
type Limits struct {
	Items int64 // most items one run may take of one rule; default 10000, Unlimited for no limit
	Share Share // most of a rule's collection one run may take; default 25 %
	// Missing is the most of a rule's parts that may be missing before the run
	// stops: a wrong template or root looks just like that. Default 50 %, and
	// for fewer than ten only where there are two or more parts and none is there.
	Missing Share
	// ClockJump is the longest silence since the ledger's last run that is
	// believed without a person's word. Default 45 days.
	ClockJump Period
}

// Unlimited is the value of Limits.Items that no count exceeds.
const Unlimited = math.MaxInt64

// DefaultLimits returns the limits of a policy that gives none.
func DefaultLimits() Limits {
	return Limits{Items: 10_000, Share: 250_000, Missing: 500_000, ClockJump: Period{Days: 45}}
}

// Or returns l with every field that is not set taken from other.
func (l Limits) Or(other Limits) Limits {
	return Limits{
		Items:     cmp.Or(l.Items, other.Items),
		Share:     cmp.Or(l.Share, other.Share),
		Missing:   cmp.Or(l.Missing, other.Missing),
		ClockJump: cmp.Or(l.ClockJump, other.ClockJump),
	}
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

// Rule finds a rule by name.
func (p *Policy) Rule(name string) (*Rule, bool) {
	for i := range p.Rules {
		if p.Rules[i].Name == name {
			return &p.Rules[i], true
		}
	}
	return nil, false
}

// Store finds a store by name.
func (p *Policy) Store(name string) (*Store, bool) {
	for i := range p.Stores {
		if p.Stores[i].Name == name {
			return &p.Stores[i], true
		}
	}
	return nil, false
}

// Place returns the store that holds the part, given Part.Store with its
// references filled in, and what stands before the part's path there. A name
// without references is the store itself. A bucket that a record names is in the
// store that declares exactly it; else in the only store without a bucket of its
// own that has a pattern for it, where the bucket stands before the key. False:
// no store holds it, or more than one may.
func (p *Part) Place(filled string) (store, prefix string, ok bool) {
	if len(p.Store.Refs) == 0 {
		return filled, "", true
	}
	if name, ok := p.Buckets[filled]; ok {
		return name, "", true
	}
	for _, b := range p.Patterns {
		if match, _ := path.Match(b.Pattern, filled); !match || b.Store == store {
			continue
		}
		if store != "" {
			return "", "", false
		}
		store = b.Store
	}
	return store, filled + "/", store != ""
}
