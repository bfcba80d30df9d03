// Package objects is the connector for S3 and compatible object stores.
//
// # What gone means
//
// The thing a locator names is a key with all that the store keeps under it:
// the current object, noncurrent versions, delete markers, and unfinished
// multipart uploads under exactly that key. A key is Gone only when a listing
// made afterwards shows none of them. A delete marker that hides an object is
// not an erasure, and a 204 for a key that was never there is not a success.
//
// Versions are deleted by their id, the current one after all others, so that a
// run that breaks off never brings a deleted object back to light. In
// a bucket without versions the delete is conditional on the ETag where the
// server honours that; everywhere the key is looked at again just before.
//
// Object Lock and legal holds are read before anything is deleted. A locked
// version makes its key Present with reason LockedUntil and the date, a legal
// hold Present with reason Held. Governance retention is never bypassed.
//
// # Locators
//
// A store that names a bucket ("s3://bucket", "s3://bucket/prefix") has keys as
// locators. A store that names none ("s3://") has "bucket/key": everything up
// to the first slash is the bucket, all that follows is the key, byte for byte.
// A key is always the whole key, as stored. The prefix of a store is a
// boundary, never a part that is put before a key: a key outside it is Invalid.
//
// # Compatible servers
//
// Listings are taken in the key order that S3 specifies; the order is checked
// as it is read, a version that a listing repeats is counted once, and a marker
// that does not advance ends the listing with an error. An answer of status 200
// whose body is an error, or not the document that was asked for, is an error.
package objects

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/epitaph/epitaph/connector"
)

// Options are the settings of one object store. The zero value is AWS with the
// SDK's own configuration: environment, shared files, web identity, instance
// role.
type Options struct {
	// Endpoint is the base URL of a compatible server. Empty means AWS, or
	// what AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL say.
	Endpoint string
	// Region is the region to sign for. Empty means the SDK's configuration,
	// and us-east-1 where that has none.
	Region string
	// Addressing says where the bucket's name goes. The zero value is the path
	// for an Endpoint and the host for AWS.
	Addressing Addressing
	// Profile names a section of the shared configuration files.
	Profile string
	// AccessKey, SecretKey and SessionToken are static credentials. When
	// AccessKey is empty the SDK's chain is used.
	AccessKey, SecretKey, SessionToken string
	// Buckets are the buckets a store without a bucket of its own may touch, as
	// patterns of [path.Match] ("reflector-*"). Empty means every bucket the
	// credentials reach.
	Buckets []string
	// Inventory is the location of an S3 Inventory manifest, "s3://bucket/…/manifest.json".
	// Scan then takes its keys from the inventory instead of listing the
	// bucket, and looks at each key that may be due.
	Inventory string
	// NoUploads declares that the server keeps no unfinished multipart uploads
	// that could be listed. Gone then says nothing of them.
	NoUploads bool
	// ReadOnly refuses every request that could delete, before it is sent.
	ReadOnly bool

	// Timeout bounds one request; a batch delete may take four times as long.
	// Default 30 s.
	Timeout time.Duration
	// Attempts is how often a request is tried that fails in a way that may
	// pass: throttling, 5xx, a broken connection. Default 6.
	Attempts int
	// Concurrency is the most requests in flight at once. Under throttling the
	// number falls by half, and climbs again by one for each round that went
	// well. Default 32.
	Concurrency int

	// Clock, Jitter and Sleep are for tests. The zero values are time.Now, a
	// random number in [0,1), and a timer.
	Clock  func() time.Time
	Jitter func() float64
	Sleep  func(context.Context, time.Duration) error
}

// Addressing is where a request names its bucket.
type Addressing uint8

// The ways of addressing a bucket.
const (
	AddressAuto Addressing = iota
	AddressPath            // https://host/bucket/key
	AddressHost            // https://bucket.host/key
)

// Connector is an object store. It implements [connector.Connector] and is
// safe for concurrent use.
type Connector struct {
	o      Options
	client *s3.Client
	bucket string // empty when locators carry the bucket
	prefix string // keys outside are Invalid
	gate   *gate
	list   func(context.Context, *bucket, listing, cursor) (page, error)

	mu      sync.Mutex
	buckets map[string]*bucket
}

var _ connector.Connector = (*Connector)(nil)

// Open returns the connector for "s3://bucket", "s3://bucket/prefix" or "s3://".
// It makes no request: a server that is down makes every answer Unknown, not
// Open fail. A target or option that cannot be understood fails.
func Open(ctx context.Context, target string, o Options) (*Connector, error) {
	rest, ok := strings.CutPrefix(target, "s3://")
	if !ok {
		return nil, errors.New(`read object store: the target does not begin with "s3://"`)
	}
	name, prefix, _ := strings.Cut(rest, "/")
	if name != "" && !validBucket(name) {
		return nil, errors.New("read object store: not a bucket name")
	}
	if name == "" && prefix != "" {
		return nil, errors.New("read object store: a prefix without a bucket")
	}
	for _, p := range o.Buckets {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("read buckets: %q is not a pattern", p)
		}
	}
	if o.Inventory != "" {
		if _, _, err := splitURL(o.Inventory); err != nil {
			return nil, fmt.Errorf("read inventory: %w", err)
		}
	}
	o = o.withDefaults()
	client, err := newClient(ctx, o)
	if err != nil {
		return nil, err
	}
	c := &Connector{
		o: o, client: client, bucket: name, prefix: prefix,
		gate: newGate(o.Concurrency), buckets: map[string]*bucket{},
	}
	c.list = c.listPage
	return c, nil
}

// Close lets go of idle connections.
func (c *Connector) Close() error {
	if h, ok := c.client.Options().HTTPClient.(interface{ CloseIdleConnections() }); ok {
		h.CloseIdleConnections()
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Attempts <= 0 {
		o.Attempts = 6
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 32
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	return o
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// place is where a locator leads.
type place struct{ bucket, key string }

// Errors of a locator that no store may hold.
var (
	errBucketName  = errors.New("not the name of a bucket")
	errKey         = errors.New("not an object key: empty, longer than 1024 bytes, or not UTF-8")
	errOutside     = errors.New("key outside the store's prefix")
	errBucketBound = errors.New("bucket outside the store's buckets")
)

// place reads a locator. An error means that it is Invalid here.
func (c *Connector) place(at connector.Locator) (place, error) {
	p := place{bucket: c.bucket, key: string(at)}
	if c.bucket == "" {
		p.bucket, p.key, _ = strings.Cut(string(at), "/")
		if err := c.allowed(p.bucket); err != nil {
			return place{}, err
		}
	}
	if p.key == "" || len(p.key) > 1024 || !utf8.ValidString(p.key) {
		return place{}, errKey
	}
	if !strings.HasPrefix(p.key, c.prefix) {
		return place{}, errOutside
	}
	return p, nil
}

// allowed reports why this store may not touch the bucket.
func (c *Connector) allowed(name string) error {
	if !validBucket(name) {
		return errBucketName
	}
	if len(c.o.Buckets) == 0 {
		return nil
	}
	for _, p := range c.o.Buckets {
		if ok, _ := path.Match(p, name); ok {
			return nil
		}
	}
	return errBucketBound
}

// locator is the inverse of place.
func (c *Connector) locator(bucket, key string) connector.Locator {
	if c.bucket != "" {
		return connector.Locator(key)
	}
	return connector.Locator(bucket + "/" + key)
}

// validBucket accepts today's names and the older ones with capitals and
// underscores. Directory buckets (S3 Express) list in no order and keep no
// versions; they are refused rather than misread.
func validBucket(name string) bool {
	if len(name) < 3 || len(name) > 255 || strings.HasSuffix(name, "--x-s3") {
		return false
	}
	for i := range len(name) {
		switch b := name[i]; {
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9', b >= 'A' && b <= 'Z':
		case i > 0 && (b == '-' || b == '.' || b == '_'):
		default:
			return false
		}
	}
	return !strings.Contains(name, "..")
}

// splitURL reads "s3://bucket/key".
func splitURL(u string) (bucket, key string, err error) {
	rest, ok := strings.CutPrefix(u, "s3://")
	bucket, key, _ = strings.Cut(rest, "/")
	if !ok || !validBucket(bucket) || key == "" {
		return "", "", errors.New(`not of the form "s3://bucket/key"`)
	}
	return bucket, key, nil
}
