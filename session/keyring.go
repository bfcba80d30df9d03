package session

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrKeyring reports that the kernel takes no key: it was built without keys, a
	// filter of system calls denies them, as those of containers do, or this user
	// has as many as it may (EDQUOT). It wraps the kernel's error number.
	ErrKeyring = errors.New("the kernel's keyring cannot be used")
	// ErrNoKey reports that the key of a sealed session is not to be had. It wraps
	// the kernel's error number: EKEYEXPIRED, its time is over; EACCES, it is for
	// another user, or for the program alone that runs in the session; otherwise
	// nobody has it any more, or a process in its own memory only.
	ErrNoKey = errors.New("the key of the session is not to be had")
)

// A key of type "user" is kept in memory of the kernel, which is never written to
// swap, and overwritten with zeros when it is dropped: keyctl(2), and
// security/keys/user_defined.c in the kernel.
const keyType = "user"

// Rights of a key, from include/linux/key.h: its possessor's, who reaches it by
// his keyrings, and in the third byte those of any process of its owner.
const (
	mayView, mayRead, mayWrite, maySearch, mayLink = 1, 2, 4, 8, 16
	ofPossessor, ofUser                            = 24, 16

	possessorMay = (mayView | mayRead | mayWrite | maySearch | mayLink) << ofPossessor
)

// keeper puts a secret into the kernel for the length of ttl, under a name, and
// returns its number.
type keeper func(name, secret string, ttl time.Duration) (serial int, err error)

// keyName is the name of the key of a session with that nonce. It tells nothing
// of anybody: every process of the user sees it in /proc/keys.
func keyName(nonce string) string { return "epitaph-session:" + nonce }

// keepForUser lets every process of this user have the key, as it may have the
// files: it hangs on the user's keyring, which outlives all of them, until it is
// dropped, its time is over, or the kernel ends.
func keepForUser(name, secret string, ttl time.Duration) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Before it has its time and its rights only this thread has it.
	serial, err := addKey(unix.KEY_SPEC_THREAD_KEYRING, name, secret, ttl, possessorMay|(mayView|mayRead|mayWrite)<<ofUser)
	if err != nil {
		return 0, err
	}
	_, err = unix.KeyctlInt(unix.KEYCTL_LINK, serial, unix.KEY_SPEC_USER_KEYRING, 0, 0)
	_, uerr := unix.KeyctlInt(unix.KEYCTL_UNLINK, serial, unix.KEY_SPEC_THREAD_KEYRING, 0, 0)
	if err = errors.Join(err, uerr); err != nil {
		return 0, errors.Join(refusedKey(err), kernelKey{serial, name}.drop())
	}
	return serial, nil
}

// keepForChildren lets the programs have the key that this thread starts, and
// theirs. It hangs on a new session keyring of this thread alone: the kernel
// destroys it with the last process that has the keyring. Other processes of the
// user can drop the key, and not read it. The keys that the thread had before stay
// in reach.
func keepForChildren(name, secret string, ttl time.Duration) (int, error) {
	before, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err == nil {
		// Without a name: nobody else can join it.
		_, err = unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	}
	if err != nil {
		return 0, refusedKey(err)
	}
	// No key of ours depends on it, so that a refusal is no failure.
	_, _ = unix.KeyctlInt(unix.KEYCTL_LINK, before, unix.KEY_SPEC_SESSION_KEYRING, 0, 0)
	return addKey(unix.KEY_SPEC_SESSION_KEYRING, name, secret, ttl, possessorMay|(mayView|mayWrite)<<ofUser)
}

func addKey(ring int, name, secret string, ttl time.Duration, rights uint32) (int, error) {
	serial, err := unix.AddKey(keyType, name, []byte(secret), ring)
	if err != nil {
		return 0, refusedKey(err)
	}
	seconds := (ttl + time.Second - 1) / time.Second
	_, err = unix.KeyctlInt(unix.KEYCTL_SET_TIMEOUT, serial, int(seconds), 0, 0)
	if err == nil {
		err = unix.KeyctlSetperm(serial, rights)
	}
	if err != nil {
		return 0, errors.Join(refusedKey(err), kernelKey{serial, name}.drop())
	}
	return serial, nil
}

func refusedKey(err error) error { return fmt.Errorf("%w: %w", ErrKeyring, err) }

// kernelKey is a key by its number, and the name that tells it from another one
// that got the number later.
type kernelKey struct {
	serial int
	name   string
}

// look returns nil where the key is there and lives. ErrNoKey says that it is
// not, and any other error that this cannot be said.
func (k kernelKey) look() error {
	text, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, k.serial)
	switch err {
	case nil:
	case unix.ENOKEY, unix.EKEYEXPIRED, unix.EKEYREVOKED, unix.EACCES:
		return fmt.Errorf("%w: %w", ErrNoKey, err)
	default:
		return refusedKey(err)
	}
	// "type;uid;gid;rights;name"
	if part := strings.SplitN(text, ";", 5); len(part) != 5 || part[0] != keyType || part[4] != k.name {
		return fmt.Errorf("%w: %w", ErrNoKey, unix.ENOKEY)
	}
	return nil
}

// read returns the secret.
func (k kernelKey) read() (string, error) {
	if err := k.look(); err != nil {
		return "", err
	}
	buf := make([]byte, 256)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, k.serial, buf, 0)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	if n > len(buf) { // no secret of ours is that long
		return "", ErrNoKey
	}
	return string(buf[:n]), nil
}

// drop destroys the key and looks again. It is a no-op for a key that is gone,
// and for none.
func (k kernelKey) drop() error {
	if k.serial == 0 || k.gone(k.look()) {
		return nil
	}
	_, err := unix.KeyctlInt(unix.KEYCTL_REVOKE, k.serial, 0, 0, 0)
	// So that it does not count any more for what the user may have. It may hang
	// elsewhere.
	_, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, k.serial, unix.KEY_SPEC_USER_KEYRING, 0, 0)
	seen := k.look()
	if k.gone(seen) {
		return nil
	}
	return errors.Join(errors.New("the key stays in the kernel"), err, seen)
}

// gone reports that look saw the end of the key. One that may not be looked at is
// not gone.
func (k kernelKey) gone(seen error) bool {
	return errors.Is(seen, ErrNoKey) && !errors.Is(seen, unix.EACCES)
}
