package main

import (
	"bytes"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

// The program may link no database and nothing that opens a connection.
func TestLinksNoDatabase(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		ours, isOurs := strings.CutPrefix(dep, "github.com/epitaph/epitaph/")
		if isOurs && ours != "proof" && ours != "cmd/epitaph-verify" || dep == "database/sql" || dep == "net" || strings.HasPrefix(dep, "net/http") ||
			strings.Contains(dep, "sqlite") || strings.Contains(dep, "pgx") {
			t.Errorf("links %s", dep)
		}
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("EPITAPH_VERIFY_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// program runs the built program.
func program(t *testing.T, stdin []byte, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "EPITAPH_VERIFY_MAIN=1")
	c.Stdin = bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(t.Context(), "sqlite:"+filepath.Join(dir, "l.db"), ledger.Config{Origin: "example.com/l"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, err := l.Append(t.Context(), ledger.Entry{Kind: ledger.Intent, Items: []ledger.Item{
		{Locator: "someone-else"}, {ID: "17", Locator: "id=17", Parts: []ledger.Part{{Store: "disk", Locator: "a\x1b[31m.wav"}}}}})
	if err == nil {
		_, err = l.Append(t.Context(), ledger.Entry{Kind: ledger.Outcome, Refers: n, Results: []ledger.Result{
			{State: ledger.Unknown, Reason: "UNREACHABLE"}, {State: ledger.Gone, Reason: "GONE", Parts: []ledger.PartResult{{State: ledger.Gone, Reason: "GONE"}}}}})
	}
	signer, err2 := proof.NewSigner("example.com/l", rand.Reader)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	keys := &proof.Keys{Signer: signer, Since: time.Now().Add(-time.Minute).UTC().Truncate(time.Second)}
	if _, err := l.Checkpoint(t.Context(), ledger.Signing{Signers: []*proof.Signer{signer}, Trust: keys.Trust()}); err != nil {
		t.Fatal(err)
	}
	receipt := func(show bool) []byte {
		rs, err := l.ProveItem(t.Context(), "17", show)
		if err != nil || len(rs) != 1 {
			t.Fatal(len(rs), err)
		}
		return rs[0].Bytes()
	}
	shown, hidden := receipt(true), receipt(false)
	file, trust := filepath.Join(dir, "r.tlog-proof"), filepath.Join(dir, "trust")
	if err := os.WriteFile(file, shown, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(trust, []byte(keys.Trust().String()), 0o600); err != nil {
		t.Fatal(err)
	}
	key := signer.Key().String()

	out, errs, status := program(t, nil, "--key", key, file)
	if status != 0 || errs != "" {
		t.Fatalf("status %d: %s", status, errs)
	}
	for _, want := range []string{"The receipt holds.", "Entry 2 is in the ledger", "Entry 1 is in the ledger", "Result of item 2 of its batch: gone \"GONE\"",
		`locator "id=17"`, `"a\x1b[31m.wav"`, "It does not show", "no witness that you trust"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") || strings.Contains(out, "someone-else") {
		t.Errorf("the output holds an escape, or another item:\n%s", out)
	}
	if out, errs, status := program(t, hidden, "--trust", trust, "-"); status != 0 || strings.Contains(out, "id=17") || !strings.Contains(out, "does not name") {
		t.Errorf("without the item: status %d, %s, %s", status, out, errs)
	}
	stranger, err := proof.NewSigner("example.com/l", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Replace(shown, []byte("\n2\n"), []byte("\n3\n"), 1)
	for name, tc := range map[string]struct {
		stdin  []byte
		args   []string
		status int
		want   string
	}{
		"another key":    {nil, []string{"--key", stranger.Key().String(), file}, 4, "does not hold"},
		"altered":        {bad, []string{"--key", key, "-"}, 4, "does not hold"},
		"empty":          {nil, []string{"--key", key, "-"}, 4, "does not hold"},
		"no key":         {nil, []string{file}, 2, "give --key or --trust"},
		"both":           {nil, []string{"--key", key, "--trust", trust, file}, 2, "give --key or --trust"},
		"a bad key":      {nil, []string{"--key", key + "x", file}, 2, "not a public key"},
		"a secret key":   {nil, []string{"--key", signer.Secret(), file}, 2, "not a public key"},
		"no receipt":     {nil, []string{"--key", key}, 2, "give one receipt"},
		"absent receipt": {nil, []string{"--key", key, file + "x"}, 2, "no such file"},
		"bad trust":      {nil, []string{"--trust", file, file}, 2, "line 1"},
		"witnesses only": {nil, []string{"--key", stranger.WitnessKey().String(), file}, 2, "that of a ledger"},
		"one twice":      {nil, []string{"--key", key, "--key", stranger.WitnessKey().String(), "--key", stranger.WitnessKey().String(), "--witnesses", "2", file}, 2, "the keys of 1 are known"},
		"endless trust":  {nil, []string{"--trust", "/dev/zero", file}, 2, "longer than it can be"},
		"endless":        {nil, []string{"--key", key, "/dev/zero"}, 4, "longer than one can be"},
		"a byte mark":    {append([]byte("\xef\xbb\xbf"), shown...), []string{"--key", key, "-"}, 4, "not a c2sp.org"},
		"line ends":      {bytes.ReplaceAll(shown, []byte("\n"), []byte("\r\n")), []string{"--key", key, "-"}, 4, "not a c2sp.org"},
		"a line more":    {append(bytes.Clone(shown), "more\n"...), []string{"--key", key, "-"}, 4, "does not hold"},
		"no proof lines": {append([]byte("c2sp.org/tlog-proof@v1\nextra AA==\nindex 0\n"), bytes.Repeat([]byte("A\n"), 1<<20)...), []string{"--key", key, "-"}, 4, "does not hold"},
		"witness wanted": {nil, []string{"--key", key, "--witnesses", "1", file}, 2, "witnesses are asked for"},
		"unknown flag":   {nil, []string{"--kye", key, file}, 2, "flag provided but not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, status := program(t, tc.stdin, tc.args...)
			if status != tc.status || !strings.Contains(errs, tc.want) || out != "" {
				t.Errorf("status %d (want %d), stdout %q, stderr %q", status, tc.status, out, errs)
			}
		})
	}
	if out, _, status := program(t, nil, "--help"); status != 0 || !strings.Contains(out, "Usage: epitaph-verify") {
		t.Errorf("help: status %d, %s", status, out)
	}
}
