package objects

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Notes keeps small texts, such as checkpoints of a ledger, as objects in one
// bucket. It deletes nothing.
type Notes struct {
	o      Options
	client *s3.Client
	bucket string
	prefix string
}

// maxNote bounds what Get reads.
const maxNote = 1 << 16

// OpenNotes returns the notes of "s3://bucket" or "s3://bucket/prefix", which is
// put before their keys. It makes no request.
func OpenNotes(ctx context.Context, target string, o Options) (*Notes, error) {
	c, err := Open(ctx, target, o)
	if err != nil {
		return nil, err
	}
	if c.bucket == "" {
		return nil, errors.New("read object store: it names no bucket")
	}
	return &Notes{c.o, c.client, c.bucket, c.prefix}, nil
}

// anyVersion stands for an object of which the store does not say which it is.
const anyVersion = "*"

// Put writes an object in the place of the version that Get gave, "" for none.
// When it returns nil the store has confirmed it. When another was written
// meanwhile, errors.Is(err, fs.ErrExist); a store that refuses conditions gets the
// object without one.
func (n *Notes) Put(ctx context.Context, key, version string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, n.o.Timeout)
	defer cancel()
	key = n.prefix + key
	kind := "text/plain; charset=utf-8"
	put := func(match, none *string) error {
		_, err := n.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &n.bucket, Key: &key, Body: bytes.NewReader(data), ContentType: &kind,
			IfMatch: match, IfNoneMatch: none})
		return err
	}
	var err error
	switch version {
	case "":
		err = put(nil, aws.String("*"))
	case anyVersion:
		err = put(nil, nil)
	default:
		err = put(&version, nil)
	}
	switch {
	case err == nil:
		return nil
	case classify(err) == changed, version != "" && hasCode(err, "NoSuchKey"):
		return fmt.Errorf("write object: %w", fs.ErrExist)
	case classify(err) == absent, status(err) == http.StatusBadRequest:
		err = put(nil, nil)
	}
	if err != nil {
		return fmt.Errorf("write object: %w", err)
	}
	return nil
}

// Get reads an object and says which version it is; nil and "" when there is none.
func (n *Notes) Get(ctx context.Context, key string) (data []byte, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.o.Timeout)
	defer cancel()
	key = n.prefix + key
	out, err := n.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &n.bucket, Key: &key})
	if status(err) == http.StatusNotFound && hasCode(err, "NoSuchKey") {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read object: %w", err)
	}
	defer out.Body.Close()
	data, err = io.ReadAll(io.LimitReader(out.Body, maxNote+1))
	if err == nil && len(data) > maxNote {
		err = errors.New("it is too long for a note")
	}
	if err != nil {
		return nil, "", fmt.Errorf("read object: %w", err)
	}
	return data, cmp.Or(aws.ToString(out.ETag), anyVersion), nil
}
