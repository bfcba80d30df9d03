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

// digest reads a file of a store on disk, without following a link and without
// waiting for a pipe, and returns the SHA-256 and the number of the bytes read.
func (c *Custody) digest(ctx context.Context, p place) (sum [32]byte, size int64, err error) {
	return c.read(ctx, p, make([]byte, chunk))
}

func (c *Custody) read(ctx context.Context, p place, buf []byte) (sum [32]byte, size int64, err error) {
	s, ok := c.store(p.store)
	if !ok || s.Root == "" {
		return sum, 0, errors.New("no store on disk covers the file")
	}
	root, err := os.OpenRoot(s.Root)
	if err != nil {
		return sum, 0, fmt.Errorf("open root: %w", err)
	}
	defer root.Close()
	f, err := root.OpenFile(strings.TrimSuffix(string(p.at), "/"), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
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

// Digest returns the SHA-256 and the size of the file at a path in a store on
// disk, as it would be tracked. A file that was written to meanwhile is an error.
func (c *Custody) Digest(ctx context.Context, path string) (sum [32]byte, size int64, err error) {
	p, err := c.resolver().place(path)
	if err != nil {
		return sum, 0, err
	}
	return c.digest(ctx, p)
}
