package ledger

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// span is a range of entry numbers, both inclusive.
type span struct{ from, to int64 }

// row is one row of the table of entries.
type row struct {
	number         int64
	count          int64
	bundle, hashes []byte
}

const selectRows = `SELECT number, count, bundle, hashes FROM entries
	WHERE number >= coalesce((SELECT max(number) FROM entries WHERE number <= $1), $1) AND number <= $2 ORDER BY number`

// readRows visits the rows that hold entries of the span. A row is only valid
// during the visit.
func readRows(ctx context.Context, q querier, s span, newest bool, visit func(*row) error) error {
	query := selectRows
	if newest {
		query += " DESC"
	}
	rows, err := q.QueryContext(ctx, query, s.from, s.to)
	if err != nil {
		return err
	}
	defer rows.Close()
	var r row
	for rows.Next() {
		if err := rows.Scan(&r.number, &r.count, &r.bundle, &r.hashes); err != nil {
			return err
		}
		if err := visit(&r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// bodies takes the bundle apart.
func (r *row) bodies() ([][]byte, error) {
	if r.count < 1 || r.number < 1 || (r.number-1)%blockSize+r.count > blockSize || int64(len(r.hashes)) != r.count*tlog.HashSize {
		return nil, fmt.Errorf("the row of entry %d is malformed", r.number)
	}
	list, rest := make([][]byte, 0, r.count), r.bundle
	for len(rest) >= 2 {
		n := 2 + int(binary.BigEndian.Uint16(rest))
		if n > len(rest) {
			break
		}
		list, rest = append(list, rest[2:n:n]), rest[n:]
	}
	if len(rest) > 0 || int64(len(list)) != r.count {
		return nil, fmt.Errorf("the row of entry %d is malformed", r.number)
	}
	return list, nil
}

// hash returns the kept leaf hash of the i-th entry of the row.
func (r *row) hash(i int) []byte { return r.hashes[i*tlog.HashSize : (i+1)*tlog.HashSize] }

// readEntries visits the entries of the span.
func readEntries(ctx context.Context, q querier, s span, newest bool, visit func(number int64, body string, hash []byte) error) error {
	return readRows(ctx, q, s, newest, func(r *row) error {
		bodies, err := r.bodies()
		if err != nil {
			return err
		}
		for j := range bodies {
			i := j
			if newest {
				i = len(bodies) - 1 - j
			}
			if n := r.number + int64(i); n >= s.from && n <= s.to {
				if err := visit(n, string(bodies[i]), r.hash(i)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// readRecord reads one entry.
func readRecord(ctx context.Context, q querier, number int64) (*record, error) {
	var r *record
	err := readEntries(ctx, q, span{number, number}, false, func(_ int64, body string, _ []byte) error {
		r = new(record)
		return decodeRecord(body, r)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("entry %d: %w", number, err)
	case r == nil:
		return nil, fmt.Errorf("entry %d is not in the ledger", number)
	default:
		return r, nil
	}
}

// readLeaves reads n leaf hashes.
func readLeaves(ctx context.Context, q querier, from int64, n int) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, 0, n)
	err := readRows(ctx, q, span{from + 1, from + int64(n)}, false, func(r *row) error {
		if r.count < 1 || int64(len(r.hashes)) != r.count*tlog.HashSize {
			return fmt.Errorf("the row of entry %d is malformed", r.number)
		}
		for i := range int(r.count) {
			if at := r.number - 1 + int64(i); at == from+int64(len(hashes)) && len(hashes) < n {
				hashes = append(hashes, tlog.Hash(r.hash(i)))
			}
		}
		return nil
	})
	if err == nil && len(hashes) != n {
		err = fmt.Errorf("entry %d is not in the ledger", from+1+int64(len(hashes)))
	}
	return hashes, err
}
