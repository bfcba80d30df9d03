package cli_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/proof"
)

// collector is a webhook and a witness that cosigns every checkpoint of the
// ledger; it can be told to fail.
type collector struct {
	mu     sync.Mutex
	signer *proof.Signer
	notes  [][]byte
	down   bool
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || c.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if r.URL.Path != "/w/add-checkpoint" {
		c.notes = append(c.notes, body)
		return
	}
	_, note, _ := bytes.Cut(body, []byte("\n\n"))
	line, err := proof.Cosign(note, time.Now(), c.signer)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = w.Write(line)
}

func (c *collector) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

func (c *collector) last(t *testing.T) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.notes) == 0 {
		t.Fatal("nothing came to the webhook")
	}
	return string(c.notes[len(c.notes)-1])
}

// pinned is a directory with a policy that keeps its checkpoints everywhere.
type pinned struct {
	t      *testing.T
	dir    string
	env    []string
	bucket testserver.Bucket
	*collector
}

func newPinned(t *testing.T) *pinned {
	t.Helper()
	signer, err := proof.NewSigner("witness.example/w", rand.Reader)
	must(t, err)
	p := &pinned{t: t, dir: manyExports(t, 1), bucket: testserver.S3(t, testserver.S3Options{}), collector: &collector{signer: signer}}
	server := httptest.NewServer(p.collector)
	t.Cleanup(server.Close)
	must(t, os.Mkdir(filepath.Join(p.dir, "other"), 0o700))
	text := fmt.Sprintf(`version: 1
ledger: {at: "sqlite:epitaph.db", key: other/ledger.key}
checkpoints:
  pins: ["file:other/e.checkpoint", "%s/in", "object:vault/e.checkpoint", stdout]
  witnesses: [{url: "%s/w", key: "%s"}]
  quorum: 1
stores:
  disk: {files: data}
  vault: {objects: "s3://%s/keep/", endpoint: "${ENDPOINT}", region: %s, access_key: "${ACCESS}", secret_key: "${SECRET}"}
rules:
  exports: {kind: export, retain: 14d, files: "disk:export-*.zip", anchor: modified}
limits: {share: 100%%}
`, server.URL, server.URL, signer.WitnessKey(), p.bucket.Name, p.bucket.Region)
	must(t, os.WriteFile(filepath.Join(p.dir, "epitaph.yaml"), []byte(text), 0o600))
	p.env = append(os.Environ(), "ENDPOINT="+p.bucket.Endpoint, "ACCESS="+p.bucket.AccessKey, "SECRET="+p.bucket.SecretKey)
	return p
}

// run runs a command that must end with a status.
func (p *pinned) run(status int, args ...string) (stdout, stderr string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "epitaph", args...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, p.env, &out, &errs
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != status {
		p.t.Fatalf("epitaph %v: status %d (%v), want %d\n%s%s", args, got, err, status, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func (p *pinned) read(name string) string {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, name))
	must(p.t, err)
	return string(data)
}

func (p *pinned) object() string {
	p.t.Helper()
	key := "keep/e.checkpoint"
	out, err := p.bucket.Client().GetObject(p.t.Context(), &s3.GetObjectInput{Bucket: &p.bucket.Name, Key: &key})
	must(p.t, err)
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	must(p.t, err)
	return string(data)
}

// Every run is pinned at once in every place that the policy names, with the
// witness's signature.
func TestCheckpointsGoEverywhere(t *testing.T) {
	t.Parallel()
	p := newPinned(t)
	p.run(0, "purge", "--quiet")
	if _, err := os.Stat(filepath.Join(p.dir, "epitaph.checkpoint")); err == nil {
		t.Error("a checkpoint without a key")
	}
	p.run(0, "key", "new")
	out, errs := p.run(0, "purge")
	if errs != "" || !strings.Contains(out, "  Checkpoint: 8 entries signed, pinned: file, file 2, webhook, object, stdout, cosigned: 1\n") {
		t.Errorf("got %s%s", out, errs)
	}
	note := p.read("epitaph.checkpoint")
	if !strings.Contains(note, "— witness.example/w ") || !strings.HasSuffix(out, note) {
		t.Errorf("the note is not cosigned, or not at the end of the output:\n%s\n%s", note, out)
	}
	for place, got := range map[string]string{"file": p.read("other/e.checkpoint"), "webhook": p.last(t), "object": p.object()} {
		if got != note {
			t.Errorf("%s: got\n%s\nwant\n%s", place, got, note)
		}
	}
	out, _ = p.run(0, "purge", "--json")
	var report struct {
		Checkpoint struct {
			Size      int64
			Witnesses []string
			Note      string
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("not one object: %v\n%s", err, out)
	}
	if c := report.Checkpoint; c.Size != 11 || c.Note != p.object() || len(c.Witnesses) != 1 {
		t.Errorf("got %+v", c)
	}
	out, _ = p.run(0, "verify", "ledger")
	if !strings.Contains(out, "Complete:  yes, up to checkpoint 11 of ") || !strings.Contains(out, ", cosigned by 1") {
		t.Errorf("got %s", out)
	}
	// A place from which the checkpoint is gone is no place that agrees.
	kept := p.read("other/e.checkpoint")
	must(t, os.Remove(filepath.Join(p.dir, "other/e.checkpoint")))
	out, _ = p.run(1, "verify", "ledger")
	if !strings.Contains(out, "Complete:  unknown, up to checkpoint 11 by some pins, and there is nothing in: file 2\n") {
		t.Errorf("got %s", out)
	}
	must(t, os.WriteFile(filepath.Join(p.dir, "other/e.checkpoint"), []byte(kept), 0o600))
	if trust, _ := p.run(0, "key", "show"); !strings.Contains(trust, "\nwitness witness.example/w+") || !strings.Contains(trust, "\nquorum 1\n") {
		t.Errorf("the trust file: got %s", trust)
	}
}

// A pin or witness that is away is said, without its address, and changes the
// status; the run itself is done, and the next one catches up.
func TestCheckpointsThatAreNotKept(t *testing.T) {
	t.Parallel()
	p := newPinned(t)
	p.run(0, "key", "new")
	p.setDown(true)
	out, errs := p.run(1, "purge")
	if !strings.Contains(out, "Exports deleted: 1") || left(t, p.dir) != 0 {
		t.Errorf("the run was not carried out:\n%s", out)
	}
	if want := "epitaph: the checkpoint is signed, but not kept everywhere: witness witness.example/w (the answer was 503), pin webhook (the answer was 503)\n" +
		"hint: epitaph ledger checkpoint tries again\n"; errs != want {
		t.Errorf("got\n%swant\n%s", errs, want)
	}
	if p.object() != p.read("epitaph.checkpoint") {
		t.Error("the other places did not get it")
	}
	p.setDown(false)
	p.run(0, "ledger", "checkpoint")
	if p.last(t) != p.read("other/e.checkpoint") || !strings.Contains(p.last(t), "— witness.example/w ") {
		t.Error("the next one did not catch up")
	}
	p.run(0, "verify", "ledger")
}

// Whoever has the host, its ledger, key and files, has not the bucket: an old
// ledger is noticed by it alone, and when it cannot be asked nothing is written.
func TestBucketNoticesAnOldLedger(t *testing.T) {
	t.Parallel()
	p := newPinned(t)
	p.run(0, "key", "new")
	p.run(0, "purge", "--dry-run")
	old := p.read("epitaph.db")
	p.run(0, "purge", "--dry-run")
	for _, name := range []string{"epitaph.checkpoint", "other/e.checkpoint", "epitaph.db-wal", "epitaph.db-shm"} {
		if err := os.Remove(filepath.Join(p.dir, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	must(t, os.WriteFile(filepath.Join(p.dir, "epitaph.db"), []byte(old), 0o600))
	out, errs := p.run(4, "purge")
	if out != "" || !strings.Contains(errs, "behind a checkpoint that was pinned") || left(t, p.dir) != 1 {
		t.Errorf("got %s%s", out, errs)
	}
	if out, _ := p.run(4, "verify", "ledger"); !strings.Contains(out, "pinned checkpoint (object): ") {
		t.Errorf("got %s", out)
	}
	p.run(0, "ledger", "fork", "--reason", "restored")
	p.run(0, "purge", "--dry-run")
	p.env = append(p.env, "ENDPOINT=http://127.0.0.1:1")
	out, errs = p.run(4, "purge")
	if out != "" || !strings.Contains(errs, "a checkpoint that was pinned cannot be read") || strings.Contains(errs, "127.0.0.1") || left(t, p.dir) != 1 {
		t.Errorf("got %s%s", out, errs)
	}
}
