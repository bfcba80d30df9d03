package rows_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/connector"
)

// A text column may hold a JSON array. Read as one value, its elements were not
// seen, and what a surviving row names went.
func TestReferencedByTextWithArrays(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", name varchar(20))", "CREATE INDEX ix_at ON root (created_at)",
			"CREATE TABLE other (id integer PRIMARY KEY, track_names varchar(100))", "CREATE INDEX ix_tracks ON other (track_names)",
			"INSERT INTO root VALUES (1, "+due+`, 'one'), (2, `+due+`, 'two')`, `INSERT INTO other VALUES (1, 'two'), (2, NULL), (3, '[1]'), (4, '[draft] of "one"'), (5, '[]')`)
		q := query("root")
		by := connector.Column{Table: "other", Column: "track_names"}
		q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}, ReferencedBy: []connector.Column{by}}}
		if got := faults(s.check(q)); len(got) > 0 {
			s.Errorf("without an array: faults %q", got)
		}

		s.do(`INSERT INTO other VALUES (6, ' [ "x", "one" ]')`)
		got := faults(s.check(q))
		if len(got) != 1 || !strings.Contains(got[0], "track_names of ") || !strings.Contains(got[0], "holds JSON arrays, and would be read as one value") {
			s.Errorf("with an array: faults %q, want one", got)
		}
		found := 0
		var scan error
		for it, err := range s.c.Scan(s.ctx(), q, &connector.Survey{}) {
			if err == nil && it.Locator != "" {
				found++
			}
			scan = err
		}
		if found > 0 || scan == nil || strings.Contains(scan.Error(), "one\"") {
			s.Errorf("a run goes on all the same: %d items, %v", found, scan)
		}

		by.Each = true
		q = query("root")
		q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}, ReferencedBy: []connector.Column{by}}}
		if got := faults(s.check(q)); len(got) > 0 {
			s.Errorf("read as arrays: faults %q", got)
		}
		cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
		if len(rs) != 2 || !isKept(rs[0]) || !isKept(rs[1]) {
			s.Errorf("kept %v and %v, want one and two", rs[0].Kept, rs[1].Kept)
		}
		cl.Release()
		s.do("UPDATE other SET track_names = NULL WHERE id IN (1, 4)")
		cl, rs = s.c.Claim(s.ctx(), q, s.scan(q))
		if len(rs) != 2 || !isKept(rs[0]) || isKept(rs[1]) {
			s.Errorf("kept %v and %v, want one and not two", rs[0].Kept, rs[1].Kept)
		}
		cl.Release()

		by = connector.Column{Table: "other", Column: "id", Each: true}
		q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}, ReferencedBy: []connector.Column{by}}}
		if got := faults(s.check(q)); len(got) != 1 || !strings.Contains(got[0], "holds no JSON") {
			s.Errorf("a number as an array: faults %q", got)
		}
	})
}

// PostgreSQL has collations that LIKE refuses. A column of one is looked at all the same.
func TestReferencedByTextWithoutLike(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres")
	s.do("CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
		"CREATE TABLE root (id integer PRIMARY KEY, created_at timestamptz, name text)", "CREATE INDEX ix_at ON root (created_at)",
		"CREATE TABLE other (id integer PRIMARY KEY, name text COLLATE folded)",
		"INSERT INTO root VALUES (1, "+due+", 'one'), (2, "+due+", 'two')", "INSERT INTO other VALUES (1, 'two')")
	q := query("root")
	q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}, ReferencedBy: []connector.Column{{Table: "other", Column: "name"}}}}
	if got := faults(s.check(q)); len(got) > 0 {
		t.Errorf("faults %q", got)
	}
	cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
	defer cl.Release()
	if len(rs) != 2 || isKept(rs[0]) || !isKept(rs[1]) {
		t.Errorf("kept %v, want two and not one", rs)
	}
	s.do(`INSERT INTO other VALUES (2, ' ["one"]')`)
	if got := faults(s.check(q)); len(got) != 1 {
		t.Errorf("with an array: faults %q, want one", got)
	}
}

// What rows name by other columns, and in other words, is needed by them too.
func TestNamedInOtherWords(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		for _, typ := range map[string][]string{"sqlite": {"text", "JSON"}, "postgres": {"json", "jsonb", "text"}, "mariadb": {"json", "longtext"}}[s.system] {
			s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", bucket varchar(20), name varchar(20), names "+typ+")", "CREATE INDEX ix_at ON root (created_at)",
				"CREATE TABLE other (n integer PRIMARY KEY)")
			for i, names := range []string{"NULL", "NULL", "NULL", `'["a/2"]'`, `'["b/3"]'`} {
				at, bucket := due, "one"
				if i >= 3 {
					at, bucket = young, "two"
				}
				s.do(fmt.Sprintf("INSERT INTO root VALUES (%d, %s, '%s', 'a/%d', %s)", i+1, at, bucket, i+1, names))
			}
			s.do("INSERT INTO other VALUES (3), (77)")
			q := query("root")
			q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}, Also: []connector.Also{
				{Refs: []connector.Ref{{Table: "root", Column: "bucket"}, {Table: "root", Column: "names", Each: true}},
					Of: func(t connector.Tuple) (connector.Tuple, bool) { return connector.Tuple{"two", t[0]}, true }},
				{Refs: []connector.Ref{{Table: "other", Column: "n"}},
					Of: func(t connector.Tuple) (connector.Tuple, bool) {
						n, ok := strings.CutPrefix(t[0], "a/")
						return connector.Tuple{n}, ok
					}},
				{Refs: []connector.Ref{{Table: "nowhere", Column: "n"}}, Of: func(t connector.Tuple) (connector.Tuple, bool) { return t, true }},
				{Refs: []connector.Ref{{Table: "other", Column: "n"}}, Of: func(connector.Tuple) (connector.Tuple, bool) { return connector.Tuple{"no number"}, true }},
			}}}
			if got := faults(s.check(q)); len(got) > 0 {
				s.Fatalf("faults %q", got)
			}
			cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
			if len(rs) != 3 || isKept(rs[0]) || !isKept(rs[1]) || !isKept(rs[2]) {
				s.Errorf("%s: %v, kept %t, %t, %t; want not a/1, but a/2 and a/3", typ, reasons(rs), isKept(rs[0]), isKept(rs[1]), isKept(rs[2]))
			}
			cl.Release()
			s.do("DROP TABLE other", "DROP TABLE root")
		}
	})
}

// A key that is a number or UUID is found by its index, and a name that holds
// something else is no error.
func TestNamedByKey(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres")
	for typ, key := range map[string]string{"uuid": "0a0a0a0a-0000-4000-8000-00000000000a", "smallint": "32767", "integer": "-7", "bigint": "9223372036854775807", "varchar(40)": "a"} {
		s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", name text)", "CREATE INDEX ix_at ON root (created_at)", "CREATE TABLE other (id "+typ+" PRIMARY KEY)",
			"INSERT INTO other VALUES ('"+key+"')",
			fmt.Sprintf("INSERT INTO root VALUES (1, %s, '%s.mp3'), (2, %s, '99999999999999999999.mp3'), (3, %s, '%s.mp3'), (4, %s, '+7.mp3')", due, key, due, due, strings.ToUpper(key)+"0", due))
		q := query("root")
		q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}, Also: []connector.Also{{Refs: []connector.Ref{{Table: "other", Column: "id"}},
			Of: func(t connector.Tuple) (connector.Tuple, bool) {
				id, ok := strings.CutSuffix(t[0], ".mp3")
				return connector.Tuple{id}, ok
			}}}}}
		if got := faults(s.check(q)); len(got) > 0 {
			t.Fatalf("%s: faults %q", typ, got)
		}
		cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
		if got := fmt.Sprint(reasons(rs)); len(rs) != 4 || strings.Count(got, "present ELIGIBLE") != 4 || !isKept(rs[0]) || isKept(rs[1]) || isKept(rs[2]) || isKept(rs[3]) {
			t.Errorf("%s: %s, kept %v", typ, got, rs)
		}
		cl.Release()
		s.do("DROP TABLE other", "DROP TABLE root")
	}
}
