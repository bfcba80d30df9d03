package sessions_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
)

// programs are the built commands: the tests run them as a person would.
var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sessions")
	if err == nil {
		programs = dir
		build := exec.Command("go", "build", "-o", dir+"/", "../../cmd/epitaph", "./upload")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	status := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
	} else {
		status = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

// bed is a directory with sessions and a ledger.
type bed struct {
	*testing.T
	dir string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	return &bed{t, t.TempDir()}
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) command(name string, args ...string) *exec.Cmd {
	if filepath.Base(name) == name && name != "python3" {
		name = filepath.Join(programs, name)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "EPITAPH="+filepath.Join(programs, "epitaph"), "EPITAPH_SESSIONS="+filepath.Join(b.dir, "sessions"),
		"EPITAPH_LEDGER=sqlite:"+filepath.Join(b.dir, "epitaph.db"), "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

// services are the same service three times.
var services = map[string]func(b *bed) *exec.Cmd{
	"go": func(b *bed) *exec.Cmd {
		return b.command("upload", "-root", filepath.Join(b.dir, "sessions"), "-ledger", "sqlite:"+filepath.Join(b.dir, "epitaph.db"))
	},
	"go, sealed": func(b *bed) *exec.Cmd {
		return b.command("upload", "-sealed", "-root", filepath.Join(b.dir, "sessions"), "-ledger", "sqlite:"+filepath.Join(b.dir, "epitaph.db"))
	},
	"python": func(b *bed) *exec.Cmd { return b.command("python3", "service.py") },
}

// service is one that runs.
type service struct {
	*exec.Cmd
	url string
	mu  sync.Mutex
	log bytes.Buffer
}

func (s *service) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *service) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (b *bed) start(name string) *service {
	b.Helper()
	s := &service{Cmd: services[name](b)}
	s.Stderr = s
	out, err := s.StdoutPipe()
	b.must(err)
	b.must(s.Start())
	b.Cleanup(func() { _ = s.Process.Kill(); _ = s.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("%s did not start: %v\n%s", name, err, s.said())
	}
	s.url = strings.TrimSpace(line)
	return s
}

// end asks a service to end and waits for it.
func (b *bed) end(s *service) {
	b.Helper()
	b.must(s.Process.Signal(syscall.SIGTERM))
	if err := s.Wait(); err != nil {
		b.Errorf("end: %v\n%s", err, s.said())
	}
}

func (b *bed) sessions() []string {
	b.Helper()
	found, err := filepath.Glob(filepath.Join(b.dir, "sessions", "[a-z0-9]*"))
	b.must(err)
	return found
}

// ledger says how many sessions are gone for good, and how many intents are open.
func (b *bed) ledger() (gone, open int) {
	b.Helper()
	l, err := ledger.OpenReadOnly(context.Background(), "sqlite:"+filepath.Join(b.dir, "epitaph.db"), ledger.Config{})
	b.must(err)
	defer l.Close()
	for e, err := range l.Entries(context.Background(), ledger.Filter{Kinds: []ledger.Kind{ledger.Outcome}}) {
		b.must(err)
		for _, r := range e.Results {
			if r.State == ledger.Gone && r.Reason == "GONE" {
				gone++
			}
		}
	}
	for _, err := range l.OpenIntents(context.Background()) {
		b.must(err)
		open++
	}
	return gone, open
}

func post(url, body string) (int, string, error) {
	r, err := http.Post(url+"/process", "text/plain", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return r.StatusCode, string(text), err
}

// Uploads are answered, each with its own documents (F7), and nothing of them is
// left: not on disk, and not in the logs.
func TestUploads(t *testing.T) {
	t.Parallel()
	for name := range services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			s := b.start(name)
			const n = 8
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					status, text, err := post(s.url, fmt.Sprintf("# Patient %d\n## History\nsmokes\n- stop patient-%d smoking\n", i, i))
					text = strings.NewReplacer(": ", ":", ", ", ",").Replace(text)
					want := fmt.Sprintf(`{"toc":["Patient %d","History"],"summary":{"lines":4,"words":10},"plan":["stop patient-%d smoking"]}`, i, i) + "\n"
					if err != nil || status != 200 || text != want {
						t.Errorf("%d: %d, %v\ngot  %swant %s", i, status, err, text, want)
					}
				})
			}
			wg.Wait()
			b.end(s)
			if left := b.sessions(); len(left) != 0 {
				t.Errorf("%d sessions are left", len(left))
			}
			if gone, open := b.ledger(); gone != n || open != 0 {
				t.Errorf("the ledger has %d gone, %d open; want %d and none", gone, open, n)
			}
			log := strings.ReplaceAll(s.said(), `": `, `":`)
			if got := strings.Count(log, `"files_gone":4`); got != n {
				t.Errorf("%d of %d ends are in the log, with four files each:\n%s", got, n, log)
			}
			if strings.Contains(strings.ToLower(log), "patient") || strings.Contains(log, b.dir) {
				t.Errorf("the log tells of a person or a place:\n%s", log)
			}
		})
	}
}

// A service that is killed in the middle of an upload leaves a session behind.
// Its next start takes it.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name := range services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			s := b.start(name)
			u, err := url.Parse(s.url)
			b.must(err)
			conn, err := net.Dial("tcp", u.Host)
			b.must(err)
			defer conn.Close()
			fmt.Fprintf(conn, "POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n# half of a note")
			for deadline := time.Now().Add(2 * time.Minute); ; {
				if found, _ := filepath.Glob(filepath.Join(b.dir, "sessions", "[a-z0-9]*", "note.txt")); len(found) == 1 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("no session came to be\n%s", s.said())
				}
				time.Sleep(5 * time.Millisecond)
			}
			b.must(s.Process.Kill())
			_ = s.Wait()
			if n := len(b.sessions()); n != 1 {
				t.Fatalf("%d sessions are left, want one", n)
			}
			s = b.start(name)
			b.end(s)
			if n := len(b.sessions()); n != 0 {
				t.Errorf("%d sessions are left after the next start\n%s", n, s.said())
			}
			if gone, open := b.ledger(); gone != 1 || open != 0 {
				t.Errorf("the ledger has %d gone, %d open", gone, open)
			}
		})
	}
}

// A program that knows nothing of Epitaph, through session run: its result comes
// out, its status too, and its files are gone, also when it fails.
func TestRun(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, c := range []struct {
		note   string
		status int
		out    string
	}{
		{"# A\n- rest\n", 0, `{"toc": ["A"], "summary": {"lines": 2, "words": 4}, "plan": ["rest"]}` + "\n"},
		{"\xff\xfe", 1, ""},
	} {
		cmd := b.command("epitaph", "session", "run", "--", "python3", "convert.py")
		var out, errs bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.note), &out, &errs
		err := cmd.Run()
		status := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			status = exit.ExitCode()
		}
		if status != c.status || out.String() != c.out || len(b.sessions()) != 0 {
			t.Errorf("%q: status %d, %d sessions\n%s%s", c.note, status, len(b.sessions()), out.String(), errs.String())
		}
		if !strings.Contains(errs.String(), "session deleted: ") {
			t.Errorf("%q: %s", c.note, errs.String())
		}
	}
	if gone, open := b.ledger(); gone != 2 || open != 0 {
		t.Errorf("the ledger has %d gone, %d open", gone, open)
	}
}

// F5. Expired logs go when cron calls, from whatever directory: by the date in
// their name, or, where there is none, by when they were last written to;
// compressed ones too. What a program is writing to stays, however old it looks.
func TestF5ExpiredLogs(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	logs := filepath.Join(b.dir, "logs")
	now := time.Now().UTC()
	date := func(days int) string { return now.AddDate(0, 0, -days).Format("2006-01-02") }
	files := map[string]struct {
		days int // since it was last written to
		gone bool
	}{
		"app-" + date(45) + ".log":            {0, true}, // touched by a backup
		"app-" + date(45) + ".log.gz":         {45, true},
		"deep/er/web-" + date(90) + ".log.xz": {90, true},
		"app-" + date(28) + ".log":            {90, false},
		"app-" + date(0) + ".log.gz":          {0, false},
		"app-2026-13-45.log":                  {400, false}, // no such day: undated
		"app.log":                             {400, false},
		"current.log":                         {400, false},
		"app-current.log":                     {400, false},
		"app.log.1":                           {31, true},
		"app.log.12.gz":                       {45, true},
		"app.log.2":                           {29, false},
		"notes.txt":                           {400, false},
		"app.log.bak":                         {400, false},
	}
	for name, f := range files {
		path := filepath.Join(logs, name)
		b.must(os.MkdirAll(filepath.Dir(path), 0o700))
		b.must(os.WriteFile(path, []byte("x"), 0o600))
		at := now.AddDate(0, 0, -f.days)
		b.must(os.Chtimes(path, at, at))
	}
	policy, err := filepath.Abs("logs.yaml")
	b.must(err)
	run := func() string {
		cmd := b.command("epitaph", "purge", "--policy", policy, "--yes")
		cmd.Dir = "/"
		cmd.Env = append(cmd.Env, "LOG_DIR="+logs, "EPITAPH_LEDGER="+filepath.Join(b.dir, "logs.db"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	out := run()
	for name, f := range files {
		if _, err := os.Lstat(filepath.Join(logs, name)); os.IsNotExist(err) != f.gone {
			t.Errorf("%s: gone %t, want %t\n%s", name, os.IsNotExist(err), f.gone, out)
		}
	}
	run() // nothing is left to do
}
