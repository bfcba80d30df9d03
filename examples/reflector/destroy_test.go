package reflector_test

import (
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
