package connectortest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/epitaph/epitaph/connector"
)

var eraseCases = []testCase{
	{name: "erases what is asked for, answers in that order, and leaves the rest", run: func(b *bench) {
		at, young := b.plant(4, Due), b.plant(1, Young)
		c, _ := b.claim(b.items(at))
		rs := b.erase(c, []int{3, 0})
		b.wantAll("Erase", rs, connector.Gone, connector.Erasure)
		b.release(c)
		b.there("an erased item", []connector.Locator{at[3], at[0]}, false)
		b.there("an item not asked for", []connector.Locator{at[1], at[2], young[0]}, true)
	}},
	{name: "leaves alone an index that was not claimed", run: func(b *bench) {
		at := b.plant(3, Due)
		items := b.items(at)
		b.Change(at[1])
		c, _ := b.claim(items)
		rs := b.erase(c, []int{1, 0, -1, 3, 99})
		b.want("a refused index", rs[0], connector.Unknown)
		b.want("a claimed index", rs[1], connector.Gone, connector.Erasure)
		b.wantAll("an index out of range", rs[2:], connector.Unknown)
		b.release(c)
		b.there("a refused item and one not asked for", at[1:], true)
	}},
	{name: "acts once", run: func(b *bench) {
		at := b.plant(2, Due)
		c, _ := b.claim(b.items(at))
		b.erase(c, []int{0})
		b.wantAll("a second Erase", b.erase(c, []int{0, 1}), connector.Unknown)
		b.release(c)
		b.there("an item of the second Erase", at[1:], true)
	}},
	{name: "does nothing after Release", run: func(b *bench) {
		at := b.plant(2, Due)
		c, _ := b.claim(b.items(at))
		b.release(c)
		b.wantAll("Erase after Release", b.erase(c, upTo(2)), connector.Unknown)
		b.there("an item", at, true)
	}},
	{name: "takes no other version than the claimed one", when: noLocks, run: func(b *bench) {
		at := b.plant(3, Due)
		c, _ := b.claim(b.items(at))
		b.Change(at[0])
		b.Remove(at[1])
		rs := b.erase(c, upTo(3))
		b.want("an item changed after the claim", rs[0], connector.Present, connector.Changed)
		b.want("an item removed after the claim", rs[1], connector.Gone, connector.Missing)
		b.want("an untouched item", rs[2], connector.Gone, connector.Erasure)
		b.there("the changed item", at[:1], true)
	}},
	{name: "is never Gone when the store goes down after the claim", run: func(b *bench) {
		at := b.plant(3, Due)
		c, _ := b.claim(b.items(at))
		b.Break()
		rs := b.erase(c, upTo(3))
		b.wantAll("Erase", rs, connector.Unknown)
		c.Release()
		b.Restore()
		b.there("an item", at, true)
	}},
	{name: "states only what is so when the context ends", run: func(b *bench) {
		at := b.plant(3, Due)
		c, rs := b.claim(b.items(at))
		b.wantAll("Claim", rs, connector.Present, connector.Eligible)
		e := c.Erase(ended(), upTo(3))
		b.length("Erase", len(e.Results), 3)
		c.Release()
		for i, r := range e.Results {
			b.honest("Erase", at[i], r)
		}
	}},
	{name: "leaves nothing for a second run, which says so", run: func(b *bench) {
		at := b.plant(3, Due)
		items := b.items(at)
		c, _ := b.claim(items)
		b.wantAll("Erase", b.erase(c, upTo(3)), connector.Gone, connector.Erasure)
		b.release(c)
		if again, s := b.scan(); len(again) != 0 || s.Total != 0 {
			b.Errorf("Scan after Erase: %d items, total %d", len(again), s.Total)
		}
		b.wantAll("Probe after Erase", b.probe(at), connector.Gone, connector.Missing)
		_, rs := b.claim(items)
		b.wantAll("a second Claim", rs, connector.Gone, connector.Missing)
	}},
}

var releaseCases = []testCase{
	{name: "is idempotent and leaves all as it was", run: func(b *bench) {
		at := b.plant(2, Due)
		items := b.items(at)
		same := b.unchanged("Release")
		c, _ := b.claim(items)
		b.release(c)
		b.release(c)
		same()
		_, rs := b.claim(items)
		b.wantAll("Claim after Release", rs, connector.Present, connector.Eligible)
	}},
	{name: "is safe after Erase", run: func(b *bench) {
		at := b.plant(2, Due)
		c, _ := b.claim(b.items(at))
		b.erase(c, []int{0})
		same := b.unchanged("Release after Erase")
		b.release(c)
		b.release(c)
		same()
		b.there("the erased item", at[:1], false)
		b.there("the other item", at[1:], true)
	}},
}

var togetherCases = []testCase{
	{name: "workers that claim the same items erase each once", run: func(b *bench) {
		at := b.plant(24, Due)
		items := b.items(at)
		ctx := b.ctx()
		var erased atomic.Int64
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for n := range 6 {
					batch := items[(n+w)%6*4:][:4]
					erased.Add(b.takeBatch(ctx, batch))
				}
			})
		}
		for range 2 {
			wg.Go(func() { b.lookAround(ctx, at) })
		}
		wg.Wait()
		// Whatever a worker found in use, another may have released unerased.
		for n := range 6 {
			erased.Add(b.takeBatch(ctx, items[n*4:][:4]))
		}
		if got := erased.Load(); got != int64(len(at)) {
			b.Errorf("%d items were erased %d times", len(at), got)
		}
		b.there("an item", at, false)
	}},
}

// takeBatch claims and erases a batch and counts what this call erased.
func (b *bench) takeBatch(ctx context.Context, batch []connector.Item) (n int64) {
	c, rs := b.Connector.Claim(ctx, b.Query, batch)
	defer c.Release()
	var which []int
	for i, r := range rs {
		if r.State == connector.Present && r.Reason == connector.Eligible {
			which = append(which, i)
		}
	}
	for _, r := range c.Erase(ctx, which).Results {
		if r.State == connector.Gone && r.Reason == connector.Erasure {
			n++
		}
	}
	return n
}

// lookAround uses everything that only looks.
func (b *bench) lookAround(ctx context.Context, at []connector.Locator) {
	for range 4 {
		if _, err := b.Connector.Check(ctx, b.Query); err != nil {
			b.Errorf("Check beside workers: %v", err)
		}
		for _, err := range b.Connector.Scan(ctx, b.Query, new(connector.Survey)) {
			if err != nil {
				b.Errorf("Scan beside workers: %v", err)
			}
		}
		for _, r := range b.Connector.Probe(ctx, at) {
			if r.State == connector.Unknown {
				b.Errorf("Probe beside workers: unknown (%v)", r.Err)
			}
		}
	}
}
