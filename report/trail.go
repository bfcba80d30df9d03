// Package report puts the ledger in words: the trail, as text for people and as
// JSON for programs. It reads entries and writes to a writer; it opens nothing.
//
// A trail with items names locators, which are personal data. It is for a person
// who has access to the ledger, and for the screen.
package report

import (
	"context"
	"fmt"
	"iter"

	"github.com/epitaph/epitaph/ledger"
)

// Reader is what a trail needs of a ledger. [ledger.Ledger] is one.
type Reader interface {
	Entries(ctx context.Context, f ledger.Filter) iter.Seq2[ledger.Entry, error]
}

// Line is one entry of a trail.
type Line struct {
	ledger.Entry
	// Tally counts the results of an outcome.
	Tally Tally
	// Batch holds the items that the entry is about and what became of them. It
	// is filled on request only.
	Batch []Item
}

// Tally counts items by what became of them.
type Tally struct {
	Gone, Present, Unknown int64
	// Reasons counts items by state and code.
	Reasons map[Verdict]int64
	// Parts counts the parts of all items in the same way.
	Parts map[Verdict]int64
}

// Verdict is a state with its reason code.
type Verdict struct {
	State  ledger.State
	Reason string
}

// Item is one item of an intent, with its result when the entry is the outcome.
type Item struct {
	ledger.Item
	// Settled reports that Result is filled.
	Settled bool
	Result  ledger.Result
	// Sealed reports that the item's names were destroyed. What is proven of it
	// stays proven.
	Sealed bool
}

// Options say what a trail shows.
type Options struct {
	Filter ledger.Filter
	// Items adds the items of intents and outcomes, by locator. It is implied by
	// a Filter.Item and by File, and then only the items that match are shown.
	Items bool
	// Actor keeps what this person or application did: the runs they started, and
	// entries and items that name them. Host does the same for a host.
	Actor, Host string
	// Scope keeps items that an application filed under this scope, such as a
	// tenant.
	Scope string
	// File keeps items of which the locator, or that of a part, matches this
	// glob. Its "*" and "?" match any character, also a slash.
	File string
}

// Trail streams the entries that match, in the order of their numbers, each
// outcome with the names that its intent holds.
func Trail(ctx context.Context, r Reader, o Options) iter.Seq2[Line, error] {
	named := o.named()
	sift := o.sieve()
	limit := o.Filter.Limit
	if sift != nil {
		o.Filter.Limit = 0
	}
	o.Filter.Unseal = named || sift != nil
	if o.File != "" {
		o.Filter.Items, o.Filter.Holds = true, literal(o.File)
	}
	return func(yield func(Line, error) bool) {
		if sift != nil {
			if err := sift.findRuns(ctx, r); err != nil {
				yield(Line{}, err)
				return
			}
			o.Filter.Clues = sift.clues()
		}
		j := joiner{r: r, o: o, intents: map[int64][]ledger.Item{}}
		n := 0
		for e, err := range r.Entries(ctx, o.Filter) {
			if err != nil {
				yield(Line{}, err)
				return
			}
			line, err := j.line(ctx, e)
			if err == nil && !sift.keep(&line) {
				continue
			}
			if !named {
				line.Batch = nil
			}
			if !yield(line, err) || err != nil {
				return
			}
			if n++; n == limit {
				return
			}
		}
	}
}

// joiner keeps the items of intents until their outcomes come by. There are as
// many as batches were in flight.
type joiner struct {
	r       Reader
	o       Options
	intents map[int64][]ledger.Item
}

func (j *joiner) line(ctx context.Context, e ledger.Entry) (Line, error) {
	line := Line{Entry: e}
	if e.Kind == ledger.Outcome {
		line.Tally = tally(e.Results)
	}
	if !j.o.Filter.Unseal {
		var err error
		if saysWho(e.Kind) {
			line.Secrets, err = j.secrets(ctx, e.Number)
		}
		return line, err
	}
	switch e.Kind {
	case ledger.Intent:
		if !j.o.Filter.Newest { // read from the end, its outcome came by already
			j.intents[e.Number] = e.Items
		}
		for _, it := range e.Items {
			line.add(j.o.Filter.Item, Item{Item: it, Sealed: it.SealedOff || it.Locator == ""})
		}
	case ledger.Outcome:
		items, ok := j.intents[e.Refers]
		if !ok {
			var err error
			if items, err = j.intent(ctx, e.Refers); err != nil {
				return line, err
			}
		}
		delete(j.intents, e.Refers)
		for i, res := range e.Results {
			it := Item{Settled: true, Result: res, Sealed: true}
			if i < len(items) && items[i].Locator != "" {
				it.Item, it.Sealed = items[i], false
			}
			line.add(j.o.Filter.Item, it)
		}
	default:
		for _, it := range e.Items {
			line.add(j.o.Filter.Item, Item{Item: it, Sealed: it.SealedOff || it.Locator == ""})
		}
	}
	return line, nil
}

// saysWho reports kinds of which there are few, and of which it is always shown
// who acted and why.
func saysWho(k ledger.Kind) bool {
	switch k {
	case ledger.RunStarted, ledger.Incident, ledger.SealedOff, ledger.Pruned, ledger.Forked, ledger.Copied, ledger.KeyRotated:
		return true
	default:
		return false
	}
}

// intent reads the items of an intent that is outside of the filter.
func (j *joiner) intent(ctx context.Context, number int64) ([]ledger.Item, error) {
	e, err := j.unsealed(ctx, number)
	return e.Items, err
}

func (j *joiner) secrets(ctx context.Context, number int64) ([]ledger.Secret, error) {
	e, err := j.unsealed(ctx, number)
	return e.Secrets, err
}

func (j *joiner) unsealed(ctx context.Context, number int64) (ledger.Entry, error) {
	for e, err := range j.r.Entries(ctx, ledger.Filter{After: number - 1, Limit: 1, Unseal: true}) {
		if err != nil {
			return e, fmt.Errorf("read entry %d: %w", number, err)
		}
		if e.Number == number {
			return e, nil
		}
	}
	return ledger.Entry{}, fmt.Errorf("read entry %d: the ledger does not have it, though another entry refers to it", number)
}

func (l *Line) add(wanted string, it Item) {
	if wanted == "" || it.Names(wanted, l.Store) {
		l.Batch = append(l.Batch, it)
	}
}

func tally(results []ledger.Result) Tally {
	t := Tally{Reasons: map[Verdict]int64{}, Parts: map[Verdict]int64{}}
	for _, r := range results {
		switch r.State {
		case ledger.Gone:
			t.Gone++
		case ledger.Present:
			t.Present++
		default:
			t.Unknown++
		}
		t.Reasons[Verdict{r.State, r.Reason}]++
		for _, p := range r.Parts {
			t.Parts[Verdict{p.State, p.Reason}]++
		}
	}
	return t
}

// StateName returns "gone", "present" or "unknown".
func StateName(s ledger.State) string {
	switch s {
	case ledger.Gone:
		return "gone"
	case ledger.Present:
		return "present"
	default:
		return "unknown"
	}
}
