package rows

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/epitaph/epitaph/connector"
)

// probeBatch is the number of keys asked for in one statement.
const probeBatch = 2000

// Probe implements [connector.Connector].
func (c *Connector) Probe(ctx context.Context, at []connector.Locator) []connector.Result {
	out := unreachable(len(at), nil)
	type group struct {
		keys []key
		at   []int
	}
	groups := map[*table]*group{}
	var order []*table
	for i, l := range at {
		t, k, err := c.place(ctx, l)
		if err != nil {
			out[i].Err = err
			if err == errLocator {
				out[i].Reason = connector.Invalid
			}
			continue
		}
		g := groups[t]
		if g == nil {
			g = &group{}
			groups[t], order = g, append(order, t)
		}
		g.keys, g.at = append(g.keys, k), append(g.at, i)
	}
	for _, t := range order {
		g := groups[t]
		for from := 0; from < len(g.keys); from += probeBatch {
			to := min(from+probeBatch, len(g.keys))
			c.probe(ctx, t, g.keys[from:to], func(i int, r connector.Result) { out[g.at[from+i]] = r })
		}
	}
	return out
}

// place finds the table of a locator, in the catalog of now if need be.
func (c *Connector) place(ctx context.Context, l connector.Locator) (*table, key, error) {
	schema, name, k, err := parseLocator(l, typed(c.d))
	if err != nil {
		return nil, nil, err
	}
	for _, fresh := range []bool{false, true} {
		c.mu.Lock()
		cat := c.cat
		c.mu.Unlock()
		if cat == nil || fresh {
			err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
				cat, err = c.d.catalog(ctx, conn)
				return err
			})
			if err != nil {
				return nil, nil, err
			}
			c.mu.Lock()
			c.cat = cat
			c.mu.Unlock()
		}
		for _, t := range cat.tables {
			if t.schema == schema && t.name == name && !t.view && len(t.pk) == len(k) {
				return t, k, nil
			}
		}
	}
	return nil, nil, errLocator
}

// probe looks for keys of one table. A key that the database cannot read must
// not spoil the answer for the others, so the list is halved until it stands alone.
func (c *Connector) probe(ctx context.Context, t *table, keys []key, set func(int, connector.Result)) {
	var there map[connector.Locator]connector.Fingerprint
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		there, err = c.prints(ctx, conn, t, keys)
		return err
	})
	switch {
	case err == nil:
		for i, k := range keys {
			set(i, connector.Result{State: connector.Gone, Reason: connector.Missing})
			if print := there[locator(t, k, typed(c.d))]; print != "" {
				set(i, connector.Result{State: connector.Present, Reason: connector.Eligible, Print: print})
			}
		}
	case len(keys) > 1 && c.d.classify(err) == refusedFailure:
		half := len(keys) / 2
		c.probe(ctx, t, keys[:half], set)
		c.probe(ctx, t, keys[half:], func(i int, r connector.Result) { set(half+i, r) })
	default:
		reason := connector.Unreachable
		switch c.d.classify(err) {
		case refusedFailure:
			reason = connector.Invalid
		case deniedFailure:
			reason = connector.NoPermission
		}
		for i := range keys {
			set(i, connector.Result{Reason: reason, Err: err})
		}
	}
}

// prints reads the rows of the keys and takes their fingerprints: a hash over
// all columns as text, which tells nothing of them.
func (c *Connector) prints(ctx context.Context, q querier, t *table, keys []key) (map[connector.Locator]connector.Fingerprint, error) {
	there := make(map[connector.Locator]connector.Fingerprint, len(keys))
	name := quoteTable(c.d, t)
	pk, cols := of(c.d, name, t.pk), of(c.d, name, t.columns)
	s := newStmt(c.d, "SELECT ", keyList(c.d, pk, t.pk))
	for i, e := range cols {
		s.add(", ", c.d.readText(e, t.columns[i]))
	}
	s.add(" FROM ", name, " WHERE ")
	c.d.keyRead(s, pk, t.pk, keys)
	err := s.each(ctx, q, len(pk)+len(cols), func(v []any) error {
		k, ok := takeKey(v[:len(pk)])
		if !ok {
			return nil
		}
		at := locator(t, k, typed(c.d))
		h := sha256.New()
		fmt.Fprintf(h, "%q", at)
		for _, x := range v[len(pk):] {
			if text, ok := asText(x); ok {
				fmt.Fprintf(h, ",%q", text)
			} else {
				io.WriteString(h, ",NULL")
			}
		}
		there[at] = connector.Fingerprint(hex.EncodeToString(h.Sum(nil)[:16]))
		return nil
	})
	return there, err
}

// present reads which of the keys exist.
func (c *Connector) present(ctx context.Context, q querier, t *table, keys []key) (map[connector.Locator]bool, error) {
	there := make(map[connector.Locator]bool, len(keys))
	name := quoteTable(c.d, t)
	pk := of(c.d, name, t.pk)
	s := newStmt(c.d, "SELECT ", keyList(c.d, pk, t.pk), " FROM ", name, " WHERE ")
	c.d.keyRead(s, pk, t.pk, keys)
	err := s.each(ctx, q, len(t.pk), func(v []any) error {
		if k, ok := takeKey(v); ok {
			there[locator(t, k, typed(c.d))] = true
		}
		return nil
	})
	return there, err
}
