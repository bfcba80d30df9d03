package custody

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/ledger"
)

// Questions about what is not over read none of what is: of ten million files
// nearly all are.
func TestQueriesUseTheirIndexes(t *testing.T) {
	t.Parallel()
	l, err := ledger.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "epitaph.db"), ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := Open(t.Context(), Options{Ledger: l, Cache: filepath.Join(t.TempDir(), "cache")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Track(t.Context(), Operation{Action: "nas_raw_created", Path: "/nowhere"}); err != nil {
		t.Fatal(err)
	}
	if err := c.state.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for query, index := range map[string]string{
		"SELECT * FROM files WHERE (state < 3 AND due > 0 AND due < 9) ORDER BY due, id LIMIT 9":                        "files_due",
		"SELECT * FROM files WHERE (state < 3 AND due > 0 AND due < 9) AND (due, id) > (1, 1) ORDER BY due, id LIMIT 9": "files_due",
		"SELECT * FROM files WHERE (state < 3 AND required = 1) ORDER BY at, id LIMIT 9":                                "files_required",
		"SELECT * FROM files WHERE (" + orphaned[0] + ") AND (at, id) > (1, 1) ORDER BY at, id LIMIT 9":                 "files_required",
		"SELECT * FROM files WHERE (" + orphaned[1] + ") ORDER BY at, id LIMIT 9":                                       "files_reserved",
		"SELECT * FROM files WHERE (" + orphaned[2] + ") AND (since, id) > (1, 1) ORDER BY since, id LIMIT 9":           "files_open",
		"SELECT * FROM files WHERE id = 1":                                                                    "INTEGER PRIMARY KEY",
		"SELECT * FROM files WHERE key IN (x'00', x'01') ORDER BY key":                                        "sqlite_autoindex_files_1",
		"SELECT min(since) FROM files WHERE state < 3":                                                        "files_open",
		"SELECT * FROM transfers WHERE state = 1 AND (due, id) > (1, 1) AND due < 9 ORDER BY due, id LIMIT 9": "transfers_open",
	} {
		var plan []string
		rows, err := c.state.db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+strings.ReplaceAll(query, "?", "9"))
		if err != nil {
			t.Fatal(query, err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(plan, "; "); !strings.Contains(got, index) || strings.Contains(got, "TEMP B-TREE") {
			t.Errorf("%s\n\tis answered by %q, want %s", query, got, index)
		}
	}
}
