package session

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"filippo.io/age"
)

// Visit is a session that somebody else made, or holds. A visit holds nothing:
// the session may end at any moment. It needs no ledger, because it disposes of
// nothing. Its methods may be called concurrently.
type Visit struct{ x *Session }

// Enter visits the session id in a root. A sealed one must have its key in the
// kernel, for this user or for the program that this process descends from; else
// the error is ErrNoKey, or ErrKeyring where the kernel cannot be asked.
// ErrNoSession reports that no session is there.
func Enter(ctx context.Context, root, id string) (*Visit, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := openStore(root, Options{})
	if err != nil {
		return nil, err
	}
	x, err := s.enter(id)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &Visit{x}, nil
}

func (s *Store) enter(id string) (*Session, error) {
	fd, err := s.under.Open(s.root, id, unix.O_RDONLY|unix.O_DIRECTORY)
	switch err {
	case nil:
	case unix.ENOENT, unix.ELOOP, unix.ENOTDIR, unix.EXDEV:
		return nil, errors.Join(ErrNoSession, s.still())
	default:
		return nil, fmt.Errorf("enter session: %w", err)
	}
	x := &Session{s: s, id: id, fd: fd}
	if x.rec, err = readRecord(fd); err != nil {
		unix.Close(fd)
		return nil, ErrNoSession
	}
	if x.rec.Sealed {
		if x.seal, err = sealOf(x.rec); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("enter session: %w", err)
		}
	}
	return x, nil
}

// sealOf gets the key of a session from the kernel.
func sealOf(r record) (*seal, error) {
	if r.Key == 0 {
		return nil, ErrNoKey
	}
	secret, err := (kernelKey{r.Key, keyName(r.Nonce)}).read()
	if err != nil {
		return nil, err
	}
	id, err := age.ParseX25519Identity(secret)
	if err != nil {
		return nil, ErrNoKey // its text would repeat the key
	}
	return &seal{id: id}, nil
}

// Sealed reports whether what is written is encrypted.
func (v *Visit) Sealed() bool { return v.x.seal != nil }

// Write makes a new file, as [Session.Create] does, of all that from gives, and
// returns how many bytes that were. After an error, of from or of the disk, or when the
// session has ended meanwhile, there is no such file; one that a crash cuts short
// stays, and is damaged where it is sealed.
func (v *Visit) Write(name string, from io.Reader) (int64, error) {
	f, err := v.x.createFile(name)
	if err != nil {
		return 0, err
	}
	var made unix.Statx_t
	if err := statx(int(f.Fd()), "", &made); err != nil {
		return 0, errors.Join(fmt.Errorf("write file: %w", err), f.Close())
	}
	n := int64(0)
	w, err := v.x.sealing(f)
	if err == nil {
		n, err = io.Copy(w, from)
		err = errors.Join(err, w.Close())
	}
	there, lerr := v.x.isAt(name, &made)
	switch {
	case err == nil && lerr == nil && !there:
		return 0, fmt.Errorf("write file: %w", ErrNoSession)
	case err == nil && lerr == nil:
		return n, nil
	}
	if there {
		lerr = v.x.use(name, func(fd int, base string) error { return unlinkat(fd, base, 0) })
	}
	return 0, fmt.Errorf("write file: %w", errors.Join(err, lerr))
}

// isAt reports whether the file that was made is still what has that name, and
// the session still in its place.
func (x *Session) isAt(name string, made *unix.Statx_t) (bool, error) {
	var now unix.Statx_t
	err := statx(x.s.root, x.id, &now)
	if err == nil {
		err = x.use(name, func(fd int, base string) error { return statx(fd, base, &now) })
	}
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil && sameInode(&now, made), err
}

// Open opens a regular file for reading, as [Session.Open] does. In a sealed
// session a file that was cut short is an error at its end, after what is left of
// it.
func (v *Visit) Open(name string) (io.ReadCloser, error) { return v.x.Open(name) }

// Close ends the visit, not the session.
func (v *Visit) Close() error {
	v.x.mu.Lock()
	defer v.x.mu.Unlock()
	if v.x.over {
		return nil
	}
	v.x.over = true
	return errors.Join(unix.Close(v.x.fd), v.x.s.Close())
}
