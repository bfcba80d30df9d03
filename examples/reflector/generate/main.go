// Command generate fills a Reflector's database, data directory and buckets
// with made-up transcripts, to try Epitaph on:
//
//	go run ./examples/reflector/generate --transcripts 500
//
// It reads the variables that the example's policy reads, makes the tables and
// buckets where they are absent, and adds to what is there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/epitaph/epitaph/examples/reflector"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := generate(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("generate", flag.ExitOnError)
	n := f.Int("transcripts", 500, "`number` of transcripts")
	seed := f.Uint64("seed", 1, "same `seed`, same data")
	f.Parse(args)

	db, err := connect(ctx)
	if err != nil {
		return err
	}
	defer db.Close(context.WithoutCancel(ctx))
	b, err := openBuckets(ctx)
	if err != nil {
		return err
	}
	w := newWorld(*seed, time.Now().UTC(), b.media, b.platform)
	for range *n {
		w.transcript()
	}
	for range *n / 20 {
		w.orphan()
	}
	if err := w.insert(ctx, db); err != nil {
		return err
	}
	if err := w.files(or(os.Getenv("DATA_DIR"), "./data")); err != nil {
		return err
	}
	if err := b.put(ctx, w.objects); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d transcripts, %d of them anonymous and older than seven days (%d of those at work), %d without a date\n",
		*n, w.due, w.busy, w.undated)
	fmt.Fprintf(out, "%d meetings, %d recordings, %d more that no transcript names and that are older than seven days\n",
		w.meetings, w.recordings, w.orphans)
	fmt.Fprintf(out, "%d directories with three files each, %d objects in two buckets\n", len(w.dirs), len(w.objects))
	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// connect opens the database, and makes the tables in an empty one.
func connect(ctx context.Context) (*pgx.Conn, error) {
	scheme, rest, ok := strings.Cut(os.Getenv("DATABASE_URL"), "://")
	if !ok || !strings.HasPrefix(scheme, "postgres") {
		return nil, errors.New("set DATABASE_URL to postgres://USER@HOST/DATABASE")
	}
	db, err := pgx.Connect(ctx, "postgres://"+rest)
	if err != nil {
		return nil, errors.New("cannot connect to the database that DATABASE_URL names") // the cause may hold the password
	}
	var there bool
	if err := db.QueryRow(ctx, "SELECT to_regclass('transcript') IS NOT NULL").Scan(&there); err != nil {
		return nil, fmt.Errorf("look for tables: %w", err)
	}
	if !there {
		if _, err := db.Exec(ctx, reflector.Schema); err != nil {
			return nil, fmt.Errorf("make tables: %w", err)
		}
	}
	return db, nil
}

// buckets are the two that the policy names.
type buckets struct {
	client          *s3.Client
	media, platform string
}

func openBuckets(ctx context.Context) (*buckets, error) {
	c, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("read AWS configuration: %w", err)
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	b := &buckets{media: or(os.Getenv("TRANSCRIPT_STORAGE_AWS_BUCKET_NAME"), "reflector-bucket"),
		platform: or(os.Getenv("RECORDING_STORAGE_AWS_BUCKET_NAME"), "reflector-recordings")}
	b.client = s3.NewFromConfig(c, func(o *s3.Options) {
		if e := os.Getenv("S3_ENDPOINT"); e != "" {
			o.BaseEndpoint, o.UsePathStyle = &e, true
		}
	})
	for _, name := range []string{b.media, b.platform} {
		if _, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name}); err == nil {
			continue
		}
		if _, err := b.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
			return nil, fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	return b, nil
}

// put writes the objects, some at a time.
func (b *buckets) put(ctx context.Context, objects []object) error {
	const atOnce = 16
	errs := make(chan error, atOnce)
	for w := range atOnce {
		go func() {
			for i := w; i < len(objects); i += atOnce {
				o := &objects[i]
				_, err := b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &o.bucket, Key: &o.key, Body: strings.NewReader("made-up sound")})
				if err != nil {
					errs <- fmt.Errorf("put object: %w", err)
					return
				}
			}
			errs <- nil
		}()
	}
	var all error
	for range atOnce {
		all = errors.Join(all, <-errs)
	}
	return all
}
