// Package proof makes and checks what shows that a ledger was not rewritten:
// signed checkpoints, inclusion and consistency proofs, and receipts. It works
// offline and knows no database.
//
// The formats are those of C2SP: signed-note, tlog-checkpoint,
// tlog-cosignature and tlog-proof (https://c2sp.org). Hashing is that of RFC
// 6962, signatures are Ed25519 (RFC 8032). Base64 is strict: one spelling for
// each value.
package proof

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Signature types of C2SP signed-note.
const (
	algNote        = 0x01 // Ed25519 over the note text
	algCosignature = 0x04 // Ed25519 over a time and the note text
)

// Key is a public key with a name: of a log or of a witness.
type Key struct {
	Name string
	// Witness is set for a key that signs cosignatures only.
	Witness bool
	public  ed25519.PublicKey
}

// ParseKey reads a C2SP verifier key, "name+hash+key" ("vkey"). The type of the
// key says whether it is a log's or a witness's.
func ParseKey(vkey string) (Key, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	hash, key, _ := strings.Cut(rest, "+")
	raw, err := decodeBase64(key)
	if err != nil || !isName(name) || len(raw) != 1+ed25519.PublicKeySize {
		return Key{}, errors.New("not a public key: it must read NAME+HASH+KEY")
	}
	if raw[0] != algNote && raw[0] != algCosignature {
		return Key{}, fmt.Errorf("a key of type %#02x; only Ed25519 is known", raw[0])
	}
	k := Key{Name: name, Witness: raw[0] == algCosignature, public: raw[1:]}
	if k.String() != vkey {
		return Key{}, fmt.Errorf("the hash %s in the public key is not that of the key", hash)
	}
	return k, nil
}

func (k Key) alg() byte {
	if k.Witness {
		return algCosignature
	}
	return algNote
}

// String returns the verifier key, which ParseKey reads.
func (k Key) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.Name, keyHash(k.Name, k.alg(), k.public),
		base64.StdEncoding.EncodeToString(append([]byte{k.alg()}, k.public...)))
}

func keyHash(name string, alg byte, public []byte) uint32 {
	h := sha256.New()
	io.WriteString(h, name+"\n")
	h.Write([]byte{alg})
	h.Write(public)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// isName reports a key name that signed-note allows.
func isName(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || r == '+' || r < ' '
	})
}

// decodeBase64 reads the one spelling of some bytes.
func decodeBase64(s string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || base64.StdEncoding.EncodeToString(raw) != s { // DecodeString skips line ends
		return nil, errors.New("not strict base64")
	}
	return raw, nil
}

func decodeHash(s string) (h [32]byte, err error) {
	raw, err := decodeBase64(s)
	if err != nil || len(raw) != len(h) {
		return h, errors.New("not a hash")
	}
	return [32]byte(raw), nil
}

// verifier checks signatures of one type with a key; a note.Verifier.
type verifier struct {
	key Key
	alg byte
}

func (v verifier) Name() string    { return v.key.Name }
func (v verifier) KeyHash() uint32 { return keyHash(v.key.Name, v.alg, v.key.public) }

func (v verifier) Verify(msg, sig []byte) bool {
	if v.alg == algNote {
		return ed25519.Verify(v.key.public, msg, sig)
	}
	if len(sig) != 8+ed25519.SignatureSize || sig[0]&0x80 != 0 {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return ed25519.Verify(v.key.public, cosigned(at, msg), sig[8:])
}

// cosigned is the message of a cosignature (C2SP tlog-cosignature).
func cosigned(at uint64, msg []byte) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), msg...)
}

// Signer is a private key with a name. It signs checkpoints.
type Signer struct {
	name    string
	private ed25519.PrivateKey
}

// NewSigner makes a key. The name is the log's origin, or a witness's name.
func NewSigner(name string, random io.Reader) (*Signer, error) {
	if !isName(name) {
		return nil, errors.New("a key's name may hold no space and no plus")
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("read random seed: %w", err)
	}
	return &Signer{name, ed25519.NewKeyFromSeed(seed)}, nil
}

// ParseSigner reads what Secret writes.
func ParseSigner(secret string) (*Signer, error) {
	bad := errors.New("not a private key")
	rest, ok := strings.CutPrefix(secret, "PRIVATE+KEY+")
	name, rest, _ := strings.Cut(rest, "+")
	_, key, _ := strings.Cut(rest, "+")
	raw, err := decodeBase64(key)
	if !ok || err != nil || !isName(name) || len(raw) != 1+ed25519.SeedSize || raw[0] != algNote {
		return nil, bad
	}
	s := &Signer{name, ed25519.NewKeyFromSeed(raw[1:])}
	if s.Secret() != secret {
		return nil, bad
	}
	return s, nil
}

// Secret returns the private key in the form of golang.org/x/mod/sumdb/note.
// Whoever has it can sign in the log's name.
func (s *Signer) Secret() string {
	raw := append([]byte{algNote}, s.private.Seed()...)
	return fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", s.name, s.keyHash(algNote), base64.StdEncoding.EncodeToString(raw))
}

func (s *Signer) public() ed25519.PublicKey { return s.private.Public().(ed25519.PublicKey) }

func (s *Signer) keyHash(alg byte) string {
	return hex.EncodeToString(binary.BigEndian.AppendUint32(nil, keyHash(s.name, alg, s.public())))
}

// Key returns the public key that checks what s signs.
func (s *Signer) Key() Key { return Key{Name: s.name, public: s.public()} }

// WitnessKey returns the public key that checks the cosignatures of s.
func (s *Signer) WitnessKey() Key { return Key{Name: s.name, Witness: true, public: s.public()} }

// signature is a note.Signer for one type of signature.
type signature struct {
	s   *Signer
	alg byte
	at  time.Time
}

func (g signature) Name() string    { return g.s.name }
func (g signature) KeyHash() uint32 { return keyHash(g.s.name, g.alg, g.s.public()) }

func (g signature) Sign(msg []byte) ([]byte, error) {
	if g.alg == algNote {
		return ed25519.Sign(g.s.private, msg), nil
	}
	if g.at.Unix() < 0 {
		return nil, errors.New("a time before 1970")
	}
	at := uint64(g.at.Unix())
	return append(binary.BigEndian.AppendUint64(nil, at), ed25519.Sign(g.s.private, cosigned(at, msg))...), nil
}

// equal reports that two keys are the same.
func (k Key) equal(o Key) bool {
	return k.Name == o.Name && k.Witness == o.Witness && bytes.Equal(k.public, o.public)
}
