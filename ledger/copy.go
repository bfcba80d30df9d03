package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// copied lists the tables in the order in which they are copied, with their
// columns. Statements with many rows are bounded by size, not by number.
var copied = []struct {
	name    string
	columns []string
}{
	{"entries", []string{"number", "count", "bundle", "hashes", "token", "clued"}},
	{"leaves", []string{"number", "blob"}},
	{"nodes", []string{"level", "idx", "hash"}},
	{"sealed", []string{"number", "texts"}},
	{"lookup", []string{"number", "filter"}},
	{"sealings", []string{"entry", "target", "slots"}},
	{"prunes", []string{"entry", "minimum"}},
	{"blocks", []string{"block", "first_at", "last_at"}},
	{"marks", []string{"key", "block", "bits"}},
	{"answers", []string{"intent", "outcome"}},
	{"open_intents", []string{"number", "items"}},
	{"clues", []string{"key", "number"}},
	{"checkpoints", []string{"id", "size", "note"}},
}

// checkMoved refuses to append to a ledger that goes on elsewhere.
func (l *Ledger) checkMoved(ctx context.Context, q querier, size int64) error {
	if size == 0 || size == l.home {
		return nil
	}
	r, err := readRecord(ctx, q, size)
	if err != nil {
		return err
	}
	if r.kind == string(Copied) {
		return ErrMoved
	}
	return nil
}

// Moved returns ErrMoved for a ledger that goes on elsewhere, for those who begin
// what they will have to record.
func (l *Ledger) Moved(ctx context.Context) error {
	n, _, err := l.Newest(ctx)
	if err != nil {
		return err
	}
	return l.checkMoved(ctx, l.read, n)
}

// Copy moves a ledger to an empty database and opens it there. All entries,
// proofs and checkpoints stay valid: it is the same ledger. The source is told
// by an entry, and refuses to be appended to afterwards: a ledger that goes on
// in two places would be two ledgers. When Copy fails midway it can be called
// again.
func Copy(ctx context.Context, from *Ledger, dsn string, c Config) (*Ledger, error) {
	d, err := newDialect(dsn)
	if err != nil {
		return nil, fmt.Errorf("copy ledger: %w", err)
	}
	write, read, err := d.open(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("copy ledger: %w", err)
	}
	to := &Ledger{dialect: d, write: write, read: read}
	to.idle.L = &to.mu
	if err = to.isEmpty(ctx); err == nil {
		// From here on the source takes no more.
		var last int64
		if last, err = from.moveAway(ctx); err == nil {
			err = to.fillFrom(ctx, from, last)
		}
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return nil, fmt.Errorf("copy ledger: %w", err)
	}
	return Open(ctx, dsn, c)
}

// moveAway appends the last entry of the source, unless an earlier attempt did.
func (l *Ledger) moveAway(ctx context.Context) (int64, error) {
	n, _, err := l.Newest(ctx)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, ErrEmpty
	}
	if r, err := readRecord(ctx, l.read, n); err != nil || r.kind == string(Copied) && n != l.home {
		return n, err
	}
	return l.Append(ctx, Entry{Kind: Copied, Facts: []Fact{Int("size", n+1)}})
}

// isEmpty makes sure that the tables hold no ledger yet: what a copy that was cut
// short leaves does not.
func (l *Ledger) isEmpty(ctx context.Context) error {
	var n int
	err := l.read.QueryRowContext(ctx, "SELECT count(*) FROM meta").Scan(&n)
	if err == nil && n > 0 {
		err = errors.New("there is a ledger already where it should go")
	}
	return err
}

func (l *Ledger) fillFrom(ctx context.Context, from *Ledger, last int64) error {
	src, err := from.snapshot(ctx)
	if err != nil {
		return err
	}
	defer src.Rollback()
	tx, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := l.lockHead(ctx, tx); err != nil {
		return err
	}
	for _, t := range copied {
		if !from.clued && t.name == "clues" {
			continue
		} else if !from.clued && t.name == "entries" {
			t.columns = t.columns[:len(t.columns)-1]
		}
		if err := copyTable(ctx, src, tx, t.name, t.columns); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	for _, m := range []struct{ name, value string }{
		{"format", formatVersion}, {"origin", from.name}, {"secret", string(from.secret)}, {"home", strconv.FormatInt(last, 10)},
	} {
		if _, err := tx.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2)", m.name, []byte(m.value)); err != nil {
			return err
		}
	}
	if err := sameTree(ctx, src, tx, last); err != nil {
		return err
	}
	return tx.Commit()
}

// sameTree compares what was read with what was written, before the commit.
func sameTree(ctx context.Context, a, b querier, size int64) error {
	want, err := tlog.TreeHash(size, treeReader{ctx, a})
	if err != nil {
		return err
	}
	got, err := tlog.TreeHash(size, treeReader{ctx, b})
	if err == nil && got != want {
		err = ErrAltered
	}
	return err
}

// copyTable copies rows, some megabytes in each statement at most.
func copyTable(ctx context.Context, from querier, to *sql.Tx, table string, columns []string) error {
	const maxRows, maxBytes = 200, 4 << 20
	list := strings.Join(columns, ", ")
	rows, err := from.QueryContext(ctx, "SELECT "+list+" FROM "+table+" ORDER BY "+columns[0]+", "+columns[1])
	if err != nil {
		return err
	}
	defer rows.Close()
	var args []any
	bytes := 0
	flush := func() error {
		if len(args) == 0 {
			return nil
		}
		_, err := to.ExecContext(ctx, "INSERT INTO "+table+" ("+list+") VALUES "+placeholders(len(args)/len(columns), len(columns)), args...)
		args, bytes = args[:0], 0
		return err
	}
	for rows.Next() {
		row := make([]any, len(columns))
		at := make([]any, len(columns))
		for i := range row {
			at[i] = &row[i]
		}
		if err := rows.Scan(at...); err != nil {
			return err
		}
		for _, v := range row {
			if b, ok := v.([]byte); ok {
				bytes += len(b)
			}
		}
		args = append(args, row...)
		if len(args) >= maxRows*len(columns) || bytes >= maxBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return flush()
}

// placeholders is "($1, $2), ($3, $4)" for two rows of two columns.
func placeholders(rows, columns int) string {
	var b strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	return b.String() + ")"
}
