package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"filippo.io/age"
)

// seal encrypts the files of one session, with an identity that is nowhere but
// in the memory of this process and, where it was handed on, in the kernel.
//
// What that means, exactly: once the identity is gone nobody can read what was
// written through it, as if it had been erased. It is gone from this process with
// its end, and from the kernel when it is dropped, when its time is over, and with
// a reboot or a power cut. It does not protect from whoever can read the memory
// of a process that has it, from memory that was written to swap, to a core dump or
// for hibernation, nor does it cover what other programs write into the directory.
type seal struct {
	mu   sync.RWMutex
	id   *age.X25519Identity
	kept kernelKey
}

// ErrUnsealable reports a file that this session's key does not open: it was not
// written through it, or it was cut short or changed.
var ErrUnsealable = errors.New("not sealed with the key of this session, or damaged")

func newSeal() (*seal, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return &seal{id: id}, nil
}

// hand gives the key to a keeper, and returns its number there.
func (k *seal) hand(to keeper, name string, ttl time.Duration) (serial int, err error) {
	if to == nil {
		return 0, nil
	}
	serial, err = to(name, k.id.String(), ttl)
	k.kept = kernelKey{serial, name}
	return serial, err
}

// forget drops the key, here and in the kernel. The error says that the kernel
// still has it, or may. It is a no-op on nil.
func (k *seal) forget() error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.id = nil
	return k.kept.drop()
}

func (k *seal) identity() (*age.X25519Identity, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.id == nil {
		return nil, ErrClosed
	}
	return k.id, nil
}

type sealedWriter struct {
	io.WriteCloser
	f *os.File
}

// Close writes the end of the stream and closes the file.
func (w sealedWriter) Close() error { return errors.Join(w.WriteCloser.Close(), w.f.Close()) }

func (k *seal) writer(f *os.File) (io.WriteCloser, error) {
	id, err := k.identity()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	w, err := age.Encrypt(f, id.Recipient())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("seal file: %w", err), f.Close())
	}
	return sealedWriter{w, f}, nil
}

type sealedReader struct {
	io.Reader
	f *os.File
}

func (r sealedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = ErrUnsealable
	}
	return n, err
}

func (r sealedReader) Close() error { return r.f.Close() }

func (k *seal) reader(f *os.File) (io.ReadCloser, error) {
	id, err := k.identity()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := age.Decrypt(f, id)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open file: %w", ErrUnsealable), f.Close())
	}
	return sealedReader{r, f}, nil
}
