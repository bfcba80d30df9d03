package objects

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/epitaph/epitaph/connector"
)

// lock is what keeps a version from being deleted.
type lock struct {
	held  bool
	until time.Time // zero when there is no retention
	err   error
}

// readLocks turns the answer Present into LockedUntil or Held for keys that
// the store keeps, in a bucket that can.
func (c *Connector) readLocks(ctx context.Context, b *bucket, keys []string, sights []sight, answers []connector.Result) {
	t, err := c.traits(ctx, b)
	if err == nil && !t.locked {
		return
	}
	parallel(len(keys), c.o.Concurrency, func(i int) {
		if answers[i].State != connector.Present {
			return
		}
		if err != nil {
			answers[i] = unknown(err)
			return
		}
		c.readLock(ctx, b, keys[i], &sights[i], &answers[i])
	})
}

// readLock reads the locks of all versions under the key: the longest counts,
// and a hold before it.
func (c *Connector) readLock(ctx context.Context, b *bucket, key string, s *sight, answer *connector.Result) {
	now := c.o.Clock()
	for _, v := range s.versions {
		if v.marker {
			continue // a marker cannot be locked
		}
		l := c.lockOf(ctx, b.name, key, v.id)
		switch {
		case l.err != nil:
			*answer = unknown(l.err)
			return
		case l.held:
			answer.Reason, answer.Until = connector.Held, time.Time{}
			return
		case l.until.After(now) && l.until.After(answer.Until):
			answer.Reason, answer.Until = connector.LockedUntil, l.until
		}
	}
}

// lockOf reads the retention and the legal hold of one version. A version that
// has neither, or is gone meanwhile, has no lock.
func (c *Connector) lockOf(ctx context.Context, bucket, key, id string) lock {
	var l lock
	in := &s3.GetObjectRetentionInput{Bucket: &bucket, Key: &key, VersionId: &id}
	err := c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
		out, err := c.client.GetObjectRetention(ctx, in)
		if err == nil && out.Retention != nil && out.Retention.RetainUntilDate != nil {
			l.until = out.Retention.RetainUntilDate.UTC()
		}
		return err
	})
	if err != nil && !noLock(err) {
		return lock{err: err}
	}
	hold := &s3.GetObjectLegalHoldInput{Bucket: &bucket, Key: &key, VersionId: &id}
	err = c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
		out, err := c.client.GetObjectLegalHold(ctx, hold)
		if err == nil && out.LegalHold != nil {
			l.held = out.LegalHold.Status == types.ObjectLockLegalHoldStatusOn
		}
		return err
	})
	if err != nil && !noLock(err) {
		return lock{err: err}
	}
	return l
}

// noLock reports the answer for a version without a lock.
func noLock(err error) bool {
	if classify(err) == absent {
		return true
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch code := api.ErrorCode(); code {
	case "NoSuchObjectLockConfiguration", "NoSuchKey", "NoSuchVersion", "NotFound", "InvalidRequest":
		// InvalidRequest: "Bucket is missing Object Lock Configuration".
		return true
	default:
		return strings.HasPrefix(code, "NoSuchObjectLock")
	}
}
