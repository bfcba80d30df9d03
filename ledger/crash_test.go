package ledger_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

const childEnv = "EPITAPH_LEDGER_CHILD"

// child is what a spawned copy of the test binary does with a ledger. It is ended
// with the test, at the latest.
func child(t *testing.T, job, dsn string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	c.Env = append(os.Environ(), childEnv+"="+job+" "+dsn)
	c.Stderr = os.Stderr
	return c
}

// TestChild is the body of the spawned processes; on its own it does nothing.
func TestChild(t *testing.T) {
	job, dsn, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		return
	}
	l := open(t, dsn)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; job == "forever" || i < 100; i++ {
				es := make([]ledger.Entry, 1+(g+i)%5)
				for j := range es {
					es[j] = ledger.Entry{Kind: ledger.Heartbeat, Rule: fmt.Sprintf("rule%d", g), Facts: []ledger.Fact{ledger.Int("pid", int64(os.Getpid())), ledger.Int("i", int64(i)), ledger.Int("j", int64(j))}}
				}
				if i%7 == 0 {
					es[0] = anIntent(3)
				}
				first, err := l.Append(context.Background(), es...)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				fmt.Fprintf(os.Stdout, "ack %d %d %d\n", first, len(es), g)
				mu.Unlock()
			}
		})
	}
	if job == "lease" {
		if _, err := l.Lease(t.Context(), "purge"); err != nil {
			t.Fatal(err)
		}
		fmt.Println("leased")
		select {}
	}
	wg.Wait()
}

// acks reads what the child had acknowledged, until it ends.
func acks(t *testing.T, out *bufio.Scanner, each func(n int)) (list [][3]int64) {
	t.Helper()
	for out.Scan() {
		var a [3]int64
		if _, err := fmt.Sscanf(out.Text(), "ack %d %d %d", &a[0], &a[1], &a[2]); err == nil {
			list = append(list, a)
			each(len(list))
		}
	}
	return list
}

// Killed with SIGKILL at any moment of an append, 200 times: no gap, no
// acknowledged entry lost, nothing half written.
func TestKilledDuringAppend(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l.db")
	var all [][3]int64
	for range 200 {
		c := child(t, "forever", "sqlite:"+path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		stop := 1 + rand.IntN(12)
		all = append(all, acks(t, bufio.NewScanner(out), func(n int) {
			if n == stop {
				time.Sleep(time.Duration(rand.IntN(900)) * time.Microsecond) // somewhere in the next append
				c.Process.Kill()
			}
		})...)
		if err := c.Wait(); err == nil {
			t.Fatal("the child ended by itself: it was not killed")
		}
	}
	l := open(t, "sqlite:"+path)
	checkAcks(t, l, all)
	r := verify(t, l, ledger.Verification{})
	if len(r.Faults) > 0 {
		t.Errorf("faults after 200 kills: %v", r.Faults[:min(5, len(r.Faults))])
	}
}

// checkAcks checks that each acknowledged entry is where it was acknowledged,
// that none is acknowledged twice, and that there is no gap.
func checkAcks(t *testing.T, l *ledger.Ledger, all [][3]int64) {
	t.Helper()
	if len(all) < 100 {
		t.Fatalf("only %d appends were acknowledged", len(all))
	}
	rules := map[int64]string{}
	next := int64(1)
	for e, err := range l.Entries(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Number != next {
			t.Fatalf("entry %d comes after %d", e.Number, next-1)
		}
		next++
		rules[e.Number] = e.Rule
	}
	seen := map[int64]bool{}
	for _, a := range all {
		for i := range a[1] {
			n := a[0] + i
			if rule, ok := rules[n]; !ok || rule != fmt.Sprintf("rule%d", a[2]) && rule != "transcripts" {
				t.Errorf("entry %d was acknowledged, and there is %q", n, rule)
			}
			if seen[n] {
				t.Errorf("entry %d was acknowledged twice", n)
			}
			seen[n] = true
		}
	}
}

func TestManyProcessesAppend(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		var mu sync.Mutex
		var all [][3]int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				c := child(t, "some", dsn)
				out, err := c.Output()
				if err != nil {
					t.Error(err)
				}
				list := acks(t, bufio.NewScanner(bytes.NewReader(out)), func(int) {})
				mu.Lock()
				all = append(all, list...)
				mu.Unlock()
			})
		}
		wg.Wait()
		l := open(t, dsn)
		checkAcks(t, l, all)
		if len(all) != 1600 {
			t.Errorf("%d appends were acknowledged, want 1600", len(all))
		}
		if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
			t.Errorf("faults: %v", r.Faults[:min(5, len(r.Faults))])
		}
	})
}

func TestLease(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		a, b := open(t, dsn), open(t, dsn)
		release, err := a.Lease(t.Context(), "purge")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []*ledger.Ledger{a, b} {
			if _, err := l.Lease(t.Context(), "purge"); !errors.Is(err, ledger.ErrBusy) {
				t.Errorf("second lease: %v, want ErrBusy", err)
			}
		}
		other, err := b.Lease(t.Context(), "other")
		if err != nil {
			t.Errorf("a lease of another name: %v", err)
		}
		if err := errors.Join(release(), release(), other()); err != nil {
			t.Error(err)
		}
		again, err := b.Lease(t.Context(), "purge")
		if err != nil {
			t.Fatal(err)
		}
		if err := again(); err != nil {
			t.Error(err)
		}
		// the owner dies
		c := child(t, "lease", dsn)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() && lines.Text() != "leased" {
		}
		if _, err := b.Lease(t.Context(), "purge"); !errors.Is(err, ledger.ErrBusy) {
			t.Errorf("lease held by another process: %v, want ErrBusy", err)
		}
		c.Process.Kill()
		c.Wait()
		var freed func() error
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) { // the server notices a closed connection in its own time
			if freed, err = b.Lease(t.Context(), "purge"); err == nil || time.Now().After(deadline) {
				break
			}
		}
		if err != nil {
			t.Fatalf("the lease of a dead process: %v", err)
		}
		freed()
	})
}

// A connection lost in the middle of an append is retried, and the entries are
// there once.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	dsn := testserver.Postgres(t)
	l, other := open(t, dsn), open(t, dsn)
	killer := rawPostgres(t, dsn)
	stop := make(chan struct{})
	var kills atomic.Int64
	var acks [2]atomic.Int64
	// cut ends what is at work, and reports false when the writers are done.
	cut := func() bool {
		select {
		case <-stop:
			return false
		case <-time.After(time.Duration(2+rand.IntN(30)) * time.Millisecond):
		}
		var n int64
		if err := killer.QueryRow(`SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~* 'entries|commit|advisory|begin' AND state <> 'idle') AS k`).Scan(&n); err != nil {
			t.Error(err)
		}
		kills.Add(n)
		return true
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			// Bursts, and between them both ledgers get on: whoever is cut at every
			// attempt gives up, and on a slow machine an attempt is long.
			seen := [2]int64{acks[0].Load(), acks[1].Load()}
			for range 1 + rand.IntN(3) {
				if !cut() {
					return
				}
			}
			for acks[0].Load() == seen[0] || acks[1].Load() == seen[1] {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}
	})
	// A fast machine is done before enough was cut.
	enough := time.Now().Add(time.Minute)
	var mu sync.Mutex
	var all [][3]int64
	var writers sync.WaitGroup
	for g := range 4 {
		writers.Go(func() {
			for i := 0; i < 400 || kills.Load() < 20 && time.Now().Before(enough); i++ {
				es := []ledger.Entry{{Kind: ledger.Heartbeat, Rule: fmt.Sprintf("rule%d", g), Facts: []ledger.Fact{ledger.Int("g", int64(g)), ledger.Int("i", int64(i))}}}
				first, err := []*ledger.Ledger{l, other}[g%2].Append(context.Background(), es...)
				mu.Lock()
				if err != nil {
					t.Errorf("append: %v", err)
				} else {
					all = append(all, [3]int64{first, 1, int64(g)})
				}
				mu.Unlock()
				acks[g%2].Add(1)
			}
		})
	}
	writers.Wait()
	close(stop)
	wg.Wait()
	if kills.Load() == 0 {
		t.Error("no connection was cut")
	}
	checkAcks(t, l, all)
	type act struct{ g, i int64 }
	times := map[act]int{}
	for _, e := range collect(t, l, ledger.Filter{}) {
		g, _ := e.Int("g")
		i, _ := e.Int("i")
		times[act{g, i}]++
	}
	for a, n := range times {
		if n != 1 {
			t.Errorf("act %v is in the ledger %d times", a, n)
		}
	}
	if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
		t.Errorf("faults: %v", r.Faults[:min(5, len(r.Faults))])
	}
}
