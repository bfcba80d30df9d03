package ledger

import (
	"context"
	"fmt"
	"math"
)

// blockStream gives blocks with the entries wanted of them, in order.
type blockStream struct {
	// more reads on from a number, in the direction of the stream.
	more func(at int64) (blocks []markedBlock, next int64, err error)
	at   int64 // where to read on
	done bool
	got  []markedBlock
}

// skipTo lets go of the blocks before one, in the direction of the stream.
func (s *blockStream) skipTo(block int64, newest bool) {
	for len(s.got) > 0 && s.got[0].block != block && newest == (s.got[0].block > block) {
		s.got = s.got[1:]
	}
	switch {
	case len(s.got) > 0 || s.done:
	case newest:
		s.at = min(s.at, (block+1)*blockSize)
	default:
		s.at = max(s.at, block*blockSize+1)
	}
}

// head is the next block; nil at the end.
func (s *blockStream) head() (*markedBlock, error) {
	for len(s.got) == 0 {
		if s.done {
			return nil, nil
		}
		var err error
		if s.got, s.at, err = s.more(s.at); err != nil {
			return nil, err
		}
		s.done = s.at == 0
	}
	return &s.got[0], nil
}

// byClue visits the entries that may meet the clue: those that the index of clues
// names, those of the runs, and those that were written without an index. It
// reports false where the clue cannot be looked for so.
func (l *Ledger) byClue(ctx context.Context, f *Filter, c *Clue, within span, top int64, emit func([]numbered, error) bool) bool {
	if !l.clued {
		return false
	}
	keys, ok := l.asked(c, len(f.Kinds) == 1 && f.Kinds[0] == RunStarted)
	const mostRuns = 500 // with more of them nearly everything is wanted
	if !ok || len(c.Runs) > mostRuns {
		return false
	}
	if within.from > within.to {
		return true
	}
	streams := []*blockStream{l.numberStream(ctx, f, within, "SELECT number FROM entries WHERE clued IS NULL", nil, true)}
	for _, key := range keys {
		streams = append(streams, l.numberStream(ctx, f, within, "SELECT number FROM clues WHERE key = $3", []any{key}, false))
	}
	for _, run := range c.Runs {
		streams = append(streams, l.runStream(ctx, f, within, run))
	}
	if len(c.Runs) > 0 {
		streams = append(streams, tailStream(f, within))
	}
	l.merge(ctx, f, within, top/blockSize, streams, emit)
	return true
}

// marked gives the whole blocks in which the rest of the filter can be met, so
// that those between them are skipped; nil when it asks for nothing there.
func (l *Ledger) marked(ctx context.Context, f *Filter, within span) *blockStream {
	groups := f.markGroups()
	if len(groups) == 0 && f.Since.IsZero() && f.Until.IsZero() {
		return nil
	}
	return l.pages(ctx, f, groups, within)
}

// merge visits the blocks of all streams in order, each once. Blocks from whole
// on have no marks.
func (l *Ledger) merge(ctx context.Context, f *Filter, within span, whole int64, streams []*blockStream, emit func([]numbered, error) bool) {
	rest := l.marked(ctx, f, within)
	for {
		var next *markedBlock
		for _, s := range streams {
			b, err := s.head()
			if err != nil {
				emit(nil, err)
				return
			}
			if b != nil && (next == nil || f.Newest == (b.block > next.block) && b.block != next.block) {
				next = b
			}
		}
		if next == nil {
			return
		}
		all := markedBlock{block: next.block}
		if rest != nil && all.block < whole {
			rest.skipTo(all.block, f.Newest)
			b, err := rest.head()
			if err != nil {
				emit(nil, err)
				return
			}
			to := int64(-1) // none is left
			if b != nil {
				to = b.block
			} else if !f.Newest {
				to = whole
			}
			if to != all.block {
				for _, s := range streams {
					s.skipTo(to, f.Newest)
				}
				continue
			}
		}
		for _, s := range streams {
			for len(s.got) > 0 && s.got[0].block == all.block {
				for w := range all.bits {
					all.bits[w] |= s.got[0].bits[w]
				}
				s.got = s.got[1:]
				if _, err := s.head(); err != nil {
					emit(nil, err)
					return
				}
			}
		}
		list, err := l.loadBlock(ctx, f, all, within)
		if !emit(list, err) || err != nil {
			return
		}
	}
}

// numberStream gives the blocks of numbers that a query finds. With rows it finds
// rows of entries, each of which is wanted up to the end of its block.
func (l *Ledger) numberStream(ctx context.Context, f *Filter, within span, query string, args []any, rows bool) *blockStream {
	const page = 512
	query += " AND number >= $1 AND number <= $2 ORDER BY number"
	s := &blockStream{at: within.from}
	lowest := within.from
	if rows { // a row may begin before, in the same block
		lowest = (within.from-1)/blockSize*blockSize + 1
		s.at = lowest
	}
	if f.Newest {
		query += " DESC"
		s.at = within.to
	}
	query += fmt.Sprintf(" LIMIT %d", page)
	s.more = func(at int64) ([]markedBlock, int64, error) {
		bounds := []any{at, within.to}
		if f.Newest {
			bounds = []any{lowest, at}
		}
		var blocks []markedBlock
		n, last := 0, int64(0)
		err := eachNumber(ctx, l.read, query, append(bounds, args...), func(number int64) {
			n, last = n+1, number
			block, place := (number-1)/blockSize, int((number-1)%blockSize)
			if len(blocks) == 0 || blocks[len(blocks)-1].block != block {
				blocks = append(blocks, markedBlock{block: block})
			}
			bits := &blocks[len(blocks)-1].bits
			bits.set(place)
			for ; rows && place < blockSize; place++ {
				bits.set(place)
			}
		})
		if err != nil || n < page {
			return blocks, 0, err
		}
		if f.Newest {
			return blocks, last - 1, nil
		}
		return blocks, last + 1, nil
	}
	return s
}

func eachNumber(ctx context.Context, q querier, query string, args []any, visit func(n int64)) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return err
		}
		visit(n)
	}
	return rows.Err()
}

// runStream gives the whole blocks with entries of a run.
func (l *Ledger) runStream(ctx context.Context, f *Filter, within span, run string) *blockStream {
	return l.pages(ctx, &Filter{Newest: f.Newest}, [][]string{{"run " + run}}, within)
}

// pages gives the whole blocks with marks of all groups.
func (l *Ledger) pages(ctx context.Context, f *Filter, groups [][]string, within span) *blockStream {
	s := &blockStream{at: within.from}
	if f.Newest {
		s.at = within.to
	}
	s.more = func(at int64) ([]markedBlock, int64, error) {
		page, err := l.markPage(ctx, f, groups, (at-1)/blockSize)
		if err != nil || len(page) < blocksPerPage {
			return page, 0, err
		}
		last := page[len(page)-1].block
		if f.Newest {
			return page, last * blockSize, nil
		}
		return page, (last+1)*blockSize + 1, nil
	}
	return s
}

// tailStream gives the entries after the last whole block, which have no marks
// yet. It is cut to the span where it is loaded.
func tailStream(f *Filter, within span) *blockStream {
	all := bitmap{math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}
	return &blockStream{done: true, got: []markedBlock{{block: (within.to - 1) / blockSize, bits: all}}}
}

// rarest is the clue of which there are the fewest entries, as far as they are
// counted: the others are left to the reader.
func (l *Ledger) rarest(ctx context.Context, clues []Clue) *Clue {
	const most = 4096
	best, least := &clues[0], int64(math.MaxInt64)
	for i := range clues {
		keys, ok := l.asked(&clues[i], false)
		if !l.clued || !ok || len(clues) == 1 {
			continue
		}
		n := int64(len(clues[i].Runs)) * blockSize
		for _, key := range keys {
			var of int64
			if l.read.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM clues WHERE key = $1 LIMIT %d) AS t", most), key).Scan(&of) == nil {
				n += of
			}
		}
		if n < least {
			best, least = &clues[i], n
		}
	}
	return best
}
