package custody

import (
	"context"
	"database/sql"
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
		var key sql.RawBytes
		if err := rs.Scan(&r.id, &key, &r.since, &r.state, &r.at, &r.scope, &r.pid, &r.print, &r.size, &r.sha, &r.required,
			&r.due, &r.scheduled, &r.attempts, &r.tried, &r.incident, &r.said, &r.ended, &r.how); err != nil {
			return nil, err
		}
		copy(r.key[:], key)
		r.stored = r.id
		list = append(list, r)
	}
	return list, rs.Err()
}

func (r *row) values(to []any) []any {
	return append(to, int64(r.id), r.key[:], int64(r.since), int64(r.state), r.at, r.scope, r.pid, r.print, r.size, r.sha, r.required,
		r.due, r.scheduled, r.attempts, r.tried, r.incident, r.said, r.ended, int64(r.how))
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
