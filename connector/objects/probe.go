package objects

import (
	"context"
	"slices"

	"github.com/epitaph/epitaph/connector"
)

// Probe looks at each locator: everything under its key counts. In a bucket
// with Object Lock, Present also says LockedUntil or Held where that is so.
func (c *Connector) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	results := make([]connector.Result, len(at))
	for _, g := range c.group(at, results) {
		keys := g.keys()
		sights := c.look(ctx, g.bucket, keys, len(keys))
		answers := make([]connector.Result, len(keys))
		for i := range sights {
			answers[i] = sights[i].result()
		}
		c.readLocks(ctx, g.bucket, keys, sights, answers)
		for _, m := range g.members {
			i, _ := slices.BinarySearch(keys, m.key)
			results[m.index] = answers[i]
		}
	}
	return results
}

// member is one element of a list that was asked for.
type member struct {
	index int
	key   string
}

// group is what a list asks of one bucket.
type group struct {
	bucket  *bucket
	members []member
}

// keys are the distinct keys, sorted.
func (g *group) keys() []string {
	keys := make([]string, len(g.members))
	for i, m := range g.members {
		keys[i] = m.key
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// group sorts a list by bucket, in the order in which the buckets appear, and
// answers the locators that no store may hold.
func (c *Connector) group(at []connector.Locator, results []connector.Result) []*group {
	var groups []*group
	of := map[string]*group{}
	for i, l := range at {
		p, err := c.place(l)
		if err != nil {
			results[i] = connector.Result{State: connector.Unknown, Reason: connector.Invalid, Err: err}
			continue
		}
		g := of[p.bucket]
		if g == nil {
			g = &group{bucket: c.bucketNamed(p.bucket)}
			of[p.bucket] = g
			groups = append(groups, g)
		}
		g.members = append(g.members, member{i, p.key})
	}
	return groups
}
