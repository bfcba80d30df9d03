package reflector_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// Reflector's rule for meetings without consent, as its pipeline has it: any
// denial, and every track and copy of the audio goes; audio_deleted is set only
// if no deletion failed. The rows stay.

// denied makes a meeting of which one participant denied, and its transcript,
// with local audio and with what the recording names.
func (b *bed) denied(key string, tracks []string, change func(*transcript)) (id, meeting, recording string) {
	b.Helper()
	meeting = b.meeting("")
	recording = b.recording(3*day, meeting, key, tracks)
	t := transcript{age: 3 * day, files: true, meeting: meeting, recording: recording, user: "someone"}
	if change != nil {
		change(&t)
	}
	return b.transcript(t), meeting, recording
}

func (b *bed) consent(status int, args ...string) result {
	b.Helper()
	return b.purge(status, append([]string{"--policy", "consent.yaml"}, args...)...)
}

// flagged says of which transcripts the flag is to be set; every row is to be
// there all the same.
func (b *bed) flagged(want bool, ids ...string) {
	b.Helper()
	for _, id := range ids {
		if got := b.count("transcript WHERE id = $1 AND audio_deleted", id) == 1; got != want {
			b.Errorf("audio_deleted of %s = %v, want %v", id, got, want)
		}
		b.left(1, "transcript", id)
	}
}

// audio says which local files of a transcript are to be there.
func (b *bed) audio(id string, want ...string) {
	b.Helper()
	entries, err := os.ReadDir(b.path("data/" + id))
	if err != nil {
		b.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		b.Errorf("local files of %s: %v, want %v", id, got, want)
	}
}

func TestConsentDeletesEveryTrackThenSaysSo(t *testing.T) {
	b := newBed(t)
	tracks := []string{"c/1.webm", "c/2.webm", "c/3.webm"}
	id, m, rec := b.denied("", tracks, nil)
	stored := b.transcript(transcript{age: 3 * day, files: true, stored: true, meeting: b.meeting("c/video.mp4")}) // anonymous, in the bucket
	const newest = "transcript WHERE id = $1 AND change_seq >= (SELECT max(change_seq) - 1 FROM transcript)"       // of the two
	if b.count(newest, id) != 0 {
		t.Fatal("it is among the newest to begin with")
	}

	r := b.consent(0, "--log", "-")
	b.figures(r, "Transcripts set", 2, "Objects deleted", 5, "Files deleted", 4, "Errors", 0, "Set", "2 (audio_deleted); the rows stay", "Parts", "9 gone, 0 shared, 0 missing, "+size(b, r))
	if strings.Contains(r.out, "Transcripts deleted") || strings.Contains(r.out, "Rows:") {
		t.Errorf("the summary says that rows went:\n%s", r.out)
	}
	b.flagged(true, id, stored)
	b.left(1, "recording", rec)
	b.meetingRows(m, true)
	b.audio(id, "audio.json")
	b.audio(stored, "audio.json") // and no copy that was left behind when the audio was moved to the bucket
	b.inBucket(false, b.platform, append(tracks, "c/video.mp4")...)
	b.inBucket(false, b.media, stored+"/audio.mp3")
	if b.count(newest, id) != 1 {
		t.Error("consumers of change_seq do not learn of it")
	}
	if set := b.events(r.err, "item_set"); len(set) != 2 || len(b.events(r.err, "item_purged")) > 0 {
		t.Errorf("events: %v", set)
	}
	trail := b.run("trail", "--policy", "consent.yaml", "--action", "outcome")
	if !strings.Contains(trail.out, "present 2 (SET)") || strings.Contains(trail.out, "gone 2") {
		t.Errorf("the trail:\n%s", trail.out)
	}
	b.secret(r, "c/1", "c/video", b.platform.Name)
	b.young()

	// Again: nothing is due, and nothing changes.
	again := b.consent(0)
	b.figures(again, "Transcripts set", 0, "Objects deleted", 0, "Due", "0 of 0", "Errors", 0)
	b.flagged(true, id, stored)
}

// size is what the summary says at the end of its line of parts.
func size(b *bed, r result) string {
	line := b.line(r, "Parts")
	return line[strings.LastIndex(line, ", ")+2:]
}

// Recordings without tracks have one object.
func TestConsentWithoutTracks(t *testing.T) {
	for name, tracks := range map[string][]string{"no track_keys": nil, "an empty list": {}} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			id, _, rec := b.denied("c/all.mp4", tracks, nil)
			b.figures(b.consent(0), "Transcripts set", 1, "Objects deleted", 1)
			b.flagged(true, id)
			b.left(1, "recording", rec)
			b.inBucket(false, b.platform, "c/all.mp4")
		})
	}
}

// One deletion fails, at each of three attempts: every other one is done, and
// the flag stays unset. When it can be done, the flag is set, and nothing is
// counted twice.
func TestConsentPartialFailureLeavesTheFlag(t *testing.T) {
	b := newBed(t)
	id, m, rec := b.denied("", []string{"c/1.webm", "c/2.webm", "c/3.webm"}, nil)
	b.deny("c/2.webm")
	for attempt := range 3 {
		r := b.consent(1)
		gone := map[int]int{0: 2}[attempt]
		b.figures(r, "Transcripts set", 0, "Objects deleted", gone, "Errors", 1)
		if !strings.Contains(b.line(r, "Failed"), id) {
			t.Errorf("the summary does not name what failed:\n%s", r.out)
		}
		b.flagged(false, id)
		b.left(1, "recording", rec)
		b.meetingRows(m, true)
		b.inBucket(false, b.platform, "c/1.webm", "c/3.webm")
		b.inBucket(true, b.platform, "c/2.webm")
	}
	b.spoil.Store(nil)
	b.figures(b.consent(0), "Transcripts set", 1, "Objects deleted", 1, "Errors", 0, "Finished from an earlier run", 1)
	b.flagged(true, id)
	b.left(1, "recording", rec)
	b.meetingRows(m, true)
	b.inBucket(false, b.platform, "c/2.webm")
	b.figures(b.consent(0), "Transcripts set", 0, "Due", "0 of 0")
}

// With consent of everybody nothing happens, nor while the meeting is at work.
func TestConsentOfAllKeepsTheAudio(t *testing.T) {
	b := newBed(t)
	given, m, _ := b.denied("c/given.mp4", nil, nil)
	b.exec("UPDATE meeting_consent SET consent_given = true WHERE meeting_id = $1", m)
	busy, _, _ := b.denied("c/busy.mp4", nil, func(t *transcript) { t.status = "processing" })
	b.figures(b.consent(0), "Transcripts set", 0, "Objects deleted", 0, "Kept", 1)
	b.flagged(false, given, busy)
	for _, id := range []string{given, busy} {
		b.audio(id, "audio.json", "audio.mp3", "audio.wav")
	}
	b.inBucket(true, b.platform, "c/given.mp4", "c/busy.mp4")
	b.young()
}

// Two transcripts of one recording: both say so, in one run. Where one of them
// is of a meeting with consent, the audio is needed: it stays, and neither says
// that it is gone.
func TestConsentOfASharedRecording(t *testing.T) {
	b := newBed(t)
	one, m, rec := b.denied("c/shared.mp4", nil, nil)
	two := b.transcript(transcript{age: 2 * day, files: true, meeting: m, recording: rec})
	b.figures(b.consent(0, "--batch", "1"), "Transcripts set", 2, "Objects deleted", 1)
	b.flagged(true, one, two)
	b.inBucket(false, b.platform, "c/shared.mp4")

	denied, _, needed := b.denied("c/needed.mp4", nil, nil)
	ok := b.meeting("")
	b.exec("UPDATE meeting_consent SET consent_given = true WHERE meeting_id = $1", ok)
	other := b.transcript(transcript{age: 2 * day, files: true, meeting: ok, recording: needed})
	b.figures(b.consent(0), "Transcripts set", 0, "Objects deleted", 0, "Files deleted", 0, "Kept", 1, "Errors", 0)
	b.flagged(false, denied, other)
	b.audio(denied, "audio.json", "audio.mp3", "audio.wav")
	b.inBucket(true, b.platform, "c/needed.mp4")
}

// The object of one recording is a track of another: both say that it is gone, in
// one run. Where one is of a meeting with consent, neither does.
func TestConsentOfAnObjectThatIsATrackToo(t *testing.T) {
	b := newBed(t)
	one, _, _ := b.denied("c/both.mp4", nil, nil)
	two, _, _ := b.denied("c/second.mp4", []string{"c/both.mp4", "c/track.webm"}, nil)
	b.figures(b.consent(0, "--batch", "1"), "Transcripts set", 2, "Objects deleted", 3, "Errors", 0)
	b.flagged(true, one, two)
	b.inBucket(false, b.platform, "c/both.mp4", "c/second.mp4", "c/track.webm")

	denied, _, _ := b.denied("c/needed.mp4", nil, nil)
	ok := b.meeting("")
	b.exec("UPDATE meeting_consent SET consent_given = true WHERE meeting_id = $1", ok)
	rec := b.recording(3*day, ok, "c/theirs.mp4", []string{"c/needed.mp4"})
	other := b.transcript(transcript{age: 2 * day, meeting: ok, recording: rec})
	b.figures(b.consent(0), "Transcripts set", 0, "Objects deleted", 0, "Kept", 1, "Errors", 0)
	b.flagged(false, denied, other)
	b.inBucket(true, b.platform, "c/needed.mp4", "c/theirs.mp4")
}

// What the database would not let be set is refused before any audio is touched.
func TestConsentThatCannotBeRecorded(t *testing.T) {
	b := newBed(t)
	id, _, _ := b.denied("c/kept.mp4", nil, nil)
	good, _, _ := b.denied("c/gone.mp4", nil, nil)
	b.exec(fmt.Sprintf("ALTER TABLE transcript ADD CHECK (id <> '%s' OR audio_deleted IS NULL)", id))
	b.figures(b.consent(1), "Transcripts set", 1, "Objects deleted", 1, "Errors", 1)
	b.flagged(false, id)
	b.flagged(true, good)
	b.audio(id, "audio.json", "audio.mp3", "audio.wav")
	b.inBucket(true, b.platform, "c/kept.mp4")
	b.inBucket(false, b.platform, "c/gone.mp4")
}

// A run that is killed among the objects leaves every flag unset; the next one
// finishes all of them and counts each object once.
func TestConsentKilledAndRunAgain(t *testing.T) {
	b := newBed(t)
	var ids []string
	for i := range 4 {
		id, _, _ := b.denied("", []string{fmt.Sprintf("c/%d-1.webm", i), fmt.Sprintf("c/%d-2.webm", i)}, nil)
		ids = append(ids, id)
	}
	b.killAfterDeletes(5, "--policy", "consent.yaml")
	b.flagged(false, ids...)
	left := 0
	for i := range ids {
		left += b.traces(b.platform, fmt.Sprintf("c/%d-1.webm", i)) + b.traces(b.platform, fmt.Sprintf("c/%d-2.webm", i))
	}
	if left != 3 {
		t.Fatalf("%d objects are left of 8; the kill did not come between", left)
	}
	b.figures(b.consent(0), "Transcripts set", 4, "Objects deleted", 8, "Files deleted", 8, "Finished from an earlier run", 4, "Errors", 0)
	b.flagged(true, ids...)
	b.young()
}

// The retention of a public instance takes the row later, with what is left.
func TestConsentThenRetention(t *testing.T) {
	b := newBed(t)
	id, m, rec := b.denied("c/all.mp4", nil, func(t *transcript) { t.age, t.user = 8*day, "" })
	b.figures(b.consent(0), "Transcripts set", 1, "Objects deleted", 1)
	b.figures(b.purge(0), "Transcripts deleted", 1, "Objects deleted", 0, "Files deleted", 1, "Errors", 0)
	b.left(0, "transcript", id)
	b.left(0, "recording", rec)
	b.meetingRows(m, false)
	b.onDisk(false, id)
	b.young()
}
