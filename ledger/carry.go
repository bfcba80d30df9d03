package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What holds for ever cannot keep all that came after it: a ledger has its name
// from its forks, and its key from the last rotation. When such an entry is pruned,
// the entry of the pruning says again what it said, as fork.NUMBER.… and key.NUMBER.…,
// its texts too, and the next pruning says it again.

// Bounds of what one entry says again: its lines, of which the longest has some 200
// bytes, fit an entry. One rotation is said again, and every fork.
const (
	maxCarried    = 280
	maxCarriedKey = 20
)

// The first words of the names.
const forkWord, keyWord = "fork", "key"

func carriedName(e *Entry, name string) string {
	word := forkWord
	if e.Kind == KeyRotated {
		word = keyWord
	}
	return word + "." + strconv.FormatInt(e.Number, 10) + "." + name
}

// splitCarried takes a name apart that carriedName made.
func splitCarried(name string) (kind Kind, number int64, rest string, ok bool) {
	parts := strings.SplitN(name, ".", 3)
	if len(parts) != 3 {
		return "", 0, "", false
	}
	switch parts[0] {
	case forkWord:
		kind = Forked
	case keyWord:
		kind = KeyRotated
	}
	number, ok = parseInt(parts[1])
	return kind, number, parts[2], ok && number > 0 && kind != ""
}

// carriedBy are the entries that the entry of a pruning says again, in the order of
// their numbers.
func carriedBy(e Entry) []Entry {
	found := map[int64]*Entry{}
	of := func(name string) (*Entry, string) {
		kind, number, rest, ok := splitCarried(name)
		if !ok {
			return nil, ""
		}
		if found[number] == nil {
			found[number] = &Entry{Number: number, Kind: kind}
		}
		return found[number], rest
	}
	for _, f := range e.Facts {
		if c, name := of(f.name); c != nil && name == "at" && f.kind == factInstant {
			c.At = f.at
		} else if c != nil {
			f.name = name
			c.Facts = append(c.Facts, f)
		}
	}
	for _, s := range e.Secrets {
		if c, name := of(s.Name); c != nil {
			s.Name = name
			c.Secrets = append(c.Secrets, s)
		}
	}
	var list []Entry
	for _, n := range slices.Sorted(maps.Keys(found)) {
		list = append(list, *found[n])
	}
	return list
}

// carriedLines is how many lines an entry takes that is said again, and whether it
// can be: its names have room, and none is that of its time.
func carriedLines(e *Entry) (n int, ok bool) {
	ok = true
	for _, f := range e.Facts {
		ok = ok && len(carriedName(e, f.name)) <= maxCode && f.name != "at"
	}
	for _, s := range e.Secrets {
		ok = ok && len(carriedName(e, s.Name)) <= maxCode
	}
	return 1 + len(e.Facts) + len(e.Secrets), ok
}

// carried reads what the pruning in force says again; nothing before the first.
func (l *Ledger) carried(ctx context.Context, unseal bool) ([]Entry, error) {
	var by int64
	err := l.read.QueryRowContext(ctx, "SELECT entry FROM prunes ORDER BY minimum DESC, entry LIMIT 1").Scan(&by)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	var r *record
	if err == nil {
		r, err = readRecord(ctx, l.read, by)
	}
	if err == nil && r.kind != string(Pruned) {
		err = fmt.Errorf("%w: entry %d does not say that entries were pruned", ErrAltered, by)
	}
	var e Entry
	if err == nil {
		e, err = l.fill(ctx, by, r, unseal, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("read what the last pruning says: %w", err)
	}
	return carriedBy(e), nil
}

// lasting yields the entries of a kind, those too that were pruned and are said
// again, in the order of their numbers.
func (l *Ledger) lasting(ctx context.Context, kind Kind) ([]Entry, error) {
	var es []Entry
	for e, err := range l.Entries(ctx, Filter{Kinds: []Kind{kind}}) {
		if err != nil {
			return nil, err
		}
		es = append(es, e)
	}
	// After the entries: of what is pruned in between, one or both of them tells.
	again, err := l.carried(ctx, false)
	if err != nil {
		return nil, err
	}
	for _, e := range again {
		if e.Kind == kind {
			es = append(es, e)
		}
	}
	return sortedOnce(es), nil
}

func sortedOnce(es []Entry) []Entry {
	slices.SortStableFunc(es, func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) })
	return slices.CompactFunc(es, func(a, b Entry) bool { return a.Number == b.Number })
}

// toCarry is what is to be said again when the first entries go: every fork, and the
// last rotation of the key.
func (l *Ledger) toCarry(ctx context.Context, minimum int64) ([]Entry, error) {
	es, err := l.carried(ctx, true)
	if err != nil {
		return nil, err
	}
	for e, err := range l.Entries(ctx, Filter{Kinds: []Kind{Forked}, Before: minimum + 1, Unseal: true}) {
		if err != nil {
			return nil, err
		}
		es = append(es, e)
	}
	for e, err := range l.Entries(ctx, Filter{Kinds: []Kind{KeyRotated}, Before: minimum + 1, Newest: true, Limit: 1, Unseal: true}) {
		if err != nil {
			return nil, err
		}
		es = slices.DeleteFunc(es, func(old Entry) bool { return old.Kind == KeyRotated })
		es = append(es, e)
	}
	return sortedOnce(es), nil
}

// sayAgain makes of entries what the entry of a pruning says of them. A text that was
// sealed off is not.
func sayAgain(es []Entry) (facts []Fact, secrets []Secret) {
	for i := range es {
		e := &es[i]
		facts = append(facts, Instant(carriedName(e, "at"), e.At))
		for _, f := range e.Facts {
			f.name = carriedName(e, f.name)
			facts = append(facts, f)
		}
		for _, s := range e.Secrets {
			if !s.SealedOff {
				secrets = append(secrets, Secret{Name: carriedName(e, s.Name), Text: s.Text})
			}
		}
	}
	return facts, secrets
}

// saidAt is the time of a text of an entry: one that is said again is as old as the
// entry that said it first.
func (r *record) saidAt(name string) time.Time {
	if r.kind != string(Pruned) {
		return r.at
	}
	kind, number, _, ok := splitCarried(name)
	if !ok {
		return r.at
	}
	at, said := Entry{Facts: r.facts}.Instant(carriedName(&Entry{Kind: kind, Number: number}, "at"))
	if !said {
		return r.at
	}
	return at
}

// lastSealing is the number of the last entry that says that texts were sealed off.
func lastSealing(ctx context.Context, q querier) (n int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT coalesce(max(entry), 0) FROM sealings").Scan(&n)
	return n, err
}

// lastPruning is the number of the last entry that says that entries were pruned.
func lastPruning(ctx context.Context, q querier) (n int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT coalesce(max(entry), 0) FROM prunes").Scan(&n)
	return n, err
}
