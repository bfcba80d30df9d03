package ledger_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

func newKeys(t testing.TB, l *ledger.Ledger) *proof.Keys {
	t.Helper()
	s, err := proof.NewSigner(l.Name(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &proof.Keys{Signer: s, Since: time.Now().Add(-time.Hour).UTC().Truncate(time.Second)}
}

func signing(k *proof.Keys, pins ...ledger.Pin) ledger.Signing {
	return ledger.Signing{Signers: []*proof.Signer{k.Signer}, Trust: k.Trust(), Pins: pins}
}

func checkpoint(t testing.TB, l *ledger.Ledger, s ledger.Signing) proof.Signed {
	t.Helper()
	c, err := l.Checkpoint(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func verify(t testing.TB, l *ledger.Ledger, v ledger.Verification) ledger.Report {
	t.Helper()
	r, err := l.Verify(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fillLedger appends a run with batches and small entries, over some blocks.
func fillLedger(t testing.TB, l *ledger.Ledger, heartbeats int) {
	t.Helper()
	mustAppend(t, l, ledger.Entry{Kind: ledger.RunStarted, Run: "r1", At: day, Secrets: []ledger.Secret{{Name: "who", Text: "root"}}})
	n := mustAppend(t, l, anIntent(5))
	mustAppend(t, l, anOutcome(n, 5))
	var es []ledger.Entry
	for i := range heartbeats {
		es = append(es, ledger.Entry{Kind: ledger.Heartbeat, Run: "r1", Rule: fmt.Sprintf("rule%d", i%3), At: day.Add(time.Duration(i) * time.Second), Facts: []ledger.Fact{ledger.Int("due", int64(i))}})
	}
	if len(es) > 0 {
		mustAppend(t, l, es...)
	}
	mustAppend(t, l, anIntent(3))
	mustAppend(t, l, ledger.Entry{Kind: ledger.RunFinished, Run: "r1", At: day.Add(time.Hour), Refers: 1})
}

func wantGood(t testing.TB, r ledger.Report) {
	t.Helper()
	for _, f := range append(r.Faults, r.Missing...) {
		t.Errorf("fault: %s", f)
	}
	if r.Unaltered != ledger.Good || r.Complete != ledger.Good {
		t.Errorf("unaltered %s, complete %s; want both good", r.Unaltered, r.Complete)
	}
}

func TestVerifyASoundLedger(t *testing.T) {
	for _, size := range []int{0, 250, 251, 252, 600, 70_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			onBoth(t, func(t *testing.T, dsn string) {
				l := open(t, dsn)
				k := newKeys(t, l)
				pin := ledger.FilePin(filepath.Join(t.TempDir(), "pin"))
				fillLedger(t, l, size)
				checkpoint(t, l, signing(k, pin))
				mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat, At: day})
				before := time.Now().Truncate(time.Second) // what is signed are whole seconds
				c := checkpoint(t, l, signing(k, pin))
				r := verify(t, l, ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{pin}})
				wantGood(t, r)
				if r.Root != c.Root || r.CompleteTo != c.Size || r.Size != c.Size || r.SignedTo != c.Size || r.Entries != c.Size {
					t.Errorf("report %+v is not of checkpoint %v", r, c.Checkpoint)
				}
				if r.CompleteAt.Before(before) || r.CompleteAt.After(time.Now()) {
					t.Errorf("complete as of %v, want between %v and now", r.CompleteAt, before)
				}
				if r.Checkpoints != 2 || r.Sealed != 13 {
					t.Errorf("%d checkpoints and %d sealed texts agree, want 2 and 13", r.Checkpoints, r.Sealed)
				}
				since := verify(t, l, ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{pin}, Since: c.Size - 1})
				wantGood(t, since)
				if since.Root != c.Root || since.Entries > 512 {
					t.Errorf("incremental verification gave root %v after reading %d entries", since.Root, since.Entries)
				}
			})
		})
	}
}

func TestNothingSignedIsNotGood(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	fillLedger(t, l, 10)
	r := verify(t, l, ledger.Verification{})
	if len(r.Faults) > 0 || r.Unaltered != ledger.Undetermined || r.Complete != ledger.Undetermined {
		t.Errorf("verdicts %s, %s with faults %v; want unknown without a fault", r.Unaltered, r.Complete, r.Faults)
	}
}

func TestReceipts(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		k := newKeys(t, l)
		fillLedger(t, l, 700)
		if _, err := l.ProveEntry(t.Context(), 1); !errors.Is(err, ledger.ErrNoCheckpoint) {
			t.Errorf("proof without a checkpoint: %v", err)
		}
		checkpoint(t, l, signing(k))
		for _, n := range []int64{1, 2, 3, 255, 256, 257, 600, 705} {
			r, err := l.ProveEntry(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			shown := check(t, r, k.Trust())
			if shown.Entries[0].Number != n {
				t.Errorf("receipt shows entry %d, want %d", shown.Entries[0].Number, n)
			}
		}
		for _, show := range []bool{true, false} {
			rs, err := l.ProveItem(t.Context(), "files/0003.bin", show)
			if err != nil || len(rs) != 1 {
				t.Fatalf("%d receipts, %v", len(rs), err)
			}
			shown := check(t, rs[0], k.Trust())
			if len(shown.Entries) != 2 || shown.Entries[0].Result.State != "present" || shown.Entries[0].Place != 3 {
				t.Errorf("receipt shows %+v, want the outcome of item 3", shown.Entries)
			}
			if it := shown.Entries[1].Item; show != (it != nil) || show && (it.Locator != "id=3" || it.Parts[0].Locator != "files/0003.bin") {
				t.Errorf("receipt with show=%t tells the item %+v", show, it)
			}
		}
		r, err := l.ProveRun(t.Context(), "r1")
		if err != nil {
			t.Fatal(err)
		}
		if shown := check(t, r, k.Trust()); len(shown.Entries) != 2 || shown.Entries[0].Number != 705 {
			t.Errorf("receipt of a run shows %+v", shown.Entries)
		}
		if _, err := l.ProveItem(t.Context(), "never", true); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("proof of an unknown item: %v", err)
		}
	})
}

// A result of one intent may not be shown as that of another's item.
func TestReceiptBindsResultToItem(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	k := newKeys(t, l)
	var rs []*proof.Receipt
	for i := range 2 {
		e := anIntent(4)
		for j := range e.Items {
			e.Items[j] = ledger.Item{Locator: fmt.Sprintf("%d/%d", i, j)}
		}
		mustAppend(t, l, anOutcome(mustAppend(t, l, e), 4))
	}
	checkpoint(t, l, signing(k))
	for _, item := range []string{"0/1", "0/2", "1/1"} {
		r, err := l.ProveItem(t.Context(), item, true)
		if err != nil {
			t.Fatal(err)
		}
		check(t, r[0], k.Trust())
		rs = append(rs, r[0])
	}
	for _, other := range rs[1:] {
		mixed := &proof.Receipt{Checkpoint: rs[0].Checkpoint, Entries: []proof.Inclusion{other.Entries[0], rs[0].Entries[1]}}
		if shown, err := mixed.Check(k.Trust()); err == nil {
			t.Errorf("the result of another item was believed: %+v", shown.Entries)
		}
	}
}

// check writes, reads and checks a receipt.
func check(t *testing.T, r *proof.Receipt, trust proof.Trust) *proof.Shown {
	t.Helper()
	parsed, err := proof.ParseReceipt(r.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if string(parsed.Bytes()) != string(r.Bytes()) {
		t.Error("receipt changed when read and written")
	}
	shown, err := parsed.Check(trust)
	if err != nil {
		t.Fatal(err)
	}
	return shown
}

func TestForgetting(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		k := newKeys(t, l)
		pin := ledger.FilePin(filepath.Join(t.TempDir(), "pin"))
		fillLedger(t, l, 300)
		checkpoint(t, l, signing(k, pin))
		before, err := l.ProveItem(t.Context(), "id=2", true)
		if err != nil {
			t.Fatal(err)
		}
		// id=2 is in a finished and in an open intent
		d, err := l.SealOff(t.Context(), ledger.Selection{Item: "id=2"}, false, ledger.Secret{Name: "who", Text: "dpo"})
		if err != nil || d.Items != 1 || d.Open != 1 || len(d.Numbers) != 1 {
			t.Fatalf("SealOff: %+v, %v; want one item, one open intent left alone", d, err)
		}
		checkpoint(t, l, signing(k, pin))
		wantGood(t, verify(t, l, ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{pin}}))
		check(t, before[0], k.Trust())
		for e, err := range l.Entries(t.Context(), ledger.Filter{Unseal: true, Before: 3, After: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			if !e.Items[2].SealedOff || e.Items[2].Locator != "" || e.Items[1].Locator != "id=1" {
				t.Errorf("items after sealing one off: %+v", e.Items)
			}
		}
		found := collect(t, l, ledger.Filter{Item: "id=2"})
		if len(found) != 1 || found[0].Number == 2 {
			t.Errorf("the destroyed item is still found: %v", found)
		}
		r, err := l.ProveItem(t.Context(), "id=1", true)
		if err != nil {
			t.Fatal(err)
		}
		check(t, r[0], k.Trust())
		// then all of it
		d, err = l.SealOff(t.Context(), ledger.Selection{Before: day.AddDate(1, 0, 0)}, false)
		if err != nil || d.Items != 4 {
			t.Fatalf("SealOff: %+v, %v", d, err)
		}
		checkpoint(t, l, signing(k, pin))
		rep := verify(t, l, ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{pin}})
		wantGood(t, rep)
		if want := int64(5 + 3 + 1); rep.Off != want { // items, secrets, and who sealed off the first
			t.Errorf("%d texts are sealed off, want %d", rep.Off, want)
		}
	})
}

func TestCopy(t *testing.T) {
	src := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	k := newKeys(t, src)
	pin := ledger.FilePin(filepath.Join(t.TempDir(), "pin"))
	fillLedger(t, src, 2000)
	checkpoint(t, src, signing(k, pin))
	want, err := src.ProveItem(t.Context(), "id=1", true)
	if err != nil {
		t.Fatal(err)
	}
	to, err := ledger.Copy(t.Context(), src, testserver.Postgres(t), ledger.Config{Trust: k.Trust(), Pins: []ledger.Pin{pin}})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := src.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat}); !errors.Is(err, ledger.ErrMoved) {
		t.Errorf("append to the source after the copy: %v, want ErrMoved", err)
	}
	mustAppend(t, to, ledger.Entry{Kind: ledger.Heartbeat})
	checkpoint(t, to, signing(k, pin))
	wantGood(t, verify(t, to, ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{pin}}))
	got, err := to.ProveItem(t.Context(), "id=1", true)
	if err != nil || len(got) != len(want) {
		t.Fatalf("receipts after the copy: %d, %v", len(got), err)
	}
	check(t, got[0], k.Trust())
	if src.ShortHash("x") != to.ShortHash("x") {
		t.Error("short hashes differ after the copy")
	}
	if _, err := ledger.Copy(t.Context(), src, testserver.Postgres(t), ledger.Config{}); err != nil {
		t.Errorf("copying a moved ledger once more, to another place: %v", err)
	}
}
