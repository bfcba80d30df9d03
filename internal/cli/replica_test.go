package cli_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/epitaph/epitaph/internal/testserver"
)

const replicaPolicy = `version: 1
stores:
  app: {rows: "${DSN}", pace: {items: 20/s, replica: "${REPLICA}", lag: 4s}}
rules:
  notes: {kind: note, retain: 14d, rows: app.notes, anchor: {column: created_at, zone: UTC}}
limits: {share: 100%}
`

// watchedRun runs a purge in small batches and calls what is to be done when a
// text is first seen on stderr.
func watchedRun(t *testing.T, dir string, env []string, on map[string]func(kill func(os.Signal))) (status int, stdout, stderr string) {
	t.Helper()
	cmd := command(t.Context(), dir, "purge", "--batch", "10", "--workers", "1", "--log", "-")
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout = &out
	pipe, err := cmd.StderrPipe()
	must(t, err)
	narrow(t, pipe)
	must(t, cmd.Start())
	kill := func(s os.Signal) { must(t, cmd.Process.Signal(s)) }
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		fmt.Fprintln(&errs, lines.Text())
		for text, do := range on {
			if strings.Contains(lines.Text(), text) {
				delete(on, text)
				do(kill)
			}
		}
	}
	status = statusOf(t, cmd.Wait())
	for text := range on {
		t.Errorf("%q was never seen", text)
	}
	return status, out.String(), errs.String()
}

// notes makes a table of so many notes that are due, in a database with a
// replica, and a policy that waits for it.
func notes(t *testing.T, policy, driver, name string, n int) (dir string, db *sql.DB) {
	t.Helper()
	dir = t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "epitaph.yaml"), []byte(policy), 0o600))
	db, err := sql.Open(driver, name)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	_, err = db.Exec("CREATE TABLE notes (id integer PRIMARY KEY, created_at timestamp NULL)")
	must(t, err)
	for i := range n {
		_, err = db.Exec(fmt.Sprintf("INSERT INTO notes VALUES (%d, '2026-01-01 00:00:00')", i))
		must(t, err)
	}
	return dir, db
}

// mysqlName is a DSN in the form of the driver.
func mysqlName(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	return "root@unix(" + u.Query().Get("unix_socket") + ")" + u.Path
}

func leftNotes(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	must(t, db.QueryRow("SELECT count(*) FROM notes").Scan(&n))
	return n
}

// A replica that falls behind in the midst of a purge holds it back, with
// nothing open, until it has caught up. Four seconds, as one on a busy machine
// may be behind by one or two for a moment.
func TestPurgeWaitsForAStandby(t *testing.T) {
	t.Parallel()
	const n = 160
	primary := testserver.NewPostgres(t)
	dsn := primary.Database(t)
	dir, db := notes(t, replicaPolicy, "pgx", dsn, n)
	standby := testserver.NewPostgresStandby(t, primary)
	there, err := sql.Open("pgx", standby.On(dsn))
	must(t, err)
	t.Cleanup(func() { there.Close() })
	on := func(text string) {
		_, err := there.Exec(text)
		must(t, err)
	}
	_, err = db.Exec("CREATE INDEX ON notes (created_at)")
	must(t, err)
	for followed := false; !followed; time.Sleep(20 * time.Millisecond) {
		must(t, there.QueryRow("SELECT pg_last_xact_replay_timestamp() IS NOT NULL").Scan(&followed))
	}
	env := []string{"DSN=" + dsn, "REPLICA=" + standby.On(dsn)}
	held := 0
	status, stdout, stderr := watchedRun(t, dir, env, map[string]func(func(os.Signal)){
		`"event":"item_purged"`: func(func(os.Signal)) { on("SELECT pg_wal_replay_pause()") },
		"the replica of store app is too far behind": func(func(os.Signal)) {
			held = leftNotes(t, db)
			time.Sleep(1500 * time.Millisecond)
			if now := leftNotes(t, db); now != held {
				t.Errorf("%d notes went while the replica was behind", held-now)
			}
			if gone, open := goneOf(t, dir); open != 0 || gone != n-held {
				t.Errorf("while it waits: %d gone in the ledger, %d open, %d left", gone, open, held)
			}
			check := command(t.Context(), dir, "check")
			check.Env = append(os.Environ(), env...)
			out, err := check.Output()
			if statusOf(t, err) != 0 || !strings.Contains(string(out), "the replica of store app is ") || !strings.Contains(string(out), " behind: a purge waits until it is at most 4s") {
				t.Errorf("check: %v\n%s", err, out)
			}
			on("SELECT pg_wal_replay_resume()")
		},
	})
	if status != 0 || leftNotes(t, db) != 0 || held == 0 || held == n {
		t.Errorf("status %d, %d left, %d when it was held back\n%s%s", status, leftNotes(t, db), held, stdout, stderr)
	}
	if told := strings.Count(stderr, `"why":"replica_behind"`); told != 1 {
		t.Errorf("%d events that the replica is behind", told)
	}
	if strings.Contains(stderr, dsn) || strings.Contains(stderr, "wal") {
		t.Errorf("stderr says too much:\n%s", stderr)
	}
}

// A replica that does not answer is unknown, and unknown is not near enough:
// nothing goes, and the run says why.
func TestPurgeWaitsForAReplicaThatIsNotThere(t *testing.T) {
	t.Parallel()
	source, replica := testserver.NewMariaDBPair(t)
	dsn := source.Database(t)
	dir, db := notes(t, replicaPolicy, "mysql", mysqlName(t, dsn), 20)
	env := []string{"DSN=" + dsn, "REPLICA=" + replica.On(dsn)}
	check := func(want int, text string) {
		t.Helper()
		cmd := command(t.Context(), dir, "check")
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.Output()
		if statusOf(t, err) != want || !strings.Contains(string(out), text) {
			t.Errorf("check: %v, want status %d and %q\n%s", err, want, text, out)
		}
	}
	replica.Stop(t)
	check(2, "the replica of store app could not be asked how far it is behind (error type ")
	status, stdout, stderr := watchedRun(t, dir, env, map[string]func(func(os.Signal)){
		"it is not known how far the replica of store app is behind": func(kill func(os.Signal)) { kill(os.Interrupt) },
	})
	gone, open := goneOf(t, dir)
	if status != 130 || leftNotes(t, db) != 20 || gone != 0 || open != 0 || !strings.Contains(stderr, `"why":"replica_unknown"`) {
		t.Errorf("status %d, %d left, %d gone in the ledger, %d open\n%s%s", status, leftNotes(t, db), gone, open, stdout, stderr)
	}
	replica.Start(t)
	// It follows by itself again, and the run goes on by itself.
	if status, stdout, stderr = watchedRun(t, dir, env, nil); status != 0 || leftNotes(t, db) != 0 {
		t.Errorf("status %d, %d left\n%s%s", status, leftNotes(t, db), stdout, stderr)
	}
	check(0, "0 faults")
	env[1] = "REPLICA=" + dsn
	check(2, "it is no replica: the server follows no other")
	env[1] = "REPLICA=postgres://geheim@h/d"
	check(2, "")
}

// The database goes away in the midst of a purge: what went is in the ledger,
// what could not be seen is unknown, and a rerun finishes.
func TestMariaDBGoesAwayUnderAPurge(t *testing.T) {
	t.Parallel()
	server := testserver.NewMariaDB(t)
	dsn := server.Database(t)
	policy := strings.Replace(replicaPolicy, `, pace: {items: 20/s, replica: "${REPLICA}", lag: 4s}`, "", 1)
	dir, db := notes(t, policy, "mysql", mysqlName(t, dsn), 200)
	env := []string{"DSN=" + dsn}
	status, stdout, stderr := watchedRun(t, dir, env, map[string]func(func(os.Signal)){
		`"event":"item_purged"`: func(func(os.Signal)) { server.Kill(t) },
	})
	if status != 1 || !strings.Contains(stdout, "UNREACHABLE") {
		t.Errorf("status %d, want 1, with what could not be looked at\n%s%s", status, stdout, stderr)
	}
	server.Start(t)
	for db.Ping() != nil {
	}
	gone, _ := goneOf(t, dir)
	if left := leftNotes(t, db); gone == 0 || gone > 200-left || left == 0 {
		t.Errorf("the ledger calls %d of 200 gone, and %d are there", gone, left)
	}
	status, stdout, stderr = watchedRun(t, dir, env, nil)
	gone, open := goneOf(t, dir)
	if status != 0 || leftNotes(t, db) != 0 || gone != 200 || open != 0 {
		t.Errorf("rerun: status %d, %d left, %d gone in the ledger, %d open\n%s%s", status, leftNotes(t, db), gone, open, stdout, stderr)
	}
}
