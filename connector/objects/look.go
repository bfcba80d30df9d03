package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/epitaph/epitaph/connector"
)

// sight is all that was seen under one key. A sight without an error was
// looked at in full; the zero sight is a key with nothing under it.
type sight struct {
	versions []version
	uploads  []upload
	err      error
	ids      map[string]bool // of the versions, once there are many
}

// fewVersions is how many are searched without an index.
const fewVersions = 32

func (s *sight) empty() bool { return len(s.versions) == 0 && len(s.uploads) == 0 }

// add counts a version once, however often the listing repeats it.
func (s *sight) add(v version) {
	if len(s.versions) >= fewVersions {
		if s.ids == nil {
			s.ids = make(map[string]bool, 4*fewVersions)
			for _, w := range s.versions {
				s.ids[w.id] = true
			}
		}
		if s.ids[v.id] {
			return
		}
		s.ids[v.id] = true
	} else if slices.ContainsFunc(s.versions, func(w version) bool { return w.id == v.id }) {
		return
	}
	s.versions = append(s.versions, v)
}

func (s *sight) addUpload(u upload) {
	for _, w := range s.uploads {
		if w.id == u.id {
			return
		}
	}
	s.uploads = append(s.uploads, u)
}

// bytes is the size of all versions together.
func (s *sight) bytes() int64 {
	var n int64
	for _, v := range s.versions {
		n += v.size
	}
	return n
}

// changed is the newest instant at which data was written under the key; of
// the delete markers where there is nothing else.
func (s *sight) changed() time.Time {
	var data, marker time.Time
	for _, v := range s.versions {
		if v.marker {
			marker = later(marker, v.modified)
		} else {
			data = later(data, v.modified)
		}
	}
	for _, u := range s.uploads {
		data = later(data, u.initiated)
	}
	if data.IsZero() {
		return marker
	}
	return data
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// print is a digest over the sorted set of what was seen, with ETag, size and
// time to the second, which is what every listing gives.
func (s *sight) print() connector.Fingerprint {
	if s.empty() {
		return ""
	}
	lines := make([]string, 0, len(s.versions)+len(s.uploads))
	var line []byte
	for _, v := range s.versions {
		line = strconv.AppendQuote(append(line[:0], 'v', ' '), v.id)
		line = strconv.AppendQuote(append(line, ' '), v.etag)
		line = strconv.AppendInt(append(line, ' '), v.size, 10)
		line = strconv.AppendInt(append(line, ' '), v.modified.Unix(), 10)
		line = strconv.AppendBool(append(line, ' '), v.latest)
		line = strconv.AppendBool(append(line, ' '), v.marker)
		lines = append(lines, string(append(line, '\n')))
	}
	for _, u := range s.uploads {
		lines = append(lines, string(append(strconv.AppendQuote([]byte("u "), u.id), '\n')))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return connector.Fingerprint(hex.EncodeToString(sum[:16]))
}

// result is what a look says.
func (s *sight) result() connector.Result {
	switch {
	case s.err != nil:
		return unknown(s.err)
	case s.empty():
		return connector.Result{State: connector.Gone, Reason: connector.Missing}
	}
	return connector.Result{State: connector.Present, Print: s.print(), Bytes: s.bytes()}
}

const (
	fullPage = 1000 // what S3 gives at most
	// sparse is how few of the keys a page may settle before looking key by
	// key is cheaper, and stride how many keys are then looked at so.
	sparse = 24
	stride = 256
)

// look looks at each key of one bucket. keys is sorted and without repetition;
// the sights are in its order. left is how many of them are expected to be
// there: after a deletion, none.
//
// Keys that lie close together are settled by walking the listing once from
// the first to the last; keys far apart one by one. Either way absence is
// concluded from a listing in key order that has gone past the key.
func (c *Connector) look(ctx context.Context, b *bucket, keys []string, left int) []sight {
	out := make([]sight, len(keys))
	for i := 0; i < len(keys); {
		n := 0
		if len(keys)-i >= 4 {
			var err error
			n, err = c.walk(ctx, b, keys[i:], out[i:], left)
			if errors.Is(err, errOrder) { // what was passed as absent may come later
				clear(out)
				c.eachKey(ctx, b, keys, out)
				break
			}
			if err != nil && outage(err) {
				for j := i + n; j < len(keys); j++ {
					out[j] = sight{err: err}
				}
				break
			}
			if n >= sparse || i+n == len(keys) {
				i += n
				continue
			}
		}
		end := min(len(keys), i+n+stride)
		c.eachKey(ctx, b, keys[i+n:end], out[i+n:end])
		i = end
	}
	c.directories(ctx, b, keys, out)
	if !c.o.NoUploads {
		c.lookUploads(ctx, b, keys, out)
	}
	c.unfold(ctx, b, keys, out)
	return out
}

// walk lists from the first key on and settles as many keys as lie close
// enough. It returns how many; a failure settles none that it did not see.
func (c *Connector) walk(ctx context.Context, b *bucket, keys []string, out []sight, left int) (settled int, err error) {
	l := listing{prefix: commonPrefix(keys), max: pageFor(left)}
	at := cursor{key: before(keys[0])}
	if !strings.HasPrefix(at.key, l.prefix) {
		at.key = ""
	}
	if l.prefix == keys[0] {
		at.key = "" // the key itself is the first that the prefix lists
	}
	for {
		p, err := c.list(ctx, b, l, at)
		if err != nil {
			clear(out[settled:])
			return settled, err
		}
		start := settled
		for _, e := range p.entries {
			for settled < len(keys) && keys[settled] < e.key {
				settled++
			}
			if settled < len(keys) && keys[settled] == e.key {
				out[settled].add(e.version)
			}
		}
		if !p.more {
			return len(keys), nil
		}
		if settled == len(keys) {
			return settled, nil
		}
		if settled-start < sparse && len(p.entries) >= min(200, int(l.max)) && l.max == fullPage || len(p.entries) == 0 {
			clear(out[settled:]) // the open key is looked at again, whole
			return settled, nil
		}
		if at, err = p.following(); err != nil {
			clear(out[settled:])
			return settled, err
		}
		if l.max = min(fullPage, l.max*4); left > 0 && settled > start {
			// At the rate of this page. Often the last key alone is not passed yet.
			l.max = pageFor((len(keys) - settled) * len(p.entries) / (settled - start))
		}
	}
}

// pageFor is how many entries to ask for where so many are expected.
func pageFor(n int) int32 { return int32(min(fullPage, max(16, n+n/8))) }

// outage reports a failure that has nothing to do with the key: asking for the
// next one would only wait again.
func outage(err error) bool {
	k := classify(err)
	return k == throttle || k == passing || noBucket(err) || errors.Is(err, context.Canceled)
}

// fuse is how many keys in a row may fail that way before the rest is not
// tried: one bad key never stops the others, a dead server does.
const fuse = 8

// eachKey looks at the keys one by one, several at a time.
func (c *Connector) eachKey(ctx context.Context, b *bucket, keys []string, out []sight) {
	var failed atomic.Int32
	parallel(len(keys), c.o.Concurrency, func(i int) {
		if failed.Load() >= fuse {
			out[i] = sight{err: errFuse}
			return
		}
		out[i] = c.lookOne(ctx, b, keys[i])
		if err := out[i].err; err != nil && outage(err) {
			failed.Add(1)
		} else {
			failed.Store(0)
		}
	})
}

// lookOne lists the versions of one key. The key sorts before all others that
// begin with it, so the first few entries are enough.
func (c *Connector) lookOne(ctx context.Context, b *bucket, key string) sight {
	var s sight
	l, at := listing{prefix: key, max: 8}, cursor{}
	for {
		p, err := c.list(ctx, b, l, at)
		if err != nil {
			return sight{err: err}
		}
		for _, e := range p.entries {
			if e.key != key {
				return s
			}
			s.add(e.version)
		}
		if !p.more {
			return s
		}
		if at, err = p.following(); err != nil {
			return sight{err: err}
		}
		l.max = fullPage
	}
}

// lookUploads adds the unfinished uploads. There are hardly ever any, so one
// listing of all keys' common prefix is tried first.
func (c *Connector) lookUploads(ctx context.Context, b *bucket, keys []string, out []sight) {
	if len(keys) == 0 {
		return
	}
	prefix := commonPrefix(keys)
	if found, _, more, err := c.uploadPage(ctx, b, prefix, cursor{}); err != nil || !more {
		for i := range out {
			if err != nil && out[i].err == nil {
				out[i] = sight{err: err}
			}
		}
		for _, u := range found {
			if i, ok := slices.BinarySearch(keys, u.key); ok && out[i].err == nil {
				out[i].addUpload(u.upload)
			}
		}
		return
	}
	parallel(len(keys), c.o.Concurrency, func(i int) {
		if out[i].err == nil {
			c.lookUploadsOf(ctx, b, keys[i], &out[i])
		}
	})
}

func (c *Connector) lookUploadsOf(ctx context.Context, b *bucket, key string, s *sight) {
	for at, more := (cursor{}), true; more; {
		found, next, m, err := c.uploadPage(ctx, b, key, at)
		if err != nil {
			*s = sight{err: err}
			return
		}
		for _, u := range found {
			if u.key == key {
				s.addUpload(u.upload)
			}
		}
		at, more = next, m
	}
}

// parallel calls f for 0 to n-1, on at most so many goroutines.
func parallel(n, most int, f func(int)) {
	if n <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, most) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// commonPrefix of sorted keys is that of the first and the last. It ends at
// the end of a rune.
func commonPrefix(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	a, b := keys[0], keys[len(keys)-1]
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n > 0 && n < len(a) && !utf8.RuneStart(a[n]) {
		n--
	}
	return a[:n]
}

// before is a key that sorts before key and close to it: a listing that starts
// after it begins with key, or with few others.
func before(key string) string {
	r, size := utf8.DecodeLastRuneInString(key)
	head := key[:len(key)-size]
	switch {
	case r <= ' ': // nothing printable lies below
		return head
	case r == 0xE000:
		return head + "\uD7FF"
	}
	return head + string(r-1)
}
