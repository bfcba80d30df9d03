package bench

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/epitaph/epitaph/internal/demo"
	"github.com/epitaph/epitaph/internal/testserver"
)

// The recorder's tables, as far as a purge touches them: six segments, two
// events and one audio file for each record.
var mariaDBSchema = []string{
	`CREATE TABLE transcripts (id int AUTO_INCREMENT PRIMARY KEY, title varchar(255) NOT NULL, source varchar(50) NOT NULL, language varchar(10) NOT NULL,
		duration_seconds int, status varchar(50) NOT NULL, created_at datetime(6) NOT NULL, updated_at datetime(6) NOT NULL, raw_integrity_hash char(64), KEY (created_at), KEY (title))`,
	`CREATE TABLE transcript_segments (id int AUTO_INCREMENT PRIMARY KEY, transcript_id int NOT NULL, start_ms int NOT NULL, end_ms int NOT NULL, speaker_label varchar(50),
		text text NOT NULL, confidence double, created_at datetime(6) NOT NULL, KEY (transcript_id, start_ms), FOREIGN KEY (transcript_id) REFERENCES transcripts (id) ON DELETE CASCADE)`,
	`CREATE TABLE transcript_audit_events (id int AUTO_INCREMENT PRIMARY KEY, transcript_id int NOT NULL, action varchar(50) NOT NULL, actor varchar(50), created_at datetime(6) NOT NULL,
		metadata_json text, FOREIGN KEY (transcript_id) REFERENCES transcripts (id) ON DELETE CASCADE)`,
	`CREATE TABLE audio_assets (id int AUTO_INCREMENT PRIMARY KEY, transcript_id int NOT NULL, sha256 char(64) NOT NULL UNIQUE, mime_type varchar(50) NOT NULL, size_bytes bigint NOT NULL,
		created_at datetime(6) NOT NULL, FOREIGN KEY (transcript_id) REFERENCES transcripts (id) ON DELETE CASCADE)`,
	`CREATE TABLE project_files (id int AUTO_INCREMENT PRIMARY KEY, sha256 char(64) NOT NULL UNIQUE)`,
}

// generateMariaDB fills the tables: of so many records the older ones are due,
// and have the lower ids, as an application inserts them.
func generateMariaDB(b testing.TB, db *sql.DB, records, due int) demo.Summary {
	b.Helper()
	for _, text := range mariaDBSchema {
		must(b, db, text)
	}
	// Ages fall from 180 days to 15, and from 12 to none.
	at := fmt.Sprintf("UTC_TIMESTAMP(6) - INTERVAL IF(seq <= %[1]d, (180 - 165 * seq / %[1]d), 12 * (%[2]d - seq) / %[2]d) * 86400 SECOND", due, records)
	must(b, db, fmt.Sprintf(`INSERT INTO transcripts SELECT seq, CONCAT('Samtal ', MD5(seq)), 'interview', 'sv', 60 + seq %% 5400, 'reviewed', %[1]s, %[1]s, SHA2(seq, 256)
		FROM seq_1_to_%[2]d`, at, records))
	for _, text := range []string{
		`INSERT INTO transcript_segments (transcript_id, start_ms, end_ms, speaker_label, text, confidence, created_at)
			SELECT t.id, s.seq * 5000, s.seq * 5000 + 4000, 'SPEAKER_00', REPEAT(CONCAT('ord ', MD5(t.id + s.seq), ' '), 3), 0.9, t.created_at FROM transcripts t, seq_1_to_6 s ORDER BY t.id, s.seq`,
		`INSERT INTO transcript_audit_events (transcript_id, action, actor, created_at, metadata_json)
			SELECT t.id, 'created', 'system', t.created_at, '{"ok":true}' FROM transcripts t, seq_1_to_2 s ORDER BY t.id, s.seq`,
		`INSERT INTO audio_assets (transcript_id, sha256, mime_type, size_bytes, created_at) SELECT id, SHA2(CONCAT('audio', id), 256), 'audio/webm', 4000, created_at FROM transcripts ORDER BY id`,
		`INSERT INTO project_files (sha256) SELECT sha256 FROM audio_assets WHERE id % 50 = 11`,
		"ANALYZE TABLE transcripts, transcript_segments, transcript_audit_events, audio_assets, project_files",
	} {
		must(b, db, text)
	}
	return demo.Summary{Records: records, Due: due}
}

// contest is a MariaDB server on which contenders run in turn, each on the same
// data made anew.
type contest struct {
	dsn     string
	db      *sql.DB
	due     int
	version string
	stat    string // of the server's process
}

func newContest(b *testing.B) *contest {
	b.Helper()
	c := &contest{dsn: testserver.MariaDBDurable(b), due: number("BENCH_MARIADB", 29_000)}
	c.db = connect(b, "mysql", mariaDBName(b, c.dsn))
	var pidFile string
	if err := c.db.QueryRow("SELECT version(), @@pid_file").Scan(&c.version, &pidFile); err != nil {
		b.Fatal(err)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		b.Fatal(err)
	}
	c.stat = "/proc/" + strings.TrimSpace(string(pid)) + "/stat"
	return c
}

// server is the processor time that the server has used, its background threads
// included.
func (c *contest) server(b *testing.B) time.Duration {
	b.Helper()
	raw, err := os.ReadFile(c.stat)
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // Linux counts in hundredths
}

// turn is what one contender took: from its start to its end, and the processor
// time of its own and of the server's, also of what the server does after it.
type turn struct{ took, own, server time.Duration }

func (t turn) String() string {
	return fmt.Sprintf("%.2f s (cpu: own %.2f s, server %.2f s)", t.took.Seconds(), t.own.Seconds(), t.server.Seconds())
}

// run lets a contender work, looks at what is left, and waits until the server
// has purged its undo log, so that the next does not.
func (c *contest) run(b *testing.B, f func(s demo.Summary) (took, own time.Duration)) (t turn) {
	b.Helper()
	s := generateMariaDB(b, c.db, (c.due*10+5)/6, c.due)
	c.quiet(b)
	settle()
	before := c.server(b)
	t.took, t.own = f(s)
	left(b, c.db, s)
	c.quiet(b)
	t.server = c.server(b) - before
	for _, t := range []string{"transcript_segments", "transcript_audit_events", "audio_assets", "transcripts", "project_files"} {
		must(b, c.db, "DROP TABLE "+t)
	}
	return t
}

// quiet waits until the history of the server is short and it does next to nothing.
func (c *contest) quiet(b *testing.B) {
	b.Helper()
	for last, history := time.Duration(0), 1; history > 0; {
		time.Sleep(100 * time.Millisecond)
		if err := c.db.QueryRow("SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_HISTORY_LIST_LENGTH'").Scan(&history); err != nil {
			b.Fatal(err)
		}
		history /= 30
		now := c.server(b)
		if now-last > 10*time.Millisecond {
			history = 1
		}
		last = now
	}
}

// archivers are the ways to call the peer: as its manual has it, which commits
// after each record, and with one commit for each thousand.
var archivers = []struct {
	name string
	more []string
}{
	{"`pt-archiver --purge --bulk-delete --limit 1000`", nil},
	{"the same with `--commit-each`", []string{"--commit-each"}},
}

// BenchmarkMariaDB purges recorder data beside pt-archiver, which deletes the
// records in bulk, a thousand at a time, and leaves the children to the cascade.
func BenchmarkMariaDB(b *testing.B) {
	if _, err := exec.LookPath("pt-archiver"); err != nil {
		b.Fatal("pt-archiver is not installed: apt-get install percona-toolkit")
	}
	for range b.N {
		c := newContest(b)
		var us []time.Duration
		them := make([][]time.Duration, len(archivers))
		var peak int64
		for i := range rounds() {
			said := fmt.Sprintf("round %d:", i+1)
			for n, a := range archivers {
				t := c.run(b, func(demo.Summary) (took, own time.Duration) { return archiver(b, c.dsn, a.more) })
				them[n] = append(them[n], t.took)
				said += fmt.Sprintf(" %s %v,", a.name, t)
			}
			t := c.run(b, func(s demo.Summary) (took, own time.Duration) {
				r := purgeRows(b, c.db, c.dsn, s)
				peak = max(peak, r.peak)
				return r.took, r.cpu
			})
			us = append(us, t.took)
			b.Logf("%s epitaph %v", said, t)
		}
		for n, a := range archivers {
			figures.add(b, fmt.Sprintf("%d due records, %d rows, MariaDB %s, in order", c.due, c.due*10, c.version), a.name, median(us), median(them[n]),
				fmt.Sprintf("children by cascade there; commits flushed; %d MB", peak>>20))
		}
	}
}

// archiver runs pt-archiver to its end.
func archiver(b *testing.B, dsn string, more []string) (took, own time.Duration) {
	b.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), "pt-archiver", append([]string{
		"--source", "u=root,S=" + u.Query().Get("unix_socket") + ",D=" + strings.TrimPrefix(u.Path, "/") + ",t=transcripts",
		"--where", "created_at < '" + cutoff() + "'", "--purge", "--bulk-delete", "--limit", "1000", "--no-check-charset", "--no-version-check"}, more...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.TempDir()}
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("pt-archiver: %v\n%s", err, out)
	}
	return time.Since(start), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// BenchmarkMariaDBFloor deletes the same rows and does nothing else: no look
// before or after, no count, no ledger. It is what is left for a purge to save.
func BenchmarkMariaDBFloor(b *testing.B) {
	for range b.N {
		c := newContest(b)
		for _, sessions := range []int{1, 2} {
			for _, how := range []floor{{"four DELETEs by lists of keys", false, false}, {"four DELETEs by ranges of keys", true, false}, {"one DELETE by a list of keys, which cascades", false, true}} {
				var took, server []time.Duration
				for range rounds() {
					t := c.run(b, func(s demo.Summary) (took, own time.Duration) { return how.run(b, c.db, sessions, s.Due), 0 })
					took, server = append(took, t.took), append(server, t.server)
				}
				figures.put(fmt.Sprintf("%d records, %d rows, MariaDB %s, %s, a thousand at a time, %d in flight", c.due, c.due*10, c.version, how.name, sessions),
					fmt.Sprintf("%.2f s", median(took).Seconds()), fmt.Sprintf("processor time of the server %.2f s", median(server).Seconds()))
			}
		}
	}
}

// floor is one way to delete the records with all that hangs on them.
type floor struct {
	name           string
	ranges, leaves bool
}

// run deletes the records from 1 to due.
func (f floor) run(b *testing.B, db *sql.DB, sessions, due int) time.Duration {
	b.Helper()
	tables := []string{"transcript_segments WHERE transcript_id", "transcript_audit_events WHERE transcript_id", "audio_assets WHERE transcript_id", "transcripts WHERE id"}
	if f.leaves {
		tables = tables[3:]
	}
	const batch = 1000
	return timed(b, func() error {
		var g errgroup.Group
		g.SetLimit(sessions)
		for from := 1; from <= due; from += batch {
			g.Go(func() error {
				to := min(from+batch-1, due)
				which := fmt.Sprintf(" BETWEEN %d AND %d", from, to)
				if !f.ranges {
					ids := make([]string, 0, batch)
					for id := from; id <= to; id++ {
						ids = append(ids, strconv.Itoa(id))
					}
					which = " IN (" + strings.Join(ids, ",") + ")"
				}
				tx, err := db.BeginTx(b.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
				if err != nil {
					return err
				}
				defer tx.Rollback() //nolint:errcheck // after a commit nothing is left to undo
				for _, t := range tables {
					if _, err := tx.ExecContext(b.Context(), "DELETE FROM "+t+which); err != nil {
						return err
					}
				}
				return tx.Commit()
			})
		}
		return g.Wait()
	})
}

// mariaDBName is the DSN in the form of the driver.
func mariaDBName(b testing.TB, dsn string) string {
	b.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		b.Fatal(err)
	}
	return "root@unix(" + u.Query().Get("unix_socket") + ")" + filepath.Clean(u.Path)
}
