package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"
)

// The statuses of the command.
const (
	StatusDone        = 0   // all that was asked was done
	StatusPartly      = 1   // done, but some items failed or are unknown
	StatusUsage       = 2   // the command line, the policy or the set-up is wrong; nothing was done
	StatusInterlock   = 3   // stopped before the first deletion
	StatusLedger      = 4   // the ledger does not verify
	StatusInterrupted = 130 // a person asked for the end
)

// problem is an error for people: what is wrong and what to type. It carries
// the status with which the command ends.
type problem struct {
	status int
	text   string
	hints  []string
}

func (p *problem) Error() string { return p.text }

// usage returns a problem of the command line or the set-up.
func usage(text string, hints ...string) *problem {
	return &problem{status: StatusUsage, text: text, hints: hints}
}

// ended ends a command with a status and no further word: its result says why.
type ended int

func (e ended) Error() string { return fmt.Sprintf("status %d", int(e)) }

// conclude prints what err says to a person and returns the status. Where JSON
// was asked for and no result is on stdout, an object there says it too.
func (a *app) conclude(err error) int {
	status := a.tell(err)
	if status == StatusDone || a.answer == nil || a.answer.written.Load() || !a.global.json && !a.noFlags || errors.Is(err, syscall.EPIPE) {
		return status
	}
	out := noResultJSON{Status: status, Error: "nothing was done", Hints: []string{}}
	var bad *policy.Errors
	switch {
	case errors.As(err, &bad):
		out.Error = "the policy has errors"
		for _, p := range bad.Problems {
			out.Problems = append(out.Problems, problemJSON{bad.File, p.Pos.Line, p.Pos.Column, p.Text, p.Hint})
		}
	case a.said.Load() != nil:
		said := a.said.Load()
		out.Error, out.Hints = said.text, append(out.Hints, said.hints...)
	}
	_ = a.printJSON(out) // stderr has it
	return status
}

// noResultJSON is what stands on stdout for a command without a result; its names
// are stable.
type noResultJSON struct {
	Error    string        `json:"error"`
	Hints    []string      `json:"hints"`
	Status   int           `json:"status"`
	Problems []problemJSON `json:"problems,omitempty"` // of the policy
}

type problemJSON struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// tell prints what err says to a person and returns the status.
func (a *app) tell(err error) int {
	var e ended
	if err == nil {
		return StatusDone
	}
	if errors.As(err, &e) {
		return int(e)
	}
	if a.stopped() && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		a.complain("interrupted", "run it again: what was begun is then finished")
		return StatusInterrupted
	}
	if errors.Is(err, syscall.EPIPE) { // nobody reads the result any more
		return StatusPartly
	}
	var bad *policy.Errors
	if errors.As(err, &bad) { // prints its own hints, each below its line
		fmt.Fprintln(a.env.Stderr, bad.Error())
		return StatusUsage
	}
	p := explain(err)
	a.complain(p.text, p.hints...)
	return p.status
}

// explain puts an error of the engine in words for people, with its status.
func explain(err error) *problem {
	var p *problem
	var lock *purge.Interlock
	var bad *plan.Error
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &lock):
		return &problem{StatusInterlock, "stopped before the first deletion: " + lock.Error(), hintsOf(lock.Hint)}
	case errors.As(err, &bad):
		return usage(bad.Error(), hintsOf(bad.Hint)...)
	case errors.Is(err, ledger.ErrBehind):
		return &problem{StatusLedger, "the ledger is behind a checkpoint that was pinned: it is an old copy, or its end was cut off; nothing was done",
			[]string{"find out what happened; if it was restored from a backup, put that on record: epitaph ledger fork --reason TEXT"}}
	case errors.Is(err, ledger.ErrAltered):
		return &problem{StatusLedger, "the ledger does not verify: somebody changed it; nothing was done",
			[]string{"keep it as it is and find out what happened; the place is named by: epitaph verify ledger"}}
	case errors.Is(err, ledger.ErrBusy):
		return &problem{StatusInterlock, "a run is at work on this ledger", []string{"wait for its end"}}
	case errors.Is(err, ledger.ErrMoved):
		return usage("the ledger was moved to another database, and goes on there", "name that one in the policy, in place of this one: ledger: ADDRESS")
	case errors.Is(err, ledger.ErrReplaced):
		return &problem{StatusPartly, "the file of the ledger was moved, or replaced by another, while it was in use; the last of what was done may be in the old one only",
			[]string{"put the right one in its place, and run again"}}
	case errors.Is(err, epitaph.ErrDeclined):
		return &problem{status: StatusInterrupted, text: "declined; nothing was touched"}
	default:
		return &problem{status: StatusPartly, text: cause(err)}
	}
}

func hintsOf(hint string) []string {
	if hint == "" {
		return nil
	}
	return []string{hint}
}

// complain prints one problem on stderr. It is the only place that prints hints.
func (a *app) complain(text string, hints ...string) {
	a.said.Store(&problem{text: text, hints: hints})
	printProblem(a.env.Stderr, text, hints)
}

func printProblem(w io.Writer, text string, hints []string) {
	fmt.Fprintf(w, "epitaph: %s\n", text)
	for _, h := range hints {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
}

// sqliteCause says what a person can do something about among the result codes
// of SQLite; "" for the others.
func sqliteCause(code int) string {
	switch code & 0xff {
	case 5:
		return "another process keeps it locked"
	case 8:
		return "it is read-only"
	case 10:
		return "the disk failed, or is full"
	case 11:
		return "the file is damaged"
	case 13:
		return "no space left"
	case 14:
		return "the file cannot be opened"
	case 26:
		return "the file is no database"
	default:
		return ""
	}
}

// cause says in safe words why an operation failed: the text of a driver or of
// the operating system may hold a path, a host or a value and is not printed.
func cause(err error) string {
	if why := knownCause(err); why != "" {
		return why
	}
	return "error of type " + plan.ErrorType(err)
}

// knownCause is "" for what there are no words for.
func knownCause(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var state interface{ SQLState() string } // of PostgreSQL
	if errors.As(err, &state) {
		switch code := state.SQLState(); code {
		case "42501":
			return "permission denied"
		case "28000", "28P01":
			return "the database refused the user or password"
		case "3D000":
			return "there is no such database"
		}
	}
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		switch my.Number {
		case 1045, 1698:
			return "the database refused the user or password"
		case 1049:
			return "there is no such database"
		case 1044, 1142:
			return "permission denied"
		}
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) && sqliteCause(lite.Code()) != "" {
		return sqliteCause(lite.Code())
	}
	for _, e := range []error{files.ErrReplaced, files.ErrNoMount, files.ErrNoMarker} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	case errors.Is(err, fs.ErrNotExist):
		return "it does not exist"
	case errors.Is(err, fs.ErrExist):
		return "it exists already"
	case errors.Is(err, syscall.EROFS):
		return "the file system is read-only"
	case errors.Is(err, syscall.ENOSPC):
		return "no space left"
	case errors.Is(err, syscall.EISDIR):
		return "it is a directory"
	case errors.Is(err, syscall.ENOTDIR):
		return "a part of the path is not a directory"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case errors.As(err, &dns):
		return "the host name cannot be resolved"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "it took too long"
	case errors.As(err, &op):
		return "the network failed"
	default:
		return ""
	}
}
