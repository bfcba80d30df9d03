package files

import "golang.org/x/sys/unix"

// Beneath opens what lies beneath a directory that the caller holds open: no
// symbolic link is followed, ".." leads nowhere, and no other mount is entered.
// It is the resolver that the connector itself uses, for a package whose store
// is a directory tree too but whose rules of erasure are others. It may be used
// concurrently, and holds no handle.
type Beneath struct{ r resolver }

// NewBeneath returns a resolver for the mount that the open directory fd is on.
func NewBeneath(fd int) (*Beneath, error) {
	var st unix.Statx_t
	if e := statxHandle(fd, &st); e != 0 {
		return nil, e
	}
	return &Beneath{resolver{walk: !hasOpenat2(fd), mount: st.Mnt_id}}, nil
}

// Open opens path, with slashes and without "." or "..", beneath the open
// directory base, close-on-exec. flags must not create anything. Every error is
// a unix.Errno: ELOOP for a link, EXDEV for another mount or a path that climbs.
func (b *Beneath) Open(base int, path string, flags int) (int, error) {
	return b.r.open(base, path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW)
}
