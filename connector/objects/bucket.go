package objects

import (
	"context"
	"errors"
	"sync"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
)

// traitsAge is how long what was read of a bucket's settings is believed.
const traitsAge = time.Minute

// bucket is one bucket and what was learned of it.
type bucket struct {
	name string

	reading sync.Mutex // one reads the settings, the others wait for it

	mu     sync.Mutex
	traits *traits
	read   time.Time
	single bool // the server has no DeleteObjects
	held   map[string]*claim
}

// traits are the settings of a bucket that decide how to look and to delete.
type traits struct {
	// versioned: versioning is on or suspended, or its state may not be read.
	// Then all versions are listed, and deleted by id.
	versioned bool
	suspended bool
	// locked: Object Lock is on, or its state may not be read. Then the lock
	// of each version is read before it is deleted.
	locked bool
	// hidden names a setting that could not be read for want of permission.
	hidden []string
	mode   string // default retention mode, when Object Lock is on
}

func (c *Connector) bucketNamed(name string) *bucket {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.buckets[name]
	if b == nil {
		b = &bucket{name: name, held: map[string]*claim{}}
		c.buckets[name] = b
	}
	return b
}

// traits reads the bucket's settings, once a minute.
func (c *Connector) traits(ctx context.Context, b *bucket) (*traits, error) {
	if t := b.known(c.o.Clock()); t != nil {
		return t, nil
	}
	b.reading.Lock()
	defer b.reading.Unlock()
	if t := b.known(c.o.Clock()); t != nil {
		return t, nil
	}
	t, err := c.readTraits(ctx, b.name)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.traits, b.read = t, c.o.Clock()
	return t, nil
}

// known gives the settings that were read less than a minute ago, or nil.
func (b *bucket) known(now time.Time) *traits {
	b.mu.Lock()
	defer b.mu.Unlock()
	if age := now.Sub(b.read); b.traits == nil || age < 0 || age >= traitsAge {
		return nil
	}
	return b.traits
}

// forget makes the next use read the bucket's settings again.
func (b *bucket) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.traits = nil
}

// hold gives the key to the claim, unless another one has it.
func (b *bucket) hold(key string, cl *claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if owner := b.held[key]; owner != nil && owner != cl {
		return false
	}
	b.held[key] = cl
	return true
}

// release lets go of all that the claim holds of its list.
func (b *bucket) release(keys []string, cl *claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		if b.held[k] == cl {
			delete(b.held, k)
		}
	}
}

func (c *Connector) readTraits(ctx context.Context, name string) (*traits, error) {
	var t traits
	err := c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
		out, err := c.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &name})
		if err == nil {
			t.versioned = out.Status != ""
			t.suspended = out.Status == types.BucketVersioningStatusSuspended
		}
		return err
	})
	switch k := classify(err); {
	case err == nil, k == absent, ignored(err): // a server without versioning
	case k == denied:
		t.versioned = true // all versions are listed, so that none is overlooked
		t.hidden = append(t.hidden, "versioning")
	default:
		return nil, err
	}
	err = c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
		out, err := c.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &name})
		if err != nil {
			return err
		}
		if l := out.ObjectLockConfiguration; l != nil && l.ObjectLockEnabled == types.ObjectLockEnabledEnabled {
			t.locked = true
			if l.Rule != nil && l.Rule.DefaultRetention != nil {
				t.mode = string(l.Rule.DefaultRetention.Mode)
			}
		}
		return nil
	})
	switch k := classify(err); {
	case err == nil, k == absent, ignored(err):
	case k == denied:
		t.locked = true
		t.hidden = append(t.hidden, "object lock")
	default:
		return nil, err
	}
	return &t, nil
}

// ignored reports an answer from a server that does not know the sub-resource
// it was asked for and listed the bucket instead.
func ignored(err error) bool {
	var odd *oddAnswer
	return errors.As(err, &odd) && odd.root == "ListBucketResult"
}

func serverTime(m middleware.Metadata) time.Time {
	t, _ := awsmiddleware.GetServerTime(m)
	return t.UTC()
}
