package rows

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

// dialect is what differs between the databases. Everything else — what is
// found, checked, locked and deleted, and in which order — is written once.
type dialect interface {
	setter
	grammar() grammar
	// quote makes an identifier of any name.
	quote(name string) string
	// place is the placeholder of the n-th parameter, from 1.
	place(n int) string

	// readKey reads a key column in the form in which keyIn takes it back.
	readKey(expr string, c *column) string
	// readText reads a column as text, readAnchor in the form of its kind.
	readText(expr string, c *column) string
	readAnchor(expr string, kind anchorKind) string
	// bind makes a parameter comparable with the column; orderBy is the
	// expression by which an anchor is compared and sorted.
	bind(c *column, place string) string
	orderBy(expr string, kind anchorKind) string
	// keyIn adds the condition that exprs are one of keys, textIn that expr is
	// one of the texts, jsonIn that the array at path in expr may hold one of
	// them; jsonIn reports false when this has to be found out by reading.
	keyIn(s *stmt, exprs []string, cols []*column, keys []key)
	// keyRead is keyIn for a statement that locks nothing.
	keyRead(s *stmt, exprs []string, cols []*column, keys []key)
	textIn(s *stmt, expr string, c, like *column, texts []string)
	jsonIn(s *stmt, expr string, c *column, path []string, texts []string) bool
	// after adds the condition that exprs come after the parameters.
	after(s *stmt, exprs []string, cols []*column, args []any)
	// same adds that the expression equals the argument, as after compares them.
	same(s *stmt, expr string, c *column, arg any)

	// liesByKey reports that the rows of the table lie in the order of its
	// primary key.
	liesByKey(t *table) bool
	anchor(c *column) anchorKind
	isJSON(c *column) bool
	isID(c *column) bool // integer or UUID
	// strayAnchor is a condition for texts that sort behind all timestamps; "" if none.
	strayAnchor(expr string, kind anchorKind) string
	// naiveText is a condition that finds texts without a zone; "" if it cannot.
	naiveText(expr string) string

	catalog(ctx context.Context, q querier) (*catalog, error)
	clock() string   // SQL for the server's clock as ISO text; "" when it has none
	explain() string // what makes a statement a look at its plan
	lock() string    // suffix that locks rows and skips the locked
	// byKey follows the name of a table whose rows a statement is to lock or to
	// change by the primary key. It keeps a server that locks all it reads, and that
	// may read all of the table, from other rows; "" where there is no such server.
	// mostKeys is how many keys of so many columns a list may have for that.
	byKey() string
	mostKeys(columns int) int

	// beginRead begins a transaction that cannot write, in which no statement
	// runs longer than within, as far as the server can see to that; timedOut
	// reports an error that says so.
	beginRead(ctx context.Context, c *sql.Conn, within time.Duration) error
	timedOut(err error) bool
	// watch ends what runs on the connection when ctx ends, where the driver does
	// not, until stop is called.
	watch(ctx context.Context, c *sql.Conn) (stop func(), err error)
	beginWrite(ctx context.Context, c *sql.Conn, w waits) error
	// costlySavepoint reports, in a transaction that beginWrite began, that a
	// savepoint would cost much time and memory; see rewind.
	costlySavepoint(ctx context.Context, c *sql.Conn) (bool, error)
	// sealed runs f so that nothing it runs can write.
	sealed(ctx context.Context, c *sql.Conn, f func() error) error
	// impatient shortens the wait for locks inside a transaction, hurry the time of
	// a statement.
	impatient(ctx context.Context, c *sql.Conn) error
	hurry(ctx context.Context, c *sql.Conn, within time.Duration) error
	// deferChecks and checkNow move the deferrable constraints of a transaction.
	deferChecks(ctx context.Context, c *sql.Conn) error
	checkNow(ctx context.Context, c *sql.Conn) error
	// hold takes the locks on names until the transaction ends; unhold is
	// called when it has ended.
	hold(ctx context.Context, c *sql.Conn, names []string) error
	unhold(ctx context.Context, c *sql.Conn) error
	// exact reports that two columns spell equal keys alike.
	exact(a, b *column) bool
	// lossy reports that the server would compare the columns, without a word,
	// by something else than their values.
	lossy(a, b *column) bool
	// rowByRow reports that a blocking edge is checked at each row that a
	// statement deletes, not at its end.
	rowByRow() bool
	// mayDelete reports whether the session may delete from the table.
	mayDelete(ctx context.Context, q querier, t *table) (bool, error)
	// mayLock reports whether the session may lock rows of the table.
	mayLock(ctx context.Context, q querier, t *table) (bool, error)

	// trusts reports that the database's own cascade is as good as a statement
	// for each table, because deletions tells what it took.
	trusts() bool
	// deletions counts the rows of each table deleted so far in this session.
	deletions(ctx context.Context, q querier, ts []*table) (map[*table]int64, error)

	classify(err error) failure
	// deferredUnseen reports that a deferred constraint is only found broken at
	// the commit, so that the rehearsal has to look for itself.
	deferredUnseen() bool
}

// waits are the patience of a claim.
type waits struct{ lock, statement time.Duration }

// querier is a connection or a pool.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// failure says what a database's error means to a claim.
type failure uint8

const (
	refusedFailure failure = iota // the statement was understood and refused
	deniedFailure                 // a privilege is missing
	busyFailure                   // a lock was not given in time
	retryFailure                  // deadlock or serialization: the same again may work
	lostFailure                   // no answer: connection, timeout, resources
)

// stmt builds one statement with its parameters.
type stmt struct {
	d    dialect
	b    strings.Builder
	args []any
}

func newStmt(d dialect, parts ...string) *stmt { return (&stmt{d: d}).add(parts...) }

func (s *stmt) add(parts ...string) *stmt {
	for _, p := range parts {
		s.b.WriteString(p)
	}
	return s
}

// arg adds a parameter and returns its placeholder.
func (s *stmt) arg(v any) string {
	s.args = append(s.args, v)
	return s.d.place(len(s.args))
}

func (s *stmt) exec(ctx context.Context, q querier) (int64, error) {
	r, err := q.ExecContext(ctx, s.b.String(), s.args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// each runs the statement and calls f for each row; the values are valid until
// f returns.
func (s *stmt) each(ctx context.Context, q querier, columns int, f func(row []any) error) error {
	rows, err := q.QueryContext(ctx, s.b.String(), s.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	row, to := make([]any, columns), make([]any, columns)
	for i := range row {
		to[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return err
		}
		if !typed(s.d) {
			for i, v := range row {
				if b, ok := v.([]byte); ok {
					row[i] = string(b)
				}
			}
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

func quoteTable(d dialect, t *table) string {
	if t.schema == "" {
		return d.quote(t.name)
	}
	return d.quote(t.schema) + "." + d.quote(t.name)
}

// of names columns of a table alias; the alias is quoted already.
func of(d dialect, alias string, cols []*column) []string {
	out := make([]string, len(cols))
	for i, c := range cols {
		out[i] = alias + "." + d.quote(c.name)
	}
	return out
}

func keyList(d dialect, exprs []string, cols []*column) string {
	out := make([]string, len(exprs))
	for i, e := range exprs {
		out[i] = d.readKey(e, cols[i])
	}
	return strings.Join(out, ", ")
}

// equal is the condition that two lists of expressions agree.
func equal(a, b []string) string {
	out := make([]string, len(a))
	for i := range a {
		out[i] = a[i] + " = " + b[i]
	}
	return strings.Join(out, " AND ")
}

func doubleQuoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// takeKey copies n values of a row as a key; ok is false when one is NULL.
func takeKey(row []any) (k key, ok bool) {
	k = make(key, len(row))
	for i, v := range row {
		switch v := v.(type) {
		case nil:
			return nil, false
		case []byte:
			k[i] = append([]byte(nil), v...)
		default:
			k[i] = v
		}
	}
	return k, true
}

// asText is a value read by readText; ok is false for NULL.
func asText(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return "", false
}

func truth(cond string) string {
	return "CASE WHEN (" + cond + "\n) THEN 1 ELSE 0 END"
}

func isTrue(v any) bool {
	n, ok := v.(int64)
	if !ok {
		t, _ := asText(v)
		return t == "1"
	}
	return n == 1
}

// with adds parameters whose placeholders are in the text already.
func (s *stmt) with(args ...any) *stmt {
	s.args = append(s.args, args...)
	return s
}
