package recorder_test

import (
	"os"
	"strings"
	"testing"
)

// TestScript is the purge document's own test script, scripts/test_purge.py:
// create, upload, export, destroy, not found, dry run, purge, the export is
// gone, a second run finds nothing.
func TestScript(t *testing.T) {
	onBoth(t, func(b *bed) {
		// 1-3. Create a record, upload audio, export it.
		id := b.record(15*day, "an interview")
		export := b.file("export-0f3a.zip", "package", 15*day)

		// 4. Destroy: the application deletes the record and its audio, and
		// leaves the export, which no row knows of.
		if err := os.Remove(b.path("data/files/" + digest("an interview") + ".bin")); err != nil {
			b.Fatal(err)
		}
		for _, table := range []string{"transcript_segments", "transcript_audit_events", "audio_assets"} {
			b.exec("DELETE FROM "+table+" WHERE transcript_id = $1", id)
		}
		b.exec("DELETE FROM transcripts WHERE id = $1", id)

		// 5. It is not found any more.
		b.gone(id)

		// 6. The dry run shows what would go and touches nothing.
		r := b.run("purge", "--dry-run")
		if r.status != 0 {
			b.Fatalf("status of the dry run = %d, want 0", r.status)
		}
		b.figures(r, "Dry run", "true", "Retention days", 14, "Purged records", 0, "Files deleted", 0, "Exports deleted", 1, "Errors", 0)
		if _, err := os.Stat(export); err != nil {
			b.Errorf("the dry run took the export: %v", err)
		}

		// 7-8. The purge takes the export, though no record is due.
		r = b.purge(0)
		b.figures(r, "Dry run", "false", "Retention days", 14, "Purged records", 0, "Files deleted", 0, "Exports deleted", 1, "Errors", 0)
		if b.exists("export-0f3a.zip") {
			b.Error("the export is still there")
		}

		// 9. Again: nothing to do, and it says so.
		r = b.purge(0)
		b.figures(r, "Purged records", 0, "Files deleted", 0, "Exports deleted", 0, "Errors", 0)
		b.young()
	})
}

// TestWhole is the main job: records go with rows, audio and exports, and the
// young stay.
func TestWhole(t *testing.T) {
	onBoth(t, func(b *bed) {
		old := []int{b.record(15*day, "one"), b.record(30*day, "two", "three"), b.record(400 * day)}
		b.file("export-old.zip", "package", 15*day)
		b.file("export-young.zip", "package", 13*day)
		b.file("notes.zip", "not an export", 500*day)
		b.file("files/stray.bin", "named by no record", 500*day)

		r := b.run("purge", "--dry-run")
		if r.status != 0 {
			b.Fatalf("status of the dry run = %d, want 0", r.status)
		}
		b.figures(r, "Dry run", "true", "Purged records", 3, "Files deleted", 3, "Exports deleted", 1, "Errors", 0)
		for i, id := range old {
			b.whole(id, []int{1, 2, 0}[i])
		}
		b.onDisk(true, "one", "two", "three")

		r = b.purge(0)
		b.figures(r, "Dry run", "false", "Retention days", 14, "Purged records", 3, "Files deleted", 3, "Exports deleted", 1, "Errors", 0)
		for _, id := range old {
			b.gone(id)
		}
		b.onDisk(false, "one", "two", "three")
		for name, want := range map[string]bool{"export-old.zip": false, "export-young.zip": true, "notes.zip": true, "files/stray.bin": true} {
			if b.exists(name) != want {
				b.Errorf("%s on disk = %v, want %v", name, !want, want)
			}
		}
		b.young()

		r = b.purge(0)
		b.figures(r, "Purged records", 0, "Files deleted", 0, "Exports deleted", 0, "Errors", 0)
	})
}

// TestDestroyedProjects is the second retention script, by sensitivity.
func TestDestroyedProjects(t *testing.T) {
	onBoth(t, func(b *bed) {
		for range 3 {
			b.project("standard", "active", 100*day)
			b.project("sensitive", "active", 100*day)
		}
		standard := b.project("standard", "destroyed", 31*day)
		sensitive := b.project("sensitive", "destroyed", 8*day)
		b.project("standard", "destroyed", 8*day)  // stays
		b.project("sensitive", "destroyed", 6*day) // stays
		b.upload(standard, "a note")
		b.upload(sensitive, "a patient")
		// A young record of the project keeps its row; its link is set to NULL.
		id := b.record(2 * day)
		b.exec("UPDATE transcripts SET project_id = $1 WHERE id = $2", standard, id)

		b.figures(b.purge(0, "--policy", "projects.yaml"), "Projects deleted", 2, "Files deleted", 2, "Errors", 0)
		if got := b.count("projects WHERE status = 'destroyed'"); got != 2 {
			b.Errorf("%d destroyed projects left, want the 2 that are not due", got)
		}
		if got := b.count("projects WHERE status = 'active'"); got != 6 {
			b.Errorf("%d active projects, want 6", got)
		}
		if got := b.count("project_files"); got != 0 {
			b.Errorf("%d project files left, want none", got)
		}
		b.onDisk(false, "a note", "a patient")
		b.whole(id, 0)
		if got := b.count("transcripts WHERE id = $1 AND project_id IS NULL", id); got != 1 {
			b.Error("the record's link to the project is still set")
		}
	})
}

// TestCheck proves the example's policy on the example's tables.
func TestCheck(t *testing.T) {
	onBoth(t, func(b *bed) {
		for _, policy := range []string{"epitaph.yaml", "projects.yaml"} {
			if r := b.run("check", "--policy", policy); r.status != 0 {
				b.Errorf("status of check of %s = %d, want 0", policy, r.status)
			}
		}
		b.exec("ALTER TABLE transcripts RENAME COLUMN created_at TO made_at")
		r := b.run("check")
		if r.status != 2 {
			b.Errorf("status of check without the anchor = %d, want 2", r.status)
		}
		if !strings.Contains(r.out+r.err, "created_at") {
			b.Error("check does not name the missing column")
		}
	})
}
