package pace

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A pause file stops work as long as it is there. What is in it does not matter,
// but for one form: "until", a space, and an RFC 3339 instant, from which on it
// stops nothing.
const untilWord = "until "

// mostPause is more than a pause file with an instant holds.
const mostPause = 100

// ReadPause reports whether the pause file is there and holds at now, and until
// when; zero means until it is removed. A file that cannot be looked for is an
// error, and whoever asks must wait: it may be there.
func ReadPause(path string, now time.Time) (on bool, until time.Time, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, time.Time{}, nil
	}
	if err != nil {
		return true, time.Time{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > mostPause {
		return true, time.Time{}, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, time.Time{}, nil // taken away since
	}
	if err != nil {
		return true, time.Time{}, nil // there, and whatever it says
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostPause))
	if err != nil {
		return true, time.Time{}, nil
	}
	instant, ok := bytes.CutPrefix(bytes.TrimSpace(text), []byte(untilWord))
	if !ok {
		return true, time.Time{}, nil
	}
	until, err = time.Parse(time.RFC3339, string(instant))
	if err != nil {
		return true, time.Time{}, nil
	}
	return now.Before(until), until.UTC(), nil
}

// WritePause makes the pause file, in one step, in the place of one that is
// there. A zero until means until it is removed.
func WritePause(path string, until time.Time) error {
	text := "paused\n"
	if !until.IsZero() {
		text = untilWord + until.UTC().Format(time.RFC3339) + "\n"
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".epitaph-pause-*")
	if err != nil {
		return err
	}
	// A purge may run as another user, who must be able to read it.
	err = f.Chmod(0o644)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
