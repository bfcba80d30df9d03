package cli_test

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// escapes are what colours a terminal.
var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

// On a terminal the facts of an entry are broken where it ends, below each other;
// in a pipe an entry is one line. Help fits 80 columns.
func TestTrailFitsTheTerminal(t *testing.T) {
	t.Parallel()
	dir := manyExports(t, 3)
	policy := strings.Replace(filesPolicy, "limits: {share: 100%}", "limits: {share: 10%}", 1)
	must(t, os.WriteFile(dir+"/epitaph.yaml", []byte(policy), 0o600))
	_, _ = command(t.Context(), dir, "purge").Output() // stopped
	on := func(width uint16, args ...string) string {
		ours, theirs := terminal(t)
		must(t, unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: width}))
		cmd := command(t.Context(), dir, args...)
		cmd.Stdout = theirs
		must(t, cmd.Start())
		must(t, theirs.Close())
		screen, _ := io.ReadAll(ours) // ends with EIO once the program has closed its side
		must(t, cmd.Wait())
		return escapes.ReplaceAllString(strings.ReplaceAll(string(screen), "\r\n", "\n"), "")
	}
	pipe, err := command(t.Context(), dir, "trail").Output()
	must(t, err)
	fields := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for _, width := range []uint16{80, 120} {
		screen := on(width, "trail")
		if fields(screen) != fields(string(pipe)) {
			t.Errorf("%d columns: other words than in a pipe:\n%s\n%s", width, screen, pipe)
		}
		for line := range strings.Lines(screen) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > int(width) {
				t.Errorf("%d columns in a line of %d: %s", n, width, line)
			}
		}
	}
	if n := strings.Count(string(pipe), "\n"); n != 4 || !strings.Contains(string(pipe), "have=100%  incident=interlock  interlock=share  limit=10%") {
		t.Errorf("in a pipe, %d lines:\n%s", n, pipe)
	}
}
