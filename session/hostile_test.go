package session_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/session"

	"github.com/epitaph/epitaph/owner"
)

func hostileIDs() []string {
	return []string{"", ".", "..", "../victim", "../../victim", "/etc", "a/b", "a/", " ", "\t", "-rf", ".hidden", "a b", "a\x00b", "\x00",
		strings.Repeat("a", 129), strings.Repeat("a", 4096), "\xff\xfe", "ä", "*", "a\n", "~", "a\\b", "...", ".epitaph-sessions"}
}

// F1 and F2. An id that climbs, is absolute, empty, dotted or blank is refused
// before anything happens: nothing outside of the root is touched, and no id
// means all sessions.
func TestF1F2HostileIDs(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	victim := filepath.Join(filepath.Dir(b.root), "victim")
	b.must(os.Mkdir(victim, 0o700))
	b.must(os.WriteFile(filepath.Join(victim, "file"), []byte("x"), 0o600))
	x := b.session(s)
	b.write(x, "note.txt", "x")
	for _, id := range hostileIDs() {
		if _, err := s.NewID(t.Context(), id, time.Hour); !errors.Is(err, session.ErrID) {
			t.Errorf("NewID(%.20q): %v", id, err)
		}
		if e, err := s.Delete(t.Context(), id); !errors.Is(err, session.ErrID) || e.Done() {
			t.Errorf("Delete(%.20q): %+v, %v", id, e, err)
		}
		if _, err := s.Files(t.Context(), id); !errors.Is(err, session.ErrID) {
			t.Errorf("Files(%.20q): %v", id, err)
		}
		if _, err := s.Remove(t.Context(), id, "file"); !errors.Is(err, session.ErrID) {
			t.Errorf("Remove(%.20q): %v", id, err)
		}
		if id != "" { // where it asks for a random one
			if _, _, err := s.Leave(t.Context(), id, time.Hour, owner.Process{}); !errors.Is(err, session.ErrID) {
				t.Errorf("Leave(%.20q): %v", id, err)
			}
		}
	}
	if !b.exists(filepath.Join(victim, "file")) || !b.exists(filepath.Join(x.Path(), "note.txt")) {
		t.Error("something was deleted")
	}
	if gone, open := b.balance(); gone != 0 || open != 0 {
		t.Errorf("ledger: %d gone, %d open", gone, open)
	}
	if all, _ := os.ReadDir(b.root); len(all) != 2 {
		t.Errorf("%d names in the root, want the marker and one session", len(all))
	}
}

// File names that climb are refused too, and those of the record.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	x := b.session(s)
	victim := filepath.Join(b.root, "victim")
	b.must(os.WriteFile(victim, []byte("x"), 0o600))
	for _, name := range []string{"", ".", "..", "../victim", "a/../../victim", "/etc/passwd", "a//b", "a/", "\x00", "a\x00", "./a",
		strings.Repeat("a", 256), strings.Repeat("a/", 2048) + "a", ".epitaph-session"} {
		if _, err := x.Create(name); !errors.Is(err, session.ErrName) {
			t.Errorf("Create(%.20q): %v", name, err)
		}
		if _, err := x.Open(name); !errors.Is(err, session.ErrName) {
			t.Errorf("Open(%.20q): %v", name, err)
		}
		if _, err := x.Remove(t.Context(), name); !errors.Is(err, session.ErrName) {
			t.Errorf("Remove(%.20q): %v", name, err)
		}
	}
	if !b.exists(victim) {
		t.Error("the victim is gone")
	}
	b.write(x, "an odd \xff name\nof a file", "x") // any other bytes are a name
	e, err := x.Close()
	b.must(err)
	b.ended(e, "gone GONE: 1 gone, 0 left, 0 unknown")
}

// F3. A session directory that is a link: nothing of its target is touched, and
// it is reported.
func TestF3LinkedSession(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	target := filepath.Join(filepath.Dir(b.root), "target")
	b.must(os.Mkdir(target, 0o700))
	b.must(os.WriteFile(filepath.Join(target, "file"), []byte("x"), 0o600))
	b.must(os.Symlink(target, b.path("linked")))
	e, err := s.Delete(t.Context(), "linked")
	b.must(err)
	b.ended(e, "present INVALID: 0 gone, 1 left, 0 unknown")
	if _, err := s.Files(t.Context(), "linked"); err == nil {
		t.Error("the target's files were listed")
	}
	if _, err := s.Remove(t.Context(), "linked", "file"); err != nil {
		t.Log(err)
	}
	_, rest, err := s.List(t.Context())
	b.must(err)
	if len(rest) != 1 || rest[0].Name != "linked" || rest[0].Type != "link" {
		t.Errorf("leftovers: %+v", rest)
	}
	if _, err := s.DeleteAll(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.NewID(t.Context(), "linked", time.Hour); !errors.Is(err, session.ErrExists) {
		t.Errorf("NewID: %v", err)
	}
	b.wait(2 * session.DefaultGrace)
	w, err := s.Sweep(t.Context())
	b.must(err)
	if len(w.Ended) != 1 || w.Gone != 1 || b.exists(b.path("linked")) {
		t.Errorf("the sweep did not take the link itself: %+v", w)
	}
	if !b.exists(filepath.Join(target, "file")) {
		t.Error("the file of the target is gone")
	}
}

// F4. Nested directories, FIFOs, sockets, dangling links and links to
// directories go, the targets stay, and the counts say what went.
func TestF4EveryKindOfFileGoes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.session(b.store())
	outside := filepath.Join(filepath.Dir(b.root), "outside")
	b.must(os.MkdirAll(filepath.Join(outside, "d"), 0o700))
	b.must(os.WriteFile(filepath.Join(outside, "d", "file"), []byte("x"), 0o600))
	b.write(x, "a/b/c/note.txt", "x")
	b.must(os.MkdirAll(filepath.Join(x.Path(), "empty/er"), 0o700))
	b.must(unix.Mkfifo(filepath.Join(x.Path(), "fifo"), 0o600))
	b.must(os.Symlink("nowhere", filepath.Join(x.Path(), "dangling")))
	b.must(os.Symlink(outside, filepath.Join(x.Path(), "a", "linked")))
	b.must(os.WriteFile(filepath.Join(x.Path(), "one"), []byte("xyz"), 0o000))
	b.must(os.Link(filepath.Join(x.Path(), "one"), filepath.Join(x.Path(), "a/two"))) // both names are in here
	want := int64(6)
	if unix.Mknod(filepath.Join(x.Path(), "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) == nil {
		want++
	}
	fs, err := x.List()
	b.must(err)
	if int64(len(fs)) != want {
		t.Errorf("listed %d: %+v", len(fs), fs)
	}
	if _, err := x.Open("fifo"); !errors.Is(err, session.ErrName) { // and does not hang
		t.Errorf("open of a FIFO: %v", err)
	}
	e, err := x.Close()
	b.must(err)
	b.ended(e, fmt.Sprintf("gone GONE: %d gone, 0 left, 0 unknown", want))
	if e.Bytes != 4 || b.exists(x.Path()) || !b.exists(filepath.Join(outside, "d", "file")) {
		t.Errorf("bytes %d, there: %t, target there: %t", e.Bytes, b.exists(x.Path()), b.exists(filepath.Join(outside, "d", "file")))
	}
}

// F6. Directories are 0700 and files 0600 under any umask; what lies loose in a
// root is reported, and taken once it has been left alone long enough.
func TestF6LooseFilesAndModes(t *testing.T) {
	b := newBed(t) // the umask is that of the process: not parallel
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, mask := range []int{0, 0o277, 0o777} {
		unix.Umask(mask)
		b.root = filepath.Join(filepath.Dir(b.root), fmt.Sprintf("root-%o", mask))
		x := b.session(b.store())
		b.write(x, "sub/note.txt", "x")
		for path, want := range map[string]os.FileMode{b.root: 0o700, x.Path(): 0o700, filepath.Join(x.Path(), "sub"): 0o700,
			filepath.Join(x.Path(), "sub/note.txt"): 0o600, filepath.Join(x.Path(), ".epitaph-session"): 0o600} {
			fi, err := os.Lstat(path)
			b.must(err)
			if fi.Mode().Perm() != want {
				t.Errorf("umask %o: mode %o, want %o: %s", mask, fi.Mode().Perm(), want, path)
			}
		}
	}
	unix.Umask(old)
	s := b.store()
	b.must(os.WriteFile(b.path("loose.txt"), []byte("x"), 0o600))
	b.must(os.Mkdir(b.path("no-record"), 0o700))
	b.must(os.WriteFile(b.path("no-record", "note"), []byte("x"), 0o600))
	w, err := s.Sweep(t.Context())
	b.must(err)
	if len(w.Leftovers) != 2 || len(w.Ended) != 0 || !b.exists(b.path("loose.txt")) {
		t.Errorf("within the grace period: %+v", w)
	}
	b.wait(session.DefaultGrace / 2) // also beyond it for the session that is open
	w, err = s.Sweep(t.Context())
	b.must(err)
	if len(w.Leftovers) != 2 {
		t.Errorf("within the grace period: %+v", w)
	}
	b.wait(session.DefaultGrace)
	w, err = s.Sweep(t.Context())
	b.must(err)
	if len(w.Leftovers) != 0 || w.Gone != 2 || w.InUse != 1 || b.exists(b.path("loose.txt")) || b.exists(b.path("no-record")) {
		t.Errorf("after the grace period: %+v", w)
	}
}

// A file that the kernel will not let go stays, everything else goes, and the
// result and the ledger say so; the next sweep finishes when it can.
func TestImmutableFileIsLeft(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.root = filepath.Join(hardDisk(t), "sessions")
	s := b.store()
	x := b.session(s)
	b.write(x, "note.txt", "x")
	b.write(x, "sub/stuck.txt", "x")
	stuck := filepath.Join(x.Path(), "sub/stuck.txt")
	reason, thaw := freeze(t, stuck)
	e, err := x.Close()
	b.must(err)
	b.ended(e, "present "+reason+": 1 gone, 1 left, 0 unknown")
	if !b.exists(stuck) || b.exists(filepath.Join(x.Path(), "note.txt")) {
		t.Error("what was said is not what is there")
	}
	w, err := s.Sweep(t.Context()) // its owner has let go of it: it is due
	b.must(err)
	if !w.Failed() || w.Left != 1 || w.Counts.Gone != 0 {
		t.Errorf("sweep: %+v", w)
	}
	thaw()
	w, err = s.Sweep(t.Context())
	b.must(err)
	if w.Failed() || w.Counts.Gone != 1 || b.exists(x.Path()) {
		t.Errorf("sweep: %+v", w)
	}
	if gone, open := b.balance(); gone != 1 || open != 0 {
		t.Errorf("ledger: %d gone, %d open", gone, open)
	}
}

// freeze makes a file that cannot be removed, as root by an attribute of it,
// otherwise by the mode of its directory.
func freeze(t *testing.T, path string) (reason string, thaw func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
			t.Fatal(err)
		}
		thaw = func() { _ = os.Chmod(filepath.Dir(path), 0o700) }
		t.Cleanup(thaw)
		return "NO_PERMISSION", thaw
	}
	set := func(fixed int) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^unix.STATX_ATTR_IMMUTABLE|fixed)
	}
	if err := set(unix.STATX_ATTR_IMMUTABLE); err != nil {
		t.Fatal(err)
	}
	thaw = func() { _ = set(0) }
	t.Cleanup(thaw)
	return "REFUSED", thaw
}

// hardDisk is a temporary directory on a file system that knows immutable files;
// tmpfs of older kernels does not.
func hardDisk(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(".", "_test-") // which go passes over, when it lists packages as this one comes and goes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Data with a further name outside would live on: the session's name of it is
// kept, and it is not called gone.
func TestHardLinkOutsideIsNotGone(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	x := b.session(s)
	b.write(x, "note.txt", "x")
	other := filepath.Join(filepath.Dir(b.root), "other")
	b.must(os.Link(filepath.Join(x.Path(), "note.txt"), other))
	e, err := x.Close()
	b.must(err)
	b.ended(e, "present SHARED: 0 gone, 1 left, 0 unknown")
	b.must(os.Remove(other))
	w, err := s.Sweep(t.Context())
	b.must(err)
	if w.Gone != 1 || b.exists(x.Path()) {
		t.Errorf("sweep: %+v", w)
	}
}

// A read-only mount keeps everything, and the counts say so.
func TestReadOnlyMount(t *testing.T) {
	t.Parallel()
	if !inOwnMounts(t) {
		return
	}
	b := newBed(t)
	b.root = filepath.Join(mounted(t), "sessions")
	s := b.store()
	x := b.session(s)
	b.write(x, "note.txt", "x")
	mount := filepath.Dir(b.root)
	b.must(unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	e, err := x.Close()
	b.must(err)
	b.ended(e, "present NO_PERMISSION: 0 gone, 1 left, 0 unknown")
	if _, err := s.New(t.Context(), time.Hour); !errors.Is(err, unix.EROFS) {
		t.Errorf("new: %v", err)
	}
	b.must(unix.Mount("", mount, "", unix.MS_REMOUNT, ""))
	w, err := s.Sweep(t.Context())
	b.must(err)
	if w.Gone != 1 || w.Failed() {
		t.Errorf("sweep: %+v", w)
	}
}

// inOwnMounts runs the test again in a process that may mount, whoever runs the
// tests, and whose mounts are its own. It reports whether this is that process.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv("SESSION_TEST_MOUNTS") != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), "SESSION_TEST_MOUNTS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// mounted is a tmpfs of its own.
func mounted(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// What is mounted inside of a session is not entered.
func TestMountInsideIsNotEntered(t *testing.T) {
	t.Parallel()
	if !inOwnMounts(t) {
		return
	}
	b := newBed(t)
	other := mounted(t)
	b.must(os.WriteFile(filepath.Join(other, "file"), []byte("x"), 0o600))
	x := b.session(b.store())
	b.write(x, "note.txt", "x")
	at := filepath.Join(x.Path(), "mnt")
	b.must(os.Mkdir(at, 0o700))
	b.must(unix.Mount(other, at, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	e, err := x.Close()
	b.must(err)
	b.ended(e, "present INVALID: 1 gone, 0 left, 1 unknown")
	if !b.exists(filepath.Join(other, "file")) {
		t.Error("the mounted file is gone")
	}
}

// A root that vanished makes everything unknown, never gone.
func TestRootVanishes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	x, y := b.session(s), b.session(s)
	b.write(x, "note.txt", "x")
	away := b.root + "-away"
	b.must(os.Rename(b.root, away))
	e, err := x.Close()
	b.must(err)
	if e.State != connector.Unknown || e.Counts.Gone != 0 || e.Unknown == 0 {
		t.Errorf("got %+v", e)
	}
	if _, err := s.Sweep(t.Context()); !errors.Is(err, session.ErrVanished) {
		t.Errorf("sweep: %v", err)
	}
	if _, err := s.Delete(t.Context(), "elsewhere"); !errors.Is(err, session.ErrVanished) {
		t.Errorf("delete: %v", err)
	}
	if _, err := s.New(t.Context(), time.Hour); !errors.Is(err, session.ErrVanished) {
		t.Errorf("new: %v", err)
	}
	// An empty directory in its place, as an unmounted file system leaves it.
	b.must(os.Mkdir(b.root, 0o700))
	if e, err = y.Close(); err != nil || e.State != connector.Unknown {
		t.Errorf("got %+v, %v", e, err)
	}
	o := b.o
	o.Create = false
	if _, err := session.Open(t.Context(), b.root, o); !errors.Is(err, session.ErrNotRoot) {
		t.Errorf("open of an empty directory: %v", err)
	}
	b.must(os.Remove(b.root))
	b.must(os.Rename(away, b.root))
	w, err := s.Sweep(t.Context())
	b.must(err)
	if w.Gone != 1 || w.Failed() || len(w.Ended) != 2 {
		t.Errorf("sweep: %+v", w)
	}
	if _, open := b.balance(); open != 0 {
		t.Errorf("%d intents are open", open)
	}
}

// A directory of something else is never taken for a root, nor one that others
// may write to.
func TestOpenRefusesOtherDirectories(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	home := t.TempDir()
	b.must(os.WriteFile(filepath.Join(home, "thesis.txt"), []byte("x"), 0o600))
	open := t.TempDir()
	b.must(os.Chmod(open, 0o777))
	link := filepath.Join(t.TempDir(), "link")
	b.must(os.Symlink(t.TempDir(), link))
	for path, want := range map[string]error{home: session.ErrNotRoot, open: session.ErrUnsafeRoot, link: session.ErrNotRoot,
		"": session.ErrNotRoot, "a\x00b": session.ErrNotRoot, filepath.Join(home, "thesis.txt"): session.ErrNotRoot} {
		if s, err := session.Open(t.Context(), path, b.o); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
			if err == nil {
				s.Close()
			}
		}
	}
	if all, _ := os.ReadDir(home); len(all) != 1 {
		t.Error("something was put there")
	}
}

// While a session dies, another hand swaps its directories for links: nothing
// outside is touched.
func TestLinksSwappedDuringDeletion(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	outside := filepath.Join(filepath.Dir(b.root), "outside")
	for i := range 20 {
		b.must(os.MkdirAll(filepath.Join(outside, fmt.Sprint(i)), 0o700))
		b.must(os.WriteFile(filepath.Join(outside, fmt.Sprint(i), "file"), []byte("x"), 0o600))
	}
	b.must(os.WriteFile(filepath.Join(outside, "file"), []byte("x"), 0o600))
	for range 30 {
		x := b.session(s)
		for i := range 20 {
			b.write(x, fmt.Sprintf("d%d/file", i), "x")
		}
		stop := make(chan struct{})
		done := make(chan struct{})
		begun := make(chan struct{})
		go func() {
			defer close(done)
			for i, swaps := 0, 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				d := filepath.Join(x.Path(), fmt.Sprintf("d%d", i%20))
				if os.Rename(d, d+"-away") == nil && os.Symlink(outside, d) == nil {
					if swaps++; swaps == 1 {
						close(begun)
					}
				}
			}
		}()
		<-begun // on one processor the deletion may be over before anything was swapped
		if _, err := x.Close(); err != nil {
			t.Error(err)
		}
		close(stop)
		<-done
	}
	for i := range 20 {
		if !b.exists(filepath.Join(outside, fmt.Sprint(i), "file")) {
			t.Fatal("a file outside is gone")
		}
	}
	if !b.exists(filepath.Join(outside, "file")) {
		t.Fatal("a file outside is gone")
	}
	b.wait(2 * time.Hour)
	w, err := s.Sweep(t.Context())
	b.must(err)
	if w.Failed() {
		t.Errorf("what was left behind does not go: %+v", w)
	}
}

// A path deeper than the kernel takes in one piece goes too.
func TestDeepTree(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := b.session(b.store())
	fd, err := unix.Open(x.Path(), unix.O_DIRECTORY|unix.O_RDONLY, 0)
	b.must(err)
	name := strings.Repeat("d", 100)
	for range 60 {
		b.must(unix.Mkdirat(fd, name, 0o700))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		b.must(err)
		b.must(unix.Close(fd))
		fd = next
	}
	b.must(unix.Close(fd))
	e, err := x.Close()
	b.must(err)
	b.ended(e, "gone GONE: 0 gone, 0 left, 0 unknown")
}

// What a deletion could not take is due from then on, also by a clock that was set
// ahead, by which alone the session is not over. Seen to fail with a session left as it was whose time had passed by the clock.
func TestSweepTriesAgainByAClockThatJumped(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	id := b.left(s, time.Hour, owner.Process{})
	other := filepath.Join(filepath.Dir(b.root), "other")
	b.must(os.Link(b.path(id, "note.txt"), other))
	b.set(2 * 365 * 24 * time.Hour)
	e, err := s.Delete(t.Context(), id)
	b.must(err)
	b.ended(e, "present SHARED: 0 gone, 1 left, 0 unknown")
	b.must(os.Remove(other))
	w, err := s.Sweep(t.Context())
	b.must(err)
	if w.Gone != 1 || w.Waiting != 0 || b.exists(b.path(id)) {
		t.Errorf("the sweep did not try: %+v", w)
	}
}

// What a deletion could not take is due from then on, also where its time is not
// over and nobody held it: the next sweep tries again.
func TestSweepTriesAgainAfterADeletion(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.root = filepath.Join(hardDisk(t), "sessions")
	s := b.store()
	_, _, err := s.Leave(t.Context(), "a", time.Hour, owner.Process{})
	b.must(err)
	stuck := b.path("a", "stuck.txt")
	b.must(os.WriteFile(stuck, []byte("x"), 0o600))
	reason, thaw := freeze(t, stuck)
	e, err := s.Delete(t.Context(), "a")
	b.must(err)
	b.ended(e, "present "+reason+": 0 gone, 1 left, 0 unknown")
	w, err := s.Sweep(t.Context())
	b.must(err)
	if len(w.Ended) != 1 || w.Left != 1 || w.Waiting != 0 || len(w.Leftovers) != 0 {
		t.Errorf("the sweep did not try: %+v", w)
	}
	thaw()
	w, err = s.Sweep(t.Context())
	b.must(err)
	if w.Failed() || w.Counts.Gone != 1 || b.exists(b.path("a")) {
		t.Errorf("sweep: %+v", w)
	}
}
