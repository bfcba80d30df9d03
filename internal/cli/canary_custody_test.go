package cli_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/internal/testserver"
)

// scopeCanary stands in what a person is shown of a tracked file also without its
// path: scope and reference. It may come out on stdout, and nowhere else. All else
// holds canary, which comes out on stdout where paths are asked for, only.
const scopeCanary = "zeisig9c1"

const custodyCanaryPolicy = `version: 1
ledger: "${LEDGER:-sqlite:epitaph.db}"
stores:
  app:     {rows: "${DATABASE_URL}"}
  scratch: {files: "kanarie7f3-data/scratch"}
  nas:     {files: "kanarie7f3-data/nas"}
custody:
  actions:
    scan_made: {kind: created, due: 1s}
  tracked: [{store: scratch, grace: 0s}, {store: nas, grace: 0s}]
  pairs:
    - {file: "*.csv", beside: "kanarie7f3-*.duckdb", within: 0s}
  agreement:
    files:
      rows: app.files
      where: owner <> 'nobody-kanarie7f3'
      path: "nas:{path}"
      size: size
      sha256: hash
      ref: "zeisig9c1:{id}"
      made: [nas_raw_created]
rules:
  logs: {retain: 30d, files: "scratch:kanarie7f3-*.log", anchor: modified}
`

// bird is a bed with canaries in everything that could tell of a person.
type bird struct {
	*testing.T
	dir string
	env []string
	ran map[string]bool // the commands that were run
}

// look runs the program in three ways and looks at all that came out but stdout,
// which is given back.
func (b *bird) look(stdin string, status int, args ...string) (stdout string) {
	b.Helper()
	b.ran[args[0]] = true
	cmd := command(context.Background(), b.dir, append(args, "--log", "events.json")...)
	cmd.Env = append(os.Environ(), b.env...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if got := statusOf(b.T, cmd.Run()); got != status && status >= 0 {
		b.Errorf("%v: status %d, want %d\n%s%s", args, got, status, out.String(), errs.String())
	}
	events, err := os.ReadFile(filepath.Join(b.dir, "events.json"))
	if err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
	b.clear(fmt.Sprintf("stderr of %v", args), errs.String())
	b.clear(fmt.Sprintf("the log of %v", args), string(events))
	return out.String()
}

func (b *bird) clear(where, text string) {
	b.Helper()
	for _, c := range []string{canary, scopeCanary} {
		if i := strings.Index(text, c); i >= 0 {
			b.Errorf("%s tells %s: …%.300s…", where, c, text[max(0, i-150):])
		}
	}
}

// silent is a command that does not name files, as text, as JSON and quiet.
func (b *bird) silent(status int, args ...string) {
	b.Helper()
	for _, more := range [][]string{nil, {"--json"}, {"--quiet"}} {
		if out := b.look("", status, append(args, more...)...); strings.Contains(out, canary) {
			b.Errorf("%v tells the canary on stdout: …%.300s…", append(args, more...), out[max(0, strings.Index(out, canary)-100):])
		}
	}
}

func (b *bird) write(name, content string) string {
	b.Helper()
	path := filepath.Join(b.dir, name)
	must(b.T, os.MkdirAll(filepath.Dir(path), 0o700))
	must(b.T, os.WriteFile(path, []byte(content), 0o600))
	return name
}

func newBird(t *testing.T, policy string) *bird {
	t.Helper()
	b := &bird{T: t, dir: t.TempDir(), ran: map[string]bool{}}
	if policy != "" {
		b.write("epitaph.yaml", policy)
	}
	return b
}

// clearFiles looks into every file that Epitaph made, but for the ledger's sealed
// texts, and at their names.
func (b *bird) clearFiles(skip ...string) {
	b.Helper()
	n := 0
	must(b.T, filepath.WalkDir(b.dir, func(path string, e fs.DirEntry, err error) error {
		must(b.T, err)
		name := strings.TrimPrefix(path, b.dir+"/")
		switch {
		case slices.Contains(skip, name) && e.IsDir():
			return fs.SkipDir
		case slices.Contains(skip, name), name == "epitaph.db", name == "epitaph.db-wal", name == "epitaph.db-shm":
			return nil
		}
		b.clear("the name "+filepath.Base(name), name)
		if !e.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		must(b.T, err)
		b.clear("the file "+name, string(text))
		n++
		return nil
	}))
	if n == 0 {
		b.Error("no file was looked into")
	}
}

const data = canary + "-data"

// trackAll registers files in every way, with a canary in every field.
func (b *bird) trackAll() {
	b.Helper()
	name := func(i int) string { return fmt.Sprintf("%s/scratch/%s-%d.csv", data, canary, i) }
	fields := []string{"--scope", scopeCanary, "--actor", canary, "--ref", scopeCanary + ":7", "--meta", canary + "=" + canary, "--type", canary,
		"--purpose", canary, "--from", canary + "/from", "--error", canary, "--error-type", canary}
	for i := range 8 {
		b.write(name(i), canary)
	}
	b.look("", 0, append([]string{"track", "work_copy_created", name(0), name(1), "--due", "0s"}, fields...)...)
	b.look("", 0, append([]string{"track", "scan_made", name(2), "--at", "2026-01-01T00:00:00Z"}, fields...)...)
	b.look("", 0, append([]string{"track", "conversion_started", name(2)}, fields...)...)
	b.look("", 0, append([]string{"track", "conversion_failed", name(2)}, fields...)...)
	b.look("", 1, append([]string{"track", "work_copy_deleted", name(0)}, fields...)...) // it is there
	b.look("", 0, append([]string{"track", "nas_raw_created", b.write(data+"/nas/"+canary+".csv", canary)}, fields...)...)
	b.look("", 0, append([]string{"track", "nas_raw_created", "/etc/hostname"}, fields...)...) // no store covers it

	// what is refused
	b.look("", 1, append([]string{"track", "nas_raw_created", data + "/nas/absent-" + canary}, fields...)...)
	b.look("", 1, "track", "nas_raw_created", "nas:../"+canary)
	b.look("", 1, "track", "nas_raw_created", canary+strings.Repeat("x", 5000))
	b.look("", 2, "track", "nas_raw_created", name(0), "--ref", canary)
	b.look("", 2, "track", "nas_raw_created", name(0), "--meta", canary)
	b.look("", 2, "track", "--commit", canary)

	id := strings.TrimSpace(b.look("", 0, append([]string{"track", "--reserve", "nas_duckdb_created", data + "/nas/" + canary + ".duckdb"}, fields...)...))
	b.look("", 1, "track", "--commit", id) // it is not there
	b.look("", 0, "track", "--abandon", id)
	b.look("", 0, append([]string{"track", "--reserve", "nas_duckdb_created", data + "/nas/" + canary + "-2.duckdb"}, fields...)...)

	// what goes to another host, and arrives there as something else
	sent := strings.TrimSpace(b.look("", 0, append([]string{"track", "transfer_sent", name(4), "--to", "services", "--due", "0s"}, fields[:4]...)...))
	b.look("", 2, "track", "--acknowledge", sent, name(5)) // not from here
	here := b.env
	b.env = append(slices.Clip(b.env), "EPITAPH_HOST=services")
	b.look("", 2, "track", "--acknowledge", sent, data+"/nas/absent-"+canary)
	b.look("", 1, "track", "--acknowledge", sent, b.write(data+"/nas/arrived-"+canary, "other"))
	b.silent(1, "overdue")
	b.env = here

	lines := fmt.Sprintf(`{"action":"work_copy_created","path":%q,"due":"2h","scope":%q,"actor":%q,"meta":{%[3]q:%[3]q}}
{"action":"work_copy_created","path":"absent-%[3]s"}
{"action":"work_copy_created","path":%[3]s}
{"action":"work_copy_created","path":["%[3]s"]}
{"action":"work_copy_created","path":"nas:../%[3]s"}
{"action":"work_copy_created","path":%[1]q,"sha256":"%[3]s"}
{"action":"work_copy_created","path":%[1]q,"ref":"%[3]s"}
{"action":"work_copy_created","path":%[1]q,"meta":"%[3]s"}
{"action":"work_copy_created","path":%[1]q,"size":1} %[3]s
{"path":"%[3]s"}
`, name(3), scopeCanary, canary)
	b.look(lines, 1, "track", "--batch")
	for _, more := range []string{"--json", "--quiet"} {
		if out := b.look(lines, 1, "track", "--batch", more); strings.Contains(out, canary) {
			b.Errorf("track --batch %s tells the canary: %s", more, out)
		}
	}
}

// TestNothingOfATrackedFileComesOut runs the commands of custody on files, rows and
// stores that hold canaries, with everything well, with a store away, with the
// database away, and with a ledger that fails.
func TestNothingOfATrackedFileComesOut(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t)
	dsn := server.Database(t)
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	defer db.Close()
	for _, text := range []string{
		"CREATE TABLE files (id integer PRIMARY KEY, path text, size bigint, hash text, owner text)",
		"CREATE TABLE named (name text PRIMARY KEY, path text)",
		"INSERT INTO files VALUES (1, '" + canary + ".csv', 99, '" + canary + "', 'o-" + canary + "'), (2, '../" + canary + "', 1, '', 'x'), (3, 'absent-" + canary + "', 1, '', 'x')",
		"INSERT INTO named VALUES ('" + canary + "', '" + canary + ".csv')",
	} {
		_, err := db.ExecContext(t.Context(), text)
		must(t, err)
	}
	b := newBird(t, custodyCanaryPolicy)
	b.env = []string{"DATABASE_URL=" + dsn}
	b.trackAll()
	b.write(data+"/scratch/stranger-"+canary, canary)

	every := func(pending, left int) {
		b.Helper()
		b.silent(1, "overdue")
		b.silent(1, "verify", "files", "--hashes")
		b.silent(1, "verify", "files", "--pair", "*.csv="+canary+"-*.x:0s", "--agreement", "none")
		b.silent(1, "orphans", "--older", "0s")
		b.silent(-1, "stats")
		b.silent(pending, "cleanup", "verify")
		b.silent(left, "orphans", "--older", "1000h", "--tracked", "")
	}
	b.silent(0, "check")
	b.silent(0, "track", "--list")
	every(1, 0)

	// A store is away: unknown, told by code.
	must(t, os.Rename(filepath.Join(b.dir, data), filepath.Join(b.dir, "away")))
	every(1, 0)
	b.silent(1, "cleanup", "run", "--force")
	b.silent(1, "orphans", "--older", "0s", "--dispose")
	b.look("", 1, "track", "nas_raw_deleted", data+"/nas/"+canary+".csv")
	must(t, os.Rename(filepath.Join(b.dir, "away"), filepath.Join(b.dir, data)))

	// The database is away, and then the words for it are wrong.
	server.Stop(t)
	b.silent(1, "verify", "files")
	b.silent(2, "check")
	server.Start(t)
	good := b.env
	b.env = []string{"DATABASE_URL=postgres://" + canary + ":" + canary + "@127.0.0.1:1/" + canary + "?connect_timeout=1"}
	b.silent(1, "verify", "files")
	b.env = good

	// What a person asks for by name is on stdout, and nowhere else.
	for _, args := range [][]string{{"overdue", "--show"}, {"verify", "files", "--show"}, {"verify", "files", "--show", "--json"}, {"orphans", "--older", "0s", "--show"},
		{"cleanup", "verify", "--show"}, {"trail", "--object", scopeCanary + ":7"}, {"trail", "--action", "scan_made", "--json"}, {"trail", "--items"}} {
		if out := b.look("", -1, args...); !strings.Contains(out, canary) {
			t.Errorf("%v does not name the file", args)
		}
	}
	b.look("", -1, "trail", "--file", "*"+canary+"*", "--scope", scopeCanary)
	b.look("", 2, "cleanup", "confirm", canary, "--by", canary)
	b.look("", 0, "cleanup", "confirm", "7.0", "--by", canary)

	b.progress("verify", "files", "--hashes")
	b.silent(-1, "cleanup", "run", "--force")
	b.progress("cleanup", "run", "--force")
	b.silent(-1, "orphans", "--older", "0s", "--dispose")
	b.silent(0, "trail")
	b.silent(-1, "verify", "ledger")
	entriesAreClear(t, b.dir, canary, scopeCanary)
	b.clearFiles(data, "epitaph.yaml")
	if _, err := os.Stat(filepath.Join(b.dir, "epitaph.db.custody")); err != nil {
		t.Errorf("the cache was not looked into: %v", err)
	}

	// The ledger fails.
	b.write("epitaph.db", "this is no ledger of "+canary)
	for _, args := range [][]string{{"overdue"}, {"verify", "files"}, {"orphans"}, {"stats"}, {"cleanup", "verify"}, {"cleanup", "run"}, {"trail"}} {
		b.silent(-1, args...)
	}
	b.look("", -1, "track", "scan_made", data+"/nas/"+canary+".csv", "--scope", scopeCanary)
	b.env = append(b.env, "LEDGER=postgres://"+canary+":"+canary+"@127.0.0.1:1/"+canary+"?connect_timeout=1")
	b.silent(-1, "overdue")
	b.look("", -1, "track", "scan_made", data+"/nas/"+canary+".csv", "--scope", scopeCanary)
	for _, name := range []string{"track", "overdue", "cleanup", "orphans", "verify", "stats", "trail"} {
		if !b.ran[name] {
			t.Errorf("%s was not run", name)
		}
	}
}

// progress runs a command with stderr on a terminal.
func (b *bird) progress(args ...string) {
	b.Helper()
	_, screen, _ := atTerminalWith(b.T, b.dir, "", b.env, args...)
	b.clear(fmt.Sprintf("the screen of %v", args), screen)
}

// TestNothingOfASessionComesOut does the same for sessions.
func TestNothingOfASessionComesOut(t *testing.T) {
	t.Parallel()
	b := newBird(t, "")
	root := filepath.Join(b.dir, canary+"-sessions")
	b.env = []string{"EPITAPH_SESSIONS=" + root, "EPITAPH_LEDGER=sqlite:" + filepath.Join(b.dir, "epitaph.db")}
	id := canary + "-1"
	for _, one := range []string{id, canary + "-2", canary + "-3"} {
		b.look("", 0, "session", "new", "--id", one)
		b.write(canary+"-sessions/"+one+"/"+canary+".txt", canary)
		b.write(canary+"-sessions/"+one+"/deep/"+canary+".txt", canary)
	}
	b.look("", 2, "session", "new", "--id", id) // it is there
	b.look("", 2, "session", "new", "--id", "../"+canary)
	b.look("", 2, "session", "new", "--id", "."+canary)
	for _, args := range [][]string{{"session", "files", id}, {"session", "list"}} {
		if out := b.look("", 0, args...); !strings.Contains(out, canary) {
			t.Errorf("%v names nothing", args)
		}
	}
	b.look(canary, 0, "session", "write", id, canary+"-written")
	b.look(canary, -1, "session", "write", id, "../"+canary)
	b.look(canary, -1, "session", "write", id, canary+"-written/"+canary)
	if out := b.look("", 0, "session", "read", id, canary+"-written"); out != canary {
		t.Errorf("it read %q", out)
	}
	b.look("", -1, "session", "read", id, "absent-"+canary)
	b.look("", 1, "session", "files", "absent-"+canary)
	b.look("", 0, "session", "remove", id, canary+".txt")
	b.look("", 0, "session", "remove", id, "absent-"+canary)
	b.look("", 2, "session", "remove", id, "../"+canary)
	must(t, os.Symlink(filepath.Join(b.dir, canary), filepath.Join(root, id, "deep", canary+"-link")))
	b.look("", -1, "session", "remove", id, "deep/"+canary+"-link")
	b.look("", -1, "session", "remove", id, "deep")
	b.look("", 0, "session", "delete", id)
	b.look("", 0, "session", "delete", id)
	must(t, os.Symlink(filepath.Join(b.dir, canary), filepath.Join(root, canary+"-linked")))
	b.look("", -1, "session", "delete", canary+"-linked")
	b.look("", -1, "session", "files", canary+"-linked")
	for _, more := range [][]string{nil, {"--quiet"}} {
		args := append([]string{"session", "run", "--log", "events.json"}, more...)
		b.look("", 3, append(args, "--", "sh", "-c", "echo "+canary+" >$EPITAPH_SESSION/"+canary+"; exit 3")...)
	}
	b.look("", 2, "session", "run", "--", "absent", canary)
	b.look("", -1, "session", "sweep", "--older", "0s")
	b.look("", -1, "session", "sweep")
	// The root is away, and then a file stands in its place.
	must(t, os.Rename(root, root+".away"))
	b.look("", -1, "session", "list")
	b.look("", -1, "session", "delete", canary+"-2")
	b.look("", -1, "session", "sweep")
	b.write(canary+"-sessions", canary)
	for _, args := range [][]string{{"new"}, {"list"}, {"files", canary + "-2"}, {"delete", canary + "-2"}, {"sweep"}, {"delete-all", "--yes"}, {"run", "--", "true"}} {
		b.look("", -1, append([]string{"session"}, args...)...)
	}
	must(t, os.Remove(root))
	must(t, os.Rename(root+".away", root))
	b.look("", -1, "session", "delete-all", "--yes")
	entriesAreClear(t, b.dir, canary)
	b.clearFiles(canary + "-sessions")
	b.silent(0, "trail", "--ledger", "epitaph.db")

	b.write("epitaph.db", "this is no ledger of "+canary)
	for _, args := range [][]string{{"new"}, {"delete", canary + "-2"}, {"sweep"}, {"run", "--", "true"}} {
		b.look("", -1, append([]string{"session"}, args...)...)
	}
}
