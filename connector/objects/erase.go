package objects

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/epitaph/epitaph/connector"
)

// deletion is one version to delete.
type deletion struct {
	target int // index of the key
	key    string
	id     string // empty: the current object of a bucket without versions
	etag   string // with an empty id: the object that was seen
}

// erase deletes what was seen under each key and looks again. targets are
// sorted by key, without repetition.
func (c *Connector) erase(ctx context.Context, b *bucket, targets []*target) []connector.Result {
	f := &failures{of: make([]error, len(targets))}
	t, err := c.traits(ctx, b)
	if err != nil {
		for i := range targets {
			f.set(i, err)
		}
	} else {
		c.recheck(ctx, b, targets, f)
		c.abortUploads(ctx, b, targets, f)
		failed := func(d deletion) bool { return f.of[d.target] != nil }
		older, current := deletions(targets, t.versioned)
		c.deleteAll(ctx, b, slices.DeleteFunc(older, failed), f)
		c.deleteAll(ctx, b, slices.DeleteFunc(current, failed), f)
	}
	keys := make([]string, len(targets))
	for i, t := range targets {
		keys[i] = t.key
	}
	results := make([]connector.Result, len(targets))
	for i, s := range c.look(ctx, b, keys, 0) {
		results[i] = outcome(&s, targets[i], f.of[i])
	}
	return results
}

// outcome says what became of a key, from the look after the deletion. The
// failure only explains why something is still there.
func outcome(s *sight, t *target, failure error) connector.Result {
	r := s.result()
	switch r.State {
	case connector.Gone:
		if !errors.Is(failure, errMissing) {
			r.Reason, r.Bytes = connector.Erasure, t.sight.bytes()
		}
	case connector.Present:
		r.Err = failure
		switch {
		case failure == nil, errors.Is(failure, errOther), classify(failure) == changed:
			r.Reason = connector.Changed // something appeared that was not seen
		case classify(failure) == denied:
			r.Reason = connector.NoPermission
		case outage(failure):
			r.Reason = connector.Unreachable
		default:
			r.Reason = connector.Refused
		}
	case connector.Unknown:
		if failure != nil && classify(failure) == denied {
			r.Reason = connector.NoPermission
		}
	}
	return r
}

// deletions lists the versions to delete: the current one of a key with others
// comes in a second round, so that a run that breaks off between leaves what
// the application saw, and deleting a marker never brings back what it hid.
func deletions(targets []*target, versioned bool) (older, current []deletion) {
	for i, t := range targets {
		for _, v := range t.sight.versions {
			d := deletion{target: i, key: t.key, id: v.id}
			if !versioned {
				d.id, d.etag = "", v.etag
			}
			if v.latest && len(t.sight.versions) > 1 {
				current = append(current, d)
			} else {
				older = append(older, d)
			}
		}
	}
	return older, current
}

// failures holds the first failure of each key.
type failures struct {
	mu sync.Mutex
	of []error
}

func (f *failures) set(i int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of[i] == nil {
		f.of[i] = err
	}
}

// What a look just before the deletion may find.
var (
	errOther   = errors.New("another version than the one that was claimed")
	errMissing = errors.New("gone before it was deleted")
)

// recheck looks at the keys once more: a batch delete confirms what was never
// there, and most compatible servers pass over its ETags.
func (c *Connector) recheck(ctx context.Context, b *bucket, targets []*target, f *failures) {
	keys := make([]string, len(targets))
	for i, t := range targets {
		keys[i] = t.key
	}
	for i, s := range c.look(ctx, b, keys, len(keys)) {
		switch {
		case s.err != nil:
			f.set(i, s.err)
		case s.empty():
			f.set(i, errMissing)
		case s.print() != targets[i].sight.print():
			f.set(i, errOther)
		}
	}
}

func (c *Connector) abortUploads(ctx context.Context, b *bucket, targets []*target, f *failures) {
	parallel(len(targets), c.o.Concurrency, func(i int) {
		t := targets[i]
		if f.of[i] != nil {
			return
		}
		for _, u := range t.sight.uploads {
			err := c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
				_, err := c.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
					Bucket: &b.name, Key: &t.key, UploadId: &u.id})
				return err
			})
			if err != nil && !hasCode(err, "NoSuchUpload") {
				f.set(i, err)
			}
		}
	})
}

// batchSize is how many versions one request deletes: S3 takes 1,000, and
// servers work them off one after the other, so that ten smaller ones are sooner
// done: in half the time of four on the gateway of the tests.
func (c *Connector) batchSize(n int) int {
	return max(100, min(1000, (n+9)/10))
}

// deleteAll deletes the versions in batches, several at a time.
func (c *Connector) deleteAll(ctx context.Context, b *bucket, ds []deletion, f *failures) {
	var single, batch []deletion
	for _, d := range ds {
		if b.isSingle() || !inXML(d.key) {
			single = append(single, d)
		} else {
			batch = append(batch, d)
		}
	}
	var chunks [][]deletion
	for chunk := range slices.Chunk(batch, c.batchSize(len(batch))) {
		chunks = append(chunks, chunk)
	}
	parallel(len(chunks), c.o.Concurrency, func(i int) { c.deleteBatch(ctx, b, chunks[i], f) })
	parallel(len(single), c.o.Concurrency, func(i int) { c.deleteOne(ctx, b, single[i], f) })
}

// errUnconfirmed is a batch delete whose answer does not mention the key.
var errUnconfirmed = errors.New("the answer to a batch delete does not mention the key")

// deleteBatch deletes up to 1,000 versions in one request. Keys that the answer
// says may be tried again are; a batch that the server refuses as a whole is
// split until the bad key stands alone.
func (c *Connector) deleteBatch(ctx context.Context, b *bucket, ds []deletion, f *failures) {
	for attempt := 1; len(ds) > 0; attempt++ {
		errs, err := c.sendBatch(ctx, b, ds)
		if err != nil {
			c.batchFailed(ctx, b, ds, f, err)
			return
		}
		var again []deletion
		slow := false
		for i, d := range ds {
			switch k := classify(errs[i]); {
			case k == fine:
			case (k == throttle || k == passing) && attempt < c.o.Attempts:
				slow = slow || k == throttle
				again = append(again, d)
			default:
				f.set(d.target, errs[i])
			}
		}
		ds = again
		if len(ds) == 0 {
			return
		}
		if slow {
			c.gate.slow()
		}
		if err := c.o.Sleep(ctx, c.backoff(attempt)); err != nil {
			for _, d := range ds {
				f.set(d.target, err)
			}
			return
		}
	}
}

func (c *Connector) batchFailed(ctx context.Context, b *bucket, ds []deletion, f *failures, err error) {
	switch k := classify(err); {
	case k == absent:
		b.setSingle() // the server has no batch delete
		parallel(len(ds), c.o.Concurrency, func(i int) { c.deleteOne(ctx, b, ds[i], f) })
	case k == broken && len(ds) > 1 && status(err) == 400:
		half := len(ds) / 2
		c.deleteBatch(ctx, b, ds[:half], f)
		c.deleteBatch(ctx, b, ds[half:], f)
	case k == broken && status(err) == 400:
		c.deleteOne(ctx, b, ds[0], f)
	default:
		for _, d := range ds {
			f.set(d.target, err)
		}
	}
}

// sendBatch makes one DeleteObjects request. The errors are in the order of
// ds; nil means that the server says the version is deleted.
func (c *Connector) sendBatch(ctx context.Context, b *bucket, ds []deletion) ([]error, error) {
	ids := make([]types.ObjectIdentifier, len(ds))
	for i, d := range ds {
		ids[i] = types.ObjectIdentifier{Key: &d.key, VersionId: opt(d.id)}
		if d.id == "" && d.etag != "" {
			ids[i].ETag = aws.String(quote(d.etag))
		}
	}
	var out *s3.DeleteObjectsOutput
	err := c.call(ctx, 4*c.o.Timeout, func(ctx context.Context) (err error) {
		out, err = c.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: &b.name, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(false)}}, withMD5)
		return err
	})
	if err != nil {
		return nil, err
	}
	type name struct{ key, id string }
	said := make(map[name]error, len(ds))
	for _, d := range out.Deleted {
		n := name{aws.ToString(d.Key), aws.ToString(d.VersionId)}
		if n.id == "" && aws.ToBool(d.DeleteMarker) {
			b.forget() // the bucket has versions after all
		}
		said[n] = nil
	}
	for _, e := range out.Errors {
		said[name{aws.ToString(e.Key), aws.ToString(e.VersionId)}] =
			&smithy.GenericAPIError{Code: aws.ToString(e.Code), Message: aws.ToString(e.Message)}
	}
	errs := make([]error, len(ds))
	for i, d := range ds {
		err, ok := said[name{d.key, d.id}]
		if !ok && d.id != "" {
			err, ok = said[name{d.key, ""}] // some servers leave the version out
		} else if !ok {
			err, ok = said[name{d.key, noVersion}] // or name the only one
		}
		if !ok {
			err = errUnconfirmed
		}
		errs[i] = err
	}
	return errs, nil
}

// deleteOne deletes one version by a request of its own.
func (c *Connector) deleteOne(ctx context.Context, b *bucket, d deletion, f *failures) {
	in := &s3.DeleteObjectInput{Bucket: &b.name, Key: &d.key, VersionId: opt(d.id)}
	if d.id == "" && d.etag != "" {
		in.IfMatch = aws.String(quote(d.etag))
	}
	err := c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
		out, err := c.client.DeleteObject(ctx, in)
		if err == nil && d.id == "" && aws.ToBool(out.DeleteMarker) {
			b.forget()
		}
		return err
	})
	if err != nil {
		f.set(d.target, err)
	}
}

func quote(etag string) string { return `"` + etag + `"` }

// inXML reports that the key can stand in an XML document. Another character
// would be replaced there, and a batch delete would name another key.
func inXML(key string) bool {
	for _, r := range key {
		if r < ' ' && r != '\t' && r != '\n' || r == 0xFFFE || r == 0xFFFF || r == '\uFFFD' {
			return false
		}
	}
	return true
}

func (b *bucket) isSingle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.single
}

func (b *bucket) setSingle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.single = true
}
