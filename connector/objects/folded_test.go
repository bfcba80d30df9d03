package objects_test

import (
	"net/http"
	"slices"
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

// Who may list and not read is denied what is there, and told that nothing is
// where nothing is.
func TestFoldedKeyThatIsDenied(t *testing.T) {
	t.Parallel()
	s, n := spoiled(t, testserver.S3(t, testserver.S3Options{}))
	s.put("c//d", "x")
	n.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead || r.URL.Path != "/"+s.Name+"/c//d" {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	rs := s.probe("c//d", "c//e")
	wantResult(t, "denied", rs[0], connector.Unknown, connector.NoPermission)
	wantResult(t, "absent", rs[1], connector.Gone, connector.Missing)
}

// A gateway on a file system passes over an object whose key ends in a slash where
// a listing begins close before it. It was called missing, and was there.
func TestDirectoryObjectIsSeen(t *testing.T) {
	t.Parallel()
	for _, versioning := range []string{"", "Enabled", "Suspended"} {
		for _, keys := range [][]string{
			{"rec/dir/"},
			{"rec/dir/", "rec/e", "rec/f", "rec/g"},
			{"rec/dir-1", "rec/dir-2", "rec/dir-3", "rec/dir/", "rec/dir/other"},
			{"/front", "a", "b", "c", "rec/dir/"},
		} {
			t.Run(versioning+" "+keys[0], func(t *testing.T) {
				t.Parallel()
				s := open(t, testserver.S3(t, testserver.S3Options{Versioning: versioning}), objects.Options{})
				s.put("rec/dir/child", "x")
				s.put("rec/dir/", "")
				at := slices.Index(keys, "rec/dir/")
				items := s.items(keys...)
				if r := s.probe(keys...)[at]; r.State != connector.Present {
					t.Fatalf("it is there, and a look says %v %s", r.State, r.Reason)
				}
				// By itself, as the rest is missing.
				if r := s.purge(t.Context(), nil, items[at:at+1])[0]; r.State != connector.Gone || r.Reason != connector.Erasure {
					t.Errorf("purged: %v %s (%v)", r.State, r.Reason, r.Err)
				}
				if r := s.probe(keys...)[at]; r.State != connector.Gone {
					t.Errorf("after the purge: %v %s", r.State, r.Reason)
				}
				if got := s.leftKeys(); len(got) != 1 || got[0] != "rec/dir/child" {
					t.Errorf("left are %q", got)
				}
			})
		}
	}
}
