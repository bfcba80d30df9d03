package files_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
)

// BenchmarkPurge takes 100,000 due of 200,000 files, Scan to Erase in batches of
// 1,000 on two workers, beside find -delete on the same trees, all of which
// are made before the first is measured: ext4 stalls after mass deletion.
// EPITAPH_BENCH_DIRS names the directories to work in, separated by colons, and
// EPITAPH_BENCH_FOLDERS over how many directories to spread the files.
func BenchmarkPurge(b *testing.B) {
	for _, dir := range filepath.SplitList(os.Getenv("EPITAPH_BENCH_DIRS")) {
		for _, folders := range folderCounts() {
			const rounds = 2
			var ours, find []string
			for range rounds {
				ours, find = append(ours, makeTree(b, dir, folders)), append(find, makeTree(b, dir, folders))
			}
			b.Run(fmt.Sprintf("%s/%d", dir, folders), func(b *testing.B) {
				var o, f, ocpu, fcpu time.Duration
				for i := range rounds {
					self, children := cpu(unix.RUSAGE_SELF), cpu(unix.RUSAGE_CHILDREN)
					o += timed(func() { purgeTree(b, ours[i]) })
					f += timed(func() { findDelete(b, find[i]) })
					ocpu += cpu(unix.RUSAGE_SELF) - self
					fcpu += cpu(unix.RUSAGE_CHILDREN) - children
				}
				b.ReportMetric(float64(ocpu)/float64(fcpu), "cpu-ratio") // of two cores, for us
				b.ReportMetric(o.Seconds()/rounds, "s/ours")
				b.ReportMetric(f.Seconds()/rounds, "s/find")
				b.ReportMetric(float64(o)/float64(f), "ratio")
			})
			for i := range rounds {
				os.RemoveAll(ours[i])
				os.RemoveAll(find[i])
			}
		}
	}
}

// cpu is the processor time used so far.
func cpu(who int) time.Duration {
	var u unix.Rusage
	unix.Getrusage(who, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func makeTree(b *testing.B, dir string, folders int) string {
	root, err := os.MkdirTemp(dir, "bench")
	if err != nil {
		b.Fatal(err)
	}
	for d := range folders {
		os.Mkdir(fmt.Sprintf("%s/%05d", root, d), 0o700)
	}
	old := time.Now().AddDate(0, 0, -30)
	for i := range 200_000 {
		name := fmt.Sprintf("%s/%05d/export-%06d.zip", root, i%folders, i)
		if err := os.WriteFile(name, []byte("some content"), 0o600); err != nil {
			b.Fatal(err)
		}
		if i/folders%2 == 0 {
			os.Chtimes(name, old, old)
		}
	}
	exec.Command("sync", "-f", root).Run()
	return root
}

func findDelete(b *testing.B, root string) {
	if out, err := exec.Command("find", root, "-type", "f", "-mtime", "+14", "-delete").CombinedOutput(); err != nil {
		b.Fatalf("find: %v: %s", err, out)
	}
}

func purgeTree(b *testing.B, root string) {
	ctx := context.Background()
	c, err := files.Open(root, files.Options{})
	if err != nil {
		b.Fatal(err)
	}
	q := &connector.Query{Collection: "**", Anchor: connector.Anchor{Kind: connector.AnchorModified},
		Cutoff: time.Now().AddDate(0, 0, -14)}
	begin := time.Now()
	var items []connector.Item
	for it, err := range c.Scan(ctx, q, new(connector.Survey)) {
		if err != nil {
			b.Fatal(err)
		}
		items = append(items, it)
	}
	scanned := time.Since(begin)
	batches := make(chan []connector.Item)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for batch := range batches {
				cl, _ := c.Claim(ctx, q, batch)
				which := make([]int, len(batch))
				for i := range which {
					which[i] = i
				}
				for _, r := range cl.Erase(ctx, which).Results {
					if r.Reason != connector.Erasure {
						b.Errorf("%v %s", r.State, r.Reason)
					}
				}
				cl.Release()
			}
		})
	}
	for len(items) > 0 {
		n := min(1000, len(items))
		batches <- items[:n]
		items = items[n:]
	}
	close(batches)
	wg.Wait()
	b.Logf("scan %v, all %v", scanned, time.Since(begin))
}

// folderCounts is over how many directories the files are spread.
func folderCounts() []int {
	if n, err := strconv.Atoi(os.Getenv("EPITAPH_BENCH_FOLDERS")); err == nil {
		return []int{n}
	}
	return []int{1, 100, 10_000}
}
