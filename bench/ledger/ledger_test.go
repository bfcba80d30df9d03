// Package ledger_test measures the ledger beside what it is compared with, in one run:
//
//	go test -run '^$' -bench . -benchtime 1x -v ./bench/ledger
//
// All figures are durable: SQLite with synchronous=FULL, PostgreSQL with fsync
// and synchronous_commit. Nothing here fails because a machine is slow.
package ledger_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
	"github.com/epitaph/epitaph/report"
)

func TestMain(m *testing.M) { testserver.Main(m) }

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// heartbeat is an entry of the usual size, some 200 bytes.
func heartbeat(i int) ledger.Entry {
	return ledger.Entry{
		At: time.Date(2026, 3, 1, 0, 0, i, 0, time.UTC), Kind: ledger.Heartbeat, Run: fmt.Sprintf("20260301T120000Z-%04x", i/10_000), Rule: fmt.Sprintf("rule%d", i%10), Store: "app",
		Facts: []ledger.Fact{ledger.Int("due", int64(i)), ledger.Int("kept", 3), ledger.Instant("cutoff", time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC))},
	}
}

func open(b *testing.B, dsn string) *ledger.Ledger {
	b.Helper()
	l, err := ledger.Open(context.Background(), dsn, ledger.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

func sqlite(b *testing.B) string { return "sqlite:" + filepath.Join(b.TempDir(), "ledger.db") }

func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func appendAll(b *testing.B, l *ledger.Ledger, n, batch int) {
	es := make([]ledger.Entry, batch)
	for i := 0; i < n; i += batch {
		for j := range es {
			es[j] = heartbeat(i + j)
		}
		if _, err := l.Append(context.Background(), es...); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBatched appends entries a thousand at a time.
func BenchmarkBatched(b *testing.B) {
	n := number("BENCH_ENTRIES", 300_000)
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return sqlite(b) },
		"postgres": func() string { return testserver.PostgresDurable(b) },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				l := open(b, dsn())
				appendAll(b, l, 1000, 1000)
				start, used := time.Now(), cpu()
				appendAll(b, l, n, 1000)
				b.ReportMetric(float64(n)/time.Since(start).Seconds(), "entries/s")
				b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(n), "cpu-ns/entry")
			}
		})
	}
}

// BenchmarkItems appends intents and outcomes of a thousand items each.
func BenchmarkItems(b *testing.B) {
	n := number("BENCH_ITEMS", 100_000)
	items, results := make([]ledger.Item, 1000), make([]ledger.Result, 1000)
	for i := range items {
		items[i] = ledger.Item{ID: fmt.Sprint(1_000_000 + i), Locator: fmt.Sprintf("id=%d", 1_000_000+i), Print: "a1b2c3d4", Anchor: time.Unix(int64(i), 0),
			Parts: []ledger.Part{{Store: "disk", Locator: fmt.Sprintf("files/%064d.bin", i), Print: "12345:67890:1111111111", Bytes: 1 << 20}}}
		results[i] = ledger.Result{State: ledger.Gone, Reason: "GONE", Parts: []ledger.PartResult{{State: ledger.Gone, Reason: "GONE"}}}
	}
	for range b.N {
		l := open(b, sqlite(b))
		start, used := time.Now(), cpu()
		for range n / 1000 {
			first, err := l.Append(context.Background(), ledger.Entry{Kind: ledger.Intent, Run: "r", Rule: "x", Items: items})
			if err == nil {
				_, err = l.Append(context.Background(), ledger.Entry{Kind: ledger.Outcome, Run: "r", Rule: "x", Refers: first, Results: results})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(n)/time.Since(start).Seconds(), "items/s")
		b.ReportMetric((cpu()-used).Seconds()*1e5/float64(n), "cpu-s/100k")
	}
}

// BenchmarkLone compares the median of single appends with that of a bare write
// of as many bytes and an fsync, taken in turns on the same disk.
func BenchmarkLone(b *testing.B) {
	for range b.N {
		l := open(b, sqlite(b))
		f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
		if err != nil {
			b.Fatal(err)
		}
		data := make([]byte, 256)
		var ours, bare []time.Duration
		for i := range number("BENCH_LONE", 2000) {
			start := time.Now()
			if _, err := f.Write(data); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			bare = append(bare, time.Since(start))
			start = time.Now()
			if _, err := l.Append(context.Background(), heartbeat(i)); err != nil {
				b.Fatal(err)
			}
			ours = append(ours, time.Since(start))
		}
		f.Close()
		slices.Sort(ours)
		slices.Sort(bare)
		mid := len(ours) / 2
		b.ReportMetric(float64(ours[mid].Microseconds()), "append-p50-us")
		b.ReportMetric(float64(bare[mid].Microseconds()), "fsync-p50-us")
		b.ReportMetric(float64(ours[mid])/float64(bare[mid]), "ratio")
	}
}

// BenchmarkAppenders compares 32 concurrent appenders of single entries with one.
func BenchmarkAppenders(b *testing.B) {
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return sqlite(b) },
		"postgres": func() string { return testserver.PostgresDurable(b) },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				one, many := rate(b, dsn(), 1), rate(b, dsn(), 32)
				b.ReportMetric(one, "one/s")
				b.ReportMetric(many, "32/s")
				b.ReportMetric(many/one, "ratio")
			}
		})
	}
}

func rate(b *testing.B, dsn string, appenders int) float64 {
	l := open(b, dsn)
	var n atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range appenders {
		wg.Go(func() {
			for time.Since(start) < 3*time.Second {
				if _, err := l.Append(context.Background(), heartbeat(int(n.Add(1)))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(start).Seconds()
}

// BenchmarkLarge fills a ledger and then verifies it, proves entries of it, and
// reads filtered pages of its trail. A tenth of the entries are items of batches.
func BenchmarkLarge(b *testing.B) {
	n := number("BENCH_LARGE", 2_000_000)
	for range b.N {
		path := filepath.Join(b.TempDir(), "ledger.db")
		l := open(b, "sqlite:"+path)
		for i := range 10 {
			appendAll(b, l, n/10, 4000)
			appendBatches(b, l, i, n/100_000)
		}
		if _, err := l.Append(context.Background(), ledger.Entry{Kind: ledger.Incident, Rule: "rule3"}); err != nil {
			b.Fatal(err)
		}
		appendWho(b, l)
		signer, err := proof.NewSigner(l.Name(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		trust, err := proof.TrustKeys(signer.Key().String())
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if _, err := l.Checkpoint(context.Background(), ledger.Signing{Signers: []*proof.Signer{signer}, Trust: trust}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "checkpoint-ms")
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/float64(n), "bytes/entry")
		used := cpu()
		start = time.Now()
		r, err := l.Verify(context.Background(), ledger.Verification{Trust: trust})
		if err != nil || r.Unaltered != ledger.Good {
			b.Fatal(r.Unaltered, r.Faults, err)
		}
		b.ReportMetric(float64(n)/time.Since(start).Seconds(), "verified/s")
		b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(n), "verify-cpu-ns/entry")
		b.ReportMetric(median(201, func(i int) {
			if _, err := l.ProveEntry(context.Background(), int64(1+i*(n/201))); err != nil {
				b.Fatal(err)
			}
		}), "proof-p50-ms")
		for name, o := range map[string]report.Options{
			"page-actor-ms": {Actor: "anna"}, "page-host-ms": {Host: "alpha"}, "page-scope-ms": {Scope: "tenant 1"},
			"page-nobody-ms": {Actor: "nobody"}, "page-glob-ms": {File: "*/recording-5-*.wav"}, "page-glob-all-ms": {File: "*.wav"},
			"page-glob-one-ms": {File: "*recording-7-0-77.*"}, "page-glob-none-ms": {File: "*.mp3"},
		} {
			o.Filter.Limit, o.Filter.Newest = 100, true
			b.ReportMetric(median(11, func(int) {
				for _, err := range report.Trail(context.Background(), l, o) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}), name)
		}
		for name, f := range map[string]ledger.Filter{
			"page-incident-ms": {Kinds: []ledger.Kind{ledger.Incident}},
			"page-rule-ms":     {Rule: "rule7", Limit: 100, Newest: true},
			"page-run-ms":      {Run: fmt.Sprintf("20260301T120000Z-%04x", n/20_000), Rule: "rule4", Limit: 100},
			"page-none-ms":     {Rule: "rule7", Kinds: []ledger.Kind{ledger.Incident}, Limit: 100},
			"page-time-ms":     {Rule: "rule7", Since: time.Date(2026, 3, 1, 0, 0, n/2, 0, time.UTC), Limit: 100},
		} {
			b.ReportMetric(median(11, func(int) {
				for _, err := range l.Entries(context.Background(), f) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}), name)
		}
	}
}

// appendBatches writes intents of a thousand items and their outcomes.
func appendBatches(b *testing.B, l *ledger.Ledger, round, batches int) {
	items, results := make([]ledger.Item, 1000), make([]ledger.Result, 1000)
	for k := range batches {
		for i := range items {
			items[i] = ledger.Item{ID: fmt.Sprint(k*1000 + i), Locator: fmt.Sprintf("id=%d", k*1000+i),
				Parts: []ledger.Part{{Store: "disk", Locator: fmt.Sprintf("tenants/%d/recording-%d-%d-%d.wav", i%10, round, k, i), Print: "12345:67890:1111111111", Bytes: 1 << 20}}}
			results[i] = ledger.Result{State: ledger.Gone, Reason: "GONE", Parts: []ledger.PartResult{{State: ledger.Gone, Reason: "GONE"}}}
		}
		n, err := l.Append(context.Background(), ledger.Entry{Kind: ledger.Intent, Run: "b", Rule: "files", Items: items})
		if err == nil {
			_, err = l.Append(context.Background(), ledger.Entry{Kind: ledger.Outcome, Run: "b", Rule: "files", Refers: n, Results: results})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// appendWho writes a run of one person, and what an application did for another,
// before heartbeats of others.
func appendWho(b *testing.B, l *ledger.Ledger) {
	es := []ledger.Entry{{Kind: ledger.RunStarted, Run: "r", Facts: []ledger.Fact{ledger.Code("host", "alpha")}, Secrets: []ledger.Secret{{Name: "who", Text: "root (sudo by anna)"}}},
		{Kind: ledger.Heartbeat, Run: "r"}, {Kind: ledger.CustodyOperations, Items: []ledger.Item{{Locator: "x.wav", Values: [][][]string{{{"scope", "tenant 1"}, {"actor", "bert"}}}}}}}
	if _, err := l.Append(context.Background(), es...); err != nil {
		b.Fatal(err)
	}
	appendAll(b, l, 20_000, 4000)
}

// median is that of n calls, in milliseconds.
func median(n int, f func(i int)) float64 {
	var all []time.Duration
	for i := range n {
		start := time.Now()
		f(i)
		all = append(all, time.Since(start))
	}
	slices.Sort(all)
	return float64(all[n/2].Microseconds()) / 1000
}
