package objects

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// FakeListing replaces the listing of a connector by one of n made-up keys
// "pNN/kNNNNNNNN" in dirs common prefixes, for a test of size alone.
func FakeListing(c *Connector, name string, n, dirs int) {
	b := c.bucketNamed(name)
	b.traits, b.read = &traits{}, c.o.Clock()
	each := n / dirs
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key := func(i int) string { return fmt.Sprintf("p%04d/k%08d", i/each, i%each) }
	// first is the number of the first key after k.
	first := func(k string) int {
		lo, hi := 0, n
		for lo < hi {
			if mid := (lo + hi) / 2; key(mid) > k {
				hi = mid
			} else {
				lo = mid + 1
			}
		}
		return lo
	}
	c.list = func(ctx context.Context, _ *bucket, l listing, from cursor) (page, error) {
		p := page{clock: at}
		if l.delimiter != "" && l.prefix == "" {
			for d := range dirs {
				p.prefixes = append(p.prefixes, fmt.Sprintf("p%04d/", d))
			}
			return p, ctx.Err()
		}
		after := max(from.key, from.token)
		i := first(max(after, l.prefix))
		if after == "" && i < n && l.prefix == "" {
			i = 0
		}
		for ; i < n && len(p.entries) < int(l.max); i++ {
			k := key(i)
			if !strings.HasPrefix(k, l.prefix) {
				break
			}
			p.entries = append(p.entries, entry{k, version{id: noVersion, etag: "e", size: 1, modified: at, latest: true}})
		}
		if p.more = i < n && len(p.entries) == int(l.max); p.more {
			p.next = cursor{token: p.entries[len(p.entries)-1].key}
		}
		return p, ctx.Err()
	}
}
