package custody_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/owner"
)

// A file whose owner is in a container is an orphan when he lets go of his lease,
// and not before; without one, nothing is known of him.
func TestOrphansByLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, err := owner.Of("here", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	contained := owner.Process{Host: "container", Boot: me.Boot, PID: 1, Start: 1, Space: me.Space + 1}
	ago := w.now.Add(-5 * time.Hour)
	leases := map[string]*owner.Held{}
	for _, name := range []string{"alive", "dead", "missing", "none"} {
		o := contained
		if name != "none" {
			if leases[name], err = owner.Hold(filepath.Join(w.base, name)); err != nil {
				t.Fatal(err)
			}
			o.Lease = leases[name].Lease()
		}
		w.track(custody.Operation{Action: work, Path: w.write(name, "x"), Owner: o, At: ago})
	}
	orphans := func() string {
		t.Helper()
		list, err := w.Orphans(t.Context(), custody.Search{Grace: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, o := range list {
			names = append(names, filepath.Base(o.Path)+" "+string(o.Kind)+" "+o.Life.String())
		}
		return strings.Join(names, "; ")
	}
	if got := orphans(); got != "" {
		t.Errorf("while all hold theirs: %q", got)
	}
	if err := leases["dead"].Release(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.base, "missing")); err != nil {
		t.Fatal(err)
	}
	if got := orphans(); got != "dead dead-owner dead" {
		t.Errorf("got %q", got)
	}
	list, err := w.Orphans(t.Context(), custody.Search{Grace: time.Hour})
	if got := w.results(w.Dispose(t.Context(), list)); err != nil || got != "dead gone GONE" {
		t.Errorf("disposed of %q: %v", got, err)
	}
}

// An application that holds a lease answers with it for what it tracks.
func TestLeaseOfThisProcess(t *testing.T) {
	t.Parallel()
	var lease owner.Lease
	w := newWorld(t, func(o *custody.Options) {
		h, err := owner.Hold(filepath.Join(t.TempDir(), "lease"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Release() })
		lease, o.Lease = h.Lease(), h.Lease()
	})
	id := w.track(custody.Operation{Action: work, Path: w.write("a", "x")}).ID
	f, ok, err := w.Find(t.Context(), id)
	if err != nil || !ok || f.Made.Owner.Lease != lease || f.Made.Owner.PID != os.Getpid() {
		t.Errorf("%+v %v %v", f.Made.Owner, ok, err)
	}
}

// meddling is a context that does something each time it is asked whether it is
// over: as a file is read, before each piece.
type meddling struct {
	context.Context
	asked *int
	do    func(n int)
}

func (m meddling) Err() error {
	*m.asked++
	m.do(*m.asked)
	return m.Context.Err()
}

// A file that changes while it is read has no hash: neither the one before nor the
// one after.
func TestChangedWhileRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, change := range map[string]func(path string) error{
		"appended": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("more")
			}
			if err == nil {
				err = f.Close()
			}
			return err
		},
		"truncated": func(path string) error { return os.Truncate(path, 10) },
		"written over, size as before": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("other"), 0)
			}
			if err == nil {
				err = f.Close()
			}
			return err
		},
	} {
		for _, size := range []int{5 << 20, 600 << 10} { // where it is mapped, and where it is read
			path := w.write(name, strings.Repeat("x", size))
			ago := w.now.Add(-time.Hour) // a change within one tick of the kernel's clock leaves the time as it is
			if err := os.Chtimes(path, ago, ago); err != nil {
				t.Fatal(err)
			}
			ctx := meddling{t.Context(), new(int), func(n int) {
				if n == 3 {
					if err := change(path); err != nil {
						t.Fatal(name, err)
					}
				}
			}}
			if sum, _, err := w.Digest(ctx, path); err == nil || sum != [32]byte{} || !strings.Contains(err.Error(), "changed") {
				t.Errorf("%s of %d: %x %v", name, size, sum, err)
			}
			if *ctx.asked < 3 {
				t.Errorf("%s of %d: it was not changed", name, size)
			}
			if _, _, err := w.Digest(t.Context(), path); err != nil {
				t.Errorf("%s of %d, at rest: %v", name, size, err)
			}
		}
	}
}
