package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/epitaph/epitaph/ledger"
)

// What is written to a file that no longer is the ledger is not durable in it. Seen to
// fail without the look at the file: SQLite went on in the one that was renamed, and a
// run reported what it did by outcomes that nobody would read.
func TestFileReplacedWhileOpen(t *testing.T) {
	t.Parallel()
	for _, copied := range []bool{false, true} {
		dir := t.TempDir()
		path := filepath.Join(dir, "ledger.db")
		l, err := ledger.Open(t.Context(), "sqlite:"+path, ledger.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		e := ledger.Entry{Kind: ledger.RunStarted, Run: "20260101T000000Z-000000000000"}
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Rename(path+suffix, filepath.Join(dir, "moved.db"+suffix)); err != nil {
				t.Fatal(err)
			}
		}
		if copied {
			if err := os.WriteFile(path, old, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := l.Append(t.Context(), e); !errors.Is(err, ledger.ErrReplaced) || n != 0 {
			t.Errorf("copied %t: entry %d, %v", copied, n, err)
		}
	}
}

// A ledger that anybody could read, as a backup is that was put back, is closed to
// others when it is opened for writing. Seen to fail without that: it stayed so, with
// the names of what was purged in it.
func TestFileIsClosedToOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	for _, tt := range []struct{ mode, want os.FileMode }{{0o644, 0o600}, {0o660, 0o660}} {
		l, err := ledger.Open(t.Context(), "sqlite:"+path, ledger.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		if l, err = ledger.Open(t.Context(), "sqlite:"+path, ledger.Config{}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(t.Context(), ledger.Entry{Kind: ledger.RunStarted, Run: "20260101T000000Z-000000000000"}); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != tt.want {
				t.Errorf("%s after %o: %v, %v", suffix, tt.mode, info.Mode(), err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
