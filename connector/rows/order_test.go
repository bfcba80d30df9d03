package rows_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Where much of a table is due, batches follow the place of the rows in the
// file, on the database that has such a place; otherwise their age.
func TestScanOrder(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		for _, c := range []struct {
			pk           string
			young        int
			wantOnSQLite string
		}{
			{"id integer PRIMARY KEY", 40, "1 2 3 4 5 6"},    // six of 46 are due
			{"id integer PRIMARY KEY", 200, "6 5 4 3 2 1"},   // six of 206
			{"id varchar(9) PRIMARY KEY", 40, "6 5 4 3 2 1"}, // rows lie in the order in which they were written
		} {
			notNull := strings.Replace(c.pk, " PRIMARY", " NOT NULL PRIMARY", 1)
			s.do("DROP TABLE IF EXISTS letters", "CREATE TABLE letters ("+notNull+", created_at "+s.stamp()+")", "CREATE INDEX letters_at ON letters (created_at)")
			for i := 1; i <= 6; i++ {
				s.do(fmt.Sprintf("INSERT INTO letters VALUES (%d, '2026-10-%02d 00:00:00')", i, 20-i))
			}
			for i := range c.young {
				s.do(fmt.Sprintf("INSERT INTO letters VALUES (%d, "+young+")", 7+i))
			}
			s.do("INSERT INTO letters VALUES (999, NULL)")
			s.c = s.connectChunk(4)
			var got []string
			for _, it := range s.scan(query("letters")) {
				got = append(got, string(it.Locator)[strings.LastIndex(string(it.Locator), "/")+1:])
			}
			want := "6 5 4 3 2 1"
			if s.system == "sqlite" {
				want = c.wantOnSQLite
			}
			for i, k := range got {
				got[i] = strings.TrimPrefix(k, "'") // a text that reads like a number
			}
			if g := strings.Join(got[:max(0, len(got)-1)], " "); g != want || !slices.Contains(got, "999") {
				s.Errorf("%s among %d: order %v, want %s and the undated row last", c.pk, c.young, got, want)
			}
		}
	})
}
