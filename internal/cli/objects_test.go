package cli_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/epitaph/epitaph/internal/testserver"
)

// bucket VARIABLE [versioned|lock|flat]: sets a variable to the name of a new
// empty bucket on a real S3 server, and VARIABLE_ENDPOINT to its address. flat is
// on a server in whose keys dots and slashes are letters, as in S3 itself; the
// others are directories of a file system.
func bucket(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		var o testserver.S3Options
		switch {
		case neg || len(args) < 1 || len(args) > 2:
			ts.Fatalf("usage: bucket VARIABLE [versioned|lock|flat]")
		case len(args) == 1:
		case args[1] == "lock":
			o.Lock = true
		default:
			o.Versioning = "Enabled"
		}
		b := testserver.S3(t, o)
		// The second server takes any credentials: those of the first are set.
		for name, v := range map[string]string{"AWS_REGION": b.Region, "AWS_ACCESS_KEY_ID": b.AccessKey, "AWS_SECRET_ACCESS_KEY": b.SecretKey} {
			ts.Setenv(name, v)
		}
		if len(args) == 2 && args[1] == "flat" {
			b = testserver.FakeS3(t, o)
		}
		ts.Setenv(args[0], b.Name)
		ts.Setenv(args[0]+"_ENDPOINT", b.Endpoint)
		ts.Setenv("ENDPOINT_OF_"+b.Name, b.Endpoint)
	}
}

// s3client reaches the server of a bucket of a script.
func s3client(ts *testscript.TestScript, bucket string) *s3.Client {
	return testserver.Bucket{Endpoint: ts.Getenv("ENDPOINT_OF_" + bucket), Region: ts.Getenv("AWS_REGION"),
		AccessKey: ts.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: ts.Getenv("AWS_SECRET_ACCESS_KEY")}.Client()
}

// object put BUCKET KEY [tag=value], object hide BUCKET KEY, object hold BUCKET
// KEY, object lock BUCKET KEY, object upload BUCKET KEY.
func object(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: object put|alter|hide|hold|lock|upload bucket key [tag=value]")
	}
	ctx, c, name, key := context.Background(), s3client(ts, args[1]), &args[1], &args[2]
	var err error
	switch args[0] {
	case "put":
		in := &s3.PutObjectInput{Bucket: name, Key: key, Body: bytes.NewReader([]byte("content of " + *key))}
		if len(args) > 3 {
			in.Tagging = aws.String(strings.ReplaceAll(args[3], ":", "%3A"))
		}
		_, err = c.PutObject(ctx, in)
	case "alter": // other bytes, as many as before
		_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: key, Body: bytes.NewReader(bytes.ToUpper([]byte("content of " + *key)))})
	case "hide":
		_, err = c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: name, Key: key})
	case "hold":
		_, err = c.PutObjectLegalHold(ctx, &s3.PutObjectLegalHoldInput{Bucket: name, Key: key,
			LegalHold: &types.ObjectLockLegalHold{Status: types.ObjectLockLegalHoldStatusOn}})
	case "lock":
		_, err = c.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{Bucket: name, Key: key, Retention: &types.ObjectLockRetention{
			Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: aws.Time(time.Now().AddDate(0, 0, 10))}})
	case "upload":
		_, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: name, Key: key})
	default:
		ts.Fatalf("object %s is not known", args[0])
	}
	ts.Check(err)
}

// versions N BUCKET PREFIX: exactly so many versions, delete markers and
// unfinished uploads lie there, by the eyes of the SDK.
func versions(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: versions n bucket prefix")
	}
	ctx, c := context.Background(), s3client(ts, args[1])
	out, err := c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &args[1], Prefix: &args[2]})
	ts.Check(err)
	n := len(out.Versions) + len(out.DeleteMarkers)
	ups, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &args[1], Prefix: &args[2]})
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "NoSuchUpload" {
		ups, err = new(s3.ListMultipartUploadsOutput), nil // what gofakes3 says when there are none
	}
	ts.Check(err)
	if n += len(ups.Uploads); fmt.Sprint(n) != args[0] {
		ts.Fatalf("%d versions, markers and uploads under %q, want %s", n, args[2], args[0])
	}
}

// day VARIABLE N [LAYOUT]: sets a variable to the day N days ago.
func day(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: day VARIABLE n [layout]")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	layout := time.DateOnly
	if len(args) > 2 {
		layout = args[2]
	}
	ts.Setenv(args[0], time.Now().UTC().AddDate(0, 0, -n).Format(layout))
}

// inventory REPORTS BUCKET KEY…: keeps an S3 Inventory of the bucket, as of a
// month ago, under inv/ of the bucket REPORTS. With ! its checksum is wrong.
func inventory(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: inventory reports bucket key…")
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	at := time.Now().UTC().AddDate(0, -1, 0).Format("2006-01-02T15:04:05.000Z")
	for _, key := range args[2:] {
		fmt.Fprintf(w, "%q,%q,%q,\"true\",\"false\",\"7\",%q\n", args[1], url.QueryEscape(key), "null", at)
	}
	ts.Check(w.Close())
	sum := md5.Sum(z.Bytes())
	if neg {
		sum[0] ^= 1
	}
	manifest := fmt.Sprintf(`{"sourceBucket":%q,"destinationBucket":"arn:aws:s3:::%s","version":"2016-11-30","creationTimestamp":"%d","fileFormat":"CSV",
		"fileSchema":"Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate","files":[{"key":"inv/1.csv.gz","size":%d,"MD5checksum":"%x"}]}`,
		args[1], args[0], time.Now().UnixMilli(), z.Len(), sum)
	c := s3client(ts, args[0])
	for key, body := range map[string][]byte{"inv/1.csv.gz": z.Bytes(), "inv/manifest.json": []byte(manifest)} {
		_, err := c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &args[0], Key: &key, Body: bytes.NewReader(body)})
		ts.Check(err)
	}
}
