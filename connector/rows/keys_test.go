package rows_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
)

const someUUID = "6f1c2a7e-33c4-4d8e-9a10-0123456789ab"

func TestKeys(t *testing.T) {
	t.Parallel()
	type keyCase struct {
		typ  string
		keys []string // SQL literals
		ids  []string // Item.ID, in scan order
	}
	cases := map[string][]keyCase{
		"sqlite": {
			{"integer", []string{"-5", "7", "9223372036854775807"}, []string{"-5", "7", "9223372036854775807"}},
			{"text", []string{"'Anna Ö/%'", "'7'", "''", "'" + someUUID + "'", "'x''00'", "char(10) || 'a'"}, []string{"", "", "", "", someUUID, ""}},
			{"blob", []string{"x'00ff'", "7", "'7'", "7.5", "'r7.5'"}, []string{"7", "", "", "", ""}},
		},
		"postgres": {
			{"bigint", []string{"-5", "9223372036854775807"}, []string{"-5", "9223372036854775807"}},
			{"uuid", []string{"'" + strings.ToUpper(someUUID) + "'"}, []string{someUUID}},
			{"text", []string{"'Anna Ö/%'", "'7'", "''", "'" + someUUID + "'", "E'\\n\\\\'"}, []string{"", "", "", "", someUUID}},
			{"char(6)", []string{"'ab'", "'abc'"}, []string{"", ""}},
			{"timestamptz", []string{"'2026-01-01 00:00:00.000001+05'"}, []string{""}},
			{"bytea", []string{`'\x00ff'`, `'\x'`}, []string{"", ""}},
			{"numeric", []string{"1.50", "12345678901234567890.123"}, []string{"", ""}},
			{"boolean", []string{"true", "false"}, []string{"", ""}},
		},
		"mariadb": {
			{"bigint unsigned", []string{"7", "9007199254740993", "18446744073709551615"}, []string{"7", "9007199254740993", "18446744073709551615"}},
			{"varchar(50) character set utf8mb4", []string{"'Anna Ö/%'", "'7'", "''", "'😀 x'", "'" + someUUID + "'"}, []string{"", "", "", "", someUUID}},
			{"varchar(50) character set latin1", []string{"'Ö'", "'o'"}, []string{"", ""}},
			{"binary(3)", []string{"x'00ff27'", "x'5c2700'"}, []string{"", ""}},
			{"date", []string{"'2026-01-01'"}, []string{""}},
		},
	}
	for system, list := range cases {
		for _, c := range list {
			t.Run(system+"/"+c.typ, func(t *testing.T) {
				t.Parallel()
				s := open(t, system)
				s.do("CREATE TABLE root (id "+c.typ+" NOT NULL PRIMARY KEY, created_at "+s.stamp()+")", "CREATE TABLE child (id integer PRIMARY KEY, root_id "+c.typ+" REFERENCES root (id) ON DELETE CASCADE, blob_name varchar(50))",
					"CREATE TABLE leaf (id integer PRIMARY KEY, child_id integer REFERENCES child (id) ON DELETE CASCADE)")
				for i, k := range c.keys {
					s.do(fmt.Sprintf("INSERT INTO root VALUES (%s, %s)", k, due), fmt.Sprintf("INSERT INTO child VALUES (%d, %s, 'blob%d')", i, k, i), fmt.Sprintf("INSERT INTO leaf VALUES (%d, %d)", i, i))
				}
				q := query("root")
				q.Wants = []connector.Want{{Refs: []connector.Ref{{Table: "child", Column: "blob_name"}}}}
				s.c = s.connectChunk(2)
				items := s.scan(q)
				var ids []string
				seen := map[connector.Locator]bool{}
				var at []connector.Locator
				for _, it := range items {
					ids = append(ids, it.ID)
					if seen[it.Locator] {
						t.Errorf("locator %q names two rows", it.Locator)
					}
					seen[it.Locator] = true
					at = append(at, it.Locator)
					if len(it.Values[0]) != 1 {
						t.Errorf("values of %q: %v, want one", it.Locator, it.Values)
					}
				}
				slices.Sort(ids)
				want := slices.Sorted(slices.Values(c.ids))
				if d := cmp.Diff(want, ids); d != "" {
					t.Errorf("ids (-want +got):\n%s", d)
				}
				for i, r := range s.c.Probe(s.ctx(), at) {
					if r.State != connector.Present {
						t.Errorf("probe of %q: %v %v", at[i], r.State, r.Err)
					}
				}
				_, e := s.purge(q, items)
				if n := len(c.keys); countsText(e.Rows) != fmt.Sprintf("child %d, leaf %d, root %d", n, n, n) {
					t.Errorf("rows: %s", countsText(e.Rows))
				}
				s.wantCount("SELECT count(*) FROM root", 0)
				for _, r := range s.c.Probe(s.ctx(), at) {
					if r.State != connector.Gone || r.Reason != connector.Missing {
						t.Errorf("probe afterwards: %v %v %v", r.State, r.Reason, r.Err)
					}
				}
			})
		}
	}
}

// Names that need quoting, in every place where a name is put into a statement.
func TestHostileIdentifiers(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		quote := func(n string) string { return `"` + strings.ReplaceAll(n, `"`, `""`) + `"` }
		if s.system == "mariadb" {
			quote = func(n string) string { return "`" + strings.ReplaceAll(n, "`", "``") + "`" }
		}
		root, child, other := "odd \"na`me", "select; --", "Robert'); DROP TABLE x"
		id, at, fk, name := "order", "group by", "a.b", "Ünï 'c'"
		s.do(fmt.Sprintf("CREATE TABLE %s (%s integer PRIMARY KEY, %s %s, %s varchar(20))", quote(root), quote(id), quote(at), s.stamp(), quote(name)),
			fmt.Sprintf("CREATE TABLE %s (%s integer PRIMARY KEY, %s integer, %s varchar(20), FOREIGN KEY (%s) REFERENCES %s (%s) ON DELETE CASCADE)", quote(child), quote(id), quote(fk), quote(name), quote(fk), quote(root), quote(id)),
			fmt.Sprintf("CREATE TABLE %s (%s integer PRIMARY KEY, %s varchar(20))", quote(other), quote(id), quote(name)),
			fmt.Sprintf("INSERT INTO %s VALUES (1, %s, 'v')", quote(root), due),
			fmt.Sprintf("INSERT INTO %s VALUES (1, 1, 'blob')", quote(child)), fmt.Sprintf("INSERT INTO %s VALUES (1, 'v'), (2, 'blob')", quote(other)))
		q := &connector.Query{Collection: root, Anchor: connector.Anchor{Column: at, Zone: time.UTC}, Cutoff: cutoff,
			Where: quote(name) + " = 'v'",
			Wants: []connector.Want{{Refs: []connector.Ref{{Table: child, Column: name}}, ReferencedBy: []connector.Column{{Table: other, Column: name}}}},
			Links: []connector.Link{{Table: other, On: []connector.Pair{{Column: connector.Column{Table: other, Column: name}, Equals: connector.Column{Table: root, Column: name}}}}}}
		items := s.scan(q)
		if got := fmt.Sprint(items[0].Values); got != "[[[blob]]]" {
			s.Fatalf("values: %s", got)
		}
		rs, e := s.purge(q, items)
		if !isKept(rs[0]) {
			s.Error("the reference by the other table is not seen")
		}
		var n int64
		for _, c := range e.Rows {
			n += c.N
		}
		if n != 3 {
			s.Errorf("rows: %v, want 3 in all", e.Rows)
		}
	})
}

func TestJSONValues(t *testing.T) {
	t.Parallel()
	cases := []struct {
		json string
		want string // of keys[*] with the bucket, "error" for Item.Err
	}{
		{`NULL`, "[]"},
		{`'{"audio": {"keys": ["b", "a", "a", "", null, 7]}}'`, "[[bk 7] [bk a] [bk b]]"},
		{`'{"audio": {}}'`, "[]"},
		{`'{"audio": null}'`, "[]"},
		{`'{"audio": {"keys": "a"}}'`, "error"},
		{`'{"audio": {"keys": [["a"]]}}'`, "error"},
		{`'{"audio": ["a"]}'`, "error"},
		{`'{"audio": {"keys": ["x\u002fy", "ö"]}}'`, "[[bk x/y] [bk ö]]"},
	}
	on(t, func(s *store) {
		types := map[string][]string{"sqlite": {"text", "JSON"}, "postgres": {"json", "jsonb", "text"}, "mariadb": {"json", "longtext"}}[s.system]
		for _, typ := range types {
			s.do("DROP TABLE IF EXISTS root", "CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", bucket varchar(20), meta "+typ+")", "CREATE INDEX ix_at ON root (created_at)")
			broken := cases
			if typ == "text" || typ == "longtext" {
				broken = append(slices.Clone(cases), struct{ json, want string }{`'{"audio'`, "error"}, struct{ json, want string }{`'{} {}'`, "error"})
			}
			for i, c := range broken {
				text := c.json
				if s.system == "mariadb" {
					text = strings.ReplaceAll(text, `\`, `\\`)
				}
				s.do(fmt.Sprintf("INSERT INTO root VALUES (%d, %s, 'bk', %s)", i, due, text))
			}
			q := query("root")
			q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "bucket"}, {Column: "meta", Each: true, Path: []string{"audio", "keys"}}}}}
			items := s.scan(q)
			for i, c := range broken {
				got := fmt.Sprint(items[i].Values[0])
				if items[i].Err != nil {
					got = "error"
				}
				if got != c.want {
					s.Errorf("%s %s: got %s, want %s", typ, c.json, got, c.want)
				}
			}
			rs, _ := s.purge(q, items)
			for i, c := range broken {
				want := "present ELIGIBLE"
				if c.want == "error" {
					want = "present INVALID"
				}
				if got := reasons(rs)[i]; got != want {
					s.Errorf("%s %s: claim %s, want %s", typ, c.json, got, want)
				}
			}
			// An element that another row's array still holds is kept.
			s.do("DELETE FROM root", "INSERT INTO root VALUES (1, "+due+`, 'bk', '{"audio": {"keys": ["one", "two"]}}')`,
				"INSERT INTO root VALUES (2, "+young+`, 'bk', '{"audio": {"keys": ["two"]}}'), (3, `+young+`, 'other', '{"audio": {"keys": ["one"]}}')`)
			cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
			if d := cmp.Diff([][]bool{{false, true}}, rs[0].Kept); d != "" {
				s.Errorf("%s: kept (-want +got):\n%s", typ, d)
			}
			cl.Release()
		}
	})
}

// MariaDB calls "Abc" and "abc" equal. Keys and references must not.
func TestCollations(t *testing.T) {
	t.Parallel()
	s := open(t, "mariadb")
	s.do("CREATE TABLE root (id varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, created_at datetime(6), name varchar(20) COLLATE utf8mb4_general_ci, KEY (name))",
		"CREATE TABLE child (id integer PRIMARY KEY, root_id varchar(20) COLLATE utf8mb4_general_ci REFERENCES root (id) ON DELETE CASCADE, blob_name varchar(20))",
		"INSERT INTO root VALUES ('Abc', "+due+", 'blob'), ('young', "+young+", 'BLOB')",
		"INSERT INTO child VALUES (1, 'aBC', 'x')")
	q := query("root")
	q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}}, {Refs: []connector.Ref{{Table: "child", Column: "blob_name"}}}}
	items := s.scan(q)
	if got := fmt.Sprint(items[0].Values); got != "[[[blob]] [[x]]]" {
		t.Fatalf("values: %s", got)
	}
	if _, rs := s.c.Claim(s.ctx(), q, []connector.Item{{Locator: s.at("root", "aBC")}}); reasons(rs)[0] != "gone MISSING" {
		t.Errorf("claim of another spelling: %v", reasons(rs))
	}
	rs, e := s.purge(q, items)
	if isKept(rs[0]) {
		t.Error("blob is kept for the sake of BLOB, which is another name")
	}
	if got := countsText(e.Rows); got != "child 1, root 1" {
		t.Errorf("rows: %s", got)
	}
	// Blanks at the end, accents and width do not count for the server either.
	for _, other := range []string{"blob ", "blöb", "BLÖB  ", "ｂｌｏｂ"} {
		for _, collation := range []string{"utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_unicode_520_ci"} {
			s.do("DELETE FROM root", "ALTER TABLE root MODIFY name varchar(20) COLLATE "+collation,
				"INSERT INTO root VALUES ('Abc', "+due+", 'blob'), ('young', "+young+", '"+other+"')")
			cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
			if len(rs) != 1 || reasons(rs)[0] != "present ELIGIBLE" || isKept(rs[0]) {
				t.Errorf("%s: blob is kept for the sake of %q: %v", collation, other, reasons(rs))
			}
			cl.Release()
		}
	}
	s.do("DELETE FROM root", "INSERT INTO root VALUES ('Abc', "+due+", 'blob'), ('two', "+young+", 'blob')")
	cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
	defer cl.Release()
	if !isKept(rs[0]) {
		t.Error("blob is not kept though a surviving row names it beside one that names BLOB")
	}
}

// A key is read as a text, and its row found by that text and no other.
func TestMariaDBKeysOfAllTypes(t *testing.T) {
	t.Parallel()
	s := open(t, "mariadb")
	for typ, of := range map[string][2]string{
		"decimal(20,0)": {"9007199254740993", "9007199254740992"}, "decimal(30,2)": {"900719925474099300.01", "900719925474099300.02"},
		"bigint unsigned": {"18446744073709551615", "18446744073709551614"}, "double": {"0.30000000000000004", "0.3"}, "year": {"2001", "2002"},
		"date": {"'2001-01-01'", "'2001-01-02'"}, "time(6)": {"'-10:00:00.5'", "'10:00:00.5'"},
		"datetime(6)":  {"'2001-01-01 00:00:00.000001'", "'2001-01-01 00:00:00.000002'"},
		"timestamp(6)": {"'2001-01-01 00:00:00.000001'", "'2001-01-01 00:00:00.000002'"}, "enum('a','b')": {"'a'", "'b'"},
		"uuid": {"'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"}, "inet6": {"'::1'", "'::2'"},
		"varbinary(10)": {"x'00ff'", "x'00fe'"}, "char(5) CHARACTER SET latin1": {"'ö'", "'p'"},
	} {
		s.do("CREATE TABLE root (id "+typ+" PRIMARY KEY, created_at datetime)", "CREATE TABLE child (id "+typ+" PRIMARY KEY REFERENCES root (id) ON DELETE CASCADE)",
			fmt.Sprintf("INSERT INTO root VALUES (%s, %s), (%s, %s)", of[0], due, of[1], young), fmt.Sprintf("INSERT INTO child VALUES (%s), (%s)", of[0], of[1]))
		q := query("root")
		rs, e := s.purge(q, s.scan(q))
		if got, left := countsText(e.Rows), s.count("SELECT count(*) FROM root JOIN child USING (id) WHERE created_at = "+young); len(rs) != 1 || got != "child 1, root 1" || left != 1 {
			t.Errorf("%s: %v, rows %s, %d left of the row that is not due, want 1", typ, reasons(rs), got, left)
		}
		s.do("DROP TABLE child", "DROP TABLE root")
	}
}

func TestMariaDBTablesThatCannotBePurged(t *testing.T) {
	t.Parallel()
	s := open(t, "mariadb")
	s.do("CREATE TABLE flat (id integer PRIMARY KEY, created_at datetime) ENGINE = MyISAM",
		"CREATE TABLE past (id integer PRIMARY KEY, created_at datetime) WITH SYSTEM VERSIONING",
		"CREATE TABLE single (id float PRIMARY KEY, created_at datetime)", "CREATE TABLE bits (a integer, b bit(64), created_at datetime, PRIMARY KEY (a, b))")
	for table, want := range map[string]string{"flat": "no transactions", "past": "history", "single": "type float", "bits": "type bit"} {
		if got := faults(s.check(query(table))); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: faults %q, want one with %q", table, got, want)
		}
	}
}
