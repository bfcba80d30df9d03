package ledger_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

// A ledger written by version 1 verifies for ever, with its pin and its
// public key, and can be read, proven and appended to.
func TestGoldenLedger(t *testing.T) {
	if os.Getenv("UPDATE_GOLDEN") != "" {
		writeGolden(t)
	}
	path := filepath.Join(t.TempDir(), "l.db")
	packed, err := os.Open("testdata/v1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	text, err2 := os.ReadFile("testdata/v1.trust")
	pinned, err3 := os.ReadFile("testdata/v1.pin")
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	trust, err := proof.ParseTrust(string(text))
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, "sqlite:"+path)
	v := ledger.Verification{Trust: trust, Notes: [][]byte{pinned}}
	r := verify(t, l, v)
	wantGood(t, r)
	if r.Size != 307 || r.Minimum != 0 || r.Off != 1 || r.Checkpoints != 2 {
		t.Errorf("report: %+v", r)
	}
	rs, err := l.ProveItem(t.Context(), "id=1", true)
	if err != nil || len(rs) != 2 {
		t.Fatalf("%d receipts, %v", len(rs), err)
	}
	check(t, rs[0], trust)
	if n := mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat}); n != 308 {
		t.Errorf("appended entry %d", n)
	}
	wantGood(t, verify(t, l, v))
}

func writeGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l.db")
	pin := ledger.FilePin(filepath.Join(t.TempDir(), "pin"))
	l, err := ledger.Open(t.Context(), "sqlite:"+path, ledger.Config{Origin: "example.com/golden"})
	if err != nil {
		t.Fatal(err)
	}
	k := newKeys(t, l)
	fillLedger(t, l, 300)
	if _, err := l.SealOff(t.Context(), ledger.Selection{Item: "id=4"}, false, ledger.Secret{Name: "who", Text: "x"}); err != nil {
		t.Fatal(err)
	}
	checkpoint(t, l, signing(k, pin))
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat, At: day})
	checkpoint(t, l, signing(k, pin))
	pinned, err := pin.Latest(t.Context())
	if err := errors.Join(err, l.Scrub(t.Context()), l.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(data)
	}
	if err := errors.Join(err, z.Close(), os.WriteFile("testdata/v1.db.gz", b.Bytes(), 0o644),
		os.WriteFile("testdata/v1.pin", pinned, 0o644), os.WriteFile("testdata/v1.trust", []byte(k.Trust().String()), 0o644)); err != nil {
		t.Fatal(err)
	}
}
