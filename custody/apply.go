package custody

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
)

// Condition is what is known of a tracked file from the entries alone.
type Condition uint8

// The conditions. Their values stand in the cache.
const (
	Reserved Condition = 1 // announced, and its content is not there yet
	Kept     Condition = 2 // made, and not known to be gone
	Ended    Condition = 3 // gone: see Ending
)

// Ending says how it is known that a file is gone.
type Ending uint8

// The ways to know.
const (
	NotEnded Ending = iota
	Looked          // somebody else took it, and it was seen to be gone
	Erased          // erased by Epitaph, and seen to be gone
	Word            // a person says so; nobody looked
)

// String returns "", "seen", "erased" or "word".
func (e Ending) String() string { return [...]string{"", "seen", "erased", "word"}[min(e, Word)] }

// keyHash stands in the cache for a text.
type keyHash [16]byte

// opID is an operation as the cache names it: its entry, and its place in it.
type opID int64

// placeBits is more than an entry's items can need: ledger-format.md bounds
// them by 2^20.
const placeBits = 20

func newID(entry, place int64) opID { return opID(entry<<placeBits | place) }
func (o opID) entry() int64         { return int64(o >> placeBits) }
func (o opID) place() int64         { return int64(o & (1<<placeBits - 1)) }
func (o opID) String() string       { return idOf(o.entry(), int(o.place())) }

// row is the state of one file in the cache.
type row struct {
	id    opID // the operation that made it
	key   keyHash
	since opID // the oldest operation from which it has a promise that still holds
	state Condition
	at    int64
	scope []byte
	pid   int64
	print string
	size  int64
	sha   []byte

	required        bool
	due, scheduled  int64
	attempts, tried int64
	incident        bool
	said            int64 // it was said to be gone, and was not seen to be
	ended           int64
	how             Ending

	stored opID // the id under which it is in the cache; 0 for none
	dirty  bool // it is not there as it is here
}

// rowColumns are those of a file: what is asked by, and the rest in one, since each
// column costs time.
const rowColumns = "id, key, since, state, at, scope, required, due, ended, rest"

func (r *row) open() bool { return r.state == Reserved || r.state == Kept }

// end keeps no more of a file than that it was.
func (r *row) end(at int64, how Ending) {
	if r.open() {
		r.state, r.ended, r.how, r.incident, r.dirty = Ended, at, how, false, true
		r.print, r.sha = "", nil
	}
}

// transferRow is the state of one transfer in the cache.
type transferRow struct {
	id     opID
	source keyHash
	state  transferState
	due    int64
	moves  bool // the sender's file must be gone once the other side has it
	// differs is how often something else arrived than was sent.
	differs int64
	answer  opID // what settled it
	settled int64

	stored opID
	dirty  bool
}

type transferState uint8

const (
	transferOpen         transferState = 1
	transferAcknowledged transferState = 2
	transferWord         transferState = 3 // a person says how it ended
)

const transferColumns = "id, source, state, due, moves, differs, answer, settled"

// deed says what a change does.
type deed uint8

const (
	makes     deed = iota + 1 // the file is there, or is to be
	completes                 // the file is there, unless it was before
	leaves                    // the file is said to be gone
	looked                    // it was seen to be gone
	tried                     // a clean-up did not end it
	byWord                    // a person says that it is gone
	erased                    // Epitaph took it
	raised                    // there is an incident
	begins                    // work began
	finishes                  // work ended
	sends                     // it is on its way to another host
	answers                   // the other host has it
	objects                   // the other host has something else
	settles                   // a person says how a transfer ended
)

// change is what an operation changes in the cache. It holds no text but the
// name of the work.
type change struct {
	deed deed
	key  keyHash
	id   opID
	at   int64 // of the entry, or, with begins, of the operation
	made *row  // with makes and completes
	gone bool  // with leaves: and it was seen to be
	work string
	of   opID // the transfer, with answers, objects and settles
	// upTo is the last operation that was known to whoever looked, erased or gave his
	// word: a file that was made at the same place since then is another. 0: no limit.
	upTo opID
	due  int64 // with sends
	move bool  // with sends
}

// perFile reports a change to the state of a file, which must be known for it.
func (c *change) perFile() bool { return c.deed != begins && c.deed != finishes && !c.perTransfer() }

// perTransfer reports a change to the state of a transfer.
func (c *change) perTransfer() bool { return c.deed >= sends }

// changeReader turns entries into changes. It is used by one goroutine.
type changeReader struct {
	p     *projection
	mac   hash.Hash
	sum   [sha256.Size]byte
	hosts hosts
}

// operation appends what one operation changes.
func (cr *changeReader) operation(list []change, e *ledger.Entry, n int64, ev *event) []change {
	c := change{key: cr.hash(cr.p.identity(ev.place)), id: newID(e.Number, n), at: micros(e.At)}
	if e.Kind == ledger.CustodyWord {
		if c.deed, c.upTo = byWord, idNamed(ev.answers); ev.To != "" {
			c.deed, c.of = settles, c.upTo
		}
		return append(list, c)
	}
	switch {
	case ev.stage == seen:
		c.deed, c.upTo = looked, idNamed(ev.answers)
	case ev.stage == attempt:
		c.deed, c.upTo = tried, idNamed(ev.answers)
	case ev.kind == Started:
		c.deed, c.work, c.at = begins, ev.work, micros(ev.At)
	case ev.kind == Completed, ev.kind == Failed:
		c.deed, c.work = finishes, ev.work
		if list = append(list, c); ev.kind == Failed || ev.state != connector.Present {
			return list
		}
		c.deed, c.made = completes, cr.made(c.id, c.key, ev)
	case ev.kind.Ends() && ev.To != "" && ev.state != connector.Gone:
		c.deed, c.made = completes, cr.made(c.id, c.key, ev)
		c.made.required, c.made.due = false, 0
	case ev.kind.Ends(), ev.stage == abandoned:
		c.deed, c.gone = leaves, ev.state == connector.Gone
		switch {
		case ev.stage == abandoned:
			c.upTo = idNamed(ev.answers)
		case c.gone && ev.known > 0:
			c.upTo = newID(ev.known, 1<<placeBits-1)
		}
	case ev.kind.Makes():
		c.deed, c.made = makes, cr.made(c.id, c.key, ev)
	}
	if c.deed != 0 {
		list = append(list, c)
	}
	switch {
	case ev.To != "":
		list = append(list, change{deed: sends, key: c.key, id: c.id, at: c.at, due: micros(ev.Due), move: ev.kind == Left})
	case ev.stage == acknowledged:
		list = append(list, change{deed: answers, key: c.key, id: c.id, at: c.at, of: idNamed(ev.answers), made: &row{sha: ev.Hash[:]}})
	case ev.stage == differing:
		list = append(list, change{deed: objects, key: c.key, id: c.id, at: c.at, of: idNamed(ev.answers)})
	}
	return list
}

// made is the file as the operation that makes it tells of it.
func (cr *changeReader) made(id opID, key keyHash, ev *event) *row {
	r := &row{id: id, key: key, since: id, state: Kept, at: micros(ev.At), pid: int64(ev.Owner.PID),
		print: string(ev.print), size: ev.bytes, required: ev.Required, due: micros(ev.Due), scheduled: micros(ev.Scheduled), dirty: true}
	if ev.Scope != "" {
		h := cr.hash(ev.Scope)
		r.scope = h[:]
	}
	if ev.state != connector.Present {
		r.size = ev.Size
	}
	if ev.Hash != [32]byte{} {
		r.sha = ev.Hash[:]
	}
	if ev.stage == reserved {
		r.state = Reserved
	}
	return r
}

// file changes the state of a file; its state is 0 when there was none.
func (r *row) change(c *change) {
	if c.upTo != 0 && r.id > c.upTo {
		return
	}
	switch c.deed {
	case looked:
		r.end(c.at, Looked)
	case erased:
		r.end(c.at, Erased)
	case byWord:
		r.end(c.at, Word)
	case tried:
		if r.state != 0 {
			r.attempts, r.tried, r.dirty = r.attempts+1, c.at, true
		}
	case raised:
		if r.state != 0 {
			r.incident, r.dirty = true, true
		}
	case leaves:
		if r.state != 0 {
			if r.said, r.dirty = c.at, true; c.gone {
				r.end(c.at, Looked)
			}
		}
	case completes:
		if !r.open() { // otherwise it was there before the work, and is there still
			c.made.stored = r.stored
			*r = *c.made
		}
	case makes:
		r.replace(c.made)
	}
}

// replace takes in an operation after which the file is there, or is to be. What
// was promised of its place holds until it is seen to be kept, or another promise
// is made.
func (r *row) replace(made *row) {
	old := *r
	*r = *made
	r.stored = old.stored
	if !old.open() {
		return
	}
	kept := old.required && !r.required
	if r.due == 0 && old.due != 0 {
		r.due, kept = old.due, true
	}
	if r.scheduled == 0 && old.scheduled != 0 {
		r.scheduled, kept = old.scheduled, true
	}
	r.required = r.required || old.required
	if kept {
		r.since = old.since
	}
}

// change changes the state of a transfer. It returns true when the sender's file
// must be gone from then on.
func (t *transferRow) change(c *change) (release bool) {
	if t.state != transferOpen {
		return false
	}
	t.dirty = true
	switch c.deed {
	case answers:
		t.state, t.answer, t.settled = transferAcknowledged, c.id, c.at
		return t.moves
	case settles:
		t.state, t.answer, t.settled = transferWord, c.id, c.at
	case objects:
		t.differs++
	}
	return false
}

// release makes a file due that went to another host, which has it now. One that
// was made at its path since then stays as it is, unless it is the same content.
func (r *row) release(c *change) {
	if !r.open() || r.id > c.of && !bytes.Equal(r.sha, c.made.sha) {
		return
	}
	if r.required, r.dirty = true, true; r.due == 0 || r.due > c.at {
		r.due = c.at
	}
}

// floorDay is the number of the day, in UTC.
func floorDay(t time.Time) int64 {
	s := t.Unix()
	d := s / 86400
	if s%86400 < 0 {
		d--
	}
	return d
}
