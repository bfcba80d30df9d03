package custody

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// errNotFile reports that what stands at a path has no content to hash.
var errNotFile = errors.New("it is not a regular file")

// errMoved reports that a file was written to while it was read.
var errMoved = errors.New("the file changed while it was read")

// chunk is how much is read at a time.
const chunk = 1 << 20

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
	for {
		if err := ctx.Err(); err != nil {
			return sum, 0, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return sum, 0, fmt.Errorf("read file: %w", err)
		}
	}
	after, err := f.Stat()
	if err != nil {
		return sum, 0, err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) || size != after.Size() {
		return sum, 0, errMoved
	}
	return [32]byte(h.Sum(nil)), size, nil
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
