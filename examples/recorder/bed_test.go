package recorder_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/epitaph/epitaph/internal/demo"
	"github.com/epitaph/epitaph/internal/testserver"
)

// program is the built command: the tests run it as cron would.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "recorder")
	if err == nil {
		err = os.Chmod(dir, 0o755) // some tests run it as another user
	}
	if err == nil {
		program = filepath.Join(dir, "epitaph")
		build := exec.Command("go", "build", "-o", program, "../../cmd/epitaph")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	status := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build epitaph:", err)
	} else {
		status = testserver.Wrap(m).Run()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

const day = 24 * time.Hour

// bed is a recorder of the test's own: a database, a data directory, and the
// example's policies.
type bed struct {
	*testing.T
	dir     string // holds epitaph.yaml, data, and the ledger
	dsn     string
	dialect string
	db      *sql.DB
	env     map[string]string
	cred    *syscall.Credential // of the program; nil: this process's
	now     time.Time
}

// onBoth runs the test on PostgreSQL and on SQLite.
func onBoth(t *testing.T, test func(b *bed)) {
	t.Helper()
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(newBed(t, demo.Postgres, testserver.Postgres(t)))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(newBed(t, demo.SQLite, "sqlite:"+filepath.Join(t.TempDir(), "app.db")))
	})
}

func newBed(t *testing.T, dialect, dsn string) *bed {
	t.Helper()
	b := &bed{T: t, dir: t.TempDir(), dsn: dsn, dialect: dialect, now: time.Now().UTC()}
	driver, source := "pgx", dsn
	if dialect == demo.SQLite {
		// As the application connects: without foreign keys.
		driver, source = "sqlite", "file:"+b.sqlitePath()+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)"
	}
	var err error
	if b.db, err = sql.Open(driver, source); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.db.Close() })
	b.exec(demo.Schema(dialect))
	for _, name := range []string{"epitaph.yaml", "projects.yaml"} {
		policy, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b.write(name, string(policy))
	}
	if err := os.MkdirAll(b.path("data/files"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.env = map[string]string{"DATABASE_URL": dsn, "DATA_DIR": b.path("data")}
	// Records and uploads that are young and stay, so that what is due is a
	// share of the whole, as in life.
	for i := range 8 {
		b.record(time.Duration(i)*day, fmt.Sprintf("young %d", i))
	}
	return b
}

func (b *bed) sqlitePath() string { return strings.TrimPrefix(b.dsn, "sqlite:") }

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bed) write(name, text string) {
	b.Helper()
	if err := os.WriteFile(b.path(name), []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) exec(text string, args ...any) {
	b.Helper()
	if _, err := b.db.ExecContext(b.Context(), text, args...); err != nil {
		b.Fatalf("%s: %v", text, err)
	}
}

func (b *bed) insert(text string, args ...any) (id int) {
	b.Helper()
	if err := b.db.QueryRowContext(b.Context(), text+" RETURNING id", args...).Scan(&id); err != nil {
		b.Fatalf("%s: %v", text, err)
	}
	return id
}

// count counts the rows of a table, with a condition or without.
func (b *bed) count(from string, args ...any) (n int) {
	b.Helper()
	if err := b.db.QueryRowContext(b.Context(), "SELECT count(*) FROM "+from, args...).Scan(&n); err != nil {
		b.Fatalf("count %s: %v", from, err)
	}
	return n
}

// naive is how the application writes an instant: in UTC, without saying so.
func (b *bed) naive(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000") }

// record makes a transcript of that age with two segments, an audit event,
// and a file for each audio content.
func (b *bed) record(age time.Duration, audio ...string) (id int) {
	b.Helper()
	at := b.naive(b.now.Add(-age))
	id = b.insert(`INSERT INTO transcripts (title, source, created_at, updated_at) VALUES ('Samtal med Anna Planterad', 'interview', $1, $2)`, at, at)
	for i := range 2 {
		b.insert(`INSERT INTO transcript_segments (transcript_id, start_ms, end_ms, speaker_label, text, created_at)
			VALUES ($1, $2, $3, 'SPEAKER_00', 'hemliga ord om hjärtat', $4)`, id, i*1000, i*1000+900, at)
	}
	b.insert(`INSERT INTO transcript_audit_events (transcript_id, action, created_at) VALUES ($1, 'created', $2)`, id, at)
	for _, content := range audio {
		sha := digest(content)
		b.insert(`INSERT INTO audio_assets (transcript_id, sha256, mime_type, size_bytes, storage_path, created_at)
			VALUES ($1, $2, 'audio/webm', $3, $4, $5)`, id, sha, len(content), sha+".bin", at)
		b.file("files/"+sha+".bin", "ciphertext of "+content, age)
	}
	return id
}

func (b *bed) project(sensitivity, status string, age time.Duration) int {
	b.Helper()
	at := b.naive(b.now.Add(-age))
	return b.insert(`INSERT INTO projects (name, sensitivity, status, created_at, updated_at) VALUES ('Projekt', $1, $2, $3, $4)`,
		sensitivity, status, at, at)
}

// upload makes a project's file: a row, and the blob where it is not there.
func (b *bed) upload(project int, content string) (sha string) {
	b.Helper()
	sha = digest(content)
	b.insert(`INSERT INTO project_files (project_id, original_filename, sha256, mime_type, size_bytes, storage_path, created_at)
		VALUES ($1, 'patient.webm', $2, 'audio/webm', 1, $3, $4)`, project, sha, sha+".bin", b.naive(b.now))
	b.file("files/"+sha+".bin", "ciphertext of "+content, day)
	return sha
}

// file makes a file below the data directory, last modified that long ago.
func (b *bed) file(name, text string, age time.Duration) string {
	b.Helper()
	path := b.path("data/" + name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	if err := os.Chtimes(path, b.now.Add(-age), b.now.Add(-age)); err != nil {
		b.Fatal(err)
	}
	return path
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// result is what one run of the program came to.
type result struct {
	status   int
	out, err string
}

// start prepares a run with nothing in its environment but what the recorder's
// document names.
func (b *bed) start(ctx context.Context, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = b.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "TMPDIR=" + os.TempDir()}
	for name, value := range b.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.cred}
	return cmd, &out, &err
}

// run runs the program to its end.
func (b *bed) run(args ...string) result {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	cmd, out, stderr := b.start(ctx, args...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.Fatalf("run %v: %v", args, err)
	}
	b.Logf("epitaph %s → %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), out, stderr)
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// purge runs a purge that is to end with the status.
func (b *bed) purge(status int, args ...string) result {
	b.Helper()
	r := b.run(append([]string{"purge", "--yes"}, args...)...)
	if r.status != status {
		b.Fatalf("status of purge = %d, want %d", r.status, status)
	}
	return r
}

// line returns the value of a "Name: value" line of the summary.
func (b *bed) line(r result, name string) string {
	b.Helper()
	m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(name) + `:\s*(.*)$`).FindStringSubmatch(r.out)
	if m == nil {
		b.Fatalf("the summary has no line %q:\n%s", name, r.out)
	}
	return strings.TrimSpace(m[1])
}

// figures compares lines of the summary: name, value, name, value, …
func (b *bed) figures(r result, want ...any) {
	b.Helper()
	for i := 0; i < len(want); i += 2 {
		name := want[i].(string)
		if got, want := b.line(r, name), fmt.Sprint(want[i+1]); got != want {
			b.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// whole says that the record is there with all its rows.
func (b *bed) whole(id, audio int) {
	b.Helper()
	for from, want := range map[string]int{"transcripts WHERE id = $1": 1, "transcript_segments WHERE transcript_id = $1": 2,
		"transcript_audit_events WHERE transcript_id = $1": 1, "audio_assets WHERE transcript_id = $1": audio} {
		if got := b.count(from, id); got != want {
			b.Errorf("%s = %d rows, want %d", strings.Replace(from, "$1", strconv.Itoa(id), 1), got, want)
		}
	}
}

// gone says that no row of the record is left.
func (b *bed) gone(id int) {
	b.Helper()
	for _, from := range []string{"transcripts WHERE id = $1", "transcript_segments WHERE transcript_id = $1",
		"transcript_audit_events WHERE transcript_id = $1", "audio_assets WHERE transcript_id = $1"} {
		if got := b.count(from, id); got != 0 {
			b.Errorf("%s = %d rows, want none", strings.Replace(from, "$1", strconv.Itoa(id), 1), got)
		}
	}
}

func (b *bed) exists(name string) bool {
	b.Helper()
	_, err := os.Lstat(b.path("data/" + name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.Fatal(err)
	}
	return err == nil
}

// onDisk says whether each content's file is to be there.
func (b *bed) onDisk(want bool, contents ...string) {
	b.Helper()
	for _, c := range contents {
		if got := b.exists("files/" + digest(c) + ".bin"); got != want {
			b.Errorf("file of %q on disk = %v, want %v", c, got, want)
		}
	}
}

// young says that nothing that is not due was touched.
func (b *bed) young() {
	b.Helper()
	if got := b.count("transcripts WHERE title = 'Samtal med Anna Planterad' AND created_at > $1", b.naive(b.now.Add(-13*day))); got != 8 {
		b.Errorf("%d young records, want 8", got)
	}
	for i := range 8 {
		b.onDisk(true, fmt.Sprintf("young %d", i))
	}
}

// events are the log's lines of that name.
func (b *bed) events(log, name string) (found []map[string]any) {
	b.Helper()
	for line := range strings.Lines(log) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			continue // remarks for people share stderr with the log
		}
		if e["event"] == name {
			found = append(found, e)
		}
	}
	return found
}

// unprivileged makes the program run as a user that file modes bind, and gives
// it all that the bed has made so far.
func (b *bed) unprivileged() {
	b.Helper()
	if os.Getuid() != 0 {
		return
	}
	u, err := user.Lookup("postgres") // may enter the test server's private directory
	if err != nil {
		b.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	b.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	roots := []string{b.dir}
	if b.dialect == demo.SQLite {
		roots = append(roots, filepath.Dir(b.sqlitePath()))
	}
	for _, root := range roots {
		if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
			b.Fatal(err)
		}
		err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, uid, gid)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func (b *bed) chmod(name string, mode os.FileMode) {
	b.Helper()
	if err := os.Chmod(b.path(name), mode); err != nil {
		b.Fatal(err)
	}
}
