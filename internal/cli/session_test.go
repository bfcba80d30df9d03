package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sessionBed prepares runs of the session command in a directory of their own.
func sessionBed(t *testing.T) (dir string, run func(args ...string) *exec.Cmd) {
	dir = t.TempDir()
	return dir, func(args ...string) *exec.Cmd {
		cmd := command(context.Background(), dir, append([]string{"session", "--root", "sessions", "--ledger", "sqlite:epitaph.db"}, args...)...)
		return cmd
	}
}

// started starts a program in a session that writes a file and then sleeps, and
// returns once the file is there, with the program's own process id.
func started(t *testing.T, cmd *exec.Cmd) (pid int) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	pid, err = strconv.Atoi(strings.TrimSpace(line))
	must(t, err)
	return pid
}

const sleeper = `trap 'echo y >$EPITAPH_SESSION/late; exit 9' INT; echo x >$EPITAPH_SESSION/note; echo $$; while :; do sleep 0.05; done`

func sessionsIn(t *testing.T, dir string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "sessions", "[a-z0-9]*"))
	must(t, err)
	return len(found)
}

// alive reports whether a process runs; one that nobody waited for does not.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !bytes.Contains(b, []byte(") Z "))
}

// Signals go to the program, again and again; its own end decides, and the
// session goes with it.
func TestSessionRunPassesSignalsOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		signal os.Signal
		status int
		says   string
	}{
		{os.Interrupt, 9, "2 files gone"}, // it catches this one and cleans up
		{syscall.SIGTERM, 143, "1 file gone"},
		{syscall.SIGHUP, 129, "1 file gone"},
	} {
		dir, run := sessionBed(t)
		cmd := run("run", "--", "sh", "-c", sleeper)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		pid := started(t, cmd)
		must(t, cmd.Process.Signal(c.signal))
		if status := statusOf(t, cmd.Wait()); status != c.status || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%v: status %d, want %d; stderr %q, want %s", c.signal, status, c.status, stderr.String(), c.says)
		}
		if alive(pid) || sessionsIn(t, dir) != 0 {
			t.Errorf("%v: alive %t, %d sessions", c.signal, alive(pid), sessionsIn(t, dir))
		}
	}
}

// A program that catches three interrupts is not deserted by its session.
func TestSessionRunSurvivesManyInterrupts(t *testing.T) {
	t.Parallel()
	dir, run := sessionBed(t)
	cmd := run("run", "--", "sh", "-c", `n=0; trap 'n=$((n+1)); echo $n' INT; echo $$; while [ $n -lt 4 ]; do sleep 0.02; done; exit 5`)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() != "4" {
			must(t, cmd.Process.Signal(os.Interrupt))
		}
	}
	if status := statusOf(t, cmd.Wait()); status != 5 || sessionsIn(t, dir) != 0 {
		t.Errorf("status %d, %d sessions; want 5 and none", status, sessionsIn(t, dir))
	}
}

// The runner killed with -9: the program dies with it, the session is left, and
// the next sweep takes it, once.
func TestSessionRunKilledIsSwept(t *testing.T) {
	t.Parallel()
	dir, run := sessionBed(t)
	cmd := run("run", "--", "sh", "-c", sleeper)
	pid := started(t, cmd)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for deadline := time.Now().Add(soon); alive(pid) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if alive(pid) {
		t.Error("the program lives on")
	}
	if n := sessionsIn(t, dir); n != 1 {
		t.Fatalf("%d sessions are left, want one", n)
	}
	out, err := run("sweep").Output()
	if status := statusOf(t, err); status != 0 || !strings.Contains(string(out), "Sessions swept: 1\nFiles: 1 gone, 0 left, 0 unknown\n") {
		t.Errorf("status %d: %s", status, out)
	}
	if n := sessionsIn(t, dir); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	out, err = run("sweep").Output()
	if status := statusOf(t, err); status != 0 || !strings.Contains(string(out), "Sessions swept: 0\n") {
		t.Errorf("status %d: %s", status, out)
	}
	if gone, open := goneOf(t, dir); gone != 1 || open != 0 {
		t.Errorf("the ledger says %d gone, %d open", gone, open)
	}
}

// A session that belongs to a process stays as long as that lives.
func TestSessionOfAnOwner(t *testing.T) {
	t.Parallel()
	dir, run := sessionBed(t)
	owner := exec.Command("sleep", "3600")
	must(t, owner.Start())
	defer owner.Process.Kill() //nolint:errcheck // it is dead, or the test has failed
	_, err := run("new", "--owner", strconv.Itoa(owner.Process.Pid)).Output()
	must(t, err)
	out, err := run("sweep").Output()
	if statusOf(t, err) != 0 || !strings.Contains(string(out), "Kept: 0 in use, 1 waiting") || sessionsIn(t, dir) != 1 {
		t.Errorf("while it lives: %s", out)
	}
	must(t, owner.Process.Kill())
	_ = owner.Wait()
	out, err = run("sweep").Output()
	if statusOf(t, err) != 0 || !strings.Contains(string(out), "Sessions swept: 1") || sessionsIn(t, dir) != 0 {
		t.Errorf("after its end: %s", out)
	}
}

// A session whose time is over goes, and one whose time is not stays.
func TestSessionTime(t *testing.T) {
	t.Parallel()
	dir, run := sessionBed(t)
	must(t, run("new", "--ttl", "1ns", "--id", "short").Run())
	must(t, run("new", "--ttl", "1h", "--id", "long").Run())
	out, err := run("sweep").Output()
	if statusOf(t, err) != 0 || !strings.Contains(string(out), "Sessions swept: 1\n") || sessionsIn(t, dir) != 1 {
		t.Errorf("%s", out)
	}
}

// A delete that is killed anywhere is finished by the next one: the session is
// gone, the ledger has it once, and nothing is open.
func TestSessionDeleteKilledAnywhere(t *testing.T) {
	t.Parallel()
	dir, run := sessionBed(t)
	const rounds, files = 12, 400
	cut := 0
	for i := range rounds {
		id := "s" + strconv.Itoa(i)
		must(t, run("new", "--id", id).Run())
		for f := range files {
			must(t, os.WriteFile(filepath.Join(dir, "sessions", id, strconv.Itoa(f)), []byte("x"), 0o600))
		}
		cmd := run("delete", id)
		must(t, cmd.Start())
		time.Sleep(time.Duration(10+3*i) * time.Millisecond) // anywhere, on purpose
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if _, open := goneOf(t, dir); open > 0 {
			cut++
		}
		out, err := run("delete", id, "--json").Output()
		if status := statusOf(t, err); status != 0 || !strings.Contains(string(out), `"state":"gone"`) {
			t.Errorf("status %d: %s", status, out)
		}
	}
	if gone, open := goneOf(t, dir); gone != rounds || open != 0 || sessionsIn(t, dir) != 0 {
		t.Errorf("%d gone, %d open, %d left; want %d, 0, 0 (%d were cut in the middle)", gone, open, sessionsIn(t, dir), rounds, cut)
	}
	t.Logf("%d of %d were cut in the middle", cut, rounds)
}

// withoutKeyring runs a program to which the kernel denies its keyring, as the
// seccomp profile of a container does.
func withoutKeyring() {
	runtime.LockOSThread()
	const load, equal, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: load, K: 0}, // the number of the call
		{Code: equal, K: unix.SYS_ADD_KEY, Jt: 3},
		{Code: equal, K: unix.SYS_REQUEST_KEY, Jt: 2},
		{Code: equal, K: unix.SYS_KEYCTL, Jt: 1},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	path, err := exec.LookPath(os.Args[1])
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err == nil {
		err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	}
	if err == nil {
		err = syscall.Exec(path, os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "nokeyring:", err)
	os.Exit(99)
}

// The runner of a sealed session killed with -9: no sweep is needed, and no time
// must pass. The kernel destroys the key with the last process that could read it.
func TestSealedRunKilledTakesItsKeyAlong(t *testing.T) {
	t.Parallel()
	dir, run := sessionBed(t)
	cmd := run("run", "--sealed", "--id", "r", "--", "sh", "-c", `echo x | epitaph session write r note 2>/dev/null; echo $$; while :; do sleep 0.05; done`)
	pid := started(t, cmd)
	text, err := os.ReadFile(filepath.Join(dir, "sessions", "r", ".epitaph-session"))
	must(t, err)
	var rec struct{ Key int }
	must(t, json.Unmarshal(text, &rec))
	if _, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, rec.Key); err != nil {
		t.Fatalf("while it runs: %v", err)
	}
	buf := make([]byte, 256)
	if _, err := unix.KeyctlBuffer(unix.KEYCTL_READ, rec.Key, buf, 0); err != unix.EACCES {
		t.Errorf("we can read it: %v", err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for deadline := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		if _, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, rec.Key); err == unix.ENOKEY && !alive(pid) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the key lives on: %v; the program lives on: %t", err, alive(pid))
		}
	}
	out, err := run("list").Output()
	if statusOf(t, err) != 0 || !strings.Contains(string(out), "r  abandoned  1 file") || !strings.Contains(string(out), "sealed, its key is gone") {
		t.Errorf("list: %s", out)
	}
	out, err = run("sweep").Output()
	if statusOf(t, err) != 0 || !strings.Contains(string(out), "Sessions swept: 1\nFiles: 1 gone, 0 left, 0 unknown\n") {
		t.Errorf("sweep: %s", out)
	}
}

// An interrupted write leaves no file behind.
func TestSessionWriteInterrupted(t *testing.T) {
	t.Parallel()
	dir, run := sessionBed(t)
	must(t, run("new", "--sealed", "--id", "a").Run())
	cmd := run("write", "a", "note.txt")
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	for deadline := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "sessions", "a", "note.txt")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the write did not begin")
		}
	}
	_, err = in.Write([]byte("half"))
	must(t, err)
	must(t, cmd.Process.Signal(os.Interrupt))
	if status := statusOf(t, cmd.Wait()); status != 130 {
		t.Errorf("status %d, want 130", status)
	}
	if _, err := os.Stat(filepath.Join(dir, "sessions", "a", "note.txt")); err == nil {
		t.Error("half a file is there")
	}
	must(t, run("delete", "a").Run())
}

// What was started with a signal ignored, as by nohup, has it ignored in a
// session too, and so does the program.
func TestSessionRunKeepsIgnoredSignals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `trap '' HUP INT
		epitaph session --root sessions --ledger sqlite:epitaph.db run -- sh -c 'echo; sleep 0.5; echo survived' & p=$!
		wait $p; exit $?`)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewReader(out)
	_, err = lines.ReadString('\n')
	must(t, err)
	must(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP)) // to all of them
	must(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
	line, err := lines.ReadString('\n')
	if status := statusOf(t, cmd.Wait()); err != nil || line != "survived\n" || status != 0 {
		t.Errorf("%q, %v, status %d", line, err, status)
	}
}
