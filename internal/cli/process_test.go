package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/ledger"
)

const filesPolicy = `version: 1
stores:
  disk: {files: data}
rules:
  exports: {kind: export, retain: 14d, files: "disk:export-*.zip", anchor: modified}
limits: {share: 100%}
`

// manyExports makes a directory with a policy and n exports that are due.
func manyExports(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "epitaph.yaml"), []byte(filesPolicy), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
	old := time.Now().AddDate(0, 0, -30)
	for i := range n {
		path := filepath.Join(dir, "data", fmt.Sprintf("export-%05d.zip", i))
		must(t, os.WriteFile(path, []byte("x"), 0o600))
		must(t, os.Chtimes(path, old, old))
	}
	return dir
}

// soon is how long is waited for what comes by itself: long, as a busy machine may
// stand still for seconds.
const soon = 2 * time.Minute

// narrow makes a pipe hold a page and no more: whoever writes to it is held back
// soon when nobody reads. A program that tells what it does can so not have done
// all of it before a test has seen the first, however slow the test.
func narrow(t *testing.T, pipe io.ReadCloser) {
	t.Helper()
	raw, err := pipe.(*os.File).SyscallConn()
	must(t, err)
	var failed error
	must(t, raw.Control(func(fd uintptr) { _, failed = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 4096) }))
	must(t, failed)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func left(t *testing.T, dir string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "data", "export-*.zip"))
	must(t, err)
	return len(found)
}

// goneOf counts what the ledger in dir says is gone, and its open intents.
func goneOf(t *testing.T, dir string) (gone, open int) {
	t.Helper()
	l, err := ledger.OpenReadOnly(t.Context(), "sqlite:"+filepath.Join(dir, "epitaph.db"), ledger.Config{})
	must(t, err)
	defer l.Close()
	for e, err := range l.Entries(t.Context(), ledger.Filter{Kinds: []ledger.Kind{ledger.Outcome}}) {
		must(t, err)
		for _, r := range e.Results {
			if r.State == ledger.Gone && r.Reason == "GONE" {
				gone++
			}
		}
	}
	for _, err := range l.OpenIntents(t.Context()) {
		must(t, err)
		open++
	}
	return gone, open
}

// command prepares a run of the program in dir.
func command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "epitaph", args...)
	cmd.Dir = dir
	return cmd
}

func statusOf(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	must(t, err)
	return 0
}

// interruptedRun purges with small batches and sends the signals once something
// went. It returns the status, -1 for a process that was killed.
func interruptedRun(t *testing.T, dir string, signals ...os.Signal) (status int, stdout, stderr string) {
	t.Helper()
	cmd := command(t.Context(), dir, "purge", "--batch", "1", "--workers", "1", "--log", "-")
	var out, errs bytes.Buffer
	cmd.Stdout = &out
	pipe, err := cmd.StderrPipe()
	must(t, err)
	narrow(t, pipe)
	must(t, cmd.Start())
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		if strings.Contains(lines.Text(), `"event":"export_orphan_purged"`) {
			for _, s := range signals {
				must(t, cmd.Process.Signal(s))
			}
			signals = nil
		}
		fmt.Fprintln(&errs, lines.Text())
	}
	status = statusOf(t, cmd.Wait())
	if len(signals) > 0 {
		t.Fatalf("the run ended before it could be interrupted; status %d\n%s", status, errs.String())
	}
	return status, out.String(), errs.String()
}

// The first Ctrl-C lets the running batch end: nothing is left open, and what
// the ledger says is gone is what is not there.
func TestFirstInterruptEndsAfterTheBatch(t *testing.T) {
	t.Parallel()
	const n = 2000
	dir := manyExports(t, n)
	status, stdout, stderr := interruptedRun(t, dir, os.Interrupt)
	if status != 130 {
		t.Errorf("status %d, want 130\n%s", status, stderr)
	}
	if !strings.Contains(stdout, "Purge interrupted:") {
		t.Errorf("stdout does not say that it was interrupted:\n%s", stdout)
	}
	gone, open := goneOf(t, dir)
	if open != 0 {
		t.Errorf("%d batches are without an outcome, want none", open)
	}
	if gone == 0 || gone == n || gone != n-left(t, dir) {
		t.Errorf("the ledger says %d are gone; %d of %d are left", gone, left(t, dir), n)
	}
	finish(t, dir, n)
}

// The second Ctrl-C, SIGTERM and SIGKILL may leave a batch open. Running again
// settles it; every file is then gone, once.
func TestAnyEndIsSafe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		signals []os.Signal
		status  int
	}{
		{"interrupted twice", []os.Signal{os.Interrupt, os.Interrupt}, 130},
		{"terminated", []os.Signal{syscall.SIGTERM}, 130},
		{"killed", []os.Signal{syscall.SIGKILL}, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const n = 1000
			dir := manyExports(t, n)
			status, _, stderr := interruptedRun(t, dir, c.signals...)
			if status != c.status {
				t.Errorf("status %d, want %d\n%s", status, c.status, stderr)
			}
			if gone, _ := goneOf(t, dir); gone > n-left(t, dir) {
				t.Errorf("the ledger says %d are gone, but %d of %d are left", gone, left(t, dir), n)
			}
			finish(t, dir, n)
		})
	}
}

// finish runs again until the end and compares with what an uninterrupted run
// would have left.
func finish(t *testing.T, dir string, n int) {
	t.Helper()
	out, err := command(t.Context(), dir, "purge").CombinedOutput()
	if status := statusOf(t, err); status != 0 {
		t.Errorf("the second run ended with %d\n%s", status, out)
	}
	if gone, open := goneOf(t, dir); gone != n || open != 0 || left(t, dir) != 0 {
		t.Errorf("after the second run: %d gone, %d open, %d left; want %d, 0, 0", gone, open, left(t, dir), n)
	}
	out, err = command(t.Context(), dir, "purge").Output()
	if status := statusOf(t, err); status != 0 || !strings.Contains(string(out), "Exports deleted: 0") {
		t.Errorf("the third run ended with %d and says\n%s", status, out)
	}
}

// Two runs at once: the second stops before it touches anything.
func TestSecondRunKeepsOut(t *testing.T) {
	t.Parallel()
	dir := manyExports(t, 2000)
	first := command(t.Context(), dir, "purge", "--batch", "1", "--workers", "1", "--log", "-")
	pipe, err := first.StderrPipe()
	must(t, err)
	narrow(t, pipe)
	must(t, first.Start())
	lines := bufio.NewScanner(pipe)
	for lines.Scan() && !strings.Contains(lines.Text(), "export_orphan_purged") {
	}
	out, err := command(t.Context(), dir, "purge").CombinedOutput()
	if status := statusOf(t, err); status != 3 || !strings.Contains(string(out), "another run is at work") {
		t.Errorf("status %d, want 3 and a word on the other run:\n%s", status, out)
	}
	for lines.Scan() {
	}
	must(t, first.Wait())
	if gone, open := goneOf(t, dir); gone != 2000 || open != 0 {
		t.Errorf("%d gone, %d open; want 2000, 0", gone, open)
	}
}

// A reader of stdout that goes away does not end the purge half-way.
func TestReaderGoesAway(t *testing.T) {
	t.Parallel()
	dir := manyExports(t, 50)
	r, w, err := os.Pipe()
	must(t, err)
	r.Close()
	cmd := command(t.Context(), dir, "purge")
	cmd.Stdout = w
	err = cmd.Run()
	w.Close()
	if status := statusOf(t, err); status != 1 {
		t.Errorf("status %d, want 1: the result could not be told", status)
	}
	if gone, open := goneOf(t, dir); gone != 50 || open != 0 || left(t, dir) != 0 {
		t.Errorf("%d gone, %d open, %d left; want 50, 0, 0", gone, open, left(t, dir))
	}
}
