package session

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"
)

// The calls below take one name, never a path, in an open directory. None
// follows a link.

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// create makes a new file of mode 0600, whatever the umask.
func create(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return -1, err
	}
	if err := unix.Fchmod(fd, 0o600); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// makeDirectory makes a new directory of mode 0700, whatever the umask, and
// opens it.
func makeDirectory(dir int, name string) (int, error) {
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return -1, err
	}
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.EACCES { // a umask that leaves us no right to what we make
		if err = unlock(dir, name); err == nil {
			fd, err = openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
		}
	}
	if err != nil {
		return -1, err
	}
	if err := unix.Fchmod(fd, 0o700); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// unlock gives us the right to a directory of ours, by a handle, so that nothing
// that was put in its place is touched.
func unlock(dir int, name string) error {
	fd, err := openat(dir, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), 0o700)
}

const lookMask = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_MTIME | unix.STATX_CTIME |
	unix.STATX_NLINK | unix.STATX_MNT_ID

func statx(dir int, name string, st *unix.Statx_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	for {
		if err := unix.Statx(dir, name, flags, lookMask, st); err != unix.EINTR {
			return err
		}
	}
}

func unlinkat(dir int, name string, flags int) error {
	for {
		if err := unix.Unlinkat(dir, name, flags); err != unix.EINTR {
			return err
		}
	}
}

func fsync(fd int) error {
	for {
		if err := unix.Fsync(fd); err != unix.EINTR {
			return err
		}
	}
}

// lock takes the lock of an open directory, without waiting.
func lock(fd int) error {
	for {
		if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

func isType(st *unix.Statx_t, t uint16) bool { return st.Mode&unix.S_IFMT == t }

func sameInode(a, b *unix.Statx_t) bool {
	return a.Ino == b.Ino && a.Dev_major == b.Dev_major && a.Dev_minor == b.Dev_minor
}

// names reads all names of an open directory, from its start.
func names(fd int, buf []byte, out []string) ([]string, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return out, err
	}
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return out, err
		}
		for b := buf[:n]; len(b) > 0; {
			size := binary.NativeEndian.Uint16(b[16:])
			name := b[19:size]
			b = b[size:]
			for i, c := range name {
				if c == 0 {
					name = name[:i]
					break
				}
			}
			if s := string(name); s != "." && s != ".." {
				out = append(out, s)
			}
		}
	}
}

// print spells the version of a thing that is not a session: type, inode, size,
// and when it was last changed in any way.
func printOf(st *unix.Statx_t) string {
	b := append(make([]byte, 0, 64), 'x')
	for _, n := range []uint64{uint64(st.Mode & unix.S_IFMT), st.Ino, st.Size, uint64(st.Ctime.Sec), uint64(st.Ctime.Nsec)} {
		b = strconv.AppendUint(append(b, '.'), n, 36)
	}
	return string(b)
}
