package connectortest

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/epitaph/epitaph/connector"
)

// setting runs a case with the query that sets rows, for stores that have rows.
func setting(name string, run func(b *bench)) testCase {
	return testCase{name: name, when: sets, run: func(b *bench) {
		b.Query = b.Then
		run(b)
	}}
}

var thenCases = []testCase{
	setting("finds no fault with the query and changes nothing", func(b *bench) {
		b.plant(2, Due)
		same := b.unchanged("Check")
		fs, err := b.Connector.Check(b.ctx(), b.Query)
		if err != nil {
			b.Fatalf("Check: %v", err)
		}
		for _, f := range fs {
			if f.Severity == connector.Fault {
				b.Errorf("Check: fault with %s: %s", f.Subject, f.Text)
			}
		}
		same()
	}),
	setting("sets what is asked for, answers in that order, and erases nothing", func(b *bench) {
		at, young := b.plant(4, Due), b.plant(1, Young)
		c, rs := b.claim(b.items(at))
		b.wantAll("Claim", rs, connector.Present, connector.Eligible)
		e := c.Erase(b.ctx(), []int{3, 0})
		b.length("Erase", len(e.Results), 2)
		b.wantAll("Erase", e.Results, connector.Present, connector.Set)
		if len(e.Rows) > 0 {
			b.Errorf("Erase: says that rows went: %v", e.Rows)
		}
		b.release(c)
		b.areSet("an item asked for", []connector.Locator{at[3], at[0]}, true)
		b.areSet("an item not asked for", []connector.Locator{at[1], at[2], young[0]}, false)
		b.there("an item", slices.Concat(at, young), true)
	}),
	setting("shows the rehearsal to nobody, and Release undoes it", func(b *bench) {
		at := b.plant(3, Due)
		items := b.items(at)
		same := b.unchanged("Claim and Release")
		c, _ := b.claim(items)
		b.areSet("a claimed item", at, false)
		b.release(c)
		b.release(c)
		same()
		_, rs := b.claim(items)
		b.wantAll("Claim after Release", rs, connector.Present, connector.Eligible)
	}),
	setting("passes over what is set, and says so", func(b *bench) {
		at := b.plant(3, Due)
		items := b.items(at)
		c, _ := b.claim(items)
		b.wantAll("Erase", b.erase(c, []int{0, 2}), connector.Present, connector.Set)
		b.release(c)
		left, s := b.scan()
		if len(left) != 1 || left[0].Locator != at[1] || s.Total != 1 {
			b.Errorf("Scan: %d items, total %d, want the one that is not set", len(left), s.Total)
		}
		same := b.unchanged("a claim of what is set")
		c, rs := b.claim(items)
		b.want("what is set", rs[0], connector.Present, connector.Set)
		b.want("what is not", rs[1], connector.Present, connector.Eligible)
		b.want("what is set", rs[2], connector.Present, connector.Set)
		b.want("what is set in Erase", b.erase(c, []int{0})[0], connector.Unknown)
		b.release(c)
		same()
		b.wantAll("Probe", b.probe(at), connector.Present)
	}),
	setting("refuses what is young, gone or undated", func(b *bench) {
		at := b.plant(2, Young)
		want := []connector.Reason{connector.NotDue, connector.NotDue}
		if !b.NoUndated {
			at, want = append(at, b.Plant(Undated)), append(want, connector.Undated)
		}
		items := append(b.probed(at), connector.Item{Locator: b.Absent})
		c, rs := b.claim(items)
		for i, reason := range want {
			b.want("what is not due", rs[i], connector.Present, reason)
		}
		b.want("what is not there", rs[len(at)], connector.Gone, connector.Missing)
		b.wantAll("Erase", b.erase(c, upTo(len(items))), connector.Unknown)
		b.areSet("an item", at, false)
	}),
	{name: "rehearses, and refuses what the store would not set", when: func(h Harness) bool { return h.Sets && h.Refuses }, run: func(b *bench) {
		b.Query = b.Then
		at := b.plant(5, Due)
		b.Refuse(at[2])
		c, rs := b.claim(b.items(at))
		b.want("the refused item", rs[2], connector.Present, connector.Refused, connector.NoPermission)
		rs = b.erase(c, upTo(5))
		b.want("the refused item in Erase", rs[2], connector.Unknown)
		b.areSet("the refused item", at[2:3], false)
		for _, i := range []int{0, 1, 3, 4} {
			b.want("an item beside", rs[i], connector.Present, connector.Set)
			b.areSet("an item beside", at[i:i+1], true)
		}
	}},
	setting("never says SET when the store goes down after the claim", func(b *bench) {
		at := b.plant(3, Due)
		c, _ := b.claim(b.items(at))
		b.Break()
		b.wantAll("Erase", b.erase(c, upTo(3)), connector.Unknown)
		c.Release()
		b.Restore()
		b.areSet("an item", at, false)
	}),
	setting("is Unknown when the store is down", func(b *bench) {
		at := b.plant(3, Due)
		items := b.items(at)
		b.Break()
		c, rs := b.claim(items)
		b.wantAll("Claim", rs, connector.Unknown, connector.Unreachable)
		b.wantAll("Erase", b.erase(c, upTo(3)), connector.Unknown)
		c.Release()
		b.Restore()
		b.areSet("an item", at, false)
	}),
	setting("states only what is so when the context ends", func(b *bench) {
		at := b.plant(3, Due)
		c, _ := b.claim(b.items(at))
		e := c.Erase(ended(), upTo(3))
		b.length("Erase", len(e.Results), 3)
		c.Release()
		for i, r := range e.Results {
			if r.State == connector.Gone || r.Reason == connector.Set && !b.IsSet(at[i]) {
				b.Errorf("Erase: says %v %s, and the item is not set", r.State, r.Reason)
			}
		}
	}),
	{name: "keeps others off", when: func(h Harness) bool { return h.Sets && h.Locks }, run: func(b *bench) {
		b.Query = b.Then
		items := b.items(b.plant(2, Due))
		c, _ := b.claim(items)
		_, rs := b.claim(items)
		b.wantAll("a second claim", rs, connector.Present, connector.InUse)
		b.release(c)
	}},
	setting("workers that claim the same items set each once", func(b *bench) {
		at := b.plant(12, Due)
		items := b.items(at)
		ctx := b.ctx()
		var done atomic.Int64
		batch := func(n int) {
			c, rs := b.Connector.Claim(ctx, b.Query, items[n*3:][:3])
			defer c.Release()
			var which []int
			for i, r := range rs {
				if r.State == connector.Present && r.Reason == connector.Eligible {
					which = append(which, i)
				}
			}
			for _, r := range c.Erase(ctx, which).Results {
				if r.State == connector.Present && r.Reason == connector.Set {
					done.Add(1)
				}
			}
		}
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() {
				for n := range 4 {
					batch((n + w) % 4)
				}
			})
		}
		wg.Wait()
		for n := range 4 {
			batch(n)
		}
		if got := done.Load(); got != int64(len(at)) {
			b.Errorf("%d items were set %d times", len(at), got)
		}
		b.areSet("an item", at, true)
	}),
}

// areSet checks which items have the values of Then.
func (b *bench) areSet(what string, at []connector.Locator, want bool) {
	b.Helper()
	for i, loc := range at {
		if got := b.IsSet(loc); got != want {
			b.Errorf("%s: item %d set = %v, want %v", what, i, got, want)
		}
	}
}
