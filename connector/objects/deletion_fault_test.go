package objects_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/internal/testserver"
)

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
