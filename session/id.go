package session

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// MaxID is the length of the longest id, in bytes.
const MaxID = 128

// ErrID reports an id that no session can have.
var ErrID = errors.New("not a session id")

// ErrName reports a file name that cannot be inside of a session: empty,
// absolute, climbing, with a NUL, too long, or that of the owner record.
var ErrName = errors.New("not a name inside of a session")

// CheckID returns an error that wraps ErrID unless id is made of 1 to 128
// letters, digits and _ . - of ASCII, and does not begin with . or -. It looks
// at nothing but the text.
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: it is empty", ErrID)
	case len(id) > MaxID:
		return fmt.Errorf("%w: it is longer than %d bytes", ErrID, MaxID)
	case !utf8.ValidString(id):
		return fmt.Errorf("%w: it is not UTF-8", ErrID)
	case id[0] == '.' || id[0] == '-':
		return fmt.Errorf("%w: it begins with %q", ErrID, id[0])
	}
	for _, c := range id {
		if !idByte(c) {
			return fmt.Errorf("%w: it holds %q", ErrID, c)
		}
	}
	return nil
}

func idByte(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
}

// newID makes an id of 128 random bits.
func newID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("name session: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

const (
	recordName = ".epitaph-session"
	markerName = ".epitaph-sessions"
)

// checkName refuses what cannot be a path inside of a session.
func checkName(name string) error {
	if name == "" || len(name) > 4000 || strings.IndexByte(name, 0) >= 0 || name == recordName {
		return ErrName
	}
	for el := range strings.SplitSeq(name, "/") {
		if el == "" || el == "." || el == ".." || len(el) > 255 {
			return ErrName
		}
	}
	return nil
}

// pathless takes the path out of an error of the system: it is personal data.
func pathless(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
