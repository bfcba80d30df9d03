package rows_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A scan that goes by the anchor finds its place among rows that share one, at
// every border of a chunk, and reads each row once.
func TestScanAmongRowsOfOneInstant(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE letters (id integer PRIMARY KEY, created_at "+s.stamp()+")",
			"CREATE INDEX ix_letters_created_at ON letters (created_at)")
		days := []string{"2026-10-03", "2026-10-01", "2026-10-01", "2026-10-02", "2026-10-01", "2026-10-03", "2026-10-01",
			"2026-10-03", "2026-10-01", "2026-11-20", "2026-10-03"}
		want := map[string][]string{}
		for i, day := range days {
			s.do(fmt.Sprintf("INSERT INTO letters VALUES (%d, '%s 10:00:00')", i+1, day))
			want[day] = append(want[day], fmt.Sprint(i+1))
		}
		for i := range 120 { // so that the index of the anchor is followed: few are due
			s.do(fmt.Sprintf("INSERT INTO letters VALUES (%d, '2026-11-21 10:00:00')", 100+i))
		}
		order := strings.Join(append(append(want["2026-10-01"], want["2026-10-02"]...), want["2026-10-03"]...), " ")
		for chunk := 1; chunk <= len(days)+1; chunk++ {
			s.c = s.connectChunk(chunk)
			var got []string
			for _, it := range s.scan(query("letters")) {
				got = append(got, it.ID)
			}
			if d := cmp.Diff(order, strings.Join(got, " ")); d != "" {
				s.Errorf("chunks of %d (-want +got):\n%s", chunk, d)
			}
		}
	})
}
