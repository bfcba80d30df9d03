package objects_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/internal/testserver"
)

// The server is killed between claim and erasure. Nothing is gone that nobody
// could look at; when it is back, a rerun finishes.
func TestServerKilledMidBatch(t *testing.T) {
	t.Parallel()
	server := testserver.NewS3(t)
	s := open(t, server.Bucket(t, testserver.S3Options{Versioning: "Enabled"}), objects.Options{Attempts: 2, Timeout: 5 * time.Second,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("k%02d", i))
		s.put(keys[i], "x")
	}
	items := s.items(keys...)
	cl, claimed := s.Claim(t.Context(), nil, items)
	which := make([]int, len(items))
	for i, r := range claimed {
		wantResult(t, "claim", r, connector.Present, connector.Eligible)
		which[i] = i
	}
	server.Kill(t)
	for _, r := range cl.Erase(t.Context(), which).Results {
		wantResult(t, "erase without a server", r, connector.Unknown, connector.Unreachable)
	}
	if err := cl.Release(); err != nil {
		t.Error(err)
	}
	for _, r := range s.purge(t.Context(), nil, items) {
		wantResult(t, "claim without a server", r, connector.Unknown, connector.Unreachable)
	}
	server.Start(t)
	for i, r := range s.purge(t.Context(), nil, items) {
		wantResult(t, "rerun "+keys[i], r, connector.Gone, connector.Erasure)
	}
	if left := s.left(); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// The connection is cut in the midst of the deletions: what went before is gone,
// what was to go after it is there, and each is told for itself.
func TestConnectionCutBetweenDeletions(t *testing.T) {
	t.Parallel()
	s, n := spoiled(t, testserver.S3(t, testserver.S3Options{}))
	var keys []string
	for i := range 250 { // three requests
		keys = append(keys, fmt.Sprintf("k%03d", i))
		s.put(keys[i], "x")
	}
	items := s.items(keys...)
	var passed atomic.Int64
	n.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if !isDelete(r) || passed.Add(1) == 1 {
			return false
		}
		cut(w)
		return true
	})
	there := map[string]bool{}
	results := s.purge(t.Context(), nil, items)
	for _, k := range s.leftKeys() {
		there[k] = true
	}
	gone := 0
	for i, r := range results {
		if there[keys[i]] {
			wantResult(t, keys[i], r, connector.Present, connector.Unreachable)
		} else {
			wantResult(t, keys[i], r, connector.Gone, connector.Erasure)
			gone++
		}
	}
	if gone == 0 || gone == len(keys) || n.fired.Load() == 0 {
		t.Errorf("%d of %d went, %d requests were cut: not in the midst", gone, len(keys), n.fired.Load())
	}
	n.heal()
	for _, r := range s.purge(t.Context(), nil, s.items(s.leftKeys()...)) {
		wantResult(t, "rerun", r, connector.Gone, connector.Erasure)
	}
	if left := s.left(); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// A server that does not answer any more when it is to delete.
func TestTimeoutOfDeletions(t *testing.T) {
	t.Parallel()
	b := testserver.S3(t, testserver.S3Options{})
	n := newNetwork(t, b)
	through := b
	through.Endpoint = n.endpoint
	patient := open(t, b, objects.Options{})
	patient.put("a", "x")
	patient.put("b", "x")
	items := patient.items("a", "b")
	hang := func(_ http.ResponseWriter, r *http.Request) bool {
		if isDelete(r) {
			io.Copy(io.Discard, r.Body) //nolint:errcheck // only then it is noticed that nobody waits any more
			<-r.Context().Done()
		}
		return isDelete(r)
	}
	n.spoil(hang)
	// The look is quick, so that it comes to deletions: where it is not, there is
	// more time.
	for limit := 100 * time.Millisecond; n.fired.Load() == 0 && limit < time.Minute; limit *= 4 {
		s := open(t, through, objects.Options{Attempts: 2, Timeout: limit,
			Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
		for i, r := range s.purge(t.Context(), nil, items) {
			if r.State == connector.Gone || r.Reason != connector.Unreachable {
				t.Errorf("%s: %v %s (%v)", items[i].Locator, r.State, r.Reason, r.Err)
			}
		}
	}
	if n.fired.Load() == 0 {
		t.Error("the fault never happened")
	}
	n.heal()
	for _, r := range patient.purge(t.Context(), nil, items) {
		wantResult(t, "rerun", r, connector.Gone, connector.Erasure)
	}
}

// Somebody empties the bucket and takes it away between claim and erasure: what
// was in it cannot be looked at, whatever became of it.
func TestBucketTakenAway(t *testing.T) {
	t.Parallel()
	s := open(t, testserver.S3(t, testserver.S3Options{}), objects.Options{})
	s.put("a", "x")
	items := s.items("a")
	cl, _ := s.Claim(t.Context(), nil, items)
	s.hide("a")
	if _, err := s.s3.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &s.Name}); err != nil {
		t.Fatal(err)
	}
	wantResult(t, "erase", cl.Erase(t.Context(), []int{0}).Results[0], connector.Unknown, connector.Unreachable)
	wantResult(t, "probe", s.probe("a")[0], connector.Unknown, connector.Unreachable)
	if err := scanError(t, s, modified("", someday())); err == nil {
		t.Error("the scan ended without an error")
	}
}

// Another region than the server's, and another key: the server itself refuses.
func TestServerRefusesTheSignature(t *testing.T) {
	t.Parallel()
	b := testserver.S3(t, testserver.S3Options{})
	good := open(t, b, objects.Options{})
	good.put("a", "x")
	items := good.items("a")
	elsewhere, wrong := b, b
	elsewhere.Region = "eu-central-1"
	wrong.SecretKey += "x"
	for name, test := range map[string]struct {
		b    testserver.Bucket
		want connector.Reason
	}{"another region": {elsewhere, connector.Unreachable}, "a wrong key": {wrong, connector.NoPermission}} {
		s := open(t, test.b, objects.Options{Attempts: 2})
		wantResult(t, name+": probe", s.probe("a")[0], connector.Unknown, test.want)
		wantResult(t, name+": claim", s.purge(t.Context(), nil, items)[0], connector.Unknown, test.want)
		if err := scanError(t, s, modified("", someday())); err == nil {
			t.Errorf("%s: the scan ended without an error", name)
		}
	}
	if len(good.left()) != 1 {
		t.Error("the object is gone")
	}
}
