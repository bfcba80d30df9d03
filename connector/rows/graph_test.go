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

// recAndMeet links recordings and meetings to a root by columns that are no
// foreign keys; a recording names a meeting too.
func recAndMeet(recFirst bool) []connector.Link {
	on := func(table, root string) []connector.Pair {
		return []connector.Pair{{Column: connector.Column{Table: table, Column: "id"}, Equals: connector.Column{Table: "root", Column: root}}}
	}
	links := []connector.Link{{Table: "rec", On: on("rec", "c")},
		{Table: "meet", On: on("meet", "m"), ReferencedBy: []connector.Column{{Table: "rec", Column: "m"}}}}
	if !recFirst {
		slices.Reverse(links)
	}
	return links
}

// graphCase is a schema with due rows of root, and what must be so afterwards.
type graphCase struct {
	name  string
	setup []string
	query func(q *connector.Query)
	// fault is part of a fault that Check must report, before anything is run.
	fault string
	// claim is what the claim answers for each item in scan order.
	claim []string
	// left is what is left: a query for one number, and the number.
	left map[string]int
	rows string // counts, without the schema
}

const due = "'2026-10-01 00:00:00'"
const young = "'2026-11-20 00:00:00'"

func graphCases(stamp string) []graphCase {
	root := "CREATE TABLE root (id integer PRIMARY KEY, created_at " + stamp + ")"
	rootOf := func(more string) string {
		return "CREATE TABLE root (id integer PRIMARY KEY, created_at " + stamp + ", " + more + ")"
	}
	two := fmt.Sprintf("INSERT INTO root (id, created_at) VALUES (1, %s), (2, %s), (3, %s)", due, due, young)
	gone := []string{"present ELIGIBLE", "present ELIGIBLE"}
	return []graphCase{
		{name: "three levels of cascade", setup: []string{root,
			"CREATE TABLE child (id integer PRIMARY KEY, root_id integer NOT NULL REFERENCES root (id) ON DELETE CASCADE)",
			"CREATE TABLE leaf (id integer PRIMARY KEY, child_id integer NOT NULL REFERENCES child (id) ON DELETE CASCADE)",
			two, "INSERT INTO child VALUES (1, 1), (2, 2), (3, 3)", "INSERT INTO leaf VALUES (1, 1), (2, 1), (3, 3)"},
			claim: gone, rows: "child 2, leaf 2, root 2", left: map[string]int{"SELECT count(*) FROM leaf": 1}},
		{name: "set null is honoured", setup: []string{root,
			"CREATE TABLE child (id integer PRIMARY KEY, root_id integer REFERENCES root (id) ON DELETE SET NULL)",
			two, "INSERT INTO child VALUES (1, 1), (3, 3)"},
			claim: gone, rows: "root 2", left: map[string]int{"SELECT count(*) FROM child": 2, "SELECT count(*) FROM child WHERE root_id IS NULL": 1}},
		{name: "an uncovered edge is a fault", setup: []string{root,
			"CREATE TABLE child (id integer PRIMARY KEY, root_id integer NOT NULL REFERENCES root (id))", two},
			fault: "child(root_id) →"},
		{name: "an uncovered edge behind a cascade is a fault", setup: []string{root,
			"CREATE TABLE child (id integer PRIMARY KEY, root_id integer NOT NULL REFERENCES root (id) ON DELETE CASCADE)",
			"CREATE TABLE leaf (id integer PRIMARY KEY, child_id integer NOT NULL REFERENCES child (id) ON DELETE RESTRICT)", two},
			fault: "leaf(child_id) →"},
		{name: "a link covers an edge without a rule", setup: []string{root,
			"CREATE TABLE child (id integer PRIMARY KEY, root_id integer NOT NULL REFERENCES root (id))",
			two, "INSERT INTO child VALUES (1, 1), (2, 1), (3, 3)"},
			query: func(q *connector.Query) { q.Links = []connector.Link{{Table: "child"}} },
			claim: gone, rows: "child 2, root 2", left: map[string]int{"SELECT count(*) FROM child": 1}},
		{name: "links hang on links, as Django's rules do", setup: []string{root,
			"CREATE TABLE child (id integer PRIMARY KEY, root_id integer NOT NULL REFERENCES root (id) DEFERRABLE INITIALLY DEFERRED)",
			"CREATE TABLE leaf (id integer PRIMARY KEY, child_id integer NOT NULL REFERENCES child (id) DEFERRABLE INITIALLY DEFERRED)",
			two, "INSERT INTO child VALUES (1, 1), (3, 3)", "INSERT INTO leaf VALUES (1, 1), (3, 3)"},
			query: func(q *connector.Query) {
				q.Links = []connector.Link{{Table: "child"}, {Table: "leaf", On: []connector.Pair{{
					Column: connector.Column{Table: "leaf", Column: "child_id"}, Equals: connector.Column{Table: "child", Column: "id"}}}}}
			},
			claim: gone, rows: "child 1, leaf 1, root 2", left: map[string]int{"SELECT count(*) FROM leaf": 1, "SELECT count(*) FROM child": 1}},
		{name: "a linked row that another table names without a foreign key stays", setup: []string{
			rootOf("m integer, c integer"), "CREATE TABLE rec (id integer PRIMARY KEY, m integer)", "CREATE TABLE meet (id integer PRIMARY KEY)",
			fmt.Sprintf("INSERT INTO root (id, created_at, m, c) VALUES (1, %s, 1, 1), (2, %s, 2, 2), (3, %s, 3, 3)", due, due, young),
			"INSERT INTO rec VALUES (1, 1), (2, 2), (3, 3), (4, 2), (5, NULL)", "INSERT INTO meet VALUES (1), (2), (3)"},
			query: func(q *connector.Query) { q.Links = recAndMeet(true) },
			claim: gone, rows: "meet 1, rec 2, root 2", left: map[string]int{"SELECT count(*) FROM meet WHERE id = 2": 1, "SELECT count(*) FROM rec": 3}},
		{name: "what names a linked row must be linked above it", setup: []string{
			rootOf("m integer, c integer"), "CREATE TABLE rec (id integer PRIMARY KEY, m integer)", "CREATE TABLE meet (id integer PRIMARY KEY)"},
			query: func(q *connector.Query) { q.Links = recAndMeet(false) }, fault: "which is not linked above"},
		{name: "a deferred constraint is found broken before the commit", setup: []string{root,
			"CREATE TABLE child (id integer PRIMARY KEY, root_id integer NOT NULL REFERENCES root (id) DEFERRABLE INITIALLY DEFERRED, kind text)",
			two, "INSERT INTO child VALUES (1, 1, 'keep'), (2, 2, 'go')"},
			query: func(q *connector.Query) { q.Links = []connector.Link{{Table: "child", Where: "kind = 'go'"}} },
			claim: []string{"present REFUSED", "present ELIGIBLE"}, rows: "child 1, root 1", left: map[string]int{"SELECT count(*) FROM root WHERE id = 1": 1}},
		{name: "composite keys", setup: []string{
			"CREATE TABLE root (a integer, b varchar(10), created_at " + stamp + ", PRIMARY KEY (b, a))",
			"CREATE UNIQUE INDEX root_ab ON root (a, b)",
			"CREATE TABLE child (id integer PRIMARY KEY, ra integer, rb varchar(10), FOREIGN KEY (ra, rb) REFERENCES root (a, b) ON DELETE CASCADE)",
			"CREATE TABLE leaf (id integer PRIMARY KEY, child_id integer REFERENCES child (id) ON DELETE CASCADE)",
			fmt.Sprintf("INSERT INTO root VALUES (1, 'x', %s), (2, 'x', %s), (1, 'y/%%', %s)", due, young, due),
			"INSERT INTO child VALUES (1, 1, 'x'), (2, 2, 'x'), (3, 1, 'y/%')", "INSERT INTO leaf VALUES (1, 1), (2, 2), (3, 3)"},
			claim: gone, rows: "child 2, leaf 2, root 2", left: map[string]int{"SELECT count(*) FROM root WHERE a = 2": 1, "SELECT count(*) FROM leaf": 1}},
		{name: "an edge to a unique column that is not the key", setup: []string{rootOf("code varchar(10) NOT NULL UNIQUE"),
			"CREATE TABLE child (id integer PRIMARY KEY, code varchar(10) REFERENCES root (code) ON DELETE CASCADE)",
			fmt.Sprintf("INSERT INTO root VALUES (1, %s, 'a'), (2, %s, 'b')", due, young), "INSERT INTO child VALUES (1, 'a'), (2, 'b')"},
			claim: gone[:1], rows: "child 1, root 1", left: map[string]int{"SELECT count(*) FROM child": 1}},
		{name: "a cascade to itself never takes a young row", setup: []string{rootOf("parent_id integer REFERENCES root (id) ON DELETE CASCADE"),
			fmt.Sprintf("INSERT INTO root VALUES (1, %[1]s, NULL), (2, %[1]s, 1), (3, %[1]s, NULL), (4, %[2]s, 3), (5, %[1]s, 4), (6, %[1]s, NULL)", due, young)},
			claim: []string{"present ELIGIBLE", "present ELIGIBLE", "present SHARED", "present ELIGIBLE", "present ELIGIBLE"}, rows: "root 4",
			left: map[string]int{"SELECT count(*) FROM root WHERE id IN (3, 4)": 2}},
		{name: "a thread without a rule goes together or stays", setup: []string{rootOf("parent_id integer REFERENCES root (id)"),
			fmt.Sprintf("INSERT INTO root VALUES (1, %[1]s, NULL), (2, %[1]s, 1), (3, %[1]s, 2), (4, %[1]s, NULL), (5, %[1]s, 4), (6, %[2]s, 5)", due, young)},
			claim: []string{"present ELIGIBLE", "present ELIGIBLE", "present ELIGIBLE", "present SHARED", "present SHARED"}, rows: "root 3",
			left: map[string]int{"SELECT count(*) FROM root": 3}},
		{name: "a cycle of cascade and current version", setup: []string{rootOf("current_id integer"),
			"CREATE TABLE version (id integer PRIMARY KEY, root_id integer NOT NULL REFERENCES root (id) ON DELETE CASCADE)",
			"CREATE TABLE line (id integer PRIMARY KEY, version_id integer NOT NULL REFERENCES version (id) ON DELETE CASCADE)",
			two, "INSERT INTO version VALUES (11, 1), (12, 1), (21, 2), (31, 3)", "INSERT INTO line VALUES (1, 11), (2, 12), (3, 31)", "CYCLE"},
			claim: gone, rows: "line 2, root 2, version 3", left: map[string]int{"SELECT count(*) FROM version": 1, "SELECT count(*) FROM line": 1}},
		{name: "children of children of the same table", setup: []string{root,
			"CREATE TABLE child (id integer PRIMARY KEY, root_id integer NOT NULL REFERENCES root (id) ON DELETE CASCADE, up integer REFERENCES child (id) ON DELETE CASCADE)",
			two, "INSERT INTO child VALUES (1, 1, NULL), (2, 1, 1), (3, 3, 2), (4, 3, NULL)"},
			claim: gone, rows: "child 3, root 2", left: map[string]int{"SELECT count(*) FROM child": 1}},
		{name: "a linked parent stays while a surviving row needs it", setup: []string{
			"CREATE TABLE meeting (id integer PRIMARY KEY)",
			rootOf("meeting_id integer REFERENCES meeting (id)"),
			"CREATE TABLE consent (id integer PRIMARY KEY, meeting_id integer NOT NULL REFERENCES meeting (id) ON DELETE CASCADE)",
			"INSERT INTO meeting VALUES (1), (2)", "INSERT INTO consent VALUES (1, 1), (2, 2)",
			fmt.Sprintf("INSERT INTO root VALUES (1, %[1]s, 1), (2, %[1]s, 2), (3, %[2]s, 2)", due, young)},
			query: func(q *connector.Query) { q.Links = []connector.Link{{Table: "meeting"}} },
			claim: gone, rows: "consent 1, meeting 1, root 2", left: map[string]int{"SELECT count(*) FROM meeting WHERE id = 2": 1, "SELECT count(*) FROM consent WHERE meeting_id = 2": 1}},
		{name: "a linked row without a foreign key, and one behind it", setup: []string{
			"CREATE TABLE meeting (id varchar(10) PRIMARY KEY)",
			"CREATE TABLE sitting (id integer PRIMARY KEY, meeting_id varchar(10))",
			rootOf("meeting_id varchar(10)"),
			"INSERT INTO meeting VALUES ('a'), ('b')", "INSERT INTO sitting VALUES (1, 'a'), (2, 'b')",
			fmt.Sprintf("INSERT INTO root VALUES (1, %[1]s, 'a'), (2, %[1]s, 'b'), (3, %[2]s, 'b')", due, young)},
			query: func(q *connector.Query) {
				q.Links = []connector.Link{
					{Table: "meeting", On: []connector.Pair{{Column: connector.Column{Table: "meeting", Column: "id"}, Equals: connector.Column{Table: "root", Column: "meeting_id"}}}},
					{Table: "sitting", On: []connector.Pair{{Column: connector.Column{Table: "sitting", Column: "meeting_id"}, Equals: connector.Column{Table: "meeting", Column: "id"}}}},
				}
			},
			claim: gone, rows: "meeting 1, root 2, sitting 1", left: map[string]int{"SELECT count(*) FROM meeting": 1, "SELECT count(*) FROM sitting WHERE id = 2": 1}},
		{name: "a table without a key is a fault", setup: []string{"CREATE TABLE root (id integer, created_at " + stamp + ")"}, fault: "no primary key"},
		{name: "a view is a fault", setup: []string{"CREATE TABLE base (id integer PRIMARY KEY, created_at " + stamp + ")", "CREATE VIEW root AS SELECT * FROM base"}, fault: "is not a table"},
		{name: "a misspelt table is named with its neighbour", setup: []string{"CREATE TABLE roots (id integer PRIMARY KEY)"}, fault: `there is no table "root"`},
	}
}

func TestForeignKeyGraph(t *testing.T) {
	t.Parallel()
	for _, system := range systems {
		for _, c := range graphCases(stampOf(system)) {
			t.Run(system+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				runGraphCase(open(t, system), c)
			})
		}
	}
}

func runGraphCase(s *store, c graphCase) {
	for _, text := range c.setup {
		if text == "CYCLE" {
			s.closeCycle()
			continue
		}
		if s.system == "mariadb" {
			text = strings.ReplaceAll(text, " DEFERRABLE INITIALLY DEFERRED", "")
		}
		s.do(text)
	}
	q := query("root")
	q.Anchor.Zone = time.UTC
	if c.query != nil {
		c.query(q)
	}
	if c.fault != "" {
		got := faults(s.check(q))
		if !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, c.fault) }) {
			s.Errorf("faults: got %q, want one with %q", got, c.fault)
		}
		if _, rs := s.c.Claim(s.ctx(), q, []connector.Item{{Locator: s.at("root", 1)}}); rs[0].State != connector.Unknown || rs[0].Reason != connector.Invalid {
			s.Errorf("claim on a faulty query: %v", reasons(rs))
		}
		return
	}
	rs, e := s.purge(q, s.scan(q))
	if d := cmp.Diff(c.claim, reasons(rs)); d != "" {
		s.Errorf("claim (-want +got):\n%s", d)
		for _, r := range rs {
			if r.Err != nil {
				s.Logf("%v", r.Err)
			}
		}
	}
	if got := countsText(e.Rows); got != c.rows {
		s.Errorf("rows: got %q, want %q", got, c.rows)
	}
	for text, want := range c.left {
		s.wantCount(text, want)
	}
}

func countsText(counts []connector.Count) string {
	var out []string
	for _, c := range counts {
		out = append(out, fmt.Sprintf("%s %d", c.Table[strings.LastIndexByte(c.Table, '.')+1:], c.N))
	}
	return strings.Join(out, ", ")
}

// closeCycle points each root at its last version.
func (s *store) closeCycle() {
	if s.system == "sqlite" { // a constraint cannot be added, so rebuild
		s.do("PRAGMA foreign_keys = OFF", "CREATE TABLE r2 AS SELECT * FROM root", "DROP TABLE root",
			"CREATE TABLE root (id integer PRIMARY KEY, created_at DATETIME, current_id integer REFERENCES version (id))",
			"INSERT INTO root SELECT * FROM r2", "DROP TABLE r2", "PRAGMA foreign_keys = ON")
	} else {
		s.do("ALTER TABLE root ADD FOREIGN KEY (current_id) REFERENCES version (id)")
	}
	s.do("UPDATE root SET current_id = (SELECT max(id) FROM version WHERE root_id = root.id)")
}
