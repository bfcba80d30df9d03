package phi_tracking_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/internal/testserver"
)

var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "phi")
	if err == nil {
		program = filepath.Join(dir, "epitaph")
		build := exec.Command("go", "build", "-o", program, "../../cmd/epitaph")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	status := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		status = testserver.Wrap(m).Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// bed is two servers in one directory, with everything as separate processes.
type bed struct {
	*testing.T
	dir string
}

type result struct {
	status         int
	stdout, stderr string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t, dir}
	for _, d := range []string{"uploads", "nas", "scratch", "incoming"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	policy, err := os.ReadFile("epitaph.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b.write("epitaph.yaml", string(policy))
	return b
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bed) write(name, content string) string {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(b.path(name), []byte(content), 0o600); err != nil {
		b.Fatal(err)
	}
	return b.path(name)
}

func (b *bed) remove(name string) {
	b.Helper()
	if err := os.RemoveAll(b.path(name)); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) rename(from, to string) {
	b.Helper()
	if err := os.Rename(b.path(from), b.path(to)); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) exists(name string) bool {
	_, err := os.Lstat(b.path(name))
	return err == nil
}

func (b *bed) start(stdin string, env []string, name string, args ...string) result {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), append(env, "EPITAPH="+program, "EPITAPH_POLICY="+b.path("epitaph.yaml"))...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		b.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// epitaph runs the program, which must end with the status, and returns what it
// printed.
func (b *bed) epitaph(status int, args ...string) string {
	b.Helper()
	r := b.start("", nil, program, args...)
	if r.status != status {
		b.Fatalf("epitaph %s: status %d, want %d\n%s%s", strings.Join(args, " "), r.status, status, r.stdout, r.stderr)
	}
	return r.stdout + r.stderr
}

// pipeline sends a submission through both servers.
func (b *bed) pipeline(name, content string, env ...string) result {
	b.Helper()
	script, err := filepath.Abs("pipeline")
	if err != nil {
		b.Fatal(err)
	}
	return b.start("", env, script, b.write("incoming/"+name+".csv", content), "5", "123")
}

func (b *bed) want(text, pattern string) {
	b.Helper()
	if !regexp.MustCompile("(?m)" + pattern).MatchString(text) {
		b.Errorf("no match for %q in:\n%s", pattern, text)
	}
}

func (b *bed) not(text, pattern string) {
	b.Helper()
	if regexp.MustCompile("(?m)" + pattern).MatchString(text) {
		b.Errorf("%q is in:\n%s", pattern, text)
	}
}
