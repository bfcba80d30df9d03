package objects_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/internal/testserver"
)

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// The content is read to its end; the current version of several counts.
func TestSHA256(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s *store) {
		big := noise(3<<20 + 7)
		for key, content := range map[string][]byte{"a": []byte("abc"), "empty": {}, "big/ö.bin": big} {
			for _, body := range [][]byte{[]byte("the version before"), content} {
				if _, err := s.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.Name, Key: &key, Body: bytes.NewReader(body)}); err != nil {
					t.Fatal(err)
				}
			}
			sum, size, read, err := s.SHA256(t.Context(), connector.Locator(key))
			if err != nil || sum != sha256.Sum256(content) || size != int64(len(content)) || read != 0 && read != size {
				t.Errorf("%s: %x, %d, %d, %v", key, sum, size, read, err)
			}
		}
		if _, _, _, err := s.SHA256(t.Context(), "absent"); err == nil {
			t.Error("an absent key has a hash")
		}
		if _, _, _, err := s.SHA256(t.Context(), ""); err == nil {
			t.Error("no key has a hash")
		}
	})
}

// Where the server keeps a SHA-256 of the whole object, nothing is read; a hash of
// the parts' hashes is not taken for one.
func TestSHA256ThatTheServerKeeps(t *testing.T) {
	t.Parallel()
	s := open(t, testserver.S3(t, testserver.S3Options{}), objects.Options{})
	content := noise(6 << 20)
	if _, err := s.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.Name, Key: aws.String("whole"), Body: bytes.NewReader(content),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256}); err != nil {
		t.Fatal(err)
	}
	sum, size, read, err := s.SHA256(t.Context(), "whole")
	if err != nil || sum != sha256.Sum256(content) || size != int64(len(content)) || read != 0 {
		t.Errorf("whole: %x, %d, %d, %v", sum, size, read, err)
	}
	key := aws.String("parts")
	up, err := s.s3.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.Name, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	if err != nil {
		t.Fatal(err)
	}
	var done []types.CompletedPart
	for n, part := range [][]byte{content[:5<<20], content[5<<20:]} {
		out, err := s.s3.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &s.Name, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(int32(n + 1)),
			Body: bytes.NewReader(part), ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(int32(n + 1)), ChecksumSHA256: out.ChecksumSHA256})
	}
	if _, err := s.s3.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: &s.Name, Key: key, UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done}}); err != nil {
		t.Fatal(err)
	}
	sum, size, read, err = s.SHA256(t.Context(), "parts")
	if err != nil || sum != sha256.Sum256(content) || size != int64(len(content)) || read != size {
		t.Errorf("parts: %x, %d, %d, %v", sum, size, read, err)
	}
}

// An answer that breaks off is asked for again, and is no hash when it always does;
// a denial is one.
func TestSHA256OfWhatBreaksOff(t *testing.T) {
	t.Parallel()
	b := testserver.FakeS3(t, testserver.S3Options{})
	target, err := url.Parse(b.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	content := noise(1 << 20)
	if _, err := b.Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &b.Name, Key: aws.String("a"), Body: bytes.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
	var cuts atomic.Int32
	var deny atomic.Bool
	proxy := httputil.NewSingleHostReverseProxy(target)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case deny.Load():
			w.WriteHeader(http.StatusForbidden)
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/a") && cuts.Add(-1) >= 0:
			w.Header().Set("Content-Length", "1048576")
			_, _ = w.Write(content[:1000])
			panic(http.ErrAbortHandler)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(web.Close)
	b.Endpoint = web.URL
	s := open(t, b, objects.Options{Attempts: 3})
	cuts.Store(2)
	if sum, _, _, err := s.SHA256(t.Context(), "a"); err != nil || sum != sha256.Sum256(content) {
		t.Errorf("after two cuts: %v", err)
	}
	cuts.Store(100)
	if sum, _, _, err := s.SHA256(t.Context(), "a"); err == nil || sum != [32]byte{} {
		t.Errorf("cut for ever: %x %v", sum, err)
	}
	deny.Store(true)
	if _, _, _, err := s.SHA256(t.Context(), "a"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("denied: %v", err)
	}
}
