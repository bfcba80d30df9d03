package owner_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/epitaph/epitaph/owner"
)

// holding makes the test binary a program that holds a lease until it is killed.
const holding = "EPITAPH_TEST_LEASE"

func TestMain(m *testing.M) {
	if path := os.Getenv(holding); path != "" {
		hold(path)
	}
	os.Exit(m.Run())
}

func hold(path string) {
	h, err := owner.Hold(path)
	if err != nil {
		panic(err)
	}
	me, err := owner.Of("contained", os.Getpid())
	if err != nil {
		panic(err)
	}
	me.Lease = h.Lease()
	if err := json.NewEncoder(os.Stdout).Encode([]any{me, me.Lease}); err != nil {
		panic(err)
	}
	time.Sleep(time.Hour)
}

// held starts a program that holds a lease, behind the words of another, and
// returns what it says of itself, and its number here.
func held(t *testing.T, path string, before ...string) (o owner.Process, pid int) {
	t.Helper()
	words := append(before, os.Args[0])
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Env = append(os.Environ(), holding+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&[]any{&o, &o.Lease}); err != nil {
		t.Fatal(err)
	}
	if len(before) == 0 {
		return o, cmd.Process.Pid
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
		t.Fatal(err)
	}
	return o, pid
}

// contained runs a program as the first of a process namespace, as a container
// does.
func contained() []string {
	words := []string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"}
	if os.Getuid() != 0 {
		words = append(words, "--user", "--map-root-user")
	}
	return words
}

func self(t *testing.T) owner.Process {
	t.Helper()
	me, err := owner.Of("here", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return me
}

// eventually waits until an owner is what he should be.
func eventually(t *testing.T, me, o owner.Process, want owner.Life) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); me.Life(o) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("he is %v, want %v", me.Life(o), want)
		}
	}
}

// An owner in a container, whose process cannot be told from here, lives as long
// as he holds his lease, however he ends.
func TestLeaseOfAContainer(t *testing.T) {
	t.Parallel()
	me, path := self(t), filepath.Join(t.TempDir(), "lease")
	o, pid := held(t, path, contained()...)
	if o.PID != 1 || o.Space == me.Space || o.Boot != me.Boot {
		t.Fatalf("it is no container: %+v beside %+v", o, me)
	}
	blind := o
	blind.Lease = owner.Lease{}
	if got := me.Life(blind); got != owner.Unknown {
		t.Errorf("without a lease: %v", got)
	}
	if got := me.Life(o); got != owner.Alive {
		t.Errorf("while it runs: %v", got)
	}
	elsewhere := o
	elsewhere.Boot = "another"
	if got := me.Life(elsewhere); got != owner.Unknown {
		t.Errorf("on another host: %v", got)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, me, o, owner.Dead)
	if got := me.Life(blind); got != owner.Unknown {
		t.Errorf("without a lease, killed: %v", got)
	}
	// Who takes the same file after him is another.
	next, _ := held(t, path, contained()...)
	if got := me.Life(next); got != owner.Alive {
		t.Errorf("the next: %v", got)
	}
	if got := me.Life(o); got != owner.Dead {
		t.Errorf("the one before: %v", got)
	}
}

// Where the process can be seen, the lease is not asked.
func TestLeaseIsNotAskedOfWhatIsSeen(t *testing.T) {
	t.Parallel()
	me := self(t)
	o, pid := held(t, filepath.Join(t.TempDir(), "lease"))
	o.Lease.Path += ".absent"
	if got := me.Life(o); got != owner.Alive {
		t.Errorf("while it runs: %v", got)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, me, o, owner.Dead)
}

// unseen is an owner with a lease whose process cannot be told.
func unseen(me owner.Process, l owner.Lease) owner.Process {
	return owner.Process{Boot: me.Boot, PID: 1, Space: me.Space + 1, Lease: l}
}

// What is not the file that was named tells nothing.
func TestLeaseThatIsAnotherFile(t *testing.T) {
	t.Parallel()
	me := self(t)
	for name, spoil := range map[string]func(path string) error{
		"missing": os.Remove,
		"replaced by one that another holds": func(path string) error {
			if err := os.Rename(path, path+".old"); err != nil {
				return err
			}
			_, err := owner.Hold(path)
			return err
		},
		"replaced by a copy that nobody holds": func(path string) error {
			b, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path+".new", b, 0o600)
			}
			if err == nil {
				err = os.Rename(path+".new", path)
			}
			return err
		},
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"scribbled over": func(path string) error {
			return os.WriteFile(path, bytes.Repeat([]byte("x"), 33), 0o600)
		},
		"a link to it": func(path string) error {
			if err := os.Rename(path, path+".old"); err != nil {
				return err
			}
			return os.Symlink(path+".old", path)
		},
		"a pipe": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return syscall.Mkfifo(path, 0o600)
		},
		"a directory": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "lease")
			h, err := owner.Hold(path)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Release()
			if got := me.Life(unseen(me, h.Lease())); got != owner.Alive {
				t.Errorf("before: %v", got)
			}
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			if got := me.Life(unseen(me, h.Lease())); got != owner.Unknown {
				t.Errorf("%v, want unknown", got)
			}
		})
	}
}

// On a file system whose locks other hosts may hold unseen, or of which nothing is
// known, there is no lease. /proc stands for them: it is none that this kernel
// keeps files on.
func TestLeaseOnAnotherFileSystem(t *testing.T) {
	t.Parallel()
	me := self(t)
	if _, err := owner.LeaseOf("/proc/version"); !errors.Is(err, owner.ErrNotLock) {
		t.Errorf("registered: %v", err)
	}
	if _, err := owner.Hold("/proc/sys/kernel/hostname"); !errors.Is(err, owner.ErrNotLock) && !errors.Is(err, syscall.EACCES) {
		t.Errorf("held: %v", err)
	}
	if got := me.Life(unseen(me, owner.Lease{Path: "/proc/version", File: "1.2"})); got != owner.Unknown {
		t.Errorf("%v, want unknown", got)
	}
}

// Any program that locks a file can be the owner; marks are of Hold alone.
func TestLeaseOfAnotherProgram(t *testing.T) {
	t.Parallel()
	me := self(t)
	for _, how := range []string{"--exclusive", "--shared"} {
		path := filepath.Join(t.TempDir(), "app.lock")
		if err := os.WriteFile(path, []byte("4711\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := owner.LeaseOf(path); !errors.Is(err, owner.ErrNotHeld) {
			t.Errorf("%s: nobody holds it, and it is registered: %v", how, err)
		}
		cmd := exec.CommandContext(t.Context(), "flock", how, "--no-fork", path, "sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var l owner.Lease
		var err error
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if l, err = owner.LeaseOf(path); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatal(how, err)
		}
		if got := me.Life(unseen(me, l)); got != owner.Alive {
			t.Errorf("%s: %v", how, got)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := me.Life(unseen(me, l)); got != owner.Dead {
			t.Errorf("%s, killed: %v", how, got)
		}
		if _, err := owner.Hold(path); err == nil {
			t.Error("a file that holds something else was written over")
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "4711\n" {
			t.Errorf("it holds %q now: %v", b, err)
		}
	}
}

// Those who look never take a holder for dead, nor keep the next one off.
func TestLookingDoesNotDisturb(t *testing.T) {
	t.Parallel()
	me, path := self(t), filepath.Join(t.TempDir(), "lease")
	var late sync.WaitGroup // those who look on when he is gone
	defer late.Wait()
	for range 5 {
		h, err := owner.Hold(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := owner.Hold(path); !errors.Is(err, owner.ErrHeld) {
			t.Errorf("held twice: %v", err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					if got := me.Life(unseen(me, h.Lease())); got != owner.Alive {
						t.Errorf("held, and %v", got)
					}
				}
			})
		}
		wg.Wait()
		if err := h.Release(); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			late.Go(func() {
				for range 20 {
					me.Life(unseen(me, h.Lease()))
				}
			})
		}
	}
}

// A file that was held very often forgets the oldest, of whom nothing is known
// then, and goes on.
func TestMarksAreBounded(t *testing.T) {
	t.Parallel()
	me, path := self(t), filepath.Join(t.TempDir(), "lease")
	var first, last owner.Lease
	for n := range 1100 {
		h, err := owner.Hold(path)
		if err != nil {
			t.Fatal(n, err)
		}
		if last = h.Lease(); n == 0 {
			first = last
		}
		if err := h.Release(); err != nil {
			t.Fatal(err)
		}
	}
	h, err := owner.Hold(path)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	if fi, err := os.Stat(path); err != nil || fi.Size() > 64<<10 {
		t.Errorf("%v %v", fi.Size(), err)
	}
	for l, want := range map[owner.Lease]owner.Life{first: owner.Unknown, last: owner.Dead, h.Lease(): owner.Alive} {
		if got := me.Life(unseen(me, l)); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
