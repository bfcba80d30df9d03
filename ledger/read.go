package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Filter says which entries are wanted. A zero field does not filter.
type Filter struct {
	Run, Rule, Store string
	Kinds            []Kind
	// Item is the id of an item, or the locator of an item or part in full, alone or
	// as STORE:LOCATOR: the intents that name it and the outcomes that answer them.
	// What was sealed off is not found.
	Item string
	// Clues only skip: they leave out entries that cannot meet one of them. Of
	// what passes, the reader looks at the texts itself. What was sealed off is
	// skipped.
	Clues []Clue
	// Items leaves out entries without a batch. Holds, with it, leaves out those too in
	// whose batch, or that of the intent which they answer, no text holds these bytes.
	// What was sealed off is skipped.
	Items        bool
	Holds        string
	Since, Until time.Time // At is not before Since, and before Until
	// After and Before bound the numbers, both exclusive.
	After, Before int64
	Limit         int
	// Unseal fills in Items and the texts of Secrets where they still exist.
	Unseal bool
	// Places fills in only the items at these places, and leaves the others zero;
	// nil for all.
	Places []int
	// Newest yields from the highest number down. Otherwise from the lowest up.
	Newest bool
}

// Newest returns the number and instant of the newest entry; 0 when there is
// none.
func (l *Ledger) Newest(ctx context.Context) (number int64, at time.Time, err error) {
	err = l.read.QueryRowContext(ctx, sizeQuery).Scan(&number)
	if err == nil && number == 0 {
		return 0, time.Time{}, nil
	}
	var r *record
	if err == nil {
		r, err = readRecord(ctx, l.read, number)
	}
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("read newest entry: %w", err)
	}
	return number, r.at, nil
}

// Entries yields the entries that pass the filter, in the order of their
// numbers. It sees the ledger as it is when the iteration starts. An error ends
// the sequence. It holds no transaction while the caller works, so that the
// caller may append.
func (l *Ledger) Entries(ctx context.Context, f Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		left := f.Limit
		for n, err := range l.numbers(ctx, &f) {
			var e Entry
			if err == nil {
				e, err = l.fill(ctx, n.number, &n.record, f.Unseal, f.Places)
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("read ledger: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}

// OpenIntents yields the intents without an outcome, unsealed, oldest first.
func (l *Ledger) OpenIntents(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var after int64
		for {
			var number int64
			err := l.read.QueryRowContext(ctx, "SELECT coalesce(min(number), 0) FROM open_intents WHERE number > $1", after).Scan(&number)
			if err == nil && number == 0 {
				return
			}
			var r *record
			var e Entry
			if err == nil {
				r, err = readRecord(ctx, l.read, number)
			}
			if err == nil {
				e, err = l.fill(ctx, number, r, true, nil)
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("read open intents: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
			after = number
		}
	}
}

// fill makes an Entry of a record, with what lies beside it.
func (l *Ledger) fill(ctx context.Context, number int64, r *record, unseal bool, places []int) (Entry, error) {
	e := Entry{
		Number: number, At: r.at, Kind: Kind(r.kind), Run: r.run, Rule: r.rule, Store: r.store,
		Refers: r.refers, Facts: r.facts, Count: r.count,
	}
	for _, s := range r.secrets {
		e.Secrets = append(e.Secrets, Secret{Name: s.name})
	}
	if r.batch == resultBatch {
		var blob []byte
		err := l.read.QueryRowContext(ctx, "SELECT blob FROM leaves WHERE number = $1", number).Scan(&blob)
		if err == nil {
			e.Results, err = decodeResults(blob, r.count)
		}
		if err != nil {
			return Entry{}, fmt.Errorf("results of entry %d: %w", number, err)
		}
	}
	if !unseal || len(r.secrets) == 0 && r.batch != itemBatch {
		if !unseal {
			e.Secrets = nil
		}
		return e, nil
	}
	s, err := loadSealed(ctx, l.read, number, r)
	if err != nil {
		return Entry{}, fmt.Errorf("sealed texts of entry %d: %w", number, err)
	}
	return e, s.unseal(&e, places)
}

// loadSealed reads the sealed texts of an entry. Where there are none, all of
// them were sealed off.
func loadSealed(ctx context.Context, q querier, number int64, r *record) (*sealed, error) {
	items := 0
	if r.batch == itemBatch {
		items = r.count
	}
	var blob []byte
	err := q.QueryRowContext(ctx, "SELECT texts FROM sealed WHERE number = $1", number).Scan(&blob)
	if errors.Is(err, sql.ErrNoRows) {
		return &sealed{secrets: make([]sealedSlot, len(r.secrets)), items: make([]sealedSlot, items)}, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := decodeSealed(blob)
	if err != nil {
		return nil, err
	}
	if len(s.secrets) != len(r.secrets) || len(s.items) != items {
		return nil, errors.New("they are not those of the entry")
	}
	return s, nil
}

// unseal fills the texts into an entry whose Secrets have their names: of all
// items, or of those at the places.
func (s *sealed) unseal(e *Entry, places []int) error {
	for i, slot := range s.secrets {
		e.Secrets[i].Text, e.Secrets[i].SealedOff = string(slot.text), slot.salt == nil
	}
	if len(s.items) > 0 {
		e.Items = make([]Item, len(s.items))
	}
	one := func(i int) error {
		slot := &s.items[i]
		if slot.salt == nil {
			e.Items[i].SealedOff = true
			return nil
		}
		it, err := decodeItem(slot.text)
		if err != nil {
			return fmt.Errorf("item %d of entry %d: %w", i, e.Number, err)
		}
		e.Items[i] = it
		return nil
	}
	if places == nil {
		for i := range s.items {
			if err := one(i); err != nil {
				return err
			}
		}
	}
	for _, i := range places {
		if i >= 0 && i < len(s.items) {
			if err := one(i); err != nil {
				return err
			}
		}
	}
	return nil
}
