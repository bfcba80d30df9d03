package demo

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// disk writes the files of the data directory.
type disk struct{ dir string }

func newDisk(dir string) (*disk, error) {
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	return &disk{dir}, nil
}

// blob writes one encrypted recording: random bytes in the dress of a Fernet
// token.
func (d *disk) blob(sha string, r *rand.Rand, at time.Time) error {
	raw := make([]byte, 180+r.IntN(900))
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	raw[0] = 0x80
	text := base64.URLEncoding.AppendEncode(nil, raw)
	return write(filepath.Join(d.dir, "files", sha+".bin"), text, at)
}

// export writes one archive as a user would have downloaded it.
func (d *disk) export(id string, r *rand.Rand, at time.Time) error {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateHeader(&zip.FileHeader{Name: "transcript.txt", Method: zip.Deflate, Modified: at})
	if err != nil {
		return fmt.Errorf("make export: %w", err)
	}
	for range 3 + r.IntN(5) {
		fmt.Fprintln(w, sentence(r))
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("make export: %w", err)
	}
	return write(filepath.Join(d.dir, "export-"+id+".zip"), b.Bytes(), at)
}

func write(path string, text []byte, at time.Time) error {
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		return fmt.Errorf("date file: %w", err)
	}
	return nil
}
