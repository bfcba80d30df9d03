package cli_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/testserver"
)

// canary stands in every place that can hold something of a person, or a
// secret: paths, column values, keys, the text of conditions, passwords, and
// what a driver or trigger says. It may never come out but where a person asks
// for it.
const canary = "kanarie7f3"

const canaryPolicy = `version: 1
stores:
  app:  {rows: "${DATABASE_URL}"}
  disk: {files: data}
rules:
  records:
    retain: 14d
    rows: app.records
    anchor: {column: made, zone: UTC}
    where: owner <> 'nobody-kanarie7f3'
    hold: owner = 'held-kanarie7f3'
    parts:
      - files: "disk:audio/{file}"
  exports: {kind: export, retain: 14d, files: "disk:export-*.zip", anchor: modified}
  others: {retain: 14d, files: "disk:kanarie7f3-*.txt", anchor: modified}
limits: {share: 100%, missing: 100%}
`

// canaryBed makes a database whose keys, values and trigger hold the canary,
// and a directory whose names do.
func canaryBed(t *testing.T, dsn string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	data := filepath.Join(dir, "data")
	must(t, os.MkdirAll(filepath.Join(data, "audio"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "epitaph.yaml"), []byte(canaryPolicy), 0o600))
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	defer db.Close()
	for _, text := range []string{
		`DROP TABLE IF EXISTS records`,
		`CREATE TABLE records (name text PRIMARY KEY, owner text NOT NULL, file text, made timestamp NOT NULL)`,
		`CREATE INDEX ON records (made)`,
		`CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		 BEGIN IF OLD.owner LIKE 'stubborn%' THEN RAISE EXCEPTION 'will not delete % of kanarie7f3', OLD.name; END IF; RETURN OLD; END $$`,
		`CREATE TRIGGER refuse BEFORE DELETE ON records FOR EACH ROW EXECUTE FUNCTION refuse()`,
	} {
		_, err := db.ExecContext(t.Context(), text)
		must(t, err)
	}
	old := time.Now().UTC().AddDate(0, 0, -30)
	for i := range 12 {
		owner, file := "owner-"+canary, fmt.Sprintf("%s-%d.bin", canary, i)
		switch i {
		case 3:
			owner = "stubborn-" + canary // a trigger refuses it, and says why in words
		case 4:
			file = "../../" + canary // climbs
		case 5:
			owner = "held-" + canary
		case 6:
			must(t, os.MkdirAll(filepath.Join(data, "audio", file, canary), 0o700)) // a directory where a file should be
		}
		_, err := db.ExecContext(t.Context(), "INSERT INTO records VALUES ($1, $2, $3, $4)", fmt.Sprintf("%s-key-%d", canary, i), owner, file, old)
		must(t, err)
		if i != 4 && i != 6 {
			must(t, os.WriteFile(filepath.Join(data, "audio", file), []byte(canary), 0o600))
		}
	}
	for _, name := range []string{"export-" + canary + ".zip", canary + "-1.txt"} {
		path := filepath.Join(data, name)
		must(t, os.WriteFile(path, []byte(canary), 0o600))
		must(t, os.Chtimes(path, old, old))
	}
	return dir
}

// run runs the program and returns all that came out of it, the log included.
func run(t *testing.T, dir string, env []string, args ...string) (status int, stdout, rest string) {
	t.Helper()
	cmd := command(context.Background(), dir, append(args, "--log", "events.json")...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	status = statusOf(t, cmd.Run())
	events, err := os.ReadFile(filepath.Join(dir, "events.json"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return status, out.String(), errs.String() + string(events)
}

// TestNothingOfAPersonComesOut runs every command in every way, successes and
// failures, and looks for the canary in all that it wrote.
func TestNothingOfAPersonComesOut(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t)
	dsn := server.Database(t)
	dir := canaryBed(t, dsn)
	up := []string{"DATABASE_URL=" + dsn}
	wrong := []string{"DATABASE_URL=postgres://app:" + canary + "@127.0.0.1:1/" + canary + "?connect_timeout=1"}
	unparsable := []string{"DATABASE_URL=postgres://app:" + canary + "@[::bad/" + canary}

	silent := func(env []string, wantStatus int, args ...string) {
		t.Helper()
		status, out, rest := run(t, dir, env, args...)
		if status != wantStatus {
			t.Errorf("%v: status %d, want %d\n%s%s", args, status, wantStatus, out, rest)
		}
		for _, text := range []string{out, rest} {
			if i := strings.Index(text, canary); i >= 0 {
				t.Errorf("%v tells the canary: …%.300s…", args, text[max(0, i-150):])
			}
		}
	}
	for _, env := range [][]string{wrong, unparsable} {
		silent(env, 2, "check")
	}
	silent(wrong, 1, "plan")
	silent(wrong, 1, "purge", "records")
	silent(unparsable, 2, "purge")
	silent(up, 0, "check")
	silent(up, 0, "plan")
	silent(up, 0, "plan", "--json")
	silent(up, 1, "purge", "--dry-run") // one record names what no store may hold

	// The database stops, and the directory is taken away: unknown, told by code.
	server.Stop(t)
	silent(up, 1, "purge", "records")
	server.Start(t)
	must(t, os.Rename(filepath.Join(dir, "data"), filepath.Join(dir, "away")))
	silent(up, 3, "purge")
	silent(up, 2, "check")
	must(t, os.Rename(filepath.Join(dir, "away"), filepath.Join(dir, "data")))

	silent(up, 1, "purge")
	silent(up, 1, "purge", "--json")
	silent(up, 0, "trail")
	silent(up, 0, "trail", "--json")
	entriesAreClear(t, dir, canary)

	// It is not that there was nothing to tell: whoever asks by name is told.
	status, out, rest := run(t, dir, up, "trail", "--items")
	if status != 0 || !strings.Contains(out, canary+"-key-0") || strings.Contains(rest, canary) {
		t.Errorf("trail --items: status %d, names on stdout: %t, elsewhere: %t", status, strings.Contains(out, canary), strings.Contains(rest, canary))
	}
	status, out, rest = run(t, dir, up, "plan", "--show")
	if status != 0 || !strings.Contains(out, canary) || strings.Contains(rest, canary) {
		t.Errorf("plan --show: status %d, names on stdout: %t, elsewhere: %t", status, strings.Contains(out, canary), strings.Contains(rest, canary))
	}
}

// entriesAreClear looks for canaries in the clear columns of the ledger: all
// tables but the one that holds what is sealed.
func entriesAreClear(t *testing.T, dir string, canaries ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "epitaph.db")+"?mode=ro")
	must(t, err)
	defer db.Close()
	rows, err := db.Query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
	must(t, err)
	var tables []string
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		tables = append(tables, name)
	}
	must(t, rows.Err())
	sealed, clear := 0, 0
	for _, table := range tables {
		for _, c := range canaries {
			n := cellsWith(t, db, table, c)
			switch {
			case strings.Contains(table, "seal"):
				sealed += n
			case n > 0:
				t.Errorf("table %s of the ledger holds %s in %d cells", table, c, n)
			default:
				clear++
			}
		}
	}
	if clear == 0 || sealed == 0 {
		t.Errorf("looked at %d clear tables and found %d sealed cells: the test looks at the wrong place", clear, sealed)
	}
}

func cellsWith(t *testing.T, db *sql.DB, table, text string) (n int) {
	t.Helper()
	rows, err := db.Query("SELECT * FROM " + table)
	must(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	must(t, err)
	for rows.Next() {
		cells := make([]any, len(columns))
		for i := range cells {
			cells[i] = new(sql.RawBytes)
		}
		must(t, rows.Scan(cells...))
		for _, c := range cells {
			if bytes.Contains(*c.(*sql.RawBytes), []byte(text)) {
				n++
			}
		}
	}
	must(t, rows.Err())
	return n
}
