package files_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
)

// modifiedQuery takes everything that glob matches, however young.
func modifiedQuery(glob string) *connector.Query {
	return &connector.Query{Collection: glob, Anchor: connector.Anchor{Kind: connector.AnchorModified},
		Cutoff: time.Now().Add(time.Hour)}
}

func write(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantResult compares one result.
func wantResult(t *testing.T, what string, r connector.Result, s connector.State, why connector.Reason) {
	t.Helper()
	if r.State != s || r.Reason != why {
		t.Errorf("%s: got %v %q (%v), want %v %q", what, r.State, r.Reason, r.Err, s, why)
	}
}

func scanAll(t *testing.T, c *files.Connector, q *connector.Query) ([]connector.Item, connector.Survey, error) {
	t.Helper()
	var items []connector.Item
	var s connector.Survey
	for it, err := range c.Scan(context.Background(), q, &s) {
		if err != nil {
			return items, s, err
		}
		items = append(items, it)
	}
	return items, s, nil
}

// probeItem makes an item of what is there now.
func probeItem(t *testing.T, c *files.Connector, at connector.Locator) connector.Item {
	t.Helper()
	r := c.Probe(context.Background(), []connector.Locator{at})[0]
	if r.State != connector.Present {
		t.Fatalf("Probe: got %v %s (%v), want present", r.State, r.Reason, r.Err)
	}
	return connector.Item{Locator: at, Print: r.Print, Bytes: r.Bytes}
}

// wantLost checks that c knows nothing of at by any method.
func wantLost(t *testing.T, what string, c *files.Connector, at connector.Item) {
	t.Helper()
	ctx := context.Background()
	wantResult(t, what+": Probe", c.Probe(ctx, []connector.Locator{at.Locator})[0], connector.Unknown, connector.Unreachable)
	cl, rs := c.Claim(ctx, nil, []connector.Item{at})
	wantResult(t, what+": Claim", rs[0], connector.Unknown, connector.Unreachable)
	cl.Release()
	if _, _, err := scanAll(t, c, modifiedQuery("**")); err == nil {
		t.Errorf("%s: Scan ends without an error", what)
	}
}

// A root that is not what was seen first, or not what Options ask for, makes
// everything unknown; what was an empty directory all along is empty.
func TestRootIsVerified(t *testing.T) {
	t.Parallel()
	for _, walk := range []bool{false, true} {
		dir := t.TempDir()
		root := filepath.Join(dir, "root")
		c := open(t, root, files.Options{})
		if walk {
			files.WithoutOpenat2(c)
		}
		wantLost(t, "an absent root", c, connector.Item{Locator: "a", Print: "x"})
		write(t, root+"/a")
		at := probeItem(t, c, "a")
		cl, _ := c.Claim(context.Background(), nil, []connector.Item{at})
		if err := os.Rename(root, dir+"/away"); err != nil {
			t.Fatal(err)
		}
		wantLost(t, "a root moved away", c, at)
		if err := os.Mkdir(root, 0o700); err != nil {
			t.Fatal(err)
		}
		wantLost(t, "another directory in its place", c, at)
		wantResult(t, "Erase under another root", cl.Erase(context.Background(), []int{0}).Results[0],
			connector.Unknown, connector.Unreachable)
		if _, err := os.Stat(dir + "/away/a"); err != nil {
			t.Errorf("erased below a root that is no longer the root: %v", err)
		}
		if items, _, err := scanAll(t, open(t, root, files.Options{}), modifiedQuery("**")); err != nil || len(items) != 0 {
			t.Errorf("Scan of an empty root: %d items, %v", len(items), err)
		}
	}
}

func TestRootMustBeADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/real/a")
	file := write(t, dir+"/file")
	link := dir + "/link"
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{file, link, link + "/"} {
		c := open(t, root, files.Options{})
		fs, err := c.Check(context.Background(), modifiedQuery("**"))
		if err != nil || len(fs) != 1 || fs[0].Severity != connector.Fault || fs[0].Hint == "" {
			t.Errorf("Check of %s: %v, %v, want one fault with a hint", filepath.Base(root), fs, err)
		}
		wantLost(t, filepath.Base(root), c, connector.Item{Locator: "a", Print: "x"})
	}
	for _, bad := range []struct {
		root string
		o    files.Options
	}{{"", files.Options{}}, {"a\x00b", files.Options{}}, {dir, files.Options{Marker: "../x"}}, {dir, files.Options{Marker: ".."}}} {
		if _, err := files.Open(bad.root, bad.o); err == nil {
			t.Errorf("Open(%q, %+v): no error", bad.root, bad.o)
		}
	}
}

// The marker tells an empty store from an unmounted one, and is never taken.
func TestMarker(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/a")
	c := open(t, root, files.Options{Marker: "mark"})
	wantLost(t, "a root without its marker", c, connector.Item{Locator: "a", Print: "x"})
	if err := os.Mkdir(root+"/mark", 0o700); err != nil {
		t.Fatal(err)
	}
	wantLost(t, "a marker that is a directory", c, connector.Item{Locator: "a", Print: "x"})
	os.Remove(root + "/mark")
	write(t, root+"/mark")
	items, s, err := scanAll(t, c, modifiedQuery("*"))
	if err != nil || len(items) != 1 || items[0].Locator != "a" || s.Total != 1 {
		t.Errorf("Scan: %v, total %d, %v, want only a", items, s.Total, err)
	}
	cl, rs := c.Claim(context.Background(), nil, []connector.Item{probeItem(t, c, "mark")})
	wantResult(t, "Claim of the marker", rs[0], connector.Present, connector.Refused)
	cl.Release()
}

// The program's own files are never items and never claimed, by no name, and
// neither is a directory that one of them lies in.
func TestOwnFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, name := range []string{"/a", "/in/own", "/in/b", "/out/c"} {
		if err := os.MkdirAll(filepath.Dir(root+name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, root+name)
	}
	c := open(t, root, files.Options{Own: []string{root + "/in/own", root + "/absent"}})
	for glob, want := range map[string]string{"**": "a in/b out/c", "*/": "out/"} {
		items, _, err := scanAll(t, c, modifiedQuery(glob))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, it := range items {
			got = append(got, string(it.Locator))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("Scan %s: %v, want %s", glob, got, want)
		}
	}
	for _, at := range []connector.Locator{"in/own", "in/"} {
		cl, rs := c.Claim(t.Context(), nil, []connector.Item{probeItem(t, c, at)})
		wantResult(t, "Claim of "+string(at), rs[0], connector.Present, connector.Refused)
		cl.Release()
	}
}

// A root that must be a mount point is unknown once it is unmounted, and other
// mounts below are neither looked into nor taken.
func TestMounts(t *testing.T) {
	if !child(t, "mounts", ownMounts) {
		return
	}
	root := t.TempDir()
	ctx := context.Background()
	c := open(t, root, files.Options{Mount: true})
	wantLost(t, "a root that is no mount point", c, connector.Item{Locator: "a", Print: "x"})
	mount(t, "tmpfs", root, "tmpfs", 0)
	at := connector.Item{Locator: "sub/a"}
	write(t, root+"/sub/a")
	write(t, root+"/tree/in/b")
	write(t, root+"/bound")
	at = probeItem(t, c, at.Locator)
	mount(t, "tmpfs", root+"/sub", "tmpfs", 0)
	mount(t, root+"/tree/in", root+"/tree/in", "", unix.MS_BIND)
	mount(t, root+"/bound", root+"/bound", "", unix.MS_BIND)
	write(t, root+"/sub/a")
	for _, walk := range []bool{false, true} {
		c, crossing := open(t, root, files.Options{Mount: true}), open(t, root, files.Options{CrossMounts: true})
		if walk {
			files.WithoutOpenat2(c)
			files.WithoutOpenat2(crossing)
		}
		locs := []connector.Locator{"sub/a", "sub/none", "tree/in/b", "tree/", "bound"}
		for i, r := range c.Probe(ctx, locs) {
			if locs[i] == "tree/" {
				wantResult(t, "Probe tree/", r, connector.Present, "")
				continue
			}
			wantResult(t, "Probe "+string(locs[i]), r, connector.Unknown, connector.Invalid)
		}
		cl, rs := c.Claim(ctx, nil, []connector.Item{probeItem(t, c, "tree/")})
		wantResult(t, "Claim of a tree with a mount in it", rs[0], connector.Present, connector.Refused)
		cl.Release()
		if items, s, err := scanAll(t, c, modifiedQuery("**")); err != nil || len(items) != 0 || s.Total != 0 {
			t.Errorf("Scan: %v, %d, %v, want nothing from other mounts", items, s.Total, err)
		}
		if _, _, err := scanAll(t, c, modifiedQuery("sub/*")); err == nil {
			t.Error("Scan of a collection on another mount: no error")
		}
		if items, _, err := scanAll(t, crossing, modifiedQuery("**")); err != nil || len(items) != 3 {
			t.Errorf("Scan across mounts: %d items, %v, want 3", len(items), err)
		}
		for _, loc := range []connector.Locator{"bound", "tree/"} {
			cl, rs = crossing.Claim(ctx, nil, []connector.Item{probeItem(t, crossing, loc)})
			wantResult(t, "Claim of "+string(loc), rs[0], connector.Present, connector.Refused)
			cl.Release()
		}
	}
	for _, below := range []string{"/bound", "/tree/in", "/sub", ""} {
		if err := unix.Unmount(root+below, 0); err != nil {
			t.Fatalf("unmount (is a handle still held?): %v", err)
		}
	}
	wantLost(t, "an unmounted root", c, at)
}

func TestReadOnlyMount(t *testing.T) {
	if !child(t, "read only", ownMounts) {
		return
	}
	root := t.TempDir()
	write(t, root+"/a")
	write(t, root+"/tree/b")
	mount(t, root, root, "", unix.MS_BIND)
	if err := unix.Mount("", root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	c := open(t, root, files.Options{})
	cl, rs := c.Claim(context.Background(), nil, []connector.Item{probeItem(t, c, "a"), probeItem(t, c, "tree/")})
	for _, r := range rs {
		wantResult(t, "Claim on a read-only mount", r, connector.Present, connector.NoPermission)
	}
	cl.Release()
}

// A sandbox that forbids openat2 changes nothing of the outcome.
func TestForbiddenOpenat2(t *testing.T) {
	if !child(t, "seccomp", unprivileged) {
		return
	}
	forbid(t, unix.SYS_OPENAT2)
	if _, err := unix.Openat2(unix.AT_FDCWD, ".", &unix.OpenHow{Flags: unix.O_PATH}); err != unix.EPERM {
		t.Fatalf("openat2 answers %v, want EPERM: the filter is not in place", err)
	}
	root := t.TempDir()
	write(t, root+"/deep/er/a")
	if err := os.Symlink("deep", root+"/link"); err != nil {
		t.Fatal(err)
	}
	c := open(t, root, files.Options{})
	rs := c.Probe(context.Background(), []connector.Locator{"deep/er/a", "link/er/a", "deep/er/none", "deep/"})
	wantResult(t, "a file", rs[0], connector.Present, "")
	wantResult(t, "through a link", rs[1], connector.Unknown, connector.Invalid)
	wantResult(t, "an absent file", rs[2], connector.Gone, connector.Missing)
	wantResult(t, "a directory", rs[3], connector.Present, "")
}

// What may not be read or searched is unknown; what may not be changed stays.
func TestPermissions(t *testing.T) {
	if !child(t, "permissions", unprivileged) {
		return
	}
	root, ctx := t.TempDir(), context.Background()
	write(t, root+"/closed/a")
	write(t, root+"/fixed/a")
	write(t, root+"/tree/fixed/a")
	c := open(t, root, files.Options{})
	items := []connector.Item{probeItem(t, c, "fixed/a"), probeItem(t, c, "tree/"), probeItem(t, c, "closed/a")}
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{"/closed", 0}, {"/fixed", 0o555}, {"/tree/fixed", 0o555}} {
		if err := os.Chmod(root+d.path, d.mode); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(root+d.path, 0o700) })
	}
	rs := c.Probe(ctx, []connector.Locator{"closed/a", "closed/none", "closed/"})
	for _, r := range rs {
		wantResult(t, "Probe behind a closed door", r, connector.Unknown, connector.NoPermission)
	}
	cl, rs := c.Claim(ctx, nil, items)
	wantResult(t, "Claim in a directory that may not change", rs[0], connector.Present, connector.NoPermission)
	wantResult(t, "Claim of a tree in part of which nothing may change", rs[1], connector.Present, connector.NoPermission)
	wantResult(t, "Claim behind a closed door", rs[2], connector.Unknown, connector.NoPermission)
	cl.Release()
	if _, _, err := scanAll(t, c, modifiedQuery("**")); err == nil {
		t.Error("Scan skips a directory that it cannot list")
	}
	got, _, err := scanAll(t, c, modifiedQuery("*/"))
	if err != nil || len(got) != 3 || got[0].Err == nil || got[1].Err != nil {
		t.Errorf("Scan of directories: %v, %v, want closed/ with an error and the others without", got, err)
	}
	// Check says so before the first night, and only of what would stay.
	for glob, warned := range map[string]bool{"fixed/*": true, "{fixed,tree/fixed}/*": true, "tree/": false, "tree/*/": false, "other/*": false} {
		fs, err := c.Check(ctx, modifiedQuery(glob))
		said := slices.ContainsFunc(fs, func(f connector.Finding) bool { return strings.Contains(f.Text, "to which this user may not write") })
		if err != nil || said != warned {
			t.Errorf("Check of %s: %v, %v; want a warning: %t", glob, fs, err, warned)
		}
	}
	if err := os.Chmod(root, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(root, 0o700) })
	wantResult(t, "Probe of a closed root", c.Probe(ctx, []connector.Locator{"fixed/a"})[0], connector.Unknown, connector.NoPermission)
}
