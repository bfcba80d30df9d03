package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/epitaph/epitaph/internal/testserver"
)

const objectsPolicy = `version: 1
ledger: sqlite:%s
stores:
  media: {objects: "s3://%s", endpoint: %q, region: us-east-1}
rules:
  recordings:
    retain: 14d
    objects: "media:due/"
    anchor: {name: "YYYY-MM-DD-*", zone: UTC}
limits: {items: 20000000, share: 100%%}
`

// BenchmarkObjects purges keys beside rclone delete --checkers 64: of a bucket
// without versions, and of one where each key has three. rclone only hides the
// latter, so that its time is counted for each key and ours for each version.
func BenchmarkObjects(b *testing.B) {
	if _, err := exec.LookPath("rclone"); err != nil {
		b.Fatal("rclone is not installed: apt-get install rclone")
	}
	n := number("BENCH_OBJECTS", 100_000)
	b.Run("current", func(b *testing.B) {
		for range b.N {
			objects(b, testserver.S3Options{}, n, 1)
		}
	})
	b.Run("versions", func(b *testing.B) {
		for range b.N {
			objects(b, testserver.S3Options{Versioning: "Enabled"}, n/3, 3)
		}
	})
}

func objects(b *testing.B, o testserver.S3Options, keys, versions int) {
	server := testserver.NewS3(b)
	var us, them []time.Duration
	var peak int64
	for i := range rounds() {
		ours, theirs := server.Bucket(b, o), server.Bucket(b, testserver.S3Options{})
		fill(b, ours, keys, versions)
		fill(b, theirs, keys, 1)
		settle()

		cmd := exec.CommandContext(b.Context(), "rclone", "delete", "--checkers", "64", "S3:"+theirs.Name+"/due")
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.TempDir()}, rclone(theirs)...)
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("rclone: %v\n%s", err, out)
		}
		them = append(them, time.Since(start))
		empty(b, theirs)

		dir := b.TempDir()
		write(b, filepath.Join(dir, "epitaph.yaml"), fmt.Sprintf(objectsPolicy, filepath.Join(dir, "ledger.db"), ours.Name, ours.Endpoint))
		r := epitaph(b, dir, []string{"AWS_ACCESS_KEY_ID=" + ours.AccessKey, "AWS_SECRET_ACCESS_KEY=" + ours.SecretKey}, "purge", "--yes", "--quiet")
		us, peak = append(us, r.took), max(peak, r.peak)
		empty(b, ours)
		b.Logf("round %d: rclone %v, epitaph %v (cpu %v, %d MB)", i+1, them[i], r.took, r.cpu, r.peak>>20)
	}
	note := fmt.Sprintf("ledger flushed; %d MB", peak>>20)
	if versions == 1 {
		figures.add(b, fmt.Sprintf("%d keys of a bucket", keys), "`rclone delete --checkers 64`", median(us), median(them), note)
		return
	}
	each := median(us) / time.Duration(versions)
	figures.add(b, fmt.Sprintf("%d keys of %d versions each, per version", keys, versions), "`rclone delete --checkers 64`, per key", each, median(them), note)
}

func rclone(b testserver.Bucket) []string {
	return []string{"RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Other", "RCLONE_CONFIG_S3_ENDPOINT=" + b.Endpoint,
		"RCLONE_CONFIG_S3_ACCESS_KEY_ID=" + b.AccessKey, "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY=" + b.SecretKey, "RCLONE_CONFIG_S3_REGION=us-east-1",
		"RCLONE_CONFIG_S3_FORCE_PATH_STYLE=true"}
}

// fill stores the keys, a thousand to a folder, dated long ago by their names.
func fill(b testing.TB, to testserver.Bucket, keys, versions int) {
	b.Helper()
	c := to.Client()
	work := make(chan int, 64)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range work {
				key := fmt.Sprintf("due/%04d/2020-01-01-%06d.mp3", i/1000, i)
				for range versions {
					_, err := c.PutObject(b.Context(), &s3.PutObjectInput{Bucket: &to.Name, Key: &key, Body: strings.NewReader("audio")})
					if err != nil {
						b.Errorf("put: %v", err)
					}
				}
			}
		})
	}
	for i := range keys {
		work <- i
	}
	close(work)
	wg.Wait()
}

// empty fails unless the bucket holds nothing at all.
func empty(b testing.TB, of testserver.Bucket) {
	b.Helper()
	out, err := of.Client().ListObjectVersions(context.Background(), &s3.ListObjectVersionsInput{Bucket: &of.Name,
		MaxKeys: aws.Int32(10), EncodingType: types.EncodingTypeUrl})
	if err != nil {
		b.Fatal(err)
	}
	if n := len(out.Versions) + len(out.DeleteMarkers); n > 0 {
		b.Fatalf("%d or more versions are left", n)
	}
}
