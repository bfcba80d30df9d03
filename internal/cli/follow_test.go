package cli_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

// A trail that is followed outlives its server: each entry is shown once, in order,
// and each time that the ledger is away is told once. Seen to fail with a trail
// that ends on any error.
func TestFollowOutlivesItsServer(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t)
	dsn := server.Database(t)
	var written int
	write := func(n int) {
		t.Helper()
		l, err := ledger.Open(t.Context(), dsn, ledger.Config{})
		must(t, err)
		for range n {
			_, err := l.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat, Rule: "r"})
			must(t, err)
			written++
		}
		must(t, l.Close())
	}
	write(5)
	cmd := command(t.Context(), t.TempDir(), "trail", "--ledger", dsn, "--follow", "--json")
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	lines, complaints, complained := make(chan string, 1000), make(chan string, 1), new(atomic.Int64)
	go func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
	}()
	go func() {
		var all strings.Builder
		for s := bufio.NewScanner(io.TeeReader(stderr, &all)); s.Scan(); {
			complained.Add(1)
		}
		complaints <- all.String()
	}()
	shown := 0
	expect := func() {
		t.Helper()
		for shown < written {
			select {
			case line, ok := <-lines:
				shown++
				if want := fmt.Sprintf(`{"number":%d,`, shown); !ok || !strings.HasPrefix(line, want) {
					t.Fatalf("%s (more: %t); want %s", line, ok, want)
				}
			case <-time.After(soon):
				t.Fatalf("%d of %d entries are shown", shown, written)
			}
		}
	}
	expect()
	for i, down := range []func(testing.TB){server.Stop, server.Kill} {
		write(20) // some of them not shown yet when it goes
		down(t)
		for end := time.Now().Add(soon); complained.Load() <= int64(i); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nothing was said of a ledger that is away")
			}
		}
		time.Sleep(3 * time.Second) // it is tried more than once
		server.Start(t)
		write(20)
		expect()
	}
	must(t, cmd.Process.Signal(os.Interrupt))
	for line := range lines {
		t.Errorf("shown beside the entries: %s", line)
	}
	said := <-complaints
	if status := statusOf(t, cmd.Wait()); status != 130 {
		t.Errorf("status %d, want 130", status)
	}
	if want := "epitaph: the ledger cannot be reached; it is waited for\n"; said != want+want {
		t.Errorf("stderr %q; want it said once for each time", said)
	}
}

// Connections that are cut in the midst of reading: no entry is skipped or shown
// again. Seen to fail with a trail that notes only what it has shown to the end.
func TestFollowIsCutOff(t *testing.T) {
	t.Parallel()
	dsn := testserver.Postgres(t)
	l, err := ledger.Open(t.Context(), dsn, ledger.Config{})
	must(t, err)
	defer l.Close()
	es := make([]ledger.Entry, 40_000)
	for i := range es {
		es[i] = ledger.Entry{Kind: ledger.Heartbeat, Rule: "r"}
	}
	_, err = l.Append(t.Context(), es...)
	must(t, err)
	cmd := command(t.Context(), t.TempDir(), "trail", "--ledger", dsn, "--follow", "--json", "--since", "1d")
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	defer db.Close()
	lines := bufio.NewScanner(stdout)
	for n := 1; n <= len(es); n++ {
		if n%5000 == 100 {
			_, err := db.ExecContext(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
			must(t, err)
		}
		if want := fmt.Sprintf(`{"number":%d,`, n); !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Fatalf("%.80s; want %s", lines.Text(), want)
		}
	}
	must(t, cmd.Process.Signal(os.Interrupt))
	for lines.Scan() {
		t.Errorf("one more: %s", lines.Text())
	}
	if status := statusOf(t, cmd.Wait()); status != 130 {
		t.Errorf("status %d, want 130", status)
	}
}

// An output that fails is no ledger that is away: the trail ends.
func TestFollowEndsWithItsOutput(t *testing.T) {
	t.Parallel()
	dsn := testserver.Postgres(t)
	l, err := ledger.Open(t.Context(), dsn, ledger.Config{})
	must(t, err)
	_, err = l.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat})
	must(t, err)
	must(t, l.Close())
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer full.Close()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	cmd := command(ctx, t.TempDir(), "trail", "--ledger", dsn, "--follow")
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = full, &stderr
	if status := statusOf(t, cmd.Run()); status != 1 || strings.Contains(stderr.String(), "waited for") {
		t.Errorf("status %d: %s", status, stderr.String())
	}
}
