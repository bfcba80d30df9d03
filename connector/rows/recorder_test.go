package rows_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
)

// recorder is the schema of a dictation service: records with segments, a
// trail and one audio file each, which a project may share.
func (s *store) recorder(n int) *connector.Query {
	id := "integer PRIMARY KEY"
	s.do(
		"CREATE TABLE projects (id "+id+", name varchar(100) NOT NULL)",
		"CREATE TABLE project_files (id "+id+", project_id integer NOT NULL REFERENCES projects (id) ON DELETE CASCADE, sha256 varchar(100) NOT NULL UNIQUE)",
		"CREATE TABLE transcripts (id "+id+", title varchar(100) NOT NULL, status varchar(100) NOT NULL, created_at "+s.stamp()+" NOT NULL, project_id integer REFERENCES projects (id) ON DELETE SET NULL)",
		"CREATE INDEX ix_transcripts_created_at ON transcripts (created_at)",
		"CREATE TABLE segments (id "+id+", transcript_id integer NOT NULL REFERENCES transcripts (id) ON DELETE CASCADE, text text NOT NULL)",
		"CREATE INDEX ix_segments ON segments (transcript_id)",
		"CREATE TABLE audio_assets (id "+id+", transcript_id integer NOT NULL REFERENCES transcripts (id) ON DELETE CASCADE, sha256 varchar(100) NOT NULL)",
		"CREATE UNIQUE INDEX ix_audio_sha ON audio_assets (sha256)",
		"CREATE INDEX ix_audio_transcript ON audio_assets (transcript_id)",
		"INSERT INTO projects VALUES (1, 'p')",
	)
	for i := 1; i <= n; i++ {
		day := "2026-10-20"
		if i%2 == 0 {
			day = "2026-11-20"
		}
		s.do(
			fmt.Sprintf("INSERT INTO transcripts VALUES (%d, 'secret title %d', 'ready', '%s 10:00:00.0000%02d', 1)", i, i, day, i%100),
			fmt.Sprintf("INSERT INTO segments (id, transcript_id, text) VALUES (%d, %d, 'secret words'), (%d, %d, 'more words')", 2*i, i, 2*i+1, i),
			fmt.Sprintf("INSERT INTO audio_assets VALUES (%d, %d, 'sha%d')", i, i, i),
		)
	}
	s.do("INSERT INTO project_files VALUES (1, 1, 'sha3')")
	q := query("transcripts")
	q.Wants = []connector.Want{{
		Refs:         []connector.Ref{{Table: "audio_assets", Column: "sha256"}},
		ReferencedBy: []connector.Column{{Table: "project_files", Column: "sha256"}},
	}}
	return q
}

func TestRecorderGoesWhole(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		q := s.recorder(10)
		items := s.scan(q)
		var got []string
		for _, it := range items {
			got = append(got, fmt.Sprint(it.ID, it.Values))
		}
		want := []string{"1[[[sha1]]]", "3[[[sha3]]]", "5[[[sha5]]]", "7[[[sha7]]]", "9[[[sha9]]]"}
		if d := cmp.Diff(want, got); d != "" {
			s.Fatalf("items (-want +got):\n%s", d)
		}
		rs, e := s.purge(q, items)
		if got, want := fmt.Sprint(rs[1].Kept), "[[true]]"; got != want {
			s.Errorf("Kept of the shared blob: got %s, want %s", got, want)
		}
		if rs[0].Kept != nil {
			s.Errorf("Kept of a blob of its own: got %v, want nil", rs[0].Kept)
		}
		prefix := s.schema()
		wantRows := []connector.Count{{Table: prefix + "audio_assets", N: 5}, {Table: prefix + "segments", N: 10}, {Table: prefix + "transcripts", N: 5}}
		if d := cmp.Diff(wantRows, e.Rows); d != "" {
			s.Errorf("rows (-want +got):\n%s", d)
		}
		for table, left := range map[string]int{"transcripts": 5, "segments": 10, "audio_assets": 5, "projects": 1, "project_files": 1} {
			s.wantCount("SELECT count(*) FROM "+table, left)
		}
		if again := s.scan(q); len(again) != 0 {
			s.Errorf("second scan: %d items", len(again))
		}
	})
}
