package reflector_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestGenerated is the main job on data of the size of a small instance, made
// by the example's generator: what is due goes with all that belongs to it, and
// afterwards every object in the buckets and every directory belongs to a row.
func TestGenerated(t *testing.T) {
	b := newBed(t)
	b.platform.Name += "-made" // not there yet: the generator makes it
	b.env["RECORDING_STORAGE_AWS_BUCKET_NAME"] = b.platform.Name
	cmd := exec.CommandContext(t.Context(), "go", "run", "./generate", "--transcripts", "300")
	cmd.Env = os.Environ()
	for name, value := range b.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("generate: %v\n%s", err, out)
	}
	due := "transcript WHERE user_id IS NULL AND created_at < now() - interval '7 days'"
	busy := b.count(due + " AND status = 'processing'")
	goes, orphans := b.count(due)-busy, b.count("recording WHERE NOT EXISTS (SELECT 1 FROM transcript WHERE recording_id = recording.id)")
	if goes < 50 || orphans != 15 {
		t.Fatalf("generated: %d due, %d orphans", goes, orphans)
	}

	r := b.purge(0)
	b.figures(r, "Transcripts deleted", goes, "Files deleted", goes, "Orphaned recordings deleted", orphans, "Errors", 0, "Unknown", 0)
	if got := b.count(due); got != busy {
		t.Errorf("%d due transcripts are left, want the %d at work", got, busy)
	}
	b.every("meeting", "SELECT count(*) FROM meeting m WHERE NOT EXISTS (SELECT 1 FROM transcript WHERE meeting_id = m.id) AND NOT EXISTS (SELECT 1 FROM recording WHERE meeting_id = m.id)")
	b.every("recording", "SELECT count(*) FROM recording r WHERE NOT EXISTS (SELECT 1 FROM transcript WHERE recording_id = r.id)")

	named := map[string]bool{}
	b.keys(named, `SELECT id || '/audio.mp3' FROM transcript WHERE audio_location = 'storage'
		UNION SELECT object_key FROM recording UNION SELECT json_array_elements_text(track_keys) FROM recording
		UNION SELECT daily_composed_video_s3_key FROM meeting WHERE daily_composed_video_s3_key IS NOT NULL`)
	found := 0
	for _, bucket := range []string{b.media.Name, b.platform.Name} {
		list := s3.NewListObjectsV2Paginator(b.media.Client(), &s3.ListObjectsV2Input{Bucket: &bucket})
		for list.HasMorePages() {
			page, err := list.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Contents {
				if found++; !named[*o.Key] {
					t.Errorf("object %s is left, and no row names it", *o.Key)
				}
			}
		}
	}
	if found != len(named) {
		t.Errorf("%d objects are left, and rows name %d", found, len(named))
	}
	dirs, err := filepath.Glob(b.path("data/*"))
	if err != nil || len(dirs) != b.count("transcript") {
		t.Errorf("%d directories for %d transcripts (%v)", len(dirs), b.count("transcript"), err)
	}
	b.young()

	if again := b.purge(0); !strings.Contains(again.out, "Transcripts deleted: 0") {
		t.Error("the second run found something")
	}
}

// every says that a query that counts what belongs to nobody finds nothing.
func (b *bed) every(what, query string) {
	b.Helper()
	var n int
	if err := b.db.QueryRowContext(b.Context(), query).Scan(&n); err != nil {
		b.Fatal(err)
	}
	if n > 0 {
		b.Errorf("%d rows of %s are left that nothing names", n, what)
	}
}

func (b *bed) keys(into map[string]bool, query string) {
	b.Helper()
	rows, err := b.db.QueryContext(b.Context(), query)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var k string
		if err := rows.Scan(&k); err != nil {
			b.Fatal(err)
		}
		into[k] = true
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
}
