package reflector_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/testserver"
)

// The defects of Reflector's own retention, R1 to R12, each as a test of what
// lies in the database, on disk and in the buckets afterwards.

// R1: retention became a soft delete that hid rows and left text and audio for
// ever; rows that were hidden already were never taken.
func TestR1SoftDeletedGoForGood(t *testing.T) {
	b := newBed(t)
	rec := b.recording(8*day, "", "rec/soft.mp4", []string{"rec/soft-1.webm"})
	hidden := b.transcript(transcript{age: 8 * day, files: true, stored: true, recording: rec, deleted: b.now.Format(time.RFC3339)})
	owned := b.transcript(transcript{age: 8 * day, files: true, user: "someone", deleted: b.now.Format(time.RFC3339)})
	b.exec(`UPDATE recording SET deleted_at = now() WHERE id = $1`, rec)

	b.figures(b.purge(0), "Transcripts deleted", 1, "Files deleted", 1, "Objects deleted", 3, "Errors", 0)
	b.left(0, "transcript", hidden)
	b.left(0, "recording", rec)
	b.onDisk(false, hidden)
	b.inBucket(false, b.media, hidden+"/audio.mp3")
	b.inBucket(false, b.platform, "rec/soft.mp4", "rec/soft-1.webm")
	b.left(1, "transcript", owned)
	b.onDisk(true, owned)
	b.young()
}

// R2 and R3: the manual tool could not be imported, and the scheduled task died
// in its event loop. Here both are the same built program.
func TestR2R3ProgramRuns(t *testing.T) {
	b := newBed(t)
	old := b.transcript(transcript{age: 8 * day, files: true})
	if r := b.run("check"); r.status != 0 {
		t.Fatalf("status of check = %d", r.status)
	}
	if r := b.run("plan"); r.status != 0 || strings.Contains(r.out, "Planted") {
		t.Fatalf("status of plan = %d", r.status)
	}
	b.figures(b.run("purge", "--dry-run"), "Dry run", "true", "Transcripts deleted", 1, "Files deleted", 1)
	b.left(1, "transcript", old)
	b.onDisk(true, old)
	b.figures(b.purge(0, "--quiet"), "Dry run", "false", "Transcripts deleted", 1)
	b.left(0, "transcript", old)
}

// R4: files were deleted inside the transaction, so that a commit that failed
// left rows without files.
func TestR4RefusedRowKeepsItsFiles(t *testing.T) {
	for name, statements := range map[string][]string{
		"at the delete": {`CREATE TRIGGER refuse BEFORE DELETE ON transcript FOR EACH ROW EXECUTE FUNCTION refuse()`},
		"at the commit": {`CREATE CONSTRAINT TRIGGER refuse AFTER DELETE ON transcript DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN IF OLD.status = 'error' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN OLD; END $$`)
			for _, s := range statements {
				b.exec(s)
			}
			m := b.meeting("video/refused.mp4")
			refused := b.transcript(transcript{age: 8 * day, files: true, stored: true, status: "error", meeting: m})
			free := b.transcript(transcript{age: 8 * day, files: true})

			b.figures(b.purge(1), "Transcripts deleted", 1, "Files deleted", 1, "Objects deleted", 0, "Errors", 1)
			b.left(1, "transcript", refused)
			b.onDisk(true, refused)
			b.inBucket(true, b.media, refused+"/audio.mp3")
			b.inBucket(true, b.platform, "video/refused.mp4")
			b.meetingRows(m, true)
			b.left(0, "transcript", free)
			b.onDisk(false, free)
		})
	}
}

// R5: when S3 failed, the row went all the same, uncounted, and with it the
// only pointer to the object.
func TestR5StorageFailureKeepsTheRow(t *testing.T) {
	fail := map[string]func(b *bed, key string){
		"one key is denied": func(b *bed, key string) { b.deny(key) },
		"every delete fails": func(b *bed, _ string) {
			b.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodDelete || r.Method == http.MethodPost {
					answer(w, http.StatusInternalServerError, `<Error><Code>InternalError</Code><Message>down</Message></Error>`)
					return true
				}
				return false
			})
		},
		"the store is gone": func(b *bed, _ string) { b.env["S3_ENDPOINT"] = "http://127.0.0.1:1" },
		"the keys expired":  func(b *bed, _ string) { b.env["AWS_SECRET_ACCESS_KEY"] = "of last year" },
	}
	for name, fail := range fail {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			rec := b.recording(8*day, "", "rec/stuck.mp4", nil)
			stuck := b.transcript(transcript{age: 8 * day, files: true, recording: rec})
			free := b.transcript(transcript{age: 8 * day, files: true})
			good := b.env["S3_ENDPOINT"]
			secret := b.env["AWS_SECRET_ACCESS_KEY"]
			fail(b, "rec/stuck.mp4")

			r := b.purge(1)
			b.figures(r, "Transcripts deleted", 1, "Objects deleted", 0, "Errors", 1)
			b.left(1, "transcript", stuck)
			b.left(1, "recording", rec)
			b.inBucket(true, b.platform, "rec/stuck.mp4")
			b.left(0, "transcript", free)
			if !strings.Contains(b.line(r, "Failed"), stuck) {
				b.Errorf("the summary does not name the transcript that stays")
			}
			b.secret(r, "rec/stuck")

			b.spoil.Store(nil)
			b.env["S3_ENDPOINT"], b.env["AWS_SECRET_ACCESS_KEY"] = good, secret
			b.figures(b.purge(0), "Transcripts deleted", 1, "Objects deleted", 1, "Errors", 0)
			b.left(0, "transcript", stuck)
			b.left(0, "recording", rec)
			b.onDisk(false, stuck)
			b.inBucket(false, b.platform, "rec/stuck.mp4")
			b.young()
		})
	}
}

// R6: the tracks of each speaker and the composed video stayed for ever.
func TestR6TracksAndVideoGo(t *testing.T) {
	b := newBed(t)
	m := b.meeting("video/r6.mp4")
	tracks := []string{"daily/r6/anna-1.webm", "daily/r6/ärlig ö.webm", "daily/r6?x=1&y +%2F.webm"}
	rec := b.recording(8*day, m, "daily/r6.mp4", tracks)
	b.transcript(transcript{age: 8 * day, meeting: m, recording: rec})
	b.put(b.platform, "daily/r6/anna-1.webm.bak") // begins like one, and is another

	b.figures(b.purge(0), "Transcripts deleted", 1, "Objects deleted", 5, "Errors", 0)
	b.inBucket(false, b.platform, append(tracks, "daily/r6.mp4", "video/r6.mp4")...)
	b.inBucket(true, b.platform, "daily/r6/anna-1.webm.bak")
}

// R7: the folder of the default bucket was put before keys of the other one, so
// that a key was deleted that nobody had, and S3 said 204.
func TestR7KeysAreUsedAsStored(t *testing.T) {
	b := newBed(t)
	rec := b.recording(8*day, "", "same/key.mp4", nil)
	old := b.transcript(transcript{age: 8 * day, recording: rec})
	b.put(b.media, "same/key.mp4") // the same key in the other bucket
	lost := b.recording(8*day, "", "", nil)
	b.exec(`UPDATE recording SET object_key = 'never/there.mp4' WHERE id = $1`, lost)
	b.transcript(transcript{age: 8 * day, recording: lost})

	r := b.purge(0)
	b.figures(r, "Transcripts deleted", 2, "Objects deleted", 1, "Errors", 0) // what was not there was not deleted
	if !strings.Contains(b.line(r, "Parts"), "1 gone, 0 shared") {
		b.Errorf("parts: %s", b.line(r, "Parts"))
	}
	b.inBucket(false, b.platform, "same/key.mp4")
	b.inBucket(true, b.media, "same/key.mp4")
	b.left(0, "transcript", old)

	// A bucket that nobody declared is not touched, and its record stays.
	other := testserver.S3(b.T, testserver.S3Options{})
	b.put(other, "rec/elsewhere.mp4")
	odd := b.recording(8*day, "", "", nil)
	b.exec(`UPDATE recording SET bucket_name = $1, object_key = 'rec/elsewhere.mp4' WHERE id = $2`, other.Name, odd)
	stays := b.transcript(transcript{age: 8 * day, recording: odd})
	r = b.purge(1)
	b.figures(r, "Transcripts deleted", 0, "Errors", 1)
	if !strings.Contains(b.line(r, "Failed"), stays+": INVALID") {
		b.Errorf("failed: %s", b.line(r, "Failed"))
	}
	b.left(1, "transcript", stays)
	b.left(1, "recording", odd)
	b.inBucket(true, other, "rec/elsewhere.mp4")
	b.secret(r, other.Name)
}

// R8: in a bucket with versions a delete marker was all that was made.
func TestR8AllVersionsGo(t *testing.T) {
	b := newBedOn(t, testserver.S3Options{Versioning: "Enabled"})
	rec := b.recording(8*day, "", "rec/v.mp4", []string{"rec/v-1.webm"})
	old := b.transcript(transcript{age: 8 * day, stored: true, recording: rec})
	b.put(b.platform, "rec/v.mp4")
	b.put(b.platform, "rec/v.mp4")
	if n := b.traces(b.platform, "rec/v.mp4"); n != 3 {
		t.Fatalf("%d versions, want 3", n)
	}
	b.figures(b.purge(0), "Transcripts deleted", 1, "Objects deleted", 3, "Errors", 0)
	b.inBucket(false, b.platform, "rec/v.mp4", "rec/v-1.webm")
	b.inBucket(false, b.media, old+"/audio.mp3")
}

// R9: a meeting or recording that somebody else's transcript needs was deleted,
// with the evidence of consent.
func TestR9WhatOthersNeedStays(t *testing.T) {
	b := newBed(t)
	m := b.meeting("video/shared.mp4")
	rec := b.recording(8*day, m, "rec/shared.mp4", []string{"rec/shared-1.webm"})
	old := b.transcript(transcript{age: 8 * day, files: true, stored: true, meeting: m, recording: rec})
	theirs := b.transcript(transcript{age: 8 * day, files: true, user: "someone", meeting: m, recording: rec})

	// A meeting that no transcript names any more, but a recording that stays.
	m2 := b.meeting("video/by-recording.mp4")
	rec2 := b.recording(8*day, m2, "rec/kept.mp4", nil)
	alone := b.transcript(transcript{age: 8 * day, meeting: m2})
	owner := b.transcript(transcript{age: 8 * day, user: "someone", recording: rec2})

	r := b.purge(0)
	b.figures(r, "Transcripts deleted", 2, "Files deleted", 1, "Objects deleted", 1, "Errors", 0)
	if !strings.Contains(b.line(r, "Parts"), "4 shared") {
		b.Errorf("parts: %s, want 4 shared", b.line(r, "Parts"))
	}
	b.left(0, "transcript", old, alone)
	b.left(1, "transcript", theirs, owner)
	b.left(1, "recording", rec, rec2)
	b.meetingRows(m, true)
	b.meetingRows(m2, true)
	b.inBucket(true, b.platform, "rec/shared.mp4", "rec/shared-1.webm", "video/shared.mp4", "rec/kept.mp4", "video/by-recording.mp4")

	// When the last that needs them goes, they go too.
	b.exec(`UPDATE transcript SET user_id = NULL WHERE id IN ($1, $2)`, theirs, owner)
	b.figures(b.purge(0), "Transcripts deleted", 2, "Errors", 0)
	b.left(0, "recording", rec, rec2)
	b.meetingRows(m, false)
	b.inBucket(false, b.platform, "rec/shared.mp4", "rec/shared-1.webm", "video/shared.mp4", "rec/kept.mp4")
}

// Two due transcripts that share a recording and a meeting take them along,
// also when they come in different batches.
func TestR9SharedByTwoThatAreDue(t *testing.T) {
	for _, batch := range []int{1, 1000} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			b := newBed(t)
			m := b.meeting("video/two.mp4")
			rec := b.recording(8*day, m, "rec/two.mp4", []string{"rec/two-1.webm"})
			one := b.transcript(transcript{age: 8 * day, meeting: m, recording: rec})
			two := b.transcript(transcript{age: 9 * day, meeting: m, recording: rec})
			b.figures(b.purge(0, "--batch", fmt.Sprint(batch)), "Transcripts deleted", 2, "Objects deleted", 3, "Errors", 0)
			b.left(0, "transcript", one, two)
			b.left(0, "recording", rec)
			b.meetingRows(m, false)
			b.inBucket(false, b.platform, "rec/two.mp4", "rec/two-1.webm", "video/two.mp4")
		})
	}
}

// R10: counters rose before the commit, and errors carried the driver's text,
// object keys among it.
func TestR10CountsAndLogs(t *testing.T) {
	b := newBed(t)
	rec := b.recording(8*day, "", "rec/Anna Planted 1980-01-01.mp4", nil)
	stuck := b.transcript(transcript{age: 8 * day, recording: rec})
	b.transcript(transcript{age: 8 * day, files: true})
	b.deny("rec/Anna Planted 1980-01-01.mp4")
	r := b.purge(1, "--log", "-")
	b.figures(r, "Transcripts deleted", 1, "Errors", 1)
	b.secret(r, "1980-01-01", "rec/", b.platform.Name, b.media.Name)
	gone, failed := b.events(r.err, "item_purged"), b.events(r.err, "item_purge_failed")
	if len(gone) != 1 || len(failed) != 1 || failed[0]["item_id"] != stuck || failed[0]["error_type"] == nil {
		b.Errorf("%d gone and %v failed in the log, want one each, the second %s with its type", len(gone), failed, stuck)
	}
	trail := b.run("trail", "--json")
	b.secret(trail, "1980-01-01", "rec/")
	if trail.status != 0 || !strings.Contains(trail.out, "outcome") {
		b.Error("the trail does not say what was done")
	}
}

// R11: zero and negative days took everything that was anonymous; rows at work
// were taken; rows without a date were never heard of.
func TestR11PeriodsAndStates(t *testing.T) {
	b := newBed(t)
	old := b.transcript(transcript{age: 8 * day, files: true})
	for _, days := range []string{"0", "-1", "", "1.5", "seven"} {
		b.env["PUBLIC_DATA_RETENTION_DAYS"] = days
		if r := b.run("purge", "--yes"); r.status != 2 || r.out != "" || !strings.Contains(r.err, "PUBLIC_DATA_RETENTION_DAYS") {
			b.Errorf("PUBLIC_DATA_RETENTION_DAYS=%q: status %d, want 2 with its name", days, r.status)
		}
		if r := b.run("purge", "--yes", "--retain="+days+"d"); r.status != 2 || r.out != "" {
			b.Errorf("--retain %sd: status %d, want 2", days, r.status)
		}
	}
	delete(b.env, "PUBLIC_DATA_RETENTION_DAYS")
	b.left(1, "transcript", old)
	b.young()

	busy := []string{b.transcript(transcript{age: 8 * day, files: true, status: "recording"}),
		b.transcript(transcript{age: 80 * day, files: true, status: "processing"})}
	undated := b.transcript(transcript{undated: true, files: true})
	r := b.purge(0)
	b.figures(r, "Transcripts deleted", 1, "Kept", "2", "Undated", 1, "Errors", 0)
	if !strings.Contains(r.out, "IN_USE 2") {
		b.Errorf("the summary does not say why two stay:\n%s", r.out)
	}
	b.left(0, "transcript", old)
	b.left(1, "transcript", append(busy, undated)...)
	b.onDisk(true, append(busy, undated)...)

	b.exec(`UPDATE transcript SET status = 'ended'`)
	b.figures(b.purge(0), "Transcripts deleted", 2)
	b.left(0, "transcript", busy...)
}

// R12: the document promises that orphaned recordings go, and the code dropped
// it (see TestCleanupOrphanedRecordings); and consumers of change_seq never
// learned of deletions. The ledger tells each by its id.
func TestR12TheTrailTellsOfDeletions(t *testing.T) {
	b := newBed(t)
	orphan := b.recording(8*day, "", "rec/r12.mp4", nil)
	old := b.transcript(transcript{age: 8 * day})
	b.purge(0)
	b.left(0, "recording", orphan)
	for _, id := range []string{old, orphan} {
		if r := b.run("trail", "--item", id, "--json"); r.status != 0 || !strings.Contains(r.out, "GONE") {
			b.Errorf("the trail does not tell that %s is gone: %d\n%s", id, r.status, r.out)
		}
	}
}

// Files that cannot be deleted keep the row too: a directory in the way of the
// policy's root is looked at as it is.
func TestR4MissingRootStopsTheRun(t *testing.T) {
	b := newBed(t)
	old := b.transcript(transcript{age: 8 * day, files: true})
	if err := os.Rename(b.path("data"), b.path("elsewhere")); err != nil {
		t.Fatal(err)
	}
	b.purge(3)
	b.left(1, "transcript", old)
	if err := os.Rename(b.path("elsewhere"), b.path("data")); err != nil {
		t.Fatal(err)
	}
	b.figures(b.purge(0), "Transcripts deleted", 1, "Files deleted", 1)
	b.onDisk(false, old)
}

// What was an orphan in the plan, or needed by nobody, may be needed when its
// turn comes: it is looked at again under the lock.
func TestR9NamedSinceThePlan(t *testing.T) {
	b := newBed(t)
	m := b.meeting("video/since.mp4")
	adopted := b.recording(8*day, "", "rec/adopted.mp4", nil)
	rec := b.recording(8*day, m, "rec/since.mp4", nil)
	old := b.transcript(transcript{age: 8 * day, meeting: m, recording: rec})
	if r := b.run("plan", "--out", "tonight.plan"); r.status != 0 {
		t.Fatalf("status of plan = %d", r.status)
	}
	b.transcript(transcript{user: "someone", recording: adopted})
	b.transcript(transcript{user: "someone", meeting: m})

	r := b.purge(0, "--plan", "tonight.plan")
	b.figures(r, "Transcripts deleted", 1, "Orphaned recordings deleted", 0, "Objects deleted", 1, "Errors", 0)
	b.left(0, "transcript", old)
	b.left(0, "recording", rec)
	b.left(1, "recording", adopted)
	b.meetingRows(m, true)
	b.inBucket(false, b.platform, "rec/since.mp4")
	b.inBucket(true, b.platform, "rec/adopted.mp4", "video/since.mp4")
}

// A run that is killed between the objects and the row is finished by the next:
// nothing is counted twice, and no row is left without its objects.
func TestR4KilledRunIsFinished(t *testing.T) {
	b := newBed(t)
	var ids []string
	for i := range 5 {
		rec := b.recording(8*day, "", fmt.Sprintf("rec/killed-%d.mp4", i), []string{fmt.Sprintf("rec/killed-%d-1.webm", i)})
		ids = append(ids, b.transcript(transcript{age: 8 * day, files: true, stored: true, recording: rec}))
	}
	b.killAfterDeletes(7)
	left := b.count("transcript WHERE created_at < now() - interval '7 days'")
	objects := 0
	for i, id := range ids {
		for _, k := range []string{fmt.Sprintf("rec/killed-%d.mp4", i), fmt.Sprintf("rec/killed-%d-1.webm", i)} {
			objects += min(1, b.traces(b.platform, k))
		}
		objects += min(1, b.traces(b.media, id+"/audio.mp3"))
	}
	if left != 5 || objects == 15 || objects == 0 {
		t.Fatalf("after the kill %d transcripts and %d objects of 15 are left; the kill did not come between", left, objects)
	}

	r := b.purge(0)
	b.figures(r, "Transcripts deleted", 5, "Objects deleted", 15, "Finished from an earlier run", 5, "Errors", 0)
	b.left(0, "transcript", ids...)
	b.onDisk(false, ids...)
	for i, id := range ids {
		b.inBucket(false, b.platform, fmt.Sprintf("rec/killed-%d.mp4", i), fmt.Sprintf("rec/killed-%d-1.webm", i))
		b.inBucket(false, b.media, id+"/audio.mp3")
	}
	b.young()
}
