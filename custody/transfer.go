package custody

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
)

// TransferSpan is by when a transfer must be acknowledged that does not say.
const TransferSpan = 24 * time.Hour

// The ways in which a transfer cannot be acknowledged.
var (
	ErrNotTransfer  = errors.New("no transfer has this id")
	ErrAcknowledged = errors.New("the transfer is settled already")
	ErrOtherHost    = errors.New("the transfer goes to another host")
)

// Transfer is a file on its way to another host, as the sender tells of it. It is
// open until the other host has acknowledged what arrived.
type Transfer struct {
	// File is the sender's file: Made is the operation that sent it, and Due is by
	// when it must be acknowledged.
	File
	// Moves reports that the sender's file must be gone once the other side has it.
	Moves bool
	// Differs is how often something else arrived than was sent.
	Differs int64
	// Lost reports that the sender's file is known to be gone, though nobody has
	// acknowledged it.
	Lost bool
	// Answer is the ID of what settled it; "" while it is open.
	Answer string
}

// Settled reports that nobody waits for it any more.
func (t *Transfer) Settled() bool { return t.Answer != "" }

// toHost and toStore are where the file goes.
func (o *Operation) toHost() string  { host, _, _ := strings.Cut(o.To, "/"); return host }
func (o *Operation) toStore() string { _, store, _ := strings.Cut(o.To, "/"); return store }

// checkTo reports what about a transfer cannot be recorded.
func (o *Operation) checkTo(a Action) error {
	host, store, slash := strings.Cut(o.To, "/")
	switch {
	case o.To == "":
		return nil
	case len(o.To) > 255 || host == "" || slash && store == "" || strings.ContainsAny(o.To, " \t\r\n\x00") || strings.Contains(store, "/"):
		return refuse("what follows --to is no host", "write HOST or HOST/STORE, with the name by which that host is known in the ledger")
	case a.Kind != Sent && a.Kind != Left:
		return refuse("an operation of kind "+a.Kind.String()+" sends nothing to another host", "use transfer_sent or transfer_moved, or an own action of kind sent or left")
	case o.Required:
		return refuse("a transfer does not make its file required", "give --required where the file comes into being")
	case o.Hash == [32]byte{}:
		return refuse("a transfer needs the file's SHA-256", "record it while the file can be read, in a store of files, or give hash and size")
	}
	return nil
}

// Transfers yields the transfers that are open, by when they are due.
func (c *Custody) Transfers(ctx context.Context) iter.Seq2[Transfer, error] {
	return c.transfers(ctx, "state = 1 AND (due, id) > (?, ?)")
}

// OverdueTransfers yields the transfers that should have been acknowledged.
func (c *Custody) OverdueTransfers(ctx context.Context) iter.Seq2[Transfer, error] {
	return c.transfers(ctx, "state = 1 AND (due, id) > (?, ?) AND due < ?", micros(c.now()))
}

func (c *Custody) transfers(ctx context.Context, where string, args ...any) iter.Seq2[Transfer, error] {
	return func(yield func(Transfer, error) bool) {
		if err := c.state.catchUp(ctx); err != nil {
			yield(Transfer{}, err)
			return
		}
		t := newTexts(c)
		for due, id := int64(0), opID(0); ; {
			rows, err := c.state.transfers(ctx, c.state.db, where, fmt.Sprintf("due, id LIMIT %d", page), append([]any{due, int64(id)}, args...)...)
			ids := make([]opID, len(rows))
			for i := range rows {
				ids[i] = rows[i].id
			}
			if err == nil {
				err = t.read(ctx, ids)
			}
			if err != nil {
				yield(Transfer{}, err)
				return
			}
			for i := range rows {
				x, ok, err := t.transfer(ctx, &rows[i])
				if err == nil && !ok {
					continue
				}
				if !yield(x, err) || err != nil {
					return
				}
			}
			if len(rows) < page {
				return
			}
			due, id = rows[len(rows)-1].due, rows[len(rows)-1].id
		}
	}
}

// transfer fills in the texts of a transfer. It is not ok when they were destroyed.
func (t *texts) transfer(ctx context.Context, r *transferRow) (Transfer, bool, error) {
	e, ok, err := t.at(ctx, r.id)
	if err != nil || !ok {
		return Transfer{}, false, err
	}
	x := Transfer{Moves: r.moves, Differs: r.differs, File: File{
		ID: r.id.String(), Store: e.store, Locator: e.at, Path: e.name(), Made: e.Operation, Elsewhere: t.c.elsewhere(e.place), Due: fromMicros(r.due), event: e}}
	if r.state != transferOpen {
		x.Answer = r.answer.String()
		return x, true, nil
	}
	rows, err := t.c.state.scan(ctx, "key = ?", "id", r.source[:])
	if err != nil {
		return Transfer{}, false, err
	}
	x.Lost = e.state == connector.Gone && len(rows) == 0
	for i := range rows {
		x.Lost = rows[i].state == Ended
	}
	return x, true, nil
}

// Transfer returns the transfer that the operation of that ID began.
func (c *Custody) Transfer(ctx context.Context, id string) (Transfer, bool, error) {
	op := idNamed(id)
	if op == 0 {
		return Transfer{}, false, nil
	}
	if err := c.state.catchUp(ctx); err != nil {
		return Transfer{}, false, err
	}
	rows, err := c.state.transfers(ctx, c.state.db, "id = ?", "id", int64(op))
	if err != nil || len(rows) == 0 {
		return Transfer{}, false, err
	}
	return newTexts(c).transfer(ctx, &rows[0])
}

// Acknowledged is what became of an acknowledgement.
type Acknowledged struct {
	Tracked
	// Agrees reports that size and hash of what arrived are those of what was sent,
	// and that the transfer is settled. Otherwise it is an incident and stays open.
	Agrees bool
}

// Acknowledge records what arrived of a transfer: it reads the file of the
// operation, which lies on this host, and compares it with what was sent. Either
// way the file is tracked from then on. Action defaults to transfer_received and
// must be of a kind that makes a file; scope, type, reference and purpose default
// to the sender's.
//
// ErrNotTransfer, ErrAcknowledged and ErrOtherHost tell of a transfer that cannot
// be acknowledged here, a *Refused of a file that cannot be; nothing is recorded
// then, but for ErrAcknowledged where another was quicker by a moment: what arrived
// is tracked all the same, and the returned ID names it.
func (c *Custody) Acknowledge(ctx context.Context, id string, o Operation) (Acknowledged, error) {
	list, err := c.AcknowledgeAll(ctx, Arrival{id, o})
	if err == nil {
		err = list[0].Err
	}
	list[0].Err = nil
	return list[0], err
}

// Arrival is what arrived of the transfer of that ID, as [Custody.Acknowledge] takes
// it.
type Arrival struct {
	ID string
	Operation
}

// AcknowledgeAll is Acknowledge for many, which are recorded together: one result for
// each, in order, with its own Err. The error is for a ledger that failed; what has no
// ID is then not known to be recorded.
func (c *Custody) AcknowledgeAll(ctx context.Context, list ...Arrival) ([]Acknowledged, error) {
	out := make([]Acknowledged, len(list))
	var events, differ []event
	var from []int
	done := map[string]bool{} // what this call has settled
	for i := range list {
		e, err := c.answer(ctx, &list[i], done)
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if out[i].Err = err; err != nil {
			continue
		}
		if out[i].Agrees = e.stage == acknowledged; out[i].Agrees {
			done[list[i].ID] = true
		} else {
			differ = append(differ, e)
		}
		events, from = append(events, e), append(from, i)
	}
	if len(events) == 0 {
		return out, nil
	}
	var incidents []ledger.Entry
	for part := range slices.Chunk(differ, perEntry) {
		incidents = append(incidents, ledger.Entry{Kind: ledger.Incident, Rule: Rule, Items: entryOf(part, "").Items,
			Facts: []ledger.Fact{ledger.Code("incident", transferDiffers), ledger.Int("items", int64(len(part)))}})
	}
	ids, err := c.record(ctx, events, incidents...)
	for n, id := range ids {
		e := &events[n]
		out[from[n]].Tracked = Tracked{ID: id, Path: e.name(), Covered: true, Seen: e.state}
	}
	if err != nil {
		return out, fmt.Errorf("acknowledge: %w", err)
	}
	for i := range out { // another may have been quicker by a moment
		if !out[i].Agrees {
			continue
		}
		if t, _, err := c.Transfer(ctx, list[i].ID); err != nil {
			return out, err
		} else if t.Answer != out[i].ID {
			out[i].Err = ErrAcknowledged
		}
	}
	return out, nil
}

// answer is the event of one arrival.
func (c *Custody) answer(ctx context.Context, a *Arrival, done map[string]bool) (event, error) {
	t, ok, err := c.Transfer(ctx, a.ID)
	switch {
	case err != nil:
		return event{}, err
	case !ok:
		return event{}, ErrNotTransfer
	case t.Settled() || done[a.ID]:
		return event{}, ErrAcknowledged
	case t.Made.toHost() != c.o.Host:
		return event{}, ErrOtherHost
	}
	return c.arrived(ctx, &t, a.Operation)
}

// arrived reads what arrived and says whether it is what was sent.
func (c *Custody) arrived(ctx context.Context, t *Transfer, o Operation) (event, error) {
	if o.Action == "" {
		o.Action = "transfer_received"
	}
	for to, from := range map[*string]string{&o.Scope: t.Made.Scope, &o.FileType: t.Made.FileType, &o.Purpose: t.Made.Purpose} {
		if *to == "" {
			*to = from
		}
	}
	if o.Ref == (Ref{}) {
		o.Ref = t.Made.Ref
	}
	o.To, o.From = "", ""
	e, err := c.prepare(c.resolver(), &o)
	switch store := t.Made.toStore(); {
	case err != nil:
		return e, err
	case !e.kind.Makes():
		return e, refuse("an operation of kind "+e.kind.String()+" makes no file", "acknowledge with transfer_received, or an action after which the file is there")
	case store != "" && e.store != store:
		return e, refuse("the path is not in the store to which it was sent", "put the file where the sender says, or have it sent to the host alone")
	case c.state.identity(e.place) == c.state.identity(t.event.place):
		return e, refuse("the path is that of the file that was sent", "name the file that arrived")
	}
	one := []event{e}
	if c.look(ctx, one); one[0].state != connector.Present {
		return e, refuse("the file that arrived cannot be seen", "name a file in a store of files of this host")
	}
	e = one[0]
	if e.Hash, e.Size, err = c.digest(ctx, e.place); err != nil {
		return e, fmt.Errorf("read what arrived: %w", pathless(err))
	}
	e.From, e.answers, e.stage = t.Made.Host+":"+t.Path, t.ID, differing
	if e.Hash == t.Made.Hash && e.Size == t.Made.Size {
		e.stage = acknowledged
	}
	return e, nil
}

// settleByWord records a person's word for how a transfer ended.
func (c *Custody) settleByWord(ctx context.Context, t *Transfer, by string) error {
	if by == "" {
		return errNobody
	}
	e := event{Operation: Operation{Action: t.Made.Action, At: c.now(), Actor: by, Host: c.o.Host, To: t.Made.To}, place: t.event.place, answers: t.ID}
	e.reason = connector.Unreachable
	entry := ledger.Entry{Kind: ledger.CustodyWord, Rule: Rule, Items: []ledger.Item{e.item()}, Secrets: []ledger.Secret{{Name: "by", Text: by}}}
	if _, err := c.o.Ledger.Append(ctx, entry); err != nil {
		return fmt.Errorf("record the word: %w", err)
	}
	return nil
}

// edited reports those of the files that are due because the other side has them,
// and hold something else by now: what was written to since, or made anew, nobody
// else has. A date of its own that has passed takes a file whatever it holds.
func (c *Custody) edited(ctx context.Context, list []Sighting) ([]bool, error) {
	out := make([]bool, len(list))
	byKey := map[keyHash][]int{}
	for i := range list {
		f := &list[i].File
		own := f.Made.To == "" && !f.Made.Due.IsZero() && !f.Made.Due.After(c.now())
		if f.ID != "" && list[i].State == connector.Present && !f.Due.IsZero() && !own {
			key := keyHash(c.state.hash(c.state.identity(f.event.place)))
			byKey[key] = append(byKey[key], i)
		}
	}
	t := newTexts(c)
	keys := slices.SortedFunc(maps.Keys(byKey), func(a, b keyHash) int { return bytes.Compare(a[:], b[:]) })
	for part := range slices.Chunk(keys, perSelect) {
		args := make([]any, len(part))
		for i := range part {
			args[i] = part[i][:]
		}
		moved, err := c.state.transfers(ctx, c.state.db, "state = 2 AND moves = 1 AND source IN (?"+strings.Repeat(", ?", len(part)-1)+")", "id", args...)
		if err != nil {
			return nil, err
		}
		bySource := map[keyHash][]transferRow{}
		for _, m := range moved {
			bySource[m.source] = append(bySource[m.source], m)
		}
		for key, of := range bySource {
			for _, i := range byKey[key] {
				if out[i], err = c.unlike(ctx, t, &list[i], of); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// unlike reports a file that one of the transfers made due, and whose content is that
// of none since.
func (c *Custody) unlike(ctx context.Context, t *texts, s *Sighting, moved []transferRow) (bool, error) {
	due := micros(s.Due)
	if !slices.ContainsFunc(moved, func(m transferRow) bool { return m.settled == due }) {
		return false, nil
	}
	var sum [32]byte
	var size int64
	read := false
	for _, m := range moved {
		if m.settled < due {
			continue
		}
		e, ok, err := t.at(ctx, m.id)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		if e.abs == "" && e.print != "" && e.print == s.print { // a version of an object is its content
			return false, nil
		}
		if !read {
			if sum, size, err = c.digest(ctx, s.event.place); err != nil {
				return true, ctx.Err() // what cannot be compared stays
			}
			read = true
		}
		if e.Hash == sum && e.Size == size {
			return false, nil
		}
	}
	return true, nil
}
