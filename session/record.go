package session

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/owner"
)

// record is what a session says of itself. It holds no personal data.
type record struct {
	Version int       `json:"v"`
	Nonce   string    `json:"nonce"` // tells it from a later session with its id
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// Up is how long the kernel of Boot ran when the session was made. Boot is empty
	// where nothing is to be counted from there.
	Boot string        `json:"boot,omitempty"`
	Up   time.Duration `json:"up,omitempty"`

	Owner owner.Process `json:"owner"`
	// Leased says that the owner holds the directory's lock for as long as the
	// session lives.
	Leased bool `json:"leased"`
	Sealed bool `json:"sealed,omitempty"`
	// Key is the number of the session's key in the kernel; 0: there is none.
	Key int `json:"key,omitempty"`
}

// over reports that the time of a session is over, by the clock and, on the kernel
// on which it was made, by how long that has run since.
func (r *record) over(now time.Time, boot string, up time.Duration) bool {
	if now.Before(r.Expires) {
		return false
	}
	ran := up - r.Up
	comparable := r.Boot != "" && r.Boot == boot && ran >= 0 // below zero it is counted from elsewhere; time_namespaces(7)
	return !comparable || ran >= r.Expires.Sub(r.Created)
}

// uptime is how long this kernel runs, sleep included; clock_gettime(2).
func uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
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

// endNow lets the time of a session be over of which something is left, so that
// the next sweep tries again. Where that cannot be written the session waits for
// its time.
func endNow(dir int, now time.Time) {
	r, err := readRecord(dir)
	if err != nil || !r.Expires.After(now) && r.Boot == "" {
		return
	}
	r.Boot = "" // by a clock that was set ahead its time has passed, and it is not over
	if r.Expires.After(now) {
		r.Expires = now
	}
	b, err := json.Marshal(r)
	if err != nil {
		return
	}
	fd, err := openat(dir, recordName, unix.O_WRONLY|unix.O_NONBLOCK)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	// Cut short it is a damaged record, which a sweep takes in the end.
	if n, err := unix.Pwrite(fd, b, 0); err == nil && n == len(b) {
		_ = unix.Ftruncate(fd, int64(n))
	}
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
