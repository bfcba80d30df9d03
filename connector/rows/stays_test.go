package rows_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/connector"
)

// A row that stays and whose JSON is not as it should be still names what stands
// in it: the application may read it in another way.
func TestFaultyJSONStillNames(t *testing.T) {
	t.Parallel()
	names := []connector.Ref{{Column: "names", Each: true}}
	deep := []connector.Ref{{Column: "names", Each: true, Path: []string{"audio", "keys"}}}
	cases := []struct {
		due, stays string
		refs       []connector.Ref
		want       bool
	}{
		{`["one"]`, `["one", {"n": 1}]`, names, true},
		{`["one"]`, `[["one"]]`, names, true},
		{`["one"]`, `[{"key": "one"}]`, names, true},
		{`["one"]`, `["tw\u006f", {}, "\u006fne"]`, names, true},
		{`["one"]`, `["two", {"n": 1}, "someone"]`, names, false},
		{`["one"]`, `["one"`, names, true},
		{`["one"]`, `["two"] ["one"]`, names, true},
		{`["one"]`, `["two`, names, false},
		{`["ö\"x"]`, `[?, "ö\"x"]`, names, true},
		{`{"audio": {"keys": ["one"]}}`, `{"audio": {"keys": ["one", {}]}}`, deep, true},
		{`{"audio": {"keys": ["one"]}}`, `{"audio": {"keys": "one"}}`, deep, true},
		{`{"audio": {"keys": ["one"]}}`, `{"audio": {"keys": [["one"]]}}`, deep, true},
		{`{"audio": {"keys": ["one"]}}`, `{"audio": {"keys": [["two"]]}}`, deep, false},
	}
	on(t, func(s *store) {
		for _, typ := range map[string][]string{"sqlite": {"text", "JSON"}, "postgres": {"json", "jsonb", "text"}, "mariadb": {"json", "longtext"}}[s.system] {
			s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", names "+typ+")", "CREATE INDEX ix_at ON root (created_at)")
			for _, c := range cases {
				text := func(json string) string {
					if s.system == "mariadb" {
						json = strings.ReplaceAll(json, `\`, `\\`)
					}
					return "'" + json + "'"
				}
				s.do("DELETE FROM root", fmt.Sprintf("INSERT INTO root VALUES (1, %s, %s)", due, text(c.due)))
				if _, err := s.db.Exec(fmt.Sprintf("INSERT INTO root VALUES (2, %s, %s)", young, text(c.stays))); err != nil {
					if strings.HasPrefix(typ, "json") {
						continue // this column cannot hold it
					}
					s.Fatal(err)
				}
				q := query("root")
				q.Wants = []connector.Want{{Refs: c.refs}}
				cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
				if len(rs) != 1 || reasons(rs)[0] != "present ELIGIBLE" || isKept(rs[0]) != c.want {
					s.Errorf("%s: %s beside %s: %v, kept %t, want %t", typ, c.due, c.stays, reasons(rs), !c.want, c.want)
				}
				cl.Release()
			}
			s.do("DROP TABLE root")
		}
	})
}

// MariaDB keeps a column of the type JSON as a text. Its arrays are read all the same.
func TestReferencedByJSON(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		for _, typ := range map[string][]string{"sqlite": {"JSON"}, "postgres": {"json", "jsonb"}, "mariadb": {"json"}}[s.system] {
			s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", name varchar(20))", "CREATE INDEX ix_at ON root (created_at)",
				"CREATE TABLE other (id integer PRIMARY KEY, track_names "+typ+")",
				"INSERT INTO root VALUES (1, "+due+`, 'one'), (2, `+due+`, 'two')`, `INSERT INTO other VALUES (1, '["x", "one"]'), (2, NULL)`)
			q := query("root")
			q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}, ReferencedBy: []connector.Column{{Table: "other", Column: "track_names"}}}}
			cl, rs := s.c.Claim(s.ctx(), q, s.scan(q))
			if len(rs) != 2 || !isKept(rs[0]) || isKept(rs[1]) {
				s.Errorf("%s: kept %v and %v, want one and not two", typ, rs[0].Kept, rs[1].Kept)
			}
			cl.Release()
			s.do("DROP TABLE other", "DROP TABLE root")
		}
	})
}

// MariaDB calls the number 12 and the text '12abc' equal, and a meeting went with
// a row that did not name it.
func TestLinkOfAnotherType(t *testing.T) {
	t.Parallel()
	s := open(t, "mariadb")
	types := []string{"varchar(30)", "bigint", "integer unsigned", "decimal(20,0)", "double", "datetime", "text", "binary(16)"}
	class := map[string]string{"varchar(30)": "text", "text": "text", "binary(16)": "text", "double": "float", "datetime": "time"}
	for _, a := range types {
		for _, b := range types {
			s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+", meeting "+a+")", "CREATE TABLE meeting (id integer PRIMARY KEY, ref "+b+")")
			q := query("root")
			q.Links = []connector.Link{{Table: "meeting", On: []connector.Pair{{Column: connector.Column{Table: "meeting", Column: "ref"},
				Equals: connector.Column{Table: "root", Column: "meeting"}}}}}
			got := faults(s.check(q))
			if want := class[a] != class[b]; want != (len(got) == 1 && strings.Contains(got[0], "would be called equal")) || len(got) > 1 {
				t.Errorf("%s = %s: faults %q, want one: %t", a, b, got, want)
			}
			s.do("DROP TABLE root", "DROP TABLE meeting")
		}
	}
}
