package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const filesPolicy = `version: 1
ledger: sqlite:%s
stores:
  disk: {files: %s}
rules:
  logs:
    retain: 14d
    files: "disk:**/*.log"
    anchor: modified
limits: {items: 20000000, share: 100%%}
`

// BenchmarkFiles purges 100k due of 200k files beside find -delete, on the
// disk and in memory. The ledger lies on the disk both times.
func BenchmarkFiles(b *testing.B) {
	for _, place := range []string{os.TempDir(), "/dev/shm"} {
		kind := filesystem(place)
		b.Run(kind, func(b *testing.B) {
			for range b.N {
				files(b, place, kind)
			}
		})
	}
}

func files(b *testing.B, place, kind string) {
	n := number("BENCH_FILES", 200_000)
	// All trees first: ext4 stalls when files are made just after many were
	// deleted.
	var ours, theirs []string
	for range rounds() {
		ours = append(ours, tree(b, place, n))
		theirs = append(theirs, tree(b, place, n))
	}
	settle()
	var us, them []time.Duration
	for i := range rounds() {
		start := time.Now()
		if out, err := exec.Command("find", theirs[i], "-type", "f", "-mtime", "+14", "-delete").CombinedOutput(); err != nil {
			b.Fatalf("find: %v\n%s", err, out)
		}
		them = append(them, time.Since(start))
		count(b, theirs[i], n/2)

		dir := b.TempDir()
		write(b, filepath.Join(dir, "epitaph.yaml"), fmt.Sprintf(filesPolicy, filepath.Join(dir, "ledger.db"), ours[i]))
		r := epitaph(b, dir, nil, "purge", "--yes", "--quiet")
		us = append(us, r.took)
		count(b, ours[i], n/2)
		b.Logf("%s round %d: find %v, epitaph %v (cpu %v, %d MB)", kind, i+1, them[i], r.took, r.cpu, r.peak>>20)
	}
	figures.add(b, fmt.Sprintf("%d due of %d files, %s", n/2, n, kind), "`find -mtime +14 -delete`", median(us), median(them),
		"ledger flushed on "+filesystem(os.TempDir()))
}

// tree makes n files of which every other one is due.
func tree(b testing.TB, place string, n int) string {
	b.Helper()
	root, err := os.MkdirTemp(place, "tree")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(root) })
	now := time.Now()
	text := []byte("2026-01-01T00:00:00Z a line of a log that somebody wrote\n")
	const perDirectory = 1000
	dir := ""
	for i := range n {
		if i%perDirectory == 0 {
			dir = filepath.Join(root, fmt.Sprintf("d%03d", i/perDirectory))
			if err := os.Mkdir(dir, 0o700); err != nil {
				b.Fatal(err)
			}
		}
		path := filepath.Join(dir, fmt.Sprintf("f%06d.log", i))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			b.Fatal(err)
		}
		at := now.Add(-time.Duration(1+i%10) * 24 * time.Hour)
		if i%2 == 0 {
			at = now.Add(-time.Duration(20+i%20) * 24 * time.Hour)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			b.Fatal(err)
		}
	}
	return root
}

func count(b testing.TB, root string, want int) {
	b.Helper()
	got := 0
	err := filepath.WalkDir(root, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got++
		}
		return err
	})
	if err != nil || got != want {
		b.Fatalf("%d files left, want %d (%v)", got, want, err)
	}
}
