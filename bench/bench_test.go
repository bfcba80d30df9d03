// Package bench measures Epitaph beside what people would use in its place, in
// one run, and prints the ratio. Nothing here fails because a machine is slow.
// README.md says how to run it and holds the last figures.
package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/internal/testserver"
)

var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "bench")
	if err == nil {
		program = filepath.Join(dir, "epitaph")
		build := exec.Command("go", "build", "-trimpath", "-o", program, "../cmd/epitaph")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	status := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build epitaph:", err)
	} else {
		status = testserver.Wrap(m).Run()
		figures.print()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

// number reads a size from the environment, so that a quick look is possible.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// rounds is how often each contender runs; the median counts.
func rounds() int { return number("BENCH_ROUNDS", 3) }

// run is what one run of the program took.
type run struct {
	took time.Duration
	cpu  time.Duration
	peak int64 // most resident memory, bytes
	out  string
}

// epitaph runs the program to its end, which must be status 0.
func epitaph(b testing.TB, dir string, env []string, args ...string) run {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir()}, env...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	peak := watch(ctx, cmd.Process.Pid)
	err := cmd.Wait()
	took := time.Since(start)
	stop()
	if err != nil {
		b.Fatalf("epitaph %v: %v\n%s%s", args, err, &out, &stderr)
	}
	return run{took, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), <-peak, out.String()}
}

// watch reads the high-water mark of a process until the context ends. The
// rusage of a child is of no use: it begins at the size of the parent that
// forked it.
func watch(ctx context.Context, pid int) <-chan int64 {
	peak := make(chan int64, 1)
	go func() {
		var most int64
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if _, rest, ok := strings.Cut(string(raw), "VmHWM:"); ok {
				if f := strings.Fields(rest); len(f) > 0 {
					kb, _ := strconv.ParseInt(f[0], 10, 64)
					most = max(most, kb<<10)
				}
			}
			select {
			case <-ctx.Done():
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	return peak
}

// line returns the number of a "Name: n" line of a summary.
func line(b testing.TB, out, name string) int {
	b.Helper()
	for l := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(l), name+":"); ok {
			n, err := strconv.Atoi(strings.ReplaceAll(strings.Fields(rest)[0], ",", ""))
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no line %q in\n%s", name, out)
	return 0
}

// median of the runs' durations.
func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

// table holds the figures of this run.
type table struct {
	mu   sync.Mutex
	rows []string
}

var figures table

// add keeps a row and reports the ratio as the benchmark's metric.
func (t *table) add(b *testing.B, what, peer string, ours, theirs time.Duration, note string) {
	ratio := ours.Seconds() / theirs.Seconds()
	b.ReportMetric(ratio, "ratio")
	b.ReportMetric(0, "ns/op")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, fmt.Sprintf("| %s | %.2f s | %s | %.2f s | **%.2f×** | %s |", what, ours.Seconds(), peer, theirs.Seconds(), ratio, note))
}

// put keeps a row that has no peer.
func (t *table) put(what, value, note string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, fmt.Sprintf("| %s | %s | – | – | – | %s |", what, value, note))
}

func (t *table) print() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return
	}
	fmt.Printf("\n%s\n\n| job | Epitaph | peer | peer took | ratio | |\n|---|---|---|---|---|---|\n%s\n", machine(), strings.Join(t.rows, "\n"))
}

// machine says where the figures were taken.
func machine() string {
	cpu := "unknown CPU"
	raw, _ := os.ReadFile("/proc/cpuinfo")
	if _, rest, ok := strings.Cut(string(raw), "model name"); ok {
		name, _, _ := strings.Cut(rest, "\n")
		cpu = strings.Trim(name, "\t :")
	}
	var name unix.Utsname
	_ = unix.Uname(&name)
	return fmt.Sprintf("%s, %s, %d CPUs (%s), Linux %s, temporary files on %s, median of %d",
		time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.NumCPU(), cpu,
		unix.ByteSliceToString(name.Release[:]), filesystem(os.TempDir()), rounds())
}

// filesystem names the file system that holds the directory.
func filesystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "an unknown file system"
	}
	switch int64(s.Type) {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	default:
		return fmt.Sprintf("file system %#x", s.Type)
	}
}

func write(b testing.TB, path, text string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}
