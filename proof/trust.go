package proof

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// TrustedKey is a log's key and when it was in use. A zero From or Until is no
// bound. Both are inclusive, to the second.
type TrustedKey struct {
	Key
	From, Until time.Time
}

// usedAt reports that the key was in use. A checkpoint that does not say when
// it was signed is believed only if the key has no bounds.
func (k TrustedKey) usedAt(at time.Time) bool {
	if at.IsZero() {
		return k.From.IsZero() && k.Until.IsZero()
	}
	return (k.From.IsZero() || !at.Before(k.From.Truncate(time.Second))) && (k.Until.IsZero() || !at.After(k.Until))
}

// Trust is whose signatures are believed. It holds no secret.
type Trust struct {
	Logs      []TrustedKey
	Witnesses []Key
	// Quorum is how many of the witnesses must have cosigned. 0 asks for none.
	Quorum int
}

// TrustKeys trusts the given keys without bounds in time: log keys and witness
// keys, told apart by their type.
func TrustKeys(vkeys ...string) (Trust, error) {
	var t Trust
	for _, v := range vkeys {
		k, err := ParseKey(v)
		if err != nil {
			return Trust{}, err
		}
		if k.Witness {
			t.Witnesses = addWitness(t.Witnesses, k)
		} else {
			t.Logs = append(t.Logs, TrustedKey{Key: k})
		}
	}
	return t, nil
}

// addWitness adds a key that is not in the list: the same key under two names
// is one witness.
func addWitness(list []Key, w Key) []Key {
	if slices.ContainsFunc(list, func(k Key) bool { return bytes.Equal(k.public, w.public) }) {
		return list
	}
	return append(list, w)
}

// verifiers knows both types of signature of a log's key, so that a note with
// a bad one is refused.
func (t Trust) verifiers() note.Verifiers {
	type id struct {
		name string
		hash uint32
	}
	seen := map[id]bool{}
	var list []note.Verifier
	add := func(v verifier) {
		if k := (id{v.Name(), v.KeyHash()}); !seen[k] {
			seen[k] = true
			list = append(list, v)
		}
	}
	for _, k := range t.Logs {
		add(verifier{k.Key, algNote})
		add(verifier{k.Key, algCosignature})
	}
	for _, k := range t.Witnesses {
		add(verifier{k, algCosignature})
	}
	return note.VerifierList(list...)
}

const (
	trustHeader = "epitaph/trust v1"
	keysHeader  = "epitaph/keys v1"
	maxKeyFile  = 1 << 20
)

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func parseTime(s string) (time.Time, error) {
	if s == "-" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || formatTime(t) != s {
		return time.Time{}, errors.New("a time that does not read like 2026-03-01T12:00:00Z")
	}
	return t, nil
}

func (k TrustedKey) line() string {
	return k.Key.String() + " " + formatTime(k.From) + " " + formatTime(k.Until)
}

func parseTrusted(s string) (TrustedKey, error) {
	f := strings.Split(s, " ")
	if len(f) != 3 {
		return TrustedKey{}, errors.New("it must read KEY FROM UNTIL")
	}
	k, err := ParseKey(f[0])
	if err != nil {
		return TrustedKey{}, err
	}
	from, err := parseTime(f[1])
	if err != nil {
		return TrustedKey{}, err
	}
	until, err := parseTime(f[2])
	if err == nil && k.Witness {
		err = errors.New("a witness's key where a log's belongs")
	}
	return TrustedKey{k, from, until}, err
}

// String is the text of a trust file, which ParseTrust reads: what someone
// needs who checks receipts.
func (t Trust) String() string {
	var b strings.Builder
	b.WriteString(trustHeader + "\n")
	for _, k := range t.Logs {
		b.WriteString("log " + k.line() + "\n")
	}
	for _, w := range t.Witnesses {
		b.WriteString("witness " + w.String() + "\n")
	}
	if t.Quorum > 0 {
		fmt.Fprintf(&b, "quorum %d\n", t.Quorum)
	}
	return b.String()
}

// ParseTrust reads a trust file. The error names the line.
func ParseTrust(text string) (Trust, error) {
	var t Trust
	err := eachLine(text, trustHeader, func(word, rest string) (err error) {
		switch word {
		case "log":
			var k TrustedKey
			k, err = parseTrusted(rest)
			t.Logs = append(t.Logs, k)
		case "witness":
			var k Key
			if k, err = ParseKey(rest); err == nil && !k.Witness {
				err = errors.New("a log's key where a witness's belongs")
			}
			if err == nil {
				t.Witnesses = addWitness(t.Witnesses, k)
			}
		case "quorum":
			var n int64
			n, err = parseSize(rest)
			t.Quorum = int(n)
		default:
			err = errors.New("it begins with none of log, witness, quorum")
		}
		return err
	})
	if err == nil && t.Quorum > len(t.Witnesses) {
		err = fmt.Errorf("trust file: a quorum of %d of %d witnesses", t.Quorum, len(t.Witnesses))
	}
	if err != nil {
		return Trust{}, err
	}
	return t, nil
}

// eachLine visits the lines after the header, split at the first space.
func eachLine(text, header string, visit func(word, rest string) error) error {
	if len(text) > maxKeyFile {
		return errors.New("the file is longer than it can be")
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines[0] != header {
		return fmt.Errorf("line 1: it must read %q", header)
	}
	for i, line := range lines[1:] {
		word, rest, _ := strings.Cut(line, " ")
		if err := visit(word, rest); err != nil {
			return fmt.Errorf("line %d: %w", i+2, err)
		}
	}
	return nil
}

// Keys is what the keeper of a log has: the key it signs with, and the public
// keys it signed with before.
type Keys struct {
	Signer  *Signer
	Since   time.Time
	Retired []TrustedKey
}

// Trust returns the public side.
func (k *Keys) Trust() Trust {
	return Trust{Logs: append(append([]TrustedKey{}, k.Retired...), TrustedKey{Key: k.Signer.Key(), From: k.Since})}
}

// Rotate returns keys with a new signer; the present one is retired at that
// instant, and its private half is not in the result.
func (k *Keys) Rotate(signer *Signer, at time.Time) *Keys {
	at = at.UTC().Truncate(time.Second)
	old := TrustedKey{Key: k.Signer.Key(), From: k.Since, Until: at}
	return &Keys{Signer: signer, Since: at, Retired: append(append([]TrustedKey{}, k.Retired...), old)}
}

// String is the text of a key file. It holds a private key.
func (k *Keys) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nsigner %s %s\n", keysHeader, k.Signer.Secret(), formatTime(k.Since))
	for _, r := range k.Retired {
		b.WriteString("retired " + r.line() + "\n")
	}
	return b.String()
}

// ParseKeys reads a key file. The error names the line, never the key.
func ParseKeys(text string) (*Keys, error) {
	k := &Keys{}
	err := eachLine(text, keysHeader, func(word, rest string) (err error) {
		switch {
		case word == "signer" && k.Signer == nil:
			secret, since, _ := strings.Cut(rest, " ")
			if k.Signer, err = ParseSigner(secret); err == nil {
				k.Since, err = parseTime(since)
			}
		case word == "retired":
			var r TrustedKey
			r, err = parseTrusted(rest)
			k.Retired = append(k.Retired, r)
		default:
			err = errors.New("it begins with neither signer nor retired")
		}
		return err
	})
	if err == nil && k.Signer == nil {
		err = errors.New("it has no signer")
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return k, nil
}

// ReadKeys reads a key file, which nobody but its owner may be able to read.
func ReadKeys(path string) (*Keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read key file: others may read or write it (mode %04o); it must be 0600", info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	return ParseKeys(string(text))
}

// Write writes the key file with mode 0600, in one step: a crash leaves the old
// or the new one.
func (k *Keys) Write(path string) error { return ReplaceFile(path, []byte(k.String())) }

// Create writes a new key file with mode 0600, or none. errors.Is(err,
// fs.ErrExist) tells that there is one.
func (k *Keys) Create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(k.String())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncDir(path)
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// ReplaceFile replaces a file durably in one step; the new one has mode 0600. Of a
// symbolic link it replaces what the link leads to: the place that somebody chose,
// and what lies there.
func ReplaceFile(path string, data []byte) (err error) {
	if path, err = behindLinks(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(path)
}

// behindLinks is the path to which symbolic links lead, also where nothing is yet.
func behindLinks(path string) (string, error) {
	const most = 40
	for range most {
		to, err := os.Readlink(path)
		if err != nil {
			return path, nil // no link, or nothing there: the next step says what is wrong
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return "", errors.New("too many symbolic links")
}

// syncDir makes the name of a file durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// WithoutQuorum returns the same trust, asking for no witness: for a checkpoint
// that is yet to be cosigned.
func (t Trust) WithoutQuorum() Trust {
	t.Quorum = 0
	t.Logs = append([]TrustedKey{}, t.Logs...)
	return t
}
