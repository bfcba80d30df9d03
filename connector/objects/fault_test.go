package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/internal/testserver"
)

// network stands between the connector and a server, and spoils what it is
// told to.
type network struct {
	// before may answer a request itself and then says true.
	before atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	// after may change an answer.
	after    atomic.Pointer[func(*http.Response) error]
	requests atomic.Int64
	fired    atomic.Int64 // how often something was spoiled
	struck   atomic.Bool
	endpoint string
}

func newNetwork(t *testing.T, b testserver.Bucket) *network {
	t.Helper()
	n := &network{}
	to, err := url.Parse(b.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		// The signature covers the host the client named, and the gateway
		// believes the Host header.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			if f := n.after.Load(); f != nil {
				return (*f)(r)
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.requests.Add(1)
		if f := n.before.Load(); f != nil && (*f)(w, r) {
			n.fired.Add(1)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	web.Config.ErrorLog = nil
	web.Start()
	t.Cleanup(web.Close)
	n.endpoint = web.URL
	return n
}

func (n *network) spoil(f func(http.ResponseWriter, *http.Request) bool) { n.before.Store(&f) }
func (n *network) change(f func(*http.Response) error)                   { n.after.Store(&f) }
func (n *network) heal()                                                 { n.before.Store(nil); n.after.Store(nil) }

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>spoiled</Message></Error>`, code)
}

func cut(w http.ResponseWriter) {
	if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
		c.Close()
	}
}

func isDelete(r *http.Request) bool {
	return r.Method == http.MethodDelete || r.Method == http.MethodPost && r.URL.Query().Has("delete")
}

func isList(r *http.Request) bool {
	q := r.URL.Query()
	return r.Method == http.MethodGet && (q.Has("versions") || q.Has("list-type"))
}

// spoiled opens a connector whose requests go through a network.
func spoiled(t *testing.T, b testserver.Bucket) (*store, *network) {
	t.Helper()
	n := newNetwork(t, b)
	through := b
	through.Endpoint = n.endpoint
	s := open(t, through, objects.Options{
		Attempts: 4, Timeout: time.Minute, Jitter: func() float64 { return 0.5 },
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	s.s3 = b.Client() // the test's own eyes see the server as it is
	return s, n
}

// faults that hold until healed: nothing may be called gone while they last.
var faults = []struct {
	name   string
	before func(http.ResponseWriter, *http.Request) bool
	after  func(*http.Response) error
	want   connector.Reason // of every answer
	still  bool             // the look still works, so that the key is seen to be present
}{
	{name: "500", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		s3Error(w, 500, "InternalError")
		return true
	}},
	{name: "503 slow down", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		s3Error(w, 503, "SlowDown")
		return true
	}},
	{name: "502 of a proxy", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(502)
		io.WriteString(w, "<html><body>Bad Gateway</body></html>")
		return true
	}},
	{name: "connection cut", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		cut(w)
		return true
	}},
	{name: "expired credentials", want: connector.NoPermission, before: func(w http.ResponseWriter, _ *http.Request) bool {
		s3Error(w, 400, "ExpiredToken")
		return true
	}},
	{name: "wrong keys", want: connector.NoPermission, before: func(w http.ResponseWriter, _ *http.Request) bool {
		s3Error(w, 403, "InvalidAccessKeyId")
		return true
	}},
	{name: "access denied", want: connector.NoPermission, before: func(w http.ResponseWriter, _ *http.Request) bool {
		s3Error(w, 403, "AccessDenied")
		return true
	}},
	{name: "403 without a body", want: connector.NoPermission, before: func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(403)
		return true
	}},
	{name: "bucket gone", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		s3Error(w, 404, "NoSuchBucket")
		return true
	}},
	{name: "404 of a proxy", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(404)
		return true
	}},
	{name: "wrong region", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("X-Amz-Bucket-Region", "eu-central-1")
		s3Error(w, 301, "PermanentRedirect")
		return true
	}},
	{name: "wrong region to sign for", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		s3Error(w, 400, "AuthorizationHeaderMalformed")
		return true
	}},
	{name: "200 with an error", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		s3Error(w, 200, "InternalError")
		return true
	}},
	{name: "200 with a page", want: connector.Unreachable, before: func(w http.ResponseWriter, _ *http.Request) bool {
		io.WriteString(w, "<html><body>Please log in</body></html>")
		return true
	}},
	{name: "200 with nothing", want: connector.Unreachable, before: func(http.ResponseWriter, *http.Request) bool { return true }},
	{name: "answer cut off", want: connector.Unreachable, after: func(r *http.Response) error {
		return shorten(r)
	}},
	{name: "list works, delete does not", want: connector.NoPermission, still: true, before: func(w http.ResponseWriter, r *http.Request) bool {
		if isDelete(r) {
			s3Error(w, 403, "AccessDenied")
		}
		return isDelete(r)
	}},
	{name: "delete is refused with status 200", want: connector.Unreachable, still: true, before: func(w http.ResponseWriter, r *http.Request) bool {
		if isDelete(r) {
			s3Error(w, 200, "InternalError")
		}
		return isDelete(r)
	}},
	{name: "delete says 204 and does nothing", want: connector.Refused, still: true, before: func(w http.ResponseWriter, r *http.Request) bool {
		if isDelete(r) {
			w.WriteHeader(204)
		}
		return isDelete(r)
	}},
	{name: "delete says all is well and does nothing", want: connector.Changed, still: true, before: func(w http.ResponseWriter, r *http.Request) bool {
		if isDelete(r) {
			liar(w, r)
		}
		return isDelete(r)
	}},
	{name: "delete works, list does not", want: connector.Unreachable, before: func(w http.ResponseWriter, r *http.Request) bool {
		if isList(r) {
			s3Error(w, 500, "InternalError")
		}
		return isList(r)
	}},
}

// shorten lets an answer end too early, with a length that fits.
func shorten(r *http.Response) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	body = body[:len(body)*2/3]
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return nil
}

// liar confirms each deletion without making it.
func liar(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	text := string(body)
	var out strings.Builder
	out.WriteString("<DeleteResult>")
	for {
		_, rest, ok := strings.Cut(text, "<Object>")
		if !ok {
			break
		}
		object, after, _ := strings.Cut(rest, "</Object>")
		out.WriteString("<Deleted>" + object + "</Deleted>")
		text = after
	}
	out.WriteString("</DeleteResult>")
	io.WriteString(w, out.String())
}

func TestFaultsAreNeverGone(t *testing.T) {
	t.Parallel()
	for _, versioning := range []string{"", "Enabled"} {
		for _, f := range faults {
			t.Run(f.name+" "+versioning, func(t *testing.T) {
				t.Parallel()
				s, n := spoiled(t, testserver.S3(t, testserver.S3Options{Versioning: versioning}))
				keys := []string{"p/1", "p/2", "p/3", "p/4", "p/5", "p/6"}
				for _, k := range keys {
					s.put(k, "body")
				}
				items := s.items(keys...)
				cl, claimed := s.Claim(t.Context(), nil, items) // before the fault begins
				n.fired.Store(0)
				if f.before != nil {
					n.spoil(f.before)
				}
				if f.after != nil {
					n.change(func(r *http.Response) error { n.fired.Add(1); return f.after(r) })
				}
				which := []int{0, 1, 2, 3, 4, 5}
				for i, r := range cl.Erase(t.Context(), which).Results {
					wantResult(t, "claim "+keys[i], claimed[i], connector.Present, connector.Eligible)
					state := connector.Unknown
					if f.still {
						state = connector.Present
					}
					wantResult(t, "erase "+keys[i], r, state, f.want)
				}
				if err := cl.Release(); err != nil {
					t.Error(err)
				}
				if n.fired.Load() == 0 {
					t.Fatal("the fault never happened")
				}
				if !f.still {
					for i, r := range s.probe(keys...) {
						wantResult(t, "probe "+keys[i], r, connector.Unknown, f.want)
					}
					for i, r := range s.purge(t.Context(), nil, items) {
						wantResult(t, "claim "+keys[i], r, connector.Unknown, f.want)
					}
					if err := scanError(t, s, modified("p/", someday())); err == nil {
						t.Error("the scan ended without an error")
					}
				}
				n.heal()
				for i, r := range s.purge(t.Context(), nil, s.items(keys...)) {
					if r.State != connector.Gone {
						t.Errorf("rerun %s: %v %s (%v)", keys[i], r.State, r.Reason, r.Err)
					}
				}
				if left := s.left(); len(left) != 0 {
					t.Errorf("left after the rerun: %q", left)
				}
			})
		}
	}
}

func scanError(t *testing.T, s *store, q *connector.Query) error {
	t.Helper()
	var survey connector.Survey
	for _, err := range s.Scan(t.Context(), q, &survey) {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestTimeoutIsUnknown(t *testing.T) {
	t.Parallel()
	b := testserver.S3(t, testserver.S3Options{})
	n := newNetwork(t, b)
	through := b
	through.Endpoint = n.endpoint
	s := open(t, through, objects.Options{Attempts: 2, Timeout: 50 * time.Millisecond})
	n.spoil(func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	for _, r := range s.probe("a", "b", "c", "d", "e") {
		wantResult(t, "probe", r, connector.Unknown, connector.Unreachable)
		if !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("cause: %v", r.Err)
		}
	}
}

func TestCanceledIsUnknown(t *testing.T) {
	t.Parallel()
	s := open(t, testserver.S3(t, testserver.S3Options{}), objects.Options{})
	s.put("k", "x")
	items := s.items("k")
	ctx, cancel := context.WithCancel(t.Context())
	cl, _ := s.Claim(ctx, nil, items)
	cancel()
	wantResult(t, "erase", cl.Erase(ctx, []int{0}).Results[0], connector.Unknown, connector.Unreachable)
	wantResult(t, "probe", s.Probe(ctx, []connector.Locator{"k"})[0], connector.Unknown, connector.Unreachable)
	if len(s.left()) != 1 {
		t.Error("the object is gone")
	}
}

// TestPassingFaultsAreRetried: every request fails the first time in a way that
// may pass, and the work gets done.
func TestPassingFaultsAreRetried(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(http.ResponseWriter){
		"500": func(w http.ResponseWriter) { s3Error(w, 500, "InternalError") },
		"503": func(w http.ResponseWriter) { s3Error(w, 503, "SlowDown") },
		"cut": cut,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, n := spoiled(t, testserver.S3(t, testserver.S3Options{Versioning: "Enabled"}))
			for i := range 20 {
				s.put(fmt.Sprintf("k%02d", i), "x")
			}
			var mu sync.Mutex
			turn := map[string]int{} // of each, as those of several come in any order
			n.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				turn[r.Method+r.URL.String()]++
				failed := turn[r.Method+r.URL.String()]%2 == 1
				mu.Unlock()
				if failed {
					fail(w)
				}
				return failed
			})
			items, _ := s.scan(modified("", someday()))
			for i, r := range s.purge(t.Context(), nil, items) {
				wantResult(t, string(items[i].Locator), r, connector.Gone, connector.Erasure)
			}
			if n.fired.Load() == 0 {
				t.Error("the fault never happened")
			}
			if left := s.left(); len(left) != 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// TestResetMidBatch: the server deletes, and the reply is lost every time.
func TestResetMidBatch(t *testing.T) {
	t.Parallel()
	s, n := spoiled(t, testserver.S3(t, testserver.S3Options{}))
	s.put("a", "x")
	s.put("b", "x")
	items := s.items("a", "b")
	n.change(func(r *http.Response) error {
		if isDelete(r.Request) {
			n.fired.Add(1)
			return errors.New("the reply is lost")
		}
		return nil
	})
	for i, r := range s.purge(t.Context(), nil, items) {
		// Looked at, and seen to be gone: it was there, and we deleted it.
		wantResult(t, string(items[i].Locator), r, connector.Gone, connector.Erasure)
	}
	if n.fired.Load() == 0 {
		t.Error("the fault never happened")
	}
}

// TestErrorTypes: only the type of an error is shown to people, so it has to
// say what is wrong.
func TestErrorTypes(t *testing.T) {
	t.Parallel()
	s, n := spoiled(t, testserver.S3(t, testserver.S3Options{}))
	for _, test := range []struct {
		status int
		code   string
		is     func(error) bool
	}{
		{403, "AccessDenied", is[*objects.DeniedError]},
		{400, "ExpiredToken", func(err error) bool { return errors.Is(err, fs.ErrPermission) }},
		{503, "SlowDown", is[*objects.ThrottledError]},
		{404, "NoSuchBucket", is[*objects.NoBucketError]},
		{301, "PermanentRedirect", is[*objects.WrongRegionError]},
		{200, "", is[*objects.StrangeAnswerError]},
	} {
		n.spoil(func(w http.ResponseWriter, _ *http.Request) bool {
			if test.status == 200 {
				io.WriteString(w, "<html><body>Please log in</body></html>")
			} else {
				s3Error(w, test.status, test.code)
			}
			return true
		})
		if err := s.probe("k")[0].Err; !test.is(err) {
			t.Errorf("%d %s: got %T: %v", test.status, test.code, err, err)
		}
	}
}

// is reports that the outermost error has the type.
func is[E error](err error) bool {
	_, ok := err.(E)
	return ok
}
