package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

// copyFiles copies a SQLite database as a backup of its files would.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		data, err := os.ReadFile(from + suffix)
		if errors.Is(err, os.ErrNotExist) {
			os.Remove(to + suffix)
			continue
		}
		if err == nil {
			err = os.WriteFile(to+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRestoredBackupIsNoticed(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "l.db"), filepath.Join(dir, "backup.db")
	pin := ledger.FilePin(filepath.Join(dir, "pin"))
	l, err := ledger.Open(t.Context(), "sqlite:"+path, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	k := newKeys(t, l)
	fillLedger(t, l, 300)
	kept := checkpoint(t, l, signing(k, pin))
	copyFiles(t, path, backup)
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	lost := checkpoint(t, l, signing(k, pin))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	copyFiles(t, backup, path)

	c := ledger.Config{Pins: []ledger.Pin{pin}, Trust: k.Trust()}
	l, err = ledger.Open(t.Context(), "sqlite:"+path, c)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat}); !errors.Is(err, ledger.ErrBehind) {
		t.Errorf("append to a restored backup: %v, want ErrBehind", err)
	}
	if !errors.Is(l.Refusal(), ledger.ErrBehind) {
		t.Errorf("refusal: %v", l.Refusal())
	}
	if _, err := l.Checkpoint(t.Context(), signing(k, pin)); !errors.Is(err, ledger.ErrBehind) {
		t.Errorf("checkpoint of a restored backup: %v, want ErrBehind", err)
	}
	v := ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{pin}}
	if r := verify(t, l, v); r.Unaltered != ledger.Good || r.Complete != ledger.Bad {
		t.Errorf("restored backup: unaltered %s, complete %s; want good and bad", r.Unaltered, r.Complete)
	}
	n, err := l.Fork(t.Context(), ledger.Secret{Name: "reason", Text: "disk died, backup of Sunday"})
	if err != nil || n != kept.Size+1 {
		t.Fatalf("fork: %d, %v", n, err)
	}
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	after := checkpoint(t, l, signing(k, pin))
	if after.Origin == lost.Origin || !strings.HasPrefix(after.Origin, lost.Origin) {
		t.Errorf("origin after the fork: %q", after.Origin)
	}
	r := verify(t, l, v)
	wantGood(t, r)
	if len(r.Forks) != 1 || r.Forks[0] != n {
		t.Errorf("forks %v, want [%d]", r.Forks, n)
	}
	// What was lost stays told, to whoever holds the old checkpoint.
	v.Notes = [][]byte{lost.Note}
	if r := verify(t, l, v); r.Complete != ledger.Bad || !strings.Contains(r.Missing[0].Text, "fork") {
		t.Errorf("with the lost checkpoint: complete %s, %v", r.Complete, r.Missing)
	}
	v.Notes = [][]byte{kept.Note}
	wantGood(t, verify(t, l, v))

	again, err := ledger.Open(t.Context(), "sqlite:"+path, c)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	mustAppend(t, again, ledger.Entry{Kind: ledger.Heartbeat})
	if _, err := again.Fork(t.Context(), ledger.Secret{Name: "reason", Text: "x"}); err == nil {
		t.Error("a fork without need was allowed")
	}
}

// The end cut off inside the database itself: the kept checkpoint is enough.
func TestCutTailIsNoticedWithoutAPin(t *testing.T) {
	v := newVictim(t, 20)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, v.db, "DELETE FROM entries WHERE number > 20")
	l, err := ledger.Open(t.Context(), "sqlite:"+v.path, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat}); !errors.Is(err, ledger.ErrBehind) {
		t.Errorf("append to a cut ledger: %v, want ErrBehind", err)
	}
}

func TestNothingIsSignedThatContradicts(t *testing.T) {
	v := newVictim(t, 20)
	mustExec(t, v.db, "UPDATE entries SET hashes = zeroblob(length(hashes)) WHERE number = 2")
	if _, err := v.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat}); err != nil {
		t.Log(err) // the tail is known to this process; another would refuse
	}
	if _, err := v.Checkpoint(t.Context(), signing(v.keys)); !errors.Is(err, ledger.ErrAltered) {
		t.Errorf("checkpoint of an altered ledger: %v, want ErrAltered", err)
	}
}

func TestKeyRotation(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	k := newKeys(t, l)
	pin := ledger.FilePin(filepath.Join(t.TempDir(), "pin"))
	fillLedger(t, l, 5)
	checkpoint(t, l, signing(k, pin))
	next := newKeys(t, l).Signer
	k2, c, err := l.RotateKey(t.Context(), k, next, signing(k, pin), ledger.Secret{Name: "who", Text: "root"})
	if err != nil || len(c.By) != 2 {
		t.Fatalf("rotate: signed by %v, %v; want both keys", c.By, err)
	}
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	checkpoint(t, l, signing(k2, pin))
	wantGood(t, verify(t, l, ledger.Verification{Trust: k2.Trust(), Pins: []ledger.Pin{pin}}))
	es := collect(t, l, ledger.Filter{Kinds: []ledger.Kind{ledger.KeyRotated}})
	if len(es) != 1 {
		t.Fatalf("%d entries say that the key was rotated", len(es))
	}
	if got, _ := es[0].Code("key"); got != k2.Signer.Key().String() {
		t.Errorf("the entry names the key %q", got)
	}
	// Whoever still knows only the old key is told so.
	r := verify(t, l, ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{pin}})
	if r.Complete != ledger.Bad || r.Unaltered != ledger.Bad {
		t.Errorf("with the old key only: unaltered %s, complete %s", r.Unaltered, r.Complete)
	}
}

// A rotation that was cut short goes on with the same key, and nobody else's
// replaces one that was replaced.
func TestKeyRotationGoesOn(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	k := newKeys(t, l)
	fillLedger(t, l, 5)
	next, other := newKeys(t, l).Signer, newKeys(t, l).Signer
	broken := signing(k, brokenPin{})
	for range 2 { // the caller never came to store what it returned
		if _, c, err := l.RotateKey(t.Context(), k, next, broken); err == nil || len(c.By) != 2 {
			t.Fatalf("rotate: %v, %v", c.By, err)
		}
	}
	if es := collect(t, l, ledger.Filter{Kinds: []ledger.Kind{ledger.KeyRotated}}); len(es) != 1 {
		t.Errorf("%d entries of one rotation", len(es))
	}
	if _, _, err := l.RotateKey(t.Context(), k, other, signing(k)); !errors.Is(err, ledger.ErrRetired) {
		t.Errorf("a replaced key was replaced again: %v", err)
	}
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	if _, err := l.Checkpoint(t.Context(), signing(k)); !errors.Is(err, ledger.ErrRetired) {
		t.Errorf("a replaced key signed: %v", err)
	}
	k2, _, err := l.RotateKey(t.Context(), k, next, signing(k))
	if err != nil {
		t.Fatal(err)
	}
	checkpoint(t, l, signing(k2))
	if r := verify(t, l, ledger.Verification{Trust: k2.Trust()}); r.Unaltered != ledger.Good {
		t.Errorf("unaltered %s, %v", r.Unaltered, r.Faults)
	}
}

// An entry alone replaces no key: anybody who writes to the ledger can write it.
func TestARotationThatNobodySigned(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	k, thief := newKeys(t, l), newKeys(t, l)
	fillLedger(t, l, 5)
	checkpoint(t, l, signing(k))
	mustAppend(t, l, ledger.Entry{Kind: ledger.KeyRotated, Facts: []ledger.Fact{
		ledger.Code("key", thief.Signer.Key().String()), ledger.Code("retired", k.Signer.Key().String())}})
	checkpoint(t, l, signing(k))
	k2, _, err := l.RotateKey(t.Context(), k, newKeys(t, l).Signer, signing(k))
	if err != nil {
		t.Fatal(err)
	}
	checkpoint(t, l, signing(k2))
	if _, err := l.Checkpoint(t.Context(), signing(k)); !errors.Is(err, ledger.ErrRetired) {
		t.Errorf("the replaced key signed: %v", err)
	}
}

// brokenPin takes nothing.
type brokenPin struct{}

func (brokenPin) Name() string                           { return "broken" }
func (brokenPin) Latest(context.Context) ([]byte, error) { return nil, nil }
func (brokenPin) Put(context.Context, []byte) error      { return errors.New("it takes nothing") }

func TestPinsGoForwardOnly(t *testing.T) {
	store := objects{}
	for _, p := range []ledger.Pin{ledger.FilePin(filepath.Join(t.TempDir(), "pin")), ledger.ObjectPin(store, "head")} {
		t.Run(p.Name(), func(t *testing.T) {
			l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
			k := newKeys(t, l)
			var notes []proof.Signed
			for range 3 {
				mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
				notes = append(notes, checkpoint(t, l, signing(k)))
			}
			ctx := context.Background()
			if got, err := p.Latest(ctx); got != nil || err != nil {
				t.Errorf("latest of an empty pin: %q, %v", got, err)
			}
			if err := errors.Join(p.Put(ctx, notes[1].Note), p.Put(ctx, notes[1].Note), p.Put(ctx, notes[2].Note)); err != nil {
				t.Error(err)
			}
			if err := p.Put(ctx, notes[0].Note); !errors.Is(err, ledger.ErrBehind) {
				t.Errorf("an older checkpoint over a newer one: %v, want ErrBehind", err)
			}
			other := notes[2].Checkpoint
			other.Root[0] ^= 1
			forged, err := other.Sign(notes[2].At, k.Signer)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Put(ctx, forged); !errors.Is(err, ledger.ErrAltered) {
				t.Errorf("another tree of that size: %v, want ErrAltered", err)
			}
			if got, err := p.Latest(ctx); !bytes.Equal(got, notes[2].Note) || err != nil {
				t.Errorf("latest: %q, %v", got, err)
			}
		})
	}
}

// Two processes pin at the same time. The one with the shorter tree, which had
// looked before the other wrote, put it in the place of the longer.
func TestObjectPinsRace(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	k := newKeys(t, l)
	var notes [][]byte
	for range 4 {
		mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
		notes = append(notes, checkpoint(t, l, signing(k)).Note)
	}
	for _, before := range [][]byte{nil, notes[0]} {
		store := objects{}
		if before != nil {
			store["head"] = before
		}
		once := false
		late := ledger.ObjectPin(meanwhile{store, func() {
			if !once {
				once, store["head"] = true, notes[2]
			}
		}}, "head")
		if err := late.Put(t.Context(), notes[1]); !errors.Is(err, ledger.ErrBehind) {
			t.Errorf("the shorter one after the longer: %v, want ErrBehind", err)
		}
		if !bytes.Equal(store["head"], notes[2]) {
			t.Error("the shorter checkpoint took the place of the longer")
		}
		once = false
		if err := late.Put(t.Context(), notes[3]); err != nil || !bytes.Equal(store["head"], notes[3]) {
			t.Errorf("the longer one after the shorter: %v", err)
		}
	}
	n := 0
	store := objects{}
	always := ledger.ObjectPin(meanwhile{store, func() { n++; store["head"] = append(notes[0:1:1], notes[2])[n%2] }}, "head")
	if err := always.Put(t.Context(), notes[3]); !errors.Is(err, fs.ErrExist) || n > 100 {
		t.Errorf("a race that is always lost: %v after %d", err, n)
	}
}

// meanwhile is a bucket in which something happens between each look and the
// write that follows.
type meanwhile struct {
	objects
	happens func()
}

func (m meanwhile) Put(ctx context.Context, key, version string, data []byte) error {
	m.happens()
	return m.objects.Put(ctx, key, version, data)
}

// objects is a bucket in memory. What is there is its own version.
type objects map[string][]byte

func (o objects) Put(_ context.Context, key, version string, data []byte) error {
	if string(o[key]) != version {
		return fs.ErrExist
	}
	o[key] = data
	return nil
}

func (o objects) Get(_ context.Context, key string) ([]byte, string, error) {
	return o[key], string(o[key]), nil
}

// Whoever can write to the ledger, without its key, may cut off its end and write
// that it was lost. Only the key's holder can say that.
func TestAForkThatNobodySigned(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 20)
	pinned, err := v.pin.Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lost, err := proof.Peek(pinned)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"DELETE FROM checkpoints WHERE size > 15", "DELETE FROM entries WHERE number > 15", "DELETE FROM sealed WHERE number > 15",
		"DELETE FROM lookup WHERE number > 15", "DELETE FROM leaves WHERE number > 15", "DELETE FROM open_intents WHERE number > 15", "DELETE FROM clues WHERE number > 15"} {
		mustExec(t, v.db, q)
	}
	thief, err := ledger.Open(t.Context(), "sqlite:"+v.path, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, thief, ledger.Entry{Kind: ledger.Forked, Facts: []ledger.Fact{
		ledger.Int("lost_size", lost.Size), ledger.Hash("lost_root", lost.Root), ledger.Code("lost_origin", lost.Origin)}})
	if err := thief.Close(); err != nil {
		t.Fatal(err)
	}
	c := ledger.Config{Pins: []ledger.Pin{v.pin}, Trust: v.keys.Trust()}
	l, err := ledger.Open(t.Context(), "sqlite:"+v.path, c)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !errors.Is(l.Refusal(), ledger.ErrBehind) {
		t.Errorf("refusal: %v, want ErrBehind", l.Refusal())
	}
	if _, err := l.Checkpoint(t.Context(), signing(v.keys, v.pin)); !errors.Is(err, ledger.ErrBehind) {
		t.Errorf("checkpoint: %v, want ErrBehind", err)
	}
	// The holder of the key says what happened, and it goes on; a crash before that is
	// signed leaves it refused, and it can be said again.
	if _, err := l.Fork(t.Context()); err != nil {
		t.Fatal(err)
	}
	cut, err := ledger.Open(t.Context(), "sqlite:"+v.path, c)
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Close()
	if !errors.Is(cut.Refusal(), ledger.ErrBehind) {
		t.Errorf("before it is signed: %v, want ErrBehind", cut.Refusal())
	}
	if _, err := cut.Fork(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkpoint(t, cut, signing(v.keys, v.pin))
	again, err := ledger.Open(t.Context(), "sqlite:"+v.path, c)
	if err != nil || again.Refusal() != nil {
		t.Fatalf("after it was signed: %v, %v", err, again.Refusal())
	}
	defer again.Close()
	mustAppend(t, again, ledger.Entry{Kind: ledger.Heartbeat})
	checkpoint(t, again, signing(v.keys, v.pin))
	if r := verify(t, again, v.verification()); r.Complete != ledger.Good || len(r.Forks) != 3 {
		t.Errorf("complete %s, forks %v, %v", r.Complete, r.Forks, r.Missing)
	}
}
