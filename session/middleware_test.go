package session_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/epitaph/epitaph/session"
)

// endings collects what the middleware tells.
type endings struct {
	mu  sync.Mutex
	all []session.Ended
}

func (x *endings) add(e session.Ended, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		e.Err = err
	}
	x.all = append(x.all, e)
}

func post(t *testing.T, url, body string) (*http.Response, string, error) {
	t.Helper()
	r, err := http.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r, string(b), err
}

// F7. Each upload has a session of its own: sixteen at once never see another's
// file, and when a client has its response the file is gone.
func TestF7EachUploadHasItsOwnSession(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	var got endings
	srv := httptest.NewServer(s.Middleware(session.Uploads{Ended: got.add})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, ok := session.From(r.Context())
		if !ok {
			http.Error(w, "no session", http.StatusInternalServerError)
			return
		}
		f, err := x.Create("note.txt")
		if err == nil {
			_, err = io.Copy(f, r.Body)
			err = errors.Join(err, f.Close())
		}
		all, lerr := x.List()
		in, oerr := x.Open("note.txt")
		if err = errors.Join(err, lerr, oerr); err != nil || len(all) != 1 {
			http.Error(w, fmt.Sprint(err, len(all)), http.StatusInternalServerError)
			return
		}
		defer in.Close()
		_, _ = io.Copy(w, in) // served out of the session itself
	})))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			body := strings.Repeat(fmt.Sprintf("note of patient %d. ", i), 10_000)
			if r, echo, err := post(t, srv.URL, body); err != nil || r.StatusCode != 200 || echo != body {
				t.Errorf("%d: %v %v, %d bytes of %d", i, r, err, len(echo), len(body))
			}
		})
	}
	wg.Wait()
	if r, err := http.Get(srv.URL); err != nil || r.StatusCode != http.StatusInternalServerError {
		t.Errorf("a GET has a session: %v, %v", r, err)
	}
	srv.Close() // waits for the handlers
	if len(got.all) != 16 {
		t.Fatalf("%d sessions ended", len(got.all))
	}
	for _, e := range got.all {
		b.ended(e, "gone GONE: 1 gone, 0 left, 0 unknown")
	}
	if left, _ := filepath.Glob(b.path("[a-z0-9]*")); len(left) != 0 {
		t.Errorf("%d sessions are left", len(left))
	}
}

// The files are there until the response is with the client: one that reads
// slowly gets all of it.
func TestMiddlewareDisposesAfterTheResponse(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	ended := make(chan session.Ended, 1)
	path := make(chan string, 1)
	h := s.Middleware(session.Uploads{Ended: func(e session.Ended, _ error) { ended <- e }})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, _ := session.From(r.Context())
		b.write(x, "report.json", "the report")
		path <- x.Path()
		w.Header().Set("Content-Length", "10") // the last byte ends it
		_, _ = io.WriteString(w, "the report")
		if !b.exists(filepath.Join(x.Path(), "report.json")) {
			t.Error("it went while the handler was at work")
		}
	}))
	w := &flushed{ResponseRecorder: httptest.NewRecorder()}
	w.on = func(n int) {
		p := <-path
		if n != 10 || !b.exists(filepath.Join(p, "report.json")) {
			t.Errorf("flushed %d bytes, there: %t", n, b.exists(filepath.Join(p, "report.json")))
		}
	}
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	b.ended(<-ended, "gone GONE: 1 gone, 0 left, 0 unknown")
	if w.n != 1 {
		t.Errorf("flushed %d times", w.n)
	}
}

type flushed struct {
	*httptest.ResponseRecorder
	n  int
	on func(bytes int)
}

func (w *flushed) Flush() {
	w.n++
	w.on(w.Body.Len())
	w.ResponseRecorder.Flush()
}

// A handler that panics leaves nothing behind.
func TestMiddlewareAndPanic(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var got endings
	srv := httptest.NewServer(b.store().Middleware(session.Uploads{TTL: time.Minute, Ended: got.add})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		x, _ := session.From(r.Context())
		b.write(x, "note.txt", "x")
		panic(http.ErrAbortHandler)
	})))
	if _, _, err := post(t, srv.URL, "x"); err == nil {
		t.Error("the panic was swallowed")
	}
	srv.Close()
	if len(got.all) != 1 {
		t.Fatalf("%d ended", len(got.all))
	}
	b.ended(got.all[0], "gone GONE: 1 gone, 0 left, 0 unknown")
}

// Without a place for it an upload is refused, and the handler never runs.
func TestMiddlewareWithoutARoot(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	b.must(s.Close())
	w := httptest.NewRecorder()
	s.Middleware(session.Uploads{})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it ran") })).
		ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), b.root) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A client that goes away in the middle of its upload leaves nothing behind.
func TestMiddlewareAndDisconnect(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ended := make(chan session.Ended, 1)
	begun := make(chan struct{})
	srv := httptest.NewServer(b.store().Middleware(session.Uploads{Ended: func(e session.Ended, _ error) { ended <- e }})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		x, _ := session.From(r.Context())
		f, err := x.Create("note.txt")
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		close(begun)
		if _, err := io.Copy(f, r.Body); err == nil {
			t.Error("the upload ended as if it were whole")
		}
	})))
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	b.must(err)
	_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\npart of a note")
	b.must(err)
	<-begun
	b.must(c.Close())
	select {
	case e := <-ended:
		b.ended(e, "gone GONE: 1 gone, 0 left, 0 unknown")
	case <-time.After(2 * time.Minute):
		t.Fatal("the session did not end")
	}
}

// A handler that takes the connection over has its session until it returns, and
// answers in it as it likes.
func TestMiddlewareAndHijack(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var got endings
	var complaints strings.Builder // of the server: a panic is one
	srv := httptest.NewUnstartedServer(b.store().Middleware(session.Uploads{Ended: got.add})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, _ := session.From(r.Context())
		b.write(x, "note.txt", "taken over")
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		in, err := x.Open("note.txt")
		if err == nil {
			_, err = io.Copy(buffered, in)
			err = errors.Join(err, buffered.Flush(), in.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})))
	srv.Config.ErrorLog = log.New(&complaints, "", 0)
	srv.Start()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	b.must(err)
	_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	b.must(err)
	if text, err := io.ReadAll(c); err != nil || string(text) != "taken over" {
		t.Errorf("%q, %v", text, err)
	}
	c.Close()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		got.mu.Lock()
		n := len(got.all)
		got.mu.Unlock()
		if n > 0 {
			break
		}
	}
	srv.Close()
	if len(got.all) != 1 {
		t.Fatalf("%d ended", len(got.all))
	}
	b.ended(got.all[0], "gone GONE: 1 gone, 0 left, 0 unknown")
	if complaints.Len() > 0 {
		t.Errorf("the server says: %.300s", complaints.String())
	}
}
