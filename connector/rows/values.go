package rows

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/epitaph/epitaph/connector"
)

// fill reads the values of the rows: one statement for each part that lies in
// another table.
func (b *binding) fill(ctx context.Context, q querier, rows []*row) error {
	if len(rows) == 0 {
		return nil
	}
	byKey := make(map[any]*row, len(rows))
	for _, r := range rows {
		r.values = make([][]connector.Tuple, len(b.wants))
		byKey[b.comparable(r.key)] = r
	}
	for i := range b.wants {
		w := &b.wants[i]
		if len(w.path) == 0 {
			for _, r := range rows {
				b.gather(r, i, nil)
			}
			continue
		}
		var keys []key
		for _, r := range rows {
			if r.when[i] {
				keys = append(keys, r.key)
			}
		}
		if len(keys) == 0 {
			continue
		}
		n := len(b.root.pk)
		err := b.wantStmt(w, keys).each(ctx, q, n+len(w.reads), func(v []any) error {
			k, ok := takeKey(v[:n])
			if !ok {
				return errors.New("related row without key")
			}
			r := byKey[b.comparable(k)]
			if r == nil {
				return errors.New("related row of no row that was asked for")
			}
			b.gather(r, i, v[n:])
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, r := range rows {
		for i, ts := range r.values {
			r.values[i] = distinct(ts)
		}
	}
	return nil
}

// comparable is a value that equal keys of the root share and others do not.
func (b *binding) comparable(k key) any {
	if len(k) == 1 {
		switch k[0].(type) {
		case string, int64, float64:
			return k[0]
		}
	}
	return b.locator(k)
}

// wantStmt reads the root's key and the columns of the part's own table.
func (b *binding) wantStmt(w *want, keys []key) *stmt {
	as := alias(len(w.path) - 1)
	var from string
	var id []string
	if w.direct != nil {
		from, id = b.source(w.path[0])+" AS "+as, of(b.d, as, w.direct)
	} else {
		from, id = b.join(w.path), of(b.d, alias(-1), b.root.pk)
	}
	s := newStmt(b.d, "SELECT ", keyList(b.d, id, b.root.pk))
	for i, e := range of(b.d, as, w.reads) {
		s.add(", ", b.d.readText(e, w.reads[i]))
	}
	s.add(" FROM ", from, " WHERE ")
	b.d.keyRead(s, id, b.root.pk, keys)
	return s
}

// gather adds the tuples of one related row, or of the root alone.
func (b *binding) gather(r *row, i int, related []any) {
	w := &b.wants[i]
	if !r.when[i] || r.err != nil {
		return
	}
	ts, err := tuples(w.refs, func(f ref) any {
		if f.root {
			return r.texts[f.at]
		}
		return related[f.at]
	})
	if err != nil {
		r.err = err
		return
	}
	r.values[i] = append(r.values[i], ts...)
}

// distinct sorts the tuples and drops repetitions.
func distinct(ts []connector.Tuple) []connector.Tuple {
	slices.SortFunc(ts, func(a, b connector.Tuple) int { return slices.Compare(a, b) })
	return slices.CompactFunc(ts, func(a, b connector.Tuple) bool { return slices.Equal(a, b) })
}

var (
	errJSON     = errors.New("column holds no JSON")
	errNoArray  = errors.New("JSON holds no array there")
	errNoScalar = errors.New("JSON holds neither text nor number there")
	errJSONTail = errors.New("column holds more than one JSON value")
)

// tuples makes the tuples of one row: one, or as many as the JSON array has
// elements. A tuple with a NULL or empty value is left out.
func tuples(refs []ref, get func(ref) any) ([]connector.Tuple, error) {
	one := make(connector.Tuple, len(refs))
	var elements []string
	each := false
	for i, f := range refs {
		text, ok := asText(get(f))
		if !ok || text == "" {
			return nil, nil
		}
		if !f.each && len(f.path) == 0 {
			one[i] = text
			continue
		}
		found, err := dig(text, f)
		if err != nil {
			return nil, err
		}
		if f.each {
			each, elements = true, found
			continue
		}
		if len(found) == 0 {
			return nil, nil
		}
		one[i] = found[0]
	}
	if !each {
		return []connector.Tuple{one}, nil
	}
	out := make([]connector.Tuple, 0, len(elements))
	for _, e := range elements {
		t := slices.Clone(one)
		for i, f := range refs {
			if f.each {
				t[i] = e
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// dig reads a value, or each element of an array, out of JSON. What is null,
// absent or empty is left out.
func dig(text string, f ref) ([]string, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, errJSON
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errJSONTail
	}
	for _, p := range f.path {
		if v == nil {
			return nil, nil
		}
		m, ok := v.(map[string]any)
		if !ok {
			return nil, errNoScalar
		}
		v = m[p]
	}
	if v == nil {
		return nil, nil
	}
	list := []any{v}
	if f.each {
		var ok bool
		if list, ok = v.([]any); !ok {
			return nil, errNoArray
		}
	}
	var out []string
	for _, e := range list {
		switch e := e.(type) {
		case nil:
		case string:
			if e != "" {
				out = append(out, e)
			}
		case json.Number:
			out = append(out, e.String())
		default:
			return nil, errNoScalar
		}
	}
	return out, nil
}
