package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/session"
)

// BenchmarkSession makes sessions of four files, disposes of them and looks, on
// tmpfs, with sixteen workers that share a ledger. The ledger lies on tmpfs too:
// what is measured is the work, not the disk.
func BenchmarkSession(b *testing.B) {
	ctx := context.Background()
	total, workers := number("BENCH_ITEMS", 20_000), 16
	for range b.N {
		dir, err := os.MkdirTemp("/dev/shm", "bench-session-")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
		led, err := ledger.Open(ctx, "sqlite:"+filepath.Join(dir, "ledger.db"), ledger.Config{})
		if err != nil {
			b.Fatal(err)
		}
		s, err := session.Open(ctx, filepath.Join(dir, "sessions"), session.Options{Ledger: led, Create: true})
		if err != nil {
			b.Fatal(err)
		}
		var next, gone atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for range workers {
			wg.Go(func() {
				for next.Add(1) <= int64(total) {
					if n, err := oneSession(ctx, s); err != nil {
						b.Error(err)
						return
					} else {
						gone.Add(n)
					}
				}
			})
		}
		wg.Wait()
		took := time.Since(start)
		if gone.Load() != int64(4*total) {
			b.Fatalf("%d files are gone, want %d", gone.Load(), 4*total)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		if err := led.Close(); err != nil {
			b.Fatal(err)
		}
		rate := float64(total) / took.Seconds()
		b.ReportMetric(rate, "sessions/s")
		b.ReportMetric(0, "ns/op")
		figures.put("sessions of 4 files, made and disposed of", fmt.Sprintf("%.0f/s", rate), fmt.Sprintf("%d on tmpfs, %d workers; the aim is 2,000/s", total, workers))
	}
}

// oneSession is the life of one session; it returns how many files went.
func oneSession(ctx context.Context, s *session.Store) (int64, error) {
	x, err := s.New(ctx, time.Hour)
	if err != nil {
		return 0, err
	}
	for _, name := range []string{"note.txt", "toc.json", "summary.json", "plan.json"} {
		w, err := x.Create(name)
		if err != nil {
			return 0, err
		}
		if _, err := io.WriteString(w, "the content of a small file of a session"); err != nil {
			return 0, err
		}
		if err := w.Close(); err != nil {
			return 0, err
		}
	}
	e, err := x.Close()
	if err == nil && !e.Done() {
		err = fmt.Errorf("%d files are left", e.Left)
	}
	return e.Gone, err
}
