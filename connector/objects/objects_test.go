package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/internal/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// store is a bucket, a connector on it, and a client of the SDK that looks at
// it without our code.
type store struct {
	*objects.Connector
	testserver.Bucket
	s3 *s3.Client
	t  *testing.T
}

// servers are the kinds of bucket that most tests run on.
var servers = []struct {
	name string
	make func(*testing.T) testserver.Bucket
}{
	{"versitygw", func(t *testing.T) testserver.Bucket { return testserver.S3(t, testserver.S3Options{}) }},
	{"versitygw versioned", func(t *testing.T) testserver.Bucket {
		return testserver.S3(t, testserver.S3Options{Versioning: "Enabled"})
	}},
	{"versitygw suspended", func(t *testing.T) testserver.Bucket {
		return testserver.S3(t, testserver.S3Options{Versioning: "Suspended"})
	}},
	{"versitygw lock", func(t *testing.T) testserver.Bucket { return testserver.S3(t, testserver.S3Options{Lock: true}) }},
	{"gofakes3", func(t *testing.T) testserver.Bucket { return testserver.FakeS3(t, testserver.S3Options{}) }},
	{"gofakes3 versioned", func(t *testing.T) testserver.Bucket {
		return testserver.FakeS3(t, testserver.S3Options{Versioning: "Enabled"})
	}},
}

func onEach(t *testing.T, f func(*testing.T, *store)) {
	t.Helper()
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			f(t, open(t, s.make(t), objects.Options{}))
		})
	}
}

func options(b testserver.Bucket, o objects.Options) objects.Options {
	o.Endpoint, o.Region, o.AccessKey, o.SecretKey = b.Endpoint, b.Region, b.AccessKey, b.SecretKey
	return o
}

func open(t *testing.T, b testserver.Bucket, o objects.Options) *store {
	t.Helper()
	return openAt(t, "s3://"+b.Name, b, o)
}

func openAt(t *testing.T, target string, b testserver.Bucket, o objects.Options) *store {
	t.Helper()
	c, err := objects.Open(t.Context(), target, options(b, o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &store{c, b, b.Client(), t}
}

func (s *store) put(key, body string) *s3.PutObjectOutput {
	s.t.Helper()
	out, err := s.s3.PutObject(s.t.Context(), &s3.PutObjectInput{Bucket: &s.Name, Key: &key, Body: bytes.NewReader([]byte(body))})
	if err != nil {
		s.t.Fatalf("put %q: %v", key, err)
	}
	return out
}

// hide deletes without a version, as an application does.
func (s *store) hide(key string) {
	s.t.Helper()
	if _, err := s.s3.DeleteObject(s.t.Context(), &s3.DeleteObjectInput{Bucket: &s.Name, Key: &key}); err != nil {
		s.t.Fatalf("delete %q: %v", key, err)
	}
}

func (s *store) upload(key string) string {
	s.t.Helper()
	out, err := s.s3.CreateMultipartUpload(s.t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.Name, Key: &key})
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = s.s3.UploadPart(s.t.Context(), &s3.UploadPartInput{Bucket: &s.Name, Key: &key, UploadId: out.UploadId,
		PartNumber: aws.Int32(1), Body: bytes.NewReader(make([]byte, 1000))})
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.UploadId
}

// left lists what the server still keeps, by our own eyes: one line for each
// version, marker and upload.
func (s *store) left() []string {
	s.t.Helper()
	seen := map[string]bool{}
	in := &s3.ListObjectVersionsInput{Bucket: &s.Name}
	for {
		out, err := s.s3.ListObjectVersions(context.Background(), in)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, v := range out.Versions {
			seen[fmt.Sprintf("%s version %s", *v.Key, aws.ToString(v.VersionId))] = true
		}
		for _, v := range out.DeleteMarkers {
			seen[fmt.Sprintf("%s marker %s", *v.Key, aws.ToString(v.VersionId))] = true
		}
		if !aws.ToBool(out.IsTruncated) {
			break
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
	}
	up, err := s.s3.ListMultipartUploads(context.Background(), &s3.ListMultipartUploadsInput{Bucket: &s.Name})
	var api interface{ ErrorCode() string }
	if errors.As(err, &api) && api.ErrorCode() == "NoSuchUpload" {
		up, err = &s3.ListMultipartUploadsOutput{}, nil // gofakes3, where there is none
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for _, u := range up.Uploads {
		seen[fmt.Sprintf("%s upload %s", *u.Key, *u.UploadId)] = true
	}
	var lines []string
	for l := range seen {
		lines = append(lines, l)
	}
	slices.Sort(lines)
	return lines
}

// leftKeys are the keys of what is left.
func (s *store) leftKeys() []string {
	s.t.Helper()
	var keys []string
	for _, l := range s.left() {
		l = l[:strings.LastIndexByte(l, ' ')]
		keys = append(keys, l[:strings.LastIndexByte(l, ' ')])
	}
	return slices.Compact(keys)
}

func (s *store) probe(keys ...string) []connector.Result {
	s.t.Helper()
	at := make([]connector.Locator, len(keys))
	for i, k := range keys {
		at[i] = connector.Locator(k)
	}
	return s.Probe(s.t.Context(), at)
}

// items are the keys as a plan would hold them.
func (s *store) items(keys ...string) []connector.Item {
	s.t.Helper()
	var items []connector.Item
	for i, r := range s.probe(keys...) {
		items = append(items, connector.Item{Locator: connector.Locator(keys[i]), Print: r.Print, Bytes: r.Bytes})
	}
	return items
}

// purge claims all items and erases those that were claimed.
func (s *store) purge(ctx context.Context, q *connector.Query, items []connector.Item) []connector.Result {
	s.t.Helper()
	cl, results := s.Claim(ctx, q, items)
	defer func() {
		if err := cl.Release(); err != nil {
			s.t.Error(err)
		}
	}()
	if len(results) != len(items) {
		s.t.Fatalf("claim gave %d results for %d items", len(results), len(items))
	}
	var which []int
	for i, r := range results {
		if r.State == connector.Present && r.Reason == connector.Eligible {
			which = append(which, i)
		}
	}
	for n, r := range cl.Erase(ctx, which).Results {
		results[which[n]] = r
	}
	return results
}

func (s *store) scan(q *connector.Query) ([]connector.Item, connector.Survey) {
	s.t.Helper()
	var survey connector.Survey
	var items []connector.Item
	for it, err := range s.Scan(s.t.Context(), q, &survey) {
		if err != nil {
			s.t.Fatal(err)
		}
		items = append(items, it)
	}
	return items, survey
}

func locators(items []connector.Item) []string {
	var keys []string
	for _, it := range items {
		keys = append(keys, string(it.Locator))
	}
	return keys
}

func modified(prefix string, cutoff time.Time) *connector.Query {
	return &connector.Query{Collection: prefix, Anchor: connector.Anchor{Kind: connector.AnchorModified}, Cutoff: cutoff}
}

// someday is after all that a test makes.
func someday() time.Time { return time.Now().Add(24 * time.Hour) }

func wantResult(t *testing.T, what string, got connector.Result, state connector.State, reason connector.Reason) {
	t.Helper()
	if got.State != state || got.Reason != reason {
		t.Errorf("%s: got %v %s (%v), want %v %s", what, got.State, got.Reason, got.Err, state, reason)
	}
}

func TestGoneMeansAllVersionsGone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s *store) {
		s.put("a/one", "first")
		s.put("a/one", "second")
		s.put("a/one", "third")
		s.put("a/one.more", "a neighbour that begins like it")
		s.put("a/hidden", "deleted by the application")
		s.hide("a/hidden")
		s.put("a/back", "x")
		s.hide("a/back")
		s.put("a/back", "y")
		s.upload("a/uploading")
		s.put("a/both", "z")
		s.upload("a/both")

		keys := []string{"a/one", "a/hidden", "a/back", "a/uploading", "a/both", "a/never"}
		items := s.items(keys...)
		for i, r := range s.purge(t.Context(), nil, items) {
			hidden := keys[i] == "a/hidden" && items[i].Print == "" // no versions: it is gone already
			if keys[i] == "a/never" || hidden {
				wantResult(t, keys[i], r, connector.Gone, connector.Missing)
			} else {
				wantResult(t, keys[i], r, connector.Gone, connector.Erasure)
			}
		}
		if got, want := s.leftKeys(), []string{"a/one.more"}; !slices.Equal(got, want) {
			t.Errorf("left: %q, want %q", s.left(), want)
		}
		for i, r := range s.probe(keys...) {
			wantResult(t, "afterwards "+keys[i], r, connector.Gone, connector.Missing)
		}
	})
}

func TestHiddenIsPresent(t *testing.T) {
	t.Parallel()
	b := testserver.S3(t, testserver.S3Options{Versioning: "Enabled"})
	s := open(t, b, objects.Options{})
	s.put("k", "twelve bytes")
	s.hide("k")
	r := s.probe("k")[0]
	wantResult(t, "a key that only a delete marker hides", r, connector.Present, "")
	if r.Bytes != 12 {
		t.Errorf("bytes: got %d, want 12", r.Bytes)
	}
}

func TestKeysAreUsedAsStored(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long-"+strings.Repeat("x", 245)+"/", 4) + strings.Repeat("y", 20)
	odd := []string{"plain", "with space", "plus+plus", "per%cent", "per%20cent", "äöü/日本語/🎉", "quote\"'<&>", "q?x=1#f", "a=b&c=d",
		" leading", "trailing ", "semi;colon:at@", "back\\slash", "new\nline", "tab\tkey", "dots..", "star*[x]{y}", "~tilde", long}
	// A gateway on a file system keeps no empty path elements; the other does.
	flat := []string{"a//b", "//", "/lead", "a/./b", "trail/", "cr\rkey", "\u2028", "nul-\u0085"}
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, s.make(t), objects.Options{})
			keys := slices.Clone(odd)
			if strings.HasPrefix(t.Name(), "TestKeysAreUsedAsStored/gofakes3") {
				keys = append(keys, flat...)
			}
			for _, k := range keys {
				s.put(k, "body of "+k)
			}
			s.put("witness", "stays")
			items, survey := s.scan(modified("", someday()))
			got := locators(items)
			slices.Sort(got)
			want := append(slices.Clone(keys), "witness")
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("scan: got %q, want %q", got, want)
			}
			if survey.Total != int64(len(want)) {
				t.Errorf("total: got %d, want %d", survey.Total, len(want))
			}
			for i, r := range s.purge(t.Context(), nil, s.items(keys...)) {
				wantResult(t, fmt.Sprintf("%q", keys[i]), r, connector.Gone, connector.Erasure)
			}
			if got := s.leftKeys(); !slices.Equal(got, []string{"witness"}) {
				t.Errorf("left: %q", got)
			}
		})
	}
}

func TestKeyThatTheServerCannotSpell(t *testing.T) {
	t.Parallel()
	// XML has no \x01, and this server knows no other spelling: it lists the key
	// as another one.
	s := open(t, testserver.FakeS3(t, testserver.S3Options{}), objects.Options{})
	s.put("a\x01b", "x")
	wantResult(t, "probe", s.probe("a\x01b")[0], connector.Unknown, connector.Unreachable)
	s.put("plain", "x")
	wantResult(t, "its neighbour", s.probe("a\x01b", "plain")[1], connector.Present, "")
}

func TestChangedStays(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s *store) {
		s.put("k", "planned")
		items := s.items("k")
		s.put("k", "made since")
		wantResult(t, "claim of another version", s.purge(t.Context(), nil, items)[0], connector.Present, connector.Changed)
		items = s.items("k")
		cl, _ := s.Claim(t.Context(), nil, items)
		s.put("k", "made after the claim, longer")
		wantResult(t, "erase of another version", cl.Erase(t.Context(), []int{0}).Results[0], connector.Present, connector.Changed)
		out, err := s.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &s.Name, Key: aws.String("k")})
		if err != nil {
			t.Fatalf("the new version is gone: %v", err)
		}
		out.Body.Close()
		wantResult(t, "no fingerprint", s.purge(t.Context(), nil, []connector.Item{{Locator: "k"}})[0], connector.Present, connector.Changed)
	})
}

func TestLocksAreReadFirst(t *testing.T) {
	t.Parallel()
	s := open(t, testserver.S3(t, testserver.S3Options{Lock: true}), objects.Options{})
	until := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	keep := func(key string, mode types.ObjectLockRetentionMode, d time.Time, id *string) {
		t.Helper()
		_, err := s.s3.PutObjectRetention(t.Context(), &s3.PutObjectRetentionInput{Bucket: &s.Name, Key: &key, VersionId: id,
			Retention: &types.ObjectLockRetention{Mode: mode, RetainUntilDate: &d}})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.put("governed", "x")
	keep("governed", types.ObjectLockRetentionModeGovernance, until, nil)
	s.put("compliant", "x")
	keep("compliant", types.ObjectLockRetentionModeCompliance, until, nil)
	old := s.put("old version", "locked")
	keep("old version", types.ObjectLockRetentionModeGovernance, until, old.VersionId)
	s.put("old version", "free")
	s.put("held", "x")
	_, err := s.s3.PutObjectLegalHold(t.Context(), &s3.PutObjectLegalHoldInput{Bucket: &s.Name, Key: aws.String("held"),
		LegalHold: &types.ObjectLockLegalHold{Status: types.ObjectLockLegalHoldStatusOn}})
	if err != nil {
		t.Fatal(err)
	}
	s.put("free", "x")
	keys := []string{"governed", "compliant", "old version", "held", "free"}
	before := s.left()
	want := []connector.Reason{connector.LockedUntil, connector.LockedUntil, connector.LockedUntil, connector.Held, connector.Erasure}
	probed := s.probe(keys...)
	for i, r := range s.purge(t.Context(), nil, s.items(keys...)) {
		state := connector.Present
		if keys[i] == "free" {
			state = connector.Gone
		} else {
			wantResult(t, "probe of "+keys[i], probed[i], state, want[i])
		}
		wantResult(t, keys[i], r, state, want[i])
		if want[i] == connector.LockedUntil && !r.Until.Equal(until) {
			t.Errorf("%s: until %v, want %v", keys[i], r.Until, until)
		}
	}
	if got := s.left(); len(got) != len(before)-1 {
		t.Errorf("left: %q, want all of %q but one", got, before)
	}
}

func TestReadOnlyDeletesNothing(t *testing.T) {
	t.Parallel()
	for _, versioning := range []string{"", "Enabled"} {
		s := open(t, testserver.S3(t, testserver.S3Options{Versioning: versioning}), objects.Options{ReadOnly: true})
		for _, k := range []string{"a", "b", "\u2028", "u"} {
			s.put(k, "x")
		}
		s.upload("u")
		before := s.left()
		items, _ := s.scan(modified("", someday()))
		for i, r := range s.purge(t.Context(), nil, items) {
			wantResult(t, string(items[i].Locator), r, connector.Present, connector.Refused)
		}
		if after := s.left(); !slices.Equal(before, after) {
			t.Errorf("left %q of %q", after, before)
		}
	}
}
