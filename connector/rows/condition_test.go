package rows_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
)

func TestConditionsStayInTheirParentheses(t *testing.T) {
	t.Parallel()
	refused := []string{
		"1 = 1) OR (1 = 1", "1 = 1; DROP TABLE transcripts", "1 = 1 -- all", "1 = 1 /* all */ OR 1 = 1", "(1 = 1", "status = 'x",
		`"status = 'x'`, "id = $1", "status = 'a' OR", "no_such_column = 1", "count(*) > 0", "", "   ", "status = 'x') UNION SELECT (1",
		"1 = 1) --", "id IN (SELECT 1",
	}
	allowed := []string{
		"status = 'ready'", "status = 'it''s (fine; -- really'", "EXISTS (SELECT 1 FROM segments WHERE transcript_id = transcripts.id)",
		"transcripts.project_id IS NULL", "status LIKE '%)%'",
	}
	on(t, func(s *store) {
		s.recorder(2)
		before := s.dump("SELECT * FROM transcripts ORDER BY id")
		try := func(cond string) []string {
			var all []string
			for _, put := range []func(q *connector.Query){
				func(q *connector.Query) { q.Where = cond }, func(q *connector.Query) { q.Hold = cond }, func(q *connector.Query) { q.InUse = cond },
			} {
				q := query("transcripts")
				put(q)
				all = append(all, faults(s.check(q))...)
			}
			return all
		}
		refused := refused
		if s.system == "mariadb" {
			refused = append(slices.Clone(refused), "1 = 1 # all", `title = '\') OR (\'' = '`, "title = @x", "id = ?")
		} else { // there a "name" is a text
			refused = append(slices.Clone(refused), `"staus" = 'ready'`)
		}
		for _, cond := range refused {
			if strings.TrimSpace(cond) == "" {
				continue // not given
			}
			got := try(cond)
			if cond == "no_such_column = 1" && !slices.ContainsFunc(s.hints(cond), func(h string) bool { return strings.Contains(h, "its columns are id, ") }) {
				s.Errorf("condition %q: the columns are not named: %q", cond, s.hints(cond))
			}
			if len(got) != 3 {
				s.Errorf("condition %q: faults %q, want one of where, hold and in_use each", cond, got)
			}
		}
		var extra []string
		if s.system == "postgres" {
			extra = append(slices.Clone(allowed), `status = $q$a)b$q$`, `status = E'it\'s (' OR id = 1`, "status ~ '^a' AND id::text <> '7'")
		} else if s.system == "sqlite" {
			extra = append(slices.Clone(allowed), "[status] = 'x' AND `title` <> ''")
		} else {
			extra = append(slices.Clone(allowed), "`status` = 'x\\') OR (' AND `title` <> \"it's\"")
		}
		for _, cond := range extra {
			if got := try(cond); len(got) != 0 {
				s.Errorf("condition %q: faults %q, want none", cond, got)
			}
		}
		if after := s.dump("SELECT * FROM transcripts ORDER BY id"); after != before {
			s.Error("checking conditions changed the table")
		}
	})
}

// A condition that writes must not get to write, not even under the claim.
func TestConditionsAreReadOnly(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres")
	q := s.recorder(2)
	s.do("CREATE TABLE spy (n integer)",
		"CREATE FUNCTION snoop(at integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN IF current_setting('transaction_read_only') = 'off' OR pg_is_in_recovery() THEN INSERT INTO spy VALUES (at); END IF; RETURN true; END $$")
	items := s.scan(q)
	q2 := *q
	q2.Where = "snoop(id)"
	s.purge(&q2, items)
	s.wantCount("SELECT count(*) FROM transcripts", 1)
	s.wantCount("SELECT count(*) FROM spy", 0)
}

func TestHoldsAndUse(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		q := s.recorder(10)
		s.do("UPDATE transcripts SET title = 'held' WHERE id = 1", "UPDATE transcripts SET status = 'transcribing' WHERE id = 3")
		q.Where, q.Hold, q.InUse = "id < 9", "title = 'held'", "status = 'transcribing'"
		items := s.scan(q)
		var got []string
		for _, it := range items {
			got = append(got, it.ID+map[bool]string{true: " held"}[it.Held]+map[bool]string{true: " used"}[it.InUse])
		}
		if d := cmp.Diff([]string{"1 held", "3 used", "5", "7"}, got); d != "" {
			s.Fatalf("items (-want +got):\n%s", d)
		}
		// Between the scan and the claim, 5 is put on hold and 7 renamed out of reach.
		s.do("UPDATE transcripts SET title = 'held' WHERE id = 5", "UPDATE audio_assets SET sha256 = 'other' WHERE id = 7")
		rs, _ := s.purge(q, items)
		if d := cmp.Diff([]string{"present HELD", "present IN_USE", "present HELD", "present CHANGED"}, reasons(rs)); d != "" {
			s.Errorf("claim (-want +got):\n%s", d)
		}
		var survey connector.Survey
		for _, err := range s.c.Scan(s.ctx(), q, &survey) {
			if err != nil {
				s.Fatal(err)
			}
		}
		if survey.Total != 8 {
			s.Errorf("Total: got %d, want 8, the rows that match where", survey.Total)
		}
		if survey.Clock.IsZero() != (s.system == "sqlite") {
			s.Errorf("Clock: got %v", survey.Clock)
		}
	})
}

// hints are what check says to write instead of a condition.
func (s *store) hints(where string) (out []string) {
	q := query("transcripts")
	q.Where = where
	for _, f := range s.check(q) {
		out = append(out, f.Hint)
	}
	return out
}
