package custody

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
)

// querier is the cache, or a transaction on it.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// scan reads files of the cache.
func (p *projection) scan(ctx context.Context, where, order string, args ...any) ([]row, error) {
	return p.rows(ctx, p.db, where, order, args...)
}

// rows reads files of the cache.
func (p *projection) rows(ctx context.Context, q querier, where, order string, args ...any) ([]row, error) {
	rs, err := q.QueryContext(ctx, "SELECT "+rowColumns+" FROM files WHERE "+where+" ORDER BY "+order, args...)
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	var list []row
	for rs.Next() {
		var r row
		var key, rest sql.RawBytes
		if err := rs.Scan(&r.id, &key, &r.since, &r.state, &r.at, &r.scope, &r.required, &r.due, &r.ended, &rest); err != nil {
			return nil, err
		}
		if !r.unpack(rest) {
			return nil, errors.New("the cache of tracked files is damaged: delete it")
		}
		copy(r.key[:], key)
		r.stored = r.id
		list = append(list, r)
	}
	return list, rs.Err()
}

func (r *row) values(to []any) []any {
	return append(to, int64(r.id), r.key[:], int64(r.since), int64(r.state), r.at, r.scope, r.required, r.due, r.ended, r.pack())
}

// pack writes what is not asked by.
func (r *row) pack() []byte {
	b := make([]byte, 0, 16+len(r.sha)+len(r.print))
	flag := byte(0)
	if r.incident {
		flag = 1
	}
	b = append(b, byte(r.how), flag, byte(len(r.sha)))
	b = append(b, r.sha...)
	for _, n := range []int64{r.pid, r.size, r.scheduled, r.attempts, r.tried, r.said} {
		b = binary.AppendVarint(b, n)
	}
	return append(b, r.print...)
}

// unpack reads what pack wrote.
func (r *row) unpack(b []byte) bool {
	if len(b) < 3 || len(b) < 3+int(b[2]) {
		return false
	}
	r.how, r.incident = Ending(b[0]), b[1] == 1
	if n := int(b[2]); n > 0 {
		r.sha = bytes.Clone(b[3 : 3+n])
	}
	b = b[3+int(b[2]):]
	for _, to := range []*int64{&r.pid, &r.size, &r.scheduled, &r.attempts, &r.tried, &r.said} {
		v, n := binary.Varint(b)
		if n <= 0 {
			return false
		}
		*to, b = v, b[n:]
	}
	r.print = string(b)
	return true
}

func (t *transferRow) values(to []any) []any {
	return append(to, int64(t.id), t.source[:], int64(t.state), t.due, t.moves, t.differs, int64(t.answer), t.settled)
}

func (p *projection) transfers(ctx context.Context, q querier, where, order string, args ...any) ([]transferRow, error) {
	rs, err := q.QueryContext(ctx, "SELECT "+transferColumns+" FROM transfers WHERE "+where+" ORDER BY "+order, args...)
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	var list []transferRow
	for rs.Next() {
		var t transferRow
		var source sql.RawBytes
		if err := rs.Scan(&t.id, &source, &t.state, &t.due, &t.moves, &t.differs, &t.answer, &t.settled); err != nil {
			return nil, err
		}
		copy(t.source[:], source)
		t.stored = t.id
		list = append(list, t)
	}
	return list, rs.Err()
}
