package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// said runs the program in dir and returns its status and what it wrote.
func said(t *testing.T, dir string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := command(t.Context(), dir, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	status = statusOf(t, cmd.Run())
	return status, out.String(), errs.String()
}

var (
	helpCommand = regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`)
	helpFlag    = regexp.MustCompile(`(?m)^ {2,6}(?:-\w, )?--([a-z-]+)`)
)

// commands are the paths of all commands that the help lists, and their help.
func commands(t *testing.T) map[string]string {
	t.Helper()
	dir, all := t.TempDir(), map[string]string{}
	var visit func(path []string)
	visit = func(path []string) {
		status, help, stderr := said(t, dir, append(path, "--help")...)
		if status != 0 || stderr != "" {
			t.Errorf("%v --help: status %d, stderr %q", path, status, stderr)
		}
		all[strings.Join(path, " ")] = help
		listed, _, _ := strings.Cut(help, "\nFlags:")
		if _, listed, ok := strings.Cut(listed, "Usage: "); ok {
			for _, m := range helpCommand.FindAllStringSubmatch(listed, -1) {
				visit(append(path[:len(path):len(path)], m[1]))
			}
		}
	}
	visit(nil)
	return all
}

// Every command says on stdout what it is, how it is used, and gives an example
// of flags that it has. A slip in any of its flags is told the right one.
func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	dir, all := t.TempDir(), commands(t)
	if len(all) < 40 {
		t.Errorf("%d commands were found, want 40 and more", len(all))
	}
	for name, help := range all {
		_, example, ok := strings.Cut(help, "\nExample:\n")
		if !ok || !strings.Contains(example, "epitaph "+name) {
			t.Errorf("%s: no example of it:\n%s", name, help)
		}
		if !strings.Contains(help, "Usage: epitaph "+name) {
			t.Errorf("%s: no usage", name)
		}
		for line := range strings.SplitSeq(help, "\n") {
			if len([]rune(line)) > 160 {
				t.Errorf("%s: a line of %d characters: %s", name, len([]rune(line)), line)
			}
		}
		if path := strings.Fields(name); len(path) > 0 {
			last := path[len(path)-1]
			path[len(path)-1] = last[:len(last)-1] + "x" + last[len(last)-1:]
			if status, stdout, stderr := said(t, dir, path...); status != 2 || stdout != "" || !strings.Contains(stderr, "did you mean "+last) {
				t.Errorf("%v: status %d, stdout %q, stderr %q; want the hint %s", path, status, stdout, stderr, last)
			}
		}
		for _, m := range helpFlag.FindAllStringSubmatch(help, -1) {
			slip := m[1][:len(m[1])-2] + "x" + m[1][len(m[1])-1:]
			if len(m[1]) < 6 || strings.Contains(help, "--"+slip) {
				continue
			}
			status, stdout, stderr := said(t, dir, append(strings.Fields(name), "--"+slip)...)
			if status != 2 || stdout != "" || !strings.Contains(stderr, "--"+m[1]) {
				t.Errorf("%s --%s: status %d, stdout %q, stderr %q; want the hint --%s", name, slip, status, stdout, stderr, m[1])
			}
			break // one for each command: each is a process
		}
	}
}

// With --json stdout has exactly one object, also where the command fails: no
// policy, no ledger, missing arguments, unknown flags.
func TestJSONIsOneObjectOnFailure(t *testing.T) {
	t.Parallel()
	for name := range commands(t) {
		for _, extra := range [][]string{nil, {"--no-such-flag"}, {"surplus", "surplus", "surplus"}} {
			dir := t.TempDir()
			args := append(append(strings.Fields(name), "--json"), extra...)
			status, stdout, stderr := said(t, dir, args...)
			d := json.NewDecoder(strings.NewReader(stdout))
			var object map[string]any
			if err := d.Decode(&object); err != nil || d.More() {
				t.Errorf("%v: status %d, stdout %q is not one object: %v\nstderr %s", args, status, stdout, err, stderr)
				continue
			}
			if _, failed := object["error"]; status == 2 && !failed {
				t.Errorf("%v: status 2, and no error in %s", args, stdout)
			}
			if n, given := object["status"]; given && int(n.(float64)) != status {
				t.Errorf("%v: status %d, and %v in %s", args, status, n, stdout)
			}
			if status != 0 && stderr == "" {
				t.Errorf("%v: status %d, and nothing on stderr", args, status)
			}
		}
	}
}

// With --json stdout has exactly one object where all goes well, and with --quiet
// stderr has nothing.
func TestJSONIsOneObjectOnSuccess(t *testing.T) {
	dir := manyExports(t, 3)
	t.Setenv("EPITAPH_SESSIONS", dir+"/sessions")
	must(t, os.WriteFile(dir+"/data/tracked.txt", []byte("x"), 0o600))
	for _, line := range []string{
		"init --policy other/epitaph.yaml", "version", "schema", "key new", "key show", "check", "plan", "plan --show", "plan --out p.plan",
		"purge --dry-run", "pause", "pause --resume", "purge --plan p.plan --yes", "purge", "trail", "trail --items", "trail --stats", "verify ledger",
		"prove 5", "prove 5 --out r.proof", "ledger checkpoint", "ledger prune --dry-run", "ledger prune --yes", "ledger seal-off --item export-00001.zip --yes",
		"key rotate",
		"track --list", "track nas_raw_created data/tracked.txt --due 0s --required", "overdue", "orphans", "stats", "verify files", "verify files --hashes",
		"cleanup verify", "cleanup run",
		"session new --id a", "session write a x", "session list", "session files a", "session remove a x", "session delete a", "session sweep", "session delete-all --yes",
		"ledger copy --to sqlite:copy.db", // after it this one is closed
	} {
		must(t, os.MkdirAll(dir+"/other", 0o700))
		status, stdout, stderr := said(t, dir, append(strings.Fields(line), "--json", "--quiet")...)
		var object map[string]any
		d := json.NewDecoder(strings.NewReader(stdout))
		if err := d.Decode(&object); err != nil || d.More() {
			t.Errorf("%s: status %d, stdout %.300q is not one object: %v", line, status, stdout, err)
		}
		if _, failed := object["error"]; status > 1 || failed {
			t.Errorf("%s: status %d, %s%s", line, status, stdout, stderr)
		}
		if status == 0 && stderr != "" {
			t.Errorf("%s --quiet: %s", line, stderr)
		}
	}
}

// The scripts of the shells are such, and complete what there is.
func TestCompletion(t *testing.T) {
	t.Parallel()
	dir := manyExports(t, 0)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		status, script, _ := said(t, dir, "completion", shell)
		if status != 0 || !strings.Contains(script, "epitaph") {
			t.Errorf("%s: status %d, %.100q", shell, status, script)
		}
		if shell == "bash" {
			check := exec.CommandContext(t.Context(), "bash", "-n")
			check.Stdin = strings.NewReader(script)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("bash does not read it: %v\n%s", err, out)
			}
		}
	}
	for _, c := range []struct{ typed, want string }{
		{"pur", "purge\tDispose"}, {"purge e", "exports\n"}, {"plan ", "exports\n"}, {"session r", "run\t"},
		{"pause --store ", "disk\tfiles"}, {"purge --ret", "--retain\t"}, {"completion ", "zsh"},
	} {
		words := strings.Split(c.typed, " ")
		status, out, _ := said(t, dir, append([]string{"__complete"}, words...)...)
		if status != 0 || !strings.Contains("\n"+out, "\n"+c.want) {
			t.Errorf("%q: status %d, %q; want %q", c.typed, status, out, c.want)
		}
	}
}
