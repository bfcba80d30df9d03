package files

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below take names as bytes that end in NUL. The names of a directory
// are kept that way anyhow, so a look at one costs no allocation, and a name is
// passed to the kernel exactly as it came from it.

// errno is a unix.Errno whose zero value means success.
type errno = unix.Errno

// lookMask is what a look at a name must tell: enough for a fingerprint, for
// the rehearsal of a deletion, and to notice other names of the same data.
const lookMask = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_INO | unix.STATX_SIZE |
	unix.STATX_MTIME | unix.STATX_NLINK | unix.STATX_UID

// statx looks at name, which ends in NUL, in the directory dir. It follows no
// link and mounts nothing.
func statx(dir int, name []byte, flags int, st *unix.Statx_t) errno {
	return statxMask(dir, name, flags|unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, lookMask, st)
}

// statxHandle looks at an open handle itself.
func statxHandle(fd int, st *unix.Statx_t) errno {
	return statxMask(fd, []byte{0}, unix.AT_EMPTY_PATH, lookMask|unix.STATX_MNT_ID, st)
}

func statxMask(dir int, name []byte, flags, mask int, st *unix.Statx_t) errno {
	for {
		_, _, e := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
			uintptr(flags), uintptr(mask), uintptr(unsafe.Pointer(st)), 0)
		if e != unix.EINTR {
			return e
		}
	}
}

// unlinkat removes name, which ends in NUL, from the directory dir.
func unlinkat(dir int, name []byte, flags int) errno {
	for {
		_, _, e := unix.Syscall(unix.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(flags))
		if e != unix.EINTR {
			return e
		}
	}
}

// fsync makes the names of an open directory durable.
func fsync(fd int) error {
	for {
		if err := unix.Fsync(fd); err != unix.EINTR {
			return err
		}
	}
}

// terminated returns name followed by NUL, in buf's memory where it suffices.
func terminated(buf []byte, name string) []byte {
	return append(append(buf[:0], name...), 0)
}

func isType(st *unix.Statx_t, t uint16) bool { return st.Mode&unix.S_IFMT == t }

// device spells a device number as one value.
func device(st *unix.Statx_t) uint64 { return uint64(st.Dev_major)<<32 | uint64(st.Dev_minor) }
