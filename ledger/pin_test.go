package ledger_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

// A link says where somebody wants the checkpoint and the key: they go there, and
// the link stays.
func TestLinksStay(t *testing.T) {
	t.Parallel()
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	k := newKeys(t, l)
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	here, there := t.TempDir(), t.TempDir()
	link := func(name string) (path, to string) {
		path, to = filepath.Join(here, name), filepath.Join(there, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path, to
	}
	pin, pinned := link("pin")
	key, kept := link("key")
	for range 2 {
		c := checkpoint(t, l, signing(k, ledger.FilePin(pin)))
		if err := k.Write(key); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{pinned: string(c.Note), kept: k.String()} {
			info, err := os.Lstat(path)
			data, err2 := os.ReadFile(path)
			if err != nil || err2 != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 || string(data) != want {
				t.Errorf("%s: %v %v %v, %q", filepath.Base(path), info, err, err2, data)
			}
		}
		mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	}
	// Where the place is away, as a disk that is not mounted, nothing is put beside.
	away, _ := filepath.Abs(filepath.Join(here, "away"))
	if err := os.Symlink(filepath.Join(there, "not", "mounted"), away); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Checkpoint(t.Context(), signing(k, ledger.FilePin(away))); err == nil {
		t.Error("a checkpoint was kept where no disk is")
	}
	if _, err := proof.ReadKeys(key); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(away); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
}

// Two hosts sign at once. The one whose checkpoint is the shorter signs again: that
// the pin was faster is no fault of the ledger.
func TestTwoHostsPinAtOnce(t *testing.T) {
	t.Parallel()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "l.db")
	l, other := open(t, dsn), open(t, dsn)
	k := newKeys(t, l)
	shared := ledger.FilePin(filepath.Join(t.TempDir(), "pin"))
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	overtaken := 0
	racing := racingPin{shared, func() {
		if overtaken++; overtaken > 2 {
			return
		}
		mustAppend(t, other, ledger.Entry{Kind: ledger.Heartbeat})
		checkpoint(t, other, signing(k, shared))
	}}
	c, err := l.Checkpoint(t.Context(), signing(k, racing))
	if err != nil || c.Size != 3 {
		t.Errorf("the slower host: %d entries, %v; want 3", c.Size, err)
	}
	wantGood(t, verify(t, l, ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{shared}}))
}

// racingPin lets another come first.
type racingPin struct {
	ledger.Pin
	before func()
}

func (p racingPin) Put(ctx context.Context, note []byte) error {
	p.before()
	return p.Pin.Put(ctx, note)
}

// A checkpoint that is pinned while the ledger is being verified is of entries
// after those that are looked at.
func TestVerifyWhileOthersPin(t *testing.T) {
	t.Parallel()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "l.db")
	l, other := open(t, dsn), open(t, dsn)
	k := newKeys(t, l)
	shared := ledger.FilePin(filepath.Join(t.TempDir(), "pin"))
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	checkpoint(t, l, signing(k, shared))
	late := latePin{shared, func() {
		mustAppend(t, other, ledger.Entry{Kind: ledger.Heartbeat})
		checkpoint(t, other, signing(k, shared))
	}}
	r, err := l.Verify(t.Context(), ledger.Verification{Trust: k.Trust(), Pins: []ledger.Pin{late}})
	if err != nil {
		t.Fatal(err)
	}
	wantGood(t, r)
}

// latePin is read right after another wrote to it.
type latePin struct {
	ledger.Pin
	before func()
}

func (p latePin) Latest(ctx context.Context) ([]byte, error) {
	p.before()
	return p.Pin.Latest(ctx)
}
