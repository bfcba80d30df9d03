package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

const day = 24 * time.Hour

// world is a Reflector that is being made up.
type world struct {
	rng             *rand.Rand
	now             time.Time
	media, platform string
	batch           *pgx.Batch
	objects         []object
	dirs            []string // of transcripts, with three files each
	// last are the meeting and the recording of the transcript before, which
	// some share.
	lastMeeting, lastRecording *string

	due, busy, undated, meetings, recordings, orphans int
}

type object struct{ bucket, key string }

func newWorld(seed uint64, now time.Time, media, platform string) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), now: now, media: media, platform: platform, batch: &pgx.Batch{}}
	w.batch.Queue(`INSERT INTO room (id, name, user_id, created_at, platform) VALUES ('made-up', 'made-up', 'made-up', $1, 'daily') ON CONFLICT DO NOTHING`, now)
	return w
}

// id makes a UUID of version 4.
func (w *world) id() string {
	a, b := w.rng.Uint64(), w.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// age is up to twenty days, never at the border of seven.
func (w *world) age() time.Duration {
	d := time.Duration(w.rng.Int64N(int64(20 * day)))
	if d > 7*day-time.Hour && d < 7*day+time.Hour {
		d += 2 * time.Hour
	}
	return d
}

func (w *world) transcript() {
	id, age := w.id(), w.age()
	var user *string
	if w.chance(25) {
		owner := "made-up-user"
		user = &owner
	}
	status, location := "ended", "local"
	at := w.now.Add(-age)
	created := &at
	if w.chance(1) {
		created = nil
		w.undated++
	}
	switch due := user == nil && created != nil && age > 7*day; {
	case due && w.chance(2):
		status = "processing"
		w.busy++
		fallthrough
	case due:
		w.due++
	}
	if w.chance(50) {
		location = "storage"
		w.objects = append(w.objects, object{w.media, id + "/audio.mp3"})
	}
	w.dirs = append(w.dirs, id)
	if !w.chance(10) || w.lastMeeting == nil {
		w.lastMeeting, w.lastRecording = nil, nil
		if w.chance(60) {
			m := w.meeting(at)
			r := w.recording(at, &m)
			w.lastMeeting, w.lastRecording = &m, &r
			w.recordings++
		}
	}
	w.batch.Queue(`INSERT INTO transcript (id, name, title, topics, status, created_at, user_id, meeting_id, recording_id, audio_location, source_kind)
		VALUES ($1, $2, 'A made-up talk', '[{"title": "made-up words"}]', $3, $4, $5, $6, $7, $8, 'room')`,
		id, "talk "+id[:8], status, created, user, w.lastMeeting, w.lastRecording, location)
}

func (w *world) meeting(at time.Time) (id string) {
	id = w.id()
	w.meetings++
	var video *string
	if w.chance(30) {
		key := "composed/" + id + ".mp4"
		video = &key
		w.objects = append(w.objects, object{w.platform, key})
	}
	w.batch.Queue(`INSERT INTO meeting (id, room_name, room_id, start_date, daily_composed_video_s3_key) VALUES ($1, 'made-up', 'made-up', $2, $3)`, id, at, video)
	for i := range 2 {
		w.batch.Queue(`INSERT INTO meeting_consent (id, meeting_id, consent_given, consent_timestamp) VALUES ($1, $2, true, $3)`, fmt.Sprintf("%s-%d", id, i), id, at)
		w.batch.Queue(`INSERT INTO daily_participant_session (id, meeting_id, room_id, session_id, user_name, joined_at) VALUES ($1, $2, 'made-up', 's', 'Made Up', $3)`,
			fmt.Sprintf("%s:%d", id, i), id, at)
	}
	return id
}

func (w *world) recording(at time.Time, meeting *string) (id string) {
	id = w.id()
	key := "recordings/" + id + ".mp4"
	tracks := []string{}
	for i := range w.rng.IntN(4) {
		tracks = append(tracks, fmt.Sprintf("recordings/%s/speaker %d.webm", id, i))
	}
	w.objects = append(w.objects, object{w.platform, key})
	for _, t := range tracks {
		w.objects = append(w.objects, object{w.platform, t})
	}
	text, _ := json.Marshal(tracks) // a list of texts always has a JSON form
	w.batch.Queue(`INSERT INTO recording (id, bucket_name, object_key, recorded_at, status, meeting_id, track_keys) VALUES ($1, $2, $3, $4, 'completed', $5, $6)`,
		id, w.platform, key, at, meeting, string(text))
	return id
}

// orphan is a recording that no transcript names.
func (w *world) orphan() {
	w.recording(w.now.Add(-8*day-w.age()), nil)
	w.orphans++
}

func (w *world) insert(ctx context.Context, db *pgx.Conn) error {
	if err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return tx.SendBatch(ctx, w.batch).Close() }); err != nil {
		return fmt.Errorf("insert rows: %w", err)
	}
	return nil
}

func (w *world) files(root string) error {
	for _, id := range w.dirs {
		dir := filepath.Join(root, id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		for _, name := range []string{"audio.wav", "audio.mp3", "audio.json"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("made-up sound"), 0o644); err != nil {
				return fmt.Errorf("write file: %w", err)
			}
		}
	}
	return nil
}
