package objects_test

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/internal/testserver"
)

// putMany stores the keys, several at a time.
func (s *store) putMany(keys []string) {
	s.t.Helper()
	var wg sync.WaitGroup
	work := make(chan string)
	for range 16 {
		wg.Go(func() {
			for k := range work {
				_, err := s.s3.PutObject(s.t.Context(), &s3.PutObjectInput{Bucket: &s.Name, Key: &k, Body: strings.NewReader(k)})
				if err != nil {
					s.t.Errorf("put: %v", err)
				}
			}
		})
	}
	for _, k := range keys {
		work <- k
	}
	close(work)
	wg.Wait()
}

// shapes are ways in which keys lie in a bucket.
func shapes() map[string][]string {
	var flat, wide, deep, mixed []string
	for i := range 2300 {
		flat = append(flat, fmt.Sprintf("flat-%06d", i))
		wide = append(wide, fmt.Sprintf("id-%06d/audio.mp3", i))
		deep = append(deep, fmt.Sprintf("one/way/down/%d/%02d/%03d", i%3, i%17, i))
	}
	for i := range 1500 {
		mixed = append(mixed, fmt.Sprintf("m/%04d", i), fmt.Sprintf("m/%04d/x", i*3), fmt.Sprintf("m/%04d.log", i), fmt.Sprintf("m/%04d-", i))
	}
	return map[string][]string{"flat": flat, "a folder each": wide, "deep": deep, "mixed": mixed}
}

func TestScanFindsEachKeyOnce(t *testing.T) {
	t.Parallel()
	for name, keys := range shapes() {
		for _, versioning := range []string{"", "Enabled"} {
			t.Run(name+" "+versioning, func(t *testing.T) {
				t.Parallel()
				if name == "mixed" {
					// A directory cannot be a file beside itself on a gateway to a file system.
					keys = slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return strings.HasSuffix(k, "/x") })
				}
				s := open(t, testserver.S3(t, testserver.S3Options{Versioning: versioning}), objects.Options{})
				s.putMany(keys)
				one, survey := s.scan(modified("", someday()))
				two, _ := s.scan(modified("", someday()))
				if diff := cmp.Diff(locators(one), locators(two)); diff != "" {
					t.Errorf("the second order differs:\n%.500s", diff)
				}
				got, want := locators(one), slices.Clone(keys)
				slices.Sort(got)
				slices.Sort(want)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("keys (-want +got):\n%.500s", diff)
				}
				if survey.Total != int64(len(keys)) {
					t.Errorf("total: got %d, want %d", survey.Total, len(keys))
				}
				if d := time.Since(survey.Clock).Abs(); d > time.Minute {
					t.Errorf("the server's clock is off by %v", d)
				}
				for i, r := range s.purge(t.Context(), modified("", someday()), one) {
					wantResult(t, string(one[i].Locator), r, connector.Gone, connector.Erasure)
				}
				if left := s.left(); len(left) != 0 {
					t.Errorf("%d are left, such as %q", len(left), left[0])
				}
			})
		}
	}
}

// TestVersionsAreCountedOnce: the gateway repeats a version at the boundary of
// two pages (its issue 2178).
func TestVersionsAreCountedOnce(t *testing.T) {
	t.Parallel()
	s := open(t, testserver.S3(t, testserver.S3Options{Versioning: "Enabled"}), objects.Options{})
	var keys []string
	for i := range 900 {
		keys = append(keys, fmt.Sprintf("v/%04d", i))
	}
	for range 3 {
		s.putMany(keys)
	}
	listed, distinct, pages := 0, map[string]bool{}, 0
	in := &s3.ListObjectVersionsInput{Bucket: &s.Name}
	for {
		out, err := s.s3.ListObjectVersions(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, v := range out.Versions {
			listed++
			distinct[*v.Key+*v.VersionId] = true
		}
		if !aws.ToBool(out.IsTruncated) {
			break
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
	}
	t.Logf("the server lists %d versions on %d pages, %d distinct", listed, pages, len(distinct))
	items, survey := s.scan(modified("v/", someday()))
	if len(items) != 900 || survey.Total != 900 {
		t.Errorf("got %d items and total %d, want 900", len(items), survey.Total)
	}
	for _, it := range items {
		if want := int64(3 * len("v/0000")); it.Bytes != want {
			t.Fatalf("bytes of a key: got %d, want %d", it.Bytes, want)
		}
	}
	for i, r := range s.Probe(t.Context(), locs(items)) {
		if r.Print != items[i].Print {
			t.Fatalf("probe and scan see %q differently", items[i].Locator)
		}
	}
}

func locs(items []connector.Item) []connector.Locator {
	at := make([]connector.Locator, len(items))
	for i, it := range items {
		at[i] = it.Locator
	}
	return at
}

// TestStuckMarkerEnds: the second server says of more than 1,000 versions that
// there are more, and not where.
func TestStuckMarkerEnds(t *testing.T) {
	t.Parallel()
	s := open(t, testserver.FakeS3(t, testserver.S3Options{Versioning: "Enabled"}), objects.Options{})
	var keys []string
	for i := range 1100 {
		keys = append(keys, fmt.Sprintf("k%04d", i))
	}
	s.putMany(keys)
	err := scanError(t, s, modified("", someday()))
	if err == nil || !strings.Contains(err.Error(), "marker does not advance") {
		t.Errorf("scan: got error %v", err)
	}
	wantResult(t, "one key", s.probe("k0500")[0], connector.Present, "")
}

// TestRepeatingMarkerEnds: a listing that sends its reader round in circles.
func TestRepeatingMarkerEnds(t *testing.T) {
	t.Parallel()
	s, n := spoiled(t, testserver.S3(t, testserver.S3Options{}))
	s.put("a", "x")
	n.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if !isList(r) {
			return false
		}
		io.WriteString(w, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>`+
			`<Contents><Key>a</Key><ETag>"e"</ETag><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>`)
		return true
	})
	if err := scanError(t, s, modified("", someday())); err == nil {
		t.Error("the scan ended without an error")
	}
}

// TestOrderAcrossPages: a second page that goes back to before the first. What it
// lists there was passed as absent.
func TestOrderAcrossPages(t *testing.T) {
	t.Parallel()
	for _, versioned := range []bool{false, true} {
		o := testserver.S3Options{}
		root, item, marker, next := "ListBucketResult", "Contents", "continuation-token", "<NextContinuationToken>k4</NextContinuationToken>"
		if versioned {
			o.Versioning = "Enabled"
			root, item, marker, next = "ListVersionsResult", "Version", "version-id-marker", "<NextKeyMarker>k4</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>"
		}
		s, n := spoiled(t, testserver.S3(t, o))
		pages := [2][]string{{"k2", "k3", "k4"}, {"k1", "k5"}}
		n.spoil(func(w http.ResponseWriter, r *http.Request) bool {
			if !isList(r) || r.URL.Query().Has("uploads") {
				return false
			}
			i, more := 0, next
			if r.URL.Query().Has(marker) {
				i, more = 1, ""
			}
			fmt.Fprintf(w, "<%s><IsTruncated>%t</IsTruncated>%s", root, i == 0, more)
			for _, k := range pages[i] {
				fmt.Fprintf(w, `<%s><Key>%s</Key><VersionId>v</VersionId><ETag>"e"</ETag><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></%[1]s>`, item, k)
			}
			fmt.Fprintf(w, "</%s>", root)
			return true
		})
		for i, r := range s.probe("k1", "k2", "k3", "k4", "k5") {
			if r.State == connector.Gone {
				t.Errorf("versioned %t: k%d is called gone: %v", versioned, i+1, r)
			}
		}
	}
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, testserver.S3(t, testserver.S3Options{Versioning: "Enabled"}), objects.Options{})
	tags := map[string]string{"t/instant": "2026-03-01T12:00:00+02:00", "t/day": "2026-03-29", "t/odd": "next week", "t/other": ""}
	for k, v := range tags {
		in := &s3.PutObjectInput{Bucket: &s.Name, Key: &k, Body: strings.NewReader("x")}
		if v != "" {
			in.Tagging = aws.String("other=1&keep-from=" + url.QueryEscape(v))
		}
		if _, err := s.s3.PutObject(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"n/app-2026-03-28.log", "n/2026/03/28/app.log", "n/app.log"} {
		s.put(k, "x")
	}
	for _, test := range []struct {
		prefix string
		anchor connector.Anchor
		want   map[string]string
	}{
		{"t/", connector.Anchor{Kind: connector.AnchorTag, Tag: "keep-from", Zone: berlin}, map[string]string{
			"t/instant": "2026-03-01T10:00:00Z", "t/day": "2026-03-29T22:00:00Z", // the day the clocks change has 23 hours
			"t/odd": "0001-01-01T00:00:00Z", "t/other": "0001-01-01T00:00:00Z"}},
		{"n/", connector.Anchor{Kind: connector.AnchorName, Layout: "app-YYYY-MM-DD.log", Zone: berlin}, map[string]string{
			"n/app-2026-03-28.log": "2026-03-28T23:00:00Z", "n/2026/03/28/app.log": "0001-01-01T00:00:00Z", "n/app.log": "0001-01-01T00:00:00Z"}},
		{"n/", connector.Anchor{Kind: connector.AnchorName, Layout: "YYYY/MM/DD/*", Zone: time.UTC}, map[string]string{
			"n/app-2026-03-28.log": "0001-01-01T00:00:00Z", "n/2026/03/28/app.log": "2026-03-29T00:00:00Z", "n/app.log": "0001-01-01T00:00:00Z"}},
	} {
		items, _ := s.scan(&connector.Query{Collection: test.prefix, Anchor: test.anchor, Cutoff: someday()})
		got := map[string]string{}
		for _, it := range items {
			got[string(it.Locator)] = it.Anchor.Format(time.RFC3339)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s %s: anchors (-want +got):\n%s", test.prefix, test.anchor.Layout, diff)
		}
	}
	// An hour before the end of the Berlin day nothing is due.
	q := &connector.Query{Collection: "t/day", Anchor: connector.Anchor{Kind: connector.AnchorTag, Tag: "keep-from", Zone: berlin},
		Cutoff: time.Date(2026, 3, 29, 22, 0, 0, 0, time.UTC)}
	items := s.items("t/day")
	wantResult(t, "claim at the end of the day", s.purge(t.Context(), q, items)[0], connector.Present, connector.NotDue)
	q.Cutoff = q.Cutoff.Add(time.Second)
	wantResult(t, "claim after it", s.purge(t.Context(), q, items)[0], connector.Gone, connector.Erasure)
}

// TestDueByModified: what is claimed by a rule must be due at that moment too.
func TestDueByModified(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s *store) {
		s.put("p/a", "x")
		items := s.items("p/a")
		early := modified("p/", time.Now().Add(-time.Hour))
		if got, survey := s.scan(early); len(got) != 0 || survey.Total != 1 {
			t.Errorf("got %d items of %d, want 0 of 1", len(got), survey.Total)
		}
		wantResult(t, "young", s.purge(t.Context(), early, items)[0], connector.Present, connector.NotDue)
		wantResult(t, "due", s.purge(t.Context(), modified("p/", someday()), items)[0], connector.Gone, connector.Erasure)
	})
}

func TestUploadsAreItems(t *testing.T) {
	t.Parallel()
	s := open(t, testserver.S3(t, testserver.S3Options{}), objects.Options{})
	s.put("u/with", "x")
	s.upload("u/with")
	s.upload("u/only")
	s.upload("other/only")
	items, survey := s.scan(modified("u/", someday()))
	if got, want := locators(items), []string{"u/with", "u/only"}; !slices.Equal(got, want) || survey.Total != 2 {
		t.Errorf("got %q of %d, want %q of 2", got, survey.Total, want)
	}
	for i, r := range s.purge(t.Context(), modified("u/", someday()), items) {
		wantResult(t, string(items[i].Locator), r, connector.Gone, connector.Erasure)
	}
	if got := s.leftKeys(); !slices.Equal(got, []string{"other/only"}) {
		t.Errorf("left: %q", got)
	}
}

func TestBucketsInLocators(t *testing.T) {
	t.Parallel()
	b := testserver.S3(t, testserver.S3Options{})
	c := testserver.S3(t, testserver.S3Options{Versioning: "Enabled"})
	s := openAt(t, "s3://", b, objects.Options{Buckets: []string{b.Name, c.Name}})
	one, two := open(t, b, objects.Options{}), open(t, c, objects.Options{})
	one.put("dir/k", "x")
	two.put("dir/k", "x")
	two.put("/lead", "x")
	at := []string{c.Name + "/dir/k", b.Name + "/dir/k", b.Name + "/never", "elsewhere-bucket/k", "", "no-slash", "Q!/k", c.Name + "/"}
	var got []string
	for _, r := range s.probe(at...) {
		got = append(got, r.State.String()+" "+string(r.Reason))
	}
	want := []string{"present ", "present ", "gone MISSING", "unknown INVALID", "unknown INVALID", "unknown INVALID", "unknown INVALID", "unknown INVALID"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("probe (-want +got):\n%s", diff)
	}
	items, _ := s.scan(modified(c.Name+"/dir/", someday()))
	if got := locators(items); !slices.Equal(got, []string{c.Name + "/dir/k"}) {
		t.Errorf("scan: %q", got)
	}
	wantResult(t, "purge", s.purge(t.Context(), nil, items)[0], connector.Gone, connector.Erasure)
	if one.leftKeys()[0] != "dir/k" || slices.Contains(two.leftKeys(), "dir/k") {
		t.Error("the key went from the wrong bucket")
	}
}

func TestPrefixIsABoundary(t *testing.T) {
	t.Parallel()
	b := testserver.S3(t, testserver.S3Options{})
	all := open(t, b, objects.Options{})
	all.put("audio/k", "x")
	all.put("audio/audio/k", "x")
	all.put("text/k", "x")
	s := openAt(t, "s3://"+b.Name+"/audio/", b, objects.Options{})
	got := s.probe("audio/k", "k", "text/k")
	wantResult(t, "the whole key", got[0], connector.Present, "")
	wantResult(t, "a key without the prefix", got[1], connector.Unknown, connector.Invalid)
	wantResult(t, "a key outside", got[2], connector.Unknown, connector.Invalid)
	items, _ := s.scan(modified("", someday()))
	if got := locators(items); len(got) != 2 {
		t.Errorf("scan: %q", got)
	}
	if err := scanError(t, s, modified("text/", someday())); err == nil {
		t.Error("a scan outside the prefix ended without an error")
	}
}

func TestInventory(t *testing.T) {
	t.Parallel()
	b := testserver.S3(t, testserver.S3Options{Versioning: "Enabled"})
	reports := open(t, testserver.S3(t, testserver.S3Options{}), objects.Options{})
	s := open(t, b, objects.Options{Inventory: "s3://" + reports.Name + "/inv/manifest.json"})
	s.put("logs/a b+c", "x")
	s.put("logs/old", "1")
	s.put("logs/old", "2")
	s.put("logs/hidden", "x")
	s.hide("logs/hidden")
	s.put("text/other", "x")
	s.put("logs/not in the inventory", "x")
	const day = "2026-01-01T00:00:00.000Z"
	rows := []string{
		`"` + b.Name + `","logs%2Fa+b%2Bc","v1","true","false","1","` + day + `"`,
		`"` + b.Name + `","logs/old","v2","true","false","1","` + day + `"`,
		`"` + b.Name + `","logs/old","v1","false","false","1","` + day + `"`,
		`"` + b.Name + `","logs/hidden","v2","true","true","","2099-01-01T00:00:00.000Z"`,
		`"` + b.Name + `","logs/young","v1","true","false","1","2099-01-01T00:00:00.000Z"`,
		`"` + b.Name + `","logs/gone since","v1","true","false","1","` + day + `"`,
		`"` + b.Name + `","text/other","v1","true","false","1","` + day + `"`,
	}
	write := func(source, sum string, format string) {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		io.WriteString(w, strings.Join(rows, "\n")+"\n")
		w.Close()
		if sum == "" {
			sum = fmt.Sprintf("%x", md5.Sum(z.Bytes()))
		}
		reports.put("inv/data/1.csv.gz", z.String())
		reports.put("inv/manifest.json", fmt.Sprintf(`{"sourceBucket":%q,"destinationBucket":"arn:aws:s3:::%s","version":"2016-11-30",`+
			`"creationTimestamp":"%d","fileFormat":%q,"fileSchema":"Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate",`+
			`"files":[{"key":"inv/data/1.csv.gz","size":%d,"MD5checksum":%q}]}`, source, reports.Name, time.Now().UnixMilli(), format, z.Len(), sum))
	}
	write(b.Name, "", "CSV")
	items, survey := s.scan(modified("logs/", someday()))
	if got, want := locators(items), []string{"logs/a b+c", "logs/hidden", "logs/old"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if survey.Total != 4 {
		t.Errorf("total: got %d, want 4 with the young one", survey.Total)
	}
	for i, r := range s.purge(t.Context(), modified("logs/", someday()), items) {
		wantResult(t, string(items[i].Locator), r, connector.Gone, connector.Erasure)
	}
	for name, spoil := range map[string]func(){
		"another bucket":   func() { write("elsewhere", "", "CSV") },
		"another checksum": func() { write(b.Name, strings.Repeat("0", 32), "CSV") },
		"another format":   func() { write(b.Name, "", "ORC") },
		"no manifest":      func() { reports.put("inv/manifest.json", "<html>") },
	} {
		spoil()
		if err := scanError(t, s, modified("logs/", someday())); err == nil {
			t.Errorf("%s: the scan ended without an error", name)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	texts := func(s *store, q *connector.Query) string {
		t.Helper()
		found, err := s.Check(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range found {
			out = append(out, f.Subject+": "+f.Text)
		}
		return strings.Join(out, "\n")
	}
	plain := open(t, testserver.S3(t, testserver.S3Options{}), objects.Options{})
	if got := texts(plain, modified("a/", someday())); got != "" {
		t.Errorf("a plain bucket: %s", got)
	}
	if got := texts(plain, nil); got != "" {
		t.Errorf("no query: %s", got)
	}
	lock := testserver.S3(t, testserver.S3Options{Lock: true})
	_, err := lock.Client().PutObjectLockConfiguration(t.Context(), &s3.PutObjectLockConfigurationInput{Bucket: &lock.Name,
		ObjectLockConfiguration: &types.ObjectLockConfiguration{ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Mode: types.ObjectLockRetentionModeCompliance, Days: aws.Int32(1)}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		s    *store
		q    *connector.Query
		want string
	}{
		{open(t, testserver.S3(t, testserver.S3Options{Versioning: "Enabled"}), objects.Options{}), modified("a/", someday()), "bucket is versioned:"},
		{open(t, testserver.S3(t, testserver.S3Options{Versioning: "Suspended"}), objects.Options{}), modified("a/", someday()), "versioned (suspended)"},
		{open(t, lock, objects.Options{}), modified("a/", someday()), "object lock with default retention in compliance mode"},
		{plain, modified("a", someday()), "does not end in a slash"},
		{plain, &connector.Query{Collection: "a/", Where: "x = 1"}, "where: an object store knows no conditions"},
		{plain, &connector.Query{Collection: "a/", Anchor: connector.Anchor{Column: "c"}}, "anchor: an object has no columns"},
		{plain, &connector.Query{Collection: "a/", Anchor: connector.Anchor{Kind: connector.AnchorTag}}, "anchor: the anchor names no tag"},
		{openAt(t, "s3://"+plain.Name+"/in/", plain.Bucket, objects.Options{}), modified("out/", someday()), "collection is outside the store"},
	} {
		if got := texts(test.s, test.q); !strings.Contains(got, test.want) {
			t.Errorf("got %q, want it to say %q", got, test.want)
		}
	}
	none := plain.Bucket
	none.Name = "no-such-bucket-here"
	if _, err := open(t, none, objects.Options{}).Check(t.Context(), modified("a/", someday())); err == nil {
		t.Error("a bucket that is not there: no error")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"", "bucket", "s3:bucket", "s3://a", "s3://UP CASE", "s3:///prefix", "s3://with space/x", "s3://x--x-s3"} {
		if _, err := objects.Open(t.Context(), target, objects.Options{}); err == nil {
			t.Errorf("target %q was accepted", target)
		}
	}
	for _, m := range []map[string]string{{"endpoint": "minio:9000"}, {"path_style": "perhaps"}, {"access_key": "k"}, {"timeout": "-1s"},
		{"concurrency": "0"}, {"uploads": "some"}, {"colour": "blue"}} {
		if _, err := objects.ParseOptions(m); err == nil {
			t.Errorf("options %v were accepted", m)
		}
	}
	o, err := objects.ParseOptions(map[string]string{"endpoint": "", "region": "eu-west-1", "path_style": "true", "buckets": "a, b-*", "session_token": ""})
	if err != nil || o.Region != "eu-west-1" || o.Addressing != objects.AddressPath || !slices.Equal(o.Buckets, []string{"a", "b-*"}) {
		t.Errorf("got %+v, %v", o, err)
	}
}

// flatRun names the variable that tells the test binary that it is a process of
// its own, in which nothing else takes memory.
const flatRun = "EPITAPH_TEST_FLAT"

// most is what a process may hold while it lists, however many keys there are.
const most = 128 << 20

// TestScanStaysFlat lists ten million made-up keys, in a process of its own. It
// is the one test with a listing that no server gave.
func TestScanStaysFlat(t *testing.T) {
	if os.Getenv(flatRun) == "" {
		t.Parallel()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestScanStaysFlat$", "-test.v")
		cmd.Env = append(os.Environ(), flatRun+"=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Errorf("the process ended with %v", err)
		}
		return
	}
	c, err := objects.Open(t.Context(), "s3://fake-bucket", objects.Options{NoUploads: true, AccessKey: "k", SecretKey: "s",
		Clock: func() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	const n = 10_000_000
	objects.FakeListing(c, "fake-bucket", n, 100)
	var peak atomic.Uint64
	var survey connector.Survey
	seen := 0
	for _, err := range c.Scan(t.Context(), modified("", someday()), &survey) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen%100_000 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapAlloc))
		}
	}
	if seen != n || survey.Total != n {
		t.Errorf("got %d items and total %d, want %d", seen, survey.Total, n)
	}
	if p := peak.Load(); p > 64<<20 {
		t.Errorf("the heap grew to %d MiB", p>>20)
	}
	if r := resident(t); r > most {
		t.Errorf("the process grew to %d MB, want at most %d", r>>20, most>>20)
	}
	t.Logf("peak heap %d MB, peak resident %d MB", peak.Load()>>20, resident(t)>>20)
}

// resident is the most memory that the process held, by the kernel.
func resident(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("the kernel does not tell how much memory the process held")
	return 0
}
