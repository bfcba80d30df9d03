package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"slices"
	"strings"
)

// numbered is a record that passed a filter.
type numbered struct {
	number int64
	clued  bool // its clues are in the index; filled by Verify only
	record record
}

// numbers yields what passes f. Whole blocks are found by their marks, which
// say exactly which entries to read; the entries after them are all read.
func (l *Ledger) numbers(ctx context.Context, f *Filter) iter.Seq2[numbered, error] {
	return func(yield func(numbered, error) bool) {
		var top int64
		if err := l.read.QueryRowContext(ctx, sizeQuery).Scan(&top); err != nil {
			yield(numbered{}, err)
			return
		}
		within := span{f.After + 1, top}
		if f.Before > 0 {
			within.to = min(top, f.Before-1)
		}
		holds := l.holding(ctx, f)
		emit := func(list []numbered, err error) bool {
			for i := 0; i < len(list) && err == nil; i++ {
				passes := f.passes(&list[i].record)
				if passes {
					passes, err = holds(&list[i])
				}
				if err == nil && passes && !yield(list[i], nil) {
					return false
				}
			}
			if err != nil {
				yield(numbered{}, err)
			}
			return err == nil
		}
		if f.Item != "" {
			emit(l.findItem(ctx, f, within))
			return
		}
		if len(f.Clues) > 0 && l.byClue(ctx, f, l.rarest(ctx, f.Clues), within, top, emit) {
			return
		}
		if f.Items {
			l.inItems(ctx, f, within, top, emit)
			return
		}
		if within.from == within.to { // one entry, by its number
			emit(l.load(ctx, within, false))
			return
		}
		whole := top / blockSize * blockSize
		inTail := func() bool { return emit(l.load(ctx, span{max(within.from, whole+1), within.to}, f.Newest)) }
		inBlocks := func() bool { return l.blocks(ctx, f, span{within.from, min(within.to, whole)}, emit) }
		if f.Newest {
			_ = inTail() && inBlocks()
		} else {
			_ = inBlocks() && inTail()
		}
	}
}

func (f *Filter) passes(r *record) bool {
	return (f.Run == "" || f.Run == r.run) && (f.Rule == "" || f.Rule == r.rule) && (f.Store == "" || f.Store == r.store) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, Kind(r.kind))) &&
		(f.Since.IsZero() || !r.at.Before(f.Since)) && (f.Until.IsZero() || r.at.Before(f.Until))
}

// load reads the entries of a span.
func (l *Ledger) load(ctx context.Context, s span, newest bool) ([]numbered, error) {
	if s.from > s.to {
		return nil, nil
	}
	var list []numbered
	err := readEntries(ctx, l.read, s, newest, func(number int64, body string, _ []byte) error {
		n := numbered{number: number}
		if err := decodeRecord(body, &n.record); err != nil {
			return fmt.Errorf("entry %d: %w", number, err)
		}
		list = append(list, n)
		return nil
	})
	return list, err
}

// blocksPerPage is how many blocks one query asks the index for.
const blocksPerPage = 64

// blocks visits the whole blocks of a span, page by page.
func (l *Ledger) blocks(ctx context.Context, f *Filter, within span, emit func([]numbered, error) bool) bool {
	if within.from > within.to {
		return true
	}
	groups := f.markGroups()
	at, ok, err := l.firstBlock(ctx, f, within)
	if !ok {
		return emit(nil, err)
	}
	for {
		page, err := l.markPage(ctx, f, groups, at)
		if err != nil {
			return emit(nil, err)
		}
		for _, b := range page {
			list, err := l.loadBlock(ctx, f, b, within)
			if !emit(list, err) {
				return false
			}
		}
		if len(page) < blocksPerPage {
			return true
		}
		at = page[len(page)-1].block + 1
		if f.Newest {
			at = page[len(page)-1].block - 1
		}
	}
}

// firstBlock is where to begin, in the direction of the filter: blocks before
// Since, or after Until, are passed over by their times alone. It reports false
// where all of them are.
func (l *Ledger) firstBlock(ctx context.Context, f *Filter, within span) (at int64, ok bool, err error) {
	if at = (within.from - 1) / blockSize; f.Newest {
		at = (within.to - 1) / blockSize
	}
	query, bound := "SELECT block FROM blocks WHERE block >= $1 AND last_at >= $2 ORDER BY block LIMIT 1", f.Since
	if f.Newest {
		query, bound = "SELECT block FROM blocks WHERE block <= $1 AND first_at <= $2 ORDER BY block DESC LIMIT 1", f.Until
	}
	if bound.IsZero() {
		return at, true, nil
	}
	err = l.read.QueryRowContext(ctx, query, at, bound.UnixMicro()).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return at, err == nil, err
}

// markGroups are the marks asked for: one of each group must be there.
func (f *Filter) markGroups() (groups [][]string) {
	for _, m := range []struct{ name, value string }{{"run ", f.Run}, {"rule ", f.Rule}, {"store ", f.Store}} {
		if m.value != "" {
			groups = append(groups, []string{m.name + m.value})
		}
	}
	if len(f.Kinds) > 0 {
		var kinds []string
		for _, k := range f.Kinds {
			kinds = append(kinds, "kind "+string(k))
		}
		slices.Sort(kinds)
		groups = append(groups, slices.Compact(kinds))
	}
	return groups
}

type markedBlock struct {
	block int64
	bits  bitmap
}

// markPage finds the next blocks that may hold what is wanted.
func (l *Ledger) markPage(ctx context.Context, f *Filter, groups [][]string, at int64) ([]markedBlock, error) {
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if !f.Since.IsZero() {
		since = f.Since.UnixMicro()
	}
	if !f.Until.IsZero() {
		until = f.Until.UnixMicro()
	}
	args := []any{at, since, until}
	bind := func(v any) string { args = append(args, v); return fmt.Sprintf("$%d", len(args)) }
	comparison, direction := ">=", ""
	if f.Newest {
		comparison, direction = "<=", " DESC"
	}
	var columns, joins strings.Builder
	by := "b.block" // of a mark that must be there the order is that of its index, and nothing is sorted
	for i, g := range groups {
		for j, key := range g {
			table := fmt.Sprintf("m%d_%d", i, j)
			fmt.Fprintf(&columns, ", %s.bits", table)
			join := " JOIN"
			if len(g) > 1 {
				join = " LEFT JOIN"
			} else {
				by = table + ".block"
			}
			fmt.Fprintf(&joins, "%s marks %s ON %s.block = b.block AND %s.key = %s", join, table, table, table, bind(key))
		}
	}
	query := "SELECT b.block" + columns.String() + " FROM blocks b" + joins.String() +
		" WHERE " + by + " " + comparison + " $1 AND b.last_at >= $2 AND b.first_at <= $3" + anyOf(groups) +
		" ORDER BY " + by + direction + fmt.Sprintf(" LIMIT %d", blocksPerPage)
	rows, err := l.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []markedBlock
	for rows.Next() {
		var b markedBlock
		raw := make([][]byte, len(args)-3)
		to := []any{&b.block}
		for i := range raw {
			to = append(to, &raw[i])
		}
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		if b.bits, err = combine(groups, raw); err != nil {
			return nil, fmt.Errorf("marks of block %d: %w", b.block, err)
		}
		page = append(page, b)
	}
	return page, rows.Err()
}

// anyOf asks for one mark at least of each group that has several.
func anyOf(groups [][]string) string {
	var b strings.Builder
	for i, g := range groups {
		if len(g) < 2 {
			continue
		}
		for j := range g {
			word := " OR "
			if j == 0 {
				word = " AND ("
			}
			fmt.Fprintf(&b, "%sm%d_%d.block IS NOT NULL", word, i, j)
		}
		b.WriteString(")")
	}
	return b.String()
}

// combine is the entries that have a mark of each group.
func combine(groups [][]string, raw [][]byte) (bitmap, error) {
	all := bitmap{math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}
	for _, g := range groups {
		var any bitmap
		for range g {
			if len(raw[0]) != 0 && len(raw[0]) != blockSize/8 {
				return all, fmt.Errorf("they are malformed")
			}
			for w := 0; w < len(raw[0])/8; w++ {
				any[w] |= binary.LittleEndian.Uint64(raw[0][8*w:])
			}
			raw = raw[1:]
		}
		for w := range all {
			all[w] &= any[w]
		}
	}
	return all, nil
}

// loadBlock reads the marked entries of a block: one by one when they are few.
func (l *Ledger) loadBlock(ctx context.Context, f *Filter, b markedBlock, within span) ([]numbered, error) {
	first := b.block*blockSize + 1
	within = span{max(first, within.from), min(first+blockSize-1, within.to)}
	var wanted []span
	for w, word := range b.bits {
		for ; word != 0; word &= word - 1 {
			if n := first + int64(w*64+bits.TrailingZeros64(word)); n >= within.from && n <= within.to {
				wanted = append(wanted, span{n, n})
			}
		}
	}
	const few = 16
	if len(wanted) > few {
		wanted = []span{within}
	} else if f.Newest {
		slices.Reverse(wanted)
	}
	var list []numbered
	for _, s := range wanted {
		part, err := l.load(ctx, s, f.Newest)
		if err != nil {
			return nil, err
		}
		list = append(list, part...)
	}
	return list, nil
}

// findItem finds the entries that name an item, and the outcomes that answer
// them, by the lookup filters.
func (l *Ledger) findItem(ctx context.Context, f *Filter, within span) ([]numbered, error) {
	maybe, err := l.lookupItem(ctx, f.Item, 0, within.to, math.MaxInt)
	if err != nil {
		return nil, err
	}
	var found []numbered
	for _, number := range maybe {
		list, err := l.load(ctx, span{number, number}, false)
		if err != nil || len(list) == 0 {
			return nil, cmp.Or(err, fmt.Errorf("entry %d is missing", number))
		}
		s, err := loadSealed(ctx, l.read, number, &list[0].record)
		if err != nil {
			return nil, fmt.Errorf("sealed texts of entry %d: %w", number, err)
		}
		named, err := s.find(f.Item, list[0].record.store)
		if err != nil || len(named) == 0 {
			if err != nil {
				return nil, fmt.Errorf("sealed texts of entry %d: %w", number, err)
			}
			continue
		}
		found = append(found, list...)
		answers, err := l.answers(ctx, number)
		if err != nil {
			return nil, err
		}
		for _, n := range answers {
			list, err := l.load(ctx, span{n, n}, false)
			if err != nil {
				return nil, err
			}
			found = append(found, list...)
		}
	}
	found = slices.DeleteFunc(found, func(n numbered) bool { return n.number < within.from || n.number > within.to })
	slices.SortFunc(found, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	if f.Newest {
		slices.Reverse(found)
	}
	return found, nil
}

// answers are the outcomes of an intent: one, but for a run that lost its lease.
func (l *Ledger) answers(ctx context.Context, intent int64) (outcomes []int64, err error) {
	rows, err := l.read.QueryContext(ctx, "SELECT outcome FROM answers WHERE intent = $1 ORDER BY outcome", intent)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		outcomes = append(outcomes, n)
	}
	return outcomes, rows.Err()
}

// lookupItem returns the entries within the bounds, which are exclusive and
// inclusive, whose filter has the key.
func (l *Ledger) lookupItem(ctx context.Context, key string, after, upTo int64, limit int) ([]int64, error) {
	hashes := keyHashes(key)
	rows, err := l.read.QueryContext(ctx, "SELECT number, filter FROM lookup WHERE number > $1 AND number <= $2 ORDER BY number", after, upTo)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var maybe []int64
	var filter sql.RawBytes
	for rows.Next() && len(maybe) < limit {
		var number int64
		if err := rows.Scan(&number, &filter); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(hashes, lookup(filter).has) {
			maybe = append(maybe, number)
		}
	}
	return maybe, rows.Err()
}

// find returns the places of the items that the key names.
func (s *sealed) find(key, store string) ([]int, error) {
	var places []int
	for i, slot := range s.items {
		if slot.salt == nil {
			continue
		}
		it, err := decodeItem(slot.text)
		if err != nil {
			return nil, err
		}
		if it.Names(key, store) {
			places = append(places, i)
		}
	}
	return places, nil
}
