package session_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/owner"
	"github.com/epitaph/epitaph/session"
)

// keyOf reads which key of the kernel is that of a session, from its record.
func (b *bed) keyOf(id string) (serial int) {
	b.Helper()
	text, err := os.ReadFile(b.path(id, ".epitaph-session"))
	b.must(err)
	var rec struct {
		Key   int
		Nonce string
	}
	b.must(json.Unmarshal(text, &rec))
	b.Cleanup(func() { // in whatever state a failed test left it
		_, _ = unix.KeyctlInt(unix.KEYCTL_REVOKE, rec.Key, 0, 0, 0)
		_, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, rec.Key, unix.KEY_SPEC_USER_KEYRING, 0, 0)
	})
	return rec.Key
}

// readKey asks the kernel for the secret of a key.
func readKey(serial int) (string, error) {
	buf := make([]byte, 256)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, serial, buf, 0)
	return string(buf[:min(max(n, 0), len(buf))]), err
}

// leave makes a sealed session that no process holds.
func (b *bed) leave(s *session.Store, id string, ttl time.Duration) (key int) {
	b.Helper()
	_, _, err := s.Leave(b.Context(), id, ttl, owner.Process{})
	b.must(err)
	return b.keyOf(id)
}

func (b *bed) enter(id string) *session.Visit {
	b.Helper()
	v, err := session.Enter(b.Context(), b.root, id)
	b.must(err)
	b.Cleanup(func() { v.Close() })
	return v
}

func (b *bed) read(v *session.Visit, name string) string {
	b.Helper()
	r, err := v.Open(name)
	b.must(err)
	text, err := io.ReadAll(r)
	b.must(errors.Join(err, r.Close()))
	return string(text)
}

// A sealed session without a process: what is written is an age stream, its key
// is in the kernel and on no disk, and whoever deletes the session drops the key.
func TestSealedInTheKernel(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed = true
	s := b.store()
	key := b.leave(s, "a", time.Hour)
	secret, err := readKey(key)
	b.must(err)
	if !strings.HasPrefix(secret, "AGE-SECRET-KEY-1") {
		t.Fatal("the key in the kernel is none of age")
	}
	v := b.enter("a")
	n, err := v.Write("sub/note.txt", strings.NewReader("patient anna smith"))
	if err != nil || n != 18 || !v.Sealed() {
		t.Errorf("write: %d bytes, sealed %t, %v", n, v.Sealed(), err)
	}
	disk, err := os.ReadFile(b.path("a", "sub", "note.txt"))
	b.must(err)
	rec, err := os.ReadFile(b.path("a", ".epitaph-session"))
	b.must(err)
	if !bytes.HasPrefix(disk, []byte("age-encryption.org/v1\n")) || bytes.Contains(disk, []byte("anna")) || bytes.Contains(rec, []byte(secret)) {
		t.Errorf("on disk: %.60q\n%s", disk, rec)
	}
	if got := b.read(b.enter("a"), "sub/note.txt"); got != "patient anna smith" {
		t.Errorf("read %q", got)
	}
	e, err := s.Delete(t.Context(), "a")
	b.must(err)
	b.ended(e, "gone GONE: 1 gone, 0 left, 0 unknown")
	if _, err := readKey(key); err != unix.EKEYREVOKED && err != unix.ENOKEY || e.KeysLeft != 0 {
		t.Errorf("the key after the deletion: %v, %d left", err, e.KeysLeft)
	}
}

// What cannot be deleted cannot be read either: the key goes first.
func TestKeyGoesEvenIfFilesStay(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed = true
	s := b.store()
	key := b.leave(s, "a", time.Hour)
	_, err := b.enter("a").Write("note.txt", strings.NewReader("x"))
	b.must(err)
	b.must(os.Link(b.path("a", "note.txt"), b.path("another-name")))
	e, err := s.Delete(t.Context(), "a")
	b.must(err)
	b.ended(e, "present SHARED: 0 gone, 1 left, 0 unknown")
	if _, err := readKey(key); err != unix.EKEYREVOKED && err != unix.ENOKEY {
		t.Errorf("the key: %v", err)
	}
	if _, err := session.Enter(t.Context(), b.root, "a"); !errors.Is(err, session.ErrNoKey) {
		t.Errorf("enter: %v", err)
	}
	infos, _, err := s.List(t.Context())
	b.must(err)
	if len(infos) != 1 || !infos[0].Sealed || !infos[0].KeyGone {
		t.Errorf("list: %+v", infos)
	}
}

// A sweep drops the keys of what it takes, and no other.
func TestSweepDropsKeys(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed = true
	s := b.store()
	short, long := b.leave(s, "short", time.Hour), b.leave(s, "long", 24*time.Hour)
	b.wait(2 * time.Hour)
	w, err := s.Sweep(t.Context())
	b.must(err)
	if len(w.Ended) != 1 || w.Ended[0].ID != "short" || w.KeysLeft != 0 {
		t.Errorf("sweep: %+v", w)
	}
	if _, err := readKey(short); err != unix.EKEYREVOKED && err != unix.ENOKEY {
		t.Errorf("the key of what went: %v", err)
	}
	if _, err := readKey(long); err != nil {
		t.Errorf("the key of what stays: %v", err)
	}
}

// The kernel itself ends the key with the session's time, whoever may run or not.
func TestKernelEndsTheKeyInTime(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed = true
	s := b.store()
	id, key := "a", 0
	for ttl := 2 * time.Second; ; ttl *= 2 {
		began := time.Now()
		key = b.leave(s, id, ttl)
		_, err := readKey(key)
		if err == nil {
			break
		}
		// The kernel counts whole seconds. Where it took as long as that to look, the
		// next is left for longer.
		if took := time.Since(began); took < ttl-time.Second {
			t.Fatalf("before its time is over, after %v of %v: %v", took, ttl, err)
		}
		id += "a"
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, err := readKey(key)
		if err == unix.EKEYEXPIRED || err == unix.ENOKEY {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the key lives on: %v", err)
		}
	}
	if _, err := session.Enter(t.Context(), b.root, id); !errors.Is(err, session.ErrNoKey) {
		t.Errorf("enter: %v", err)
	}
}

// Closing a session drops its key at once, before anything is disposed of: also
// where that fails, nobody can read it any more.
func TestCloseDropsTheKey(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed = true
	for name, whole := range map[string]bool{"whole": true, "without a ledger": false} {
		if !whole {
			b.o.Ledger = &cut{Ledger: b.ledger}
		}
		x, err := b.store().New(t.Context(), time.Hour)
		b.must(err)
		if !x.HasKey() {
			t.Errorf("%s: no key while it is open", name)
		}
		if _, err := x.Close(); (err == nil) != whole {
			t.Errorf("%s: close: %v", name, err)
		}
		if x.HasKey() {
			t.Errorf("%s: the key outlives the session", name)
		}
		b.o.Ledger = b.ledger
	}
}

// A lent key is for what the thread starts, not for others of this user, who can
// only drop it; and it goes with the session.
func TestLentKey(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed, b.o.Lend = true, true
	s := b.store()
	done := make(chan struct{})
	go func() { // a thread of its own, which ends with it
		defer close(done)
		runtime.LockOSThread()
		x, err := s.NewID(t.Context(), "a", time.Hour)
		if err != nil {
			t.Error(err)
			return
		}
		key := b.keyOf("a")
		if _, err := readKey(key); err != nil {
			t.Errorf("the thread cannot read it: %v", err)
		}
		if v, err := session.Enter(t.Context(), b.root, "a"); err != nil {
			t.Errorf("enter: %v", err)
		} else if _, err := v.Write("note.txt", strings.NewReader("x")); err != nil {
			t.Errorf("write: %v", err)
		}
		if r, err := x.Open("note.txt"); err != nil {
			t.Errorf("the owner cannot read what the visitor wrote: %v", err)
		} else {
			r.Close()
		}
		other := make(chan struct{})
		go func() { // a thread that has another session keyring
			defer close(other)
			runtime.LockOSThread()
			if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
				t.Error(err)
			}
			if _, err := readKey(key); err != unix.EACCES {
				t.Errorf("another reads it: %v", err)
			}
			if _, err := session.Enter(t.Context(), b.root, "a"); !errors.Is(err, session.ErrNoKey) || !errors.Is(err, unix.EACCES) {
				t.Errorf("another enters: %v", err)
			}
		}()
		<-other
		e, err := x.Close()
		if err != nil || e.KeysLeft != 0 || !e.Done() {
			t.Errorf("close: %+v, %v", e, err)
		}
		if _, err := readKey(key); err != unix.EKEYREVOKED && err != unix.ENOKEY {
			t.Errorf("the key after the end: %v", err)
		}
	}()
	<-done
}

// A key of the same number that is not the session's is neither used nor
// dropped: numbers are given out anew after a reboot.
func TestKeyOfAnotherName(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed = true
	s := b.store()
	mine, victim := b.leave(s, "a", time.Hour), b.leave(s, "b", time.Hour)
	path := b.path("a", ".epitaph-session")
	rec, err := os.ReadFile(path)
	b.must(err)
	b.must(os.WriteFile(path, bytes.Replace(rec, []byte(strconv.Itoa(mine)), []byte(strconv.Itoa(victim)), 1), 0o600))
	if _, err := session.Enter(t.Context(), b.root, "a"); !errors.Is(err, session.ErrNoKey) {
		t.Errorf("enter: %v", err)
	}
	e, err := s.Delete(t.Context(), "a")
	b.must(err)
	b.ended(e, "gone GONE: 0 gone, 0 left, 0 unknown")
	if _, err := readKey(victim); err != nil {
		t.Errorf("the other key: %v", err)
	}
}

// A file is written whole or not at all, never over another, and not into a
// session that has ended.
func TestVisitWritesWholeFiles(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	_, _, err := s.Leave(t.Context(), "a", time.Hour, owner.Process{})
	b.must(err)
	v := b.enter("a")
	broken := io.MultiReader(strings.NewReader("half of it"), iotest.ErrReader(errCut))
	if _, err := v.Write("note.txt", broken); !errors.Is(err, errCut) || b.exists(b.path("a", "note.txt")) {
		t.Errorf("a reader that breaks off: %v, there: %t", err, b.exists(b.path("a", "note.txt")))
	}
	_, err = v.Write("note.txt", strings.NewReader("first"))
	b.must(err)
	if _, err := v.Write("note.txt", strings.NewReader("second")); !errors.Is(err, fs.ErrExist) || b.read(v, "note.txt") != "first" {
		t.Errorf("written over: %v, %q", err, b.read(v, "note.txt"))
	}
	if _, err := v.Write("../b", strings.NewReader("x")); !errors.Is(err, session.ErrName) {
		t.Errorf("a name that climbs: %v", err)
	}
	ending := readerFunc(func(p []byte) (int, error) {
		e, err := s.Delete(t.Context(), "a")
		if err != nil || e.State != connector.Gone {
			t.Errorf("delete: %+v, %v", e, err)
		}
		return 0, io.EOF
	})
	if _, err := v.Write("late.txt", ending); !errors.Is(err, session.ErrNoSession) || b.exists(b.path("a")) {
		t.Errorf("into a session that ended meanwhile: %v", err)
	}
	if _, err := session.Enter(t.Context(), b.root, "a"); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("enter: %v", err)
	}
	if _, err := session.Enter(t.Context(), b.root, "../a"); !errors.Is(err, session.ErrID) {
		t.Errorf("enter: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A session whose key is in the memory of a process is entered by no other.
func TestNoVisitWithoutAKey(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed = true
	x := b.session(b.store())
	if _, err := session.Enter(t.Context(), b.root, x.ID()); !errors.Is(err, session.ErrNoKey) {
		t.Errorf("enter: %v", err)
	}
}
