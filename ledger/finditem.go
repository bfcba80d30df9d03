package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
)

// inItems visits the entries with items that still have names, and outcomes. Most
// entries of a ledger are neither.
func (l *Ledger) inItems(ctx context.Context, f *Filter, within span, top int64, emit func([]numbered, error) bool) {
	if within.from > within.to {
		return
	}
	whole := top / blockSize
	outcomes := &Filter{Newest: f.Newest}
	streams := []*blockStream{
		l.numberStream(ctx, f, within, "SELECT number FROM lookup WHERE number > 0", nil, false),
		l.pages(ctx, outcomes, [][]string{{"kind " + string(Outcome)}}, within),
	}
	if within.to > whole*blockSize {
		streams = append(streams, tailStream(f, within))
	}
	l.merge(ctx, f, within, whole, streams, emit)
}

// holding returns the test that Filter.Holds asks for. The texts are looked
// through as they are kept, which takes a small part of the time of reading them
// as items.
func (l *Ledger) holding(ctx context.Context, f *Filter) func(n *numbered) (bool, error) {
	if !f.Items || f.Holds == "" {
		return func(n *numbered) (bool, error) { return !f.Items || n.record.batch != noBatch, nil }
	}
	const most = 1000
	known := map[int64]bool{} // intents, until their outcomes come by
	return func(n *numbered) (bool, error) {
		of := n.number
		switch n.record.batch {
		case noBatch:
			return false, nil
		case resultBatch:
			of = n.record.refers
		}
		if has, ok := known[of]; ok {
			return has, nil
		}
		has, err := l.sealedHolds(ctx, of, []byte(f.Holds))
		if len(known) >= most {
			clear(known)
		}
		known[of] = has
		return has, err
	}
}

func (l *Ledger) sealedHolds(ctx context.Context, number int64, want []byte) (bool, error) {
	rows, err := l.read.QueryContext(ctx, "SELECT texts FROM sealed WHERE number = $1", number)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	has := false
	for rows.Next() {
		var texts sql.RawBytes
		if err := rows.Scan(&texts); err != nil {
			return false, err
		}
		has = bytes.Contains(texts, want)
	}
	return has, errors.Join(rows.Err(), rows.Close())
}
