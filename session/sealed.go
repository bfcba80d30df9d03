package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"filippo.io/age"
)

// seal encrypts the files of one session, with an identity that is nowhere but
// in the memory of this process.
//
// What that means, exactly: after a crash or a power cut nobody can read what
// was written through it, as if it had been erased. It does not protect from
// whoever can read this process's memory while it runs, from memory that was
// written to swap or to a core dump, nor does it cover what other programs write
// into the directory.
type seal struct {
	mu sync.RWMutex
	id *age.X25519Identity
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

// forget drops the key. It is a no-op on nil.
func (k *seal) forget() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.id = nil
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
