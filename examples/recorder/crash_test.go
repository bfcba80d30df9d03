package recorder_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/internal/demo"
	"github.com/epitaph/epitaph/internal/testserver"
)

// P5: when the database refused the record after its file had been unlinked, a
// row without a file was left.
func TestP5RefusedRowKeepsItsFile(t *testing.T) {
	refusals := map[string]map[string][]string{
		demo.Postgres: {
			"trigger": {
				`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
					BEGIN IF OLD.title = 'refused' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN OLD; END $$`,
				`CREATE TRIGGER refuse BEFORE DELETE ON transcripts FOR EACH ROW EXECUTE FUNCTION refuse()`},
			// Speaks only at the commit.
			"deferred trigger": {
				`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
					BEGIN IF OLD.title = 'refused' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NULL; END $$`,
				`CREATE CONSTRAINT TRIGGER refuse AFTER DELETE ON transcripts DEFERRABLE INITIALLY DEFERRED
					FOR EACH ROW EXECUTE FUNCTION refuse()`},
		},
		demo.SQLite: {
			"trigger": {`CREATE TRIGGER refuse BEFORE DELETE ON transcripts WHEN OLD.title = 'refused'
				BEGIN SELECT RAISE(ABORT, 'not this one'); END`},
		},
	}
	onBoth(t, func(b *bed) {
		for name, statements := range refusals[b.dialect] {
			b.Run(name, func(t *testing.T) {
				b := newBed(t, b.dialect, fresh(t, b.dialect))
				for _, s := range statements {
					b.exec(s)
				}
				refused, free := b.record(15*day, "refused"), b.record(15*day, "free")
				b.exec("UPDATE transcripts SET title = 'refused' WHERE id = $1", refused)

				r := b.purge(1)
				b.figures(r, "Purged records", 1, "Files deleted", 1)
				if b.line(r, "Errors") == "0" {
					b.Error("Errors: 0, though a record was refused")
				}
				b.whole(refused, 1)
				b.onDisk(true, "refused")
				b.gone(free)
				b.onDisk(false, "free")

				b.exec("UPDATE transcripts SET title = 'free' WHERE id = $1", refused)
				b.figures(b.purge(0), "Purged records", 1, "Files deleted", 1, "Errors", 0)
				b.gone(refused)
				b.onDisk(false, "refused")
				b.young()
			})
		}
	})
}

// P5, by another way: a process that dies between files and rows. What it
// leaves is finished by the next run.
func TestP5KilledRunIsFinishedByTheNext(t *testing.T) {
	onBoth(t, func(b *bed) {
		s, err := demo.Generate(b.Context(), demo.Options{DB: b.db, Dialect: b.dialect, Dir: b.path("data"), Files: true,
			Records: 6000, Seed: 5, Now: b.now})
		if err != nil {
			b.Fatal(err)
		}
		kept := b.blobs() - s.DueBlobs
		// Cut the run once it has begun to unlink, with different leads.
		for _, left := range []int{s.Blobs + 8 - 1, s.Blobs + 8 - s.DueBlobs/2} {
			b.killAt(left)
		}
		due := b.count("transcripts WHERE created_at < $1", b.naive(b.now.Add(-14*day)))
		if due == 0 {
			b.Fatal("the killed runs left nothing to finish")
		}
		b.purge(0)
		if got := b.count("transcripts WHERE created_at < $1", b.naive(b.now.Add(-14*day))); got != 0 {
			b.Errorf("%d due records left", got)
		}
		if got := b.blobs(); got != kept {
			b.Errorf("%d files left, want %d", got, kept)
		}
		b.pointersHold()
		b.figures(b.purge(0), "Purged records", 0, "Files deleted", 0, "Exports deleted", 0, "Errors", 0)
		b.young()
	})
}

// killAt runs a purge and kills it when so many files are left, or a few batches
// later: the program tells each item on a pipe that holds a page, and gets no
// further than that while it is not read. So it cannot end before a slow test
// has looked.
func (b *bed) killAt(left int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	cmd, out, _ := b.start(ctx, "purge", "--yes", "--batch", "200", "--log", "-")
	said, theirs, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer said.Close()
	if _, err := unix.FcntlInt(theirs.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = theirs
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		b.Fatal(err)
	}
	log, page := []byte{}, make([]byte, 4096)
	for b.blobs() > left {
		// Reads what there is, and looks at the disk anew: nothing tells of an unlink.
		if err := said.SetReadDeadline(time.Now().Add(200 * time.Microsecond)); err != nil {
			b.Fatal(err)
		}
		n, err := said.Read(page)
		log = append(log, page[:n]...)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			break // it ended
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if cmd.ProcessState.Exited() {
		b.Fatalf("the run ended before it was killed:\n%s%s", out, log)
	}
}

func fresh(t *testing.T, dialect string) string {
	t.Helper()
	if dialect == demo.SQLite {
		return "sqlite:" + filepath.Join(t.TempDir(), "app.db")
	}
	return testserver.Postgres(t)
}

// blobs counts the files in the blob directory.
func (b *bed) blobs() int {
	b.Helper()
	names, err := os.ReadDir(b.path("data/files"))
	if err != nil {
		b.Fatal(err)
	}
	return len(names)
}

// pointersHold says that each row names a file that is there, and each file is
// named by a row.
func (b *bed) pointersHold() {
	b.Helper()
	rows, err := b.db.QueryContext(b.Context(), "SELECT sha256 FROM audio_assets UNION SELECT sha256 FROM project_files")
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	named := map[string]bool{}
	for rows.Next() {
		var sha string
		if err := rows.Scan(&sha); err != nil {
			b.Fatal(err)
		}
		named[sha+".bin"] = true
		if !b.exists("files/" + sha + ".bin") {
			b.Errorf("a row names %s, which is not on disk", sha)
		}
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	names, err := os.ReadDir(b.path("data/files"))
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range names {
		if !named[n.Name()] && strings.HasSuffix(n.Name(), ".bin") {
			b.Errorf("no row names %s, which is on disk", n.Name())
		}
	}
}
