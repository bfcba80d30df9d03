package custody

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody/words"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
)

// Ref names an object of the application, such as data-file 123.
type Ref struct{ Kind, ID string }

// String writes the reference as KIND:ID, and nothing for none.
func (r Ref) String() string {
	if r == (Ref{}) {
		return ""
	}
	return r.Kind + ":" + r.ID
}

// Operation is one thing that an application did with one file. Only Action and
// Path are needed.
type Operation struct {
	Action string
	// Path is that of the file, made absolute and resolved when it is tracked; or
	// STORE:LOCATOR, with the name of a store. Of a path, links on the way are
	// followed once, at that time.
	Path string
	// From is where a moved file was before, for the record.
	From string
	At   time.Time // when it happened; zero for now. UTC, microseconds.

	Scope    string // a cohort, a tenant
	Actor    string // who had it done
	FileType string
	// Size is what the application says; 0 when it says nothing. What is seen on
	// disk counts more.
	Size    int64
	Hash    [32]byte // SHA-256 of the content; zero when not known
	Ref     Ref
	Purpose string // the sub-directory by purpose

	Transferred            int64
	StreamStart, StreamEnd time.Time

	// Host, Role and Owner default to those of the Custody.
	Host, Role string
	Owner      owner.Process

	Error     string // the text of an error; sealed
	ErrorType string
	Meta      json.RawMessage // one JSON object, or nil

	// To names the host to which the file goes, and after a slash the store in which
	// it is to lie there: a claim that the other side acknowledges. It is for
	// operations of kind Sent and Left, and needs Hash and Size. Due is then by when
	// the other side must have acknowledged, a day when it is not given.
	To string

	// Required says that the file must be cleaned up; Due and Temporary actions
	// imply it. Due is when it must be gone, Scheduled when the application means
	// to do it.
	Required       bool
	Due, Scheduled time.Time
}

// Refused says why an operation cannot be tracked. Its text names no value but
// the unknown action.
type Refused struct{ Text, Hint string }

// Error says what is wrong with the operation.
func (r *Refused) Error() string { return r.Text }

func refuse(text, hint string) *Refused { return &Refused{Text: text, Hint: hint} }

// Bounds of what an operation may hold.
const (
	mostPath = 4096
	mostText = 64 << 10
)

// check reports what about the operation cannot be recorded.
func (o *Operation) check(v *Vocabulary) (Action, error) {
	a, ok := v.Find(o.Action)
	if !ok {
		if !utf8.ValidString(o.Action) || len(o.Action) > 128 {
			return a, refuse("the action is not a word", "the actions are listed by: epitaph track --list")
		}
		hint := "the actions are listed by: epitaph track --list"
		if near := v.Nearest(o.Action); len(near) > 0 {
			hint = "did you mean " + strings.Join(near, " or ") + "?"
		}
		return a, refuse(fmt.Sprintf("unknown action %q", o.Action), hint)
	}
	if err := o.checkTo(a); err != nil {
		return a, err
	}
	for _, t := range []string{o.Scope, o.Actor, o.FileType, o.Ref.Kind, o.Ref.ID, o.Purpose, o.Host, o.Role, o.Error, o.ErrorType, string(o.Meta)} {
		if len(t) > mostText {
			return a, refuse("a text of more than 64 KB", "keep long texts where they belong, and give a reference")
		}
	}
	for _, t := range []time.Time{o.At, o.StreamStart, o.StreamEnd, o.Due, o.Scheduled} {
		if y := t.UTC().Year(); y < 1 || y > 9999 {
			return a, refuse("an instant outside of the years 1 to 9999", "write it as 2027-01-31T12:00:00Z")
		}
	}
	if o.Size < 0 || o.Transferred < 0 {
		return a, refuse("a negative number of bytes", "leave out what is not known")
	}
	if len(o.Meta) > 0 {
		var m map[string]any
		if err := json.Unmarshal(o.Meta, &m); err != nil {
			return a, refuse("the metadata is not a JSON object", `write {"key": "value"}`)
		}
	}
	if (a.Kind.Ends() || a.Kind == Sent) && o.To == "" && (o.Required || !o.Due.IsZero()) {
		return a, refuse("an operation of kind "+a.Kind.String()+" cannot be due", "give --due where the file comes into being")
	}
	return a, nil
}

// stage tells a reservation and its commit from an operation that was complete.
type stage string

const (
	whole     stage = ""
	reserved  stage = "reserved"
	committed stage = "committed"
	abandoned stage = "abandoned"
	seen      stage = "seen"    // a due clean-up was looked at, and the file is gone
	attempt   stage = "attempt" // a clean-up was tried, and the file is not known to be gone

	acknowledged stage = "acknowledged" // what was sent from another host is here
	differing    stage = "differs"      // something else than was sent is here
)

// done reports the stage of an operation that happened: a reservation is not done
// yet, or never.
func (s stage) done() bool {
	return s == whole || s == committed || s == acknowledged || s == differing
}

// sight is what was seen of the file when the operation was tracked.
type sight struct {
	state  connector.State
	reason connector.Reason
	print  connector.Fingerprint
	bytes  int64
}

// event is an operation as the ledger keeps it.
type event struct {
	Operation
	place
	sight
	// kind and work are those of the action when it was tracked, so that a reader
	// needs no vocabulary.
	kind    Kind
	work    string
	stage   stage
	answers string // id of the operation that this one answers
	known   int64  // of one that ends a file: the newest entry before it was looked at
	root    uint64 // the inode of the directory of the store in which the file was seen
	// sealedOff is set when the texts were destroyed: nothing else is known.
	sealedOff bool
}

// pair appends a named value if there is one.
func pair(values [][]string, name, value string) [][]string {
	if value == "" {
		return values
	}
	return append(values, []string{name, value})
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func instantText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMicro(), 10)
}

// item is the event as a sealed item. All of it could tell of a person.
func (e *event) item() ledger.Item {
	v := make([][]string, 0, 12)
	v = pair(v, "action", e.Action)
	if e.kind != 0 {
		v = pair(v, "kind", e.kind.String())
	}
	v = pair(v, "work", e.work)
	v = pair(v, "stage", string(e.stage))
	v = pair(v, "answers", e.answers)
	v = pair(v, "known", number(e.known))
	v = pair(v, "root", number(int64(e.root)))
	v = pair(v, "on", e.place.host)
	v = pair(v, "from", e.From)
	v = pair(v, "to", e.To)
	v = pair(v, "scope", e.Scope)
	v = pair(v, "actor", e.Actor)
	v = pair(v, "type", e.FileType)
	v = pair(v, "size", number(e.Size))
	if e.Hash != [32]byte{} {
		v = pair(v, "sha256", hex.EncodeToString(e.Hash[:]))
	}
	v = pair(v, "ref.kind", e.Ref.Kind)
	v = pair(v, "ref.id", e.Ref.ID)
	v = pair(v, "purpose", e.Purpose)
	v = pair(v, "transferred", number(e.Transferred))
	v = pair(v, "stream.start", instantText(e.StreamStart))
	v = pair(v, "stream.end", instantText(e.StreamEnd))
	v = pair(v, "host", e.Host)
	v = pair(v, "role", e.Role)
	v = pair(v, "owner.host", e.Owner.Host)
	v = pair(v, "owner.boot", e.Owner.Boot)
	v = pair(v, "owner.pid", number(int64(e.Owner.PID)))
	v = pair(v, "owner.start", number(e.Owner.Start))
	v = pair(v, "owner.space", number(e.Owner.Space))
	v = pair(v, "owner.lease", e.Owner.Lease.Path)
	v = pair(v, "owner.lease.file", e.Owner.Lease.File)
	v = pair(v, "error", e.Error)
	v = pair(v, "error.type", e.ErrorType)
	v = pair(v, "meta", string(e.Meta))
	if e.Required {
		v = pair(v, "required", "1")
	}
	v = pair(v, "due", instantText(e.Due))
	v = pair(v, "scheduled", instantText(e.Scheduled))
	v = pair(v, "seen", e.state.String())
	v = pair(v, "reason", string(e.reason))
	it := ledger.Item{Locator: e.name(), Print: string(e.print), Anchor: e.At, Bytes: e.bytes, Values: [][][]string{v}}
	if e.store != "" {
		it.Parts = []ledger.Part{{Store: e.store, Locator: string(e.at)}}
	}
	return it
}

// readEvent reads what item wrote. Names that it does not know are passed over,
// so that an older program reads what a newer one wrote.
func readEvent(it ledger.Item) event {
	if it.SealedOff {
		return event{sealedOff: true}
	}
	var e event
	e.At, e.print, e.bytes = it.Anchor, connector.Fingerprint(it.Print), it.Bytes
	e.Path = it.Locator
	if len(it.Parts) > 0 {
		e.store, e.at = it.Parts[0].Store, connector.Locator(it.Parts[0].Locator)
	}
	if strings.HasPrefix(it.Locator, "/") {
		e.abs = it.Locator
	}
	if len(it.Values) == 0 {
		return e
	}
	for _, p := range it.Values[0] {
		if len(p) == 2 {
			e.read(p[0], p[1])
		}
	}
	return e
}

func (e *event) read(name, v string) {
	if to := e.text(name); to != nil {
		*to = v
		return
	}
	switch name {
	case "sha256":
		_, _ = hex.Decode(e.Hash[:], []byte(v))
	case "meta":
		e.Meta = json.RawMessage(v)
	case "required":
		e.Required = true
	case "kind":
		e.kind, _ = words.KindNamed(v)
	case "seen":
		e.state = stateNamed(v)
	default:
		n, _ := strconv.ParseInt(v, 10, 64)
		e.number(name, n)
	}
}

func (e *event) text(name string) *string {
	switch name {
	case "action":
		return &e.Action
	case "work":
		return &e.work
	case "stage":
		return (*string)(&e.stage)
	case "answers":
		return &e.answers
	case "on":
		return &e.place.host
	case "from":
		return &e.From
	case "to":
		return &e.To
	case "scope":
		return &e.Scope
	case "actor":
		return &e.Actor
	case "type":
		return &e.FileType
	case "ref.kind":
		return &e.Ref.Kind
	case "ref.id":
		return &e.Ref.ID
	case "purpose":
		return &e.Purpose
	case "host":
		return &e.Host
	case "role":
		return &e.Role
	case "owner.host":
		return &e.Owner.Host
	case "owner.boot":
		return &e.Owner.Boot
	case "owner.lease":
		return &e.Owner.Lease.Path
	case "owner.lease.file":
		return &e.Owner.Lease.File
	case "error":
		return &e.Error
	case "error.type":
		return &e.ErrorType
	case "reason":
		return (*string)(&e.reason)
	default:
		return nil
	}
}

func (e *event) number(name string, n int64) {
	switch name {
	case "known":
		e.known = n
	case "root":
		e.root = uint64(n)
	case "size":
		e.Size = n
	case "transferred":
		e.Transferred = n
	case "owner.pid":
		e.Owner.PID = int(n)
	case "owner.start":
		e.Owner.Start = n
	case "owner.space":
		e.Owner.Space = n
	case "stream.start":
		e.StreamStart = fromMicros(n)
	case "stream.end":
		e.StreamEnd = fromMicros(n)
	case "due":
		e.Due = fromMicros(n)
	case "scheduled":
		e.Scheduled = fromMicros(n)
	}
}

func stateNamed(s string) connector.State {
	switch s {
	case "gone":
		return connector.Gone
	case "present":
		return connector.Present
	default:
		return connector.Unknown
	}
}
