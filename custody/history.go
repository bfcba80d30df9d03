package custody

import (
	"context"
	"iter"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
)

// Wanted says which operations History yields. A zero field does not filter.
type Wanted struct {
	Scope string
	// File is a pattern for the whole path, in which * stands for any characters,
	// slashes too, and ? for one. Nothing else is special.
	File    string
	Ref     Ref
	Actions []string
	Since   time.Time // the operation is not before it
	Until   time.Time // the operation is before it
}

// Record is a line in the history of tracked files.
type Record struct {
	ID        string
	Operation // of a clean-up: the path and the instant only
	Kind      Kind
	// Stage is "" for an operation that was complete; "reserved", "committed",
	// "abandoned"; of what arrived from another host, "acknowledged" or "differs"; or, of a clean-up, "seen" to be gone, "attempt", "word",
	// "erased".
	Stage string
	// Seen is what was seen of the file then, and Reason why.
	Seen   connector.State
	Reason connector.Reason
	Bytes  int64
	// SealedOff is set for a record whose texts were destroyed. It is yielded only
	// when nothing filters by text.
	SealedOff bool
}

// History yields the operations that match and what became of their files, in
// the order in which they were recorded.
func (c *Custody) History(ctx context.Context, w Wanted) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		h := history{c: c, w: w, hosts: hosts{c.state, map[string]string{}}, places: map[string]bool{}, sent: map[string]bool{}}
		kinds := []ledger.Kind{ledger.CustodyOperations, ledger.CustodyLooks, ledger.CustodyWord, ledger.Outcome}
		f := ledger.Filter{Kinds: kinds, Since: w.Since, Unseal: true}
		if len(w.Actions) > 0 { // then only operations themselves are wanted
			f.Kinds, f.Clues = kinds[:1], w.clues()
		}
		for e, err := range c.o.Ledger.Entries(ctx, f) {
			var list []Record
			if err == nil {
				list, err = h.entry(ctx, e)
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range list {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// clues are what the ledger can skip by where only operations are wanted.
func (w *Wanted) clues() (clues []ledger.Clue) {
	if w.Scope != "" {
		clues = append(clues, ledger.Clue{Name: "scope", Text: w.Scope})
	}
	if len(w.Actions) == 1 {
		clues = append(clues, ledger.Clue{Name: "action", Text: w.Actions[0]})
	}
	return clues
}

type history struct {
	c     *Custody
	w     Wanted
	hosts hosts
	// places are those of which an operation matched: what follows on them
	// belongs to the history too.
	places map[string]bool
	// sent are the transfers that matched: what answers them belongs to it as well.
	sent map[string]bool
}

func (h *history) entry(ctx context.Context, e ledger.Entry) (list []Record, err error) {
	if e.Kind == ledger.Outcome {
		return h.outcome(ctx, e)
	}
	for i, it := range e.Items {
		ev := readEvent(it)
		r := Record{ID: idOf(e.Number, i), Operation: ev.Operation, Kind: ev.kind, Stage: string(ev.stage), Seen: ev.state, Reason: ev.reason, Bytes: ev.bytes, SealedOff: ev.sealedOff}
		if e.Kind != ledger.CustodyOperations {
			if e.Kind == ledger.CustodyWord {
				r.Stage = "word"
			}
			if h.follows(&ev) {
				list = append(list, r)
			}
			continue
		}
		if h.matches(&ev) || h.sent[ev.answers] && h.within(ev.At) && len(h.w.Actions) == 0 {
			h.places[h.c.state.identity(ev.place)] = true
			if list = append(list, r); ev.To != "" {
				h.sent[r.ID] = true
			}
		}
	}
	return list, nil
}

// outcome yields the files of which something was seen when they were purged.
func (h *history) outcome(ctx context.Context, e ledger.Entry) (list []Record, err error) {
	for in, err := range h.c.o.Ledger.Entries(ctx, ledger.Filter{After: e.Refers - 1, Before: e.Refers + 1, Limit: 1, Unseal: true}) {
		if err != nil {
			return nil, err
		}
		host, err := h.hosts.of(ctx, &in)
		if err != nil {
			return nil, err
		}
		for i, it := range in.Items {
			if i >= len(e.Results) || it.SealedOff || e.Results[i].State != ledger.Gone {
				continue
			}
			ev := event{place: h.c.state.disposed(in.Store, it.Locator, host)}
			if s, ok := h.c.store(in.Store); ok && s.Root != "" {
				ev.abs = s.Root + "/" + it.Locator
			}
			ev.Path, ev.At = ev.name(), e.At
			if h.follows(&ev) {
				list = append(list, Record{ID: idOf(e.Number, i), Operation: ev.Operation, Stage: "erased", Seen: connector.Gone,
					Reason: connector.Reason(e.Results[i].Reason), Bytes: it.Bytes})
			}
		}
	}
	return list, nil
}

// follows reports whether what became of a file belongs to the history.
func (h *history) follows(ev *event) bool {
	return len(h.w.Actions) == 0 && h.within(ev.At) && h.places[h.c.state.identity(ev.place)]
}

func (h *history) within(at time.Time) bool {
	return !at.Before(h.w.Since) && (h.w.Until.IsZero() || at.Before(h.w.Until))
}

func (h *history) matches(ev *event) bool {
	w := &h.w
	if ev.sealedOff {
		return w.Scope == "" && w.File == "" && w.Ref == (Ref{}) && len(w.Actions) == 0
	}
	return (w.Scope == "" || ev.Scope == w.Scope) && (w.Ref == (Ref{}) || ev.Ref == w.Ref) && (w.File == "" || like(w.File, ev.Path)) &&
		(len(w.Actions) == 0 || slices.Contains(w.Actions, ev.Action)) && h.within(ev.At)
}

// like matches a pattern of * and ? against the whole of s, in time proportional
// to the product of their lengths at most.
func like(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == '?':
			p, i = p+1, i+size
		case p < len(pattern) && pattern[p] == s[i]:
			p, i = p+1, i+1
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
