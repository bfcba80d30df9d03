package testserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// gatewayModule is the S3 server of the tests: versitygw (Apache-2.0) over a
// directory, built from source on first use and never linked.
const gatewayModule = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// Bucket is a bucket on a test server and what is needed to reach it. The
// server speaks path style.
type Bucket struct {
	Endpoint, Region     string
	AccessKey, SecretKey string
	Name                 string
}

// Client returns a client of the SDK for the bucket's server, for a test to
// arrange and to look with.
func (b Bucket) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &b.Endpoint, Region: b.Region, UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(b.AccessKey, b.SecretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

// S3Options say what kind of bucket is wanted.
type S3Options struct {
	// Versioning is "", "Enabled" or "Suspended".
	Versioning string
	// Lock turns Object Lock on, which implies versioning.
	Lock bool
}

// S3 returns a new empty bucket on an S3 server (versitygw) that the test
// binary shares.
func S3(t testing.TB, o S3Options) Bucket {
	t.Helper()
	s := sharedServer(t, "S3", func() (*Server, error) { return newServer(&gateway{}, "nobody") })
	return s.Bucket(t, o)
}

// NewS3 starts an S3 server of the test's own, which it may stop, kill and start.
func NewS3(t testing.TB) *Server {
	t.Helper()
	s, err := newServer(&gateway{}, "nobody")
	return own(t, s, err)
}

// Bucket makes a new empty bucket on an S3 server.
func (s *Server) Bucket(t testing.TB, o S3Options) Bucket {
	t.Helper()
	g, ok := s.kind.(*gateway)
	if !ok {
		t.Fatal("not an S3 server")
	}
	b := g.bucket(fmt.Sprintf("t%d-%d", os.Getpid(), serial.Add(1)))
	makeBucket(t, b, o)
	return b
}

// FakeS3 returns a new empty bucket on a second, independent implementation of
// S3 (gofakes3), which lives in the test's own process. It has versions but no
// Object Lock and no conditions.
func FakeS3(t testing.TB, o S3Options) Bucket {
	t.Helper()
	fake := gofakes3.New(s3mem.New(), gofakes3.WithLogger(gofakes3.DiscardLog()))
	web := httptest.NewServer(fake.Server())
	t.Cleanup(web.Close)
	b := Bucket{Endpoint: web.URL, Region: "us-east-1", AccessKey: "fake", SecretKey: "fake",
		Name: fmt.Sprintf("f%d-%d", os.Getpid(), serial.Add(1))}
	makeBucket(t, b, o)
	return b
}

func makeBucket(t testing.TB, b Bucket, o S3Options) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := b.Client()
	in := &s3.CreateBucketInput{Bucket: &b.Name}
	if o.Lock {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	}
	if _, err := c.CreateBucket(ctx, in); err != nil {
		t.Fatalf("create bucket: %v", err)
	}
	for _, status := range []string{"Enabled", "Suspended"} {
		if o.Versioning == "" {
			break
		}
		_, err := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: &b.Name,
			VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatus(status)}})
		if err != nil {
			t.Fatalf("set versioning: %v", err)
		}
		if status == o.Versioning {
			break
		}
	}
}

// gateway is a versitygw server. Its keys are random, so that only the server
// that was started here answers a signed request.
type gateway struct {
	address           string
	accessKey, secret string
}

func (g *gateway) install(s *Server) error {
	built, err := buildGateway()
	if err != nil {
		return err
	}
	// A copy, because the unprivileged user may not see the cache.
	if err := copyProgram(built, filepath.Join(s.dir, "versitygw")); err != nil {
		return err
	}
	for _, d := range []string{"data", "versions"} {
		d = filepath.Join(s.dir, d)
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
		if s.cred != nil {
			if err := os.Chown(d, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
				return err
			}
		}
	}
	key := make([]byte, 24)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	g.accessKey, g.secret = "T"+hex.EncodeToString(key[:8]), hex.EncodeToString(key)
	port, err := freePort()
	g.address = fmt.Sprintf("127.0.0.1:%d", port)
	return err
}

func (g *gateway) command(s *Server) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.dir, "versitygw"), "--port", g.address, "--access", g.accessKey, "--secret", g.secret,
		"--quiet", "--keep-alive", "posix", "--versioning-dir", filepath.Join(s.dir, "versions"), filepath.Join(s.dir, "data"))
	cmd.Env = []string{"HOME=" + s.dir, "TMPDIR=" + s.dir}
	return cmd
}

func (g *gateway) bucket(name string) Bucket {
	return Bucket{Endpoint: "http://" + g.address, Region: "us-east-1", AccessKey: g.accessKey, SecretKey: g.secret, Name: name}
}

func (g *gateway) ping(*Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := g.bucket("").Client().ListBuckets(ctx, &s3.ListBucketsInput{})
	return err
}

func (g *gateway) create(*Server, string) error      { return errors.New("an S3 server has no databases") }
func (g *gateway) drop(*Server, string) error        { return errors.New("an S3 server has no databases") }
func (g *gateway) dsn(_ *Server, name string) string { return "s3://" + name }
func (g *gateway) graceful() os.Signal               { return syscall.SIGTERM }

// buildGateway returns the path of the server, which it builds into the user's
// cache when it is not there. That takes a minute or two, once.
func buildGateway() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = filepath.Join(os.TempDir(), fmt.Sprintf("cache-%d", os.Getuid()))
	}
	dir := filepath.Join(cache, "epitaph", "testserver", "versitygw-v1.8.0")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "versitygw")
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	// Another test binary may be building it at this moment.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	tmp, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	for try := 1; ; try++ {
		cmd := exec.Command("go", "install", gatewayModule)
		cmd.Dir = tmp // outside of this module, whose versions are not the server's
		cmd.Env = append(os.Environ(), "GOBIN="+tmp, "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err == nil {
			break
		}
		if try == 4 { // a mirror of modules may fail for a moment
			return "", fmt.Errorf("build %s: %w\n%s", gatewayModule, err, out)
		}
		time.Sleep(time.Duration(try) * 5 * time.Second)
	}
	return program, os.Rename(filepath.Join(tmp, "versitygw"), program)
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	if err := out.Chmod(0o755); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}
