package ledger_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

// witnessServer is a C2SP tlog-witness for one log.
type witnessServer struct {
	mu     sync.Mutex
	signer *proof.Signer
	trust  proof.Trust
	latest proof.Checkpoint
}

func (w *witnessServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	head, note, ok := bytes.Cut(body, []byte("\n\n"))
	if err != nil || !ok || r.URL.Path != "/add-checkpoint" || r.Method != http.MethodPost {
		http.Error(rw, "bad request", http.StatusBadRequest)
		return
	}
	signed, err := w.trust.Open(note)
	if err != nil {
		http.Error(rw, "who are you", http.StatusForbidden)
		return
	}
	lines := strings.Split(string(head), "\n")
	old, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "old "), 10, 64)
	if err != nil || old > signed.Size {
		http.Error(rw, "bad request", http.StatusBadRequest)
		return
	}
	if old != w.latest.Size || old == signed.Size && signed.Root != w.latest.Root {
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprintf(rw, "%d\n", w.latest.Size)
		return
	}
	var path []tlog.Hash
	for _, line := range lines[1:] {
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(raw) != 32 {
			http.Error(rw, "bad request", http.StatusBadRequest)
			return
		}
		path = append(path, tlog.Hash(raw))
	}
	if err := proof.CheckConsistency(path, w.latest, signed.Checkpoint); err != nil {
		http.Error(rw, "inconsistent", http.StatusUnprocessableEntity)
		return
	}
	w.latest = signed.Checkpoint
	line, err := proof.Cosign(note, time.Now(), w.signer)
	if err != nil {
		http.Error(rw, "bad request", http.StatusBadRequest)
		return
	}
	rw.Write(line)
}

func TestWitness(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l.db")
	l := open(t, "sqlite:"+path)
	k := newKeys(t, l)
	ws, err := proof.NewSigner("witness.example/w", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &witnessServer{signer: ws, trust: k.Trust()}
	server := httptest.NewServer(w)
	defer server.Close()
	trust := k.Trust()
	trust.Witnesses, trust.Quorum = []proof.Key{ws.WitnessKey()}, 1
	pin := ledger.FilePin(filepath.Join(t.TempDir(), "pin"))
	s := ledger.Signing{Signers: []*proof.Signer{k.Signer}, Trust: trust, Pins: []ledger.Pin{pin},
		Witnesses: []ledger.Witness{{URL: server.URL + "/", Key: ws.WitnessKey(), Client: server.Client()}}}
	for i := range 4 {
		fillLedger(t, l, 100)
		if i == 2 { // another process, which does not know what the witness has seen
			l = open(t, "sqlite:"+path)
		}
		before := time.Now().Truncate(time.Second) // what is signed are whole seconds
		c := checkpoint(t, l, s)
		if len(c.Witnesses) != 1 || c.Witnesses[0].Name != "witness.example/w" || c.Witnesses[0].At.Before(before) || c.Witnesses[0].At.After(time.Now()) {
			t.Fatalf("cosigned by %+v", c.Witnesses)
		}
	}
	r := verify(t, l, ledger.Verification{Trust: trust, Pins: []ledger.Pin{pin}})
	wantGood(t, r)
	if len(r.Witnesses) != 1 {
		t.Errorf("complete as witnessed by %v", r.Witnesses)
	}
	rs, err := l.ProveEntry(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if shown := check(t, rs, trust); len(shown.Witnesses) != 1 {
		t.Errorf("receipt witnessed by %v", shown.Witnesses)
	}

	// A forged ledger under the same name and key gets no cosignature.
	forged, err := ledger.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "f.db"), ledger.Config{Origin: l.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer forged.Close()
	fillLedger(t, forged, 2000)
	s.Pins = nil
	if c, err := forged.Checkpoint(t.Context(), s); err == nil || len(c.Witnesses) > 0 {
		t.Errorf("the forged ledger was cosigned by %v, %v", c.Witnesses, err)
	}
}

func TestWitnessThatMisbehaves(t *testing.T) {
	ws, err := proof.NewSigner("witness.example/w", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]func(rw http.ResponseWriter){
		"an error":            func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusInternalServerError) },
		"nothing":             func(rw http.ResponseWriter) {},
		"a bad signature":     func(rw http.ResponseWriter) { io.WriteString(rw, "— witness.example/w AAAAAAAAAAAAAAAA\n") },
		"no end":              func(rw http.ResponseWriter) { io.WriteString(rw, strings.Repeat("— x AAAA\n", 1<<16)) },
		"a conflict for ever": func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusConflict); io.WriteString(rw, "0\n") },
		"a nonsense conflict": func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusConflict); io.WriteString(rw, "-1\n") },
		"a larger size":       func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusConflict); io.WriteString(rw, "999999\n") },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { answer(rw) }))
			defer server.Close()
			l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
			k := newKeys(t, l)
			fillLedger(t, l, 5)
			s := signing(k, ledger.FilePin(filepath.Join(t.TempDir(), "pin")))
			s.Witnesses = []ledger.Witness{{URL: server.URL, Key: ws.WitnessKey()}}
			c, err := l.Checkpoint(t.Context(), s)
			if err == nil || strings.Contains(err.Error(), server.URL) {
				t.Errorf("error %v; want one, without the URL", err)
			}
			if c.Size == 0 || len(c.Witnesses) > 0 {
				t.Errorf("the checkpoint itself must stand: %+v", c)
			}
			if note, err := s.Pins[0].Latest(t.Context()); err != nil || note == nil {
				t.Errorf("it was not pinned: %v", err)
			}
		})
	}
}

func TestWebhookAndWriter(t *testing.T) {
	var got bytes.Buffer
	status := http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(&got, r.Body)
		rw.WriteHeader(status)
	}))
	defer server.Close()
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	k := newKeys(t, l)
	fillLedger(t, l, 5)
	var out bytes.Buffer
	pins := []ledger.Pin{ledger.WebhookPin(server.URL+"/secret-token", server.Client()), ledger.WriterPin(&out)}
	c := checkpoint(t, l, signing(k, pins...))
	if !bytes.Equal(got.Bytes(), c.Note) || !bytes.Equal(out.Bytes(), c.Note) {
		t.Errorf("webhook got %q, writer %q", got.Bytes(), out.Bytes())
	}
	status = http.StatusBadGateway
	if _, err := l.Checkpoint(t.Context(), signing(k, pins...)); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("a webhook that fails: %v", err)
	}
	server.Close()
	_, err := l.Checkpoint(t.Context(), signing(k, pins...))
	if err == nil || strings.Contains(err.Error(), "secret-token") {
		t.Errorf("a webhook that is gone: %v; want an error without its URL", err)
	}
	if err := pins[1].Put(context.Background(), nil); err != nil && !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
}
