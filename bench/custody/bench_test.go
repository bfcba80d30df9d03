// Package custody measures the custody of files beside what people would use in
// its place, in one run. Nothing here fails because a machine is slow.
//
//	go test ./bench/custody -bench . -benchtime 1x
//
// BENCH_MB is the size of the files that are hashed (default 512), BENCH_OPS the
// number of operations behind the queries (default 1,000,000), BENCH_FILES the
// number of files that are looked at (default 100,000).
package custody

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
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
	var took cost
	for b.Loop() {
		took.add(spent(func() { track(b, c, ops) }))
	}
	b.ReportMetric(took.wall.Seconds()/float64(b.N), "s/100k")
	b.ReportMetric(took.cpu.Seconds()/float64(b.N), "CPU-s/100k")
}

// vanishing is a store in which everything is there, or nothing is: what is tracked
// in it need not lie on a disk, of which there is none for ten million files.
type vanishing struct {
	connector.Connector
	state connector.State
}

func (v *vanishing) Probe(_ context.Context, at []connector.Locator) []connector.Result {
	rs := make([]connector.Result, len(at))
	for i := range rs {
		if rs[i] = (connector.Result{State: v.state, Reason: connector.Missing}); v.state == connector.Present {
			rs[i] = connector.Result{State: v.state, Print: "f.1a2b3c.1000.k3j5h2g1f0", Bytes: 1000}
		}
	}
	return rs
}

// BenchmarkQueries asks for what is overdue and for orphans, of many operations:
// files that were made and seen to be gone, but for a hundred, each in an entry of
// its own, which are overdue and orphans. The state is taken in from the ledger before, once.
func BenchmarkQueries(b *testing.B) {
	n := number("BENCH_OPS", 1_000_000)
	store := &vanishing{}
	l, err := ledger.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "epitaph.db"), ledger.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	c, err := custody.Open(b.Context(), custody.Options{Ledger: l, Cache: filepath.Join(b.TempDir(), "cache"), OneHost: true,
		Stores: []custody.Store{{Name: "work", Connector: store}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	left := fill(b, c, store, n)
	first := spent(func() { count(b, c.Overdue(b.Context()), left) })
	var overdue, orphans cost
	for b.Loop() {
		overdue.add(spent(func() { count(b, c.Overdue(b.Context()), left) }))
		orphans.add(spent(func() {
			list, err := c.Orphans(b.Context(), custody.Search{})
			if err != nil || len(list) != left {
				b.Fatalf("%d orphans: %v", len(list), err)
			}
		}))
	}
	per := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
	b.ReportMetric(float64(n)/first.wall.Seconds(), "ops/s-taken-in")
	b.ReportMetric(float64(n)/first.cpu.Seconds(), "ops/CPU-s-taken-in")
	b.ReportMetric(per(overdue.wall), "ms/overdue")
	b.ReportMetric(per(orphans.wall), "ms/orphans")
	b.ReportMetric(per(overdue.cpu), "CPU-ms/overdue")
	b.ReportMetric(per(orphans.cpu), "CPU-ms/orphans")
}

// fill records n operations and returns how many files are left.
func fill(b *testing.B, c *custody.Custody, store *vanishing, n int) (left int) {
	b.Helper()
	const part = 50_000
	now := time.Now()
	dead := deadOwner(b)
	for done := 0; done < n; done += 2 * part {
		made, gone := make([]custody.Operation, 0, part), make([]custody.Operation, 0, part)
		for i := range part {
			path := fmt.Sprintf("work:cohort%d/%d/work copy %d.csv", i%7, done, i)
			made = append(made, custody.Operation{Action: "work_copy_created", Path: path, Scope: "5", Actor: "jones", Hash: [32]byte{1}, At: now.Add(-2 * time.Hour),
				Due: now.Add(-time.Hour), Owner: dead, Ref: custody.Ref{Kind: "data-file", ID: strconv.Itoa(i)}})
			if (done/2+i)%(n/200) != 0 {
				gone = append(gone, custody.Operation{Action: "work_copy_deleted", Path: path, Scope: "5", Actor: "jones"})
			}
		}
		store.state = connector.Present
		track(b, c, made)
		store.state = connector.Gone
		track(b, c, gone)
		left += len(made) - len(gone)
	}
	store.state = connector.Present
	return left
}

func track(b *testing.B, c *custody.Custody, ops []custody.Operation) {
	b.Helper()
	rs, err := c.Track(b.Context(), ops...)
	if err != nil || rs[0].ID == "" || rs[len(rs)-1].ID == "" {
		b.Fatal(rs[0], err)
	}
}

func deadOwner(b *testing.B) owner.Process {
	b.Helper()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	o, err := owner.Of("here", cmd.Process.Pid)
	if err != nil {
		b.Fatal(err)
	}
	_ = cmd.Wait() // it has ended
	return o
}

func count(b *testing.B, files iter.Seq2[custody.File, error], want int) {
	b.Helper()
	n := 0
	for _, err := range files {
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
	if n != want {
		b.Fatalf("%d files, want %d", n, want)
	}
}

// cost is what something took: on the clock, and of the processors.
type cost struct{ wall, cpu time.Duration }

func (c *cost) add(d cost) { c.wall, c.cpu = c.wall+d.wall, c.cpu+d.cpu }

// spent measures what this process, with the children that it waited for, spends.
func spent(do func()) cost {
	cpu := func() (d time.Duration) {
		for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
			var u unix.Rusage
			if unix.Getrusage(who, &u) == nil {
				d += time.Duration(u.Utime.Nano() + u.Stime.Nano())
			}
		}
		return d
	}
	start, before := time.Now(), cpu()
	do()
	return cost{time.Since(start), cpu() - before}
}

// BenchmarkExistence verifies files by existence and size beside aide --check, which
// compares with a database of its own.
func BenchmarkExistence(b *testing.B) {
	n := number("BENCH_FILES", 100_000)
	dir, base := memory(b), b.TempDir()
	c := open(b, dir)
	ops := make([]custody.Operation, 0, n)
	for i := range n {
		path := fmt.Sprintf("%s/%04d/patient file %07d.csv", dir, i/1000, i)
		if i%1000 == 0 {
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			b.Fatal(err)
		}
		ops = append(ops, custody.Operation{Action: "nas_raw_created", Path: path, Scope: "5", Actor: "jones"})
	}
	track(b, c, ops)
	conf := filepath.Join(base, "aide.conf")
	text := fmt.Sprintf("database_in=file:%s/aide.db\ndatabase_out=file:%[1]s/aide.db.new\ngzip_dbout=no\n%s s\n", base, dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("aide", "--config="+conf, "--init").CombinedOutput(); err != nil {
		b.Fatalf("aide --init (Debian's package aide): %v %s", err, out)
	}
	if err := os.Rename(filepath.Join(base, "aide.db.new"), filepath.Join(base, "aide.db")); err != nil {
		b.Fatal(err)
	}
	first := spent(func() { verified(b, c, custody.Check{}, n) })
	var ours, aide cost
	for b.Loop() {
		ours.add(spent(func() { verified(b, c, custody.Check{}, n) }))
		aide.add(spent(func() { run(b, exec.Command("aide", "--config="+conf, "--check")) }))
	}
	b.ReportMetric(first.wall.Seconds(), "s/first")
	compared(b, "aide", ours, aide)
}

// verified verifies files, of which all must be as they were recorded.
func verified(b *testing.B, c *custody.Custody, k custody.Check, want int) {
	b.Helper()
	ok := 0
	err := c.VerifyFiles(b.Context(), k, func(v custody.Checked) error {
		if v.Verdict == custody.OK {
			ok++
		}
		return nil
	})
	if err != nil || ok != want {
		b.Fatalf("%d of %d files are ok: %v", ok, want, err)
	}
}

func run(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v %.300s", cmd.Path, err, out)
	}
}

// compared reports what we take beside another program: on the clock, and of the
// processors, which a loaded machine changes less.
func compared(b *testing.B, name string, ours, theirs cost) {
	b.ReportMetric(ours.wall.Seconds()/float64(b.N), "s/verify")
	b.ReportMetric(theirs.wall.Seconds()/float64(b.N), "s/"+name)
	b.ReportMetric(ours.wall.Seconds()/theirs.wall.Seconds(), "×"+name)
	b.ReportMetric(ours.cpu.Seconds()/theirs.cpu.Seconds(), "×CPU-of-"+name)
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
	var ours, openssl, coreutils cost
	for b.Loop() {
		ours.add(spent(func() { verified(b, c, custody.Check{Hashes: true}, len(names)) }))
		openssl.add(spent(func() { run(b, exec.Command("openssl", append([]string{"dgst", "-sha256"}, names...)...)) }))
		coreutils.add(spent(func() {
			check := exec.Command("sha256sum", "-c", "--quiet")
			check.Stdin = bytes.NewReader(sums)
			run(b, check)
		}))
	}
	compared(b, "openssl", ours, openssl)
	compared(b, "sha256sum", ours, coreutils)
}
