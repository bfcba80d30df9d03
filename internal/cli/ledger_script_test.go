package cli_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/epitaph/epitaph/ledger"
)

// offline RECEIPT KEYS: the separate program says that the receipt holds, with
// no network and nothing else of the ledger at hand; with ! that it does not, and
// ends with status 4. Its output is the file offline.txt.
func offline(t *testing.T) func(*testscript.TestScript, bool, []string) {
	dir := t.TempDir()
	program := sync.OnceValues(func() (string, error) {
		path := filepath.Join(dir, "epitaph-verify")
		cmd := exec.Command("go", "build", "-o", path, "github.com/epitaph/epitaph/cmd/epitaph-verify")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build epitaph-verify: %w\n%s", err, out)
		}
		return path, nil
	})
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) != 2 {
			ts.Fatalf("usage: offline receipt trust")
		}
		path, err := program()
		ts.Check(err)
		checkOffline(ts, path, args[0], args[1], map[bool]int{false: 0, true: 4}[neg])
	}
}

func checkOffline(ts *testscript.TestScript, program, receipt, trust string, want int) {
	dir, err := os.MkdirTemp("", "offline-")
	ts.Check(err)
	defer os.RemoveAll(dir)
	for _, name := range []string{receipt, trust} {
		data, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o600))
	}
	cmd := exec.Command(program, "--trust", filepath.Base(trust), filepath.Base(receipt))
	cmd.Dir, cmd.Env = dir, []string{}
	out, err := cmd.CombinedOutput()
	ts.Check(os.WriteFile(ts.MkAbs("offline.txt"), out, 0o600))
	if status := cmd.ProcessState.ExitCode(); status != want {
		ts.Fatalf("epitaph-verify: status %d (%v), want %d\n%s", status, err, want, out)
	}
}

// raw TEXT GLOB: the bytes of some file that matches hold the text; with ! of
// none.
func raw(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: raw text glob")
	}
	names, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("no file matches %s", args[1])
	}
	found := false
	for _, name := range names {
		data, err := os.ReadFile(name)
		ts.Check(err)
		if bytes.Contains(data, []byte(args[0])) {
			found = true
			if neg {
				ts.Fatalf("%s holds %q", filepath.Base(name), args[0])
			}
		}
	}
	if !found && !neg {
		ts.Fatalf("no file of %s holds %q", args[1], args[0])
	}
}

// tamper LEDGER NUMBER: flips one bit of the row that holds the entry, with the
// triggers dropped, as the owner of the file can.
func tamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tamper ledger number")
	}
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	var bundle []byte
	var number int
	ts.Check(db.QueryRow("SELECT number, bundle FROM entries WHERE number <= ? ORDER BY number DESC LIMIT 1", args[1]).Scan(&number, &bundle))
	if strconv.Itoa(number) != args[1] {
		ts.Fatalf("entry %s is within the row of entry %d", args[1], number)
	}
	at := bytes.Index(bundle, []byte("\nkind ")) - 3 // a digit of the time: it stays an entry
	bundle[at] ^= 1
	_, err = db.Exec("DROP TRIGGER entries_update")
	ts.Check(err)
	_, err = db.Exec("UPDATE entries SET bundle = ? WHERE number = ?", bundle, number)
	ts.Check(err)
}

// oldledger FILE N DAYS: makes a ledger with N heartbeats that old.
func oldledger(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: oldledger file entries days")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	days, err := strconv.Atoi(args[2])
	ts.Check(err)
	at := time.Now().AddDate(0, 0, -days)
	ctx := context.Background()
	l, err := ledger.Open(ctx, "sqlite:"+ts.MkAbs(args[0]), ledger.Config{Clock: func() time.Time { return at }})
	ts.Check(err)
	es := make([]ledger.Entry, n)
	for i := range es {
		es[i] = ledger.Entry{Kind: ledger.Heartbeat, Rule: "old", At: at.Add(time.Duration(i) * time.Second)}
	}
	_, err = l.Append(ctx, es...)
	ts.Check(err)
	ts.Check(l.Close())
}
