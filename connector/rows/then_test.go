package rows_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
)

const (
	isNull = connector.NullValue
	isBool = connector.BoolValue
	number = connector.NumberValue
	text   = connector.TextValue
	isNow  = connector.NowValue
)

// sets claims and sets all items, and compares what is said of each.
func (s *store) sets(q *connector.Query, items []connector.Item, want ...string) {
	s.Helper()
	cl, rs := s.c.Claim(s.ctx(), q, items)
	defer cl.Release()
	var which []int
	for i, r := range rs {
		if r.State == connector.Present && r.Reason == connector.Eligible {
			which = append(which, i)
		}
	}
	e := cl.Erase(s.ctx(), which)
	got := reasons(rs)
	for n, r := range e.Results {
		got[which[n]] = reasons(e.Results)[n]
		if r.Err != nil {
			s.Logf("item %d: %v", which[n], r.Err)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("what became of the items (-want +got):\n%s", d)
	}
	if len(e.Rows) > 0 {
		s.Errorf("rows are said to be gone: %v", e.Rows)
	}
}

// Every type that can say it: set, read back, and not found again.
func TestThenValues(t *testing.T) {
	t.Parallel()
	stockholm := zone(t, "Europe/Stockholm")
	at := time.Date(2026, 7, 3, 9, 30, 15, 250000000, time.UTC)
	cases := map[string][]struct {
		typ  string
		kind connector.ValueKind
		text string
		zone *time.Location
		want string // as the database casts it to text
	}{
		"postgres": {
			{"boolean", isBool, "true", nil, "true"}, {"boolean", isBool, "false", nil, "false"}, {"boolean NOT NULL DEFAULT false", isBool, "true", nil, "true"},
			{"integer", number, "-7", nil, "-7"}, {"numeric(12,2)", number, "12.50", nil, "12.50"}, {"real", number, "0.1", nil, "0.1"}, {"double precision", number, "0.1", nil, "0.1"},
			{"bigint", number, "9007199254740993", nil, "9007199254740993"},
			{"text", text, "it's gone; -- \\", nil, "it's gone; -- \\"}, {"varchar(10)", text, "", nil, ""}, {"char(5)", text, "ab", nil, "ab"}, {"mood", text, "sad", nil, "sad"},
			{"jsonb", text, `{"a": 1}`, nil, `{"a": 1}`}, {"uuid", text, "5F0C7B1E-0000-4000-8000-000000000001", nil, "5f0c7b1e-0000-4000-8000-000000000001"},
			{"date", text, "2026-01-31", nil, "2026-01-31"}, {"timestamptz", text, "2026-01-31T12:00:00+01:00", nil, "2026-01-31 22:00:00+11"}, // shown at Lord Howe

			{"timestamptz", isNow, "", nil, "2026-07-03 20:00:15.25+10:30"}, {"timestamptz", isNow, "", stockholm, "2026-07-03 20:00:15.25+10:30"},
			{"timestamp", isNow, "", time.UTC, "2026-07-03 09:30:15.25"}, {"timestamp", isNow, "", stockholm, "2026-07-03 11:30:15.25"}, {"timestamp(0)", isNow, "", time.UTC, "2026-07-03 09:30:15"},
			{"date", isNow, "", stockholm, "2026-07-03"}, {"text", isNow, "", nil, "2026-07-03T09:30:15.250000Z"}, {"text", isNow, "", stockholm, "2026-07-03 11:30:15.250000"},
		},
		"mariadb": {
			{"boolean", isBool, "true", nil, "1"}, {"boolean", isBool, "false", nil, "0"}, {"tinyint(1) NOT NULL DEFAULT 0", isBool, "true", nil, "1"}, {"int unsigned", isBool, "true", nil, "1"},
			{"bigint unsigned", number, "18446744073709551615", nil, "18446744073709551615"}, {"decimal(12,2)", number, "12.50", nil, "12.50"}, {"double", number, "0.1", nil, "0.1"},
			{"varchar(20)", text, "it's gone; -- \\", nil, "it's gone; -- \\"}, {"text", text, "", nil, ""}, {"enum('ok','sad')", text, "sad", nil, "sad"}, {"char(5)", text, "ab", nil, "ab"},
			{"date", text, "2026-01-31", nil, "2026-01-31"},
			{"datetime(6)", isNow, "", time.UTC, "2026-07-03 09:30:15.250000"}, {"datetime", isNow, "", stockholm, "2026-07-03 11:30:15"}, {"timestamp(6) NULL", isNow, "", nil, "2026-07-03 20:00:15.250000"}, // shown at +10:30
			{"date", isNow, "", stockholm, "2026-07-03"}, {"varchar(40)", isNow, "", nil, "2026-07-03T09:30:15.250000Z"},
		},
		"sqlite": {
			{"BOOLEAN", isBool, "true", nil, "1"}, {"INTEGER", isBool, "false", nil, "0"}, {"", isBool, "true", nil, "1"},
			{"INTEGER", number, "-7", nil, "-7"}, {"REAL", number, "0.1", nil, "0.1"}, {"NUMERIC(12,2)", number, "12.5", nil, "12.5"},
			{"TEXT", text, "it's gone; -- \\", nil, "it's gone; -- \\"}, {"VARCHAR(3)", text, "", nil, ""}, {"", text, "x", nil, "x"},
			{"DATETIME", isNow, "", nil, "2026-07-03T09:30:15.250000Z"}, {"DATETIME", isNow, "", stockholm, "2026-07-03 11:30:15.250000"}, {"INTEGER", isNow, "", nil, "1783071015"},
			{"DATETIME", text, "2026-01-31 12:00:00", nil, "2026-01-31 12:00:00"},
		},
	}
	for system, list := range cases {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			s := open(t, system)
			s.c = s.connect(rows.Options{Clock: func() time.Time { return at }})
			cast := map[string]string{"postgres": "::text", "mariadb": "", "sqlite": ""}[system]
			if system == "postgres" {
				s.do("CREATE TYPE mood AS ENUM ('ok', 'sad')")
			}
			for _, c := range list {
				s.do("DROP TABLE IF EXISTS root", "CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", said "+c.typ+")",
					"CREATE INDEX ix ON root (created_at)", "INSERT INTO root (id, created_at) VALUES (1, '2026-10-01 10:00:00')")
				q := query("root")
				q.Then = []connector.Setting{{Column: "said", Value: connector.Value{Kind: c.kind, Text: c.text, Zone: c.zone}}}
				name := c.typ + " " + c.text
				items := s.scan(q)
				if len(items) != 1 {
					s.Errorf("%s: %d items", name, len(items))
					continue
				}
				s.sets(q, items, "present SET")
				expr := "said" + cast
				if system != "postgres" {
					expr = "CAST(said AS CHAR)"
				}
				if got := strings.TrimRight(s.word("SELECT "+expr+" FROM root"), " "); got != c.want {
					s.Errorf("%s: the column holds %q, want %q", name, got, c.want)
				}
				if again := s.scan(q); len(again) != 0 {
					s.Errorf("%s: found again", name)
				}
				s.sets(q, items, "present SET") // by the claim alone
				s.do("UPDATE root SET created_at = '2026-12-01 00:00:00'")
				s.wantCount("SELECT count(*) FROM root", 1)
			}
		})
	}
}

// A pointer that is cleared: the column by which a file is named becomes NULL.
func TestThenClearsThePointer(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", path varchar(100))",
			"INSERT INTO root VALUES (1, '2026-10-01 10:00:00', 'a'), (2, '2026-10-01 10:00:00', 'b'), (3, '2026-10-01 10:00:00', 'b'), (4, '2026-12-01 10:00:00', 'a'), (5, '2026-10-01 10:00:00', NULL)")
		q := then(query("root"), "path", isNull, "")
		q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "path"}}}}
		items := s.scan(q)
		if len(items) != 3 {
			s.Fatalf("%d items, want those with a path that are due", len(items))
		}
		cl, rs := s.c.Claim(s.ctx(), q, items)
		if got := keptNames(items, rs); !slices.Equal(got, []string{"1 a"}) {
			s.Errorf("kept: %v, want what the fourth row names", got)
		}
		e := cl.Erase(s.ctx(), []int{1, 2})
		if got := reasons(e.Results); !slices.Equal(got, []string{"present SET", "present SET"}) {
			s.Errorf("got %v", got)
		}
		s.wantCount("SELECT count(*) FROM root WHERE path IS NULL", 3)
		s.sets(q, items[1:], "present SET", "present SET")
	})
}

// A condition that leaves out what is set does not hide from a claim that it is:
// a run that was cut off after its commit must learn so.
func TestThenSetBeforeWhere(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", said boolean)", "INSERT INTO root VALUES (1, '2026-10-01 10:00:00', NULL)")
		q := then(query("root"), "said", isBool, "true")
		q.Where = "said IS NOT TRUE"
		items := s.scan(q)
		s.sets(q, items, "present SET")
		s.sets(q, items, "present SET")
	})
}

// keptNames lists the values that the claim says are kept, by item.
func keptNames(items []connector.Item, rs []connector.Result) (out []string) {
	for i, r := range rs {
		for w := range r.Kept {
			for k, kept := range r.Kept[w] {
				if kept {
					out = append(out, items[i].ID+" "+strings.Join(items[i].Values[w][k], "/"))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// What the rule goes by cannot be set, nor what the column cannot hold.
func TestThenFaults(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE rooms (id integer PRIMARY KEY)",
			"CREATE TABLE recording (id integer PRIMARY KEY, path varchar(100))",
			"CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", code integer UNIQUE, room_id integer REFERENCES rooms (id), recording_id integer, said boolean, seen "+
				s.stamp()+", name varchar(100) NOT NULL, made integer GENERATED ALWAYS AS (code + 1) "+map[string]string{"mariadb": "VIRTUAL"}[s.system]+map[string]string{"postgres": "STORED", "sqlite": "STORED"}[s.system]+")",
			"CREATE TABLE other (id integer PRIMARY KEY, code integer REFERENCES root (code))")
		if s.system == "mariadb" { // an inline REFERENCES was ignored by older ones
			s.do("CREATE TABLE child (id integer PRIMARY KEY, code integer, FOREIGN KEY (code) REFERENCES root (code))")
		}
		for _, c := range []struct {
			column string
			kind   connector.ValueKind
			text   string
			want   string
		}{
			{"sayd", isBool, "true", `has no column "sayd"`},
			{"id", number, "7", "is its key"},
			{"created_at", isNow, "", "starts the clock"},
			{"room_id", isNull, "", "is part of the foreign key"},
			{"code", isNull, "", "is what the foreign key"},
			{"recording_id", isNull, "", "is how rows of"},
			{"name", isNull, "", "cannot be NULL"},
			{"name", isBool, "true", "and the value is true or false"},
			{"name", number, "7", "and the value is a number"},
			{"said", text, "yes", "and the value is a text"},
			{"said", isNow, "", "which holds no timestamp"},
			{"seen", text, "today", "the value is none"},
			{"made", number, "7", map[string]string{"mariadb": "is generated"}[s.system] + map[string]string{"postgres": "does not set made", "sqlite": "does not set made"}[s.system]},
		} {
			if c.column == "seen" && s.system == "sqlite" {
				continue // such a column holds any text
			}
			q := then(query("root"), c.column, c.kind, c.text)
			q.Links = []connector.Link{{Table: "recording", On: []connector.Pair{{Column: connector.Column{Table: "recording", Column: "id"}, Equals: connector.Column{Table: "root", Column: "recording_id"}}}}}
			q.Wants = []connector.Want{{Refs: []connector.Ref{{Table: "recording", Column: "path"}}}}
			if got := faults(s.check(q)); len(got) != 1 || !strings.HasPrefix(got[0], "then: ") || !strings.Contains(got[0], c.want) {
				s.Errorf("%s: faults %q, want %q", c.column, got, c.want)
			}
		}
		twice := then(query("root"), "said", isBool, "true", "SAID", isBool, "false")
		if got := faults(s.check(twice)); len(got) != 1 || !strings.Contains(got[0], "is set twice") {
			s.Errorf("twice: faults %q", got)
		}
		if s.system != "sqlite" {
			q := then(query("root"), "seen", isNow, "")
			q.Then[0].Value.Zone = nil
			if got := faults(s.check(q)); len(got) != 1 || !strings.Contains(got[0], "without a zone") {
				s.Errorf("no zone: faults %q", got)
			}
		}
	})
}

// A file named by a row that is neither linked nor goes with its parent could
// never be let go of: the check says so.
func TestThenWantsItsTablesTold(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE recording (id integer PRIMARY KEY, path varchar(100))",
			"CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", recording_id integer, said boolean, FOREIGN KEY (recording_id) REFERENCES recording (id))")
		q := then(query("root"), "said", isBool, "true")
		q.Wants = []connector.Want{{Refs: []connector.Ref{{Table: "recording", Column: "path"}}}}
		if got := faults(s.check(q)); len(got) != 1 || !strings.Contains(got[0], "parts[0]: rows of") {
			s.Errorf("faults %q", got)
		}
		q.Links = []connector.Link{{Table: "recording"}}
		if got := faults(s.check(q)); len(got) != 0 {
			s.Errorf("linked: faults %q", got)
		}
	})
}

// A trigger that keeps the row from being set, undoes it, or fails refuses the
// item before anything of it is touched; the others are set.
func TestThenTriggers(t *testing.T) {
	t.Parallel()
	triggers := map[string][]string{
		"postgres": {"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 1 THEN RETURN NULL; END IF; " +
			"IF OLD.id = 2 THEN NEW.said = false; END IF; IF OLD.id = 3 THEN RAISE EXCEPTION 'no'; END IF; NEW.seq = 100 + OLD.id; RETURN NEW; END $$",
			"CREATE TRIGGER t BEFORE UPDATE ON root FOR EACH ROW EXECUTE FUNCTION f()",
			"CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 4 THEN RAISE EXCEPTION 'later'; END IF; RETURN NULL; END $$",
			"CREATE CONSTRAINT TRIGGER u AFTER UPDATE ON root DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION g()"},
		"mariadb": {"CREATE TRIGGER t BEFORE UPDATE ON root FOR EACH ROW BEGIN IF OLD.id IN (1, 2) THEN SET NEW.said = OLD.said; END IF; " +
			"IF OLD.id IN (3, 4) THEN SIGNAL SQLSTATE '45000'; END IF; SET NEW.seq = 100 + OLD.id; END"},
		"sqlite": {"CREATE TRIGGER t AFTER UPDATE OF said ON root WHEN OLD.id IN (1, 2) BEGIN UPDATE root SET said = NULL WHERE id = OLD.id; END",
			"CREATE TRIGGER u BEFORE UPDATE ON root WHEN OLD.id IN (3, 4) BEGIN SELECT RAISE(ABORT, 'no'); END",
			"CREATE TRIGGER v AFTER UPDATE OF said ON root WHEN OLD.id > 4 BEGIN UPDATE root SET seq = 100 + OLD.id WHERE id = OLD.id; END"},
	}
	on(t, func(s *store) {
		s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at " + s.stamp() + ", said boolean, seq integer)")
		s.do("INSERT INTO root (id, created_at) VALUES (1, '2026-10-01 10:00:00'), (2, '2026-10-01 10:00:00'), (3, '2026-10-01 10:00:00'), (4, '2026-10-01 10:00:00'), (5, '2026-10-01 10:00:00'), (6, '2026-10-01 10:00:00')")
		if s.system == "sqlite" {
			s.do("PRAGMA recursive_triggers = 0")
		}
		s.do(triggers[s.system]...)
		q := then(query("root"), "said", isBool, "true")
		s.sets(q, s.scan(q), "present REFUSED", "present REFUSED", "present REFUSED", "present REFUSED", "present SET", "present SET")
		s.wantCount("SELECT count(*) FROM root WHERE said AND seq = 100 + id", 2)
		s.wantCount("SELECT count(*) FROM root WHERE said IS NULL AND seq IS NULL", 4)
	})
}

// A role that may read and lock but not set that column.
func TestThenNoPermission(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres")
	s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at timestamp, said boolean, name text)", "INSERT INTO root VALUES (1, '2026-10-01 10:00:00')")
	role := "setter_" + s.word("SELECT current_database()")
	s.do("CREATE ROLE "+role+" LOGIN", "GRANT SELECT, UPDATE (name) ON root TO "+role)
	t.Cleanup(func() { s.do("DROP OWNED BY "+role, "DROP ROLE "+role) })
	s.dsn = strings.Replace(s.dsn, "postgres@", role+"@", 1)
	s.c = s.connect(rows.Options{})
	q := then(query("root"), "said", isBool, "true")
	warned := slices.ContainsFunc(s.check(q), func(f connector.Finding) bool {
		return f.Severity == connector.Warning && f.Subject == "then" && strings.Contains(f.Text, "may not set said")
	})
	if !warned {
		t.Error("Check does not warn that the role may not set the column")
	}
	s.sets(q, s.scan(q), "present NO_PERMISSION")
	s.wantCount("SELECT count(*) FROM root WHERE said", 0)
}

func TestThenNoPermissionMariaDB(t *testing.T) {
	t.Parallel()
	s := open(t, "mariadb")
	s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at datetime, said boolean, name text)", "INSERT INTO root (id, created_at) VALUES (1, '2026-10-01 10:00:00')")
	user := "setter_" + s.word("SELECT LEFT(MD5(DATABASE()), 12)")
	s.do("CREATE USER "+user+"@localhost IDENTIFIED BY 'p'", "GRANT SELECT, UPDATE (name) ON root TO "+user+"@localhost")
	t.Cleanup(func() { s.do("DROP USER " + user + "@localhost") })
	q := then(query("root"), "said", isBool, "true")
	for _, f := range s.check(q) { // by one who may: MariaDB plans no UPDATE in a transaction that only reads
		if f.Subject == "then" {
			t.Errorf("Check says to one who may: %s", f.Text)
		}
	}
	s.dsn = strings.Replace(s.dsn, "root@", user+":p@", 1)
	s.c = s.connect(rows.Options{})
	warned := slices.ContainsFunc(s.check(q), func(f connector.Finding) bool {
		return f.Severity == connector.Warning && f.Subject == "then" && strings.Contains(f.Text, "may not set said")
	})
	if !warned {
		t.Error("Check does not warn that the user may not set the column")
	}
	s.sets(q, s.scan(q), "present NO_PERMISSION")
	s.wantCount("SELECT count(*) FROM root WHERE said", 0)
}

// consent is a table of transcripts whose audio is named by itself, by a child
// and by a linked recording, as in an application that keeps the row.
func (s *store) consent() *connector.Query {
	s.do(
		"CREATE TABLE recording (id integer PRIMARY KEY, path varchar(100))",
		"CREATE TABLE transcript (id integer PRIMARY KEY, created_at "+s.stamp()+", path varchar(100), recording_id integer, audio_deleted boolean)",
		"CREATE TABLE asset (id integer PRIMARY KEY, transcript_id integer NOT NULL, sha varchar(100), FOREIGN KEY (transcript_id) REFERENCES transcript (id) ON DELETE CASCADE)",
		"CREATE TABLE shelf (id integer PRIMARY KEY, sha varchar(100))",
		"INSERT INTO recording VALUES (1, 'r1'), (2, 'r2'), (3, 'r3')",
		// 1 and 2 share a recording and a path; 3 shares a recording with the young 4,
		// and a path with nobody; 5 shares its path with 6, which is set.
		"INSERT INTO transcript VALUES (1, '2026-10-01 10:00:00', 'p', 1, NULL), (2, '2026-10-02 10:00:00', 'p', 1, false), (3, '2026-10-03 10:00:00', 'q', 2, NULL),"+
			" (4, '2026-12-01 10:00:00', 'y', 2, NULL), (5, '2026-10-05 10:00:00', 's', 3, NULL), (6, '2026-10-06 10:00:00', 's', 3, true)",
		"INSERT INTO asset VALUES (1, 1, 'a1'), (2, 2, 'a2'), (3, 3, 'a3'), (4, 4, 'a3'), (5, 5, 'a5')",
		"INSERT INTO shelf VALUES (1, 'a2')",
	)
	q := then(query("transcript"), "audio_deleted", isBool, "true")
	q.Links = []connector.Link{{Table: "recording", On: []connector.Pair{{Column: connector.Column{Table: "recording", Column: "id"}, Equals: connector.Column{Table: "transcript", Column: "recording_id"}}}}}
	q.Wants = []connector.Want{
		{Refs: []connector.Ref{{Column: "path"}}},
		{Refs: []connector.Ref{{Table: "asset", Column: "sha"}}, ReferencedBy: []connector.Column{{Table: "shelf", Column: "sha"}}},
		{Refs: []connector.Ref{{Table: "recording", Column: "path"}}},
	}
	return q
}

// What only the claimed rows, their children and their linked rows name is not
// needed by them any more, though all these rows stay; nor by a row that is set.
// What another row names is. Seen to fail without spare, and without unsettled
// in stays and neededStmts.
func TestThenShares(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		q := s.consent()
		items := s.scan(q)
		var ids []string
		for _, it := range items {
			ids = append(ids, it.ID)
		}
		if !slices.Equal(ids, []string{"1", "2", "3", "5"}) {
			s.Fatalf("items %v", ids)
		}
		claim := func(items []connector.Item, want ...string) {
			s.Helper()
			cl, rs := s.c.Claim(s.ctx(), q, items)
			defer cl.Release()
			for i, r := range rs {
				if r.Reason != connector.Eligible {
					s.Errorf("item %s: %s (%v)", items[i].ID, r.Reason, r.Err)
				}
			}
			if d := cmp.Diff(want, keptNames(items, rs)); d != "" {
				s.Errorf("kept (-want +got):\n%s", d)
			}
		}
		claim(items, "2 a2", "3 a3", "3 r2")
		claim(items[:1], "1 p", "1 r1") // the second one needs them
		before := s.dump("SELECT * FROM recording ORDER BY id") + s.dump("SELECT * FROM asset ORDER BY id")
		s.sets(q, []connector.Item{items[0], items[3]}, "present SET", "present SET")
		if after := s.dump("SELECT * FROM recording ORDER BY id") + s.dump("SELECT * FROM asset ORDER BY id"); after != before {
			s.Errorf("linked rows or children changed:\n%s", after)
		}
		s.wantCount("SELECT count(*) FROM transcript WHERE audio_deleted", 3)
		claim(s.scan(q)[:1], "2 a2") // the first one is set, and needs nothing
	})
}

// The role needs no right to delete, and a table that could not be purged of rows
// can be told.
func TestThenNeedsNoDelete(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", said boolean)",
			"CREATE TABLE django (id integer PRIMARY KEY, root_id integer NOT NULL, FOREIGN KEY (root_id) REFERENCES root (id))",
			"INSERT INTO root (id, created_at) VALUES (1, '2026-10-01 10:00:00')", "INSERT INTO django VALUES (1, 1)")
		q := then(query("root"), "said", isBool, "true")
		for _, f := range s.check(q) {
			if strings.Contains(f.Text, "django") || strings.Contains(f.Text, "delete") {
				s.Errorf("finding: %s", f.Text)
			}
		}
		s.sets(q, s.scan(q), "present SET")
	})
}

// Of many items some cannot be set, and only some of the others are asked for.
func TestThenSplitsAndSubsets(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at " + s.stamp() + ", said boolean, stuck boolean, CHECK (said IS NULL OR stuck IS NULL))")
		for i := range 40 {
			stuck := "NULL"
			if i%9 == 4 {
				stuck = "true"
			}
			s.do("INSERT INTO root VALUES (" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + ", '2026-10-01 10:00:00', NULL, " + stuck + ")")
		}
		q := then(query("root"), "said", isBool, "true")
		items := s.scan(q)
		cl, rs := s.c.Claim(s.ctx(), q, items)
		defer cl.Release()
		var which []int
		for i, r := range rs {
			if want := map[bool]connector.Reason{true: connector.Refused, false: connector.Eligible}[i%9 == 4]; r.Reason != want {
				s.Errorf("item %d: %s, want %s", i, r.Reason, want)
			}
			if i%2 == 0 {
				which = append(which, i)
			}
		}
		n := 0
		for k, r := range cl.Erase(s.ctx(), which).Results {
			if ok := which[k]%9 != 4; ok != (r.Reason == connector.Set) {
				s.Errorf("item %d: %s %s", which[k], r.State, r.Reason)
			} else if ok {
				n++
			}
		}
		s.wantCount("SELECT count(*) FROM root WHERE said", n)
	})
}

// Text that is overwritten by a constant is in no file of SQLite afterwards.
func TestThenLeavesNoTextInSQLite(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite")
	s.do("PRAGMA secure_delete = 0", "CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", words text, said boolean)")
	long := strings.Repeat("word by word ", 40)
	for i := range 60 {
		s.do("INSERT INTO root VALUES (" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + ", '2026-10-01 10:00:00', 'planted canary " + long + "', NULL)")
	}
	q := then(query("root"), "words", isNull, "", "said", isBool, "true")
	cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
	which := make([]int, len(rs))
	for i := range which {
		which[i] = i
	}
	for _, r := range cl.Erase(s.ctx(), which).Results {
		if r.Reason != connector.Set {
			t.Fatalf("got %s (%v)", r.Reason, r.Err)
		}
	}
	cl.Release()
	s.db.Close()
	if err := s.c.Close(); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(s.dsn, "sqlite:")
	for _, name := range []string{path, path + "-wal"} {
		b, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("canary")) {
			t.Errorf("the text is still in a file of the database (%d bytes)", len(b))
		}
	}
}
