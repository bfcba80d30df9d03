package purge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/epitaph/epitaph/purge"
)

// BenchmarkPlanAndPurge measures what the engine and a real SQLite ledger cost
// for each item, with stores that cost next to nothing.
func BenchmarkPlanAndPurge(b *testing.B) {
	const n = 20000
	for _, observe := range []bool{false, true} {
		b.Run(fmt.Sprintf("events=%v", observe), func(b *testing.B) {
			var planned, purged time.Duration
			for range b.N {
				b.StopTimer()
				w := newWorld(b)
				w.config.Batch, w.config.Workers = 0, 0
				for i := range n {
					w.record(i, 20, fmt.Sprintf("%064x", i))
				}
				c := w.config
				c.Ledger, c.Stores, c.Clock = w.ledger, w.stores, w.clock
				if observe {
					c.Observe = func(purge.Event) {}
				}
				b.StartTimer()
				start := time.Now()
				p := w.plan("transcripts")
				planned += time.Since(start)
				start = time.Now()
				rep, err := purge.Run(b.Context(), w.policy, p, c)
				purged += time.Since(start)
				if err != nil || rule(b, rep, "transcripts").Gone != n {
					b.Fatalf("got %+v, %v", rep, err)
				}
			}
			b.ReportMetric(float64(n*b.N)/planned.Seconds(), "planned/s")
			b.ReportMetric(float64(n*b.N)/purged.Seconds(), "purged/s")
		})
	}
}
