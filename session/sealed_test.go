package session_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/session"
)

// What is written through a sealed session is on disk as an age stream only, and
// can be read through that session and no other.
func TestSealed(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed = true
	s := b.store()
	x, other := b.session(s), b.session(s)
	text := strings.Repeat("patient anna smith ", 10_000)
	b.write(x, "note.txt", text)
	disk, err := os.ReadFile(filepath.Join(x.Path(), "note.txt"))
	b.must(err)
	if !bytes.HasPrefix(disk, []byte("age-encryption.org/v1\n")) || bytes.Contains(disk, []byte("anna")) {
		t.Errorf("on disk: %.60q", disk)
	}
	r, err := x.Open("note.txt")
	b.must(err)
	got, err := io.ReadAll(r)
	b.must(err)
	b.must(r.Close())
	if string(got) != text {
		t.Error("what was read is not what was written")
	}
	// The bytes of one session mean nothing to another, and a file cut short or
	// changed is not read as if it were whole.
	b.must(os.WriteFile(filepath.Join(other.Path(), "note.txt"), disk, 0o600))
	if _, err := other.Open("note.txt"); !errors.Is(err, session.ErrUnsealable) {
		t.Errorf("another session: %v", err)
	}
	flipped := bytes.Clone(disk)
	flipped[len(flipped)-1] ^= 1
	for name, bad := range map[string][]byte{"short": disk[:len(disk)-10], "flipped": flipped, "plain": []byte("plain")} {
		b.must(os.WriteFile(filepath.Join(x.Path(), name), bad, 0o600))
		r, err := x.Open(name)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if !errors.Is(err, session.ErrUnsealable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	infos, _, err := s.List(t.Context())
	b.must(err)
	if len(infos) != 2 || !infos[0].Sealed {
		t.Errorf("list: %+v", infos)
	}
	e, err := x.Close()
	b.must(err)
	b.ended(e, "gone GONE: 4 gone, 0 left, 0 unknown")
	if _, err := x.Open("note.txt"); !errors.Is(err, session.ErrClosed) {
		t.Errorf("open after close: %v", err)
	}
}

// The record of a sealed session holds no key.
func TestSealedKeyIsNotOnDisk(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.o.Sealed = true
	x, err := b.store().NewID(t.Context(), "a", time.Hour)
	b.must(err)
	defer x.Close()
	rec, err := os.ReadFile(b.path("a", ".epitaph-session"))
	b.must(err)
	if strings.Contains(string(rec), "AGE-SECRET-KEY") || strings.Contains(string(rec), "age1") {
		t.Errorf("record: %s", rec)
	}
}
