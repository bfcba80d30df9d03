package objects

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/epitaph/epitaph/connector"
)

// anchor reads the instant that starts the clock of a key; zero when there is
// none. A key is as young as the youngest thing under it.
func (c *Connector) anchor(ctx context.Context, b *bucket, a connector.Anchor, key string, s *sight) (time.Time, error) {
	switch a.Kind {
	case connector.AnchorModified:
		return s.changed(), nil
	case connector.AnchorName:
		l, err := connector.CompileLayout(a.Layout)
		if err != nil {
			return time.Time{}, err
		}
		return named(l, a, key), nil
	case connector.AnchorTag:
		return c.tagged(ctx, b, a, key, s)
	default:
		return time.Time{}, errors.New("an object has no columns")
	}
}

// named reads the date in the key's last elements, as many as the layout has.
func named(l *connector.Layout, a connector.Anchor, key string) time.Time {
	start := len(key)
	for range strings.Count(a.Layout, "/") + 1 {
		if start = strings.LastIndexByte(key[:max(start, 0)], '/'); start < 0 {
			break
		}
	}
	zone := a.Zone
	if zone == nil {
		zone = time.UTC
	}
	at, ok := l.Instant(key[start+1:], zone)
	if !ok {
		return time.Time{}
	}
	return at
}

// tagged reads the date in the tag of the newest object version.
func (c *Connector) tagged(ctx context.Context, b *bucket, a connector.Anchor, key string, s *sight) (time.Time, error) {
	var newest *version
	for i, v := range s.versions {
		if !v.marker && (newest == nil || v.latest || v.modified.After(newest.modified) && !newest.latest) {
			newest = &s.versions[i]
		}
	}
	if newest == nil {
		return time.Time{}, nil // markers and uploads carry no tags
	}
	in := &s3.GetObjectTaggingInput{Bucket: &b.name, Key: &key}
	if newest.id != noVersion {
		in.VersionId = &newest.id
	}
	var value string
	err := c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
		value = ""
		out, err := c.client.GetObjectTagging(ctx, in)
		if err != nil {
			return err
		}
		for _, t := range out.TagSet {
			if aws.ToString(t.Key) == a.Tag {
				value = aws.ToString(t.Value)
			}
		}
		return nil
	})
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "NoSuchKey", "NoSuchVersion", "NoSuchTagSet", "NoSuchTagSetError":
			return time.Time{}, nil
		}
	}
	if err != nil {
		return time.Time{}, err
	}
	return tagTime(value, a.Zone), nil
}

// tagTime reads an RFC 3339 instant, or a date as the end of its day.
func tagTime(value string, zone *time.Location) time.Time {
	if at, err := time.Parse(time.RFC3339, value); err == nil {
		return at.UTC()
	}
	if zone == nil {
		zone = time.UTC
	}
	day, err := connector.CompileLayout("YYYY-MM-DD")
	if err != nil {
		return time.Time{}
	}
	at, ok := day.Instant(value, zone)
	if !ok {
		return time.Time{}
	}
	return at
}
