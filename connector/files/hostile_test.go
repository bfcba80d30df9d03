package files_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
)

// What no store may hold is never looked for, let alone taken.
func TestInvalidLocators(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := write(t, dir+"/outside/victim")
	root := filepath.Join(dir, "root")
	write(t, root+"/a/b")
	write(t, root+"/file")
	for name, to := range map[string]string{"out": "../outside", "in": "a", "link": "a/b", "self": "self", "abs": dir} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := dump(t, dir)
	c := open(t, root, files.Options{})
	long := strings.Repeat("n", 256)
	for _, loc := range []connector.Locator{"", "/", ".", "..", "./a/b", "a/./b", "a/../a/b", "../outside/victim", "a/..", "a//b",
		"a/b//", "//", "/etc/passwd", connector.Locator(outside), "a/b\x00", "\x00", "a/b/../../../outside/victim",
		"out/victim", "in/b", "self/x", "abs/outside/victim", "out/", "in/", "file/", connector.Locator(long), connector.Locator("a/" + long),
		connector.Locator(strings.Repeat("x", 5000)), connector.Locator(strings.Repeat("../", 2000) + "etc/passwd")} {
		r := c.Probe(context.Background(), []connector.Locator{loc})[0]
		if r.State != connector.Unknown || r.Reason != connector.Invalid {
			t.Errorf("Probe %.40q: got %v %s, want unknown INVALID", loc, r.State, r.Reason)
		}
		cl, rs := c.Claim(context.Background(), nil, []connector.Item{{Locator: loc, Print: "f1.1.1.1"}})
		wantResult(t, fmt.Sprintf("Claim %.40q", loc), rs[0], connector.Unknown, connector.Invalid)
		if r := cl.Erase(context.Background(), []int{0}).Results[0]; r.State != connector.Unknown {
			t.Errorf("Erase %.40q: got %v", loc, r.State)
		}
		cl.Release()
	}
	rs := c.Probe(context.Background(), []connector.Locator{"a/none", "none/a", "file/x", "none/"})
	for i, r := range rs {
		wantResult(t, fmt.Sprintf("Probe of absent %d", i), r, connector.Gone, connector.Missing)
	}
	if after := dump(t, dir); after != before {
		t.Errorf("something changed\nbefore: %s\nafter: %s", before, after)
	}
}

// Only regular files are items; nothing else is opened, followed or taken.
func TestSpecialFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/victim")
	write(t, root+"/file.x")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mkfifo(root+"/fifo.x", 0o600))
	must(os.Symlink("victim", root+"/link.x"))
	must(os.Symlink("nowhere", root+"/dangling.x"))
	must(os.Mkdir(root+"/dir.x", 0o700))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(err)
	t.Cleanup(func() { unix.Close(fd) })
	dir, err := os.Open(root)
	must(err)
	defer dir.Close()
	// A socket's address is short: it is named through a handle.
	must(unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/socket.x", dir.Fd())}))
	c := open(t, root, files.Options{})
	items, s, err := scanAll(t, c, modifiedQuery("*.x"))
	if err != nil || len(items) != 1 || s.Total != 1 || items[0].Locator != "file.x" {
		t.Errorf("Scan: %v, total %d, %v, want only file.x", items, s.Total, err)
	}
	fs, err := c.Check(context.Background(), modifiedQuery("*.x"))
	if err != nil || len(fs) != 2 {
		t.Errorf("Check: %v, %v, want a warning for links and one for special files", fs, err)
	}
	before := dump(t, root)
	for _, loc := range []connector.Locator{"fifo.x", "link.x", "dangling.x", "socket.x", "dir.x"} {
		cl, rs := c.Claim(context.Background(), nil, []connector.Item{probeItem(t, c, loc)})
		wantResult(t, "Claim "+string(loc), rs[0], connector.Present, connector.Refused)
		cl.Erase(context.Background(), []int{0})
		cl.Release()
	}
	if after := dump(t, root); after != before {
		t.Errorf("something changed\nbefore: %s\nafter: %s", before, after)
	}
}

// Names are bytes: every one that the kernel takes is found, looked at and
// taken, and so are paths longer than the kernel takes at once.
func TestOddNames(t *testing.T) {
	t.Parallel()
	for _, walk := range []bool{false, true} {
		root := t.TempDir()
		c := open(t, root, files.Options{})
		if walk {
			files.WithoutOpenat2(c)
		}
		names := []string{"new\nline", "\xff\xfe", "bad\xc3", "-rf", " ", "*", "[a]", "\\", strings.Repeat("n", 255), "ünï", "{a,b}",
			"\u202egnp.exe", "%s", "...", "a\tb", "~", "$(x)"}
		for _, n := range names {
			write(t, filepath.Join(root, n))
			write(t, filepath.Join(root, "d "+n[:min(len(n), 250)], n))
		}
		items, _, err := scanAll(t, c, modifiedQuery("{**,**/.*}"))
		if err != nil || len(items) != 2*len(names) {
			t.Fatalf("Scan: %d items, %v, want %d", len(items), err, 2*len(names))
		}
		for _, n := range names {
			if !slices.ContainsFunc(items, func(it connector.Item) bool { return string(it.Locator) == n }) {
				t.Errorf("Scan: no %q", n)
			}
		}
		eraseAll(t, c, items)
		if items, _, _ := scanAll(t, c, modifiedQuery("{**,**/.*}")); len(items) != 0 {
			t.Errorf("left: %v", items)
		}
	}
}

func eraseAll(t *testing.T, c *files.Connector, items []connector.Item) {
	t.Helper()
	cl, rs := c.Claim(context.Background(), nil, items)
	defer cl.Release()
	which := make([]int, len(items))
	for i, r := range rs {
		wantResult(t, fmt.Sprintf("Claim %q", items[i].Locator), r, connector.Present, connector.Eligible)
		which[i] = i
	}
	for i, r := range cl.Erase(context.Background(), which).Results {
		wantResult(t, fmt.Sprintf("Erase %q", items[i].Locator), r, connector.Gone, connector.Erasure)
	}
}

func TestDeepPaths(t *testing.T) {
	t.Parallel()
	for _, walk := range []bool{false, true} {
		root := t.TempDir()
		deep := deepDirectory(t, root, strings.Repeat("d", 200), 60)
		c := open(t, root, files.Options{})
		if walk {
			files.WithoutOpenat2(c)
		}
		items, _, err := scanAll(t, c, modifiedQuery("**"))
		if err != nil || len(items) != 1 || string(items[0].Locator) != deep+"/file" {
			t.Fatalf("Scan: %d items, %v, want the deep file", len(items), err)
		}
		eraseAll(t, c, items)
		name, _, _ := strings.Cut(deep, "/")
		eraseAll(t, c, []connector.Item{probeItem(t, c, connector.Locator(name+"/"))})
		if left, _ := os.ReadDir(root); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// deepDirectory makes a chain of directories with a file at its end, by
// handles, and returns its path below root.
func deepDirectory(t *testing.T, root, name string, depth int) string {
	t.Helper()
	fd, err := unix.Open(root, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(fd, name, 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(file)
	unix.Close(fd)
	return strings.Repeat(name+"/", depth-1) + name
}

// Data is not gone while another name leads to it.
func TestHardLinks(t *testing.T) {
	t.Parallel()
	root, ctx := t.TempDir(), context.Background()
	write(t, root+"/a")
	write(t, root+"/tree/x")
	for from, to := range map[string]string{"/a": "/b", "/tree/x": "/tree/y"} {
		if err := os.Link(root+from, root+to); err != nil {
			t.Fatal(err)
		}
	}
	c := open(t, root, files.Options{})
	a, b, tree, x := probeItem(t, c, "a"), probeItem(t, c, "b"), probeItem(t, c, "tree/"), probeItem(t, c, "tree/x")
	claim := func(items ...connector.Item) (connector.Claim, []connector.Result) {
		cl, rs := c.Claim(ctx, nil, items)
		t.Cleanup(func() { cl.Release() })
		return cl, rs
	}
	_, rs := claim(a)
	wantResult(t, "one of two names", rs[0], connector.Present, connector.Shared)
	_, rs = claim(a, a)
	wantResult(t, "one of two names, twice", rs[1], connector.Present, connector.Shared)
	_, rs = claim(x)
	wantResult(t, "one of two names in a tree", rs[0], connector.Present, connector.Shared)
	cl, rs := claim(a, b)
	wantResult(t, "both names", rs[0], connector.Present, connector.Eligible)
	wantResult(t, "one of both names", cl.Erase(ctx, []int{1}).Results[0], connector.Present, connector.Shared)
	cl, _ = claim(a, b)
	if err := os.Link(root+"/a", root+"/late"); err != nil {
		t.Fatal(err)
	}
	for _, r := range cl.Erase(ctx, []int{0, 1}).Results {
		wantResult(t, "a third name after the claim", r, connector.Present, connector.Shared)
	}
	os.Remove(root + "/late")
	eraseAll(t, c, []connector.Item{a, b})
	os.Link(root+"/tree/x", root+"/outside")
	_, rs = claim(tree)
	wantResult(t, "a tree whose data has a name outside", rs[0], connector.Present, connector.Shared)
	eraseAll(t, c, []connector.Item{probeItem(t, c, "outside"), tree, x, x})
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Immutable files stay, and what is beside them goes. Who may not make a file
// immutable makes its directory unwritable, which must come to the same.
func TestImmutable(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, f := range []string{"/fixed/a", "/free/a", "/tree/fixed/a"} {
		write(t, root+f)
	}
	for _, f := range []string{"/fixed/a", "/tree/fixed/a"} {
		freeze(t, root+f)
	}
	c := open(t, root, files.Options{})
	items := []connector.Item{probeItem(t, c, "fixed/a"), probeItem(t, c, "free/a"), probeItem(t, c, "tree/")}
	cl, rs := c.Claim(context.Background(), nil, items)
	defer cl.Release()
	for _, i := range []int{0, 2} {
		if r := rs[i]; r.State != connector.Present || r.Reason != connector.Refused && r.Reason != connector.NoPermission {
			t.Errorf("Claim of item %d: %v %s", i, r.State, r.Reason)
		}
	}
	wantResult(t, "Erase beside", cl.Erase(context.Background(), []int{1}).Results[0], connector.Gone, connector.Erasure)
}

func freeze(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(filepath.Dir(path), 0o700) })
		return
	}
	set := func(on bool) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		flags &^= unix.STATX_ATTR_IMMUTABLE
		if on {
			flags |= unix.STATX_ATTR_IMMUTABLE
		}
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err := set(true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set(false) })
}

// While trees and files are taken, someone swaps the directory they lie in for
// links to victims. The victims survive, always.
func TestLinkSwaps(t *testing.T) {
	t.Parallel()
	for name, walk := range map[string]bool{"openat2": false, "walk": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			root := filepath.Join(dir, "root")
			for _, victim := range []string{"/outside/in", "/root/victim/in"} {
				for i := range 20 {
					write(t, fmt.Sprintf("%s%s/w%d", dir, victim, i)) // names as in the work
				}
			}
			c := open(t, root, files.Options{})
			if walk {
				files.WithoutOpenat2(c)
			}
			if err := os.MkdirAll(root+"/work", 0o700); err != nil {
				t.Fatal(err)
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			var swaps atomic.Int64
			go func() {
				defer close(stopped)
				swap(root, stop, &swaps)
			}()
			victims := dump(t, dir+"/outside") + dump(t, root+"/victim")
			gone := 0
			begun := time.Now()
			for time.Since(begun) < time.Second || (swaps.Load() < 100 || gone == 0) && time.Since(begun) < 2*time.Minute {
				gone += takeWork(t, c, root)
			}
			close(stop)
			<-stopped
			if n := swaps.Load(); n < 100 || gone == 0 {
				t.Errorf("only %d swaps and %d erasures: the race was not run", n, gone)
			}
			if after := dump(t, dir+"/outside") + dump(t, root+"/victim"); after != victims {
				t.Errorf("a victim suffered\nbefore: %s\nafter: %s", victims, after)
			}
		})
	}
}

// swap puts, again and again, a link or the victim itself where work/0/in is.
func swap(root string, stop <-chan struct{}, swaps *atomic.Int64) {
	in, aside := root+"/work/0/in", root+"/aside"
	for {
		select {
		case <-stop:
			return
		default:
		}
		for _, to := range []string{"../../victim/in", "../../../outside/in"} {
			if os.Rename(in, aside) == nil {
				swaps.Add(1)
				os.Symlink(to, in)
				os.Remove(in)
				os.Rename(aside, in)
				os.RemoveAll(aside)
			}
		}
	}
}

// takeWork makes files like the victim's and takes them, whole and by name.
func takeWork(t *testing.T, c *files.Connector, root string) (gone int) {
	for i := range 20 {
		path := fmt.Sprintf("%s/work/0/in/w%d", root, i)
		os.MkdirAll(filepath.Dir(path), 0o700)
		// Through a link it would meet the victim's file of that name.
		if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
			f.Close()
		}
	}
	ctx := context.Background()
	var at []connector.Locator
	for i := range 10 {
		at = append(at, connector.Locator(fmt.Sprintf("work/0/in/w%d", i)))
	}
	at = append(at, "work/0/")
	var items []connector.Item
	for i, r := range c.Probe(ctx, at) {
		items = append(items, connector.Item{Locator: at[i], Print: r.Print})
	}
	for _, batch := range [][]connector.Item{items[:10], items[10:]} {
		cl, _ := c.Claim(ctx, nil, batch)
		for _, r := range cl.Erase(ctx, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}[:len(batch)]).Results {
			if r.Reason == connector.Erasure {
				gone++
			}
		}
		cl.Release()
	}
	return gone
}

// A directory that was swapped for another after the claim is not the one that
// was claimed, whatever it holds.
func TestSwappedDirectory(t *testing.T) {
	t.Parallel()
	root, ctx := t.TempDir(), context.Background()
	for _, f := range []string{"/work/in/a", "/work/b", "/victim/a", "/victim/b"} {
		write(t, root+f)
	}
	c := open(t, root, files.Options{})
	cl, _ := c.Claim(ctx, nil, []connector.Item{probeItem(t, c, "work/"), probeItem(t, c, "work/in/a")})
	defer cl.Release()
	if err := unix.Renameat2(unix.AT_FDCWD, root+"/work/in", unix.AT_FDCWD, root+"/victim", unix.RENAME_EXCHANGE); err != nil {
		t.Fatal(err)
	}
	before := dump(t, root)
	rs := cl.Erase(ctx, []int{0, 1}).Results
	wantResult(t, "the tree", rs[0], connector.Present, connector.Changed)
	wantResult(t, "the file", rs[1], connector.Present, connector.Changed)
	if after := dump(t, root); after != before {
		t.Errorf("something changed\nbefore: %s\nafter: %s", before, after)
	}
	for _, f := range []string{"/work/in/a", "/work/in/b"} {
		if _, err := os.Stat(root + f); err != nil {
			t.Errorf("the victim suffered: %v", err)
		}
	}
}

// A directory that was renamed between claim and erasure, out of the root too, is
// left as it is; and what stands in its place is looked at, not what was there before.
// Seen to fail with the handle of the claim: the file went from the directory outside,
// and was called gone while there was one under its name.
func TestRenamedDirectory(t *testing.T) {
	t.Parallel()
	root, ctx := t.TempDir(), context.Background()
	outside := t.TempDir() + "/kept"
	write(t, root+"/work/a")
	c := open(t, root, files.Options{})
	cl, rs := c.Claim(ctx, nil, []connector.Item{probeItem(t, c, "work/a")})
	defer cl.Release()
	wantResult(t, "claim", rs[0], connector.Present, connector.Eligible)
	if err := os.Rename(root+"/work", outside); err != nil {
		t.Fatal(err)
	}
	write(t, root+"/work/a")
	wantResult(t, "erase", cl.Erase(ctx, []int{0}).Results[0], connector.Present, connector.Changed)
	for _, f := range []string{root + "/work/a", outside + "/a"} {
		if _, err := os.Stat(f); err != nil {
			t.Errorf("a file went that was not the one: %v", err)
		}
	}
}

// No call keeps a handle open when it and its claim have ended.
func TestHandlesAreClosed(t *testing.T) {
	handles := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	root, ctx := t.TempDir(), context.Background()
	for i := range 100 {
		write(t, fmt.Sprintf("%s/%02d/a", root, i))
		write(t, fmt.Sprintf("%s/%02d/in/b", root, i))
	}
	c := open(t, root, files.Options{})
	before := handles()
	items, _, err := scanAll(t, c, modifiedQuery("*/*"))
	trees, _, err2 := scanAll(t, c, modifiedQuery("*/in/"))
	if err != nil || err2 != nil || len(items) != 100 || len(trees) != 100 {
		t.Fatalf("Scan: %d and %d items, %v, %v", len(items), len(trees), err, err2)
	}
	for range c.Scan(ctx, modifiedQuery("**"), nil) {
		break
	}
	c.Probe(ctx, []connector.Locator{"01/a", "02/in/", "none/x", "01/none", ".."})
	c.Check(ctx, modifiedQuery("**"))
	cl, _ := c.Claim(ctx, nil, items)
	cl.Release()
	eraseAll(t, c, append(items, trees...))
	if after := handles(); after != before {
		t.Errorf("%d handles open, %d before", after, before)
	}
}
