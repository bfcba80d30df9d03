// Package tessera_test measures the ledger beside Tessera's POSIX driver, on one disk in
// one run. It is a module of its own, so that Tessera is no dependency of
// Epitaph:
//
//	cd bench/tessera && go test -run '^$' -bench . -benchtime 1x
//
// Both flush to disk before an addition returns. Tessera returns when an entry is
// sequenced and durable; its tree follows in the background, ours has it then.
package tessera_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"github.com/epitaph/epitaph/ledger"
)

const span = 4 * time.Second

// race adds entries with so many writers for a while and returns entries per
// second.
func race(b *testing.B, writers, each int, add func(n int64) error) float64 {
	var n atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range writers {
		wg.Go(func() {
			for time.Since(start) < span {
				if err := add(n.Add(int64(each))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(start).Seconds()
}

func theirs(b *testing.B, writers int, batch uint) float64 {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	secret, _, err := note.GenerateKey(rand.Reader, "example.com/bench")
	if err != nil {
		b.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		b.Fatal(err)
	}
	opts := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithBatching(batch, 10*time.Millisecond).
		WithCheckpointInterval(time.Second).WithPushback(16384)
	a, shutdown, _, err := tessera.NewAppender(ctx, driver, opts)
	if err != nil {
		b.Fatal(err)
	}
	defer shutdown(ctx)
	return race(b, writers, 1, func(n int64) error {
		_, err := a.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "%0200d", n)))()
		return err
	})
}

func ours(b *testing.B, writers, each int) float64 {
	l, err := ledger.Open(context.Background(), "sqlite:"+filepath.Join(b.TempDir(), "l.db"), ledger.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return race(b, writers, each, func(n int64) error {
		es := make([]ledger.Entry, each)
		for i := range es {
			es[i] = ledger.Entry{Kind: ledger.Heartbeat, Run: "20260301T120000Z-7f3a", Rule: "transcripts", Store: "app",
				Facts: []ledger.Fact{ledger.Int("due", n), ledger.Int("kept", 3), ledger.Instant("cutoff", time.Unix(n, 0))}}
		}
		_, err := l.Append(context.Background(), es...)
		return err
	})
}

func BenchmarkBesideTessera(b *testing.B) {
	for range b.N {
		them, us := theirs(b, 1, 1), ours(b, 1, 1)
		b.ReportMetric(them, "tessera-one/s")
		b.ReportMetric(us, "ledger-one/s")
		b.ReportMetric(us/them, "one-ratio")
		them = max(theirs(b, 512, 256), theirs(b, 4096, 1024))
		us = ours(b, 1, 1000)
		b.ReportMetric(them, "tessera-best/s")
		b.ReportMetric(us, "ledger-batched/s")
		b.ReportMetric(us/them, "batched-ratio")
		b.ReportMetric(ours(b, 512, 1), "ledger-512-writers/s")
	}
}
