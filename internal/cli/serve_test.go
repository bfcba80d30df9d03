package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

// atNight is a schedule that no test lives to see.
var atNight = fmt.Sprintf("0 %d * * *", (time.Now().UTC().Hour()+12)%24)

var servePolicy = `version: 1
checkpoints: {every: 1s}
stores:
  disk: {files: data}
rules:
  exports: {kind: export, retain: 14d, files: "disk:export-*.zip", anchor: modified}
limits: {share: 100%, items: unlimited}
schedule: "` + atNight + `"
`

// serving is a service at work as a process.
type serving struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	out bytes.Buffer

	mu     sync.Mutex
	lines  []string // of stderr: events, and problems for people
	seen   int
	closed chan struct{}

	// hold is a text at which the service is no longer listened to, so that it is
	// held back by its full pipe, until let is closed.
	hold string
	let  chan struct{}
}

// house makes a directory with a policy, n exports that are due, and a ledger with
// a key. With last it says that the rule was gone through so long ago.
func house(t *testing.T, text string, n int, last time.Duration) string {
	t.Helper()
	dir := manyExports(t, n)
	must(t, os.WriteFile(filepath.Join(dir, "epitaph.yaml"), []byte(text), 0o600))
	if out, err := command(t.Context(), dir, "key", "new").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if last > 0 {
		l := openDirect(t, dir)
		_, err := l.Append(t.Context(), ledger.Entry{At: time.Now().Add(-last), Kind: ledger.Heartbeat, Rule: "exports",
			Facts: []ledger.Fact{ledger.Code("mode", "purge"), ledger.Code("state", "done")}})
		must(t, err)
		must(t, l.Close())
	}
	return dir
}

func openDirect(t *testing.T, dir string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), "sqlite:"+filepath.Join(dir, "epitaph.db"), ledger.Config{})
	must(t, err)
	return l
}

// serve starts a service and waits until it says that it is there.
func serve(t *testing.T, dir string, env []string, args ...string) *serving {
	t.Helper()
	return serveUntil(t, "", dir, env, args...)
}

// serveUntil starts a service that gets no further than a few pages after it said
// the text, until it is let or ended.
func serveUntil(t *testing.T, hold, dir string, env []string, args ...string) *serving {
	t.Helper()
	s := &serving{t: t, dir: dir, closed: make(chan struct{}), hold: hold, let: make(chan struct{})}
	s.cmd = command(context.Background(), dir, append([]string{"serve", "--log", "-"}, args...)...)
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout = &s.out
	pipe, err := s.cmd.StderrPipe()
	must(t, err)
	narrow(t, pipe)
	must(t, s.cmd.Start())
	go func() {
		defer close(s.closed)
		for sc := bufio.NewScanner(pipe); sc.Scan(); {
			s.mu.Lock()
			s.lines = append(s.lines, sc.Text())
			s.mu.Unlock()
			if s.hold != "" && strings.Contains(sc.Text(), s.hold) {
				<-s.let
			}
		}
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		s.listen()
		<-s.closed
		_ = s.cmd.Wait()
	})
	s.wait(`"event":"service_started"`)
	return s
}

// listen ends the hold.
func (s *serving) listen() {
	select {
	case <-s.let:
	default:
		close(s.let)
	}
}

func (s *serving) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// wait waits for a line, after those waited for before, in which all of this is.
func (s *serving) wait(parts ...string) string {
	s.t.Helper()
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		for ; s.seen < len(s.lines); s.seen++ {
			line, all := s.lines[s.seen], true
			for _, p := range parts {
				all = all && strings.Contains(line, p)
			}
			if all {
				s.seen++
				s.mu.Unlock()
				return line
			}
		}
		s.mu.Unlock()
	}
	s.t.Fatalf("no line with %q:\n%s", parts, s.all())
	return ""
}

// told waits until a text is in what was said, in whatever place.
func (s *serving) told(text string) {
	s.t.Helper()
	for end := time.Now().Add(soon); !strings.Contains(s.all(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("it was to be told: %s\n%s", text, s.all())
		}
	}
}

// end ends it by a signal and checks its status and last word.
func (s *serving) end(sig os.Signal, want int) {
	s.t.Helper()
	must(s.t, s.cmd.Process.Signal(sig))
	s.listen()
	<-s.closed
	if got := statusOf(s.t, s.cmd.Wait()); got != want {
		s.t.Errorf("status %d after %v, want %d\n%s", got, sig, want, s.all())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.lines[len(s.lines)-1]; !strings.Contains(last, `"event":"service_stopped"`) {
		s.t.Errorf("last word: %s", last)
	}
}

// alarms asks how the service is until these are the alarms: it keeps how it is a
// moment after it told what happened.
func (s *serving) alarms(want ...string) (text string) {
	s.t.Helper()
	for end := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		out, err := command(s.t.Context(), s.dir, "serve", "--status", "--json", "--state", "epitaph.db.serve").Output()
		status := statusOf(s.t, err)
		var j struct{ Alarms []string }
		err = json.Unmarshal(out, &j)
		if err == nil && slices.Equal(j.Alarms, want) && status == min(len(want), 1) {
			return string(out)
		}
		if time.Now().After(end) {
			s.t.Fatalf("serve --status: status %d, %v, want the alarms %q: %s", status, err, want, out)
		}
	}
}

// put replaces a file at once: the service may read it at any time.
func put(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.WriteFile(name+".new", []byte(text), 0o600))
	must(t, os.Rename(name+".new", name))
}

// size of the checkpoint in a file; 0 when there is none.
func pinnedSize(t *testing.T, path string) int64 {
	t.Helper()
	note, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return 0
	}
	must(t, err)
	c, err := proof.Peek(note)
	must(t, err)
	return c.Size
}

// What an application writes is signed and pinned within the second, nothing is
// signed when nothing was written, and there is one service at a time.
func TestServeSignsWhatOthersWrote(t *testing.T) {
	t.Parallel()
	dir := house(t, servePolicy, 0, time.Minute)
	s := serve(t, dir, nil)
	s.wait(`"event":"checkpoint_signed","size":1`)
	must(t, os.WriteFile(filepath.Join(dir, "data", "copy.csv"), []byte("x"), 0o600))
	for n := int64(2); n <= 3; n++ {
		if out, err := command(t.Context(), dir, "track", "work_copy_created", "data/copy.csv", "--due", "2h").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s.wait(fmt.Sprintf(`"event":"checkpoint_signed","size":%d`, n))
		if got := pinnedSize(t, filepath.Join(dir, "epitaph.checkpoint")); got != n {
			t.Errorf("%d entries are pinned, want %d", got, n)
		}
	}
	time.Sleep(2500 * time.Millisecond) // in which it must not sign again
	if n := strings.Count(s.all(), "checkpoint_signed"); n != 3 {
		t.Errorf("signed %d times, want 3:\n%s", n, s.all())
	}
	if out, err := command(t.Context(), dir, "verify", "ledger").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("checkpoint 3 of")) {
		t.Errorf("%v: %s", err, out)
	}
	second, err := command(t.Context(), dir, "serve").CombinedOutput()
	if status := statusOf(t, err); status != 3 || !bytes.Contains(second, []byte("another epitaph serve is at work")) {
		t.Errorf("a second service: status %d, %s", status, second)
	}
	s.alarms()
	if out, err := command(t.Context(), dir, "serve", "--status").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("  Checkpoint:   3 of ")) {
		t.Errorf("%v: %s", err, out)
	}
	s.end(syscall.SIGTERM, 0)
	out, err := command(t.Context(), dir, "serve", "--status").CombinedOutput()
	if status := statusOf(t, err); status != 1 || !bytes.Contains(out, []byte("no epitaph serve is at work")) {
		t.Errorf("after its end: status %d, %s", status, out)
	}
	serve(t, dir, nil).end(os.Interrupt, 130)
}

// A run that was missed is made at once, through the same path as a purge: it
// prints the same summary, has the same entries, and ends with a checkpoint.
func TestServeMakesUpForAMissedRun(t *testing.T) {
	t.Parallel()
	dir := house(t, servePolicy, 5, 49*time.Hour)
	s := serve(t, dir, nil, "--request-id", "req-7")
	s.wait(`"event":"next_run"`, `"missed":true`)
	s.wait(`"event":"purge_run_started"`, `"request_id":"req-7"`)
	s.wait(`"event":"run_ended"`, `"status":0`, `"missed":true`)
	s.wait(`"event":"next_run"`, `"missed":false`)
	if gone, open := goneOf(t, dir); gone != 5 || open != 0 || left(t, dir) != 0 {
		t.Errorf("%d gone, %d open, %d left; want 5, 0, 0", gone, open, left(t, dir))
	}
	s.alarms()
	s.end(syscall.SIGTERM, 0)
	if !strings.Contains(s.out.String(), "Purge complete:") || !strings.Contains(s.out.String(), "Exports deleted: 5") {
		t.Errorf("stdout: %s", &s.out)
	}
	// It is not made again: it was not missed any more.
	again := serve(t, dir, nil)
	again.wait(`"event":"next_run"`, `"missed":false`)
	time.Sleep(1500 * time.Millisecond)
	again.end(syscall.SIGTERM, 0)
	if strings.Contains(again.all(), "run_ended") {
		t.Errorf("ran again:\n%s", again.all())
	}
}

// SIGTERM lets the running batch end, says that the run was cut short, and the
// next service finishes it at once.
func TestServeEndsAfterTheBatch(t *testing.T) {
	t.Parallel()
	const n = 6000
	dir := house(t, servePolicy, n, 49*time.Hour)
	s := serveUntil(t, `"event":"export_orphan_purged"`, dir, nil)
	s.wait(`"event":"export_orphan_purged"`)
	s.end(syscall.SIGTERM, 0)
	if !strings.Contains(s.all(), `"event":"run_ended"`) || !strings.Contains(s.all(), `"status":130`) {
		t.Errorf("it was not said that the run was cut short")
	}
	gone, open := goneOf(t, dir)
	if open != 0 || gone == 0 || gone == n || gone != n-left(t, dir) {
		t.Errorf("%d gone, %d open, %d of %d left", gone, open, left(t, dir), n)
	}
	next := serve(t, dir, nil)
	next.wait(`"event":"run_ended"`, `"status":0`, `"missed":true`)
	next.end(syscall.SIGTERM, 0)
	if gone, open := goneOf(t, dir); gone != n || open != 0 || left(t, dir) != 0 {
		t.Errorf("after the second: %d gone, %d open, %d left", gone, open, left(t, dir))
	}
}

// A ledger that was put back from an old copy, while the service is at work: it
// writes nothing, says so, and goes on when a person has put it on record.
func TestServeStopsWritingToAnOldLedger(t *testing.T) {
	t.Parallel()
	dir := house(t, servePolicy, 3, time.Minute)
	if out, err := command(t.Context(), dir, "purge", "--dry-run").CombinedOutput(); err != nil { // so that there is something to lose
		t.Fatalf("%v: %s", err, out)
	}
	db := filepath.Join(dir, "epitaph.db")
	old, err := os.ReadFile(db)
	must(t, err)
	l := openDirect(t, dir)
	for range 3 {
		_, err := l.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat, Rule: "exports"})
		must(t, err)
	}
	must(t, l.Close())
	s := serve(t, dir, nil, "--prune=false")
	s.wait(`"event":"checkpoint_signed"`)
	for _, suffix := range []string{"-wal", "-shm"} {
		must(t, os.RemoveAll(db+suffix))
	}
	must(t, os.WriteFile(db+".new", old, 0o600))
	must(t, os.Rename(db+".new", db))
	s.wait(`"event":"ledger_refused","reason":"behind"`)
	s.wait(`"event":"ledger_refused","reason":"behind"`)
	before, err := os.ReadFile(db)
	must(t, err)
	s.alarms("ledger", "checkpoint")
	must(t, os.WriteFile(filepath.Join(dir, "data", "a"), nil, 0o600))
	if after, err := os.ReadFile(db); err != nil || !bytes.Equal(before, after) {
		t.Error("it wrote to a ledger that is behind its checkpoint")
	}
	if left(t, dir) != 3 {
		t.Errorf("%d exports are left, want 3", left(t, dir))
	}
	if out, err := command(t.Context(), dir, "ledger", "fork", "--reason", "restored").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.wait(`"event":"ledger_accepted"`)
	s.wait(`"event":"checkpoint_signed"`)
	s.alarms()
	s.end(syscall.SIGTERM, 0)
}

// A policy that cannot be read stops what is disposed of, and says so until it is
// mended. SIGHUP opens the log anew.
func TestServeReloads(t *testing.T) {
	t.Parallel()
	dir := house(t, servePolicy, 0, time.Minute)
	log := filepath.Join(dir, "events.json")
	cmd := command(context.Background(), dir, "serve", "--log", "events.json")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	must(t, cmd.Start())
	defer cmd.Process.Kill() //nolint:errcheck // it has ended, or the test has failed
	waitIn(t, log, `"event":"next_run"`)
	put(t, filepath.Join(dir, "epitaph.yaml"), strings.Replace(servePolicy, "retain", "retian", 1))
	waitIn(t, log, `"event":"policy_broken","error_type":"policy.Errors"`)
	s := &serving{t: t, dir: dir}
	for end := time.Now().Add(soon); ; time.Sleep(50 * time.Millisecond) {
		out, _ := command(t.Context(), dir, "serve", "--status", "--state", "epitaph.db.serve").Output()
		if bytes.Contains(out, []byte("Alarms:       policy")) {
			if !bytes.Contains(out, []byte("hint: policy: it cannot be read, and nothing is disposed of; epitaph check says why\n")) {
				t.Errorf("an alarm is not explained:\n%s", out)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("state: %s", out)
		}
	}
	put(t, filepath.Join(dir, "epitaph.yaml"), strings.Replace(servePolicy, `schedule: "0 `, `schedule: "17 `, 1))
	waitIn(t, log, `"event":"policy_loaded"`)
	waitIn(t, log, ":17:00Z")
	must(t, os.Rename(log, log+".1"))
	must(t, cmd.Process.Signal(syscall.SIGHUP))
	waitIn(t, log, `"event":"policy_loaded"`)
	s.alarms()
	// A pin that is new has the checkpoint though nothing was written since.
	put(t, filepath.Join(dir, "epitaph.yaml"), strings.Replace(servePolicy, "{every: 1s}", "{every: 1s, pins: ['file:other.checkpoint']}", 1))
	waitIn(t, filepath.Join(dir, "other.checkpoint"), "\n1\n")
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if status := statusOf(t, cmd.Wait()); status != 0 {
		t.Errorf("status %d, want 0", status)
	}
	for _, want := range []string{`unknown key "retian"`, "Z service_started version=", "Z policy_broken error_type=policy.Errors\n", "Z service_stopped "} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, errs.String())
		}
	}
}

// A pin that cannot be reached is an alarm, and is given the checkpoint as soon as
// it can be.
func TestServePinsLater(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	up, got := false, int64(0)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var b bytes.Buffer
		_, _ = b.ReadFrom(r.Body)
		if c, err := proof.Peek(b.Bytes()); err == nil && up {
			got = c.Size
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer web.Close()
	dir := house(t, strings.Replace(servePolicy, "{every: 1s}", "{every: 1s, pins: ['"+web.URL+"']}", 1), 0, time.Minute)
	s := serve(t, dir, nil)
	s.wait(`"event":"checkpoint_failed"`, `"failures":1`)
	s.wait(`"event":"checkpoint_failed"`, `"failures":2`)
	s.alarms("checkpoint")
	mu.Lock()
	up = true
	mu.Unlock()
	s.wait(`"event":"checkpoint_signed","size":1`)
	mu.Lock()
	if got != 1 {
		t.Errorf("the pin has %d entries, want 1", got)
	}
	mu.Unlock()
	s.end(syscall.SIGTERM, 0)
	if strings.Contains(s.all(), web.URL) {
		t.Error("the address of the pin was told")
	}
}

// Tracked files and sessions that are due go on request, and old entries go by
// themselves, up to what is in effect.
func TestServeCleansUp(t *testing.T) {
	t.Parallel()
	dir := house(t, servePolicy, 0, time.Minute)
	run := func(args ...string) {
		t.Helper()
		if out, err := command(t.Context(), dir, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	file := filepath.Join(dir, "data", "copy.csv")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	run("track", "work_copy_created", "data/copy.csv", "--due", "1s")
	run("session", "new", "--root", "sessions", "--id", "over", "--ttl", "1s")
	run("session", "new", "--root", "sessions", "--id", "lives", "--ttl", "1h")
	time.Sleep(1100 * time.Millisecond)
	s := serve(t, dir, nil, "--cleanup", "1s", "--sessions", "sessions")
	s.told(`"event":"cleanup_ended","status":0,"gone":1`)
	s.told(`"event":"sweep_ended","status":0,"gone":1,"left":0`)
	s.end(syscall.SIGTERM, 0)
	for path, want := range map[string]bool{file: false, filepath.Join(dir, "sessions", "over"): false, filepath.Join(dir, "sessions", "lives"): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", path, err == nil, want)
		}
	}
}

// A clock that jumped takes no tracked file: an alarm says so, and the service lives.
// Seen to fail without the interlock: the file was gone.
func TestServeCleansNothingUpByAClockThatJumped(t *testing.T) {
	t.Parallel()
	dir := house(t, servePolicy, 0, 0)
	file := filepath.Join(dir, "data", "copy.csv")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	if out, err := command(t.Context(), dir, "track", "work_copy_created", "data/copy.csv", "--due", "0s").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l := openDirect(t, dir)
	_, err := l.Append(t.Context(), ledger.Entry{At: time.Now().AddDate(0, 0, -60), Kind: ledger.Heartbeat, Rule: "exports"})
	must(t, err)
	must(t, l.Close())
	s := serve(t, dir, nil, "--cleanup", "1s", "--prune=false")
	for range 2 {
		s.wait("stopped before the first deletion: the clock stands 60 days after the last run in the ledger")
		s.wait(`"event":"cleanup_ended","status":3,"gone":0`)
	}
	s.alarms("cleanup")
	s.end(syscall.SIGTERM, 0)
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
}

func TestServePrunes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "epitaph.yaml"), []byte(strings.Replace(servePolicy, "version: 1", "version: 1\nledger: {at: \"sqlite:epitaph.db\", retain: 1y}", 1)), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
	l := openDirect(t, dir)
	for i := range 700 {
		e := ledger.Entry{Kind: ledger.Heartbeat, Rule: "old", At: time.Now().AddDate(-2, 0, 0)}
		if i == 299 {
			e.Kind, e.Run = ledger.RunStarted, "a"
		}
		_, err := l.Append(t.Context(), e)
		must(t, err)
	}
	must(t, l.Close())
	// A clock that was set ahead makes entries look old.
	s := serve(t, dir, nil)
	s.wait(`"event":"pruned","status":3,"entries":0`)
	s.end(syscall.SIGTERM, 0)
	l = openDirect(t, dir)
	_, err := l.Append(t.Context(), ledger.Entry{Kind: ledger.Heartbeat, Run: "a", Rule: "old", At: time.Now()})
	must(t, err)
	must(t, l.Close())
	s = serve(t, dir, nil)
	s.wait(`"event":"pruned","status":0,"entries":256,"held":300,"held_by":"run"`)
	s.end(syscall.SIGTERM, 0)
	out, err := command(t.Context(), dir, "ledger", "prune", "--yes").CombinedOutput()
	if err != nil || !bytes.HasPrefix(out, []byte("Let go of 0 entries before ")) || !bytes.Contains(out, []byte("\nEntry 300 and all after it stay: a run began with it that has younger entries")) {
		t.Errorf("%v: %s", err, out)
	}
	quiet := serve(t, dir, nil, "--prune=false")
	time.Sleep(time.Second)
	quiet.end(syscall.SIGTERM, 0)
	if strings.Contains(quiet.all(), `"event":"pruned"`) {
		t.Errorf("pruned all the same:\n%s", quiet.all())
	}
}

// systemd is told that the service is there, alive, reading its policy, and going.
func TestServeNotifies(t *testing.T) {
	t.Parallel()
	dir := house(t, strings.Replace(servePolicy, "{every: 1s}", "{every: 60s}", 1), 0, time.Minute)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@epitaph-test-" + filepath.Base(filepath.Dir(dir)) + fmt.Sprint(os.Getpid()), Net: "unixgram"})
	must(t, err)
	defer socket.Close()
	var mu sync.Mutex
	var got strings.Builder
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := socket.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			got.WriteString(string(b[:n]) + "\n")
			mu.Unlock()
		}
	}()
	// What was told, in order, up to the first that is wanted and was not.
	order := func() (text, lacks string) {
		mu.Lock()
		defer mu.Unlock()
		text = got.String()
		at := 0
		for _, want := range []string{"READY=1", "STATUS=all is well\nWATCHDOG=1", "RELOADING=1\nMONOTONIC_USEC=", "READY=1", "STATUS=all is well\nWATCHDOG=1", "STOPPING=1"} {
			i := strings.Index(text[at:], want)
			if i < 0 {
				return text, want
			}
			at += i + len(want)
		}
		return text, ""
	}
	until := func(done func(text, lacks string) bool) {
		t.Helper()
		for end := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
			text, lacks := order()
			if done(text, lacks) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("no %q in this order:\n%s", lacks, text)
			}
		}
	}
	s := serve(t, dir, []string{"NOTIFY_SOCKET=" + socket.LocalAddr().String(), "WATCHDOG_USEC=300000"})
	s.wait(`"event":"checkpoint_signed"`)
	must(t, s.cmd.Process.Signal(syscall.SIGHUP))
	s.wait(`"event":"policy_loaded"`)
	until(func(_, lacks string) bool { return lacks == "STOPPING=1" })
	// Signs of life come by the watchdog: without one it would look up every 30 s.
	text, _ := order()
	signs := strings.Count(text, "WATCHDOG=1")
	until(func(text, _ string) bool { return strings.Count(text, "WATCHDOG=1") >= signs+10 })
	s.end(syscall.SIGTERM, 0)
	until(func(_, lacks string) bool { return lacks == "" })
}

// Nothing of a person is in what a service tells: not in its log, its summaries,
// its state, nor in what it says to people.
func TestServeTellsNothingOfAPerson(t *testing.T) {
	t.Parallel()
	dir := house(t, `version: 1
checkpoints: {every: 1s}
stores:
  app:  {rows: "${DATABASE_URL:-sqlite:none.db}"}
  disk: {files: data}
rules:
  records: {retain: 14d, rows: app.records, anchor: {column: made, zone: UTC}, where: "owner <> 'kanarie7f3'"}
  exports: {kind: export, retain: 14d, files: "disk:export-*.zip", anchor: modified}
limits: {share: 100%}
schedule: "`+atNight+`"
`, 0, 49*time.Hour)
	env := []string{"DATABASE_URL=postgres://app:" + canary + "@127.0.0.1:1/" + canary + "?connect_timeout=1"}
	run := func(args ...string) {
		t.Helper()
		cmd := command(t.Context(), dir, args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	old := time.Now().AddDate(0, 0, -30)
	for _, name := range []string{"export-" + canary + ".zip", canary + ".csv"} {
		path := filepath.Join(dir, "data", name)
		must(t, os.WriteFile(path, []byte(canary), 0o600))
		must(t, os.Chtimes(path, old, old))
	}
	run("track", "work_copy_created", "data/"+canary+".csv", "--due", "1s", "--scope", canary, "--actor", canary)
	run("session", "new", "--root", "sessions", "--id", "over", "--ttl", "1s")
	must(t, os.WriteFile(filepath.Join(dir, "sessions", "over", canary), nil, 0o600))
	time.Sleep(1100 * time.Millisecond)
	s := serve(t, dir, env, "--cleanup", "1s", "--sessions", "sessions", "--request-id", "for "+canary)
	s.wait(`"event":"run_ended"`, `"status":1`)
	s.told(`"event":"cleanup_ended","status":0,"gone":1`)
	s.told(`"event":"sweep_ended","status":0,"gone":1`)
	put(t, filepath.Join(dir, ".env"), "NAME='"+canary+"\n") // a quote that is not closed
	s.wait(`"event":"policy_broken"`)
	s.alarms("policy", "run")
	state, err := os.ReadFile(filepath.Join(dir, "epitaph.db.serve"))
	must(t, err)
	s.end(syscall.SIGTERM, 0)
	all := s.all() + s.out.String() + string(state)
	if i := strings.Index(all, canary); i >= 0 {
		t.Errorf("it tells the canary: …%.300s…", all[max(0, i-200):])
	}
	for _, want := range []string{"export_orphan_purged", "UNREACHABLE"} {
		if !strings.Contains(all, want) {
			t.Errorf("it was to be told: %s", want)
		}
	}
}

// On PostgreSQL it is the same, also while the server is away for a time.
func TestServeOnPostgres(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t)
	dsn := server.Database(t)
	dir := house(t, strings.Replace(servePolicy, "version: 1", "version: 1\nledger: {at: \""+dsn+"\", key: ledger.key}", 1), 3, 0)
	write := func(e ledger.Entry) {
		t.Helper()
		l, err := ledger.Open(t.Context(), dsn, ledger.Config{})
		must(t, err)
		_, err = l.Append(t.Context(), e)
		must(t, err)
		must(t, l.Close())
	}
	write(ledger.Entry{At: time.Now().Add(-49 * time.Hour), Kind: ledger.Heartbeat, Rule: "exports",
		Facts: []ledger.Fact{ledger.Code("mode", "purge"), ledger.Code("state", "done")}})
	s := serve(t, dir, nil)
	s.wait(`"event":"run_ended"`, `"status":0`, `"missed":true`)
	server.Stop(t)
	s.wait(`"level":"ERROR"`, `"retry_at":`)
	server.Start(t)
	write(ledger.Entry{Kind: ledger.Heartbeat, Rule: "others"})
	s.wait(`"event":"checkpoint_signed"`)
	second, err := command(t.Context(), dir, "serve").CombinedOutput()
	if status := statusOf(t, err); status != 3 {
		t.Errorf("a second service: status %d, %s", status, second)
	}
	for end := time.Now().Add(soon); ; time.Sleep(50 * time.Millisecond) {
		out, err := command(t.Context(), dir, "serve", "--status").CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if left(t, dir) != 0 {
		t.Errorf("%d exports left", left(t, dir))
	}
	s.end(syscall.SIGTERM, 0)
	if _, err := os.Stat(filepath.Join(dir, ".epitaph.serve")); err != nil {
		t.Error("its state is not beside the policy")
	}
}

// An interlock stops the run and not the service; it is an alarm, and the run is
// not made again before its time.
func TestServeStaysAfterAnInterlock(t *testing.T) {
	t.Parallel()
	dir := house(t, strings.Replace(servePolicy, "share: 100%", "share: 1%", 1), 5, 49*time.Hour)
	s := serve(t, dir, nil, "--json")
	s.wait(`"event":"purge_interlock"`)
	s.wait(`"event":"run_ended"`, `"status":3`, `"error_type":"purge.Interlock"`)
	s.wait(`"event":"next_run"`, `"missed":false`)
	if text := s.alarms("run"); !strings.Contains(text, `"last_status":3`) {
		t.Errorf("state: %s", text)
	}
	time.Sleep(1500 * time.Millisecond)
	s.end(syscall.SIGTERM, 0)
	if n := strings.Count(s.all(), "run_ended"); n != 1 || left(t, dir) != 5 {
		t.Errorf("%d runs, %d exports left; want 1 and 5", n, left(t, dir))
	}
	var report struct {
		Stops []any `json:"stops"`
		Run   string
	}
	if err := json.Unmarshal(s.out.Bytes(), &report); err != nil || report.Run == "" {
		t.Errorf("%v: stdout is not the one report of the run: %s", err, &s.out)
	}
}

// A run that a pause holds back ends at once when the service does, with nothing
// begun; the second signal ends all.
func TestServeEndsWhilePaused(t *testing.T) {
	t.Parallel()
	for _, signals := range [][]os.Signal{{syscall.SIGTERM}, {os.Interrupt, os.Interrupt}} {
		dir := house(t, servePolicy, 5, 49*time.Hour)
		if out, err := command(t.Context(), dir, "pause").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s := serve(t, dir, nil)
		s.wait(`"event":"purge_paused"`)
		s.wait(`"event":"checkpoint_signed"`) // which goes on
		for _, sig := range signals[1:] {
			must(t, s.cmd.Process.Signal(sig))
		}
		s.end(signals[0], map[int]int{1: 0, 2: 130}[len(signals)])
		if gone, open := goneOf(t, dir); gone != 0 || open != 0 || left(t, dir) != 5 {
			t.Errorf("%d gone, %d open, %d left; want 0, 0, 5", gone, open, left(t, dir))
		}
	}
}

// A log that is rotated while a run is at work has the rest of the run. Seen to
// fail when the run kept the file that it began with.
func TestServeRotatesTheLogOfARun(t *testing.T) {
	t.Parallel()
	dir := house(t, servePolicy, 5, 49*time.Hour)
	pause := func(args ...string) {
		t.Helper()
		if out, err := command(t.Context(), dir, append([]string{"pause"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	pause()
	log := filepath.Join(dir, "events.json")
	cmd := command(context.Background(), dir, "serve", "--log", "events.json")
	must(t, cmd.Start())
	defer cmd.Process.Kill() //nolint:errcheck // it has ended, or the test has failed
	waitIn(t, log, `"event":"purge_paused"`)
	must(t, os.Rename(log, log+".1"))
	must(t, cmd.Process.Signal(syscall.SIGHUP))
	waitIn(t, log, `"event":"policy_loaded"`)
	pause("--resume")
	waitIn(t, log, `"event":"record_purge_complete"`)
	waitIn(t, log, `"event":"run_ended"`)
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if status := statusOf(t, cmd.Wait()); status != 0 {
		t.Errorf("status %d, want 0", status)
	}
}

// waitIn waits until a file has a text in it.
func waitIn(t *testing.T, name, text string) {
	t.Helper()
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, []byte(text)) {
			return
		}
	}
	b, _ := os.ReadFile(name)
	t.Fatalf("no %s in %s:\n%s", text, name, b)
}

// A service that is killed in the middle of a run leaves nothing that the next one
// does not settle, at once.
func TestServeKilled(t *testing.T) {
	t.Parallel()
	const n = 3000
	dir := house(t, servePolicy, n, 49*time.Hour)
	s := serveUntil(t, `"event":"export_orphan_purged"`, dir, nil)
	s.wait(`"event":"export_orphan_purged"`)
	must(t, s.cmd.Process.Kill())
	s.listen()
	<-s.closed
	if status := statusOf(t, s.cmd.Wait()); status != -1 {
		t.Fatalf("status %d: it ended before it was killed", status)
	}
	if gone, _ := goneOf(t, dir); gone > n-left(t, dir) {
		t.Errorf("the ledger says %d are gone, but %d of %d are left", gone, left(t, dir), n)
	}
	next := serve(t, dir, nil)
	next.wait(`"event":"run_ended"`, `"status":0`, `"missed":true`)
	next.end(syscall.SIGTERM, 0)
	if gone, open := goneOf(t, dir); gone != n || open != 0 || left(t, dir) != 0 {
		t.Errorf("%d gone, %d open, %d left; want %d, 0, 0", gone, open, left(t, dir), n)
	}
}

// A ledger that is not the one that was pinned, though as long: at the start
// already nothing is written, and no run is made.
func TestServeRefusesAnotherLedger(t *testing.T) {
	t.Parallel()
	dir := house(t, servePolicy, 3, 49*time.Hour)
	if out, err := command(t.Context(), dir, "ledger", "checkpoint").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	db := filepath.Join(dir, "epitaph.db")
	raw, err := sql.Open("sqlite", "file:"+db)
	must(t, err)
	for _, statement := range []string{"DROP TRIGGER entries_update", "UPDATE entries SET hashes = zeroblob(length(hashes))"} {
		_, err := raw.ExecContext(t.Context(), statement)
		must(t, err)
	}
	must(t, raw.Close())
	s := serve(t, dir, nil)
	s.wait(`"event":"ledger_refused","reason":"altered"`)
	s.wait(`"event":"ledger_refused","reason":"altered"`)
	s.alarms("ledger")
	s.end(syscall.SIGTERM, 0)
	if left(t, dir) != 3 || strings.Contains(s.all(), "run_ended") || strings.Contains(s.all(), "checkpoint_signed") {
		t.Errorf("%d exports are left, want 3:\n%s", left(t, dir), s.all())
	}
}
