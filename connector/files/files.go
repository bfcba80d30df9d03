package files

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
)

// Options say how the root can be told from an empty directory that an
// unmounted file system left behind, and how far a walk may go.
type Options struct {
	// Mount requires the root to be a mount point.
	Mount bool
	// Marker requires a regular file of this name directly below the root. The
	// marker itself is never an item and never claimed.
	Marker string
	// Own are the paths of files that are the program's or the stores' own: the
	// ledger, its key, the policy, the database whose rows name the files. A rule
	// may match them by mistake. They are never items and never claimed, under
	// whatever name, and neither is a directory that one of them lies in. What is
	// not there when a batch begins is passed over.
	Own []string
	// CrossMounts lets every method enter other file systems mounted below the
	// root. Query.CrossMounts does the same for one Scan and Claim.
	CrossMounts bool
}

// Connector is one directory tree. Its methods may be called concurrently.
//
// No handle is held between calls, so a file system can be unmounted while a
// Connector is open. The first call that finds the root pins its device and
// inode: should another directory stand at that path later, every answer is
// Unknown until the Connector is opened anew.
type Connector struct {
	path string
	o    Options

	mu     sync.Mutex
	closed bool
	pinned bool
	dev    uint64
	ino    uint64
	// walk is set once openat2 was found to be missing or forbidden.
	walk bool
}

var _ connector.Connector = (*Connector)(nil)

var errClosed = errors.New("connector is closed")

// Open returns the connector for the tree at root, a path that is made absolute
// at once. It does not look at the root and never fails because the root is
// absent: until it is there, every answer is Unknown with reason Unreachable.
// It fails when root is empty or holds NUL, or when the marker is not a plain
// file name.
func Open(root string, o Options) (*Connector, error) {
	if root == "" || strings.IndexByte(root, 0) >= 0 {
		return nil, errors.New("open files: the root is empty or holds a NUL")
	}
	if m := o.Marker; m != "" && (m == "." || m == ".." || strings.ContainsAny(m, "/\x00")) {
		return nil, errors.New("open files: the marker is not a plain file name")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return &Connector{path: abs, o: o}, nil
}

// Close ends the use of the connector: later calls answer Unknown. Claims that
// are still held go on until they are released. It is idempotent.
func (c *Connector) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// reasonOf gives the reason code for what the kernel said of one name.
func reasonOf(e errno) connector.Reason {
	switch e {
	case unix.EACCES, unix.EPERM, unix.EROFS:
		return connector.NoPermission
	case unix.ELOOP, unix.EXDEV, unix.ENAMETOOLONG, unix.EINVAL:
		return connector.Invalid
	default:
		return connector.Unreachable
	}
}

// failed is the answer for a look that failed, which is never "gone".
func failed(err error) connector.Result {
	var e errno
	var re *rootError
	switch {
	case errors.As(err, &re):
		if errors.Is(re.err, unix.EACCES) {
			return connector.Result{Reason: connector.NoPermission, Err: err}
		}
		return connector.Result{Reason: connector.Unreachable, Err: err}
	case errors.As(err, &e):
		return connector.Result{Reason: reasonOf(e), Err: err}
	default:
		return connector.Result{Reason: connector.Unreachable, Err: err}
	}
}

// absent reports whether e says that a name is not there, given a root that is.
func absent(e errno) bool { return e == unix.ENOENT || e == unix.ENOTDIR }

// all returns n times the same result.
func all(n int, r connector.Result) []connector.Result {
	rs := make([]connector.Result, n)
	for i := range rs {
		rs[i] = r
	}
	return rs
}

func invalid(text string) connector.Result {
	return connector.Result{Reason: connector.Invalid, Err: errors.New(text)}
}
