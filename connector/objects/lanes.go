package objects

import (
	"context"
	"iter"
	"sync"
	"time"
)

// segment is a stretch of the listing: the keys after one and up to another,
// which need not exist. An empty upto is the end.
type segment struct {
	prefix      string
	after, upto string
}

// segments divides the keys below the prefix so that several stretches can be
// read at once. It follows the common prefixes; keys that share none are one
// stretch.
func (sc *scan) segments(ctx context.Context) iter.Seq2[segment, error] {
	return func(yield func(segment, error) bool) {
		prefix := sc.prefix
		first, err := sc.c.list(ctx, sc.b, listing{prefix: prefix, max: fullPage}, cursor{})
		if err != nil {
			yield(segment{}, err)
			return
		}
		if !first.more {
			yield(segment{prefix: prefix}, nil)
			return
		}
		at := cursor{}
		after := ""
		for depth := 0; ; {
			p, err := sc.c.list(ctx, sc.b, listing{prefix: prefix, delimiter: "/", max: fullPage}, at)
			if err != nil {
				yield(segment{}, err)
				return
			}
			if at == (cursor{}) && !p.more && len(p.prefixes) == 1 && len(p.entries) == 0 && depth < 64 {
				prefix = p.prefixes[0] // nothing beside it: divide below
				depth++
				continue
			}
			if at == (cursor{}) && len(p.prefixes) == 0 {
				break
			}
			for _, upto := range boundaries(p) {
				if upto <= after {
					continue
				}
				if !yield(segment{prefix, after, upto}, nil) {
					return
				}
				after = upto
			}
			if !p.more {
				break
			}
			if at, err = p.following(); err != nil {
				yield(segment{}, err)
				return
			}
		}
		yield(segment{prefix: prefix, after: after}, nil)
	}
}

// boundaries picks the ends of stretches from a page of common prefixes: one
// for each of up to 16 prefixes, and for a page that is full one for 250. The end
// of a stretch is seen on a page that mostly belongs to the next, so that more of
// them cost more than they bring.
func boundaries(p page) []string {
	step := 250
	if !p.more {
		step = max(1, (len(p.prefixes)+2*lanes-1)/(2*lanes))
	}
	var ends []string
	for i := step - 1; i < len(p.prefixes); i += step {
		// Where exactly the cut is does not matter: it is the same for both sides.
		ends = append(ends, p.prefixes[i]+"~")
	}
	return ends
}

// fromListing reads up to eight segments at the same time and takes a chunk
// from each in turn.
func (sc *scan) fromListing(ctx context.Context, wg *sync.WaitGroup, take func(chunk) error) error {
	next, stop := iter.Pull2(sc.segments(ctx))
	defer stop()
	var open []chan chunk
	start := func() (chan chunk, error) {
		seg, err, ok := next()
		if err != nil || !ok {
			return nil, err
		}
		out := make(chan chunk, 1)
		wg.Go(func() { sc.lane(ctx, seg, out) })
		return out, nil
	}
	for range lanes {
		ch, err := start()
		if err != nil {
			return err
		}
		if ch == nil {
			break
		}
		open = append(open, ch)
	}
	for len(open) > 0 {
		for i := 0; i < len(open); {
			var ch chunk
			select {
			case ch = <-open[i]:
			case <-ctx.Done():
				return ctx.Err()
			}
			if !ch.last {
				if err := take(ch); err != nil {
					return err
				}
				i++
				continue
			}
			// The successor starts before the items are handed over.
			succ, err := start()
			if err != nil {
				return err
			}
			if err := take(ch); err != nil {
				return err
			}
			if succ == nil {
				open = append(open[:i], open[i+1:]...)
				continue
			}
			open[i] = succ
			i++
		}
	}
	return ctx.Err()
}

// lane reads one segment. Its last chunk says so, also when it failed.
func (sc *scan) lane(ctx context.Context, seg segment, out chan<- chunk) {
	send := func(ch chunk) bool {
		select {
		case out <- ch:
			return true
		case <-ctx.Done():
			return false
		}
	}
	var g grouper
	var clock time.Time
	hand := func(keys []keyed, last bool) bool {
		items, err := sc.items(ctx, keys)
		return send(chunk{items: items, keys: int64(len(keys)), clock: clock, last: last || err != nil, err: err}) && err == nil
	}
	fail := func(err error) { send(chunk{last: true, err: err}) }
	l := listing{prefix: seg.prefix, max: fullPage}
	for at, more := (cursor{key: seg.after}), true; more; {
		p, err := sc.c.list(ctx, sc.b, l, at)
		if err != nil {
			fail(err)
			return
		}
		clock = p.clock
		for _, e := range p.entries {
			if e.key <= seg.after {
				continue
			}
			if seg.upto != "" && e.key > seg.upto {
				p.more = false
				break
			}
			if err := g.add(e); err != nil {
				fail(err)
				return
			}
		}
		if len(g.closed) >= chunkKeys {
			keys := g.take(chunkKeys)
			if !hand(keys, false) {
				return
			}
		}
		if more = p.more; more {
			if at, err = p.following(); err != nil {
				fail(err)
				return
			}
		}
	}
	g.close()
	for len(g.closed) > chunkKeys {
		if !hand(g.take(chunkKeys), false) {
			return
		}
	}
	hand(g.take(len(g.closed)), true)
}

// grouper gathers the versions of each key from a listing in key order, in
// which a version may be repeated.
type grouper struct {
	closed []keyed
	open   keyed
	has    bool
}

func (g *grouper) add(e entry) error {
	if g.has && e.key < g.open.key {
		return errOrder
	}
	if !g.has || e.key != g.open.key {
		g.close()
		g.open, g.has = keyed{key: e.key}, true
	}
	g.open.add(e.version)
	return nil
}

func (g *grouper) close() {
	if g.has {
		g.closed = append(g.closed, g.open)
		g.open, g.has = keyed{}, false
	}
}

// take hands over the first n closed keys.
func (g *grouper) take(n int) []keyed {
	keys := g.closed[:n:n]
	g.closed = append([]keyed(nil), g.closed[n:]...)
	return keys
}
