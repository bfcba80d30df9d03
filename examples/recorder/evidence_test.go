package recorder_test

import (
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/internal/demo"
)

// P10: the log dropped every field but the message, so that it told of no
// record and no count.
func TestP10EventsCarryTheirFields(t *testing.T) {
	onBoth(t, func(b *bed) {
		id := b.record(15*day, "audio")
		b.file("export-anna-planterad.zip", "package", 16*day)

		dry := b.run("purge", "--dry-run", "--log", "-", "--request-id", "req-7f3")
		wet := b.purge(0, "--log", "-", "--request-id", "req-7f3")
		for _, tc := range []struct {
			log, event string
			want       map[string]any
		}{
			{dry.err, "purge_run_started", map[string]any{"dry_run": true}},
			{dry.err, "record_purge_candidate", map[string]any{"age_days": 15.0, "audio_files_count": 1.0, "reason": "retention_expired"}},
			{dry.err, "export_purge_candidate", map[string]any{"file_age_days": 16.0, "reason": "retention_expired"}},
			{wet.err, "purge_run_started", map[string]any{"dry_run": false}},
			{wet.err, "record_purged", map[string]any{"age_days": 15.0, "files_deleted": 1.0, "reason": "retention_expired"}},
			{wet.err, "export_orphan_purged", map[string]any{"file_age_days": 16.0, "reason": "retention_expired"}},
			{wet.err, "record_purge_complete", map[string]any{"purged_count": 1.0, "files_deleted": 1.0, "exports_deleted": 1.0, "errors": 0.0, "dry_run": false}},
		} {
			found := b.events(tc.log, tc.event)
			if len(found) != 1 {
				b.Errorf("%d events %s, want 1", len(found), tc.event)
				continue
			}
			for name, want := range tc.want {
				if got := found[0][name]; got != want {
					b.Errorf("%s: %s = %v, want %v", tc.event, name, got, want)
				}
			}
			if found[0]["run_id"] == nil || found[0]["request_id"] != "req-7f3" {
				b.Errorf("%s lacks the run's id or the request's: %v", tc.event, found[0])
			}
			if strings.HasPrefix(tc.event, "record_purge_candidate") || tc.event == "record_purged" {
				if got := found[0]["record_id"]; got != strconv.Itoa(id) {
					b.Errorf("%s: record_id = %v, want %d", tc.event, got, id)
				}
			}
		}
		for _, planted := range []string{"planterad", "Planterad", "hjärtat", "hemliga", digest("audio"), "export-", b.dir} {
			if strings.Contains(dry.err+wet.err, planted) {
				b.Errorf("the log holds %q", planted)
			}
		}
	})
}

// P10, for failures: the type of an error and never its text.
func TestP10FailuresNameTypesOnly(t *testing.T) {
	onBoth(t, func(b *bed) {
		b.record(15*day, "audio")
		b.unprivileged()
		b.chmod("data/files", 0o555)
		defer b.chmod("data/files", 0o755)
		r := b.purge(1, "--log", "-")
		failed := b.events(r.err, "record_purge_failed")
		if len(failed) != 1 {
			b.Fatalf("%d events record_purge_failed, want 1", len(failed))
		}
		if failed[0]["record_id"] == nil || (failed[0]["error_type"] == nil && failed[0]["reason"] == nil) {
			b.Errorf("record_purge_failed lacks its fields: %v", failed[0])
		}
		for _, planted := range []string{digest("audio"), b.dir, "permission denied", "planterad", "Planterad"} {
			if strings.Contains(r.err, planted) {
				b.Errorf("the log holds %q", planted)
			}
		}
	})
}

// P11: the audit trail cascaded away with the record it was about.
func TestP11TrailOutlivesTheRecord(t *testing.T) {
	onBoth(t, func(b *bed) {
		id := b.record(15*day, "audio")
		b.purge(0)
		if got := b.count("transcript_audit_events WHERE transcript_id = $1", id); got != 0 {
			b.Errorf("%d audit events of the record left, want none: they are personal data", got)
		}
		r := b.run("trail", "--json", "--items")
		if r.status != 0 {
			b.Fatalf("status of trail = %d, want 0", r.status)
		}
		for _, want := range []string{"run.started", "intent", "outcome", "run.finished", "GONE", digest("audio")} {
			if !strings.Contains(r.out, want) {
				b.Errorf("the trail does not tell of %q:\n%s", want, r.out)
			}
		}
		// At rest the ledger names neither the record's file nor its content.
		for _, name := range []string{"epitaph.db", "epitaph.db-wal"} {
			raw, err := os.ReadFile(b.path(name))
			if err != nil && !os.IsNotExist(err) {
				b.Fatal(err)
			}
			if strings.Contains(string(raw), "planterad") || strings.Contains(string(raw), "hjärtat") {
				b.Errorf("%s holds what was in the record", name)
			}
		}
	})
}

// P12: "secure delete" truncated the file before it overwrote it, and its
// fsync always failed, unseen. Epitaph unlinks, looks, and claims no more.
func TestP12NoPretendedOverwrite(t *testing.T) {
	onBoth(t, func(b *bed) {
		b.record(15*day, "audio")
		// An open handle outlives the name, and shows that the content was not
		// written over.
		held, err := os.Open(b.path("data/files/" + digest("audio") + ".bin"))
		if err != nil {
			b.Fatal(err)
		}
		defer held.Close()
		r := b.purge(0)
		b.figures(r, "Files deleted", 1)
		b.onDisk(false, "audio")
		if got, err := io.ReadAll(held); err != nil || string(got) != "ciphertext of audio" {
			b.Errorf("the content after the purge = %q (%v), want it unharmed", got, err)
		}
		for _, claim := range []string{"overwr", "shred", "secure"} {
			if strings.Contains(strings.ToLower(r.out+r.err), claim) {
				b.Errorf("the output claims %q", claim)
			}
		}
	})
}

// P13: a dry run set in the environment could not be switched off by a flag.
func TestP13FlagWinsOverEnvironment(t *testing.T) {
	onBoth(t, func(b *bed) {
		b.env["RECORDER_PURGE_DRY_RUN"] = "true"
		id := b.record(15*day, "audio")
		r := b.purge(0)
		b.figures(r, "Dry run", "true", "Purged records", 1)
		b.whole(id, 1)
		b.onDisk(true, "audio")

		r = b.purge(0, "--dry-run=false")
		b.figures(r, "Dry run", "false", "Purged records", 1)
		b.gone(id)
		b.onDisk(false, "audio")

		b.env["RECORDER_PURGE_DRY_RUN"] = "perhaps"
		id = b.record(15*day, "more audio")
		if r := b.run("purge", "--yes"); r.status != 2 || !strings.Contains(r.err, "dry_run") {
			b.Errorf("status = %d with RECORDER_PURGE_DRY_RUN=perhaps, want 2 and a word on dry_run", r.status)
		}
		b.whole(id, 1)
	})
}

// P13, the other half: SQLite enforces no foreign keys unless asked, so that
// the children of a record stayed behind.
func TestP13ChildrenGoOnSQLite(t *testing.T) {
	t.Parallel()
	b := newBed(t, demo.SQLite, fresh(t, demo.SQLite))
	id := b.record(15*day, "audio")
	b.purge(0)
	b.gone(id)
	for _, table := range []string{"transcript_segments", "transcript_audit_events", "audio_assets"} {
		if got := b.count(table + " WHERE transcript_id NOT IN (SELECT id FROM transcripts)"); got != 0 {
			b.Errorf("%s: %d rows without a record", table, got)
		}
	}
	// And what was deleted is not left in the file.
	b.db.Close()
	for _, suffix := range []string{"", "-wal"} {
		raw, err := os.ReadFile(b.sqlitePath() + suffix)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), digest("audio")) {
			t.Errorf("app.db%s still holds the deleted row's text", suffix)
		}
	}
}

// P14: the second retention script died on its first log line, and its audit
// hung on a project with id 1.
func TestP14DestroyedProjectsGoAndAreLogged(t *testing.T) {
	onBoth(t, func(b *bed) {
		for range 4 {
			b.project("standard", "active", 100*day)
		}
		id := b.project("standard", "destroyed", 31*day)
		b.upload(id, "an upload")
		b.exec("DELETE FROM projects WHERE id = 1") // no project need exist for the record of what was done
		r := b.purge(0, "--policy", "projects.yaml", "--log", "-")
		if got := b.count("projects WHERE id = $1", id); got != 0 {
			b.Error("the destroyed project is still there")
		}
		b.onDisk(false, "an upload")
		complete := b.events(r.err, "record_purge_complete")
		if len(complete) == 0 {
			b.Error("no event says that the run is complete")
		}
		trail := b.run("trail", "--policy", "projects.yaml", "--json", "--rule", "destroyed-projects")
		var told struct{ Entries []struct{ Action string } }
		if err := json.Unmarshal([]byte(trail.out), &told); err != nil {
			b.Fatal(err)
		}
		found := false
		for _, e := range told.Entries {
			found = found || e.Action == "outcome"
		}
		if trail.status != 0 || !found {
			b.Errorf("the ledger has no outcome of the rule (status %d):\n%s", trail.status, trail.out)
		}
	})
}
