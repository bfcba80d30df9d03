package custody_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
)

// oldest is the oldest entry in effect, 0 for none.
func (w *world) oldest(since time.Time) int64 {
	w.t.Helper()
	n, ok, err := w.OldestInEffect(w.t.Context(), since)
	if err != nil || ok != (n > 0) {
		w.t.Fatalf("%d %v %v", n, ok, err)
	}
	return n
}

func TestOldestInEffect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.oldest(time.Time{}); got != 0 {
		t.Errorf("an empty ledger: %d", got)
	}
	entry := func(id string) int64 {
		n, _, _ := strings.Cut(id, ".")
		i, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	expect := func(what string, want int64) {
		t.Helper()
		if got := w.oldest(time.Time{}); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	// Each of these stands alone in effect, and is over before the next.
	path := w.due("a")
	first := w.oldest(time.Time{})
	expect("a file that is due", 1)
	again := w.track(custody.Operation{Action: "nas_raw_created", Path: path})
	expect("a file that was tracked again, whose due date is the older one", 1)
	again = w.track(custody.Operation{Action: work, Path: path, Due: w.now.Add(time.Hour)})
	expect("a file with another due date", entry(again.ID))
	w.remove(path)
	w.results(w.Verify(t.Context()))
	expect("a file that is gone", 0)
	if got := w.oldest(w.now); got != entry(again.ID) {
		t.Errorf("what was over just now: %d", got)
	}
	if got := w.oldest(w.now.Add(time.Microsecond)); got != 0 {
		t.Errorf("what was over before: %d", got)
	}
	r, err := w.Reserve(t.Context(), custody.Operation{Action: work, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	expect("a reservation", entry(r.ID()))
	if _, err := r.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("a reservation that was given up", 0)
	begun := w.track(custody.Operation{Action: "conversion_started", Path: path})
	expect("work", entry(begun.ID))
	w.track(custody.Operation{Action: "conversion_failed", Path: path})
	expect("work that ended", 0)
	sent := w.send("transfer_sent", "b", "abc", custody.Operation{To: "services"})
	expect("a transfer", entry(sent))
	if _, err := w.Confirm(t.Context(), sent, "jones"); err != nil {
		t.Fatal(err)
	}
	expect("a transfer that is settled", 0)
	kept := w.track(custody.Operation{Action: "nas_raw_created", Path: w.write("c", "x")})
	expect("a file that is kept", entry(kept.ID))
	if first != 1 {
		t.Errorf("the first is %d", first)
	}
}

// What is in effect survives a pruning, and a cache that is made anew.
func TestPrunedLedgerForgetsNoFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone := w.write("gone", "x")
	for range 300 {
		w.track(custody.Operation{Action: work, Path: gone})
	}
	path := w.due("a")
	w.track(custody.Operation{Action: "nas_raw_created", Path: path}) // without a date of its own
	for range 600 {
		w.track(custody.Operation{Action: "nas_raw_created", Path: gone})
	}
	w.remove(gone)
	w.results(w.Verify(t.Context()))
	w.now = w.now.AddDate(7, 0, 0)
	w.track(custody.Operation{Action: "nas_raw_created", Path: path})
	oldest := w.oldest(time.Time{})
	if oldest != 301 {
		t.Fatalf("the oldest in effect is %d", oldest)
	}
	rep, err := w.ledger.Prune(t.Context(), ledger.Pruning{Before: w.now.AddDate(-6, 0, 0), Tracked: oldest})
	if err != nil || rep.Entries != 256 {
		t.Fatalf("%+v %v", rep, err)
	}
	w.Close()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(w.o.Cache + suffix)
	}
	w.Custody = w.open()
	if got := w.overdue(); got != "a" {
		t.Errorf("overdue %q after the ledger was pruned", got)
	}
}

// The name of a file that must be gone is not destroyed before it is.
func TestSealOffKeepsWhatMustBeGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	due := w.due("jones due.csv")
	w.track(custody.Operation{Action: "nas_raw_created", Path: due})
	kept := w.write("jones kept.csv", "x")
	w.track(custody.Operation{Action: "nas_raw_created", Path: kept})
	over := w.due("jones gone.csv")
	w.remove(over)
	sent := w.send("transfer_sent", "jones sent.csv", "abc", custody.Operation{To: "services", Due: w.now.Add(-time.Minute)})
	w.results(w.Verify(t.Context()))

	names := func() string {
		var list []string
		for e, err := range w.ledger.Entries(t.Context(), ledger.Filter{Unseal: true}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range e.Items {
				if !it.SealedOff {
					list = append(list, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(it.Locator), "jones "), ".csv"))
				}
			}
		}
		return strings.Join(list, " ")
	}
	seal := func(s ledger.Selection) ledger.Destroyed {
		t.Helper()
		keep, err := w.InEffect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Keep = keep
		d, err := w.ledger.SealOff(t.Context(), s, false)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := seal(ledger.Selection{Item: due}); d.Items != 0 || d.Kept != 2 {
		t.Errorf("by name: %+v", d)
	}
	if d := seal(ledger.Selection{Subject: "jones"}); d.Items != 2 || d.Kept != 4 {
		t.Errorf("by subject: %+v", d)
	}
	if got, want := names(), "due due kept sent"; got != want {
		t.Errorf("names left: %q, want %q", got, want)
	}
	if d := seal(ledger.Selection{Before: w.now.Add(time.Hour)}); d.Items != 0 || d.Kept != 4 {
		t.Errorf("by age: %+v", d)
	}
	if got := w.overdue() + "|" + w.late(); got != "jones due.csv|jones sent.csv" {
		t.Errorf("overdue %q", got)
	}
	// What is recorded after InEffect was asked counts as needed.
	keep, err := w.InEffect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.due("jones late.csv")
	if d, err := w.ledger.SealOff(t.Context(), ledger.Selection{Subject: "late", Keep: keep}, false); err != nil || d.Items != 0 || d.Kept != 1 {
		t.Errorf("recorded meanwhile: %+v %v", d, err)
	}
	// Once they are gone, their names may be.
	for _, path := range []string{due, kept, filepath.Join(w.dir, "jones late.csv")} {
		w.remove(path)
		w.track(custody.Operation{Action: "file_deleted_via_api", Path: path})
	}
	if _, err := w.Confirm(t.Context(), sent, "smith"); err != nil {
		t.Fatal(err)
	}
	if d := seal(ledger.Selection{Subject: "jones"}); d.Items == 0 || d.Kept != 0 || names() != "" {
		t.Errorf("at the end: %+v %q", d, names())
	}
}
