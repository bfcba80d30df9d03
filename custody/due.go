package custody

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
	"github.com/epitaph/epitaph/purge"
)

// Overdue yields the files that should be gone and are not known to be. A file
// is never left out because too many clean-ups of it failed.
func (c *Custody) Overdue(ctx context.Context) iter.Seq2[File, error] {
	return c.filesBy(ctx, "due", "state < 3 AND due > 0 AND due < ?", []any{micros(c.now())})
}

// Pending yields the files that must be cleaned up and are not known to be gone,
// due or not.
func (c *Custody) Pending(ctx context.Context) iter.Seq2[File, error] {
	return c.filesBy(ctx, "at", "state < 3 AND required = 1", nil)
}

// Sighting is what was seen of a file, or done with it.
type Sighting struct {
	File
	State  connector.State
	Reason connector.Reason
	// Incident reports that an incident was raised for it just now.
	Raised bool

	edited bool // it is due for what it held, and holds something else
}

// Verify looks at every file whose clean-up is pending and that can be looked at
// from this host; the others are left out. What is seen to be gone is recorded;
// what is there, or not known, changes nothing. Also when nothing was pending, an
// entry says that somebody looked. By a clock that jumped nothing is recorded: it is
// a [*purge.Interlock], beside what was seen.
func (c *Custody) Verify(ctx context.Context) ([]Sighting, error) {
	var out []Sighting
	for f, err := range c.Pending(ctx) {
		if err != nil {
			return out, err
		}
		if !f.Elsewhere {
			out = append(out, Sighting{File: f})
		}
	}
	c.sight(ctx, out)
	out = slices.DeleteFunc(out, unwritten)
	if err := c.clock(ctx); err != nil {
		return out, err // the next clock would be compared with this one
	}
	return out, c.settle(ctx, out, false)
}

// unwritten reports a reservation whose file is not there yet, and may still come:
// it was never seen, so that it is not gone either.
func unwritten(s Sighting) bool {
	return s.Condition == Reserved && s.State == connector.Gone && s.Life != owner.Dead
}

// sight looks at the files, in batches by store.
func (c *Custody) sight(ctx context.Context, list []Sighting) {
	events := make([]event, len(list))
	for i := range list {
		events[i].place, events[i].answers = list[i].event.place, list[i].ID
	}
	c.look(ctx, events)
	for i := range list {
		list[i].State, list[i].Reason = events[i].state, events[i].reason
		list[i].print, list[i].event.sight = events[i].print, events[i].sight
	}
}

// incidentAfter is the number of failed clean-ups that make an incident.
const incidentAfter = 5

// The incidents of tracked files.
const (
	cleanupFailing  = "cleanup-failing"
	transferDiffers = "transfer-differs"
)

// settle records what was seen: those that are gone, and, when it was tried,
// those that are not.
func (c *Custody) settle(ctx context.Context, list []Sighting, tried bool) error {
	var items, failing []ledger.Item
	counts := map[connector.State]int64{}
	for i := range list {
		s := &list[i]
		counts[s.State]++
		e := event{Operation: Operation{Path: s.Path, Action: s.Made.Action, At: c.now(), Host: c.o.Host}, place: s.event.place,
			sight: sight{s.State, s.Reason, s.print, s.event.bytes}, answers: s.ID}
		switch {
		case s.State == connector.Gone:
			e.stage = seen
		case tried:
			e.stage = attempt
			if (s.edited || s.Attempts+1 >= incidentAfter) && !s.Incident {
				s.Raised, s.Incident = true, true
				failing = append(failing, e.item())
			}
		default:
			continue
		}
		items = append(items, e.item())
	}
	at := c.now()
	first := ledger.Entry{At: at, Kind: ledger.CustodyLooks, Rule: Rule, Facts: []ledger.Fact{
		ledger.Int("gone", counts[connector.Gone]), ledger.Int("present", counts[connector.Present]), ledger.Int("unknown", counts[connector.Unknown])}}
	if c.o.AnyClock {
		first.Facts = append(first.Facts, ledger.Code("allow", "clock"))
	}
	if c.o.Who != "" {
		first.Secrets = []ledger.Secret{{Name: "who", Text: c.o.Who}}
	}
	entries := []ledger.Entry{first}
	for part := range slices.Chunk(items, perEntry) {
		if len(entries[0].Items) == 0 {
			entries[0].Items = part
			continue
		}
		entries = append(entries, ledger.Entry{At: at, Kind: ledger.CustodyLooks, Rule: Rule, Items: part})
	}
	for part := range slices.Chunk(failing, perEntry) {
		entries = append(entries, ledger.Entry{At: at, Kind: ledger.Incident, Rule: Rule, Items: part,
			Facts: []ledger.Fact{ledger.Code("incident", cleanupFailing), ledger.Int("items", int64(len(part)))}})
	}
	if _, err := c.o.Ledger.Append(ctx, entries...); err != nil {
		return fmt.Errorf("record what was seen: %w", err)
	}
	return nil
}

// Cleanup says which files Run takes.
type Cleanup struct {
	// Force takes files that are not due yet, and does not wait for the back-off.
	// A file whose owner is alive is left alone until it is due.
	Force bool
	// Older takes only files that were made longer ago than this.
	Older time.Duration
}

// Run disposes of the files whose clean-up is due, through the purge protocol,
// and says of each what became of it. It leaves out those on other hosts. A file that does not go counts an attempt,
// is left alone for a while, and becomes an incident that stays; it is tried for
// ever. A clock that jumped is a [*purge.Interlock], before any effect.
func (c *Custody) Run(ctx context.Context, o Cleanup) ([]Sighting, error) {
	if err := c.clock(ctx); err != nil {
		return nil, err
	}
	source := c.Overdue(ctx)
	if o.Force {
		source = c.Pending(ctx)
	}
	now := c.now()
	var list []Sighting
	for f, err := range source {
		if err != nil {
			return nil, err
		}
		if f.Elsewhere || now.Sub(f.Made.At) < o.Older || !o.Force && f.Next.After(now) {
			continue
		}
		list = append(list, Sighting{File: f})
	}
	paused := c.paused()
	if err := c.finish(ctx, paused); err != nil {
		return nil, err
	}
	c.sight(ctx, list)
	list = slices.DeleteFunc(list, unwritten)
	return list, c.dispose(ctx, list, func(s *Sighting) bool {
		early := s.Due.IsZero() || s.Due.After(now)
		return early && s.Life == owner.Alive || paused[s.event.store]
	})
}

// paused are the stores that are left alone for now.
func (c *Custody) paused() map[string]bool {
	paused := map[string]bool{}
	for _, s := range c.o.Stores {
		paused[s.Name] = c.o.Paused != nil && c.o.Paused(s.Name)
	}
	return paused
}

// dispose erases those of the files that are there, and records what became of
// all. Those that keep reports stay for now, and count no attempt, and so do those
// that were tracked anew since they were listed. What is not any more what another
// host has stays too, as an attempt and an incident.
func (c *Custody) dispose(ctx context.Context, list []Sighting, keep func(*Sighting) bool) error {
	if err := c.state.catchUp(ctx); err != nil {
		return err
	}
	edited, err := c.edited(ctx, list)
	if err != nil {
		return err
	}
	byStore := map[string][]int{}
	var stays []bool
	for i := range list {
		s := &list[i]
		taken, err := c.taken(ctx, &s.File)
		if err != nil {
			return err
		}
		stays = append(stays, s.State == connector.Present && (taken || keep(s)))
		switch {
		case stays[i]:
			s.Reason = connector.InUse
		case edited[i]:
			s.Reason, s.edited = connector.Changed, true
		case s.State == connector.Present:
			byStore[s.event.store] = append(byStore[s.event.store], i)
		}
	}
	d, err := c.disposer()
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(byStore) {
		x := c.disposal(name)
		for _, i := range byStore[name] {
			x.Items = append(x.Items, connector.Item{Locator: list[i].event.at, Print: list[i].print, Bytes: list[i].event.bytes})
		}
		rs, _, err := d.Dispose(ctx, x)
		for k, i := range byStore[name] {
			list[i].State, list[i].Reason = rs[k].State, rs[k].Reason
		}
		if err != nil {
			return err
		}
	}
	var tried []Sighting
	var at []int
	for i := range list {
		// What was erased is in the ledger already, as the outcome of its intent,
		// but for a store that was not known to be shared when the file was tracked.
		p := list[i].event.place
		told := c.state.identity(p) == c.state.identity(c.state.disposed(p.store, string(p.at), c.o.Host))
		if !stays[i] && (list[i].Reason != connector.Erasure || !told) {
			tried, at = append(tried, list[i]), append(at, i)
		}
	}
	err = c.settle(ctx, tried, true)
	for k, i := range at {
		list[i] = tried[k]
	}
	return err
}

func (c *Custody) disposal(store string) purge.Disposal {
	return purge.Disposal{Rule: Rule, Kind: "file", Store: store, Facts: append(c.me.Facts(), c.lifted()...)}
}

func (c *Custody) disposer() (*purge.Disposer, error) {
	stores := map[string]connector.Connector{}
	for _, s := range c.o.Stores {
		stores[s.Name] = s.Connector
	}
	return purge.NewDisposer(purge.Config{Ledger: c.o.Ledger, Stores: stores, Clock: c.o.Clock, Rand: c.o.Rand, Observe: c.o.Observe, Who: c.o.Who})
}

// finish ends the disposals that a process which is dead left open, but in stores
// that are left alone, and where the root is another.
func (c *Custody) finish(ctx context.Context, paused map[string]bool) error {
	d, err := c.disposer()
	if err != nil {
		return err
	}
	for _, s := range c.o.Stores {
		if paused[s.Name] || c.doubtful(ctx, &s) {
			continue
		}
		if _, err := d.Settle(ctx, c.disposal(s.Name), func(e ledger.Entry) bool { return c.me.Life(owner.From(e)) == owner.Dead }); err != nil {
			return fmt.Errorf("finish what was begun: %w", err)
		}
	}
	return nil
}

// The ways in which a person's word is not taken.
var (
	ErrNotTracked = errors.New("no tracked file has this id")
	ErrEnded      = errors.New("its clean-up is settled already")
	ErrPresent    = errors.New("the file is there")
)

var errNobody = errors.New("it must be known whose word it is")

// Confirm records a person's word that a file is gone, or how a transfer that
// nobody acknowledges has ended. It is kept as a word, not as an observation; of a
// file that is seen to be there it is not taken.
func (c *Custody) Confirm(ctx context.Context, id, by string) (File, error) {
	if t, ok, err := c.Transfer(ctx, id); err != nil || ok && !t.Settled() {
		return t.File, cmp.Or(err, c.settleByWord(ctx, &t, by))
	}
	f, ok, err := c.Find(ctx, id)
	switch {
	case err != nil:
		return f, err
	case !ok:
		return f, ErrNotTracked
	case f.Condition == Ended:
		return f, ErrEnded
	case by == "":
		return f, errNobody
	}
	one := []Sighting{{File: f}}
	if c.sight(ctx, one); one[0].State == connector.Present {
		return f, ErrPresent
	}
	e := event{Operation: Operation{Action: f.Made.Action, At: c.now(), Actor: by, Host: c.o.Host}, place: f.event.place, sight: one[0].event.sight, answers: id}
	entry := ledger.Entry{Kind: ledger.CustodyWord, Rule: Rule, Items: []ledger.Item{e.item()}, Secrets: []ledger.Secret{{Name: "by", Text: by}}}
	if _, err := c.o.Ledger.Append(ctx, entry); err != nil {
		return f, fmt.Errorf("record the word: %w", err)
	}
	return f, nil
}
