package objects

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/epitaph/epitaph/connector"
)

// manifest is manifest.json of S3 Inventory, as far as it is used: see "Amazon
// S3 User Guide, Locating your inventory list".
type manifest struct {
	SourceBucket      string `json:"sourceBucket"`
	DestinationBucket string `json:"destinationBucket"` // an ARN
	CreationTimestamp string `json:"creationTimestamp"` // milliseconds since 1970
	FileFormat        string `json:"fileFormat"`
	FileSchema        string `json:"fileSchema"`
	Files             []struct {
		Key string `json:"key"`
		MD5 string `json:"MD5checksum"`
	} `json:"files"`
}

// created is when the inventory was made.
func (m *manifest) created() time.Time {
	ms, err := strconv.ParseInt(m.CreationTimestamp, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// mostManifest bounds the manifest: one file of it names about a million keys.
const mostManifest = 16 << 20

func (c *Connector) readManifest(ctx context.Context, source string) (*manifest, error) {
	bucket, key, err := splitURL(c.o.Inventory)
	if err != nil {
		return nil, fmt.Errorf("read inventory manifest: %w", err)
	}
	body := &object{c: c, ctx: ctx, bucket: bucket, key: key}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, mostManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read inventory manifest: %w", err)
	}
	var m manifest
	switch err := json.NewDecoder(bytes.NewReader(data)).Decode(&m); {
	case len(data) > mostManifest:
		return nil, errors.New("read inventory manifest: larger than 16 MiB")
	case err != nil:
		return nil, errors.New("read inventory manifest: not a manifest")
	case m.SourceBucket != source:
		return nil, errors.New("read inventory manifest: it is the inventory of another bucket")
	case m.FileFormat != "CSV":
		return nil, errors.New("read inventory manifest: only the CSV format can be read")
	case !slices.Contains(m.columns(), "Key"):
		return nil, errors.New("read inventory manifest: its schema has no Key")
	}
	return &m, nil
}

func (m *manifest) columns() []string {
	names := strings.Split(m.FileSchema, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

// fromInventory takes the keys from an inventory and looks at each that may be
// due: an inventory is a day old or more, so what it says of a key decides only
// that the key need not be looked at.
func (sc *scan) fromInventory(ctx context.Context, take func(chunk) error) error {
	m, err := sc.c.readManifest(ctx, sc.b.name)
	if err != nil {
		return err
	}
	bucket := m.DestinationBucket[strings.LastIndexByte(m.DestinationBucket, ':')+1:]
	r := &inventoryReader{sc: sc, columns: m.columns(), take: take}
	for _, f := range m.Files {
		if err := r.file(ctx, bucket, f.Key, f.MD5); err != nil {
			return err
		}
	}
	return r.flush(ctx)
}

type inventoryReader struct {
	sc      *scan
	columns []string
	take    func(chunk) error
	keys    []string // to be looked at
	passed  int64    // counted, and too young to be looked at
}

func (r *inventoryReader) file(ctx context.Context, bucket, key, sum string) error {
	body := &object{c: r.sc.c, ctx: ctx, bucket: bucket, key: key, sum: md5.New()}
	defer body.Close()
	z, err := gzip.NewReader(body)
	if err != nil {
		return fmt.Errorf("read inventory: %w", err)
	}
	rows := csv.NewReader(z)
	rows.FieldsPerRecord = len(r.columns)
	rows.ReuseRecord = true
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read inventory: %w", err)
		}
		if err := r.row(ctx, row); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return fmt.Errorf("read inventory: %w", err)
	}
	if got := hex.EncodeToString(body.sum.Sum(nil)); !strings.EqualFold(got, sum) {
		return errors.New("read inventory: a file does not have the checksum in the manifest")
	}
	return nil
}

// row takes a key from one line. An inventory of all versions has a line for
// each; the one of the latest stands for the key.
func (r *inventoryReader) row(ctx context.Context, row []string) error {
	var key, modified string
	marker := false
	for i, name := range r.columns {
		switch name {
		case "Key":
			k, err := url.QueryUnescape(row[i])
			if err != nil {
				return errors.New("read inventory: a key is not percent-encoded")
			}
			key = k
		case "IsLatest":
			if row[i] == "false" {
				return nil
			}
		case "IsDeleteMarker":
			marker = row[i] == "true"
		case "LastModifiedDate":
			modified = row[i]
		}
	}
	if !strings.HasPrefix(key, r.sc.prefix) {
		return nil
	}
	if r.young(key, modified, marker) {
		r.passed++
		return nil
	}
	r.keys = append(r.keys, key)
	if len(r.keys) == chunkKeys {
		return r.flush(ctx)
	}
	return nil
}

// young reports that the key cannot be due, because what dates it can only have
// become younger since.
func (r *inventoryReader) young(key, modified string, marker bool) bool {
	switch a := r.sc.q.Anchor; a.Kind {
	case connector.AnchorModified:
		at, err := time.Parse(time.RFC3339, modified)
		return err == nil && !marker && !at.Before(r.sc.q.Cutoff)
	case connector.AnchorName:
		l, err := connector.CompileLayout(a.Layout)
		if err != nil {
			return false
		}
		at := named(l, a, key)
		return !at.IsZero() && !at.Before(r.sc.q.Cutoff)
	}
	return false
}

// flush looks at the gathered keys.
func (r *inventoryReader) flush(ctx context.Context) error {
	slices.Sort(r.keys)
	r.keys = slices.Compact(r.keys)
	ch := chunk{keys: r.passed}
	var found []keyed
	for i, s := range r.sc.c.look(ctx, r.sc.b, r.keys, len(r.keys)) {
		if s.err != nil {
			return s.err
		}
		if len(s.versions) > 0 { // else gone since, or counted with the uploads
			found = append(found, keyed{r.keys[i], s})
		}
	}
	ch.keys += int64(len(found))
	ch.items, ch.err = r.sc.items(ctx, found)
	r.keys, r.passed = r.keys[:0], 0
	return r.take(ch)
}

// object reads one object as a stream. A stream that breaks is taken up again
// where it broke, if the object is still the same.
type object struct {
	c           *Connector
	ctx         context.Context
	bucket, key string
	sum         hash.Hash // of what was read; may be nil

	body  io.ReadCloser
	etag  string
	at    int64
	tries int
}

func (o *object) Read(p []byte) (int, error) {
	for {
		if o.body == nil {
			if err := o.open(); err != nil {
				return 0, err
			}
		}
		n, err := o.body.Read(p)
		if n > 0 {
			o.at += int64(n)
			o.tries = 0
			if o.sum != nil {
				o.sum.Write(p[:n])
			}
			return n, nil
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		o.Close()
		if o.tries++; o.tries >= o.c.o.Attempts || o.ctx.Err() != nil {
			return 0, err
		}
		if err := o.c.o.Sleep(o.ctx, o.c.backoff(o.tries)); err != nil {
			return 0, err
		}
	}
}

func (o *object) open() error {
	in := &s3.GetObjectInput{Bucket: &o.bucket, Key: &o.key}
	if o.at > 0 {
		in.Range, in.IfMatch = aws.String(fmt.Sprintf("bytes=%d-", o.at)), &o.etag
	}
	for attempt := 1; ; attempt++ {
		// No deadline for one call: its context lives as long as the body.
		out, err := o.c.client.GetObject(o.ctx, in)
		if err == nil {
			o.body, o.etag = out.Body, aws.ToString(out.ETag)
			return nil
		}
		if k := classify(err); k != throttle && k != passing || attempt >= o.c.o.Attempts {
			return explained(err)
		}
		if serr := o.c.o.Sleep(o.ctx, o.c.backoff(attempt)); serr != nil {
			return err
		}
	}
}

func (o *object) Close() error {
	if o.body == nil {
		return nil
	}
	err := o.body.Close()
	o.body = nil
	return err
}
