package ledger_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
)

// Of a batch only the items that are asked for are read; a place that the batch has
// not is none. What is kept from sealing off is counted, and still there.
func TestPlacesAndKeep(t *testing.T) {
	t.Parallel()
	l, err := ledger.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "epitaph.db"), ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	batch := ledger.Entry{Kind: ledger.CustodyOperations, Items: []ledger.Item{{Locator: "/a jones"}, {Locator: "/b jones"}, {Locator: "/c"}}}
	if _, err := l.Append(t.Context(), batch, batch); err != nil {
		t.Fatal(err)
	}
	read := func(places []int) (got []string) {
		t.Helper()
		for e, err := range l.Entries(t.Context(), ledger.Filter{After: 1, Before: 3, Unseal: true, Places: places}) {
			if err != nil || e.Number != 2 || e.Count != 3 {
				t.Fatalf("%+v %v", e, err)
			}
			for _, it := range e.Items {
				if it.SealedOff {
					it.Locator = "sealed off"
				}
				got = append(got, it.Locator)
			}
		}
		return got
	}
	expect := func(what string, got []string, want ...string) {
		t.Helper()
		if len(got) != len(want) {
			t.Errorf("%s: %q", what, got)
			return
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
	}
	expect("all", read(nil), "/a jones", "/b jones", "/c")
	expect("one", read([]int{1}), "", "/b jones", "")
	expect("one that is not there", read([]int{-1, 2, 3}), "", "", "/c")
	keep := func(kind ledger.Kind, number int64, place int, it ledger.Item) bool {
		return kind == ledger.CustodyOperations && number == 2 && place == 0 && it.Locator == "/a jones"
	}
	for _, s := range []ledger.Selection{{Subject: "jones"}, {Item: "/a jones"}, {Before: time.Now().Add(time.Hour)}} {
		d, err := l.SealOff(t.Context(), s, true) // who does not say what is needed takes nothing that may be
		if err != nil || d.Items != 0 || d.Kept == 0 {
			t.Errorf("%+v: %+v %v", s, d, err)
		}
	}
	d, err := l.SealOff(t.Context(), ledger.Selection{Subject: "jones", Keep: keep}, false)
	if err != nil || d.Items != 3 || d.Kept != 1 || d.Entries != 2 {
		t.Errorf("%+v %v", d, err)
	}
	expect("what is left", read(nil), "/a jones", "sealed off", "/c")
	expect("one that was sealed off", read([]int{1}), "", "sealed off", "")
}

// nothing is what is needed yet.
func nothing(ledger.Kind, int64, int, ledger.Item) bool { return false }
