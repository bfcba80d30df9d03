package recorder_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/demo"
)

// The defects of the recorder's own purge, P1 to P14, each as a test of what
// lies on disk and in the database afterwards.

// P1: the command never connected to the database, ended with errors = 1, and
// so nothing was ever purged.
func TestP1CommandConnectsByItself(t *testing.T) {
	onBoth(t, func(b *bed) {
		id := b.record(15*day, "audio")
		r := b.purge(0)
		b.figures(r, "Purged records", 1, "Files deleted", 1, "Errors", 0)
		b.gone(id)
		b.onDisk(false, "audio")
	})
}

// P1, the other side: a database that is down is an error that is counted, and
// nothing is touched or claimed.
func TestP1DatabaseDown(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{demo.Postgres, demo.SQLite} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, demo.SQLite, "sqlite:"+filepath.Join(t.TempDir(), "app.db"))
			b.record(15*day, "audio")
			if dialect == demo.Postgres {
				b.env["DATABASE_URL"] = "postgres://postgres@/none?host=" + url.QueryEscape(b.path("nowhere"))
			} else {
				b.env["DATABASE_URL"] = "sqlite:" + b.path("nowhere/app.db")
			}
			r := b.purge(1)
			b.figures(r, "Purged records", 0, "Files deleted", 0, "Errors", 1)
			b.onDisk(true, "audio")
			if trail := b.run("trail", "--json"); trail.status != 0 || !strings.Contains(trail.out, "run.finished") {
				b.Errorf("the run is not in the ledger:\n%s", trail.out)
			}
		})
	}
}

// P2: the command could not start, for its settings had been removed.
func TestP2SettingsWork(t *testing.T) {
	onBoth(t, func(b *bed) {
		b.env["RECORDER_RETENTION_DAYS"] = "30"
		b.env["RECORDER_PURGE_DRY_RUN"] = "false"
		stays, goes := b.record(20*day, "twenty"), b.record(31*day, "thirty-one")
		r := b.purge(0)
		b.figures(r, "Dry run", "false", "Retention days", 30, "Purged records", 1)
		b.gone(goes)
		b.whole(stays, 1)

		// Without them, the defaults: 14 days, and no dry run.
		clear(b.env)
		b.env["DATABASE_URL"], b.env["DATA_DIR"] = b.dsn, b.path("data")
		r = b.purge(0)
		b.figures(r, "Dry run", "false", "Retention days", 14, "Purged records", 1)
		b.gone(stays)
		b.young()
	})
}

// P3: when no record was due, orphaned exports stayed.
func TestP3OrphanExportsGoWithoutRecords(t *testing.T) {
	onBoth(t, func(b *bed) {
		b.file("export-a.zip", "package", 15*day)
		b.file("export-b.zip", "package", 90*day)
		b.file("export-c.zip", "package", day)
		r := b.purge(0)
		b.figures(r, "Purged records", 0, "Exports deleted", 2, "Errors", 0)
		for name, want := range map[string]bool{"export-a.zip": false, "export-b.zip": false, "export-c.zip": true} {
			if b.exists(name) != want {
				b.Errorf("%s on disk = %v, want %v", name, !want, want)
			}
		}
		b.young()
	})
}

// P4: when a file could not be deleted, its row went all the same and with it
// the only pointer to the file.
func TestP4RowStaysWithItsFile(t *testing.T) {
	onBoth(t, func(b *bed) {
		stuck, free := b.record(15*day, "stuck"), b.record(15*day)
		b.file("export-a.zip", "package", 15*day)
		b.unprivileged()
		b.chmod("data/files", 0o555)
		defer b.chmod("data/files", 0o755)

		r := b.purge(1)
		b.figures(r, "Purged records", 1, "Files deleted", 0, "Exports deleted", 1)
		if b.line(r, "Errors") == "0" {
			b.Error("Errors: 0, though a file could not be deleted")
		}
		b.whole(stuck, 1)
		b.gone(free) // a bad record does not stop the others
		path := b.path("data/files/" + digest("stuck") + ".bin")
		if got, err := os.ReadFile(path); err != nil || string(got) != "ciphertext of stuck" {
			b.Errorf("the file that could not be deleted holds %q (%v)", got, err)
		}

		// The next run retries, and can.
		b.chmod("data/files", 0o755)
		r = b.purge(0)
		b.figures(r, "Purged records", 1, "Files deleted", 1, "Errors", 0)
		b.gone(stuck)
		b.onDisk(false, "stuck")
		b.young()
	})
}

// P6: minus one day purged what was made just now, and zero was taken for 14.
func TestP6PeriodsOfZeroAndLess(t *testing.T) {
	onBoth(t, func(b *bed) {
		id := b.record(15*day, "audio")
		nothing := func(what string, r result) {
			b.Helper()
			if r.status != 2 {
				b.Errorf("%s: status = %d, want 2", what, r.status)
			}
			if r.out != "" {
				b.Errorf("%s: stdout = %q, want nothing", what, r.out)
			}
			if r.err == "" {
				b.Errorf("%s: no word on stderr", what)
			}
			b.whole(id, 1)
			b.onDisk(true, "audio")
			b.young()
		}
		for _, period := range []string{"0d", "-1d", "0", "-1", "fourteen", ""} {
			nothing("--retain "+period, b.run("purge", "--yes", "--retain="+period))
		}
		for _, days := range []string{"0", "-1", "1.5", "x", " "} {
			b.env["RECORDER_RETENTION_DAYS"] = days
			nothing("RECORDER_RETENTION_DAYS="+days, b.run("purge", "--yes"))
		}
		delete(b.env, "RECORDER_RETENTION_DAYS")
		r := b.purge(0, "--retain", "7d")
		b.figures(r, "Retention days", 7, "Purged records", 2) // one of the young is past seven days, to the second
	})
}

// P7: a missing file counted as deleted, failed deletes too, and errors with
// exports were not counted.
func TestP7CountsWhatWasSeen(t *testing.T) {
	onBoth(t, func(b *bed) {
		lost, found := b.record(15*day, "lost"), b.record(15*day, "found")
		if err := os.Remove(b.path("data/files/" + digest("lost") + ".bin")); err != nil {
			b.Fatal(err)
		}
		b.env["EPITAPH_LEDGER"] = b.path("ledger.db")
		r := b.purge(0, "--log", "-")
		b.figures(r, "Purged records", 2, "Files deleted", 1, "Errors", 0)
		b.gone(lost)
		b.gone(found)
		b.onDisk(false, "found")
		var files float64
		purged := b.events(r.err, "record_purged")
		for _, e := range purged {
			n, _ := e["files_deleted"].(float64)
			files += n
		}
		if len(purged) != 2 || files != 1 {
			b.Errorf("%d record_purged events with %v files deleted, want 2 with 1", len(purged), files)
		}

		// An export that cannot be deleted is an error, and is still there.
		b.file("export-stuck.zip", "package", 15*day)
		b.unprivileged()
		b.chmod("data", 0o555)
		defer b.chmod("data", 0o755)
		r = b.purge(1)
		b.figures(r, "Exports deleted", 0, "Errors", 1)
		if !b.exists("export-stuck.zip") {
			b.Error("the export is gone, though its directory is read-only")
		}
	})
}

// P8: a blob that a project's upload names too was removed under it.
func TestP8SharedBlobStays(t *testing.T) {
	onBoth(t, func(b *bed) {
		project := b.project("standard", "active", 100*day)
		b.project("standard", "active", 100*day)
		b.project("standard", "active", 100*day)
		shared := b.record(15*day, "shared")
		b.upload(project, "shared")
		own := b.record(15*day, "own")

		r := b.purge(0)
		b.figures(r, "Purged records", 2, "Files deleted", 1, "Errors", 0)
		b.gone(shared)
		b.gone(own)
		b.onDisk(true, "shared")
		b.onDisk(false, "own")
		if got := b.count("project_files WHERE sha256 = $1", digest("shared")); got != 1 {
			b.Error("the project's row for the shared blob is gone")
		}

		// When the last that names it goes, the blob goes with it.
		b.exec("UPDATE projects SET status = 'destroyed', updated_at = $1 WHERE id = $2", b.naive(b.now.Add(-31*day)), project)
		b.purge(0, "--policy", "projects.yaml")
		b.onDisk(false, "shared")
		b.young()
	})
}

// P9: the modification time of exports was read as local time and compared
// with a cutoff in UTC.
func TestP9ZonesDoNotMoveTheCutoff(t *testing.T) {
	for _, zone := range []string{"UTC", "Pacific/Kiritimati", "America/Los_Angeles"} {
		t.Run(strings.ReplaceAll(zone, "/", "-"), func(t *testing.T) {
			onBoth(t, func(b *bed) {
				b.env["TZ"] = zone
				b.env["PGTZ"] = zone
				const edge = 14 * day
				over, under := b.record(edge+10*time.Minute, "over"), b.record(edge-10*time.Minute, "under")
				b.file("export-over.zip", "package", edge+10*time.Minute)
				b.file("export-under.zip", "package", edge-10*time.Minute)
				r := b.purge(0)
				b.figures(r, "Purged records", 1, "Files deleted", 1, "Exports deleted", 1)
				b.gone(over)
				b.whole(under, 1)
				if b.exists("export-over.zip") || !b.exists("export-under.zip") {
					b.Error("the exports at the border were not told apart")
				}
			})
		})
	}
}
