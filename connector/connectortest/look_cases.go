package connectortest

import (
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
)

var checkCases = []testCase{
	{name: "finds no fault with the query and changes nothing", run: func(b *bench) {
		b.plant(3, Due)
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
	}},
	{name: "errs when the store is down", run: func(b *bench) {
		b.Break()
		if _, err := b.Connector.Check(b.ctx(), b.Query); err == nil {
			b.Error("Check: no error, though the store is down")
		}
	}},
}

var scanCases = []testCase{
	{name: "yields what is due and undated, and counts all", run: func(b *bench) {
		due, young := b.plant(3, Due), b.plant(2, Young)
		n, want := 5, slices.Clone(due)
		if !b.NoUndated {
			want = append(want, b.plant(2, Undated)...)
			n = 7
		}
		items, s := b.scan()
		var got []connector.Locator
		for _, it := range items {
			got = append(got, it.Locator)
			switch {
			case slices.Contains(young, it.Locator):
				b.Error("Scan: yields a young item")
			case slices.Contains(due, it.Locator) && !it.Anchor.Before(b.Query.Cutoff):
				b.Errorf("Scan: anchor of a due item is %v, cutoff %v", it.Anchor, b.Query.Cutoff)
			case slices.Contains(due, it.Locator) && it.Anchor.IsZero():
				b.Error("Scan: a due item has no anchor")
			case !slices.Contains(due, it.Locator) && !it.Anchor.IsZero():
				b.Errorf("Scan: the anchor of an undated item is %v", it.Anchor)
			}
			if it.Anchor.Location() != time.UTC {
				b.Errorf("Scan: anchor in %v, want UTC", it.Anchor.Location())
			}
			if it.Err != nil {
				b.Errorf("Scan: item error %v", it.Err)
			}
			if it.Print == "" && !b.NoPrints {
				b.Error("Scan: an item has no fingerprint")
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			b.Errorf("Scan: locators (-want +got):\n%s", diff)
		}
		if s.Total != int64(n) {
			b.Errorf("Scan: Survey.Total = %d, want %d", s.Total, n)
		}
	}},
	{name: "gives the same order for the same data and changes nothing", run: func(b *bench) {
		b.plant(20, Due)
		same := b.unchanged("Scan")
		one, _ := b.scan()
		two, _ := b.scan()
		if diff := cmp.Diff(locators(one), locators(two)); diff != "" {
			b.Errorf("Scan: second order differs (-first +second):\n%s", diff)
		}
		same()
	}},
	{name: "of an empty store ends without an error", run: func(b *bench) {
		if items, s := b.scan(); len(items) != 0 || s.Total != 0 {
			b.Errorf("Scan: got %d items and total %d of an empty store", len(items), s.Total)
		}
	}},
	{name: "ends with an error when the store is down", run: func(b *bench) {
		b.plant(3, Due)
		b.Break()
		b.scanErrs("the store is down", func(int) {})
	}},
	{name: "ends with an error when the context has ended", run: func(b *bench) {
		b.plant(3, Due)
		var err error
		for _, err = range b.Connector.Scan(ended(), b.Query, new(connector.Survey)) {
		}
		if err == nil {
			b.Error("Scan: no error, though the context has ended")
		}
	}},
	{name: "may be left in the middle", run: func(b *bench) {
		b.plant(5, Due)
		for _, err := range b.Connector.Scan(b.ctx(), b.Query, new(connector.Survey)) {
			if err != nil {
				b.Fatalf("Scan: %v", err)
			}
			break
		}
		if items, _ := b.scan(); len(items) != 5 {
			b.Errorf("Scan: got %d items after a scan that was left, want 5", len(items))
		}
	}},
}

// scanErrs checks that a scan ends with an error, and with it only.
func (b *bench) scanErrs(why string, each func(n int)) {
	b.Helper()
	n, after := 0, false
	var last error
	for _, err := range b.Connector.Scan(b.ctx(), b.Query, new(connector.Survey)) {
		if after {
			b.Error("Scan: goes on after an error")
		}
		after = err != nil
		last = err
		each(n)
		n++
	}
	if last == nil {
		b.Errorf("Scan: no error, though %s", why)
	}
}

var probeCases = []testCase{
	{name: "answers each in order", run: func(b *bench) {
		at := b.plant(3, Due)
		b.Remove(at[1])
		rs := b.probe([]connector.Locator{b.Absent, at[2], at[0], at[1], at[2]}) // no palindrome
		b.want("an absent locator", rs[0], connector.Gone, connector.Missing)
		b.want("a present item", rs[1], connector.Present)
		b.want("a present item", rs[2], connector.Present)
		b.want("a removed item", rs[3], connector.Gone, connector.Missing)
		b.want("an item asked for twice", rs[4], connector.Present)
		if rs[1].Print != rs[4].Print || rs[1].Print == "" || rs[1].Print == rs[2].Print {
			b.Errorf("Probe: prints %q, %q, %q of one, the same and another item", rs[1].Print, rs[4].Print, rs[2].Print)
		}
	}},
	{name: "of nothing answers nothing", run: func(b *bench) { b.probe(nil) }},
	{name: "gives the fingerprint that Scan gives, until the thing changes", when: func(h Harness) bool { return !h.NoPrints }, run: func(b *bench) {
		at := b.plant(2, Due)
		items, rs := b.items(at), b.probe(at)
		for i := range at {
			if rs[i].Print != items[i].Print {
				b.Errorf("print of item %d: Probe %q, Scan %q", i, rs[i].Print, items[i].Print)
			}
		}
		b.Change(at[0])
		again := b.probe(at)
		if again[0].Print == rs[0].Print {
			b.Error("Probe: a changed item keeps its fingerprint")
		}
		if again[1].Print != rs[1].Print {
			b.Error("Probe: an unchanged item has another fingerprint")
		}
	}},
	{name: "changes nothing", run: func(b *bench) {
		at := append(b.plant(2, Due), b.plant(1, Young)...)
		same := b.unchanged("Probe")
		b.probe(append(at, b.Absent))
		same()
	}},
	{name: "is Unknown when the store is down, also for what is absent", run: func(b *bench) {
		at := append(b.plant(2, Due), b.Absent)
		b.probe(at)
		b.Break()
		b.wantAll("Probe", b.probe(at), connector.Unknown, connector.Unreachable)
		b.Restore()
		b.want("Probe after Restore", b.probe(at)[0], connector.Present)
	}},
	{name: "states only what is so when the context has ended", run: func(b *bench) {
		at := append(b.plant(3, Due), b.Absent)
		rs := b.Connector.Probe(ended(), at)
		b.length("Probe", len(rs), len(at))
		for i, r := range rs {
			b.honest("Probe", at[i], r)
		}
	}},
}

func locators(items []connector.Item) []connector.Locator {
	at := make([]connector.Locator, len(items))
	for i, it := range items {
		at[i] = it.Locator
	}
	return at
}
