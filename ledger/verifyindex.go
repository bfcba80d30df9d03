package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// checkIndex compares the projections with what follows from the entries: who
// could change them could hide entries from the trail.
func (s *verifier) checkIndex(ctx context.Context, q querier) {
	whole := s.size/blockSize - s.first
	if whole < 0 {
		whole = 0
	}
	s.checkBlocks(ctx, q, whole)
	s.checkMarks(ctx, q, whole)
	s.checkOpen(ctx, q)
	s.checkClues(ctx, q)
}

func (s *verifier) blockPlace(b int64) (int64, string) {
	return b*blockSize + 1, fmt.Sprintf("index of entries %d to %d", b*blockSize+1, (b+1)*blockSize)
}

func (s *verifier) checkBlocks(ctx context.Context, q querier, whole int64) {
	rows, err := q.QueryContext(ctx, "SELECT block, first_at, last_at FROM blocks WHERE block >= $1 ORDER BY block", s.first)
	if err != nil {
		s.fault(0, "blocks", "they cannot be read")
		return
	}
	defer rows.Close()
	next := s.first
	for rows.Next() {
		var b, first, last int64
		if err := rows.Scan(&b, &first, &last); err != nil {
			s.fault(0, "blocks", "a row cannot be read")
			continue
		}
		for ; next < b && next < s.first+whole; next++ {
			n, at := s.blockPlace(next)
			s.fault(n, at, "it is missing")
		}
		next = b + 1
		n, at := s.blockPlace(b)
		if b-s.first >= whole {
			s.fault(0, at, "there is an index of entries that do not exist")
		} else if sum := &s.blocks[b-s.first]; sum.whole && (sum.firstAt != first || sum.lastAt != last) {
			s.fault(n, at, "its time span is wrong")
		}
	}
	if rows.Err() != nil {
		s.fault(0, "blocks", "they cannot all be read")
	}
	for ; next < s.first+whole; next++ {
		n, at := s.blockPlace(next)
		s.fault(n, at, "it is missing")
	}
}

func (s *verifier) checkMarks(ctx context.Context, q querier, whole int64) {
	rows, err := q.QueryContext(ctx, "SELECT key, block, CASE WHEN octet_length(bits) = 32 AND octet_length(key) < 200 THEN bits END FROM marks WHERE block >= $1", s.first)
	if err != nil {
		s.fault(0, "marks", "they cannot be read")
		return
	}
	defer rows.Close()
	sums := make([][32]byte, whole)
	for rows.Next() {
		var key string
		var b int64
		var bits []byte
		if err := rows.Scan(&key, &b, &bits); err != nil || b-s.first >= whole {
			s.fault(0, "marks", "there is a mark that cannot be read or of entries that do not exist")
			continue
		}
		mix(&sums[b-s.first], key, b, bits)
	}
	if rows.Err() != nil {
		s.fault(0, "marks", "they cannot all be read")
	}
	for i := range sums {
		if s.blocks[i].whole && sums[i] != s.blocks[i].marks {
			n, at := s.blockPlace(s.first + int64(i))
			s.fault(n, at, "by what it says, entries would not be found")
		}
	}
}

// checkClues compares the index of clues with what follows from facts and from the
// sealed texts that are still there.
func (s *verifier) checkClues(ctx context.Context, q querier) {
	if !s.l.clued {
		return
	}
	sums := make([][32]byte, (s.size+blockSize-1)/blockSize-s.first)
	stray := false
	s.pairs(ctx, q, "SELECT key, number FROM clues WHERE number > $1", s.first*blockSize, func(key, n int64) {
		if n <= s.minimum || n > s.size {
			stray = true
			return
		}
		mixClue(&sums[(n-1)/blockSize-s.first], key, n)
	})
	if stray {
		s.fault(0, "clues", "there are clues of entries that do not exist")
	}
	for i := range sums {
		b := s.first + int64(i)
		want, known := s.clues[b]
		if known && want == nil {
			continue // a fault of its own
		}
		if want == nil {
			want = new([32]byte)
		}
		if sums[i] != *want && !s.sealedMeanwhile(ctx, b) {
			n, at := s.blockPlace(b)
			s.fault(n, at, "by its clues, entries would not be found")
		}
	}
}

// sealedMeanwhile reports a block of which texts were sealed off after the
// verification began: its texts and its clues were not read at one moment.
func (s *verifier) sealedMeanwhile(ctx context.Context, b int64) bool {
	var n int64
	err := s.l.read.QueryRowContext(ctx, "SELECT count(*) FROM sealings WHERE target > $1 AND target <= $2 AND entry > $3",
		b*blockSize, (b+1)*blockSize, s.size).Scan(&n)
	return err == nil && n > 0
}

// checkOpen compares the lists of open intents and of answers.
func (s *verifier) checkOpen(ctx context.Context, q querier) {
	after := s.first * blockSize
	got := map[span]bool{}
	s.pairs(ctx, q, "SELECT intent, outcome FROM answers WHERE outcome > $1", after, func(a, b int64) { got[span{a, b}] = true })
	for p := range s.closed {
		if !got[p] && p.from > s.minimum {
			s.fault(p.to, place(p.to), "it answers entry %d, and the index does not say so", p.from)
		}
		delete(got, p)
		delete(s.opened, p.from)
	}
	for p := range got {
		s.fault(p.to, place(p.to), "the index says that it answers entry %d", p.from)
	}
	open := map[int64]int64{}
	s.pairs(ctx, q, "SELECT number, items FROM open_intents WHERE number > $1", after, func(n, items int64) { open[n] = items })
	for n, items := range s.opened {
		if got, there := open[n]; !there || got != int64(items) {
			s.fault(n, place(n), "it is an open intent of %d items, and the list of open intents does not say so", items)
		}
		delete(open, n)
	}
	for n := range open {
		s.fault(n, place(n), "it is listed as an open intent, and is none")
	}
}

func (s *verifier) pairs(ctx context.Context, q querier, query string, after int64, visit func(a, b int64)) {
	rows, err := q.QueryContext(ctx, query, after)
	if err != nil {
		s.fault(0, "projections", "they cannot be read")
		return
	}
	defer rows.Close()
	for rows.Next() {
		var a, b int64
		if err := rows.Scan(&a, &b); err != nil {
			s.fault(0, "projections", "a row cannot be read")
			continue
		}
		visit(a, b)
	}
	if rows.Err() != nil {
		s.fault(0, "projections", "they cannot all be read")
	}
}

// checkActs compares the lists of what was sealed off and pruned with the
// entries that say so.
func (s *verifier) checkActs(ctx context.Context, q querier) {
	acts := map[int64]*record{}
	for i := range s.acts {
		acts[s.acts[i].number] = &s.acts[i].record
	}
	after := s.first * blockSize
	lists := map[int64]*targetsHash{}
	rows, err := q.QueryContext(ctx, "SELECT entry, target, CASE WHEN octet_length(slots) <= $2 THEN slots END FROM sealings WHERE entry > $1 ORDER BY entry, target", after, int64(maxLeaves))
	if err != nil {
		s.fault(0, "sealings", "they cannot be read")
		return
	}
	defer rows.Close()
	for rows.Next() {
		var entry, target int64
		var slots []byte
		if err := rows.Scan(&entry, &target, &slots); err != nil {
			s.fault(0, "sealings", "a row cannot be read")
			continue
		}
		if lists[entry] == nil {
			lists[entry] = &targetsHash{}
		}
		lists[entry].add(target, slots)
	}
	prunes := map[int64]int64{}
	s.pairs(ctx, q, "SELECT entry, minimum FROM prunes WHERE entry > $1", after, func(e, m int64) { prunes[e] = m })
	for _, n := range slices.Sorted(maps.Keys(acts)) {
		e := Entry{Facts: acts[n].facts}
		switch Kind(acts[n].kind) {
		case SealedOff:
			want, _ := e.Hash("targets")
			if lists[n] == nil || lists[n].sum() != want {
				s.fault(n, place(n), "the list of what it sealed off is not the one it was written with")
			}
			delete(lists, n)
		case Pruned:
			want, _ := e.Int("minimum")
			if got, there := prunes[n]; !there || got != want {
				s.fault(n, place(n), "it prunes %d entries, and the list of prunings does not say so", want)
			}
			delete(prunes, n)
		}
	}
	s.checkMinimum()
	s.checkPrunings()
	for n := range lists {
		s.fault(n, place(n), "texts are listed as sealed off by it, and it does not say so")
	}
	for n := range prunes {
		s.fault(n, place(n), "entries are listed as pruned by it, and it does not say so")
	}
}
