package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/mattn/go-isatty"
	"golang.org/x/sys/unix"
)

// printer writes text with colour where a terminal reads it. It keeps the first
// error, so that one check at the end is enough.
type printer struct {
	w      io.Writer
	colour bool
	err    error
}

// stdout prints results.
func (a *app) stdout() *printer {
	return &printer{w: a.env.Stdout, colour: a.colour(a.env.Stdout)}
}

// colour reports whether to write colour to w: only to a terminal, and only if
// nobody minds (https://no-color.org).
func (a *app) colour(w io.Writer) bool {
	if no, ok := a.env.Lookup("NO_COLOR"); ok && no != "" || a.global.noColor {
		return false
	}
	if term, _ := a.env.Lookup("TERM"); term == "dumb" {
		return false
	}
	return isTerminal(w)
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && f != nil && isatty.IsTerminal(f.Fd())
}

// terminalWidth is the number of columns of the terminal v; 0 of what is none, or
// does not say, or is too narrow to break anything for.
func terminalWidth(v any) int {
	f, ok := v.(*os.File)
	if !ok || !isTerminal(v) {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col < 60 {
		return 0
	}
	return int(size.Col)
}

func (p *printer) linef(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) paint(code, s string) string {
	if !p.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *printer) red(s string) string    { return p.paint("31", s) }
func (p *printer) green(s string) string  { return p.paint("32", s) }
func (p *printer) yellow(s string) string { return p.paint("33", s) }
func (p *printer) bold(s string) string   { return p.paint("1", s) }
func (p *printer) dim(s string) string    { return p.paint("2", s) }
