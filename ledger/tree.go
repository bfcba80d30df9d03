package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// readNodes reads n hashes of whole tiles, from the given index on. Level 0
// are the entries themselves.
func readNodes(ctx context.Context, q querier, level int, from int64, n int) ([]tlog.Hash, error) {
	if level == 0 {
		return readLeaves(ctx, q, from, n)
	}
	rows, err := q.QueryContext(ctx, "SELECT idx, hash FROM nodes WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx", level, from, from+int64(n))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	hashes := make([]tlog.Hash, 0, n)
	for rows.Next() {
		var idx int64
		var h []byte
		if err := rows.Scan(&idx, &h); err != nil {
			return nil, err
		}
		if idx != from+int64(len(hashes)) || len(h) != tlog.HashSize {
			return nil, fmt.Errorf("the tree is damaged at level %d, %d", level, from+int64(len(hashes)))
		}
		hashes = append(hashes, tlog.Hash(h))
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(hashes) != n {
		return nil, fmt.Errorf("the tree is damaged at level %d, %d", level, from+int64(len(hashes)))
	}
	return hashes, nil
}

// treeReader reads stored hashes as tlog numbers them. A hash between two
// kept levels is made from the level below.
type treeReader struct {
	ctx context.Context
	q   querier
}

func (r treeReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	const height = 8 // of a tile
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		width := int64(1) << (level % height)
		below, err := readNodes(r.ctx, r.q, level/height, n*width, int(width))
		if err != nil {
			return nil, err
		}
		hashes[i] = treeRoot(below)
	}
	return hashes, nil
}
