package ledger_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

// grep counts a needle in the raw files of a SQLite ledger.
func grep(t *testing.T, path, needle string) (n int) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		n += bytes.Count(data, []byte(needle))
	}
	return n
}

func TestNothingOfASealedTextIsLeftInTheFiles(t *testing.T) {
	for name, sel := range map[string]ledger.Selection{
		"one item":   {Item: "/data/patients/ngaio-marsh-needle/audio.wav"},
		"a subject":  {Subject: "ngaio-marsh-needle"},
		"everything": {Before: time.Now().Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "l.db")
			l := open(t, "sqlite:"+path)
			other := open(t, "sqlite:"+path) // a second process that also reads
			for i := range 40 {              // so that pages are shared, split and freed
				e := anIntent(50)
				if i == 20 {
					e.Items[25].Parts[0].Locator = "/data/patients/ngaio-marsh-needle/audio.wav"
					e.Items[25].Values = [][][]string{{{"ngaio-marsh-needle"}}}
				}
				n := mustAppend(t, l, e)
				mustAppend(t, l, anOutcome(n, 50))
			}
			if n := grep(t, path, "ngaio-marsh-needle"); n == 0 {
				t.Fatal("the needle was never in the files")
			}
			if found := collect(t, other, ledger.Filter{Item: "/data/patients/ngaio-marsh-needle/audio.wav"}); len(found) != 2 {
				t.Fatalf("found %d entries of the item, want its intent and outcome", len(found))
			}
			dry, err := l.SealOff(t.Context(), sel, true)
			if err != nil {
				t.Fatal(err)
			}
			if n := grep(t, path, "ngaio-marsh-needle"); n == 0 {
				t.Error("a dry run destroyed it")
			}
			done, err := l.SealOff(t.Context(), sel, false, ledger.Secret{Name: "who", Text: "dpo"})
			if err != nil || done.Items != dry.Items || done.Items == 0 || done.Secrets != dry.Secrets {
				t.Fatalf("sealed off %+v after a dry run of %+v, %v", done, dry, err)
			}
			if n := grep(t, path, "ngaio-marsh-needle"); n > 0 {
				t.Errorf("the needle is still %d times in the files", n)
			}
			if r := verify(t, other, ledger.Verification{}); len(r.Faults) > 0 || r.Off != done.Items+done.Secrets {
				t.Errorf("after sealing off: %d off, faults %v", r.Off, r.Faults)
			}
			if name != "everything" && grep(t, path, "files/0007.bin") == 0 {
				t.Error("more was destroyed than was asked for")
			}
		})
	}
}

func TestNothingIsLeftInPostgres(t *testing.T) {
	t.Parallel()
	dsn := testserver.Postgres(t)
	l := open(t, dsn)
	e := anIntent(50)
	e.Items[25].Locator = "ngaio-marsh-needle"
	n := mustAppend(t, l, e)
	mustAppend(t, l, anOutcome(n, 50))
	// Of a long row the server keeps a compressed copy, in which nothing is found.
	mustAppend(t, l, ledger.Entry{Kind: ledger.CustodyOperations, Items: []ledger.Item{{Locator: "ngaio-marsh-needle"}}})
	if n := grepPostgres(t, dsn, "ngaio-marsh-needle"); n == 0 {
		t.Fatal("the needle was never in the files")
	}
	if _, err := l.SealOff(t.Context(), ledger.Selection{Subject: "ngaio-marsh-needle", Keep: nothing}, false); err != nil {
		t.Fatal(err)
	}
	db := rawPostgres(t, dsn)
	var dead int
	// VACUUM FULL wrote the table anew: as many row versions as rows.
	if _, err := db.Exec("CREATE EXTENSION pgstattuple"); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow("SELECT dead_tuple_count FROM pgstattuple('epitaph.sealed')").Scan(&dead); err != nil || dead > 0 {
		t.Errorf("%d dead rows, %v", dead, err)
	}
	var found bool
	if err := db.QueryRow("SELECT bool_or(position('ngaio-marsh-needle'::bytea IN texts) > 0) FROM epitaph.sealed").Scan(&found); err != nil || found {
		t.Errorf("the text is still there: %t, %v", found, err)
	}
	if n := grepPostgres(t, dsn, "ngaio-marsh-needle"); n > 0 {
		t.Errorf("%d files of the database hold the text", n)
	}
}

// grepPostgres counts the files of the database itself that hold a needle; the
// server's WAL is not among them.
func grepPostgres(t *testing.T, dsn, needle string) (n int) {
	t.Helper()
	db := rawPostgres(t, dsn)
	var dir, file string
	if err := db.QueryRow("SELECT current_setting('data_directory'), pg_relation_filepath('epitaph.sealed')").Scan(&dir, &file); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CHECKPOINT"); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, filepath.Dir(file), "*"))
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files of the database, %v", len(files), err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(needle)) {
			n++
		}
	}
	return n
}

func TestSubjectIsAWholeWord(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	locators := []string{"user-12", "users/user-12/x", "user-123", "xuser-12", "USER-12", "user-12.bin", "müser-12", "user-12é"}
	e := ledger.Entry{Kind: ledger.Intent}
	for _, s := range locators {
		e.Items = append(e.Items, ledger.Item{Locator: s})
	}
	n := mustAppend(t, l, e)
	mustAppend(t, l, anOutcome(n, len(locators)))
	if _, err := l.SealOff(t.Context(), ledger.Selection{Subject: "user-12"}, false); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, it := range collect(t, l, ledger.Filter{Unseal: true, Limit: 1})[0].Items {
		if !it.SealedOff {
			left = append(left, it.Locator)
		}
	}
	if got, want := strings.Join(left, " "), "user-123 xuser-12 USER-12 müser-12 user-12é"; got != want {
		t.Errorf("left: %s; want %s", got, want)
	}
}

func TestSealOffRefuses(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	mustAppend(t, l, anIntent(2))
	for _, sel := range []ledger.Selection{{}, {Item: "a", Subject: "b"}} {
		if _, err := l.SealOff(t.Context(), sel, false); err == nil {
			t.Errorf("selection %+v was accepted", sel)
		}
	}
	d, err := l.SealOff(t.Context(), ledger.Selection{Item: "0"}, false)
	if err != nil || d.Open != 1 || d.Items != 0 {
		t.Errorf("an open intent: %+v, %v; want it left alone", d, err)
	}
	if e := collect(t, l, ledger.Filter{}); len(e) != 1 {
		t.Errorf("%d entries after sealing off nothing, want 1", len(e))
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	l := open(t, "sqlite:"+filepath.Join(dir, "l.db"))
	mustAppend(t, l, anIntent(2))
	if _, err := l.Lease(t.Context(), "purge"); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", f.Name(), info.Mode(), err)
		}
		seen = append(seen, f.Name())
	}
	if got := fmt.Sprint(seen); got != "[l.db l.db-shm l.db-wal l.db.lease.purge l.db.lock]" {
		t.Errorf("files: %s", got)
	}
}

// The server keeps samples of columns for its planner: texts among them would
// outlive their rows.
func TestNothingIsLeftInThePlannersSamples(t *testing.T) {
	t.Parallel()
	dsn := testserver.Postgres(t)
	l := open(t, dsn)
	for i := range 80 {
		mustAppend(t, l, ledger.Entry{Kind: ledger.CustodyOperations, Items: []ledger.Item{{Locator: fmt.Sprintf("ngaio-marsh-needle %d", i)}}})
	}
	db := rawPostgres(t, dsn)
	if _, err := db.Exec("ANALYZE"); err != nil { // as the server does by itself
		t.Fatal(err)
	}
	if _, err := l.SealOff(t.Context(), ledger.Selection{Subject: "ngaio-marsh-needle", Keep: nothing}, false); err != nil {
		t.Fatal(err)
	}
	var samples int // they are compressed, so that nothing is found in the files
	err := db.QueryRow("SELECT count(*) FROM pg_stats WHERE schemaname = 'epitaph' AND tablename IN ('sealed', 'lookup') AND attname <> 'number' AND (histogram_bounds IS NOT NULL OR most_common_vals IS NOT NULL)").Scan(&samples)
	if err != nil || samples > 0 {
		t.Errorf("samples of %d columns are kept, %v", samples, err)
	}
}
