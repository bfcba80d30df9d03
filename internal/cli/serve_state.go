package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/internal/daemon"
	"github.com/epitaph/epitaph/policy"
)

// serveState is the file by which a service is known: beside the ledger, or
// beside the policy where the ledger is no file.
func serveState(pol *policy.Policy) string {
	if path, ok := strings.CutPrefix(pol.Ledger, "sqlite:"); ok {
		return pol.Resolve(path) + ".serve"
	}
	return pol.Resolve(".epitaph.serve")
}

// stateFile is locked as long as the service lives, and holds how it is. Nothing
// in it names a person.
type stateFile struct {
	path string
	f    *os.File
	last []byte
	at   time.Time
}

// stateRoom is the length of what is in the file: always the same, so that one
// write replaces all of it.
const stateRoom = 2048

func openState(path string) (*stateFile, error) {
	cannot := func(err error) error {
		return usage(fmt.Sprintf("cannot keep the state of the service in %s: %s", path, cause(err)), "it lies beside the ledger; is that place right? or name another: --state FILE")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, cannot(err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() != 0 && info.Size() != stateRoom {
		return nil, errors.Join(cannot(errors.New("it is another file")), f.Close())
	}
	// Whoever asks for the state holds the lock for a moment.
	for range 20 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.Join(&problem{StatusInterlock, "another epitaph serve is at work on this ledger; nothing was done",
			[]string{"epitaph serve --status says how it is; for another policy on one ledger: --state FILE"}}, f.Close())
	case err != nil:
		return nil, errors.Join(cannot(err), f.Close())
	}
	return &stateFile{path: path, f: f}, nil
}

func (s *stateFile) close() error { return s.f.Close() }

// stateJSON is how a service is; its names are stable.
type stateJSON struct {
	PID          int        `json:"pid"`
	Started      time.Time  `json:"started"`
	At           time.Time  `json:"at"` // when it last said so
	Policy       string     `json:"policy"`
	NextRun      *time.Time `json:"next_run"`
	LastRun      *time.Time `json:"last_run"`
	LastStatus   int        `json:"last_status"`
	LastRunID    string     `json:"last_run_id"`
	Checkpoint   int64      `json:"checkpoint"`
	CheckpointAt *time.Time `json:"checkpoint_at"`
	Running      []string   `json:"running"`
	Alarms       []string   `json:"alarms"`
	Stopped      bool       `json:"stopped"`
}

// keepHealth writes how the service is to its file, at once when anything changed
// and every half a minute otherwise, and tells systemd.
func (s *service) keepHealth(h daemon.Health) {
	j := stateJSON{PID: os.Getpid(), Started: h.Started, Policy: h.Policy, NextRun: instantJSON(h.NextRun), LastRun: instantJSON(h.LastRun),
		LastStatus: h.LastStatus, LastRunID: h.LastID, Checkpoint: h.Checkpoint, CheckpointAt: instantJSON(h.CheckpointAt),
		Running: h.Running, Alarms: []string{}, Stopped: h.Stopped}
	for _, a := range h.Alarms {
		j.Alarms = append(j.Alarms, string(a))
	}
	s.notifier.alive(j)
	same, err := json.Marshal(j)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.state == nil || bytes.Equal(same, s.state.last) && h.At.Sub(s.state.at).Abs() < 30*time.Second {
		return
	}
	j.At = h.At
	text, err := json.Marshal(j)
	if err != nil || len(text) >= stateRoom {
		return
	}
	text = append(text, bytes.Repeat([]byte(" "), stateRoom-1-len(text))...)
	if _, err := s.state.f.WriteAt(append(text, '\n'), 0); err == nil {
		s.state.last, s.state.at = same, h.At
	}
}

// silence is how old the word of a service may be.
const silence = 2 * time.Minute

// silent is the alarm of one who asks: the service itself cannot raise it.
const silent = "silent"

// showServe says how the service is that is at work.
func (a *app) showServe(path string) error {
	if path == "" {
		pol, err := a.loadPolicy()
		if err != nil {
			return err
		}
		path = serveState(pol)
	}
	j, there, err := readState(path)
	if err != nil {
		return &problem{StatusPartly, "the state of the service cannot be read: " + cause(err), nil}
	}
	if !there {
		return &problem{StatusPartly, "no epitaph serve is at work", []string{"start it, or see why it ended: its log, or journalctl -u epitaph"}}
	}
	if a.env.Now().Sub(j.At) > silence {
		j.Alarms = append(j.Alarms, silent)
	}
	if a.global.json {
		if err := a.printJSON(j); err != nil {
			return err
		}
	} else if err := a.printState(j); err != nil {
		return err
	}
	if len(j.Alarms) > 0 {
		return ended(StatusPartly)
	}
	return nil
}

func (a *app) printState(j stateJSON) error {
	w := a.stdout()
	when := func(t *time.Time) string {
		if t == nil {
			return "none"
		}
		return instant(*t)
	}
	w.linef("At work since %s, process %d", instant(j.Started), j.PID)
	w.linef("  Last said so: %s", instant(j.At))
	w.linef("  Next run:     %s", when(j.NextRun))
	if j.LastRun != nil {
		w.linef("  Last run:     %s, status %d, %s", when(j.LastRun), j.LastStatus, j.LastRunID)
	}
	if j.CheckpointAt != nil {
		w.linef("  Checkpoint:   %s of %s", number(j.Checkpoint), when(j.CheckpointAt))
	}
	if len(j.Running) > 0 {
		w.linef("  Busy with:    %s", strings.Join(j.Running, ", "))
	}
	if len(j.Alarms) > 0 {
		w.linef("  %s:       %s", w.red("Alarms"), strings.Join(j.Alarms, ", "))
	}
	for _, alarm := range j.Alarms {
		if text := alarmText(alarm); text != "" {
			w.linef("  hint: %s: %s", alarm, text)
		}
	}
	return w.err
}

// alarmText says what an alarm means and where to look.
func alarmText(alarm string) string {
	switch daemon.Alarm(alarm) {
	case daemon.PolicyAlarm:
		return "it cannot be read, and nothing is disposed of; epitaph check says why"
	case daemon.LedgerAlarm:
		return "it may not be written to, and nothing is done; epitaph verify ledger says why"
	case daemon.RunAlarm:
		return "the last one ended with another status than 0, or another run is in its way; see epitaph trail --limit 5"
	case daemon.CheckpointAlarm:
		return "the last one is not signed, or not everywhere; epitaph ledger checkpoint tries and says why"
	case daemon.CleanupAlarm:
		return "the last one left something; epitaph overdue lists it"
	case daemon.SweepAlarm:
		return "the last one left something; epitaph session list shows it"
	case daemon.PruneAlarm:
		return "the last one failed; epitaph ledger prune --dry-run says why"
	case daemon.KeyAlarm:
		return "there is none, and nothing is signed; make one: epitaph key new"
	case daemon.LateAlarm:
		return "an act is at work for longer than there is time for"
	default:
		if alarm == silent {
			return "no sign of life for two minutes; see its log"
		}
		return ""
	}
}

// readState reads how a service is. It is not there when nobody holds the lock.
func readState(path string) (j stateJSON, there bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return j, false, nil
	}
	if err != nil {
		return j, false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return j, false, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return j, false, err
	}
	for range 5 { // it may be starting, or writing
		var text []byte
		if text, err = io.ReadAll(io.NewSectionReader(f, 0, stateRoom)); err == nil {
			if err = json.Unmarshal(bytes.TrimSpace(text), &j); err == nil {
				return j, true, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return j, false, errors.New("it is malformed")
}

// oneAtATime keeps what several goroutines write apart.
type oneAtATime struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *oneAtATime) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(b)
}

// notifier tells systemd how the service is (sd_notify(3)). Without a socket to
// tell it to, it tells nothing.
type notifier struct {
	socket   *net.UnixAddr
	watchdog time.Duration // 0: nobody watches
}

func newNotifier(lookup func(string) (string, bool)) *notifier {
	n := &notifier{}
	if path, ok := lookup("NOTIFY_SOCKET"); ok && (strings.HasPrefix(path, "/") || strings.HasPrefix(path, "@")) {
		n.socket = &net.UnixAddr{Name: path, Net: "unixgram"}
	}
	us, _ := lookup("WATCHDOG_USEC")
	if pid, ok := lookup("WATCHDOG_PID"); ok && pid != strconv.Itoa(os.Getpid()) {
		us = ""
	}
	if d, err := strconv.ParseInt(us, 10, 64); err == nil && d > 0 {
		n.watchdog = time.Duration(d) * time.Microsecond
	}
	return n
}

// tick is how often the daemon must look up: three times for each bite.
func (n *notifier) tick() time.Duration {
	if n.watchdog == 0 {
		return 0
	}
	return min(30*time.Second, n.watchdog/3)
}

// say sends one message. A manager that is not there is no reason to stop.
func (n *notifier) say(text string) {
	if n.socket == nil {
		return
	}
	c, err := net.DialUnix("unixgram", nil, n.socket)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte(text))
}

func (n *notifier) reloading() {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return
	}
	n.say("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(ts.Nano()/1000, 10))
}

func (n *notifier) alive(j stateJSON) {
	if n.socket == nil {
		return
	}
	status := "STATUS=all is well"
	if len(j.Alarms) > 0 {
		status = "STATUS=alarms: " + strings.Join(j.Alarms, " ")
	}
	if n.watchdog > 0 {
		status += "\nWATCHDOG=1"
	}
	n.say(status)
}
