package ledger_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

// Small rows share pages. SQLite moves them when it balances its trees, and
// leaves the old bytes where they were.
func TestNothingIsLeftInUnusedSpace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l.db")
	l := open(t, "sqlite:"+path)
	const n = 150
	random := rand.New(rand.NewPCG(1, 2))
	name := func(i int) string { return fmt.Sprintf("needle-%04d-ngaio-marsh", i) }
	for i := range n {
		e := ledger.Entry{Kind: ledger.CustodyOperations, Items: []ledger.Item{{Locator: name(i), Print: strings.Repeat("p", random.IntN(700))}, {Locator: fmt.Sprint("other", i)}},
			Secrets: []ledger.Secret{{Name: "who", Text: "actor " + name(i)}}}
		mustAppend(t, l, e)
	}
	gone := map[int]bool{}
	order := random.Perm(n)
	for k, i := range order[:90] {
		sel := ledger.Selection{Subject: name(i), Keep: nothing}
		if k%3 == 0 {
			sel = ledger.Selection{Item: name(i), Keep: nothing}
		}
		if _, err := l.SealOff(t.Context(), sel, false); err != nil {
			t.Fatal(err)
		}
		if k%3 == 0 {
			if _, err := l.SealOff(t.Context(), ledger.Selection{Subject: name(i), Keep: nothing}, false); err != nil {
				t.Fatal(err)
			}
		}
		gone[i] = true
		if k%20 != 19 {
			continue
		}
		var left []int
		for g := range gone {
			if grep(t, path, name(g)) > 0 {
				left = append(left, g)
			}
		}
		if len(left) > 0 {
			slices.Sort(left)
			t.Fatalf("after %d: names of %v are still in the files", k+1, left)
		}
	}
}

// A single row far away may not make verify walk, or hold in memory, all the
// numbers up to it.
func TestAFarEntryDoesNotStallVerify(t *testing.T) {
	t.Parallel()
	for _, far := range []int64{1 << 30, 1 << 40, 1<<48 - 300} {
		v := newVictim(t, 252)
		mustExec(t, v.db, fmt.Sprintf("INSERT INTO entries SELECT %d, count, bundle, hashes, NULL, 1 FROM entries WHERE number = 1", far+1))
		r := v.verifyDamaged(t)
		if r.Unaltered != ledger.Bad || len(r.Faults) == 0 {
			t.Errorf("an entry at %d: %s, %v", far, r.Unaltered, r.Faults)
		}
	}
}

// After a fork, an incremental verification knows of it.
func TestSinceAfterAFork(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 20)
	mustExec(t, v.db, "DELETE FROM entries WHERE number > 20")
	l, err := ledger.Open(t.Context(), "sqlite:"+v.path, ledger.Config{Pins: []ledger.Pin{v.pin}, Trust: v.keys.Trust()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Fork(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 900 {
		if i%100 == 0 {
			checkpoint(t, l, signing(v.keys, v.pin))
		}
		mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	}
	c := checkpoint(t, l, signing(v.keys, v.pin))
	r, err := l.ProveEntry(t.Context(), 300)
	if err != nil {
		t.Fatal(err)
	}
	check(t, r, v.keys.Trust())
	w := ledger.Verification{Trust: v.keys.Trust(), Pins: []ledger.Pin{v.pin}, Since: c.Size - 100}
	if r := verify(t, l, w); r.Complete != ledger.Good || len(r.Forks) != 1 {
		t.Errorf("since: complete %s, forks %v, %v %v", r.Complete, r.Forks, r.Faults, r.Missing)
	}
}

// A receipt right after a fork is of the tree that there is, also after several
// forks; and each lost checkpoint stays told.
func TestReceiptsAfterForks(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 20)
	var lost [][]byte
	for _, cut := range []int{20, 30, 25} {
		note, err := v.pin.Latest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lost = append(lost, note)
		for _, table := range []string{"entries", "sealed", "lookup", "leaves", "open_intents", "clues"} {
			mustExec(t, v.db, fmt.Sprintf("DELETE FROM %s WHERE number > %d", table, cut))
		}
		l, err := ledger.Open(t.Context(), "sqlite:"+v.path, ledger.Config{Pins: []ledger.Pin{v.pin}, Trust: v.keys.Trust()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Fork(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			checkpoint(t, l, signing(v.keys, v.pin))
			r, err := l.ProveEntry(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			check(t, r, v.keys.Trust())
			for range 20 { // in the end beyond the size of the lost tree
				mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
			}
		}
		checkpoint(t, l, signing(v.keys, v.pin))
		w := v.verification()
		if r := verify(t, l, w); r.Complete != ledger.Good {
			t.Errorf("after the fork at %d: complete %s, %v", cut, r.Complete, r.Missing)
		}
		for _, note := range lost {
			w.Notes = [][]byte{note}
			if r := verify(t, l, w); r.Complete != ledger.Bad {
				t.Errorf("after the fork at %d, with a lost checkpoint: complete %s", cut, r.Complete)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever has the key can forge a ledger of which the beginning is "pruned", up
// to beyond what is pinned. The pin must tell.
func TestForgedPruningIsToldByThePin(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 252) // pinned at some 262 entries
	path := filepath.Join(t.TempDir(), "forged.db")
	forged, err := ledger.Open(t.Context(), "sqlite:"+path, ledger.Config{Origin: v.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer forged.Close()
	for range 600 {
		mustAppend(t, forged, ledger.Entry{Kind: ledger.Heartbeat, At: day})
	}
	if r, err := forged.Prune(t.Context(), ledger.Pruning{Before: day.AddDate(0, 0, 1)}); err != nil || r.Entries != 512 {
		t.Fatalf("pruned %+v, %v", r, err)
	}
	checkpoint(t, forged, signing(v.keys))
	r := verify(t, forged, v.verification())
	if r.Complete != ledger.Bad {
		t.Errorf("with the pin: unaltered %s, complete %s, %v", r.Unaltered, r.Complete, r.Missing)
	}
	if _, err := forged.Checkpoint(t.Context(), signing(v.keys, v.pin)); err == nil {
		t.Error("a forged ledger was pinned over the true one")
	}
}

// What was verified before and is not there any more is missing.
func TestSinceBeyondTheEnd(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 252)
	w := v.verification()
	w.Pins, w.Since = nil, 5000
	if r := verify(t, v.Ledger, w); r.Complete != ledger.Bad {
		t.Errorf("since 5000 of %d: complete %s, %v", r.Size, r.Complete, r.Missing)
	}
}

// A pin that was taken away is not a pin that agrees.
func TestAnEmptyPinIsNotAYes(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 20)
	w := v.verification()
	w.Pins = append(w.Pins, ledger.FilePin(filepath.Join(t.TempDir(), "not mounted")))
	if r := verify(t, v.Ledger, w); r.Complete == ledger.Good {
		t.Errorf("complete %s though nothing is pinned in one of two places", r.Complete)
	}
}

// One witness is one, however often it is named.
func TestAWitnessCountsOnce(t *testing.T) {
	t.Parallel()
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	k := newKeys(t, l)
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	c := checkpoint(t, l, signing(k))
	w := newKeys(t, l).Signer
	line, err := proof.Cosign(c.Note, time.Now(), w)
	if err != nil {
		t.Fatal(err)
	}
	note := append(slices.Clone(c.Note), line...)
	trust := k.Trust()
	trust.Witnesses, trust.Quorum = []proof.Key{w.WitnessKey(), w.WitnessKey()}, 2
	if s, err := trust.Open(note); err == nil {
		t.Errorf("one witness made a quorum of two: %v", s.Witnesses)
	}
	if _, err := proof.ParseTrust(trust.String()); err == nil {
		t.Error("a trust file asks for two of one witness")
	}
}

// A seal-off that was cut short after its commit is finished by the next one.
func TestSealOffThatFindsNothingStillScrubs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l.db")
	l := open(t, "sqlite:"+path)
	mustAppend(t, l, ledger.Entry{Kind: ledger.CustodyOperations, Items: []ledger.Item{{Locator: "needle-x"}}})
	other := rawSQLite(t, path)
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM entries").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(t.Context(), 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	_, err = l.SealOff(t.Context(), ledger.Selection{Item: "needle-x", Keep: nothing}, false)
	if err == nil || grep(t, path, "needle-x") == 0 {
		t.Fatalf("sealed off under a reader: %v", err)
	}
	if err := errors.Join(tx.Rollback(), l.Wait(t.Context(), time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SealOff(t.Context(), ledger.Selection{Item: "needle-x", Keep: nothing}, false); err != nil || grep(t, path, "needle-x") > 0 {
		t.Errorf("again, with no reader: %v, %d copies", err, grep(t, path, "needle-x"))
	}
}

func TestASubjectNeedsALetter(t *testing.T) {
	t.Parallel()
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	mustAppend(t, l, ledger.Entry{Kind: ledger.CustodyOperations, Items: []ledger.Item{{Locator: "a / b"}}})
	for _, subject := range []string{" ", "/", "--"} {
		if d, err := l.SealOff(t.Context(), ledger.Selection{Subject: subject}, true); err == nil {
			t.Errorf("subject %q takes %+v", subject, d)
		}
	}
}

// A copy into a file that was cut short can be made again.
func TestCopyAfterACutCopy(t *testing.T) {
	t.Parallel()
	src := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	fillLedger(t, src, 10)
	dst := filepath.Join(t.TempDir(), "to.db")
	if err := os.WriteFile(dst, nil, 0o600); err != nil { // as much as a kill may leave
		t.Fatal(err)
	}
	to, err := ledger.Copy(t.Context(), src, "sqlite:"+dst, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	mustAppend(t, to, ledger.Entry{Kind: ledger.Heartbeat})
}

// A ledger that cannot go where it should goes on where it is.
func TestCopyToNowhereLeavesTheSource(t *testing.T) {
	t.Parallel()
	src := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	fillLedger(t, src, 10)
	if _, err := ledger.Copy(t.Context(), src, "sqlite:"+filepath.Join(t.TempDir(), "no", "such", "dir.db"), ledger.Config{}); err == nil {
		t.Fatal("copied to nowhere")
	}
	if _, err := src.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat}); err != nil {
		t.Errorf("append after a copy that never began: %v", err)
	}
}

// What others append while a ledger is verified is no fault of it.
func TestVerifyWhileOthersAppend(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		l, other := open(t, dsn), open(t, dsn)
		k := newKeys(t, l)
		fillLedger(t, l, 2000)
		checkpoint(t, l, signing(k))
		act := func(i int) error {
			n, err := other.Append(t.Context(), anIntent(3))
			if err == nil && i%2 == 0 {
				_, err = other.Append(t.Context(), anOutcome(n, 3))
			}
			if err == nil && i%10 == 0 {
				_, err = other.SealOff(t.Context(), ledger.Selection{Item: "id=1"}, false)
			}
			if errors.Is(err, ledger.ErrCopiesLeft) {
				err = nil
			}
			return err
		}
		const beside = 4
		for n := range 30 {
			// So many beside each verification and no more: a ledger that grows faster
			// than it is verified would grow for ever.
			done := make(chan error, 1)
			go func() {
				var err error
				for i := n * beside; i < (n+1)*beside && err == nil; i++ {
					err = act(i)
				}
				done <- err
			}()
			r := verify(t, l, ledger.Verification{Trust: k.Trust()})
			if err := <-done; err != nil || r.Unaltered != ledger.Good {
				t.Fatalf("unaltered %s: %v; beside it: %v", r.Unaltered, r.Faults, err)
			}
		}
	})
}

// A ledger that is signed every minute has many checkpoints: the signatures of all
// are checked, and the one that is bad is named.
func TestManyCheckpoints(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 20)
	const n = 400
	for range n {
		mustAppend(t, v.Ledger, ledger.Entry{Kind: ledger.Heartbeat})
		checkpoint(t, v.Ledger, signing(v.keys, v.pin))
	}
	if r := verify(t, v.Ledger, v.verification()); r.Checkpoints != n+2 {
		t.Errorf("%d checkpoints agree, want %d", r.Checkpoints, n+2)
	}
	mustExec(t, v.db, "UPDATE checkpoints SET note = replace(note, '\u2014 ', '\u2014 x') WHERE id = 300")
	r := v.verifyDamaged(t)
	if len(r.Faults) != 1 || r.Faults[0].Place != "checkpoint 300" || r.Checkpoints != n+1 {
		t.Errorf("%d agree, faults %v", r.Checkpoints, r.Faults)
	}
}
