package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/epitaph/epitaph/proof"
)

// Pin is a place outside of the ledger where checkpoints are kept. Only a
// checkpoint kept outside can tell that the ledger's end was cut off, or that
// all of it was replaced.
type Pin interface {
	// Name says which pin it is, without secrets: it is shown.
	Name() string
	// Put keeps a signed checkpoint. It never puts a shorter tree of one origin
	// in the place of a longer one: then errors.Is(err, ErrBehind).
	Put(ctx context.Context, note []byte) error
	// Latest returns the checkpoint put last; nil when there is none, or when
	// the place cannot be read back.
	Latest(ctx context.Context) ([]byte, error)
}

// NamedPin is a pin under another name, so that several of one kind are told
// apart.
func NamedPin(name string, p Pin) Pin { return namedPin{p, name} }

type namedPin struct {
	Pin
	name string
}

func (p namedPin) Name() string { return p.name }

// canBeRead reports a pin of which Latest tells what is there.
func canBeRead(p Pin) bool {
	if n, ok := p.(namedPin); ok {
		p = n.Pin
	}
	switch p.(type) {
	case writerPin, webhookPin:
		return false
	default:
		return true
	}
}

// FilePin keeps the newest checkpoint in a file. It should lie on another file
// system than the ledger, or be fetched from there by another machine. When the
// origin changes, because the ledger was forked, the last checkpoint of the old
// one stays beside it under the name of its size.
func FilePin(path string) Pin { return filePin(path) }

type filePin string

func (p filePin) Name() string { return "file" }

func (p filePin) Latest(context.Context) ([]byte, error) {
	f, err := os.Open(string(p))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, pathless(err)
	}
	defer f.Close()
	return readNote(f)
}

// readNote reads no more than a checkpoint can have.
func readNote(r io.Reader) ([]byte, error) {
	const most = 1 << 16
	note, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && len(note) > most {
		err = errors.New("this is no checkpoint: it is too long")
	}
	return note, err
}

func (p filePin) Put(ctx context.Context, note []byte) error {
	unlock, err := lockFile(ctx, string(p)+".lock", true)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := p.Latest(ctx)
	if err != nil {
		return err
	}
	if bytes.Equal(old, note) {
		return nil
	}
	if old != nil {
		was, err := forward(old, note)
		if err != nil {
			return err
		}
		if was.Origin != mustPeek(note).Origin {
			if err := proof.ReplaceFile(string(p)+"."+strconv.FormatInt(was.Size, 10), old); err != nil {
				return pathless(err)
			}
		}
	}
	return pathless(proof.ReplaceFile(string(p), note))
}

func mustPeek(note []byte) proof.Checkpoint {
	c, _ := proof.Peek(note) // forward has read it
	return c
}

// forward checks that a checkpoint may take the place of another.
func forward(old, note []byte) (was proof.Checkpoint, err error) {
	c, err := proof.Peek(note)
	if err != nil {
		return was, err
	}
	if was, err = proof.Peek(old); err != nil {
		return was, fmt.Errorf("what is pinned cannot be read: %w", err)
	}
	switch {
	case was.Origin != c.Origin:
		return was, nil
	case was.Size > c.Size:
		return was, fmt.Errorf("%w: %d entries are pinned, and this checkpoint has %d", ErrBehind, was.Size, c.Size)
	case was.Size == c.Size && was.Root != c.Root:
		return was, fmt.Errorf("%w: another tree of %d entries is pinned", ErrAltered, c.Size)
	}
	return was, nil
}

// WriterPin prints each checkpoint, for whoever keeps the output. It cannot be
// read back.
func WriterPin(w io.Writer) Pin { return writerPin{w} }

type writerPin struct{ w io.Writer }

func (writerPin) Name() string                           { return "stdout" }
func (writerPin) Latest(context.Context) ([]byte, error) { return nil, nil }

func (p writerPin) Put(_ context.Context, note []byte) error {
	_, err := p.w.Write(note)
	return err
}

// WebhookPin sends each checkpoint by POST as text/plain. Any 2xx answer means
// that it is kept. It cannot be read back.
func WebhookPin(url string, client *http.Client) Pin {
	if client == nil {
		client = http.DefaultClient
	}
	return webhookPin{url, client}
}

type webhookPin struct {
	url    string
	client *http.Client
}

func (webhookPin) Name() string                           { return "webhook" }
func (webhookPin) Latest(context.Context) ([]byte, error) { return nil, nil }

// webTimeout bounds a request to a webhook or witness.
const webTimeout = 20 * time.Second

func (p webhookPin) Put(ctx context.Context, note []byte) error {
	status, _, err := post(ctx, p.client, p.url, note)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("the answer was %d", status)
	}
	return err
}

// post sends text and reads a short answer.
func post(ctx context.Context, client *http.Client, url string, body []byte) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, webTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, errors.New("the URL cannot be read")
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, urlless(err)
	}
	defer resp.Body.Close()
	answer, err = readNote(resp.Body)
	return resp.StatusCode, answer, err
}

// ObjectStore is what a pin needs of an object store: one bucket.
type ObjectStore interface {
	// Get reads an object and says which version it is; nil and "" when it does
	// not exist.
	Get(ctx context.Context, key string) (data []byte, version string, err error)
	// Put writes an object in the place of that version, "" for none, and returns
	// when it is kept. When there is another by now, errors.Is(err, fs.ErrExist).
	// A store that knows no such condition writes it all the same.
	Put(ctx context.Context, key, version string, data []byte) error
}

// ObjectPin keeps the newest checkpoint of each origin as an object. A bucket
// with object lock and versions keeps all of them. Of two processes that pin at
// the very same time the longer checkpoint stays; where the store knows no
// conditions the shorter one may, until the next one is pinned.
func ObjectPin(store ObjectStore, key string) Pin { return objectPin{store, key} }

type objectPin struct {
	store ObjectStore
	key   string
}

func (objectPin) Name() string { return "object" }

func (p objectPin) Latest(ctx context.Context) ([]byte, error) {
	note, _, err := p.store.Get(ctx, p.key)
	return note, err
}

// mostRaces is how often in a row another process may pin first.
const mostRaces = 10

func (p objectPin) Put(ctx context.Context, note []byte) (err error) {
	for range mostRaces {
		if err = p.put(ctx, note); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return err
}

func (p objectPin) put(ctx context.Context, note []byte) error {
	old, version, err := p.store.Get(ctx, p.key)
	if err != nil || bytes.Equal(old, note) {
		return err
	}
	if old != nil {
		was, err := forward(old, note)
		if err != nil {
			return err
		}
		if was.Origin != mustPeek(note).Origin {
			if err := p.keep(ctx, p.key+"."+strconv.FormatInt(was.Size, 10), old); err != nil {
				return err
			}
		}
	}
	return p.store.Put(ctx, p.key, version, note)
}

// keep writes the last checkpoint of an origin beside the new one's.
func (p objectPin) keep(ctx context.Context, key string, note []byte) error {
	there, version, err := p.store.Get(ctx, key)
	if err != nil || bytes.Equal(there, note) {
		return err
	}
	return p.store.Put(ctx, key, version, note)
}
