// Package owner names a process so that it can be told from every other, also
// from a later one with the same number, and says whether it still lives. What
// cannot be seen from here — another host, another process namespace — is
// unknown, never guessed.
package owner

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/ledger"
)

// Process is one process, that of an application that answers for a session or
// a file. The zero Process is nobody. But for the path of a lease it holds no
// personal data.
type Process struct {
	Host string `json:"host,omitempty"`
	// Boot is the kernel's boot id.
	Boot string `json:"boot,omitempty"`
	PID  int    `json:"pid,omitempty"`
	// Start is when the process started, in clock ticks since boot; proc(5).
	Start int64 `json:"start,omitempty"`
	// Space is the process namespace in which PID counts.
	Space int64 `json:"space,omitempty"`
	// Lease is asked where the process cannot be seen. It is no fact of an entry.
	Lease Lease `json:"-"`
}

// firstSpace is the namespace of the host itself; proc_ns.h, PROC_PID_INIT_INO.
const firstSpace = 0xEFFFFFFC

// Life is what is known of a process.
type Life uint8

// What is known of a process. Unknown is the zero value on purpose.
const (
	Unknown Life = iota // nobody, on another host, in another namespace, or not to be seen
	Alive
	Dead
)

// String returns "unknown", "alive" or "dead".
func (l Life) String() string { return [...]string{"unknown", "alive", "dead"}[min(l, Dead)] }

// Of returns the process of this host, in this process namespace, that has the
// number pid. Only Linux tells enough of a process; elsewhere it is an error. An
// error names no path.
func Of(host string, pid int) (Process, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, fmt.Errorf("read boot id: %w", pathless(err))
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return Process{}, fmt.Errorf("read process namespace: %w", pathless(err))
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(space, "pid:["), "]"), 10, 64)
	if err != nil {
		return Process{}, errors.New("read process namespace: it has no number")
	}
	start, _, err := stat(pid)
	if err != nil {
		return Process{}, fmt.Errorf("read process: %w", pathless(err))
	}
	return Process{Host: host, Boot: strings.TrimSpace(string(boot)), PID: pid, Start: start, Space: n}, nil
}

// stat reads the start and the state of a process from /proc/PID/stat; proc(5).
func stat(pid int) (start int64, state byte, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	// The name, in parentheses, may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return 0, 0, errors.New("stat has too few fields")
	}
	start, err = strconv.ParseInt(f[19], 10, 64)
	return start, f[0][0], err
}

func pathless(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Life says what the process me can know of o: by the process, and where that
// cannot be seen but runs on the same kernel, by the lease.
func (me Process) Life(o Process) Life {
	l := me.seen(o)
	if l == Unknown && o.Lease != (Lease{}) && o.Boot != "" && o.Boot == me.Boot {
		return o.Lease.life()
	}
	return l
}

// seen says what is known of the process itself.
func (me Process) seen(o Process) Life {
	switch {
	case o.PID <= 0 || o.Boot == "" || me.Boot == "":
		return Unknown
	case o.Boot != me.Boot:
		// Another boot of this very host: its processes are gone. A container has
		// no host of its own; its name may stand on two machines.
		if o.Host == me.Host && o.Host != "" && o.Space == firstSpace && me.Space == firstSpace {
			return Dead
		}
		return Unknown
	case o.Space != me.Space:
		return Unknown
	}
	if unix.Kill(o.PID, 0) == unix.ESRCH {
		return Dead
	}
	start, state, err := stat(o.PID)
	switch {
	case err != nil:
		return Unknown // it may be hidden from us
	case start != o.Start || state == 'Z' || state == 'X':
		return Dead
	default:
		return Alive
	}
}

// Facts are the process as public facts of an entry; From reads them.
func (o Process) Facts() []ledger.Fact {
	return []ledger.Fact{
		ledger.Code("host", ledger.SafeCode(o.Host)), ledger.Code("boot", ledger.SafeCode(o.Boot)),
		ledger.Int("pid", int64(o.PID)), ledger.Int("start", o.Start), ledger.Int("space", o.Space),
	}
}

// From returns the process that the facts of an entry name, nobody where there
// are none.
func From(e ledger.Entry) Process {
	var o Process
	o.Host, _ = e.Code("host")
	o.Boot, _ = e.Code("boot")
	pid, _ := e.Int("pid")
	o.PID = int(pid)
	o.Start, _ = e.Int("start")
	o.Space, _ = e.Int("space")
	return o
}
