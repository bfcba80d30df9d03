package proof

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says how long a log was and what its tree hashed to (C2SP
// tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

// Signed is a checkpoint whose signatures were checked.
type Signed struct {
	Checkpoint
	// Note is the signed note, byte for byte.
	Note []byte
	// At is when the log says that it signed, to the second, UTC.
	At time.Time
	// By are the log's keys that signed, Witnesses who cosigned and when.
	By        []Key
	Witnesses []Cosignature
}

// Cosignature is a witness's statement that at that time this was the longest
// consistent tree that it had seen.
type Cosignature struct {
	Name string
	At   time.Time
}

// maxNote bounds a signed note. Sixteen signatures, which everyone must
// accept, take less than 3 KB when they are Ed25519.
const maxNote = 1 << 16

// Text is the body of the note.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// parseCheckpoint reads the body of a note. Extension lines are refused: Epitaph
// writes none.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" || !isName(lines[0]) {
		return Checkpoint{}, errors.New("the checkpoint does not have three lines: origin, size, root")
	}
	size, err := parseSize(lines[1])
	if err != nil {
		return Checkpoint{}, err
	}
	root, err := decodeHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("root of the checkpoint: %w", err)
	}
	return Checkpoint{lines[0], size, root}, nil
}

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, errors.New("a size or index that is no plain decimal number")
	}
	return n, nil
}

// Sign signs a checkpoint with each key, twice: the plain signature of a log,
// and a cosignature, which also states the time. Several keys sign where a key
// is being replaced.
func (c Checkpoint) Sign(at time.Time, keys ...*Signer) ([]byte, error) {
	if !isName(c.Origin) || c.Size < 0 {
		return nil, errors.New("sign checkpoint: malformed")
	}
	var signers []note.Signer
	for _, k := range keys {
		signers = append(signers, signature{k, algNote, at}, signature{k, algCosignature, at})
	}
	n, err := note.Sign(&note.Note{Text: c.Text()}, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return n, nil
}

// Cosign returns the signature line of a witness for a signed checkpoint.
// Whoever calls it has checked the checkpoint and its consistency.
func Cosign(signed []byte, at time.Time, witness *Signer) ([]byte, error) {
	text, _, ok := strings.Cut(string(signed), "\n\n")
	if !ok {
		return nil, errors.New("cosign checkpoint: malformed")
	}
	g := signature{witness, algCosignature, at}
	sig, err := g.Sign([]byte(text + "\n"))
	if err != nil {
		return nil, fmt.Errorf("cosign checkpoint: %w", err)
	}
	raw := append(binary.BigEndian.AppendUint32(nil, g.KeyHash()), sig...)
	return fmt.Appendf(nil, "— %s %s\n", g.Name(), base64.StdEncoding.EncodeToString(raw)), nil
}

// Peek reads a checkpoint without checking any signature. What it says may be
// false.
func Peek(signed []byte) (Checkpoint, error) {
	text, _, ok := strings.Cut(string(signed), "\n\n")
	if !ok || len(signed) > maxNote {
		return Checkpoint{}, errors.New("not a signed checkpoint")
	}
	return parseCheckpoint(text + "\n")
}

// ErrUntrusted reports a checkpoint that no trusted key of the log has signed.
var ErrUntrusted = errors.New("no trusted key has signed this checkpoint")

// ErrExpired reports a checkpoint signed when its key was not in use.
var ErrExpired = errors.New("the key was not in use when this checkpoint was signed")

// Open checks a signed checkpoint: signatures, the time of the key, and the
// quorum of witnesses. Signatures of unknown keys are ignored, as C2SP wants it.
func (t Trust) Open(signed []byte) (Signed, error) {
	if len(signed) > maxNote {
		return Signed{}, errors.New("the checkpoint is longer than one can be")
	}
	n, err := note.Open(signed, t.verifiers())
	if err != nil {
		var unverified *note.UnverifiedNoteError
		if errors.As(err, &unverified) {
			return Signed{}, ErrUntrusted
		}
		return Signed{}, fmt.Errorf("open checkpoint: %w", err)
	}
	for _, list := range [][]note.Signature{n.Sigs, n.UnverifiedSigs} {
		for _, sig := range list {
			if _, err := decodeBase64(sig.Base64); err != nil {
				return Signed{}, fmt.Errorf("signature of the checkpoint: %w", err)
			}
		}
	}
	s := Signed{Note: signed}
	if s.Checkpoint, err = parseCheckpoint(n.Text); err != nil {
		return Signed{}, err
	}
	if err := t.judge(&s, n.Sigs); err != nil {
		return Signed{}, err
	}
	return s, nil
}

// judge fills in who signed and when, from signatures that are good.
func (t Trust) judge(s *Signed, sigs []note.Signature) error {
	plain, times := map[uint32]bool{}, map[uint32]time.Time{}
	for _, sig := range sigs {
		if at, ok := cosignTime(sig); ok {
			times[sig.Hash] = at
		} else {
			plain[sig.Hash] = true
		}
	}
	foreign, expired := false, false
	for _, k := range t.Logs {
		known := func(o Key) bool { return o.equal(k.Key) }
		if !plain[keyHash(k.Name, algNote, k.public)] || slices.ContainsFunc(s.By, known) {
			continue
		}
		at := times[keyHash(k.Name, algCosignature, k.public)]
		_, isOrigin := ForkNumber(k.Name, s.Origin)
		switch {
		case !isOrigin:
			foreign = true
		case !k.usedAt(at):
			expired = true
		default:
			s.By = append(s.By, k.Key)
			if at.After(s.At) {
				s.At = at
			}
		}
	}
	var counted []Key // a witness is its key, under whatever name and however often it is listed
	for _, w := range t.Witnesses {
		at, ok := times[keyHash(w.Name, algCosignature, w.public)]
		if all := addWitness(counted, w); ok && len(all) > len(counted) {
			counted = all
			s.Witnesses = append(s.Witnesses, Cosignature{w.Name, at})
		}
	}
	switch {
	case len(s.By) > 0 && len(s.Witnesses) < t.Quorum:
		return fmt.Errorf("%d of the known witnesses have cosigned this checkpoint; %d are wanted", len(s.Witnesses), t.Quorum)
	case len(s.By) > 0:
		return nil
	case expired:
		return ErrExpired
	case foreign:
		return fmt.Errorf("%w: it is of another log", ErrUntrusted)
	default:
		return ErrUntrusted
	}
}

// cosignTime returns the time in a cosignature. Its length tells it from a
// plain signature.
func cosignTime(sig note.Signature) (time.Time, bool) {
	raw, err := base64.StdEncoding.DecodeString(sig.Base64)
	const size = 4 + 8 + 64
	if err != nil || len(raw) != size {
		return time.Time{}, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC(), true
}

// forkSuffix is put behind the name of a log whose history was lost, with the
// number of the fork, for the checkpoints from there on.
const forkSuffix = "/fork/"

// ForkOrigin is the origin of a log after its n-th fork, counting those that were
// lost with the history; the name itself for 0.
func ForkOrigin(name string, n int64) string {
	if n == 0 {
		return name
	}
	return name + forkSuffix + strconv.FormatInt(n, 10)
}

// ForkNumber is the n of an origin that ForkOrigin made for the log of that name;
// not ok when it is of another.
func ForkNumber(name, origin string) (n int64, ok bool) {
	rest, ok := strings.CutPrefix(origin, name)
	if !ok || rest == "" {
		return 0, ok
	}
	fork, ok := strings.CutPrefix(rest, forkSuffix)
	n, err := parseSize(fork)
	return n, ok && err == nil && n > 0
}

// CheckConsistency checks a proof (RFC 6962, 2.1.2) that the tree of newer
// begins with the tree of older.
func CheckConsistency(path []tlog.Hash, older, newer Checkpoint) error {
	switch {
	case older.Size > newer.Size:
		return errors.New("the newer tree is shorter than the older one")
	case older.Size == newer.Size && older.Root != newer.Root:
		return errors.New("two trees of one size differ")
	case older.Size == newer.Size || older.Size == 0:
		if len(path) > 0 {
			return errors.New("the proof must be empty")
		}
		return nil
	}
	return tlog.CheckTree(path, newer.Size, newer.Root, older.Size, older.Root)
}
