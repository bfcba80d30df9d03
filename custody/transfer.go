package custody

import (
	"context"
	"errors"
	"fmt"
	"iter"
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
	t, ok, err := c.Transfer(ctx, id)
	switch {
	case err != nil:
		return Acknowledged{}, err
	case !ok:
		return Acknowledged{}, ErrNotTransfer
	case t.Settled():
		return Acknowledged{}, ErrAcknowledged
	case t.Made.toHost() != c.o.Host:
		return Acknowledged{}, ErrOtherHost
	}
	e, err := c.arrived(ctx, &t, o)
	if err != nil {
		return Acknowledged{}, err
	}
	entry := entryOf([]event{e}, c.o.Role)
	entries := []ledger.Entry{entry}
	agrees := e.stage == acknowledged
	if !agrees {
		entries = append(entries, ledger.Entry{Kind: ledger.Incident, Rule: Rule, Items: entry.Items,
			Facts: []ledger.Fact{ledger.Code("incident", transferDiffers), ledger.Int("items", 1)}})
	}
	first, err := c.o.Ledger.Append(ctx, entries...)
	if err != nil {
		return Acknowledged{}, fmt.Errorf("acknowledge: %w", err)
	}
	a := Acknowledged{Tracked{ID: idOf(first, 0), Path: e.name(), Covered: true, Seen: e.state}, agrees}
	// Another may have been quicker by a moment.
	if t, _, err = c.Transfer(ctx, id); err == nil && agrees && t.Answer != a.ID {
		err = ErrAcknowledged
	}
	return a, err
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
