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
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

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
		Attempts: 4, Timeout: 2 * time.Second, Jitter: func() float64 { return 0.5 },
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

// TestPassingFaultsAreRetried: every second request fails in a way that may
// pass, and the work gets done.
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
			var turn atomic.Int64
			n.spoil(func(w http.ResponseWriter, _ *http.Request) bool {
				if turn.Add(1)%2 == 0 {
					return false
				}
				fail(w)
				return true
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

// TestOneKeyDenied: an error for one key of a batch is that key's alone.
func TestOneKeyDenied(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		code string
		want connector.Reason
	}{{"AccessDenied", connector.NoPermission}, {"SlowDown", connector.Unreachable}, {"InternalError", connector.Unreachable},
		{"MalformedXML", connector.Refused}} {
		t.Run(fault.code, func(t *testing.T) {
			t.Parallel()
			s, n := spoiled(t, testserver.S3(t, testserver.S3Options{}))
			keys := []string{"k1", "k2", "guarded", "k3", "k4"}
			for _, k := range keys {
				s.put(k, "x")
			}
			n.spoil(func(w http.ResponseWriter, r *http.Request) bool { return s.guard(w, r, fault.code) })
			for i, r := range s.purge(t.Context(), nil, s.items(keys...)) {
				if keys[i] == "guarded" {
					wantResult(t, keys[i], r, connector.Present, fault.want)
				} else {
					wantResult(t, keys[i], r, connector.Gone, connector.Erasure)
				}
			}
			if got := s.leftKeys(); len(got) != 1 || got[0] != "guarded" {
				t.Errorf("left: %q", got)
			}
			n.heal()
			wantResult(t, "rerun", s.purge(t.Context(), nil, s.items("guarded"))[0], connector.Gone, connector.Erasure)
		})
	}
}

// guard answers a batch that holds the key "guarded" in the server's place: it
// deletes the other keys and gives the code for that one. A malformed batch is
// refused as a whole.
func (s *store) guard(w http.ResponseWriter, r *http.Request, code string) bool {
	if !isDelete(r) {
		return false
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if !strings.Contains(string(body), "<Key>guarded</Key>") && !strings.HasSuffix(r.URL.Path, "/guarded") {
		return false
	}
	if code == "MalformedXML" || r.Method == http.MethodDelete {
		s3Error(w, 400, code)
		return true
	}
	var answer strings.Builder
	for _, part := range strings.Split(string(body), "<Key>")[1:] {
		key, _, _ := strings.Cut(part, "</Key>")
		if key == "guarded" {
			fmt.Fprintf(&answer, "<Error><Key>guarded</Key><Code>%s</Code><Message>spoiled</Message></Error>", code)
			continue
		}
		s.hide(key)
		fmt.Fprintf(&answer, "<Deleted><Key>%s</Key></Deleted>", key)
	}
	fmt.Fprintf(w, "<DeleteResult>%s</DeleteResult>", answer.String())
	return true
}

// TestBreakingOffBringsNothingBack: between the two rounds of a deletion the
// application sees what it saw before, not what it had deleted or replaced.
func TestBreakingOffBringsNothingBack(t *testing.T) {
	t.Parallel()
	s, n := spoiled(t, testserver.S3(t, testserver.S3Options{Versioning: "Enabled"}))
	s.put("hidden", "old")
	s.hide("hidden")
	s.put("replaced", "old")
	s.put("replaced", "new")
	items := s.items("hidden", "replaced")
	n.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if !isDelete(r) || !n.struck.Swap(true) {
			return false // the first round passes
		}
		s3Error(w, 403, "AccessDenied")
		return true
	})
	for i, r := range s.purge(t.Context(), nil, items) {
		wantResult(t, string(items[i].Locator), r, connector.Present, connector.NoPermission)
	}
	if n.fired.Load() == 0 {
		t.Fatal("the fault never happened")
	}
	if _, err := s.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &s.Name, Key: aws.String("hidden")}); err == nil {
		t.Error("a deleted object came back")
	}
	out, err := s.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &s.Name, Key: aws.String("replaced")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if body, _ := io.ReadAll(out.Body); string(body) != "new" {
		t.Errorf("the application reads %q, want the new version", body)
	}
	n.heal()
	for i, r := range s.purge(t.Context(), nil, s.items("hidden", "replaced")) {
		wantResult(t, "rerun "+string(items[i].Locator), r, connector.Gone, connector.Erasure)
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

// TestKeyThatXMLCannotSpell: a batch delete would name another key, so that such
// a key is deleted by a request of its own. The listing spells it as AWS does.
func TestKeyThatXMLCannotSpell(t *testing.T) {
	t.Parallel()
	s, n := spoiled(t, testserver.FakeS3(t, testserver.S3Options{}))
	s.put("a\x01b c+d", "x")
	var batches, singles atomic.Int64
	n.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case isList(r) && r.URL.Query().Has("list-type"):
			content := `<Contents><Key>a%01b+c%2Bd</Key><ETag>"e"</ETag><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>`
			if singles.Load() > 0 {
				content = ""
			}
			fmt.Fprintf(w, "<ListBucketResult><EncodingType>url</EncodingType>%s</ListBucketResult>", content)
			return true
		case r.Method == http.MethodPost:
			batches.Add(1)
		case r.Method == http.MethodDelete:
			singles.Add(1)
			if got := r.URL.Path; got != "/"+s.Name+"/a\x01b c+d" {
				t.Errorf("deletes %q", got)
			}
		}
		return false
	})
	items, _ := s.scan(modified("", someday()))
	for _, r := range s.purge(t.Context(), nil, items) {
		wantResult(t, "purge", r, connector.Gone, connector.Erasure)
	}
	if len(items) != 1 || batches.Load() != 0 || singles.Load() != 1 {
		t.Errorf("%d items, %d batches, %d single requests, want 1, 0, 1", len(items), batches.Load(), singles.Load())
	}
	n.heal()
	out, err := s.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &s.Name})
	if err != nil || len(out.Contents) != 0 {
		t.Errorf("left: %v, %v", out, err)
	}
}

// TestDeletesAreConditional: where a delete cannot name a version it names the
// ETag that was seen, for servers that honour it.
func TestDeletesAreConditional(t *testing.T) {
	t.Parallel()
	s, n := spoiled(t, testserver.S3(t, testserver.S3Options{}))
	etag := strings.Trim(aws.ToString(s.put("k", "x").ETag), `"`)
	var sent atomic.Pointer[string]
	n.spoil(func(_ http.ResponseWriter, r *http.Request) bool {
		if isDelete(r) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			text := string(body)
			sent.Store(&text)
		}
		return false
	})
	wantResult(t, "purge", s.purge(t.Context(), nil, s.items("k"))[0], connector.Gone, connector.Erasure)
	if body := sent.Load(); body == nil || !strings.Contains(*body, "<ETag>&#34;"+etag+"&#34;</ETag>") && !strings.Contains(*body, "<ETag>&quot;"+etag+"&quot;</ETag>") {
		t.Errorf("sent %q, want the ETag %q in it", aws.ToString(sent.Load()), etag)
	}
	// A server that does honour it: the key stays and is called changed.
	s.put("k", "x")
	items := s.items("k")
	n.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if isDelete(r) {
			io.WriteString(w, "<DeleteResult><Error><Key>k</Key><Code>PreconditionFailed</Code></Error></DeleteResult>")
		}
		return isDelete(r)
	})
	wantResult(t, "a failed condition", s.purge(t.Context(), nil, items)[0], connector.Present, connector.Changed)
}
