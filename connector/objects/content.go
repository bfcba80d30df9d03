package objects

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/epitaph/epitaph/connector"
)

// slowest is how fast a content must come at least, in bytes for each Timeout.
const slowest = 16 << 20

// SHA256 returns the SHA-256 and the size of the current object under a key, and
// how many bytes were read for it: none where the server keeps a SHA-256 of the
// whole object, and vouches for it. An ETag is no such hash. A key that is not there, or
// is hidden by a delete marker, is an error.
func (c *Connector) SHA256(ctx context.Context, at connector.Locator) (sum [32]byte, size, read int64, err error) {
	p, err := c.place(at)
	if err != nil {
		return sum, 0, 0, err
	}
	kept := false
	err = c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
		out, err := c.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &p.bucket, Key: &p.key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			return err
		}
		size = aws.ToInt64(out.ContentLength)
		kept = wholeSum(out, &sum)
		return nil
	})
	if err != nil || kept {
		return sum, size, 0, err
	}
	timeout := c.o.Timeout * time.Duration(1+size/slowest)
	err = c.call(ctx, timeout, func(ctx context.Context) error {
		sum, read, err = c.digest(ctx, p)
		return err
	})
	if err != nil {
		return [32]byte{}, 0, read, err
	}
	return sum, read, read, nil
}

// wholeSum reads the SHA-256 that the server keeps of a whole object. That of an
// upload in parts is a hash of hashes, which says nothing to us.
func wholeSum(out *s3.HeadObjectOutput, sum *[32]byte) bool {
	b, err := base64.StdEncoding.DecodeString(aws.ToString(out.ChecksumSHA256))
	if err != nil || len(b) != len(sum) || out.ChecksumType == types.ChecksumTypeComposite {
		return false
	}
	copy(sum[:], b)
	return true
}

// digest reads an object to its end.
func (c *Connector) digest(ctx context.Context, p place) (sum [32]byte, read int64, err error) {
	out, err := c.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &p.bucket, Key: &p.key})
	if err != nil {
		return sum, 0, err
	}
	defer out.Body.Close()
	h := sha256.New()
	read, err = io.CopyBuffer(h, out.Body, make([]byte, 256<<10))
	switch {
	case err != nil:
		return sum, read, fmt.Errorf("%w: %w", errAnswerCut, err)
	case out.ContentLength != nil && read != *out.ContentLength:
		return sum, read, fmt.Errorf("%w: it is shorter than announced", errAnswerCut)
	}
	return [32]byte(h.Sum(nil)), read, nil
}
