package connectortest

import (
	"slices"

	"github.com/epitaph/epitaph/connector"
)

var claimCases = []testCase{
	{name: "answers each in order, and one refusal changes no other answer", run: func(b *bench) {
		at := b.plant(4, Due)
		items := b.items(at)
		b.Remove(at[1])
		items = append(items, connector.Item{Locator: b.Absent, Print: items[0].Print})
		slices.Reverse(items) // absent, 3, 2, removed, 0
		_, rs := b.claim(items)
		for i, want := range []bool{false, true, true, false, true} {
			if want {
				b.want("a due item", rs[i], connector.Present, connector.Eligible)
			} else {
				b.want("what is not there", rs[i], connector.Gone, connector.Missing)
			}
		}
	}},
	{name: "of nothing answers nothing", run: func(b *bench) {
		c, _ := b.claim(nil)
		b.erase(c, nil)
	}},
	{name: "refuses what changed since it was seen", run: func(b *bench) {
		at := b.plant(3, Due)
		items := b.items(at)
		b.Change(at[1])
		same := b.unchanged("Claim and Release")
		c, rs := b.claim(items)
		b.want("an unchanged item", rs[0], connector.Present, connector.Eligible)
		b.want("a changed item", rs[1], connector.Present, connector.Changed, connector.NotDue)
		b.want("an unchanged item", rs[2], connector.Present, connector.Eligible)
		b.release(c)
		same()
	}},
	{name: "refuses what is young", run: func(b *bench) {
		_, rs := b.claim(b.probed(b.plant(2, Young)))
		b.wantAll("young items", rs, connector.Present, connector.NotDue)
	}},
	{name: "refuses what is undated", when: undated, run: func(b *bench) {
		_, rs := b.claim(b.probed(b.plant(2, Undated)))
		b.wantAll("undated items", rs, connector.Present, connector.Undated, connector.NotDue)
	}},
	{name: "rehearses, and refuses what the store would not let go", when: refuses, run: func(b *bench) {
		at := b.plant(5, Due)
		b.Refuse(at[2])
		items := b.items(at)
		c, rs := b.claim(items)
		for i, r := range rs {
			if i == 2 {
				b.want("the refused item", r, connector.Present, connector.Refused, connector.NoPermission,
					connector.Shared, connector.LockedUntil)
				continue
			}
			b.want("an item beside", r, connector.Present, connector.Eligible)
		}
		rs = b.erase(c, upTo(5))
		b.there("the refused item", at[2:3], true)
		b.want("the refused item in Erase", rs[2], connector.Unknown)
		for _, i := range []int{0, 1, 3, 4} {
			b.want("an item beside", rs[i], connector.Gone, connector.Erasure)
		}
		b.there("items beside", []connector.Locator{at[0], at[1], at[3], at[4]}, false)
	}},
	{name: "changes nothing for any eye until Erase", run: func(b *bench) {
		at := b.plant(3, Due)
		items := b.items(at)
		same := b.unchanged("Claim")
		b.claim(items)
		b.there("a claimed item", at, true)
		same()
	}},
	{name: "is Unknown, with a claim that can be released, when the store is down", run: func(b *bench) {
		at := b.plant(3, Due)
		items := b.items(at)
		b.Break()
		c, rs := b.claim(items)
		b.wantAll("Claim", rs, connector.Unknown, connector.Unreachable)
		b.wantAll("Erase", b.erase(c, upTo(3)), connector.Unknown)
		c.Release()
		b.Restore()
		b.there("an item", at, true)
	}},
	{name: "claims nothing when the context has ended", run: func(b *bench) {
		at := b.plant(3, Due)
		c, rs := b.claimIn(ended(), b.items(at))
		b.wantAll("Claim", rs, connector.Unknown)
		b.wantAll("Erase", b.erase(c, upTo(3)), connector.Unknown)
		b.there("an item", at, true)
	}},
	{name: "keeps others off", when: locks, run: func(b *bench) {
		at := b.plant(2, Due)
		items := b.items(at)
		c, _ := b.claim(items)
		_, rs := b.claim(items)
		b.wantAll("a second claim", rs, connector.Present, connector.InUse)
		b.release(c)
		_, rs = b.claim(items)
		b.wantAll("a claim after the release", rs, connector.Present, connector.Eligible)
	}},
}

func (b *bench) release(c connector.Claim) {
	b.Helper()
	if err := c.Release(); err != nil {
		b.Errorf("Release: %v", err)
	}
}
