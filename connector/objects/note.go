package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

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

// Put writes an object. When it returns nil the store has confirmed it.
func (n *Notes) Put(ctx context.Context, key string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, n.o.Timeout)
	defer cancel()
	key = n.prefix + key
	kind := "text/plain; charset=utf-8"
	_, err := n.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &n.bucket, Key: &key, Body: bytes.NewReader(data), ContentType: &kind})
	if err != nil {
		return fmt.Errorf("write object: %w", err)
	}
	return nil
}

// Get reads an object; nil when there is none.
func (n *Notes) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, n.o.Timeout)
	defer cancel()
	key = n.prefix + key
	out, err := n.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &n.bucket, Key: &key})
	if status(err) == http.StatusNotFound && hasCode(err, "NoSuchKey") {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(io.LimitReader(out.Body, maxNote+1))
	if err == nil && len(data) > maxNote {
		err = errors.New("it is too long for a note")
	}
	if err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	return data, nil
}
