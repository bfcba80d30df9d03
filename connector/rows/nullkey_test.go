package rows_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
)

// SQLite permits a primary key that is NULL. Such rows cannot be named, so they
// stay; but they are seen, and said to be what they are.
func TestRowsWithoutKeyAreSeen(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{
		"one column":           "name TEXT PRIMARY KEY, part INTEGER, %s",
		"two columns":          "name TEXT, part INTEGER, %s, PRIMARY KEY (name, part)",
		"a column named rowid": "name TEXT PRIMARY KEY, part INTEGER, _rowid_ TEXT, rowid TEXT, %s",
	} {
		for _, indexed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, index %v", name, indexed), func(t *testing.T) {
				t.Parallel()
				s := open(t, "sqlite")
				s.do("CREATE TABLE letters (" + fmt.Sprintf(key, "created_at TEXT, held INTEGER") + ")")
				if indexed {
					s.do("CREATE INDEX letters_at ON letters (created_at)")
				}
				for i := range 5 {
					s.do(fmt.Sprintf("INSERT INTO letters (name, part, created_at) VALUES ('n%d', 1, %s)", i, due),
						fmt.Sprintf("INSERT INTO letters (name, part, created_at) VALUES (NULL, %d, %s)", i, due))
				}
				s.do("INSERT INTO letters (name, part, created_at) VALUES (NULL, 5, "+young+"), (NULL, 6, NULL), (NULL, 7, 'never')",
					"INSERT INTO letters (name, part, created_at, held) VALUES (NULL, 8, "+due+", 1)")
				q := query("letters")
				q.Hold = "held"
				q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}}}
				s.c = s.connectChunk(3)
				var named, nameless []connector.Item
				var got []string
				for _, it := range s.scan(q) {
					var no *rows.NullKeyError
					switch {
					case strings.Contains(string(it.Locator), "%rowid="):
						nameless = append(nameless, it)
						got = append(got, fmt.Sprintf("%s dated %v held %v, null key %v, id %q", it.Locator, !it.Anchor.IsZero(), it.Held, errors.As(it.Err, &no), it.ID))
					default:
						named = append(named, it)
					}
				}
				want := []string{
					`letters/%rowid=2 dated true held false, null key true, id ""`, `letters/%rowid=4 dated true held false, null key true, id ""`,
					`letters/%rowid=6 dated true held false, null key true, id ""`, `letters/%rowid=8 dated true held false, null key true, id ""`,
					`letters/%rowid=10 dated true held false, null key true, id ""`, `letters/%rowid=12 dated false held false, null key true, id ""`,
					`letters/%rowid=13 dated false held false, null key false, id ""`, `letters/%rowid=14 dated true held true, null key true, id ""`,
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("rows without key (-want +got):\n%s", d)
				}
				if len(named) != 5 {
					t.Errorf("%d rows with a key, want 5", len(named))
				}
				for _, r := range s.c.Probe(s.ctx(), []connector.Locator{nameless[0].Locator}) {
					if r.State != connector.Unknown || r.Reason != connector.Invalid {
						t.Errorf("Probe: %s %s", r.State, r.Reason)
					}
				}
				rs, _ := s.purge(q, append(nameless, named...))
				for i, r := range rs {
					if i < len(nameless) && (r.State == connector.Present && r.Reason == connector.Eligible || r.Reason != connector.Invalid) {
						t.Errorf("Claim of a row without key: %s %s", r.State, r.Reason)
					}
				}
				s.wantCount("SELECT count(*) FROM letters WHERE name IS NULL", 9)
				s.wantCount("SELECT count(*) FROM letters WHERE name IS NOT NULL", 0)
			})
		}
	}
}

// Where columns have taken all the names of the row's number, nothing could tell
// such rows apart.
func TestHiddenRowNumberIsAFault(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite")
	s.do("CREATE TABLE letters (name TEXT PRIMARY KEY, created_at TEXT, rowid TEXT, oid TEXT, _rowid_ TEXT)",
		"CREATE TABLE sound (name TEXT NOT NULL PRIMARY KEY, created_at TEXT, rowid TEXT, oid TEXT, _rowid_ TEXT)")
	if got := faults(s.check(query("letters"))); len(got) != 1 || !strings.HasPrefix(got[0], "collection: the primary key of letters may be NULL") {
		t.Errorf("faults: %q", got)
	}
	if got := faults(s.check(query("sound"))); got != nil {
		t.Errorf("faults: %q", got)
	}
}

// A list cannot name such a row either: it ends with an error, so that nobody
// takes what it gave for all there is.
func TestListSaysThatARowHasNoKey(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite")
	s.do("CREATE TABLE files (name TEXT PRIMARY KEY, path TEXT)", "INSERT INTO files VALUES ('a', 'p1'), ('b', 'p2'), (NULL, 'p3')")
	for _, chunk := range []int{1, 2, 3, 100} {
		var no *rows.NullKeyError
		if got, err := listed(s.connectChunk(chunk), s, &connector.Query{Collection: "files", Wants: want("path")}); !errors.As(err, &no) || strings.Count(got, "[[p") != 2 {
			t.Errorf("by %d: %v, %s", chunk, err, got)
		}
		got, err := listed(s.connectChunk(chunk), s, &connector.Query{Collection: "files", Where: "path <> 'p3'", Wants: want("path")})
		if err != nil || strings.Count(got, "[[p") != 2 {
			t.Errorf("by %d, of others: %v, %s", chunk, err, got)
		}
	}
}
