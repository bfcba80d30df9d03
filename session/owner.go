package session

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/ledger"
)

// Owner names one process, so that it can be told from a later one with the same
// number. The zero Owner is nobody.
type Owner struct {
	Host string `json:"host,omitempty"`
	// Boot is the kernel's boot id.
	Boot string `json:"boot,omitempty"`
	PID  int    `json:"pid,omitempty"`
	// Start is when the process started, in clock ticks since boot.
	Start int64 `json:"start,omitempty"`
	// Space is the process namespace in which PID counts.
	Space int64 `json:"space,omitempty"`
}

// firstSpace is the namespace of the host itself; proc_ns.h, PROC_PID_INIT_INO.
const firstSpace = 0xEFFFFFFC

// Life is what is known of an owner.
type Life uint8

// What is known of an owner. Unknown is the zero value on purpose.
const (
	LifeUnknown Life = iota // on another host, in another namespace, or not to be seen
	Alive
	Dead
)

// Process returns the owner that stands for a process of this host, in this
// process namespace.
func Process(host string, pid int) (Owner, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Owner{}, fmt.Errorf("read boot id: %w", pathless(err))
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return Owner{}, fmt.Errorf("read namespace: %w", pathless(err))
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(space, "pid:["), "]"), 10, 64)
	if err != nil {
		return Owner{}, errors.New("read namespace: it has no number")
	}
	start, _, err := stat(pid)
	if err != nil {
		return Owner{}, fmt.Errorf("read process: %w", pathless(err))
	}
	return Owner{Host: host, Boot: strings.TrimSpace(string(boot)), PID: pid, Start: start, Space: n}, nil
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

// life says what the process me can know of o.
func (me Owner) life(o Owner) Life {
	switch {
	case o.PID == 0 || o.Boot == "":
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
	start, state, err := stat(o.PID)
	switch {
	case err != nil:
		return LifeUnknown // it may be hidden from us
	case start != o.Start || state == 'Z' || state == 'X':
		return Dead
	default:
		return Alive
	}
}

// facts are the owner as public facts of an intent, and ownerOf reads them.
func (o Owner) facts() []ledger.Fact {
	return []ledger.Fact{
		ledger.Code("host", ledger.SafeCode(o.Host)), ledger.Code("boot", ledger.SafeCode(o.Boot)),
		ledger.Int("pid", int64(o.PID)), ledger.Int("start", o.Start), ledger.Int("space", o.Space),
	}
}

func ownerOf(e ledger.Entry) Owner {
	var o Owner
	o.Host, _ = e.Code("host")
	o.Boot, _ = e.Code("boot")
	pid, _ := e.Int("pid")
	o.PID = int(pid)
	o.Start, _ = e.Int("start")
	o.Space, _ = e.Int("space")
	return o
}

// record is what a session says of itself. It holds no personal data.
type record struct {
	Version int       `json:"v"`
	Nonce   string    `json:"nonce"` // tells it from a later session with its id
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Owner   Owner     `json:"owner"`
	// Leased says that the owner holds the directory's lock for as long as the
	// session lives.
	Leased bool `json:"leased"`
	Sealed bool `json:"sealed,omitempty"`
}

func newNonce(random io.Reader) (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("name session: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// mostRecord bounds what is read of an owner record.
const mostRecord = 4096

var errRecord = errors.New("the owner record is not one")

// write puts the record into the open session directory.
func (r record) write(dir int) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fd, err := create(dir, recordName)
	if err != nil {
		return err
	}
	n, err := unix.Write(fd, b)
	if e := unix.Close(fd); err == nil {
		err = e
	}
	if err == nil && n != len(b) {
		err = unix.EIO
	}
	return err
}

// readRecord reads the record of the open session directory. errRecord means
// that there is something else in its place.
func readRecord(dir int) (record, error) {
	var r record
	fd, err := openat(dir, recordName, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return r, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return r, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > mostRecord {
		return r, errRecord
	}
	b := make([]byte, mostRecord)
	n, err := unix.Read(fd, b)
	if err != nil {
		return r, err
	}
	d := json.NewDecoder(bytes.NewReader(b[:n]))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || d.More() || r.Version != 1 || r.Nonce == "" || r.Expires.IsZero() {
		return record{}, errRecord
	}
	return r, nil
}
