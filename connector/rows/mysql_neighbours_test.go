package rows_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
)

// Claims that are open at the same time do not stand in each other's way, also
// where each takes so much of a table that the optimizer would rather read all of
// it, and InnoDB lock what it reads.
func TestMariaDBClaimsSideBySide(t *testing.T) {
	t.Parallel()
	const claims, each = 3, 1000
	for _, c := range []struct {
		name string
		key  string          // of the table
		of   func(i int) int // the claim of an item
	}{
		{"in order", "id", func(i int) int { return i / each }},
		{"strewn", "id", func(i int) int { return i % claims }},
		{"by two columns", "box, id", func(i int) int { return i % claims }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "mariadb")
			q := s.letters(claims*each, c.key)
			s.c = s.connect(rows.Options{LockTimeout: time.Second})
			var lists [claims][]connector.Item
			for i, it := range s.scan(q) {
				lists[c.of(i)] = append(lists[c.of(i)], it)
			}
			var open [claims]connector.Claim
			for n, items := range lists {
				cl, rs := s.c.Claim(s.ctx(), q, items)
				defer cl.Release() //nolint:errcheck // for when the test ends early
				open[n] = cl
				if got := len(eligible(rs)); got != each {
					t.Fatalf("claim %d, while others are open: %d of %d are eligible; the first is %s, the last %s", n, got, each,
						reasons(rs)[0], reasons(rs)[each-1])
				}
			}
			total := map[string]int64{}
			for n := range open {
				which := make([]int, each)
				for i := range which {
					which[i] = i
				}
				for _, r := range open[n].Erase(s.ctx(), which).Rows {
					total[r.Table] += r.N
				}
			}
			for table, want := range map[string]int64{"letters": claims * each, "sheets": claims * each, "seals": 6} {
				if got := total[s.schema()+table]; got != want {
					t.Errorf("%s: %d rows were counted, want %d", table, got, want)
				}
				s.wantCount("SELECT count(*) FROM "+table, 0)
			}
		})
	}
}

// letters makes so many due rows of a key in MariaDB; each has a row that goes with
// it, and a few have another.
func (s *store) letters(n int, key string) *connector.Query {
	s.Helper()
	by := strings.Replace(key, "id", "letter_id", 1)
	child := func(name, value string) string {
		return "CREATE TABLE " + name + " (id bigint AUTO_INCREMENT PRIMARY KEY, box bigint NOT NULL, letter_id bigint NOT NULL, " + value +
			" varchar(80), FOREIGN KEY (" + by + ") REFERENCES letters (" + key + ") ON DELETE CASCADE)"
	}
	s.do("CREATE TABLE letters (box bigint NOT NULL, id bigint NOT NULL, title varchar(80) NOT NULL, created_at datetime NOT NULL, PRIMARY KEY ("+key+"), KEY (created_at))",
		child("sheets", "body"), child("seals", "wax"),
		fmt.Sprintf("INSERT INTO letters SELECT seq %% 10, seq, 'a letter', '2026-10-01' FROM seq_1_to_%d", n),
		fmt.Sprintf("INSERT INTO sheets (box, letter_id, body) SELECT seq %% 10, seq, 'a sheet' FROM seq_1_to_%d", n),
		fmt.Sprintf("INSERT INTO seals (box, letter_id, wax) SELECT seq * %d %% 10, seq * %[1]d, 'red' FROM seq_1_to_6", n/6),
		"ANALYZE TABLE letters, sheets, seals")
	return query("letters")
}
