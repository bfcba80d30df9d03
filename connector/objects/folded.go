package objects

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// errFolded is a server that gives an object for a key which its listing does not
// have: it reads keys as paths, as gateways on file systems do.
var errFolded = errors.New("the server answers to a key that it does not list")

// foldable reports a key that has another spelling where keys are read as paths:
// with a slash at the front, an empty element, or one that is only dots.
func foldable(key string) bool {
	for e := range strings.SplitSeq(strings.TrimSuffix(key, "/"), "/") {
		if e == "" || e == "." || e == ".." {
			return true
		}
	}
	return false
}

// unfold asks for the keys that were not listed and may be listed by another
// spelling. Where the server has an object for one, nothing is known of it:
// nothing was seen under the key, and yet who asks for it gets the data.
func (c *Connector) unfold(ctx context.Context, b *bucket, keys []string, out []sight) {
	var ask []int
	for i := range keys {
		if out[i].err == nil && out[i].empty() && foldable(keys[i]) {
			ask = append(ask, i)
		}
	}
	parallel(len(ask), c.o.Concurrency, func(n int) {
		i := ask[n]
		err := c.call(ctx, c.o.Timeout, func(ctx context.Context) error {
			_, err := c.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &keys[i]})
			return err
		})
		switch k := classify(err); {
		case err == nil:
			out[i] = sight{err: &StrangeAnswerError{errFolded}}
		case k == throttle || k == passing || k == denied: // for what is not there nothing is denied to who may list
			out[i] = sight{err: err}
		}
	})
}

// directories looks once more, one by one, at keys that end in a slash and were
// not listed: a gateway on a file system, for which they are directories, passes
// over them where a listing begins after a name that sorts between the directory's
// name and its slash.
func (c *Connector) directories(ctx context.Context, b *bucket, keys []string, out []sight) {
	var ask []int
	var alone []string
	for i, key := range keys {
		if out[i].err == nil && out[i].empty() && strings.HasSuffix(key, "/") {
			ask, alone = append(ask, i), append(alone, key)
		}
	}
	seen := make([]sight, len(alone))
	c.eachKey(ctx, b, alone, seen)
	for n, i := range ask {
		out[i] = seen[n]
	}
}
