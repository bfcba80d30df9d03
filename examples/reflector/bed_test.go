package reflector_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/epitaph/epitaph/internal/testserver"
)

// program is the built command: the tests run it as cron would.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "reflector")
	if err == nil {
		program = filepath.Join(dir, "epitaph")
		build := exec.Command("go", "build", "-o", program, "../../cmd/epitaph")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	status := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build epitaph:", err)
	} else {
		status = testserver.Wrap(m).Run()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

const day = 24 * time.Hour

// bed is a Reflector of the test's own: a database, a data directory, the
// bucket of processed audio and that of the video platform, and the example's
// policy.
type bed struct {
	*testing.T
	dir             string // holds epitaph.yaml, data, and the ledger
	db              *sql.DB
	env             map[string]string
	media, platform testserver.Bucket
	// spoil, when set, answers a request to the S3 server in its place.
	spoil   atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	killing sync.Mutex // one deletion at a time, while counting down to a kill
	now     time.Time
	last    int
}

func newBed(t *testing.T) *bed {
	t.Helper()
	return newBedOn(t, testserver.S3Options{})
}

// newBedOn makes a bed whose buckets are of that kind.
func newBedOn(t *testing.T, o testserver.S3Options) *bed {
	t.Helper()
	t.Parallel()
	dsn := testserver.Postgres(t)
	b := &bed{T: t, dir: t.TempDir(), now: time.Now().UTC(), media: testserver.S3(t, o), platform: testserver.S3(t, o)}
	var err error
	if b.db, err = sql.Open("pgx", dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.db.Close() })
	for name, use := range map[string]func(string){
		"schema_postgres.sql": func(text string) { b.exec(text) },
		"epitaph.yaml":        func(text string) { b.write("epitaph.yaml", text) },
		"consent.yaml":        func(text string) { b.write("consent.yaml", text) },
	} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		use(string(text))
	}
	if err := os.Mkdir(b.path("data"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.env = map[string]string{
		// As Reflector writes it, with the name of its driver.
		"DATABASE_URL": strings.Replace(dsn, "postgres://", "postgresql+asyncpg://", 1), "DATA_DIR": b.path("data"), "PUBLIC_MODE": "true",
		"S3_ENDPOINT": b.between(), "AWS_REGION": b.media.Region, "AWS_ACCESS_KEY_ID": b.media.AccessKey, "AWS_SECRET_ACCESS_KEY": b.media.SecretKey,
		"TRANSCRIPT_STORAGE_AWS_BUCKET_NAME": b.media.Name, "RECORDING_STORAGE_AWS_BUCKET_NAME": b.platform.Name,
	}
	b.exec(`INSERT INTO room (id, name, user_id, created_at, platform) VALUES ('room', 'lobby', 'owner', $1, 'daily')`, b.now)
	// Transcripts that are young and stay, so that what is due is a share of the
	// whole, as in life.
	for i := range 6 {
		b.transcript(transcript{age: time.Duration(i)*day + time.Hour, files: true})
	}
	return b
}

// between puts a proxy before the S3 server, where b.spoil can answer instead.
func (b *bed) between() string {
	target, err := url.Parse(b.media.Endpoint)
	if err != nil {
		b.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil := b.spoil.Load(); spoil != nil && (*spoil)(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	b.Cleanup(server.Close)
	return server.URL
}

func (b *bed) spoiled(f func(http.ResponseWriter, *http.Request) bool) { b.spoil.Store(&f) }

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bed) write(name, text string) {
	b.Helper()
	if err := os.WriteFile(b.path(name), []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) exec(text string, args ...any) {
	b.Helper()
	if _, err := b.db.ExecContext(b.Context(), text, args...); err != nil {
		b.Fatalf("%.60s: %v", text, err)
	}
}

// count counts the rows of a table, with a condition or without.
func (b *bed) count(from string, args ...any) (n int) {
	b.Helper()
	if err := b.db.QueryRowContext(b.Context(), "SELECT count(*) FROM "+from, args...).Scan(&n); err != nil {
		b.Fatalf("count %s: %v", from, err)
	}
	return n
}

// left compares how many rows of a table have that id.
func (b *bed) left(want int, table string, ids ...string) {
	b.Helper()
	for _, id := range ids {
		if got := b.count(table+" WHERE id = $1", id); got != want {
			b.Errorf("%s %s: %d rows, want %d", table, id, got, want)
		}
	}
}

// id makes a UUID, as Reflector does.
func (b *bed) id() string {
	b.last++
	return fmt.Sprintf("5f0c7b1e-0000-4000-8000-%012d", b.last)
}

// transcript is what a test says of one; the zero value is an anonymous one
// with nothing but its row, made now.
type transcript struct {
	age                         time.Duration
	undated                     bool
	user, status                string
	meeting, recording, deleted string
	files                       bool // audio.wav, audio.mp3 and audio.json on disk
	stored                      bool // audio.mp3 in the bucket
}

func (b *bed) transcript(t transcript) (id string) {
	b.Helper()
	id = b.id()
	null := func(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
	location := "local"
	if t.stored {
		location = "storage"
		b.put(b.media, id+"/audio.mp3")
	}
	if t.files {
		for _, name := range []string{"audio.wav", "audio.mp3", "audio.json"} {
			b.file(id + "/" + name)
		}
	}
	at := sql.NullTime{Time: b.now.Add(-t.age), Valid: !t.undated}
	b.exec(`INSERT INTO transcript (id, name, title, topics, status, created_at, user_id, meeting_id, recording_id, audio_location, source_kind, deleted_at)
		VALUES ($1, 'Anna Planted', 'Anna Planted tells', '[{"title": "secret words"}]', coalesce($2, 'ended'), $3, $4, $5, $6, $7, 'room', $8::timestamptz)`,
		id, null(t.status), at, null(t.user), null(t.meeting), null(t.recording), location, null(t.deleted))
	return id
}

// recording makes a row with its objects in the platform's bucket; tracks are
// the elements of track_keys, nil for NULL.
func (b *bed) recording(age time.Duration, meeting, key string, tracks []string) (id string) {
	b.Helper()
	id = b.id()
	b.exec(`INSERT INTO recording (id, bucket_name, object_key, recorded_at, status, meeting_id, track_keys)
		VALUES ($1, $2, $3, $4, 'completed', nullif($5, ''), $6)`, id, b.platform.Name, key, b.now.Add(-age), meeting, jsonOf(b, tracks))
	for _, k := range append([]string{key}, tracks...) {
		if k != "" {
			b.put(b.platform, k)
		}
	}
	return id
}

func jsonOf(b *bed, tracks []string) any {
	if tracks == nil {
		return nil
	}
	text, err := json.Marshal(tracks)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// meeting makes one with two consents and a participant session, and a video
// where the key is not empty.
func (b *bed) meeting(video string) (id string) {
	b.Helper()
	id = b.id()
	b.exec(`INSERT INTO meeting (id, room_name, room_id, start_date, daily_composed_video_s3_key) VALUES ($1, 'lobby', 'room', $2, nullif($3, ''))`,
		id, b.now.Add(-8*day), video)
	for i, given := range []bool{true, false} {
		b.exec(`INSERT INTO meeting_consent (id, meeting_id, consent_given, consent_timestamp) VALUES ($1, $2, $3, $4)`,
			fmt.Sprintf("%s-%d", id, i), id, given, b.now.Add(-8*day))
	}
	b.exec(`INSERT INTO daily_participant_session (id, meeting_id, room_id, session_id, user_name, joined_at, left_at)
		VALUES ($1, $1, 'room', 's', 'Anna Planted', $2, $2)`, id, b.now.Add(-8*day))
	if video != "" {
		b.put(b.platform, video)
	}
	return id
}

// meetingRows compares the meeting's rows, its own and those that hang on it.
func (b *bed) meetingRows(id string, there bool) {
	b.Helper()
	for table, n := range map[string]int{"meeting WHERE id = $1": 1, "meeting_consent WHERE meeting_id = $1": 2, "daily_participant_session WHERE meeting_id = $1": 1} {
		if !there {
			n = 0
		}
		if got := b.count(table, id); got != n {
			b.Errorf("%s: %d rows, want %d", table, got, n)
		}
	}
}

func (b *bed) file(name string) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path("data/"+name)), 0o755); err != nil {
		b.Fatal(err)
	}
	b.write("data/"+name, "sound")
}

// onDisk says whether the transcripts' directories are to be there.
func (b *bed) onDisk(want bool, ids ...string) {
	b.Helper()
	for _, id := range ids {
		_, err := os.Lstat(b.path("data/" + id))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			b.Fatal(err)
		}
		if got := err == nil; got != want {
			b.Errorf("directory of %s on disk = %v, want %v", id, got, want)
		}
	}
}

func (b *bed) put(bucket testserver.Bucket, key string) {
	b.Helper()
	_, err := bucket.Client().PutObject(b.Context(), &s3.PutObjectInput{Bucket: &bucket.Name, Key: &key, Body: strings.NewReader("sound of " + key)})
	if err != nil {
		b.Fatalf("put %s: %v", key, err)
	}
}

// traces counts all that the bucket keeps under exactly that key: versions and
// delete markers.
func (b *bed) traces(bucket testserver.Bucket, key string) (n int) {
	b.Helper()
	list := s3.NewListObjectVersionsPaginator(bucket.Client(), &s3.ListObjectVersionsInput{Bucket: &bucket.Name, Prefix: &key})
	for list.HasMorePages() {
		page, err := list.NextPage(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for _, v := range page.Versions {
			if *v.Key == key {
				n++
			}
		}
		for _, m := range page.DeleteMarkers {
			if *m.Key == key {
				n++
			}
		}
	}
	return n
}

// inBucket says whether there is to be anything under each key.
func (b *bed) inBucket(want bool, bucket testserver.Bucket, keys ...string) {
	b.Helper()
	for _, k := range keys {
		if got := b.traces(bucket, k) > 0; got != want {
			b.Errorf("object %s there = %v, want %v", k, got, want)
		}
	}
}

// result is what one run of the program came to.
type result struct {
	status   int
	out, err string
}

// command prepares a run with nothing in its environment but what Reflector's
// own has.
func (b *bed) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = b.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "TMPDIR=" + os.TempDir()}
	for name, value := range b.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// run runs the program to its end.
func (b *bed) run(args ...string) result {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	cmd := b.command(ctx, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.Fatalf("run %v: %v", args, err)
	}
	b.Logf("epitaph %s → %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), out.String(), stderr.String())
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// purge runs a purge that is to end with the status.
func (b *bed) purge(status int, args ...string) result {
	b.Helper()
	r := b.run(append([]string{"purge", "--yes"}, args...)...)
	if r.status != status {
		b.Fatalf("status of purge = %d, want %d", r.status, status)
	}
	return r
}

// line returns the value of a "Name: value" line of the summary.
func (b *bed) line(r result, name string) string {
	b.Helper()
	m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(name) + `:\s*(.*)$`).FindStringSubmatch(r.out)
	if m == nil {
		b.Fatalf("the summary has no line %q:\n%s", name, r.out)
	}
	return strings.TrimSpace(m[1])
}

// figures compares lines of the summary: name, value, name, value, …
func (b *bed) figures(r result, want ...any) {
	b.Helper()
	for i := 0; i < len(want); i += 2 {
		name := want[i].(string)
		if got, want := b.line(r, name), fmt.Sprint(want[i+1]); got != want {
			b.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// young says that nothing that is not due was touched.
func (b *bed) young() {
	b.Helper()
	for i := 1; i <= 6; i++ {
		id := fmt.Sprintf("5f0c7b1e-0000-4000-8000-%012d", i)
		b.left(1, "transcript", id)
		b.onDisk(true, id)
	}
}

// secret says that no word of a person, key or path came out.
func (b *bed) secret(r result, words ...string) {
	b.Helper()
	for _, w := range append(words, "Planted", "secret words", b.dir, b.media.SecretKey) {
		for name, text := range map[string]string{"stdout": r.out, "stderr": r.err} {
			if strings.Contains(text, w) {
				b.Errorf("%s holds %q", name, w)
			}
		}
	}
}
