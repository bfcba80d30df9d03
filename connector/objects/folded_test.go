package objects_test

import (
	"testing"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/internal/testserver"
)

// A gateway on a file system reads keys as paths: it gives the object for a key
// that it lists by another spelling. Such a key is never said to be missing. Seen
// to fail, with the answer MISSING, without the look by name.
func TestFoldedKeyIsNotMissing(t *testing.T) {
	t.Parallel()
	keys := []string{"/a/../b.wav", "c//d", "e/./f", "/g"}
	s := open(t, testserver.S3(t, testserver.S3Options{}), objects.Options{})
	for _, key := range keys {
		s.put(key, "x")
		if r := s.Probe(t.Context(), []connector.Locator{connector.Locator(key)})[0]; r.State == connector.Gone {
			t.Errorf("%q is %v (%s) and can be had", key, r.State, r.Reason)
		}
		if r := s.Probe(t.Context(), []connector.Locator{connector.Locator("no" + key)})[0]; r.State != connector.Gone {
			t.Errorf("%q is %v (%s, %v), and nothing is there", "no"+key, r.State, r.Reason, r.Err)
		}
	}
	// Where dots and slashes are letters, the keys are what they are.
	s = open(t, testserver.FakeS3(t, testserver.S3Options{}), objects.Options{})
	for _, key := range keys {
		at := []connector.Locator{connector.Locator(key)}
		if r := s.Probe(t.Context(), at)[0]; r.State != connector.Gone {
			t.Errorf("%q is %v (%s, %v) before it was written", key, r.State, r.Reason, r.Err)
		}
		s.put(key, "x")
		if r := s.Probe(t.Context(), at)[0]; r.State != connector.Present {
			t.Errorf("%q is %v (%s, %v)", key, r.State, r.Reason, r.Err)
		}
	}
}
