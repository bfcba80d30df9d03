package reflector_test

import (
	"fmt"
	"testing"
	"time"
)

// Reflector's tests of destroying and of consent, as far as they concern what
// goes with a transcript. Two of them are about answers of its API alone
// (only what is soft-deleted may be destroyed; a list shows only deleted ones).

func TestDestroyAfterSoftDelete(t *testing.T) {
	b := newBed(t)
	id := b.transcript(transcript{age: 8 * day, files: true, deleted: b.now.Format(time.RFC3339)})
	b.figures(b.purge(0), "Transcripts deleted", 1, "Files deleted", 1)
	b.left(0, "transcript", id)
	b.onDisk(false, id)
}

func TestDestroyTakesItsRecording(t *testing.T) {
	b := newBed(t)
	rec := b.recording(time.Hour, "", "rec/its.mp4", nil) // its own age does not matter
	b.transcript(transcript{age: 8 * day, recording: rec})
	b.figures(b.purge(0), "Transcripts deleted", 1, "Objects deleted", 1, "Rows", "public.recording 1, public.transcript 1")
	b.left(0, "recording", rec)
	b.inBucket(false, b.platform, "rec/its.mp4")
	b.young()
}

func TestDestroyLeavesOthersAlone(t *testing.T) {
	b := newBed(t)
	m := b.meeting("video/theirs.mp4")
	rec := b.recording(80*day, m, "rec/theirs.mp4", nil)
	theirs := b.transcript(transcript{age: 80 * day, files: true, stored: true, user: "someone", meeting: m, recording: rec})
	b.figures(b.purge(0), "Transcripts deleted", 0, "Orphaned recordings deleted", 0, "Objects deleted", 0)
	b.left(1, "transcript", theirs)
	b.left(1, "recording", rec)
	b.meetingRows(m, true)
	b.onDisk(true, theirs)
	b.inBucket(true, b.media, theirs+"/audio.mp3")
	b.inBucket(true, b.platform, "rec/theirs.mp4", "video/theirs.mp4")
	b.young()
}

func TestDestroyOneOfTwoInAMeetingKeepsIt(t *testing.T) {
	b := newBed(t)
	m := b.meeting("video/both.mp4")
	old := b.transcript(transcript{age: 8 * day, files: true, meeting: m})
	recent := b.transcript(transcript{age: 2 * day, files: true, meeting: m})
	b.figures(b.purge(0), "Transcripts deleted", 1, "Files deleted", 1, "Objects deleted", 0, "Rows", "public.transcript 1")
	b.left(0, "transcript", old)
	b.onDisk(false, old)
	b.left(1, "transcript", recent)
	b.onDisk(true, recent)
	b.meetingRows(m, true)
	b.inBucket(true, b.platform, "video/both.mp4")
}

// The recording's object is deleted in the bucket that its row names, once.
func TestRecordingDeletionUsesTheRowsBucket(t *testing.T) {
	b := newBed(t)
	rec := b.recording(8*day, "", "rec/one.mp4", nil)
	b.exec(`UPDATE recording SET bucket_name = $1 WHERE id = $2`, b.media.Name, rec)
	b.put(b.media, "rec/one.mp4")
	b.transcript(transcript{age: 8 * day, recording: rec})
	b.figures(b.purge(0), "Transcripts deleted", 1, "Objects deleted", 1)
	b.inBucket(false, b.media, "rec/one.mp4")
	b.inBucket(true, b.platform, "rec/one.mp4")
}

// Multitrack recordings, and those without a track.
func TestTracks(t *testing.T) {
	for name, c := range map[string]struct {
		key    string
		tracks []string
		gone   int
	}{
		"three tracks":   {"", []string{"t/1.webm", "t/2.webm", "t/3.webm"}, 3},
		"no track_keys":  {"t/all.mp4", nil, 1},
		"an empty list":  {"t/all.mp4", []string{}, 1},
		"tracks and all": {"t/all.mp4", []string{"t/1.webm"}, 2},
		"one twice":      {"t/all.mp4", []string{"t/1.webm", "t/1.webm", "t/all.mp4"}, 2},
		"no audio":       {"", []string{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			rec := b.recording(8*day, "", c.key, c.tracks)
			id := b.transcript(transcript{age: 8 * day, recording: rec})
			b.figures(b.purge(0), "Transcripts deleted", 1, "Objects deleted", c.gone, "Errors", 0)
			b.left(0, "transcript", id)
			b.left(0, "recording", rec)
			b.inBucket(false, b.platform, append(c.tracks, c.key)...)
		})
	}
}

// A track_keys that is no list of keys: the record is not understood, and stays
// with all it has.
func TestTracksThatAreNoList(t *testing.T) {
	b := newBed(t)
	rec := b.recording(8*day, "", "t/odd.mp4", nil)
	b.exec(`UPDATE recording SET track_keys = '{"a": 1}' WHERE id = $1`, rec)
	id := b.transcript(transcript{age: 8 * day, files: true, recording: rec})
	b.figures(b.purge(1), "Transcripts deleted", 0, "Errors", 1, "Failed", "transcript "+id+": INVALID (error type errors.errorString)")
	b.left(1, "transcript", id)
	b.onDisk(true, id)
	b.inBucket(true, b.platform, "t/odd.mp4")
}

// Partial failure: every deletion is tried, and nothing is said to be gone that
// is not. The row stays, and with it every pointer.
func TestPartialFailureKeepsTheRow(t *testing.T) {
	b := newBed(t)
	rec := b.recording(8*day, "", "", []string{"t/1.webm", "t/2.webm", "t/3.webm"})
	id := b.transcript(transcript{age: 8 * day, recording: rec})
	b.deny("t/2.webm")
	r := b.purge(1)
	b.figures(r, "Transcripts deleted", 0, "Objects deleted", 2, "Errors", 1)
	b.left(1, "transcript", id)
	b.left(1, "recording", rec)
	b.inBucket(false, b.platform, "t/1.webm", "t/3.webm")
	b.inBucket(true, b.platform, "t/2.webm")

	b.spoil.Store(nil)
	b.figures(b.purge(0), "Transcripts deleted", 1, "Objects deleted", 1, "Errors", 0, "Finished from an earlier run", 1)
	b.left(0, "transcript", id)
	b.inBucket(false, b.platform, "t/2.webm")
}

// An object may be named by different columns, or by rows of different tables:
// whoever names it by whatever column needs it.
func TestNamedByAnotherColumn(t *testing.T) {
	b := newBed(t)
	m := b.meeting("video/also-a-track.mp4")
	young := b.transcript(transcript{stored: true})
	named := []string{"rec/also-a-track.mp4", "video/also-a-track.mp4"}

	// Somebody's recording has as a track what is the object of one that is due.
	theirs := b.recording(8*day, "", "rec/theirs.mp4", []string{"rec/also-a-track.mp4", "rec/also-an-object.webm"})
	owner := b.transcript(transcript{user: "someone", recording: theirs})
	b.transcript(transcript{user: "someone", meeting: m})
	due := b.recording(8*day, "", "rec/also-a-track.mp4", []string{"rec/only-here.webm", "video/also-a-track.mp4"})
	old := b.transcript(transcript{age: 8 * day, recording: due})
	// One without a transcript names a track of theirs as its object, and one the audio of a transcript.
	alone := b.recording(8*day, "", "rec/also-an-object.webm", nil)
	b.recording(8*day, "", "rec/any.mp4", nil)
	b.exec(`UPDATE recording SET bucket_name = $1, object_key = $2 WHERE object_key = 'rec/any.mp4'`, b.media.Name, young+"/audio.mp3")

	r := b.purge(0)
	b.figures(r, "Transcripts deleted", 1, "Orphaned recordings deleted", 2, "Objects deleted", 1, "Errors", 0)
	b.left(0, "transcript", old)
	b.left(0, "recording", due, alone)
	b.left(1, "transcript", owner, young)
	b.left(1, "recording", theirs)
	b.inBucket(true, b.platform, append(named, "rec/theirs.mp4", "rec/also-an-object.webm")...)
	b.inBucket(true, b.media, young+"/audio.mp3")
	b.inBucket(false, b.platform, "rec/only-here.webm")

	// With the last that names it, it goes.
	b.exec(`UPDATE transcript SET user_id = NULL, created_at = created_at - interval '9 days' WHERE user_id = 'someone' OR id = $1`, young)
	b.figures(b.purge(0, "--allow", "share"), "Transcripts deleted", 3, "Errors", 0)
	b.inBucket(false, b.platform, append(named, "rec/theirs.mp4", "rec/also-an-object.webm")...)
	b.inBucket(false, b.media, young+"/audio.mp3")
}

// Two that are due name one object by different columns, and go at the same time
// in different batches: the last of them takes it.
func TestNamedByTwoColumnsOfTwoThatAreDue(t *testing.T) {
	b := newBed(t)
	const n = 12
	var keys []string
	for i := range n {
		key := fmt.Sprintf("rec/both-%d.mp4", i)
		keys = append(keys, key, fmt.Sprintf("rec/other-%d.mp4", i))
		one := b.recording(8*day, "", key, nil)
		two := b.recording(8*day, "", fmt.Sprintf("rec/other-%d.mp4", i), []string{key})
		b.transcript(transcript{age: 8 * day, recording: one})
		b.transcript(transcript{age: 8 * day, recording: two})
	}
	b.figures(b.purge(0, "--allow", "share", "--batch", "1", "--workers", "4"), "Transcripts deleted", 2*n, "Errors", 0)
	b.inBucket(false, b.platform, keys...)
}
