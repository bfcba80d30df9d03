package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/epitaph/epitaph/internal/daemon"
	"github.com/epitaph/epitaph/purge"
)

// eventLog writes events as JSON lines. Its only entrances take a purge.Event or
// a daemon.Event, which have no room for a path, key, value or driver message.
type eventLog struct {
	logger *slog.Logger
	file   *logFile
}

// close ends the log.
func (l *eventLog) close() error { return l.file.swap(io.Discard, nil) }

// end ends the log of a command that came to err. Where all is well but for events
// that were lost, that is its status.
func (l *eventLog) end(err error) error {
	l.file.mu.Lock()
	lost := l.file.lost
	l.file.mu.Unlock()
	if err = errors.Join(err, l.close()); err == nil && lost {
		return ended(StatusPartly)
	}
	return err
}

// goOnIn has whatever is written from now on in the file of another log, which is
// not to be used otherwise any more.
func (l *eventLog) goOnIn(other *eventLog) error { return l.file.swap(other.file.w, other.file.close) }

// logFile is where a log is written, which may change.
type logFile struct {
	mu    sync.Mutex
	w     io.Writer
	close func() error // nil: it is not ours to close
	// lost says that an event could not be written, and complain tells it, once for
	// each file: a log that ends must not look like a run that has nothing to say.
	lost     bool
	complain func(text string, hints ...string)
}

func (f *logFile) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.w.Write(b)
	if err != nil && !f.lost {
		f.lost = true
		f.complain("the log cannot be written: "+cause(err), "its events are lost; what was done is in the ledger: epitaph trail")
	}
	return n, err
}

func (f *logFile) swap(w io.Writer, closer func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.close
	f.w, f.close, f.lost = w, closer, false
	if old == nil {
		return nil
	}
	return old()
}

// openLog opens what --log names; nil when it names nothing.
func (a *app) openLog() (*eventLog, error) {
	switch a.global.log {
	case "":
		return nil, nil
	case "-":
		return a.newEventLog(a.env.Stderr, nil), nil
	}
	if !mayAppend(a.global.log) {
		return nil, usage("the log file "+a.global.log+" exists and is not a log of events", "choose another place: --log FILE, or --log - for stderr")
	}
	f, err := os.OpenFile(a.global.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, usage(fmt.Sprintf("cannot write the log file %s: %s", a.global.log, cause(err)), "choose another place: --log FILE, or --log - for stderr")
	}
	return a.newEventLog(f, f.Close), nil
}

// mayAppend is false for a regular file that does not begin as a log does: a
// slip must not add lines to a database or to the policy.
func mayAppend(name string) bool {
	if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return true // absent or a device; any other trouble shows when it is opened
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return true // may be a log that this user can only add to
	}
	defer f.Close()
	var b [1]byte
	n, _ := f.Read(b[:])
	return n == 0 || b[0] == '{'
}

func (a *app) newEventLog(w io.Writer, closer func() error) *eventLog {
	f := &logFile{w: w, close: closer, complain: a.complain}
	h := slog.NewJSONHandler(f, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.MessageKey {
			a.Key = "event"
		}
		if a.Key == slog.TimeKey {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}})
	return &eventLog{logger: slog.New(h), file: f}
}

func (l *eventLog) event(e purge.Event) {
	l.logger.LogAttrs(context.Background(), e.Level(), string(e.Name()), e.Attrs()...)
}

// service writes an event of the daemon, which is as closed as those of a purge.
func (l *eventLog) service(e daemon.Event) {
	l.logger.LogAttrs(context.Background(), e.Level(), string(e.Name()), e.Attrs()...)
}

// observe returns the function that a run calls for every event, or nil when
// nobody listens: events cost time.
func observe(l *eventLog, bar *progress) func(purge.Event) {
	switch {
	case l == nil && !bar.shown():
		return nil
	case l == nil:
		return bar.event
	case !bar.shown():
		return l.event
	default:
		return func(e purge.Event) {
			l.event(e)
			bar.event(e)
		}
	}
}
