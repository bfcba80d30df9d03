package rows_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
)

// A run that was cut off after its commit finds its rows gone. What is left of
// them was left on purpose where another row names it, and only the store can
// say so.
func TestClaimOfGoneRowsTellsWhatIsShared(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		q := s.recorder(10)
		items := s.scan(q) // 1, 3, 5, 7 and 9; the blob of 3 is a project's too
		s.purge(q, items[:2])

		claimed := func(items []connector.Item) []string {
			s.Helper()
			cl, rs := s.c.Claim(s.ctx(), q, items)
			defer cl.Release()
			var got []string
			for _, r := range rs {
				got = append(got, fmt.Sprintf("%s %s %v", r.State, r.Reason, r.Kept))
			}
			return got
		}
		if d := cmp.Diff([]string{"gone MISSING []", "gone MISSING [[true]]"}, claimed(items[:2])); d != "" {
			s.Errorf("only gone rows (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"gone MISSING [[true]]", "present ELIGIBLE []"}, claimed(items[1:3])); d != "" {
			s.Errorf("gone rows among others (-want +got):\n%s", d)
		}
		// Values of an older policy are no tuples of this one.
		odd := items[1]
		odd.Values = [][]connector.Tuple{{{"sha3", "sha3"}}, {{"sha3"}}}
		if d := cmp.Diff([]string{"gone MISSING []"}, claimed([]connector.Item{odd})); d != "" {
			s.Errorf("values of another query (-want +got):\n%s", d)
		}
	})
}
