package plan

import "iter"

// mostTogether is the most items of one batch that are held together.
const mostTogether = 10000

// Together yields the items of a rule as Batches does, in batches of n, but for
// those that name a thing which another item of the rule names too: they come
// last, and all that hang together by such things come in one batch, which may
// then be larger than n, up to 10,000 items. What is shared among the rows of one
// batch, and no other, keeps none of them from being done with.
//
// It reads the plan twice. Memory grows with the items that share, and else by
// at most 64 MiB.
func (p *Plan) Together(rule string, n int) iter.Seq2[[]Item, error] {
	n = max(n, 1)
	return func(yield func([]Item, error) bool) {
		twice, err := p.namedTwice(rule, n)
		if err != nil {
			yield(nil, err)
			return
		}
		var alone, held []Item
		for items, err := range p.Batches(rule, n) {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range items {
				if twice.holds(&items[i]) {
					held = append(held, items[i])
				} else {
					alone = append(alone, items[i])
				}
			}
			for len(alone) >= n {
				if !yield(alone[:n:n], nil) {
					return
				}
				alone = append([]Item(nil), alone[n:]...)
			}
		}
		var batch []Item
		for _, group := range append([][]Item{alone}, joined(held)...) {
			for len(group) > 0 {
				k := min(len(group), mostTogether)
				if len(batch) > 0 && len(batch)+k > n {
					if !yield(batch, nil) {
						return
					}
					batch = nil
				}
				batch = append(batch, group[:k]...)
				group = group[k:]
			}
		}
		if len(batch) > 0 {
			yield(batch, nil)
		}
	}
}

// sightings remembers by a hash what was seen once, and what more often. Two
// things may have one hash: then an item is held that need not be.
type sightings struct{ once, again []uint64 }

func (p *Plan) namedTwice(rule string, n int) (*sightings, error) {
	parts := int64(0)
	if s, ok := p.Rule(rule); ok {
		parts = s.Parts
	}
	words := int64(1 << 10)
	for words*4 < parts && words < 1<<22 { // 16 bits for each part
		words *= 2
	}
	t := &sightings{make([]uint64, words), make([]uint64, words)}
	for items, err := range p.Batches(rule, n) {
		if err != nil {
			return nil, err
		}
		for i := range items {
			for _, part := range items[i].Parts {
				word, bit := t.at(part)
				if t.once[word]&bit != 0 {
					t.again[word] |= bit
				}
				t.once[word] |= bit
			}
		}
	}
	return t, nil
}

// at is the place of a thing: FNV-1a of its store and locator.
func (t *sightings) at(p Part) (word uint64, bit uint64) {
	h := uint64(14695981039346656037)
	for _, s := range [...]string{p.Store, "\x00", string(p.Locator)} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
	}
	return h >> 6 % uint64(len(t.once)), 1 << (h & 63)
}

// holds reports an item that may share a thing with another one.
func (t *sightings) holds(it *Item) bool {
	for _, p := range it.Parts {
		if word, bit := t.at(p); t.again[word]&bit != 0 {
			return true
		}
	}
	return false
}

// joined puts items that hang together into one group, groups and items in the
// order in which they came.
func joined(items []Item) [][]Item {
	root := make([]int, len(items))
	find := func(i int) int {
		for root[i] != i {
			root[i] = root[root[i]]
			i = root[i]
		}
		return i
	}
	first := make(map[Thing]int)
	for i := range items {
		root[i] = i
		for _, p := range items[i].Parts {
			t := Thing{p.Store, p.Locator}
			if j, ok := first[t]; ok {
				a, b := find(i), find(j)
				root[max(a, b)] = min(a, b)
			} else {
				first[t] = i
			}
		}
	}
	var out [][]Item
	place := make(map[int]int)
	for i := range items {
		r := find(i)
		k, ok := place[r]
		if !ok {
			k = len(out)
			place[r] = k
			out = append(out, nil)
		}
		out[k] = append(out[k], items[i])
	}
	return out
}
