package proof_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/epitaph/epitaph/proof"
)

// zeros is a source of "randomness" for keys that are the same in each run.
type zeros byte

func (z zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(z)
	}
	return len(p), nil
}

func signer(t testing.TB, name string, seed byte) *proof.Signer {
	t.Helper()
	s, err := proof.NewSigner(name, zeros(seed))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const origin = "example.com/ledger"

// memoryTree is a tree over some entries.
type memoryTree struct {
	hashes []tlog.Hash
	bodies [][]byte
}

func (m *memoryTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, m.hashes[i])
	}
	return out, nil
}

func newTree(t testing.TB, n int) *memoryTree {
	t.Helper()
	m := &memoryTree{}
	for i := range n {
		body := fmt.Appendf(nil, "epitaph/entry v1\nat 2026-03-01T12:00:%02d.000000Z\nkind heartbeat\n", i%60)
		hs, err := tlog.StoredHashes(int64(i), body, m)
		if err != nil {
			t.Fatal(err)
		}
		m.hashes, m.bodies = append(m.hashes, hs...), append(m.bodies, body)
	}
	return m
}

func (m *memoryTree) checkpoint(t testing.TB) proof.Checkpoint {
	t.Helper()
	root, err := tlog.TreeHash(int64(len(m.bodies)), m)
	if err != nil {
		t.Fatal(err)
	}
	return proof.Checkpoint{Origin: origin, Size: int64(len(m.bodies)), Root: root}
}

func (m *memoryTree) include(t testing.TB, i int64) proof.Inclusion {
	t.Helper()
	p, err := tlog.ProveRecord(int64(len(m.bodies)), i, m)
	if err != nil {
		t.Fatal(err)
	}
	return proof.Inclusion{Index: i, Body: m.bodies[i], Path: p}
}

func sign(t testing.TB, c proof.Checkpoint, at time.Time, keys ...*proof.Signer) []byte {
	t.Helper()
	n, err := c.Sign(at, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func trust(t testing.TB, vkeys ...string) proof.Trust {
	t.Helper()
	tr, err := proof.TrustKeys(vkeys...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestCheckpointIsACommonNote(t *testing.T) {
	s := signer(t, origin, 1)
	c := newTree(t, 5).checkpoint(t)
	n := sign(t, c, noon, s)
	// the library of the Go checksum database reads it with the same key
	v, err := note.NewVerifier(s.Key().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(n, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
	got, err := trust(t, s.Key().String()).Open(n)
	if err != nil || got.Checkpoint != c || !got.At.Equal(noon) {
		t.Errorf("opened %+v, %v", got, err)
	}
}

func TestWhoIsBelieved(t *testing.T) {
	log, other, old := signer(t, origin, 1), signer(t, origin, 2), signer(t, origin, 3)
	stranger, witness := signer(t, "example.org/other", 4), signer(t, "witness.example/w", 5)
	c := newTree(t, 5).checkpoint(t)
	key := func(s *proof.Signer, from, until time.Time) proof.Trust {
		return proof.Trust{Logs: []proof.TrustedKey{{Key: s.Key(), From: from, Until: until}}}
	}
	quorum := proof.Trust{Logs: key(log, time.Time{}, time.Time{}).Logs, Witnesses: []proof.Key{witness.WitnessKey()}, Quorum: 1}
	plain := sign(t, c, noon, log)
	line, err := proof.Cosign(plain, noon.Add(time.Minute), witness)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(plain, []byte("\n"))
	withoutTime := bytes.Join(lines[:5], nil)
	swapped := bytes.Replace(plain, []byte("\n5\n"), []byte("\n6\n"), 1)
	fork := c
	fork.Origin = proof.ForkOrigin(origin, 2)
	for _, tc := range []struct {
		name  string
		note  []byte
		trust proof.Trust
		want  error // nil: believed; errAny: some error
	}{
		{"the log's key", plain, trust(t, log.Key().String()), nil},
		{"another key of that name", plain, trust(t, other.Key().String()), proof.ErrUntrusted},
		{"no key at all", plain, proof.Trust{}, proof.ErrUntrusted},
		{"only the witness known", append(bytes.Clone(plain), line...), proof.Trust{Witnesses: quorum.Witnesses}, proof.ErrUntrusted},
		{"key not yet in use", plain, key(log, noon.Add(time.Second), time.Time{}), proof.ErrExpired},
		{"key expired", plain, key(log, time.Time{}, noon.Add(-time.Second)), proof.ErrExpired},
		{"key in use to the second", plain, key(log, noon, noon), nil},
		{"bounded key, no signed time", withoutTime, key(log, time.Time{}, noon.Add(time.Hour)), proof.ErrExpired},
		{"unbounded key, no signed time", withoutTime, trust(t, log.Key().String()), nil},
		{"both keys while one is replaced", sign(t, c, noon, old, log), key(log, noon, time.Time{}), nil},
		{"extra signature of a stranger", sign(t, c, noon, stranger, log), trust(t, log.Key().String()), nil},
		{"signed by a stranger for this log", sign(t, c, noon, stranger), trust(t, stranger.Key().String()), proof.ErrUntrusted},
		{"text changed under the signatures", swapped, trust(t, log.Key().String()), errAny},
		{"witness wanted and missing", plain, quorum, errAny},
		{"witness wanted and there", append(bytes.Clone(plain), line...), quorum, nil},
		{"a fork of this log", sign(t, fork, noon, log), trust(t, log.Key().String()), nil},
		{"empty", nil, trust(t, log.Key().String()), errAny},
		{"longer than a note can be", bytes.Repeat([]byte("x\n"), 1<<16), trust(t, log.Key().String()), errAny},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tc.trust.Open(tc.note)
			switch {
			case tc.want == errAny && err != nil, errors.Is(err, tc.want):
			default:
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

var errAny = errors.New("any error")

func TestBase64IsStrict(t *testing.T) {
	s := signer(t, origin, 1)
	n := string(sign(t, newTree(t, 5).checkpoint(t), noon, s))
	tr := trust(t, s.Key().String())
	root := strings.Split(n, "\n")[2]
	for name, bad := range map[string]string{
		"loose bits in the root":    strings.Replace(n, root, loose(t, root), 1),
		"no padding":                strings.Replace(n, root, strings.TrimRight(root, "="), 1),
		"loose bits in a signature": looseSignature(t, n),
	} {
		if _, err := tr.Open([]byte(bad)); err == nil || bad == n {
			t.Errorf("%s: accepted", name)
		}
	}
}

// loose returns another spelling of the same bytes.
func loose(t *testing.T, s string) string {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	trimmed := strings.TrimRight(s, "=")
	last := strings.IndexByte(alphabet, trimmed[len(trimmed)-1])
	other := trimmed[:len(trimmed)-1] + string(alphabet[last|1]) + s[len(trimmed):]
	a, err := base64.StdEncoding.DecodeString(s)
	b, err2 := base64.StdEncoding.DecodeString(other)
	if err != nil || err2 != nil || !bytes.Equal(a, b) || s == other {
		t.Fatalf("%q is no loose spelling of %q", other, s)
	}
	return other
}

func looseSignature(t *testing.T, n string) string {
	for line := range strings.SplitSeq(n, "\n") {
		if f := strings.Split(line, " "); len(f) == 3 && strings.HasSuffix(f[2], "=") {
			return strings.Replace(n, f[2], loose(t, f[2]), 1)
		}
	}
	t.Fatal("no signature ends in padding")
	return ""
}

func aReceipt(t testing.TB) (*proof.Receipt, proof.Trust) {
	m := newTree(t, 1000)
	s := signer(t, origin, 1)
	r := &proof.Receipt{
		Entries:    []proof.Inclusion{m.include(t, 700), m.include(t, 3)},
		Checkpoint: sign(t, m.checkpoint(t), noon, s),
	}
	return r, trust(t, s.Key().String())
}

func TestEachFlippedByteOfAReceiptIsSeen(t *testing.T) {
	r, tr := aReceipt(t)
	data := r.Bytes()
	want, err := r.Check(tr)
	if err != nil {
		t.Fatal(err)
	}
	signatures := bytes.Index(data, []byte("— "))
	for i := range data {
		for _, flip := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(data)
			bad[i] ^= flip
			parsed, err := proof.ParseReceipt(bad)
			if err != nil {
				continue
			}
			got, err := parsed.Check(tr)
			if err != nil {
				continue
			}
			// A signature under a name that is not known is ignored, as signed-note
			// wants it; what is shown may not change by it.
			if i < signatures || got.Checkpoint != want.Checkpoint || !cmp.Equal(got.Entries, want.Entries) {
				t.Errorf("byte %d (%q) flipped by %#x goes unseen", i, data[i], flip)
			}
		}
	}
	for i := range data {
		if p, err := proof.ParseReceipt(data[:i]); err == nil {
			if _, err := p.Check(tr); err == nil && i < signatures+40 {
				t.Errorf("cut at %d goes unseen", i)
			}
		}
	}
}

func TestReceiptLies(t *testing.T) {
	r, tr := aReceipt(t)
	other := newTree(t, 1000)
	for name, lie := range map[string]func(r *proof.Receipt){
		"another index":   func(r *proof.Receipt) { r.Entries[0].Index++ },
		"another body":    func(r *proof.Receipt) { r.Entries[0].Body = other.bodies[701] },
		"another path":    func(r *proof.Receipt) { r.Entries[0].Path = other.include(t, 701).Path },
		"a shorter path":  func(r *proof.Receipt) { r.Entries[1].Path = r.Entries[1].Path[1:] },
		"no entry":        func(r *proof.Receipt) { r.Entries = nil },
		"negative index":  func(r *proof.Receipt) { r.Entries[0].Index = -1 },
		"beyond the tree": func(r *proof.Receipt) { r.Entries[0].Index = 1000 },
		"no such batch":   func(r *proof.Receipt) { r.Entries[0].Leaf = &proof.Leaf{Commitment: new([32]byte)} },
		"no such result":  func(r *proof.Receipt) { r.Entries[0].Leaf = &proof.Leaf{Result: []byte{2, 0, 0}} },
		"other checkpoint": func(r *proof.Receipt) {
			r.Checkpoint = sign(t, newTree(t, 999).checkpoint(t), noon, signer(t, origin, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := *r
			c.Entries = append([]proof.Inclusion{}, r.Entries...)
			lie(&c)
			if shown, err := c.Check(tr); err == nil {
				t.Errorf("believed: %+v", shown)
			}
		})
	}
}

func TestKeyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	k := &proof.Keys{Signer: signer(t, origin, 1), Since: noon}
	if err := k.Create(path); err != nil {
		t.Fatal(err)
	}
	if err := k.Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key file was overwritten: %v", err)
	}
	k2 := k.Rotate(signer(t, origin, 2), noon.Add(time.Hour))
	if err := k2.Write(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	got, err := proof.ReadKeys(path)
	if err != nil || got.String() != k2.String() {
		t.Fatalf("read %v, %v", got, err)
	}
	if text, _ := os.ReadFile(path); strings.Contains(string(text), k.Signer.Secret()) {
		t.Error("the retired private key is still in the file")
	}
	tr := got.Trust()
	again, err := proof.ParseTrust(tr.String())
	if err != nil || again.String() != tr.String() || strings.Contains(tr.String(), "PRIVATE") {
		t.Errorf("trust file %q, %v", tr, err)
	}
	c := newTree(t, 3).checkpoint(t)
	for _, tc := range []struct {
		s    *proof.Signer
		at   time.Time
		want error
	}{
		{k.Signer, noon, nil},
		{k.Signer, noon.Add(2 * time.Hour), proof.ErrExpired},
		{k2.Signer, noon.Add(2 * time.Hour), nil},
		{k2.Signer, noon, proof.ErrExpired},
	} {
		if _, err := tr.Open(sign(t, c, tc.at, tc.s)); !errors.Is(err, tc.want) {
			t.Errorf("signed at %v: %v, want %v", tc.at, err, tc.want)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := proof.ReadKeys(path); err == nil {
		t.Error("a key file that the group may read was accepted")
	}
}

func TestConsistency(t *testing.T) {
	big, small := newTree(t, 900), newTree(t, 300)
	p, err := tlog.ProveTree(900, 300, big)
	if err != nil {
		t.Fatal(err)
	}
	if err := proof.CheckConsistency(p, small.checkpoint(t), big.checkpoint(t)); err != nil {
		t.Error(err)
	}
	forged := small.checkpoint(t)
	forged.Root[0] ^= 1
	if proof.CheckConsistency(p, forged, big.checkpoint(t)) == nil || proof.CheckConsistency(nil, big.checkpoint(t), small.checkpoint(t)) == nil {
		t.Error("an inconsistent tree was accepted")
	}
}

// The golden receipt must be readable for ever.
func TestGoldenReceipt(t *testing.T) {
	r, _ := aReceipt(t)
	const name = "testdata/v1.tlog-proof"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, r.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, r.Bytes()) {
		t.Error("a receipt is written differently from the golden one")
	}
	parsed, err := proof.ParseReceipt(data)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := parsed.Check(trust(t, "example.com/ledger+3481d542+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"))
	if err != nil {
		t.Fatal(err)
	}
	if shown.Size != 1000 || shown.Entries[0].Number != 701 {
		t.Errorf("golden receipt shows %+v", shown)
	}
}

func FuzzParseReceipt(f *testing.F) {
	r, tr := aReceipt(f)
	f.Add(r.Bytes())
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 0\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := proof.ParseReceipt(data)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Bytes(), data) {
			t.Errorf("two spellings of one receipt")
		}
		_, _ = p.Check(tr)
	})
}

func FuzzKeysAndTrust(f *testing.F) {
	k := &proof.Keys{Signer: signer(f, origin, 1), Since: noon}
	f.Add(k.String())
	tr := k.Rotate(signer(f, origin, 2), noon).Trust()
	tr.Witnesses = []proof.Key{signer(f, "w", 3).WitnessKey()}
	tr.Quorum = 1
	f.Add(tr.String())
	f.Fuzz(func(t *testing.T, text string) {
		if tr, err := proof.ParseTrust(text); err == nil {
			if again, err := proof.ParseTrust(tr.String()); err != nil || again.String() != tr.String() {
				t.Errorf("a trust file does not survive: %v", err)
			}
		}
		if k, err := proof.ParseKeys(text); err == nil {
			if again, err := proof.ParseKeys(k.String()); err != nil || again.String() != k.String() {
				t.Errorf("a key file does not survive: %v", err)
			}
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	s := signer(f, origin, 1)
	tr, err := proof.TrustKeys(s.Key().String())
	if err != nil {
		f.Fatal(err)
	}
	good := sign(f, newTree(f, 5).checkpoint(f), noon, s)
	text, _, _ := bytes.Cut(good, []byte("\n\n"))
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := tr.Open(data); err == nil && got.Text() != string(text)+"\n" {
			t.Errorf("another text was believed: %q", got.Text())
		}
	})
}
