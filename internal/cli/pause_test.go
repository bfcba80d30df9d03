package cli_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
)

// pausedRun starts a purge in dir with small batches, calls at once for the
// first export that went, and then for the line that says that a pause is on.
func pausedRun(t *testing.T, dir string, first, waiting func(kill func(os.Signal))) (status int, stdout, stderr string) {
	t.Helper()
	cmd := command(t.Context(), dir, "purge", "--batch", "1", "--workers", "2", "--log", "-")
	var out, errs bytes.Buffer
	cmd.Stdout = &out
	pipe, err := cmd.StderrPipe()
	must(t, err)
	narrow(t, pipe)
	must(t, cmd.Start())
	kill := func(s os.Signal) { must(t, cmd.Process.Signal(s)) }
	began, waited := false, false
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		fmt.Fprintln(&errs, lines.Text())
		if !began && strings.Contains(lines.Text(), `"event":"export_orphan_purged"`) {
			began = true
			first(kill)
		}
		if !waited && strings.Contains(lines.Text(), "a pause is on") {
			waited = true
			waiting(kill)
		}
	}
	status = statusOf(t, cmd.Wait())
	if !waited {
		t.Fatalf("the run never waited; status %d\n%s", status, errs.String())
	}
	return status, out.String(), errs.String()
}

// A pause that begins while a purge is running stops it before its next batch,
// with nothing left open; it says so once, and goes on when the pause ends.
func TestRunningPurgeWaitsForThePauseToEnd(t *testing.T) {
	t.Parallel()
	dir := manyExports(t, 300)
	pause := func(args ...string) { must(t, command(t.Context(), dir, append([]string{"pause"}, args...)...).Run()) }
	atPause := 0
	status, stdout, stderr := pausedRun(t, dir, func(func(os.Signal)) { pause() }, func(func(os.Signal)) {
		// One batch may be under way beside the one that waits. After that nothing
		// goes: wait for the second, in the ledger, by its open intents.
		for deadline := time.Now().Add(soon); ; {
			gone, open := goneOf(t, dir)
			if atPause = 300 - left(t, dir); open == 0 && gone == atPause {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("a batch stays open during a pause")
			}
		}
		pause("--resume")
	})
	if status != 0 || left(t, dir) != 0 || !strings.Contains(stdout, "  Exports deleted: 300\n") {
		t.Errorf("status %d, %d left\n%s%s", status, left(t, dir), stdout, stderr)
	}
	if atPause == 0 || atPause == 300 {
		t.Errorf("%d of 300 had gone when the pause was on: it did not hold anything back", atPause)
	}
	if n := strings.Count(stderr, "a pause is on"); n != 1 {
		t.Errorf("said %d times that a pause is on", n)
	}
	if n := strings.Count(stderr, `"event":"purge_paused"`); n != 1 {
		t.Errorf("%d events purge_paused", n)
	}
}

// Ctrl-C ends a run that waits: nothing is unknown, nothing is left open.
func TestInterruptEndsThePause(t *testing.T) {
	t.Parallel()
	dir := manyExports(t, 300)
	status, stdout, stderr := pausedRun(t, dir, func(func(os.Signal)) {
		must(t, os.WriteFile(filepath.Join(dir, "epitaph.pause"), nil, 0o600))
	}, func(kill func(os.Signal)) { kill(os.Interrupt) })
	gone, open := goneOf(t, dir)
	if status != 130 || open != 0 || gone != 300-left(t, dir) || gone == 300 {
		t.Errorf("status %d, %d gone in the ledger, %d open, %d left\n%s%s", status, gone, open, left(t, dir), stdout, stderr)
	}
	if !strings.Contains(stdout, "Purge interrupted:") || !strings.Contains(stdout, "  Errors: 0\n") || !strings.Contains(stdout, "  Unknown: 0\n") {
		t.Errorf("the summary:\n%s", stdout)
	}
}

// After downtime there are more batches, of the same size, and the pace is kept.
func TestBacklogIsWorkedOffInTheSameBatches(t *testing.T) {
	t.Parallel()
	for _, n := range []int{20, 200} {
		dir := manyExports(t, n)
		text := strings.Replace(filesPolicy, "{files: data}", "{files: data, pace: {items: 100/s, slow: 50x}}", 1)
		must(t, os.WriteFile(filepath.Join(dir, "epitaph.yaml"), []byte(text), 0o600))
		start := time.Now()
		must(t, command(t.Context(), dir, "purge", "--batch", "20", "--workers", "1").Run())
		took := time.Since(start)
		l, err := ledger.OpenReadOnly(t.Context(), "sqlite:"+filepath.Join(dir, "epitaph.db"), ledger.Config{})
		must(t, err)
		batches := 0
		for e, err := range l.Entries(t.Context(), ledger.Filter{Kinds: []ledger.Kind{ledger.Intent}, Unseal: true}) {
			must(t, err)
			if batches++; len(e.Items) != 20 {
				t.Errorf("a batch of %d, want 20", len(e.Items))
			}
		}
		must(t, l.Close())
		if batches != n/20 || left(t, dir) != 0 {
			t.Errorf("%d items: %d batches, want %d; %d left", n, batches, n/20, left(t, dir))
		}
		// All but the last batch are paid for: at 100 items a second.
		if least := time.Duration(n-20) * time.Second / 100; took < least {
			t.Errorf("%d items took %v, want at least %v", n, took, least)
		}
	}
}

// A rule waits for the stores of its parts too: their files are claimed while its
// rows are locked, when it is too late to wait.
func TestRuleWaitsForTheStoreOfItsParts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "data", "1.bin"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "epitaph.yaml"), []byte(`version: 1
stores:
  app: {rows: "sqlite:app.db"}
  disk: {files: data}
rules:
  records:
    retain: 14d
    rows: app.record
    anchor: {column: created_at, zone: UTC}
    parts:
      - files: "disk:{id}.bin"
limits: {share: 100%}
`), 0o600))
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "app.db"))
	must(t, err)
	defer db.Close()
	_, err = db.Exec(`CREATE TABLE record (id INTEGER PRIMARY KEY, created_at TEXT); INSERT INTO record VALUES (1, '2026-01-01 00:00:00')`)
	must(t, err)
	must(t, command(t.Context(), dir, "pause", "--store", "disk").Run())
	status, stdout, stderr := pausedRun(t, dir, nil, func(kill func(os.Signal)) {
		// Nothing is locked while it waits.
		_, err := db.Exec(`UPDATE record SET created_at = '2026-01-02 00:00:00'`)
		must(t, err)
		kill(os.Interrupt)
	})
	gone, open := goneOf(t, dir)
	if status != 130 || gone != 0 || open != 0 || !strings.Contains(stderr, `"event":"purge_paused"`) || !strings.Contains(stderr, `"store":"disk"`) {
		t.Errorf("status %d, %d gone, %d open\n%s%s", status, gone, open, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "1.bin")); err != nil {
		t.Error(err)
	}
	must(t, command(t.Context(), dir, "pause", "--resume", "--store", "disk").Run())
	must(t, command(t.Context(), dir, "purge").Run())
	if _, err := os.Stat(filepath.Join(dir, "data", "1.bin")); err == nil {
		t.Error("the file is still there")
	}
}
