package objects

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// noVersion is the id of the only version in a bucket without versions.
const noVersion = "null"

// version is one object version or delete marker.
type version struct {
	id       string
	etag     string // without quotes; empty for a marker
	size     int64
	modified time.Time
	latest   bool
	marker   bool
}

// upload is one unfinished multipart upload.
type upload struct {
	id        string
	initiated time.Time
}

// listing says what to list.
type listing struct {
	prefix    string
	delimiter string
	max       int32
}

// cursor is where a page begins: after the key, or after the version of the
// key. The zero cursor is the beginning.
type cursor struct {
	key, version string
	token        string // opaque; of a listing of current objects
	last         string // the last key of the page before, empty for the first page
}

// entry is one version under its key.
type entry struct {
	key string
	version
}

// page is one page of a listing, entries in order of key.
type page struct {
	entries  []entry
	prefixes []string // common prefixes, in order
	next     cursor   // where more is true
	more     bool
	stuck    bool      // next does not advance
	clock    time.Time // the server's, zero when it does not say
}

// listingError is a listing that breaks its contract: going on would loop or
// overlook something.
type listingError struct{ what string }

func (e *listingError) Error() string { return "list objects: " + e.what }

// Ways in which a listing can break its contract.
var (
	errStuck   = &listingError{"the server's marker does not advance"}
	errOrder   = &listingError{"the server does not list in the order of keys"}
	errStrange = &listingError{"the server lists keys that were not asked for"}
)

// listPage reads one page of the bucket: all versions where the bucket has or
// had versioning, current objects where it never had.
func (c *Connector) listPage(ctx context.Context, b *bucket, l listing, from cursor) (page, error) {
	t, err := c.traits(ctx, b)
	if err != nil {
		return page{}, err
	}
	var p page
	err = c.call(ctx, c.o.Timeout, func(ctx context.Context) (err error) {
		if t.versioned {
			p, err = c.versionPage(ctx, b.name, l, from)
		} else {
			p, err = c.currentPage(ctx, b.name, l, from)
		}
		return err
	})
	if err != nil {
		return page{}, err
	}
	at := cursor{key: from.key, version: from.version, token: from.token}
	p.stuck = p.more && (p.next == cursor{} || p.next == at || p.next.key != "" && p.next.key < from.key)
	if p.next.last = from.last; len(p.entries) > 0 {
		p.next.last = p.entries[len(p.entries)-1].key
	}
	return p, p.check(l, from)
}

// following is where the next page begins, for a reader that needs it.
func (p page) following() (cursor, error) {
	if p.stuck {
		return cursor{}, errStuck
	}
	return p.next, nil
}

// check holds the page against the contract of a listing.
func (p page) check(l listing, from cursor) error {
	if len(p.entries) > 0 && p.entries[0].key < from.last {
		return errOrder
	}
	for i, e := range p.entries {
		if !strings.HasPrefix(e.key, l.prefix) {
			return errStrange
		}
		if i > 0 && e.key < p.entries[i-1].key {
			return errOrder
		}
	}
	if !slices.IsSorted(p.prefixes) {
		return errOrder
	}
	return nil
}

func (c *Connector) versionPage(ctx context.Context, name string, l listing, from cursor) (page, error) {
	out, err := c.client.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{
		Bucket: &name, Prefix: opt(l.prefix), Delimiter: opt(l.delimiter), MaxKeys: aws.Int32(l.max),
		KeyMarker: opt(from.key), VersionIdMarker: opt(from.version), EncodingType: types.EncodingTypeUrl,
	})
	if err != nil {
		return page{}, err
	}
	p := page{more: aws.ToBool(out.IsTruncated), clock: serverTime(out.ResultMetadata)}
	read := decoder(out.EncodingType)
	versions := make([]entry, 0, len(out.Versions)+len(out.DeleteMarkers))
	for _, v := range out.Versions {
		versions = append(versions, entry{read.text(v.Key), version{id: versionID(v.VersionId), etag: bare(v.ETag),
			size: aws.ToInt64(v.Size), modified: aws.ToTime(v.LastModified).UTC(), latest: aws.ToBool(v.IsLatest)}})
	}
	markers := make([]entry, 0, len(out.DeleteMarkers))
	for _, m := range out.DeleteMarkers {
		markers = append(markers, entry{read.text(m.Key), version{id: versionID(m.VersionId),
			modified: aws.ToTime(m.LastModified).UTC(), latest: aws.ToBool(m.IsLatest), marker: true}})
	}
	// The answer mixes both; the SDK takes them apart. Each must be in order.
	byKey := func(a, b entry) int { return strings.Compare(a.key, b.key) }
	if !slices.IsSortedFunc(versions, byKey) || !slices.IsSortedFunc(markers, byKey) {
		return page{}, errOrder
	}
	p.entries = append(versions, markers...)
	if len(markers) > 0 {
		slices.SortStableFunc(p.entries, byKey)
	}
	for _, cp := range out.CommonPrefixes {
		p.prefixes = append(p.prefixes, read.text(cp.Prefix))
	}
	if p.more {
		p.next = cursor{key: read.text(out.NextKeyMarker), version: aws.ToString(out.NextVersionIdMarker)}
	}
	return p, read.err
}

func (c *Connector) currentPage(ctx context.Context, name string, l listing, from cursor) (page, error) {
	in := &s3.ListObjectsV2Input{
		Bucket: &name, Prefix: opt(l.prefix), Delimiter: opt(l.delimiter), MaxKeys: aws.Int32(l.max),
		StartAfter: opt(from.key), EncodingType: types.EncodingTypeUrl,
	}
	if from.token != "" {
		in.ContinuationToken, in.StartAfter = &from.token, nil
	}
	out, err := c.client.ListObjectsV2(ctx, in)
	if err != nil {
		return page{}, err
	}
	p := page{more: aws.ToBool(out.IsTruncated), clock: serverTime(out.ResultMetadata)}
	read := decoder(out.EncodingType)
	p.entries = make([]entry, 0, len(out.Contents))
	for _, v := range out.Contents {
		p.entries = append(p.entries, entry{read.text(v.Key), version{id: noVersion, etag: bare(v.ETag),
			size: aws.ToInt64(v.Size), modified: aws.ToTime(v.LastModified).UTC(), latest: true}})
	}
	for _, cp := range out.CommonPrefixes {
		p.prefixes = append(p.prefixes, read.text(cp.Prefix))
	}
	if p.more {
		p.next = cursor{token: aws.ToString(out.NextContinuationToken)}
	}
	return p, read.err
}

// uploadEntry is one unfinished upload under its key.
type uploadEntry struct {
	key string
	upload
}

// uploadPage reads one page of unfinished uploads.
func (c *Connector) uploadPage(ctx context.Context, b *bucket, prefix string, from cursor) (
	found []uploadEntry, next cursor, more bool, err error,
) {
	err = c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
		in := &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: opt(prefix), KeyMarker: opt(from.key),
			UploadIdMarker: opt(from.version), EncodingType: types.EncodingTypeUrl}
		out, err := c.client.ListMultipartUploads(ctx, in)
		if hasCode(err, "NoSuchUpload") { // gofakes3, where there is none
			found, more = nil, false
			return nil
		}
		if err != nil {
			return err
		}
		read := decoder(out.EncodingType)
		found = found[:0]
		for _, u := range out.Uploads {
			found = append(found, uploadEntry{read.text(u.Key),
				upload{id: aws.ToString(u.UploadId), initiated: aws.ToTime(u.Initiated).UTC()}})
		}
		more = aws.ToBool(out.IsTruncated)
		next = cursor{key: read.text(out.NextKeyMarker), version: aws.ToString(out.NextUploadIdMarker)}
		return read.err
	})
	if err != nil {
		return nil, cursor{}, false, err
	}
	if more && (next == cursor{} || next == from || next.key < from.key) {
		return nil, cursor{}, false, errStuck
	}
	for _, u := range found {
		if !strings.HasPrefix(u.key, prefix) {
			return nil, cursor{}, false, errStrange
		}
	}
	return found, next, more, nil
}

// reader decodes the keys of one answer.
type reader struct {
	escaped bool
	err     error
}

func decoder(t types.EncodingType) *reader { return &reader{escaped: t == types.EncodingTypeUrl} }

func (r *reader) text(s *string) string {
	if s == nil || !r.escaped {
		return aws.ToString(s)
	}
	t, err := url.QueryUnescape(*s)
	if err != nil && r.err == nil {
		r.err = &listingError{"a key is not percent-encoded as announced"}
	}
	return t
}

// bare takes the quotes off an ETag, which not every answer puts there.
func bare(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// versionID gives the version of an unversioned object its documented id.
func versionID(id *string) string {
	if id == nil || *id == "" {
		return noVersion
	}
	return *id
}

// opt leaves an empty parameter out of the request.
func opt(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
