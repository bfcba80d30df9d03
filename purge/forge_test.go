package purge_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/epitaph/epitaph/plan"
)

// forge rewrites a plan file and gives it a digest that matches.
func forge(t *testing.T, p *plan.Plan, from, to string) *plan.Plan {
	t.Helper()
	b, err := os.ReadFile(p.Path)
	if err != nil {
		t.Fatal(err)
	}
	body := b[:bytes.LastIndex(b, []byte("digest "))]
	if !bytes.Contains(body, []byte(from)) {
		t.Fatalf("the plan does not hold %q", from)
	}
	body = bytes.ReplaceAll(body, []byte(from), []byte(to))
	sum := sha256.Sum256(body)
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, append(body, "digest "+hex.EncodeToString(sum[:])+"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	forged, err := plan.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forged.Close() })
	return forged
}
