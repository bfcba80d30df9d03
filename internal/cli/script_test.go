package cli_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"

	"github.com/epitaph/epitaph/internal/cli"
	"github.com/epitaph/epitaph/internal/demo"
	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

// The test binary is the program too: scripts and tests run it as a process of
// its own, with real files, databases, signals and statuses.
func TestMain(m *testing.M) {
	// They wait for programs, servers and clocks more than they compute.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testscript.Main(testserver.Wrap(m), map[string]func(){
		"epitaph":    func() { os.Exit(cli.Main()) },
		"nokeyring":  withoutKeyring,
		"interrupts": interrupts,
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":    status,
			"age":       age,
			"last":      last,
			"recorder":  recorder,
			"sql":       runSQL,
			"rows":      countRows,
			"count":     countFiles,
			"entries":   countEntries,
			"postgres":  postgres(t),
			"bucket":    bucket(t),
			"object":    object,
			"versions":  versions,
			"inventory": inventory,
			"day":       day,
			"flip":      flip,
			"mode":      mode,

			"offline":   offline(t),
			"raw":       raw,
			"tamper":    tamper,
			"oldledger": oldledger,
		},
	})
}

// status N COMMAND…: the command ends with exactly this status.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = -1
		var n int
		if _, e := fmt.Sscanf(err.Error(), "exit status %d", &n); e == nil {
			got = n
		}
	}
	if got != want {
		ts.Fatalf("status %d, want %d", got, want)
	}
}

// age SPAN FILE…: makes files that were last written so long ago.
func age(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: age 20d file…")
	}
	n, err := strconv.Atoi(strings.TrimSuffix(args[0], "d"))
	ts.Check(err)
	at := time.Now().AddDate(0, 0, -n)
	for _, name := range args[1:] {
		path := ts.MkAbs(name)
		ts.Check(os.MkdirAll(filepath.Dir(path), 0o700))
		if _, err := os.Stat(path); err != nil {
			ts.Check(os.WriteFile(path, []byte("content of "+name), 0o600))
		}
		ts.Check(os.Chtimes(path, at, at))
	}
}

// last SPAN FILE: gives the ledger a newest entry that is so old.
func last(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: last 60d ledger")
	}
	at := time.Now()
	if n, err := strconv.Atoi(strings.TrimSuffix(args[0], "d")); err == nil {
		at = at.AddDate(0, 0, -n)
	} else {
		d, err := time.ParseDuration(args[0])
		ts.Check(err)
		at = at.Add(-d)
	}
	ctx := context.Background()
	l, err := ledger.Open(ctx, "sqlite:"+ts.MkAbs(args[1]), ledger.Config{})
	ts.Check(err)
	_, err = l.Append(ctx, ledger.Entry{At: at, Kind: ledger.Heartbeat, Rule: "exports"})
	ts.Check(err)
	ts.Check(l.Close())
}

func open(ts *testscript.TestScript, dsn string) (*sql.DB, string) {
	driver, dialect := "pgx", demo.Postgres
	if !strings.HasPrefix(dsn, "postgres") {
		driver, dialect = "sqlite", demo.SQLite
		dsn = "file:" + ts.MkAbs(strings.TrimPrefix(dsn, "sqlite:")) + "?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, dsn)
	ts.Check(err)
	return db, dialect
}

// recorder DSN DIR RECORDS: fills a database and a data directory.
func recorder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: recorder dsn dir records")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	db, dialect := open(ts, args[0])
	defer db.Close()
	_, err = demo.Generate(context.Background(), demo.Options{DB: db, Dialect: dialect, Dir: ts.MkAbs(args[1]), Files: true, Records: n, Now: time.Now()})
	ts.Check(err)
}

// sql DSN STATEMENT: with ! the database refuses it.
func runSQL(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: sql dsn statement")
	}
	db, _ := open(ts, args[0])
	defer db.Close()
	if _, err := db.Exec(args[1]); neg == (err == nil) {
		ts.Fatalf("%v (refusal wanted: %t)", err, neg)
	}
}

// rows DSN N TABLE[ WHERE…]: the table has exactly so many rows.
func countRows(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: rows dsn n table")
	}
	db, _ := open(ts, args[0])
	defer db.Close()
	var n int
	ts.Check(db.QueryRow("SELECT count(*) FROM " + args[2]).Scan(&n))
	if fmt.Sprint(n) == args[1] == neg {
		ts.Fatalf("%d rows in %s, want %s (not: %t)", n, args[2], args[1], neg)
	}
}

// count N GLOB: exactly so many files match.
func countFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: count n glob")
	}
	found, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if fmt.Sprint(len(found)) != args[0] {
		ts.Fatalf("%d files match %s, want %s", len(found), args[1], args[0])
	}
}

// entries N FILE [KIND…]: the ledger has exactly so many entries of these kinds,
// or at all. A ledger that does not exist has none.
func countEntries(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: entries n ledger kind…")
	}
	n := 0
	if _, err := os.Stat(ts.MkAbs(args[1])); err == nil {
		ctx := context.Background()
		l, err := ledger.OpenReadOnly(ctx, "sqlite:"+ts.MkAbs(args[1]), ledger.Config{})
		ts.Check(err)
		defer l.Close()
		f := ledger.Filter{}
		for _, k := range args[2:] {
			f.Kinds = append(f.Kinds, ledger.Kind(k))
		}
		for _, err := range l.Entries(ctx, f) {
			ts.Check(err)
			n++
		}
	}
	if fmt.Sprint(n) != args[0] {
		ts.Fatalf("%d entries of %v, want %s", n, args[2:], args[0])
	}
}

// postgres NAME: sets a variable to the DSN of a new empty database.
func postgres(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: postgres VARIABLE")
		}
		ts.Setenv(args[0], testserver.Postgres(t))
	}
}

// flip FILE OFFSET: alters one byte; a negative offset counts from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip file offset")
	}
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	ts.Check(os.WriteFile(path, b, 0o600))
}

// mode 0600 FILE: the file has exactly these permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode 0600 file")
	}
	fi, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", fi.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}
