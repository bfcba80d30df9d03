package reflector_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The five tests of Reflector's own clean-up, as tests of what lies in the
// database, on disk and in the buckets afterwards.

func TestCleanupSkipsWhenNotPublic(t *testing.T) {
	b := newBed(t)
	old := b.transcript(transcript{age: 8 * day, files: true})
	for _, mode := range []string{"", "false", "unset"} {
		want := "variable PUBLIC_MODE"
		switch mode {
		case "unset":
			delete(b.env, "PUBLIC_MODE")
		case "":
			continue // an empty switch is an error, below
		default:
			b.env["PUBLIC_MODE"] = mode
		}
		r := b.purge(0)
		if strings.Count(r.out, "; nothing was done") != 2 || !strings.Contains(r.out, want) {
			b.Errorf("PUBLIC_MODE %s: the run does not say why nothing happened:\n%s", mode, r.out)
		}
		b.figures(r, "Transcripts deleted", 0, "Errors", 0)
		b.left(1, "transcript", old)
		b.onDisk(true, old)
	}
	b.env["PUBLIC_MODE"] = ""
	if r := b.run("purge", "--yes"); r.status != 2 || !strings.Contains(r.err, "PUBLIC_MODE") {
		b.Errorf("an empty PUBLIC_MODE: status %d, want 2 with its name", r.status)
	}
	b.left(1, "transcript", old)
	b.young()
}

func TestCleanupDeletesOldAnonymousTranscripts(t *testing.T) {
	b := newBed(t)
	old := b.transcript(transcript{age: 8 * day, files: true, stored: true})
	recent := b.transcript(transcript{age: 2 * day, files: true, stored: true})
	owned := b.transcript(transcript{age: 8 * day, files: true, stored: true, user: "someone"})

	r := b.purge(0)
	b.figures(r, "Retention days", 7, "Transcripts deleted", 1, "Files deleted", 1, "Objects deleted", 1, "Errors", 0)
	b.left(0, "transcript", old)
	b.onDisk(false, old)
	b.inBucket(false, b.media, old+"/audio.mp3")
	b.left(1, "transcript", recent, owned)
	b.onDisk(true, recent, owned)
	b.inBucket(true, b.media, recent+"/audio.mp3", owned+"/audio.mp3")
	b.young()
	b.secret(r)

	// Again: nothing to do.
	b.figures(b.purge(0), "Transcripts deleted", 0, "Files deleted", 0, "Objects deleted", 0, "Errors", 0)
}

func TestCleanupDeletesAssociatedMeetingAndRecording(t *testing.T) {
	b := newBed(t)
	m := b.meeting("video/composed.mp4")
	rec := b.recording(8*day, m, "rec/one.mp4", []string{"rec/track 1.webm", "rec/track+2.webm"})
	old := b.transcript(transcript{age: 8 * day, files: true, stored: true, meeting: m, recording: rec})

	r := b.purge(0)
	b.figures(r, "Transcripts deleted", 1, "Recordings deleted", 1, "Meetings deleted", 1, "Orphaned recordings deleted", 0,
		"Files deleted", 1, "Objects deleted", 5, "Errors", 0)
	rows := "public.daily_participant_session 1, public.meeting 1, public.meeting_consent 2, public.recording 1, public.transcript 1"
	b.figures(r, "Rows", rows)
	b.left(0, "transcript", old)
	b.left(0, "recording", rec)
	b.meetingRows(m, false)
	b.onDisk(false, old)
	b.inBucket(false, b.media, old+"/audio.mp3")
	b.inBucket(false, b.platform, "rec/one.mp4", "rec/track 1.webm", "rec/track+2.webm", "video/composed.mp4")
	b.young()
	b.secret(r, "rec/", "video/", b.platform.Name)
}

// One that fails does not stop the others, is counted and named, and its record
// stays whole but for what was erased already.
func TestCleanupHandlesErrorsGracefully(t *testing.T) {
	b := newBed(t)
	bad := b.transcript(transcript{age: 9 * day, files: true, stored: true})
	good := b.transcript(transcript{age: 8 * day, files: true, stored: true})
	b.deny(bad + "/audio.mp3")

	r := b.purge(1, "--log", "-")
	b.figures(r, "Transcripts deleted", 1, "Errors", 1, "Objects deleted", 1)
	b.left(0, "transcript", good)
	b.onDisk(false, good)
	b.left(1, "transcript", bad)
	b.inBucket(true, b.media, bad+"/audio.mp3")
	failed := b.events(r.err, "item_purge_failed")
	if len(failed) != 1 || failed[0]["item_id"] != bad || failed[0]["reason"] != "NO_PERMISSION" {
		b.Errorf("the failures in the log are %v, want one of %s", failed, bad)
	}
	if !strings.Contains(b.line(r, "Failed"), bad) {
		b.Errorf("the summary does not name what failed:\n%s", r.out)
	}
	b.secret(r)
	b.young()

	b.spoil.Store(nil)
	b.figures(b.purge(0), "Transcripts deleted", 1, "Errors", 0)
	b.left(0, "transcript", bad)
	b.onDisk(false, bad)
	b.inBucket(false, b.media, bad+"/audio.mp3")
}

// Where the look is denied, a plan says that nothing is known, as the purge does:
// it said that the record is kept.
func TestCleanupPlanOfWhatCannotBeLookedAt(t *testing.T) {
	b := newBed(t)
	rec := b.recording(8*day, "", "rec/denied.mp4", nil)
	hidden := b.transcript(transcript{age: 9 * day, recording: rec})
	b.transcript(transcript{age: 8 * day, stored: true})
	held := b.transcript(transcript{age: 8 * day, status: "processing"})
	b.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/"+b.platform.Name) {
			return false
		}
		answer(w, http.StatusForbidden, `<Error><Code>AccessDenied</Code><Message>no</Message></Error>`)
		return true
	})
	r := b.run("plan")
	b.figures(r, "To go", "1 transcript, 55 B", "Kept", "1 (IN_USE 1)", "Unknown", "1 (NO_PERMISSION 1)")
	if r.status != 1 {
		t.Errorf("status of plan = %d, want 1", r.status)
	}
	var got struct {
		Rules []struct {
			Rule           string
			Kept           map[string]int
			Unknown        int
			UnknownReasons map[string]int `json:"unknown_reasons"`
		}
	}
	r = b.run("plan", "--json")
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	if one := got.Rules[0]; one.Unknown != 1 || one.UnknownReasons["NO_PERMISSION"] != 1 || one.Kept["NO_PERMISSION"] != 0 || one.Kept["IN_USE"] != 1 || r.status != 1 {
		t.Errorf("status %d, %+v; want one kept and one unknown", r.status, one)
	}
	b.figures(b.purge(1), "Transcripts deleted", 1, "Kept", "1", "Unknown", "1", "Errors", "1")
	b.left(1, "transcript", hidden, held)
}

func TestCleanupMeetingConsentCascade(t *testing.T) {
	b := newBed(t)
	m := b.meeting("")
	b.transcript(transcript{age: 8 * day, meeting: m})
	b.figures(b.purge(0), "Transcripts deleted", 1, "Rows",
		"public.daily_participant_session 1, public.meeting 1, public.meeting_consent 2, public.transcript 1")
	b.meetingRows(m, false)
}

// Recordings that no transcript names go too, with objects and meeting.
func TestCleanupOrphanedRecordings(t *testing.T) {
	b := newBed(t)
	m, live := b.meeting("video/orphan.mp4"), b.meeting("video/live.mp4")
	orphan := b.recording(8*day, m, "rec/orphan.mp4", []string{"rec/orphan-1.webm"})
	beside := b.recording(8*day, live, "rec/beside.mp4", nil) // of a meeting that a transcript names
	young := b.recording(2*day, "", "rec/young.mp4", nil)
	named := b.recording(8*day, live, "rec/named.mp4", nil)
	b.transcript(transcript{age: 2 * day, meeting: live, recording: named})

	r := b.purge(0)
	b.figures(r, "Transcripts deleted", 0, "Recordings deleted", 0, "Meetings deleted", 1, "Orphaned recordings deleted", 2, "Objects deleted", 4, "Errors", 0)
	b.left(0, "recording", orphan, beside)
	b.left(1, "recording", young, named)
	b.meetingRows(m, false)
	b.meetingRows(live, true)
	b.inBucket(false, b.platform, "rec/orphan.mp4", "rec/orphan-1.webm", "video/orphan.mp4", "rec/beside.mp4")
	b.inBucket(true, b.platform, "rec/young.mp4", "rec/named.mp4", "video/live.mp4")
	b.young()
}

// The command's --days, and the variable.
func TestCleanupDays(t *testing.T) {
	b := newBed(t)
	thirty, ten := b.transcript(transcript{age: 31 * day}), b.transcript(transcript{age: 10 * day})
	b.figures(b.purge(0, "--retain", "30d"), "Retention days", 30, "Transcripts deleted", 1)
	b.left(0, "transcript", thirty)
	b.left(1, "transcript", ten)
	b.env["PUBLIC_DATA_RETENTION_DAYS"] = "9"
	b.figures(b.purge(0), "Retention days", 9, "Transcripts deleted", 1)
	b.left(0, "transcript", ten)
	b.young()
}

// The statistics of the document, per kind, as lines and as JSON; what would go
// along is not counted by a run that only looks.
func TestCleanupStatistics(t *testing.T) {
	b := newBed(t)
	shared, own := b.meeting("video/shared.mp4"), b.meeting("")
	for i, m := range []string{shared, shared, own} {
		rec := b.recording(8*day, m, fmt.Sprintf("rec/%d.mp4", i), []string{fmt.Sprintf("rec/%d-1.webm", i)})
		b.transcript(transcript{age: 8 * day, files: true, stored: i == 0, meeting: m, recording: rec})
	}
	b.transcript(transcript{age: 8 * day, files: true})
	b.recording(8*day, "", "rec/orphan.mp4", nil)
	bad := b.transcript(transcript{age: 8 * day, stored: true})
	b.deny(bad + "/audio.mp3")

	dry := b.purge(0, "--dry-run")
	b.figures(dry, "Transcripts deleted", 5, "Orphaned recordings deleted", 1, "Files deleted", 4)
	if strings.Contains(dry.out, "Meetings deleted") || strings.Contains(dry.out, "  Recordings deleted") {
		b.Errorf("a dry run counts rows that it did not look for:\n%s", dry.out)
	}
	r := b.purge(1, "--json")
	var got struct {
		Deleted map[string]int64 `json:"deleted"`
		Errors  int64            `json:"errors"`
		Rules   []struct {
			Failures []struct {
				Item, Reason string
				ErrorType    string `json:"error_type"`
			} `json:"failures"`
		} `json:"rules"`
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		b.Fatal(err)
	}
	want := map[string]int64{"record": 0, "export": 0, "transcript": 4, "recording": 3, "meeting": 2, "orphaned_recording": 1, "file": 4, "object": 9}
	for kind, n := range want {
		if have, there := got.Deleted[kind]; !there || have != n {
			b.Errorf("deleted %s: %d (%v), want %d", kind, have, there, n)
		}
	}
	if got.Errors != 1 || len(got.Rules) == 0 || len(got.Rules[0].Failures) != 1 || got.Rules[0].Failures[0].Item != bad || got.Rules[0].Failures[0].Reason != "NO_PERMISSION" {
		b.Errorf("%d errors, %+v; want one, of %s", got.Errors, got.Rules, bad)
	}
	b.secret(r, "rec/", "video/")
	b.spoil.Store(nil)
	b.figures(b.purge(0), "Transcripts deleted", 1, "Recordings deleted", 0, "Meetings deleted", 0, "Orphaned recordings deleted", 0, "Errors", 0)
}
