package cli_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
)

const prunePolicy = `version: 1
stores:
  disk: {files: data}
rules:
  exports: {kind: export, retain: 14d, files: "disk:export-*.zip", anchor: modified}
`

// oldNames makes a ledger of batches that are older than the retention, with the
// name in each.
func oldNames(t *testing.T, path, name string) {
	t.Helper()
	at := time.Now().AddDate(-8, 0, 0)
	l, err := ledger.Open(t.Context(), "sqlite:"+path, ledger.Config{})
	must(t, err)
	for i := range 300 {
		intent := ledger.Entry{At: at, Kind: ledger.Intent, Run: "old", Rule: "exports", Store: "disk", Secrets: []ledger.Secret{{Name: "who", Text: name}}}
		outcome := ledger.Entry{At: at, Kind: ledger.Outcome, Run: "old", Rule: "exports", Store: "disk"}
		for j := range 40 {
			intent.Items = append(intent.Items, ledger.Item{Locator: fmt.Sprintf("%s/%d-%d.zip", name, i, j)})
			outcome.Results = append(outcome.Results, ledger.Result{State: ledger.Gone, Reason: "GONE"})
		}
		outcome.Refers, err = l.Append(t.Context(), intent)
		must(t, err)
		_, err = l.Append(t.Context(), outcome)
		must(t, err)
	}
	must(t, l.Close())
}

// namesLeft counts the names of pruned batches in the raw bytes of a SQLite ledger.
func namesLeft(t *testing.T, path, name string) (n int) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	must(t, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		must(t, err)
		for _, rest := range bytes.Split(data, []byte(name+"/"))[1:] {
			batch, _, _ := strings.Cut(string(rest[:min(len(rest), 8)]), "-")
			if i, err := strconv.Atoi(batch); err == nil && i < 256 {
				n++
			}
		}
	}
	return n
}

// Killed at any moment of a pruning, and run again: the ledger verifies, and no
// name of what was pruned is left in its files. Seen to fail with a pruning that
// ends where nothing is to go.
func TestPruneIsKilled(t *testing.T) {
	t.Parallel()
	const name = "ngaio-marsh-needle"
	made := filepath.Join(t.TempDir(), "made.db")
	oldNames(t, made, name)
	if namesLeft(t, made, name) == 0 {
		t.Fatal("the names were never in the file")
	}
	data, err := os.ReadFile(made)
	must(t, err)
	var between int
	var whole time.Duration
	for i := range 25 {
		dir := t.TempDir()
		path := filepath.Join(dir, "epitaph.db")
		must(t, os.WriteFile(path, data, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "epitaph.yaml"), []byte(prunePolicy), 0o600))
		must(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
		// Who has the ledger open meanwhile: the last to close it would clean up.
		other := command(t.Context(), dir, "trail", "--follow")
		shown, err := other.StdoutPipe()
		must(t, err)
		must(t, other.Start())
		bufio.NewScanner(shown).Scan()
		first := command(t.Context(), dir, "ledger", "prune", "--yes", "--allow", "clock")
		began := time.Now()
		must(t, first.Start())
		switch {
		case i == 0: // tells how long it takes
			must(t, first.Wait())
			whole = time.Since(began)
		case i%2 == 1: // about when the pruning is in the log
			for log := int64(0); log < 1<<18 && time.Since(began) < 10*whole; time.Sleep(100 * time.Microsecond) {
				if at, err := os.Stat(path + "-wal"); err == nil {
					log = at.Size()
				}
			}
			time.Sleep(time.Duration(rand.Int64N(int64(whole / 10))))
		default:
			time.Sleep(time.Duration(rand.Int64N(int64(whole))))
		}
		if i > 0 {
			_ = first.Process.Kill()
			_ = first.Wait()
		}
		if pruned(t, path) > 0 && namesLeft(t, path, name) > 0 {
			between++
		}
		if out, err := command(t.Context(), dir, "ledger", "prune", "--yes", "--allow", "clock").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if n := pruned(t, path); n != 512 {
			t.Errorf("%d entries are pruned, want 512", n)
		}
		if n := namesLeft(t, path, name); n > 0 {
			t.Errorf("%d names that were pruned are left in the files", n)
		}
		_ = other.Process.Kill()
		_ = other.Wait()
	}
	t.Logf("%d were killed between the pruning and its end", between)
}

// pruned is how many entries the ledger has let go of. It must verify.
func pruned(t *testing.T, path string) int64 {
	t.Helper()
	l, err := ledger.OpenReadOnly(t.Context(), "sqlite:"+path, ledger.Config{})
	must(t, err)
	defer l.Close()
	r, err := l.Verify(t.Context(), ledger.Verification{})
	must(t, err)
	if len(r.Faults) > 0 {
		t.Errorf("faults: %v", r.Faults)
	}
	return r.Minimum
}
