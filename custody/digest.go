package custody

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// errNotFile reports that what stands at a path has no content to hash.
var errNotFile = errors.New("it is not a regular file")

// errMoved reports that a file was written to while it was read.
var errMoved = errors.New("the file changed while it was read")

// chunk is how much is read at a time: what stays in the cache of a processor until
// it is hashed.
const chunk = 128 << 10

// errNoContent reports a thing in a store whose content cannot be read.
var errNoContent = errors.New("no store whose content can be read covers the file")

// digest returns the SHA-256 and the size of what lies in a store.
func (c *Custody) digest(ctx context.Context, p place) (sum [32]byte, size int64, err error) {
	sum, size, _, err = c.read(ctx, p, make([]byte, chunk))
	return sum, size, err
}

// read returns the SHA-256 and the size of what lies in a store, and how many bytes
// were read for it.
func (c *Custody) read(ctx context.Context, p place, buf []byte) (sum [32]byte, size, read int64, err error) {
	switch s, ok := c.store(p.store); {
	case !ok || s.Root == "" && s.Content == nil || c.elsewhere(p):
		return sum, 0, 0, errNoContent
	case s.Root == "":
		return s.Content.SHA256(ctx, p.at)
	default:
		sum, size, err = readFile(ctx, s.Root, string(p.at), buf)
		return sum, size, size, err
	}
}

// readFile reads a file below a root, without following a link and without waiting
// for a pipe.
func readFile(ctx context.Context, dir, at string, buf []byte) (sum [32]byte, size int64, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return sum, 0, fmt.Errorf("open root: %w", err)
	}
	defer root.Close()
	f, err := root.OpenFile(strings.TrimSuffix(at, "/"), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return sum, 0, fmt.Errorf("open file: %w", err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return sum, 0, err
	}
	if !before.Mode().IsRegular() {
		return sum, 0, errNotFile
	}
	h := sha256.New()
	size, err = hashAll(ctx, h, f, before.Size(), buf)
	if err != nil && err != errFault {
		return sum, 0, err
	}
	after, e := f.Stat()
	switch {
	case e != nil:
		return sum, 0, e
	case after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()):
		return sum, 0, errMoved
	case err != nil:
		return sum, 0, err
	case size != after.Size():
		return sum, 0, errMoved
	}
	return [32]byte(h.Sum(nil)), size, nil
}

// hashAll hashes a file of a size, and returns how much of it there was.
func hashAll(ctx context.Context, h hash.Hash, f *os.File, whole int64, buf []byte) (size int64, err error) {
	for whole >= mappedSize && size < whole {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n := min(mappedSize, whole-size)
		ok, err := mapped(h, int(f.Fd()), size, int(n))
		if err != nil {
			return size, err
		}
		if !ok {
			break
		}
		if size += n; size == whole {
			return size, nil
		}
	}
	if _, err := f.Seek(size, io.SeekStart); err != nil {
		return size, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			return size, nil
		}
		if err != nil {
			return size, fmt.Errorf("read file: %w", err)
		}
	}
}

// Digest returns the SHA-256 and the size of the file at a path in a store, or of
// the thing STORE:LOCATOR, as it would be tracked. A file that was written to meanwhile is an error.
func (c *Custody) Digest(ctx context.Context, path string) (sum [32]byte, size int64, err error) {
	p, err := c.resolver().place(path)
	if err != nil {
		return sum, 0, err
	}
	return c.digest(ctx, p)
}
