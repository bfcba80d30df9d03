package custody

import (
	"errors"
	"hash"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// errFault reports a part of a file that could not be read.
var errFault = errors.New("a part of the file cannot be read")

// mappedSize is how much of a file is mapped at a time.
const mappedSize = 1 << 20

// mapped hashes a part of a file where the kernel has it. The copy that it saves is
// an eighth of the work of hashing what is in memory already. A part that cannot be
// mapped is not ok, and is to be read. A fault, when the file was cut short or its
// disk fails, is an error and does not end the program.
func mapped(h hash.Hash, fd int, offset int64, size int) (ok bool, err error) {
	b, err := unix.Mmap(fd, offset, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return false, nil
	}
	defer func() {
		if fault := recover(); fault != nil {
			if _, is := fault.(interface{ Addr() uintptr }); !is {
				panic(fault)
			}
			err = errFault
		}
		_ = unix.Munmap(b)
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	_ = unix.Madvise(b, unix.MADV_SEQUENTIAL) // it is only a hint
	h.Write(b)
	return true, nil
}
