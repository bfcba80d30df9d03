package rows_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
)

// replace puts another file, with the rows of now, where the database is, as a
// restore does, or a VACUUM INTO that is renamed.
func (s *store) replace() {
	s.Helper()
	path := strings.TrimPrefix(s.dsn, "sqlite:")
	s.do("VACUUM INTO '" + path + ".new'")
	if err := os.Rename(path+".new", path); err != nil {
		s.Fatal(err)
	}
}

// A row that went from a file of SQLite which no longer is the database is not
// gone: it is in the file that is. Seen to fail without the look at the file: with
// a WAL, SQLite goes on in the file that was renamed over, and both were GONE.
func TestDatabaseReplacedWhileOpen(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := open(t, "sqlite")
			s.do("PRAGMA journal_mode = "+mode, "CREATE TABLE note (id integer PRIMARY KEY, created_at text)",
				"INSERT INTO note VALUES (1, '2026-01-01 00:00:00'), (2, '2026-01-01 00:00:00')")
			q := query("note")
			c, err := rows.Open(s.ctx(), s.dsn, rows.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close() // what it says of a file that nobody has is of no interest
			s.c = c
			items := s.scan(q)
			cl, rs := s.c.Claim(s.ctx(), q, items)
			defer cl.Release()
			if d := cmp.Diff([]string{"present ELIGIBLE", "present ELIGIBLE"}, reasons(rs)); d != "" {
				t.Fatalf("claim (-want +got):\n%s", d)
			}
			s.replace()
			e := cl.Erase(s.ctx(), []int{0, 1})
			unknown := []string{"unknown UNREACHABLE", "unknown UNREACHABLE"}
			if d := cmp.Diff(unknown, reasons(e.Results)); d != "" || len(e.Rows) != 0 {
				t.Errorf("erase: counts %v (-want +got):\n%s", e.Rows, d)
			}
			if d := cmp.Diff(unknown, reasons(s.c.Probe(s.ctx(), []connector.Locator{items[0].Locator, "note/99"}))); d != "" {
				t.Errorf("probe (-want +got):\n%s", d)
			}
			again, rs := s.c.Claim(s.ctx(), q, items)
			defer again.Release()
			if d := cmp.Diff(unknown, reasons(rs)); d != "" {
				t.Errorf("claim again (-want +got):\n%s", d)
			}
			s.c = s.connect(rows.Options{}) // of a new process
			if d := cmp.Diff([]string{"present ELIGIBLE", "present ELIGIBLE"}, reasons(s.c.Probe(s.ctx(), []connector.Locator{"note/1", "note/2"}))); d != "" {
				t.Errorf("the database that is (-want +got):\n%s", d)
			}
		})
	}
}

// Tables of PostgreSQL that inherit from another do not share its primary key. A
// row of one that is due has no right to take the row of the other with the same key,
// and neither stands alone for what the key names. Seen to fail without the look for
// a second row: both went.
func TestRowsOfOneKey(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres")
	s.do("CREATE TABLE note (id integer PRIMARY KEY, created_at timestamptz)", "CREATE TABLE note_past () INHERITS (note)",
		"INSERT INTO note VALUES (1, "+young+"), (2, '2026-01-01 00:00:00'), (3, '2026-01-01 00:00:00')", "INSERT INTO note_past VALUES (1, '2026-01-01'), (3, '2026-01-01'), (4, '2026-01-01')")
	q := query("note")
	var items []connector.Item
	for _, k := range []string{"1", "2", "3", "4"} {
		items = append(items, connector.Item{Locator: s.at("note", k)})
	}
	rs, e := s.purge(q, items)
	if d := cmp.Diff([]string{"present INVALID", "present ELIGIBLE", "present INVALID", "present ELIGIBLE"}, reasons(rs)); d != "" {
		t.Errorf("claim (-want +got):\n%s", d)
	}
	if got := countsText(e.Rows); got != "note 2" {
		t.Errorf("rows: %s", got)
	}
	if got := s.dump("SELECT tableoid::regclass, id FROM note ORDER BY 2, 1"); got != "note 1\nnote_past 1\nnote 3\nnote_past 3\n" {
		t.Errorf("left:\n%s", got)
	}
}
