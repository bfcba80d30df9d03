package ledger

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// PruneEntry is what an entry says of a pruning.
type PruneEntry struct {
	Entry   int64     // its number
	At      time.Time // of it
	Minimum int64     // entries that were gone from the beginning then
	Before  time.Time // what was older could go
	// Again are the forks and rotations of the key that went, and of which it says
	// again what they said.
	Again []int64
}

func pruneEntry(n *numbered) PruneEntry {
	e := Entry{Facts: n.record.facts}
	p := PruneEntry{Entry: n.number, At: n.record.at}
	p.Minimum, _ = e.Int("minimum")
	p.Before, _ = e.Instant("before")
	for _, c := range carriedBy(e) {
		p.Again = append(p.Again, c.Number)
	}
	return p
}

// readPruning finds the entry of the pruning in force. It is among the acts, unless
// it lies before the first block that is read.
func (s *verifier) readPruning(ctx context.Context, q querier) {
	if s.minimum == 0 {
		return
	}
	var n numbered
	err := q.QueryRowContext(ctx, "SELECT entry FROM prunes WHERE minimum = $1 ORDER BY entry LIMIT 1", s.minimum).Scan(&n.number)
	if err != nil || n.number <= s.minimum || n.number > s.size {
		return
	}
	if n.number <= s.first*blockSize {
		n.record, err = s.boundRecord(ctx, q, n.number)
	} else if i := slices.IndexFunc(s.acts, func(a numbered) bool { return a.number == n.number }); i >= 0 {
		n = s.acts[i]
	}
	if err == nil && n.record.kind == string(Pruned) && pruneEntry(&n).Minimum == s.minimum {
		s.pruning = &n
	}
}

// checkMinimum checks that the pruning in force is said by an entry that is still
// there: an entry is never pruned by itself.
func (s *verifier) checkMinimum() {
	if s.minimum > 0 && s.pruning == nil {
		s.fault(0, "prunes", "%d entries are missing from the beginning as if pruned, and no entry says so", s.minimum)
	}
}

// checkPrunings lists the prunings, and checks that each says again what the one
// before it did: a fork that is no longer told of would be one that never was.
func (s *verifier) checkPrunings() {
	var list []*numbered
	if s.pruning != nil && s.pruning.number <= s.first*blockSize {
		list = append(list, s.pruning)
	}
	for i := range s.acts {
		if s.acts[i].record.kind == string(Pruned) {
			list = append(list, &s.acts[i])
		}
	}
	slices.SortFunc(list, func(a, b *numbered) int { return cmp.Compare(a.number, b.number) })
	for i, n := range list {
		s.report.Prunings = append(s.report.Prunings, pruneEntry(n))
		if i > 0 && pruneEntry(list[i-1]).Minimum < pruneEntry(n).Minimum {
			s.saysAgain(list[i-1], n)
		}
	}
}

func (s *verifier) saysAgain(before, now *numbered) {
	for _, f := range before.record.facts {
		kind, number, _, ok := splitCarried(f.name)
		if ok && kind == Forked && !slices.Contains(now.record.facts, f) {
			s.fault(now.number, place(now.number), "it does not say again what the pruning of entry %d says of the fork of entry %d", before.number, number)
			return
		}
	}
}

// forksFound are the forks among the entries, and those that were pruned and are
// said again.
func (s *verifier) forksFound() []fork {
	var es []Entry
	if s.pruning != nil {
		es = carriedBy(Entry{Facts: s.pruning.record.facts})
	}
	for i := range s.acts {
		r := &s.acts[i].record
		if r.kind == string(Forked) {
			es = append(es, Entry{Number: s.acts[i].number, Kind: Forked, Facts: r.facts})
		}
	}
	es = slices.DeleteFunc(sortedOnce(es), func(e Entry) bool { return e.Kind != Forked })
	for _, e := range es {
		s.report.Forks = append(s.report.Forks, e.Number)
	}
	return forksOf(s.l.name, es)
}
