// Command tour runs the tour of README.md, as a new reader would, and fails
// when what it prints is not what the README shows. It runs "make demo" in the
// current directory, and then each command of the README that is run in ./demo.
// What differs from run to run, such as instants and ids, is not compared.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

func main() {
	if err := tour(); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

func tour() error {
	page, err := os.ReadFile("README.md")
	if err != nil {
		return err
	}
	steps := steps(string(page))
	if len(steps) < 4 {
		return fmt.Errorf("README.md shows %d commands: the tour is not where it was", len(steps))
	}
	// What an earlier reader left there was played with.
	if _, err := os.Lstat("demo"); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("./demo is there from an earlier run: move it away first, the tour begins with a new one")
	}
	demo, err := exec.Command("make", "demo").CombinedOutput()
	if err != nil {
		return fmt.Errorf("make demo: %w\n%s", err, demo)
	}
	os.Stdout.Write(demo)
	for _, s := range steps {
		out := demo
		if s.run {
			fmt.Println("$", s.command)
			cmd := exec.Command("bash", "-c", s.command)
			cmd.Dir = "demo"
			out, err = cmd.CombinedOutput()
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				return fmt.Errorf("%s: %w", s.command, err)
			}
			os.Stdout.Write(out)
		}
		if line, ok := inOrder(s.shows, string(out)); !ok {
			return fmt.Errorf("README.md shows for %q a line that was not printed, or not in that order:\n%s", s.command, line)
		}
	}
	return nil
}

// step is one command of the tour with the lines that the README shows.
type step struct {
	command string
	run     bool // in ./demo; otherwise "make demo" ran it
	shows   []string
}

// steps reads the fenced blocks without a language.
func steps(page string) []step {
	var all []step
	in := false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, " \n")
		fence := strings.HasPrefix(line, "```")
		command, prompt := strings.CutPrefix(line, "$ ")
		switch {
		case fence && !in && line != "```":
			in = false // a block of another language, whose end opens nothing
			all = append(all, step{command: line})
		case fence && len(all) > 0 && strings.HasPrefix(all[len(all)-1].command, "```"):
			all = all[:len(all)-1]
		case fence && !in:
			in = true
			all = append(all, step{command: "make demo"})
		case fence:
			in = false
		case in && prompt:
			all = append(all, step{command: command, run: !strings.HasPrefix(command, "epitaph ")})
		case in && line != "":
			all[len(all)-1].shows = append(all[len(all)-1].shows, line)
		}
	}
	kept := all[:0]
	for _, s := range all {
		if s.run || len(s.shows) > 0 {
			kept = append(kept, s)
		}
	}
	return kept
}

var varying = []*regexp.Regexp{
	regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\dZ?`),
	regexp.MustCompile(`\d{8}T\d{6}Z-[0-9a-f]{12}`),
	regexp.MustCompile(`[0-9a-f]{64}`),
	regexp.MustCompile(`epitaph\.invalid/[0-9a-f]{16}`),
	// How many entries there are depends on what the reader did before.
	regexp.MustCompile(`\d+ entries|(entry|checkpoint) \d+`),
}

func plain(line string) string {
	for _, v := range varying {
		line = v.ReplaceAllString(line, "·")
	}
	return strings.TrimRight(line, " \n")
}

// inOrder reports whether the lines were printed in that order; "…" stands for
// any. Otherwise it returns the first that was not.
func inOrder(want []string, out string) (string, bool) {
	got := strings.Split(out, "\n")
	for _, w := range want {
		if strings.TrimSpace(w) == "…" {
			continue
		}
		for {
			if len(got) == 0 {
				return w, false
			}
			line := got[0]
			got = got[1:]
			if plain(line) == plain(w) {
				break
			}
		}
	}
	return "", true
}
