package bench

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

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

// BenchmarkMariaDB purges recorder data beside pt-archiver, which deletes the
// records in bulk, a thousand at a time, and leaves the children to the cascade.
func BenchmarkMariaDB(b *testing.B) {
	if _, err := exec.LookPath("pt-archiver"); err != nil {
		b.Fatal("pt-archiver is not installed: apt-get install percona-toolkit")
	}
	due := number("BENCH_MARIADB", 29_000)
	for range b.N {
		var us, them []time.Duration
		var last run
		var version string
		for i := range rounds() {
			fresh := func(f func(db *sql.DB, dsn string, s demo.Summary) time.Duration) time.Duration {
				dsn := testserver.MariaDBDurable(b)
				db := connect(b, "mysql", mariaDBName(b, dsn))
				defer db.Close()
				s := generateMariaDB(b, db, (due*10+5)/6, due)
				if err := db.QueryRow("SELECT version()").Scan(&version); err != nil {
					b.Fatal(err)
				}
				settle()
				took := f(db, dsn, s)
				left(b, db, s)
				// The next contender does not purge this one's undo log.
				for history := 1; history > 0; time.Sleep(50 * time.Millisecond) {
					if err := db.QueryRow("SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_HISTORY_LIST_LENGTH'").Scan(&history); err != nil {
						b.Fatal(err)
					}
					history /= 100
				}
				for _, t := range []string{"transcript_segments", "transcript_audit_events", "audio_assets", "transcripts", "project_files"} {
					must(b, db, "DROP TABLE "+t)
				}
				return took
			}
			them = append(them, fresh(func(_ *sql.DB, dsn string, _ demo.Summary) time.Duration { return archiver(b, dsn) }))
			us = append(us, fresh(func(db *sql.DB, dsn string, s demo.Summary) time.Duration {
				last = purgeRows(b, db, dsn, s)
				return last.took
			}))
			b.Logf("round %d: pt-archiver %v, epitaph %v (cpu %v, %d MB)", i+1, them[i], us[i], last.cpu, last.peak>>20)
		}
		figures.add(b, fmt.Sprintf("%d due records, %d rows, MariaDB %s, in order", due, due*10, version), "`pt-archiver --bulk-delete --limit 1000`", median(us), median(them),
			fmt.Sprintf("children by cascade there; commits flushed; %d MB", last.peak>>20))
	}
}

// archiver runs pt-archiver to its end. Its commits are one for each thousand
// rows, which is the kindest to it.
func archiver(b *testing.B, dsn string) time.Duration {
	b.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), "pt-archiver", "--source", "u=root,S="+u.Query().Get("unix_socket")+",D="+strings.TrimPrefix(u.Path, "/")+",t=transcripts",
		"--where", "created_at < '"+cutoff()+"'", "--purge", "--bulk-delete", "--limit", "1000", "--commit-each", "--no-check-charset", "--no-version-check")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.TempDir()}
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("pt-archiver: %v\n%s", err, out)
	}
	return time.Since(start)
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
