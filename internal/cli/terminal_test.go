package cli_test

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal: our side, and the side of a program.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { ours.Close() })
	must(t, unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	must(t, err)
	must(t, unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 160}))
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	return ours, theirs
}

// atTerminal runs the program with stdin and stderr on a terminal, types the
// answer once it is asked, and returns what the terminal and stdout showed.
func atTerminal(t *testing.T, dir, answer string, args ...string) (status int, screen, stdout string) {
	t.Helper()
	return atTerminalWith(t, dir, answer, nil, args...)
}

func atTerminalWith(t *testing.T, dir, answer string, env []string, args ...string) (status int, screen, stdout string) {
	t.Helper()
	ours, theirs := terminal(t)
	cmd := command(t.Context(), dir, args...)
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Stdin, cmd.Stderr = theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // so that ^C is a signal
	out := new(strings.Builder)
	cmd.Stdout = out
	must(t, cmd.Start())
	must(t, theirs.Close())
	seen := make(chan string)
	go func() {
		var all strings.Builder
		buf := make([]byte, 4096)
		asked := false
		for {
			n, err := ours.Read(buf) // EIO once the program has closed its side
			all.Write(buf[:n])
			if !asked && strings.Contains(all.String(), "Type yes") {
				asked = true
				_, _ = io.WriteString(ours, answer)
			}
			if err != nil {
				seen <- all.String()
				return
			}
		}
	}()
	err := cmd.Wait()
	select {
	case screen = <-seen:
	case <-time.After(soon):
		t.Fatal("the terminal did not close")
	}
	return statusOf(t, err), screen, out.String()
}

func TestAsksOnATerminal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answer string
		args         []string
		status, left int
		asked        bool
	}{
		{"yes", "yes\n", nil, 0, 0, true},
		{"no", "no\n", nil, 130, 9, true},
		{"nothing", "\n", nil, 130, 9, true},
		{"end of file", "\x04", nil, 130, 9, true},
		{"control C", "\x03", nil, 130, 9, true},
		{"y is not yes", "y\n", nil, 130, 9, true},
		{"told beforehand", "", []string{"--yes"}, 0, 0, false},
		{"dry run", "", []string{"--dry-run"}, 0, 9, false},
		{"nothing is due", "", []string{"--retain", "10y"}, 0, 9, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := manyExports(t, 9)
			status, screen, stdout := atTerminal(t, dir, c.answer, append([]string{"purge"}, c.args...)...)
			if status != c.status || left(t, dir) != c.left {
				t.Errorf("status %d, %d left; want %d, %d\nscreen:\n%s\nstdout:\n%s", status, left(t, dir), c.status, c.left, screen, stdout)
			}
			if asked := strings.Contains(screen, "9 exports"); asked != c.asked {
				t.Errorf("asked: %t, want %t\n%s", asked, c.asked, screen)
			}
			if strings.Contains(stdout, "Type yes") || strings.Contains(stdout, "\x1b") {
				t.Errorf("stdout is not the result alone:\n%q", stdout)
			}
			if strings.Contains(screen, "export-0") {
				t.Errorf("the screen names a file:\n%s", screen)
			}
		})
	}
}

// Progress is for terminals only, and can be switched off.
func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	dir := manyExports(t, 3000)
	_, screen, _ := atTerminal(t, dir, "", "purge", "--yes", "--batch", "20")
	for _, want := range []string{"purging", "/ 3000", "/s"} {
		if !strings.Contains(screen, want) {
			t.Errorf("the screen does not show %q:\n%.2000q", want, screen)
		}
	}
	dir = manyExports(t, 30)
	if _, screen, _ = atTerminal(t, dir, "", "purge", "--yes", "--quiet"); strings.TrimSpace(screen) != "" {
		t.Errorf("--quiet shows %q", screen)
	}
}

// Colour is for terminals only, and for those who like it.
func TestColourOnATerminal(t *testing.T) {
	t.Parallel()
	dir := manyExports(t, 3)
	if out, err := command(t.Context(), dir, "purge").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range []struct {
		name   string
		env    string
		args   []string
		colour bool
	}{
		{"terminal", "TERM=xterm", nil, true},
		{"NO_COLOR", "NO_COLOR=1", nil, false},
		{"--no-color", "TERM=xterm", []string{"--no-color"}, false},
		{"dumb terminal", "TERM=dumb", nil, false},
	} {
		ours, theirs := terminal(t)
		cmd := command(t.Context(), dir, append([]string{"trail"}, c.args...)...)
		cmd.Env = append(os.Environ(), c.env)
		cmd.Stdout = theirs
		must(t, cmd.Start())
		must(t, theirs.Close())
		screen, _ := io.ReadAll(ours) // ends with EIO once the program has closed its side
		must(t, cmd.Wait())
		if got := strings.Contains(string(screen), "\x1b["); got != c.colour || !strings.Contains(string(screen), "gone 3") {
			t.Errorf("%s: colour %t, want %t\n%q", c.name, got, c.colour, screen)
		}
	}
}

// On a terminal, where the report and the problem would stand below each other,
// what stopped the run is told once. Where the two go apart, each has it.
func TestInterlockIsToldOnceOnATerminal(t *testing.T) {
	t.Parallel()
	dir := manyExports(t, 3)
	policy := strings.Replace(filesPolicy, "limits: {share: 100%}", "limits: {items: 2, share: 100%}", 1)
	must(t, os.WriteFile(dir+"/epitaph.yaml", []byte(policy), 0o600))
	ours, theirs := terminal(t)
	cmd := command(t.Context(), dir, "purge", "--yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	must(t, cmd.Start())
	must(t, theirs.Close())
	screen, _ := io.ReadAll(ours) // ends with EIO once the program has closed its side
	if status := statusOf(t, cmd.Wait()); status != 3 || left(t, dir) != 3 {
		t.Errorf("status %d, %d left", status, left(t, dir))
	}
	if n := strings.Count(string(screen), "the plan takes 3 items"); n != 1 || !strings.Contains(string(screen), "--allow items") {
		t.Errorf("told %d times:\n%s", n, screen)
	}
	status, screenOnly, stdout := atTerminal(t, dir, "", "purge", "--yes")
	if status != 3 || strings.Count(screenOnly, "the plan takes 3 items") != 1 || strings.Count(stdout, "the plan takes 3 items") != 1 {
		t.Errorf("status %d, apart:\n%s\n%s", status, screenOnly, stdout)
	}
}

// Ctrl-C on a terminal goes to the program in a session once: a second interrupt
// would mean something else to it. What is sent otherwise is passed on:
// see TestSessionRunPassesSignalsOn.
func TestSessionRunInterruptedOnATerminal(t *testing.T) {
	t.Parallel()
	for range 5 {
		ours, theirs := terminal(t)
		cmd := command(t.Context(), t.TempDir(), "session", "--root", "sessions", "--ledger", "sqlite:epitaph.db", "run", "--", "interrupts")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		must(t, cmd.Start())
		must(t, theirs.Close())
		var screen strings.Builder
		buf, typed := make([]byte, 4096), false
		for {
			n, err := ours.Read(buf)
			screen.Write(buf[:n])
			if !typed && strings.Contains(screen.String(), "ready") {
				typed = true
				_, _ = io.WriteString(ours, "\x03")
			}
			if err != nil {
				break
			}
		}
		must(t, cmd.Wait())
		if !strings.Contains(screen.String(), "total 1") {
			t.Errorf("one Ctrl-C:\n%s", screen.String())
		}
	}
}

// interrupts counts those that it gets, for a while after the first.
func interrupts() {
	got := make(chan os.Signal, 16)
	signal.Notify(got, os.Interrupt)
	fmt.Println("ready")
	<-got
	time.Sleep(300 * time.Millisecond)
	fmt.Println("total", 1+len(got))
}
