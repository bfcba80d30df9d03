package cli_test

import (
	"strings"
	"testing"
)

// A person whose stderr goes into a file could not be asked: he is told what to
// type, and nothing goes.
func TestWhoCannotBeAskedIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args         []string
		status, left int
	}{
		{nil, 2, 9},
		{[]string{"--dry-run"}, 0, 9},
		{[]string{"--yes"}, 0, 0},
	} {
		dir := manyExports(t, 9)
		ours, theirs := terminal(t)
		cmd := command(t.Context(), dir, append([]string{"purge"}, c.args...)...)
		var stdout, stderr strings.Builder
		cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, &stdout, &stderr
		err := cmd.Run()
		must(t, theirs.Close())
		must(t, ours.Close())
		if status := statusOf(t, err); status != c.status || left(t, dir) != c.left {
			t.Errorf("%v: status %d, %d left; want %d, %d\n%s%s", c.args, status, left(t, dir), c.status, c.left, stdout.String(), stderr.String())
		}
		if told := strings.Contains(stderr.String(), "hint: add --yes"); told != (c.status == 2) {
			t.Errorf("%v: stderr %q", c.args, stderr.String())
		}
	}
}
