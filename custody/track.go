package custody

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
)

// perEntry is how many operations one entry of the ledger stands for, whose texts
// are read together, and perAppend how many entries are in one durable append.
const (
	perEntry  = 256
	perAppend = 512
)

// perLook is how many files are looked at in one call of a store.
const perLook = 1024

// Tracked is what became of one operation.
type Tracked struct {
	// ID names the operation for ever: the number of its entry in the ledger, a
	// dot, and its place in it. It is safe to log. It is empty with an Err.
	ID string
	// Path is the place that was recorded: absolute and resolved.
	Path string
	// Covered reports that a store covers that place. Elsewhere nothing can be
	// looked at, verified or disposed of.
	Covered bool
	// Seen is what was seen of the file. After an operation that ends a file,
	// Present means that it is still there.
	Seen connector.State
	// Err says why the operation was not recorded: a *Refused, or nil.
	Err error
}

// Track records operations, in order, with one result for each. An operation
// that cannot be recorded is refused alone. The error is for a ledger that failed;
// the operations without an ID are then not known to be recorded.
//
// Each file is looked at: one that is said to be made and is not there is refused,
// one that is said to be deleted and is there stays due. What is said of
// everything below a directory is recorded for each tracked file below it.
func (c *Custody) Track(ctx context.Context, ops ...Operation) ([]Tracked, error) {
	out := make([]Tracked, len(ops))
	events := make([]event, 0, len(ops))
	from := make([]int, 0, len(ops)) // the operation of each event
	r := c.resolver()
	for i := range ops {
		e, err := c.prepare(r, &ops[i])
		if err != nil {
			out[i].Err = err
			continue
		}
		events, from = append(events, e), append(from, i)
	}
	if err := c.known(ctx, events); err != nil {
		return out, err
	}
	c.look(ctx, events)
	kept, origin := events[:0], from[:0]
	for n := range events {
		if e := &events[n]; e.state == connector.Present && e.Hash != [32]byte{} && e.Size != 0 && e.Size != e.bytes {
			out[from[n]].Err = refuse("the file does not have the size that was hashed", "track it once it is written, with the hash of all of it")
			continue
		}
		if events[n].kind.Makes() {
			if err := c.absent(&events[n]); err != nil {
				out[from[n]].Err = err
				continue
			}
		}
		if events[n].To != "" && events[n].kind == Sent && events[n].state == connector.Gone {
			out[from[n]].Err = refuse("there is no file at this path", "record what is sent while it is there")
			continue
		}
		kept, origin = append(kept, events[n]), append(origin, from[n])
	}
	kept, origin, err := c.expand(ctx, kept, origin)
	if err != nil {
		return out, err
	}
	ids, err := c.record(ctx, kept)
	for n, id := range ids {
		if t := &out[origin[n]]; t.ID == "" {
			*t = Tracked{ID: id, Path: kept[n].name(), Covered: kept[n].store != "", Seen: kept[n].state}
		}
	}
	return out, err
}

// known notes, before anybody looks, the newest entry that is there: a file that is
// tracked later is another than the one that is said to be gone.
func (c *Custody) known(ctx context.Context, events []event) error {
	if !slices.ContainsFunc(events, func(e event) bool { return e.kind.Ends() }) {
		return nil
	}
	newest, _, err := c.o.Ledger.Newest(ctx)
	if err != nil {
		return fmt.Errorf("track: %w", err)
	}
	for i := range events {
		if events[i].kind.Ends() {
			events[i].known = newest
		}
	}
	return nil
}

// absent refuses an operation that is said to make a file which is not there.
func (c *Custody) absent(e *event) error {
	gone := e.state == connector.Gone
	if e.store == "" && e.Host == c.o.Host { // no store looked; that it never was there is no claim that it went
		_, err := os.Lstat(e.abs)
		gone = errors.Is(err, fs.ErrNotExist)
	}
	switch {
	case gone:
		return refuse("there is no file at this path", "reserve it before it is written, or track it once it is there")
	case e.reason == connector.Invalid:
		return refuse("the store can hold no file of this name", "give the name under which it is there")
	default:
		return nil
	}
}

// prepare makes the event of an operation, before it is looked at.
func (c *Custody) prepare(r *resolver, o *Operation) (event, error) {
	a, err := o.check(c.words)
	if err != nil {
		return event{}, err
	}
	e := event{Operation: *o, kind: a.Kind, work: a.Work}
	if e.place, err = r.place(o.Path); err != nil {
		return event{}, err
	}
	if a.Kind == Emptied && e.store != "" && !strings.HasSuffix(string(e.at), "/") {
		e.at += "/"
	}
	if o.From != "" {
		p, err := r.place(o.From)
		if err != nil {
			return event{}, err
		}
		e.From = p.name()
	}
	if e.At.IsZero() {
		e.At = c.now()
	}
	if e.Host == "" {
		e.Host = c.o.Host
	}
	if e.Role == "" {
		e.Role = c.o.Role
	}
	if e.To != "" {
		if e.toHost() == c.o.Host {
			return event{}, refuse("the file is on the host to which it is sent", "name the other host; a copy on this one is tracked where it lies")
		}
		if e.Due.IsZero() {
			e.Due = e.At.Add(TransferSpan)
		}
		return e, nil
	}
	if e.Due.IsZero() && a.Due > 0 {
		e.Due = e.At.Add(a.Due)
	}
	e.Required = e.Required || a.Temporary || !e.Due.IsZero()
	if e.Owner == (owner.Process{}) && (e.Required || a.Kind == Started) {
		e.Owner = c.o.Owner
	}
	return e, nil
}

// look fills in what is seen of each event's file.
func (c *Custody) look(ctx context.Context, events []event) {
	byStore := map[string][]int{}
	for i := range events {
		events[i].reason = connector.Unreachable
		byStore[events[i].store] = append(byStore[events[i].store], i)
	}
	for name, list := range byStore {
		s, ok := c.store(name)
		if !ok {
			continue
		}
		list = slices.DeleteFunc(list, func(i int) bool { return c.elsewhere(events[i].place) })
		for part := range slices.Chunk(list, perLook) {
			at := make([]connector.Locator, len(part))
			for k, i := range part {
				at[k] = events[i].at
			}
			for k, res := range s.Connector.Probe(ctx, at) {
				events[part[k]].sight = sight{res.State, res.Reason, res.Print, res.Bytes}
			}
			c.doubtRoot(ctx, &s, events, part)
		}
	}
}

// expand adds an event for each tracked file below a directory that is said to
// be emptied: what is said of many is recorded of each.
func (c *Custody) expand(ctx context.Context, events []event, from []int) ([]event, []int, error) {
	var trees []int
	for i := range events {
		if events[i].kind == Emptied {
			trees = append(trees, i)
		}
	}
	if len(trees) == 0 {
		return events, from, nil
	}
	n := len(events)
	for f, err := range c.filesBy(ctx, "since", "state < 3", nil) {
		if err != nil {
			return nil, nil, err
		}
		for _, i := range trees {
			t := &events[i]
			if f.event.store != t.store || f.event.host != t.host || f.event.place == t.place || !strings.HasPrefix(string(f.event.at), strings.TrimSuffix(string(t.at), "/")+"/") || t.store == "" {
				continue
			}
			e := *t
			e.place, e.sight, e.Size, e.Hash = f.event.place, sight{}, 0, [32]byte{}
			events, from = append(events, e), append(from, from[i])
			break
		}
	}
	c.look(ctx, events[n:])
	return events, from, nil
}

// record appends events as entries of many, and after the last of them what goes
// with them. It returns their ids, of those that are durable.
func (c *Custody) record(ctx context.Context, events []event, with ...ledger.Entry) (ids []string, err error) {
	for group := range slices.Chunk(events, perEntry*perAppend) {
		var entries []ledger.Entry
		for part := range slices.Chunk(group, perEntry) {
			entries = append(entries, entryOf(part, c.o.Role))
		}
		if len(ids)+len(group) == len(events) {
			entries = append(entries, with...)
		}
		first, err := c.o.Ledger.Append(ctx, entries...)
		if err != nil {
			return ids, fmt.Errorf("track: %w", err)
		}
		for i := range group {
			ids = append(ids, idOf(first+int64(i/perEntry), i%perEntry))
		}
	}
	return ids, nil
}

// entryOf makes one entry of a batch. Public are the counts by action.
func entryOf(events []event, role string) ledger.Entry {
	e := ledger.Entry{Kind: ledger.CustodyOperations, Rule: Rule, Items: make([]ledger.Item, len(events))}
	counts := map[string]int64{}
	for i := range events {
		e.Items[i] = events[i].item()
		if s := events[i].stage; s.done() && s != differing {
			counts["action."+events[i].Action]++
		} else {
			counts[string(s)+"."+events[i].Action]++
		}
	}
	for name, n := range counts {
		e.Facts = append(e.Facts, ledger.Int(name, n))
	}
	if role != "" {
		e.Facts = append(e.Facts, ledger.Code("role", ledger.SafeCode(role)))
	}
	return e
}

func idOf(entry int64, place int) string {
	return strconv.FormatInt(entry, 10) + "." + strconv.Itoa(place)
}

// idNamed is the operation of that ID, or 0.
func idNamed(id string) opID {
	entry, place, ok := parseID(id)
	if !ok || place >= 1<<placeBits || entry >= 1<<(63-placeBits) {
		return 0
	}
	return newID(entry, int64(place))
}

// parseID reads what idOf wrote.
func parseID(s string) (entry int64, place int, ok bool) {
	a, b, _ := strings.Cut(s, ".")
	entry, err := strconv.ParseInt(a, 10, 64)
	n, err2 := strconv.Atoi(b)
	return entry, n, err == nil && err2 == nil && entry > 0 && n >= 0 && s == idOf(entry, n)
}
