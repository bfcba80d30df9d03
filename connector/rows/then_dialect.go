package rows

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/epitaph/epitaph/connector"
)

// setter is what differs between the databases when a column is set.
type setter interface {
	// fits reports that a constant of the kind may stand in the column, and can
	// be compared with it exactly.
	fits(c *column, k connector.ValueKind) bool
	// constant adds a constant that is not NULL, and returns its expression.
	constant(s *stmt, c *column, v connector.Value) string
}

func oneOf(typ string, list ...string) bool {
	for _, t := range list {
		if typ == t {
			return true
		}
	}
	return false
}

func (postgresDialect) fits(c *column, k connector.ValueKind) bool {
	number := oneOf(c.typ, "smallint", "integer", "bigint", "numeric", "real", "double precision")
	switch k {
	case connector.BoolValue:
		return c.typ == "boolean"
	case connector.NumberValue:
		return number
	default:
		return c.typ != "boolean" && !number
	}
}

func (d postgresDialect) constant(s *stmt, c *column, v connector.Value) string {
	return d.bind(c, s.arg(v.Text))
}

// A FLOAT is compared as a DOUBLE and then differs from what was written.
func (mysqlDialect) fits(c *column, k connector.ValueKind) bool {
	base, _, _ := strings.Cut(c.typ, " ")
	switch k {
	case connector.BoolValue:
		return isInt(c.typ) || base == "bit"
	case connector.NumberValue:
		return isInt(c.typ) || base == "decimal" || base == "double"
	default:
		return isChars(c.typ) || oneOf(base, "date", "datetime", "timestamp", "time", "uuid", "inet4", "inet6")
	}
}

func (mysqlDialect) constant(s *stmt, _ *column, v connector.Value) string { return literal(s, v) }

// A column of SQLite may hold any type; its declared one says what is meant.
func (sqliteDialect) fits(c *column, k connector.ValueKind) bool {
	a, t := affinity(c.typ), strings.ToUpper(c.typ)
	instant := a == "NUMERIC" && (strings.Contains(t, "DATE") || strings.Contains(t, "TIME"))
	switch k {
	case connector.BoolValue:
		return t == "" || a == "INTEGER" || a == "NUMERIC" && !instant
	case connector.NumberValue:
		return t == "" || a == "INTEGER" || a == "REAL" || a == "NUMERIC" && !instant
	default:
		return t == "" || a == "TEXT" || instant
	}
}

func (sqliteDialect) constant(s *stmt, _ *column, v connector.Value) string { return literal(s, v) }

// literal writes numbers as they are, exact, and texts as parameters.
func literal(s *stmt, v connector.Value) string {
	switch {
	case v.Kind == connector.BoolValue && v.Text == "true":
		return "1"
	case v.Kind == connector.BoolValue:
		return "0"
	case v.Kind == connector.NumberValue:
		return v.Text
	default:
		return s.arg(v.Text)
	}
}

// mayRun lets the database plan a statement that it would check the right to.
func mayRun(ctx context.Context, d dialect, q querier, s *stmt) (bool, error) {
	err := newStmt(d, d.explain(), s.b.String()).with(s.args...).plan(ctx, q)
	if err != nil && d.classify(err) == deniedFailure {
		return false, nil
	}
	return err == nil, err
}

// plan runs an EXPLAIN to its end.
func (s *stmt) plan(ctx context.Context, q querier) error {
	rows, err := q.QueryContext(ctx, s.b.String(), s.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

// checkThen lets the database plan what is set, and warns when the role may not.
func (c *Connector) checkThen(ctx context.Context, b *binding) error {
	if !b.keeps() {
		return nil
	}
	t := quoteTable(c.d, b.root)
	s := newStmt(c.d, "SELECT 1 FROM ", t)
	b.unsettled(s, " WHERE ", t)
	if err := c.try(ctx, b, s, "then", "a column does not compare with its value", "write a value of the column's type"); err != nil || !b.sound() {
		return err
	}
	may := true
	plan := func(ctx context.Context, conn *sql.Conn) (err error) {
		may, err = mayRun(ctx, c.d, conn, b.updateStmt(nil, c.o.Clock()))
		return err
	}
	var err error
	if _, my := c.d.(mysqlDialect); my {
		// MariaDB plans no UPDATE in a transaction that only reads, whoever asks.
		in, cancel := context.WithTimeout(ctx, 10*c.trial())
		err = c.withConn(in, c.reader, func(conn *sql.Conn) error { return plan(in, conn) })
		cancel()
	} else {
		err = c.read(ctx, plan)
	}
	var cols []string
	for _, x := range b.then {
		cols = append(cols, x.col.name)
	}
	switch {
	case err != nil && c.d.classify(err) == refusedFailure:
		b.fault("then", fmt.Sprintf("the database does not set %s of %s", strings.Join(cols, ", "), b.root.full()), "a generated column cannot be set; name another")
		return nil
	case err == nil && !may:
		b.warn("then", fmt.Sprintf("the role may not set %s of %s", strings.Join(cols, ", "), b.root.full()), "grant UPDATE to the role that purges")
	}
	return err
}
