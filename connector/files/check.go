package files

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
)

// sample is how many names Check looks at: enough to notice what a rule will
// not take, without walking through millions.
const sample = 10_000

// Check proves that the root is there and that q can be run on it. An absent
// or unmounted root is an error; one that is a file or a link is a Fault, and
// so is all that only a database could do. Among the first names of the
// collection it counts what the glob passes over: links, FIFOs, sockets,
// devices, dotfiles, files with further names.
func (c *Connector) Check(ctx context.Context, q *connector.Query) ([]connector.Finding, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fs := c.checkQuery(q)
	cross := q != nil && q.CrossMounts
	r, err := c.openRoot(cross)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return append(fs, c.notDirectory()), nil
	}
	if err != nil {
		return fs, err
	}
	defer r.close()
	if q == nil || q.Collection == "" {
		return fs, nil
	}
	g, err := compile(q.Collection)
	if err != nil {
		return fs, nil // found above
	}
	s := &survey{ctx: ctx, r: r, g: g, left: sample}
	if err := s.walk(); err != nil {
		return fs, err
	}
	return append(fs, s.findings(q)...), nil
}

func (c *Connector) notDirectory() connector.Finding {
	f := connector.Finding{Severity: connector.Fault, Subject: "root", Text: "the root is not a directory",
		Hint: "give the directory that holds the files"}
	var st unix.Statx_t
	if statx(unix.AT_FDCWD, terminated(nil, c.path), 0, &st) == 0 && isType(&st, unix.S_IFLNK) {
		f.Text, f.Hint = "the root is a symbolic link", "give the directory that the link leads to"
	}
	return f
}

// checkQuery finds what is wrong with q without looking at the root.
func (c *Connector) checkQuery(q *connector.Query) []connector.Finding {
	if q == nil {
		return nil
	}
	var fs []connector.Finding
	fault := func(subject, text, hint string) {
		fs = append(fs, connector.Finding{Severity: connector.Fault, Subject: subject, Text: text, Hint: hint})
	}
	for _, sql := range []struct{ subject, text string }{{"where", q.Where}, {"hold", q.Hold}, {"in_use", q.InUse}} {
		if sql.text != "" {
			fault(sql.subject, "a condition in SQL cannot be asked of files", "remove "+sql.subject)
		}
	}
	for i, w := range q.Wants {
		if len(w.Refs) > 0 || len(w.ReferencedBy) > 0 || w.When != "" {
			fault("parts["+strconv.Itoa(i)+"]", "files have no columns that could name a part", "remove the reference in braces")
		}
	}
	if len(q.Then) > 0 {
		fault("then", "files have no columns that could be set", "remove then")
	}
	for i := range q.Links {
		fault("links["+strconv.Itoa(i)+"]", "files have no linked rows", "remove the link")
	}
	if _, err := compile(q.Collection); err != nil {
		fault("collection", err.Error(), `a glob below the root, such as "export-*.zip" or "logs/**/*.json"`)
	}
	switch q.Anchor.Kind {
	case connector.AnchorModified:
	case connector.AnchorName:
		if _, err := connector.CompileLayout(q.Anchor.Layout); err != nil {
			fault("anchor", err.Error(), `such as "app-YYYY-MM-DD*.log"`)
		}
		if q.Anchor.Zone == nil {
			fault("anchor", "a date in a file name carries no zone of its own", "add zone: UTC, or the zone in which the names are given")
		}
	default:
		fault("anchor", "files have no columns", "anchor: modified, or a date in the name")
	}
	return fs
}

// survey counts what a glob passes over.
type survey struct {
	ctx  context.Context
	r    *root
	g    *glob
	left int
	l    lister

	listed, matched, links, special, dotted, named, denied, kept int
}

func (s *survey) walk() error {
	for wait := []frame{{states: s.g.start(), named: true}}; len(wait) > 0 && s.left > 0; {
		f := wait[0]
		wait = wait[1:]
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if names, literal := s.g.names(f.states); literal {
			wait = append(wait, s.literal(f, names)...)
			continue
		}
		fd, err := s.r.dir(trimSlash(f.path), unix.O_RDONLY)
		switch {
		case err == unix.EACCES:
			s.denied++
			continue
		case err != nil && f.named && err != unix.ENOENT:
			return fmt.Errorf("open directory: %w", err)
		case err != nil:
			continue
		}
		wait = append(wait, s.directory(fd, f)...)
		unix.Close(fd)
	}
	return nil
}

func (s *survey) literal(f frame, names []string) (deeper []frame) {
	for _, name := range names {
		if ss := s.g.enter(f.states, []byte(name)); len(ss) > 0 {
			deeper = append(deeper, frame{path: f.path + name + "/", states: ss, named: f.named})
		} else {
			s.left--
			s.matched++
		}
	}
	return deeper
}

func (s *survey) directory(fd int, f frame) (deeper []frame) {
	left, matched := s.left, s.matched
	s.l.list(fd, nil, func(entry) bool { left--; return left >= 0 })
	for i := range s.l.len() {
		e := s.l.at(i)
		s.left--
		s.listed++
		var st unix.Statx_t
		if statx(fd, e.terminated(), 0, &st) != 0 {
			continue
		}
		file := s.g.item(f.states, e.name, false)
		bare := e.name
		if !file && e.name[0] == '.' && len(e.name) > 1 {
			bare = e.name[1:]
		}
		switch {
		case isType(&st, unix.S_IFDIR):
			if s.g.item(f.states, e.name, true) {
				s.matched++
			} else if ss := s.g.enter(f.states, e.name); len(ss) > 0 {
				deeper = append(deeper, frame{path: f.path + string(e.name) + "/", states: ss})
			}
		case !file && e.name[0] == '.' && s.g.item(f.states, bare, false):
			s.dotted++
		case !file:
		case isType(&st, unix.S_IFREG):
			s.matched++
			if st.Nlink > 1 {
				s.named++
			}
		case isType(&st, unix.S_IFLNK):
			s.links++
		default:
			s.special++
		}
	}
	if s.matched > matched && unix.Faccessat(fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
		s.kept += s.matched - matched
	}
	return deeper
}

func (s *survey) findings(q *connector.Query) []connector.Finding {
	var fs []connector.Finding
	warn := func(n int, text, hint string) {
		if n > 0 {
			fs = append(fs, connector.Finding{Severity: connector.Warning, Subject: "collection",
				Text: strconv.Itoa(n) + " " + text, Hint: hint})
		}
	}
	warn(s.links, "symbolic links match and are never followed nor taken", "name the files where they lie")
	warn(s.special, "FIFOs, sockets or devices match and are never taken", "remove them by hand")
	warn(s.dotted, "hidden files lie beside and do not match", `give a pattern that begins with a dot too, such as "{.*,*}"`)
	warn(s.named, "files have further hard links and will not be taken: the data would live on", "remove the other names")
	warn(s.kept, "items lie in directories to which this user may not write, so they would stay", "let the user that purges write to the directories, or run as one that may")
	warn(s.denied, "directories cannot be listed, so that a plan will stop", "grant read permission")
	if s.matched == 0 && s.left > 0 {
		fs = append(fs, connector.Finding{Severity: connector.Warning, Subject: "collection",
			Text: "nothing matches at present", Hint: "compare the glob with the names below the root"})
	}
	return fs
}
