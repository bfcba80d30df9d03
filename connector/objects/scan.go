package objects

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/epitaph/epitaph/connector"
)

const (
	// lanes is how many stretches of the listing are read at the same time. It
	// is fixed, because the order of the items follows from it.
	lanes = 8
	// chunkKeys is how many keys a lane hands over at once.
	chunkKeys = 1000
)

// scan is one run over the keys below a prefix.
type scan struct {
	c      *Connector
	b      *bucket
	prefix string
	q      *connector.Query
	// uploads are the unfinished uploads below the prefix when there are few;
	// manyUploads says that they must be looked up with each chunk.
	uploads     map[string][]upload
	manyUploads bool
}

// chunk is what a lane hands over: the items among so many keys.
type chunk struct {
	items []connector.Item
	keys  int64
	clock time.Time
	last  bool
	err   error
}

// Scan streams the keys below the prefix that q.Collection names: each key is
// one item with all that is under it. The listing is read in several stretches
// at once, and the items come in turns of up to 1,000 keys from each: an order
// that follows from the data alone. Keys that hold nothing but unfinished
// uploads come last.
func (c *Connector) Scan(ctx context.Context, q *connector.Query, s *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		if err := c.scan(ctx, q, s, yield); err != nil && !errors.Is(err, errStopped) {
			yield(connector.Item{}, err)
		}
	}
}

// errStopped says that the reader wants no more.
var errStopped = errors.New("stopped by the reader")

func (c *Connector) scan(ctx context.Context, q *connector.Query, s *connector.Survey, yield func(connector.Item, error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	sc, err := c.newScan(ctx, q)
	if err != nil {
		return err
	}
	take := func(ch chunk) error {
		if ch.err != nil {
			return ch.err
		}
		s.Total += ch.keys
		if ch.clock.After(s.Clock) {
			s.Clock = ch.clock
		}
		for _, it := range ch.items {
			if !yield(it, nil) {
				return errStopped
			}
		}
		return nil
	}
	if c.o.Inventory != "" {
		err = sc.fromInventory(ctx, take)
	} else {
		err = sc.fromListing(ctx, &wg, take)
	}
	if err == nil {
		err = sc.uploadsOnly(ctx, take)
	}
	return err
}

// newScan reads what the query means and which uploads there are.
func (c *Connector) newScan(ctx context.Context, q *connector.Query) (*scan, error) {
	name, prefix, err := c.scope(q.Collection)
	if err != nil {
		return nil, err
	}
	if q.Anchor.Kind == connector.AnchorName {
		if _, err := connector.CompileLayout(q.Anchor.Layout); err != nil {
			return nil, err
		}
	}
	sc := &scan{c: c, b: c.bucketNamed(name), prefix: prefix, q: q, uploads: map[string][]upload{}}
	if _, err := c.traits(ctx, sc.b); err != nil {
		return nil, err
	}
	if c.o.NoUploads {
		return sc, nil
	}
	found, _, more, err := c.uploadPage(ctx, sc.b, prefix, cursor{})
	if err != nil {
		return nil, err
	}
	sc.manyUploads = more
	for _, u := range found {
		sc.uploads[u.key] = append(sc.uploads[u.key], u.upload)
	}
	return sc, nil
}

// scope reads a collection: a prefix of keys, after "bucket/" where the store
// names no bucket. Empty means all the store holds.
func (c *Connector) scope(collection string) (bucket, prefix string, err error) {
	if c.bucket == "" {
		bucket, prefix, _ = strings.Cut(collection, "/")
		return bucket, prefix, c.allowed(bucket)
	}
	if collection == "" {
		return c.bucket, c.prefix, nil
	}
	if !strings.HasPrefix(collection, c.prefix) {
		return "", "", errOutside
	}
	return c.bucket, collection, nil
}

// keyed is a key with what a listing shows under it.
type keyed struct {
	key string
	sight
}

// items dates the keys of a chunk and keeps those that are due or undated.
func (sc *scan) items(ctx context.Context, keys []keyed) ([]connector.Item, error) {
	sc.addUploads(ctx, keys)
	at := make([]time.Time, len(keys))
	errs := make([]error, len(keys))
	date := func(i int) {
		if errs[i] = keys[i].err; errs[i] == nil {
			at[i], errs[i] = sc.c.anchor(ctx, sc.b, sc.q.Anchor, keys[i].key, &keys[i].sight)
		}
	}
	if sc.q.Anchor.Kind == connector.AnchorTag {
		parallel(len(keys), sc.c.o.Concurrency, date)
	} else {
		for i := range keys {
			date(i)
		}
	}
	var items []connector.Item
	var due []keyed
	for i := range keys {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if at[i].IsZero() || at[i].Before(sc.q.Cutoff) {
			items = append(items, connector.Item{Locator: sc.c.locator(sc.b.name, keys[i].key),
				Anchor: at[i], Bytes: keys[i].bytes(), Print: keys[i].print()})
			due = append(due, keys[i])
		}
	}
	return items, sc.readLocks(ctx, due, items)
}

// readLocks says of items that the store keeps them, in a bucket that can. A lock
// that cannot be read is left to the claim, which asks again.
func (sc *scan) readLocks(ctx context.Context, keys []keyed, items []connector.Item) error {
	if t, err := sc.c.traits(ctx, sc.b); err == nil && !t.locked {
		return nil
	}
	names, sights := make([]string, len(keys)), make([]sight, len(keys))
	answers := make([]connector.Result, len(keys))
	for i := range keys {
		names[i], sights[i], answers[i].State = keys[i].key, keys[i].sight, connector.Present
	}
	sc.c.readLocks(ctx, sc.b, names, sights, answers)
	for i, r := range answers {
		switch r.Reason {
		case connector.Held:
			items[i].Held = true
		case connector.LockedUntil:
			items[i].Until = r.Until
		}
	}
	return ctx.Err()
}

func (sc *scan) addUploads(ctx context.Context, keys []keyed) {
	if sc.manyUploads {
		names := make([]string, len(keys))
		sights := make([]sight, len(keys))
		for i := range keys {
			names[i], sights[i] = keys[i].key, keys[i].sight
		}
		sc.c.lookUploads(ctx, sc.b, names, sights)
		for i := range keys {
			keys[i].sight = sights[i]
		}
		return
	}
	if len(sc.uploads) == 0 {
		return
	}
	for i := range keys {
		for _, u := range sc.uploads[keys[i].key] {
			keys[i].addUpload(u)
		}
	}
}

// uploadsOnly yields the keys that hold unfinished uploads and nothing else.
func (sc *scan) uploadsOnly(ctx context.Context, take func(chunk) error) error {
	if len(sc.uploads) == 0 && !sc.manyUploads {
		return nil
	}
	var keys []string
	flush := func() error {
		var only []keyed
		for i, s := range sc.c.look(ctx, sc.b, keys, len(keys)) {
			if s.err != nil {
				return s.err
			}
			if len(s.versions) == 0 && len(s.uploads) > 0 {
				only = append(only, keyed{keys[i], s})
			}
		}
		keys = keys[:0]
		items, err := sc.items(ctx, only)
		return take(chunk{items: items, keys: int64(len(only)), err: err})
	}
	last := ""
	for at, more := (cursor{}), true; more; {
		found, next, m, err := sc.c.uploadPage(ctx, sc.b, sc.prefix, at)
		if err != nil {
			return err
		}
		for _, u := range found {
			if u.key < last {
				return errOrder
			}
			if u.key != last {
				keys, last = append(keys, u.key), u.key
			}
			if len(keys) == chunkKeys {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		at, more = next, m
	}
	return flush()
}
