package rows_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
)

// With a WAL, a rehearsal is undone by beginning anew. Another process may get
// in between; what it did to the rows is seen, and honoured.
func TestRewindJudgesAgain(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite")
	q := s.recorder(12) // due: 1, 3, 5, 7, 9, 11
	p := &plug{}
	s.c.Rewire(strings.TrimPrefix(s.dsn, "sqlite:"), p.open)
	items := s.scan(q)
	cl, rs := s.c.Claim(s.ctx(), q, items)
	defer cl.Release()
	for _, r := range rs {
		if r.Reason != connector.Eligible {
			t.Fatalf("claim: %v", reasons(rs))
		}
	}
	undone := 0
	p.after = func(text string) {
		if text == "ROLLBACK" && undone == 0 {
			undone++
			s.do("UPDATE transcripts SET created_at = "+young+" WHERE id = 3", "DELETE FROM transcripts WHERE id = 5",
				"UPDATE audio_assets SET sha256 = 'other' WHERE transcript_id = 7")
		}
	}
	e := cl.Erase(s.ctx(), []int{0, 1, 2, 3, 4}) // 11 stays
	p.after = nil
	if undone == 0 {
		t.Fatal("nothing was rolled back, so nobody could get in between")
	}
	if d := cmp.Diff([]string{"gone GONE", "present NOT_DUE", "gone MISSING", "present CHANGED", "gone GONE"}, reasons(e.Results)); d != "" {
		t.Errorf("erase (-want +got):\n%s", d)
	}
	if got := countsText(e.Rows); got != "audio_assets 2, segments 4, transcripts 2" {
		t.Errorf("rows: %s", got)
	}
	if d := cmp.Diff("2\n3\n4\n6\n7\n8\n10\n11\n12\n", s.dump("SELECT id FROM transcripts ORDER BY id")); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
}

// A bad item is found by halving though the first try has no savepoint; what
// another process changed meanwhile is not blamed for it.
func TestRewindFindsTheBadItem(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := open(t, "sqlite")
			s.do("PRAGMA journal_mode = " + mode)
			q := s.recorder(20) // due: the odd ones
			s.do("CREATE TRIGGER keep BEFORE DELETE ON transcripts WHEN OLD.id = 9 BEGIN SELECT RAISE(ABORT, 'no'); END")
			p := &plug{}
			s.c.Rewire(strings.TrimPrefix(s.dsn, "sqlite:"), p.open)
			items := s.scan(q)
			if mode == "WAL" {
				undone := false
				p.after = func(text string) {
					if text == "ROLLBACK" && !undone {
						undone = true
						s.do("UPDATE transcripts SET created_at = " + young + " WHERE id = 3")
					}
				}
			}
			rs, e := s.purge(q, items)
			p.after = nil
			want := make([]string, 10)
			for i := range want {
				want[i] = "present ELIGIBLE"
			}
			want[4] = "present REFUSED"
			gone := 9
			if mode == "WAL" {
				want[1], gone = "present NOT_DUE", 8
			}
			if d := cmp.Diff(want, reasons(rs)); d != "" {
				t.Errorf("claim (-want +got):\n%s", d)
			}
			if got, want := countsText(e.Rows), fmt.Sprintf("audio_assets %d, segments %d, transcripts %d", gone, 2*gone, gone); got != want {
				t.Errorf("rows: %s, want %s", got, want)
			}
			s.wantCount("SELECT count(*) FROM transcripts", 20-gone)
		})
	}
}
