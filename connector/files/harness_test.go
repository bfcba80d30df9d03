package files_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/connector/files"
)

// cutoff is the cutoff of every query here.
var cutoff = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// The contract, with each anchor and kind of item, by openat2 and without it.
func TestContract(t *testing.T) {
	t.Parallel()
	byName := connector.Anchor{Kind: connector.AnchorName, Layout: "log-YYYY-MM-DD*", Zone: time.UTC}
	for name, h := range map[string]struct {
		glob   string
		anchor connector.Anchor
		walk   bool
	}{
		"file modified":          {"logs/**/log-*", connector.Anchor{Kind: connector.AnchorModified}, false},
		"file name":              {"logs/**/log-*", byName, false},
		"directory modified":     {"logs/*/log-*/", connector.Anchor{Kind: connector.AnchorModified}, false},
		"directory name":         {"logs/*/log-*/", byName, false},
		"file without openat2":   {"logs/**/log-*", byName, true},
		"folder without openat2": {"logs/*/log-*/", byName, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connectortest.Run(t, connectortest.Harness{
				NoUndated: h.anchor.Kind == connector.AnchorModified, Refuses: true,
				New: func(t *testing.T) connectortest.Fixture { return newFixture(t, h.glob, h.anchor, h.walk) },
			})
		})
	}
}

func newFixture(t *testing.T, glob string, anchor connector.Anchor, walk bool) connectortest.Fixture {
	s := &store{T: t, root: filepath.Join(t.TempDir(), "root"), tree: strings.HasSuffix(glob, "/")}
	s.check(os.MkdirAll(s.root, 0o700))
	c := open(t, s.root, files.Options{})
	if walk {
		files.WithoutOpenat2(c)
	}
	return connectortest.Fixture{
		Connector: c,
		Query:     &connector.Query{Collection: glob, Anchor: anchor, Cutoff: cutoff},
		Plant:     s.plant, Absent: "logs/1/none", Has: s.has, Dump: s.dump, Change: s.change, Remove: s.remove,
		Refuse:  func(at connector.Locator) { s.check(os.Link(s.inside(at), filepath.Join(s.root, "other name"))) },
		Break:   func() { s.check(os.Rename(s.root, s.root+" away")) },
		Restore: func() { s.check(os.Rename(s.root+" away", s.root)) },
	}
}

// store plants and looks with the ordinary means of package os.
type store struct {
	*testing.T
	root string
	tree bool
	n    int
}

func (s *store) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *store) path(at connector.Locator) string { return filepath.Join(s.root, string(at)) }

// inside is a file of the item: the item itself, or one deep in its directory.
func (s *store) inside(at connector.Locator) string {
	if s.tree {
		return filepath.Join(s.path(at), "in", "file")
	}
	return s.path(at)
}

func (s *store) plant(a connectortest.Age) connector.Locator {
	s.n++
	when := map[connectortest.Age]time.Time{connectortest.Due: cutoff.Add(-time.Hour), connectortest.Young: cutoff}[a]
	date := map[connectortest.Age]string{connectortest.Due: "2026-02-27", connectortest.Young: "2026-02-28",
		connectortest.Undated: "2026-02-30"}[a]
	at := connector.Locator(fmt.Sprintf("logs/%d/log-%s-%03d", s.n%3, date, s.n*7919%1000))
	if s.tree {
		at += "/"
	}
	file := s.inside(at)
	s.check(os.MkdirAll(filepath.Dir(file), 0o700))
	s.check(os.WriteFile(file, fmt.Appendf(nil, "content %d", s.n), 0o600))
	s.check(os.Chtimes(file, when, when))
	if s.tree {
		s.check(os.Chtimes(filepath.Dir(file), when, when))
		s.check(os.Chtimes(s.path(at), when, when))
	}
	return at
}

func (s *store) has(at connector.Locator) bool {
	_, err := os.Lstat(s.path(at))
	return err == nil
}

func (s *store) change(at connector.Locator) {
	f, err := os.OpenFile(s.inside(at), os.O_APPEND|os.O_WRONLY, 0)
	s.check(err)
	_, err = f.WriteString("more")
	s.check(err)
	s.check(f.Close())
}

func (s *store) remove(at connector.Locator) { s.check(os.RemoveAll(s.path(at))) }

func (s *store) dump() string { return dump(s.T, s.root) }

// dump spells names, types, sizes, times and contents of everything below root.
func dump(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%q %v %d %v", strings.TrimPrefix(path, root), info.Mode(), info.Size(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", text)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func open(t *testing.T, root string, o files.Options) *files.Connector {
	t.Helper()
	c, err := files.Open(root, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
