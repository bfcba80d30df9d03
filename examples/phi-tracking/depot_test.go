package phi_tracking_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/testserver"
)

// depot is the two servers with the depot's own database on MariaDB.
type depot struct {
	*bed
	client []string // the client program with its arguments
	env    []string
}

func newDepot(t *testing.T) *depot {
	t.Helper()
	d := &depot{bed: newBed(t)}
	dsn := testserver.MariaDB(t)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	d.client = []string{"mariadb", "--no-defaults", "--user=root", "--socket=" + u.Query().Get("unix_socket"), "--default-character-set=utf8mb4",
		"--batch", "--raw", "--skip-column-names", strings.TrimPrefix(u.Path, "/")}
	for _, name := range []string{"schema_mariadb.sql", "seed.sql"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d.sql(string(text))
	}
	policy, err := os.ReadFile("depot.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d.write("epitaph.yaml", string(policy))
	d.env = []string{"DATABASE_URL=" + dsn, "SQL=" + strings.Join(d.client, " "), "WITHIN=0s"}
	return d
}

// sql runs statements as the depot's own client, and returns what it printed.
func (d *depot) sql(text string) string {
	d.Helper()
	cmd := exec.CommandContext(d.Context(), d.client[0], d.client[1:]...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.Fatalf("sql: %v\n%s", err, out)
	}
	return string(out)
}

// epitaph is that of the bed, with the database; status -1 takes any.
func (d *depot) epitaph(status int, args ...string) string {
	d.Helper()
	r := d.start("", d.env, program, args...)
	if r.status != status && status >= 0 {
		d.Fatalf("epitaph %s: status %d, want %d\n%s%s", strings.Join(args, " "), r.status, status, r.stdout, r.stderr)
	}
	return r.stdout + r.stderr
}

func (d *depot) submit(name string, object int, content string, env ...string) result {
	d.Helper()
	script, err := filepath.Abs("pipeline")
	if err != nil {
		d.Fatal(err)
	}
	return d.start("", append(env, d.env...), script, d.write("incoming/"+name+".csv", content), "5", fmt.Sprint(object))
}

// logged writes a row of the depot's own tracking, as its code does: every column
// that may not be NULL, and ” for what it does not know.
func (d *depot) logged(action, path string, more ...string) {
	d.Helper()
	more = append(more, "file_hash", "''", "cleaned_up", "0", "cleanup_required", "0")
	columns, values := "", ""
	for i := 0; i+1 < len(more); i += 2 {
		if !strings.Contains(columns+",", ", "+more[i]+",") { // the first counts
			columns += ", " + more[i]
			values += ", " + more[i+1]
		}
	}
	d.sql(fmt.Sprintf(`INSERT INTO depot_phifiletracking (created_at, updated_at, cohort_id, user_id, action, file_path, file_type, error_message,
		server_hostname, cleanup_attempted_count, purpose_subdirectory, server_role%s)
		VALUES (utc_timestamp(6), utc_timestamp(6), 5, 1, '%s', '%s', 'raw_csv', '', 'web1', 0, '', 'web'%s)`, columns, action, path, values))
}

// A submission that goes well leaves rows and files that agree.
func TestDepotPipeline(t *testing.T) {
	d := newDepot(t)
	d.want(d.epitaph(0, "check"), "0 faults")
	if r := d.submit("o'brien", 123, "b\na\n"); r.status != 0 {
		d.Fatalf("%+v", r)
	}
	d.want(d.epitaph(0, "verify", "files", "--hashes"), `^ok 3, deleted 2, row-ok 2; `)
	d.want(d.epitaph(0, "orphans", "--older", "0s"), "no orphans")
	if r := d.submit("second", 124, "broken\n"); r.status != 1 {
		d.Fatalf("%+v", r)
	}
	out := d.epitaph(1, "verify", "files", "--show")
	d.want(out, `^no-pair .*/nas/second\.csv"`)
	d.want(out, `row-ok 3, no-pair 1|no-pair 1, row-ok 3`)
}

// Wherever the process is killed, no row names a file that is not there, and no
// file that stays is without its row for longer than it may be.
func TestDepotCrash(t *testing.T) {
	for _, step := range []string{"reserved", "staged", "raw", "unlinked", "copied", "converting", "reported"} {
		t.Run(step, func(t *testing.T) {
			d := newDepot(t)
			if r := d.submit("patients", 123, "b\na\n", "CRASH="+step); r.status != -1 {
				d.Fatalf("it was not killed: %+v", r)
			}
			out := d.start("", d.env, program, "verify", "files", "--json").stdout
			d.not(out, "row-missing|row-untracked|row-size|row-hash|row-path|row-unknown|no-row|untracked")
		})
	}
}

// N1: a rejected file that is marked as cleaned up and is still there is told: its
// row does not count any more, and the file does.
func TestDepotN1(t *testing.T) {
	d := newDepot(t)
	d.submit("patients", 123, "b\na\n")
	d.sql("UPDATE depot_datatablefile SET rejected_at = utc_timestamp(6), files_cleaned_up = 1, cleanup_verified_at = utc_timestamp(6) WHERE id = 123")
	out := d.epitaph(1, "verify", "files", "--show")
	d.want(out, `^no-row +table raw-files .*/nas/patients\.csv"$`)
	d.want(out, `^no-row +table duckdb-files .*/nas/patients\.duckdb"$`)
	d.want(out, "no-row 2; ")
}

// N1, N6: the row of a rejected file says that it is cleaned up when every file was
// seen to be gone, and not before.
func TestDepotRejected(t *testing.T) {
	d := newDepot(t)
	d.submit("patients", 123, "b\na\n")
	d.submit("others", 124, "b\na\n")
	d.want(d.epitaph(0, "check"), "0 faults")
	d.sql("UPDATE depot_datatablefile SET rejected_at = utc_timestamp(6) - INTERVAL 2 HOUR, rejection_reason = 'ids' WHERE id = 123")
	if err := os.Link(d.path("nas/patients.csv"), d.path("second")); err != nil {
		t.Fatal(err)
	}
	d.epitaph(-1, "purge", "rejected")
	const state = "SELECT files_cleaned_up, cleanup_verified_at IS NULL FROM depot_datatablefile ORDER BY id"
	if got := d.sql(state); got != "0\t1\n0\t1\n" || !d.exists("nas/patients.csv") {
		t.Errorf("a file that could not go: %q", got)
	}
	d.remove("second")
	d.epitaph(0, "purge", "rejected")
	if got := d.sql(state); got != "1\t0\n0\t1\n" || d.exists("nas/patients.csv") || d.exists("nas/patients.duckdb") || !d.exists("nas/others.csv") {
		t.Errorf("after the purge: %q", got)
	}
	d.want(d.epitaph(0, "verify", "files"), `^ok 4, deleted 6, row-ok 2; `)
}

// N2, N4: a row of the tracking table that names an imaginary path, or a relative
// one, is told; nothing is taken for clean.
func TestDepotN2N4(t *testing.T) {
	d := newDepot(t)
	d.logged("work_copy_created", d.path("scratch/imaginary.duckdb"), "cleanup_required", "1", "cleaned_up", "1")
	d.logged("nas_raw_created", "nas/relative.csv")
	d.logged("nas_raw_created", "unknown")
	d.write("nas/relative.csv", "x")
	d.epitaph(0, "track", "nas_raw_created", "nas/relative.csv", "--quiet")
	out := d.epitaph(1, "verify", "files", "--agreement", "tracking", "--show")
	d.want(out, `^row-missing +table tracking row 1 .*/scratch/imaginary\.duckdb"`)
	d.want(out, `^row-invalid +table tracking row 2 .*"nas/relative\.csv"`)
	d.want(out, `row-missing 1, row-invalid 2; `)
}

// N3: an outage of the storage, or of the database, is unknown: no row agrees, none
// is missing, and nothing is written anywhere.
func TestDepotN3(t *testing.T) {
	d := newDepot(t)
	d.submit("patients", 123, "b\na\n")
	before := d.sql("SELECT * FROM depot_datatablefile")
	d.rename("nas", "away")
	out := d.epitaph(1, "verify", "files", "--tracked", "")
	d.want(out, "row-unknown 2; ")
	d.not(out, "row-ok|row-missing|no-row")
	d.rename("away", "nas")
	if after := d.sql("SELECT * FROM depot_datatablefile"); after != before {
		t.Errorf("the rows changed:\n%s\n%s", before, after)
	}
	d.env = append(d.env, "DATABASE_URL=mysql://root:kanarie@127.0.0.1:1/kanarie")
	out = d.epitaph(1, "verify", "files")
	d.want(out, "^row-unknown +table raw-files  UNREACHABLE$")
	d.want(out, "row-unknown 3; ")
	d.not(out, "row-ok|row-missing|no-row|kanarie")
}

// N5, N9: a deletion that is logged takes a row back, and one that did not happen is
// seen on the disk.
func TestDepotN5N9(t *testing.T) {
	d := newDepot(t)
	gone, there := d.write("nas/gone.html", "x"), d.write("scratch/there.csv", "x")
	d.epitaph(0, "track", "nas_report_created", gone, "--quiet")
	d.epitaph(0, "track", "work_copy_created", there, "--quiet")
	d.logged("nas_report_created", gone, "file_size", "1")
	d.logged("work_copy_created", there, "file_size", "1")
	d.want(d.epitaph(0, "verify", "files", "--agreement", "tracking"), "ok 2, row-ok|ok 2, row-not-checked 2; ")
	d.remove("nas/gone.html")
	d.epitaph(0, "track", "nas_report_deleted", gone, "--quiet")
	d.logged("nas_report_deleted", gone)
	d.logged("work_copy_deleted", there) // as the depot's code does when the deletion fails
	d.epitaph(1, "track", "work_copy_deleted", there, "--quiet")
	out := d.epitaph(0, "verify", "files", "--agreement", "tracking")
	d.want(out, "^ok 1, deleted 1; ")
	d.not(out, "row-missing")
	d.want(d.epitaph(1, "cleanup", "run", "--force"), "1 present|1 gone")
}

// N7, N8: a hash of something else, a size of something else, and no hash at all are
// three things, and none of them is agreement.
func TestDepotN7N8(t *testing.T) {
	d := newDepot(t)
	for object, set := range map[int]string{
		1: "file_size = 51", // the length of str(file object)
		2: "file_hash = sha2('<InMemoryUploadedFile: patients.csv (text/csv)>', 256)",
		3: "file_hash = 'pending_async_calculation'",
		4: "file_hash = ''",
		5: "file_size = NULL",
	} {
		if r := d.submit(fmt.Sprintf("p%d", object), object, "b\na\n"); r.status != 0 {
			d.Fatalf("%+v", r)
		}
		d.sql(fmt.Sprintf("UPDATE depot_datatablefile SET %s WHERE id = %d", set, object))
	}
	out := d.epitaph(1, "verify", "files", "--agreement", "raw-files")
	d.want(out, `^row-size +table raw-files row 1 `)
	d.want(out, `^row-hash +table raw-files row 2 `)
	d.want(out, `row-not-checked 3, row-size 1, row-hash 1; `)
	d.sql("DELETE FROM depot_datatablefile WHERE id < 3")
	d.remove("nas/p1.csv")
	d.remove("nas/p2.csv")
	d.epitaph(0, "track", "nas_raw_deleted", "nas/p1.csv", "nas/p2.csv", "--quiet")
	d.want(d.epitaph(0, "verify", "files", "--agreement", "raw-files"), `row-not-checked 3; `)
	d.want(d.epitaph(1, "verify", "files", "--agreement", "raw-files", "--hashes"), `^row-not-checked +table raw-files row 3 `)
}

// N10: what the depot's own cascade takes from its database, the ledger still tells.
func TestDepotN10(t *testing.T) {
	d := newDepot(t)
	d.submit("patients", 123, "b\na\n")
	d.logged("nas_raw_created", d.path("nas/patients.csv"))
	// Django's rules for a cohort, in its order.
	d.sql("DELETE FROM depot_phifiletracking WHERE cohort_id = 5; DELETE FROM depot_datatablefile; DELETE FROM depot_cohortsubmissiondatatable; " +
		"DELETE FROM depot_cohortsubmission; DELETE FROM depot_cohort WHERE id = 5")
	d.want(d.epitaph(0, "trail", "--object", "data-file:123", "--scope", "5"), `nas_raw_created 2`) // reserved and committed
	out := d.epitaph(1, "verify", "files")
	d.want(out, "no-row 2; ")
	d.not(out, "row-ok")
}

// N12, N13, N19: the rows of the tracking table, with every field that it has, are
// brought over; a word that is none is named by its line, and the others are taken.
func TestDepotImport(t *testing.T) {
	d := newDepot(t)
	raw := d.write("nas/patients.csv", "abc")
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-4, example
	d.logged("nas_raw_created", raw, "file_size", "3", "file_hash", "'"+abc+"'", "object_id", "123", "bytes_transferred", "3",
		"stream_start", "'2026-01-02 03:04:05.678901'", "stream_complete", "'2026-01-02 03:04:06'", "metadata", `'{"original_filename": "p.csv"}'`)
	d.logged("conversion_failed", raw, "object_id", "123")
	d.logged("file_moved_to_data", raw, "object_id", "123", "file_size", "3", "file_hash", "'"+abc+"'")
	d.logged("cleaned_up_somehow", raw)
	d.logged("work_copy_created", d.write("scratch/p.csv", "abc"), "cleanup_required", "1", "expected_cleanup_by", "'2026-01-02 05:04:05'", "file_size", "3")
	lines := d.sql(`SELECT json_object('action', action, 'path', file_path, 'scope', cast(cohort_id AS char), 'actor', (SELECT username FROM depot_user u WHERE u.id = user_id),
		'at', date_format(created_at, '%Y-%m-%dT%H:%i:%s.%fZ'), 'type', file_type, 'size', coalesce(file_size, 0), 'sha256', file_hash, 'host', server_hostname,
		'ref', if(object_id IS NULL, '', concat('data-file:', object_id)), 'transferred', coalesce(bytes_transferred, 0), 'role', server_role,
		'stream_start', coalesce(date_format(stream_start, '%Y-%m-%dT%H:%i:%s.%fZ'), ''), 'stream_end', coalesce(date_format(stream_complete, '%Y-%m-%dT%H:%i:%s.%fZ'), ''),
		'required', if(cleanup_required, json_extract('true', '$'), json_extract('false', '$')), 'due', coalesce(date_format(expected_cleanup_by, '%Y-%m-%dT%H:%i:%s.%fZ'), ''),
		'error', error_message, 'purpose', purpose_subdirectory, 'meta', json_extract(coalesce(metadata, '{}'), '$')) FROM depot_phifiletracking ORDER BY id`)
	r := d.start(lines, d.env, program, "track", "--batch")
	d.want(r.stdout, "^tracked 4 operations$")
	d.want(r.stderr, `line 4: unknown action "cleaned_up_somehow"`)
	if r.status != 1 {
		t.Errorf("status %d\n%s", r.status, r.stderr)
	}
	d.want(d.epitaph(0, "trail", "--object", "data-file:123"), "conversion_failed 1, file_moved_to_data 1, nas_raw_created 1")
	d.want(d.epitaph(1, "overdue"), "scope 5 .* 1 file$")
	d.want(d.epitaph(0, "trail", "--action", "nas_raw_created", "--json"), `"actor":"jones".*"sha256":"`+abc)
	d.sql("DELETE FROM depot_phifiletracking WHERE action = 'cleaned_up_somehow'")
	d.want(d.epitaph(0, "verify", "files", "--agreement", "tracking"), "row-ok 1, row-not-checked 1; ")
}

// N16: a file that was written before its row, and never got one, is found.
func TestDepotN16(t *testing.T) {
	d := newDepot(t)
	d.epitaph(0, "track", "nas_report_created", d.write("nas/report.html", "x"), "--quiet")
	d.write("nas/patients.csv", "x")
	age(t, d.path("nas/patients.csv"))
	d.want(d.epitaph(1, "verify", "files"), "^untracked +h:")
	d.epitaph(0, "track", "nas_raw_created", "nas/patients.csv", "--ref", "data-file:1", "--quiet")
	d.want(d.epitaph(1, "verify", "files"), `^no-row +table raw-files `)
}

// age makes a file that was last written a day ago.
func age(t *testing.T, path string) {
	t.Helper()
	at := time.Now().AddDate(0, 0, -1)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// N18: an object without a path is nobody's trail, and a row without one names no
// file.
func TestDepotN18(t *testing.T) {
	d := newDepot(t)
	d.submit("patients", 123, "b\na\n")
	d.sql("UPDATE depot_datatablefile SET raw_file_path = '', duckdb_file_path = '' WHERE id = 123")
	d.want(d.epitaph(1, "verify", "files"), "no-row 2; ")
	d.want(d.epitaph(0, "trail", "--object", "data-file:124"), "no operation matches")
}
