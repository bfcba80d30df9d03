// Package custody measures the custody of files beside what people would use in
// its place, in one run. Nothing here fails because a machine is slow.
//
//	go test ./bench/custody -bench . -benchtime 1x
//
// BENCH_MB is the size of the files that are hashed (default 512), BENCH_OPS the
// number of operations behind the queries (default 1,000,000).
package custody

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
)

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func open(b *testing.B, dir string) *custody.Custody {
	b.Helper()
	l, err := ledger.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "epitaph.db"), ledger.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	conn, err := files.Open(dir, files.Options{})
	if err != nil {
		b.Fatal(err)
	}
	c, err := custody.Open(b.Context(), custody.Options{Ledger: l, Cache: filepath.Join(b.TempDir(), "cache"),
		Stores: []custody.Store{{Name: "work", Root: dir, Connector: conn}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// memory is a directory in memory, so that the disk is not what is measured.
func memory(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "custody")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// BenchmarkTrack records 100,000 operations in one call, each on a file that is
// there and is looked at.
func BenchmarkTrack(b *testing.B) {
	const n = 100_000
	dir := memory(b)
	ops := make([]custody.Operation, n)
	for i := range ops {
		path := fmt.Sprintf("%s/f%06d", dir, i)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			b.Fatal(err)
		}
		ops[i] = custody.Operation{Action: "work_copy_created", Path: path, Scope: "5", Actor: "jones", Due: time.Now().Add(time.Hour)}
	}
	c := open(b, dir)
	for b.Loop() {
		rs, err := c.Track(b.Context(), ops...)
		if err != nil || rs[n-1].ID == "" {
			b.Fatal(rs[n-1], err)
		}
	}
}

// BenchmarkQueries asks for what is overdue, of many operations of which a
// hundred are, and for the first orphans among started work.
func BenchmarkQueries(b *testing.B) {
	n := number("BENCH_OPS", 1_000_000)
	c := open(b, memory(b))
	now := time.Now()
	ops := make([]custody.Operation, 0, 100_000)
	for i := 0; i < n; {
		ops = ops[:0]
		for ; len(ops) < cap(ops) && i < n; i++ {
			o := custody.Operation{Action: "file_deleted_via_api", Path: "work:f" + strconv.Itoa(i)}
			if i%(n/100) == 0 {
				o = custody.Operation{Action: "conversion_started", Path: o.Path}
			}
			ops = append(ops, o)
		}
		if _, err := c.Track(b.Context(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 100 { // elsewhere, so that they need not be there
		if _, err := c.Track(b.Context(), custody.Operation{Action: "nas_raw_created", Path: "/nowhere/f" + strconv.Itoa(i), Due: now.Add(-time.Hour)}); err != nil {
			b.Fatal(err)
		}
	}
	start := time.Now()
	count := func() (k int) {
		for _, err := range c.Overdue(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			k++
		}
		return k
	}
	if k := count(); k != 100 {
		b.Fatalf("%d overdue", k)
	}
	first := time.Since(start)
	for b.Loop() {
		count()
	}
	b.ReportMetric(first.Seconds(), "s/first")
}

// BenchmarkHashes verifies files by hash beside openssl and sha256sum, all of them
// from the page cache. The figures are the ratios.
func BenchmarkHashes(b *testing.B) {
	dir := memory(b)
	size := number("BENCH_MB", 512) << 20 / 64
	var names []string
	c := open(b, dir)
	content := make([]byte, size)
	for i := range 64 {
		_, _ = rand.Read(content)
		path := fmt.Sprintf("%s/f%02d", dir, i)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			b.Fatal(err)
		}
		sum, _, err := c.Digest(b.Context(), path)
		if err != nil {
			b.Fatal(err)
		}
		if rs, err := c.Track(b.Context(), custody.Operation{Action: "nas_raw_created", Path: path, Hash: sum}); err != nil || rs[0].Err != nil {
			b.Fatal(rs, err)
		}
		names = append(names, path)
	}
	sums, err := exec.Command("sha256sum", names...).Output()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size) * 64)
	for b.Loop() {
		ours := timed(func() error {
			ok := 0
			err := c.VerifyFiles(context.Background(), custody.Check{Hashes: true}, func(v custody.Checked) error {
				if v.Verdict == custody.OK {
					ok++
				}
				return nil
			})
			if err == nil && ok != len(names) {
				err = fmt.Errorf("%d of %d files are ok", ok, len(names))
			}
			return err
		}, b)
		openssl := timed(exec.Command("openssl", append([]string{"dgst", "-sha256"}, names...)...).Run, b)
		check := exec.Command("sha256sum", "-c", "--quiet")
		check.Stdin = bytes.NewReader(sums)
		coreutils := timed(check.Run, b)
		b.ReportMetric(ours.Seconds(), "s/verify")
		b.ReportMetric(ours.Seconds()/openssl.Seconds(), "×openssl")
		b.ReportMetric(ours.Seconds()/coreutils.Seconds(), "×sha256sum")
		b.Log(strings.Join([]string{"verify files --hashes " + ours.String(), "openssl dgst -sha256 " + openssl.String(), "sha256sum -c " + coreutils.String()}, ", "))
	}
}

func timed(do func() error, b *testing.B) time.Duration {
	start := time.Now()
	if err := do(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}
