package objects_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"testing"

	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/internal/testserver"
)

// Notes are written in the place of what was read, and of nothing else.
func TestNotes(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]testserver.Bucket{
		"gateway":             testserver.S3(t, testserver.S3Options{}),
		"gateway with a lock": testserver.S3(t, testserver.S3Options{Lock: true}),
		"fake":                testserver.FakeS3(t, testserver.S3Options{}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, ctx := notesOf(t, b), t.Context()
			if data, version, err := n.Get(ctx, "head"); data != nil || version != "" || err != nil {
				t.Fatalf("of nothing: %q, %q, %v", data, version, err)
			}
			if err := n.Put(ctx, "head", "", []byte("one")); err != nil {
				t.Fatal(err)
			}
			if err := n.Put(ctx, "head", "", []byte("two")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("where there was nothing: %v", err)
			}
			data, version, err := n.Get(ctx, "head")
			if string(data) != "one" || version == "" || err != nil {
				t.Fatalf("read %q, %q, %v", data, version, err)
			}
			if err := n.Put(ctx, "head", version, []byte("three")); err != nil {
				t.Fatal(err)
			}
			if err := n.Put(ctx, "head", version, []byte("four")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("in the place of an older one: %v", err)
			}
			if err := n.Put(ctx, "never", version, []byte("five")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("in the place of one that is gone: %v", err)
			}
			if data, _, err := n.Get(ctx, "head"); string(data) != "three" || err != nil {
				t.Errorf("left is %q, %v", data, err)
			}
		})
	}
}

func notesOf(t *testing.T, b testserver.Bucket) *objects.Notes {
	t.Helper()
	n, err := objects.OpenNotes(t.Context(), "s3://"+b.Name+"/pins", objects.Options{
		Endpoint: b.Endpoint, Region: b.Region, AccessKey: b.AccessKey, SecretKey: b.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A store that refuses a condition is written to without one; any other failure
// stays a failure.
func TestNotesWithoutConditions(t *testing.T) {
	t.Parallel()
	b := testserver.S3(t, testserver.S3Options{})
	w := newNetwork(t, b)
	through := b
	through.Endpoint = w.endpoint
	n := notesOf(t, through)
	for code, kept := range map[int]bool{http.StatusNotImplemented: true, http.StatusBadRequest: true, http.StatusForbidden: false, http.StatusInternalServerError: false} {
		w.spoil(func(w http.ResponseWriter, r *http.Request) bool {
			conditional := r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != ""
			if conditional {
				s3Error(w, code, "Something")
			}
			return conditional
		})
		key := http.StatusText(code)
		err := n.Put(t.Context(), key, "", []byte("x"))
		data, _, _ := n.Get(context.Background(), key)
		if (err == nil) != kept || (string(data) == "x") != kept || errors.Is(err, fs.ErrExist) {
			t.Errorf("%d: %v, there is %q", code, err, data)
		}
	}
}
