package ledger

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/epitaph/epitaph/proof"
)

// Witness is someone else's server that cosigns checkpoints which it has
// checked to be consistent (C2SP tlog-witness).
type Witness struct {
	// URL is the submission prefix.
	URL string
	// Key is the witness's public key, of the cosignature type.
	Key    proof.Key
	Client *http.Client
}

// Name is the name of the witness's key.
func (w Witness) Name() string { return w.Key.Name }

// urlless takes the URL out of an error: it may hold a token.
func urlless(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return fmt.Errorf("%s: %w", ue.Op, ue.Err)
	}
	return err
}

// cosign returns the note with the witness's signature added. The first
// request says that the witness knows nothing of the log; it answers with what
// it does know.
func (l *Ledger) cosign(ctx context.Context, w Witness, s proof.Signed) ([]byte, error) {
	var old int64
	if known, ok := l.witnessed(w.Key.Name); ok {
		old = known
	}
	for range 3 {
		path, err := l.Consistency(ctx, old, s.Size)
		if err != nil {
			return nil, err
		}
		body := fmt.Appendf(nil, "old %d\n", old)
		for _, h := range path {
			body = append(base64.StdEncoding.AppendEncode(body, h[:]), '\n')
		}
		body = append(append(body, '\n'), s.Note...)
		status, answer, err := post(ctx, w.client(), strings.TrimSuffix(w.URL, "/")+"/add-checkpoint", body)
		switch {
		case err != nil:
			return nil, err
		case status == http.StatusConflict:
			if old, err = conflict(answer, s.Size); err != nil {
				return nil, err
			}
		case status != http.StatusOK:
			return nil, fmt.Errorf("the answer was %d", status)
		default:
			n, err := addSignatures(s, w.Key, answer)
			if err == nil {
				l.rememberWitnessed(w.Key.Name, s.Size)
			}
			return n, err
		}
	}
	return nil, errors.New("it says each time that it knows another size")
}

func (w Witness) client() *http.Client {
	if w.Client == nil {
		return http.DefaultClient
	}
	return w.Client
}

// conflict reads the size that the witness knows.
func conflict(answer []byte, size int64) (int64, error) {
	old, ok := parseInt(strings.TrimSuffix(string(answer), "\n"))
	switch {
	case !ok || old < 0:
		return 0, errors.New("it refused, and did not say which size it knows")
	case old > size:
		return 0, fmt.Errorf("%w: the witness has seen %d entries", ErrBehind, old)
	case old == size:
		return 0, fmt.Errorf("%w: the witness has seen another tree of %d entries", ErrAltered, old)
	}
	return old, nil
}

// addSignatures adds the lines that are good signatures of the witness.
func addSignatures(s proof.Signed, key proof.Key, answer []byte) ([]byte, error) {
	trust := proof.Trust{Witnesses: []proof.Key{key}}
	for _, k := range s.By {
		trust.Logs = append(trust.Logs, proof.TrustedKey{Key: k})
	}
	note := s.Note
	if !bytes.HasSuffix(answer, []byte("\n")) {
		return nil, errors.New("its answer is not a list of signatures")
	}
	for line := range bytes.Lines(answer) {
		if !bytes.HasPrefix(line, []byte("— "+key.Name+" ")) {
			continue
		}
		longer := append(bytes.Clone(note), line...)
		if opened, err := trust.Open(longer); err == nil && len(opened.Witnesses) > 0 {
			return longer, nil
		}
	}
	return nil, errors.New("its answer holds no good signature of its key")
}

// witnessed returns the size that a witness cosigned last, as far as this
// process knows.
func (l *Ledger) witnessed(name string) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.cosigned[name]
	return n, ok
}

func (l *Ledger) rememberWitnessed(name string, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cosigned == nil {
		l.cosigned = map[string]int64{}
	}
	l.cosigned[name] = size
}
