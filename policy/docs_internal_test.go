package policy

import (
	"os"
	"strings"
	"testing"
)

// The reference names every key, and its whole examples are policies.
func TestReferencePage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, keys := range [][]string{
		topKeys, ledgerKeys, checkpointKeys, witnessKeys, limitsKeys, ruleKeys, storeKeys[Rows], storeKeys[Files], storeKeys[Objects],
		partKeys[Rows], partKeys[Files], partKeys[Objects], thenKeys, instantKeys, paceKeys[Rows], paceKeys[Files], paceKeys[Objects],
		custodyKeys, actionKeys, trackedKeys, pairKeys, agreementKeys,
	} {
		for _, k := range keys {
			if !strings.Contains(page, "`"+k+"`") {
				t.Errorf("docs/policy.md does not explain %s", k)
			}
		}
	}
	vars := LookupIn(map[string]string{"DATABASE_URL": "sqlite:app.db"})
	examples := 0
	for i, block := range strings.Split(page, "```yaml\n") {
		src, _, _ := strings.Cut(block, "```")
		if i == 0 || !strings.HasPrefix(src, "version:") {
			continue
		}
		examples++
		if _, err := Parse("docs/policy.md", []byte(src), vars); err != nil {
			t.Errorf("an example in the reference:\n%v", err)
		}
	}
	if examples == 0 {
		t.Error("the reference has no whole example")
	}
}
