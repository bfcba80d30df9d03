package custody

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Owner names the process that answers for a file, so that it can be told from a
// later one with the same number. The zero Owner is nobody.
type Owner struct {
	Host  string
	Boot  string // the kernel's boot id
	PID   int
	Start int64 // clock ticks from boot to the start of the process; proc(5)
	Space int64 // the process namespace in which PID counts
}

// firstSpace is the namespace of the host itself; proc_ns.h, PROC_PID_INIT_INO.
const firstSpace = 0xEFFFFFFC

// Life is what is known of an owner.
type Life uint8

// What is known of an owner. Unknown is the zero value on purpose.
const (
	LifeUnknown Life = iota // nobody, on another host, in another namespace, or not to be seen
	Alive
	Dead
)

// String returns "unknown", "alive" or "dead".
func (l Life) String() string { return [...]string{"unknown", "alive", "dead"}[min(l, Dead)] }

// Process returns the owner that stands for a process of this host. Only Linux
// tells enough of a process; elsewhere it is an error.
func Process(host string, pid int) (Owner, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Owner{}, fmt.Errorf("read boot id: %w", err)
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return Owner{}, fmt.Errorf("read process namespace: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(space, "pid:["), "]"), 10, 64)
	if err != nil {
		return Owner{}, fmt.Errorf("read process namespace: %w", err)
	}
	start, _, err := processStat(pid)
	if err != nil {
		return Owner{}, fmt.Errorf("read process: %w", err)
	}
	return Owner{Host: host, Boot: strings.TrimSpace(string(boot)), PID: pid, Start: start, Space: n}, nil
}

// processStat reads the start and the state of a process; proc(5).
func processStat(pid int) (start int64, state byte, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	// The name, in parentheses, may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return 0, 0, fmt.Errorf("stat has %d fields", len(f))
	}
	start, err = strconv.ParseInt(f[19], 10, 64)
	return start, f[0][0], err
}

// life says what the process me can know of o. It never guesses: a process on
// another host or in another namespace may live for all that can be seen here.
func (me Owner) life(o Owner) Life {
	switch {
	case o.PID <= 0 || o.Boot == "" || me.Boot == "":
		return LifeUnknown
	case o.Boot != me.Boot:
		// Another boot of this very host: its processes are gone. A container has
		// no host of its own; its name may stand on two machines.
		if o.Host == me.Host && o.Host != "" && o.Space == firstSpace && me.Space == firstSpace {
			return Dead
		}
		return LifeUnknown
	case o.Space != me.Space:
		return LifeUnknown
	}
	if unix.Kill(o.PID, 0) == unix.ESRCH {
		return Dead
	}
	start, state, err := processStat(o.PID)
	switch {
	case err != nil:
		return LifeUnknown // it may be hidden from us
	case start != o.Start || state == 'Z' || state == 'X':
		return Dead
	default:
		return Alive
	}
}
