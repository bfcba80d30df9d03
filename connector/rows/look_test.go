package rows_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
)

// A thing named by several columns stays only while one row that survives has
// all of them: the same key in another bucket is another thing, and so is a key
// of one due row with the bucket of another.
func TestThingsNamedBySeveralColumns(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do(fmt.Sprintf("CREATE TABLE recording (id integer PRIMARY KEY, created_at %s, bucket varchar(20), name varchar(20), tracks json)", s.stamp()),
			fmt.Sprintf(`INSERT INTO recording VALUES (1, %[1]s, 'b1', 'k1', '["t1", "t2"]'), (2, %[1]s, 'b2', 'k2', '["t3"]'),
				(3, %[2]s, 'b1', 'k2', '["t3"]'), (4, %[2]s, 'b2', 'k1', NULL), (5, %[2]s, 'b1', 'other', '["t2"]'), (6, %[2]s, 'b2', 'k2', '[]')`, due, young))
		q := query("recording")
		bucket := connector.Ref{Column: "bucket"}
		q.Wants = []connector.Want{{Refs: []connector.Ref{bucket, {Column: "name"}}}, {Refs: []connector.Ref{bucket, {Column: "tracks", Each: true}}}}
		rs, _ := s.purge(q, s.scan(q))
		got := [][][]bool{rs[0].Kept, rs[1].Kept}
		want := [][][]bool{
			{{false}, {false, true}}, // t2 is in the tracks of row 5, in the same bucket
			{{true}, {false}},        // k2 in b2 is row 6's too; t3 in b2 is nobody's
		}
		if d := cmp.Diff(want, got); d != "" {
			s.Errorf("kept (-want +got):\n%s", d)
		}
	})
}
