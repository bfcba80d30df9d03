package rows

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// postgresDialect speaks PostgreSQL. All settings are made inside each
// transaction, so a pooler between us and the server does no harm.
type postgresDialect struct{}

func openPostgres(target string) (*sql.DB, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("database address: not a URL")
	}
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("database address: PostgreSQL cannot read it")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "epitaph"
	}
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(8)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}

func (postgresDialect) grammar() grammar { return grammar{dollar: true, escapeE: true} }

func (postgresDialect) quote(name string) string { return doubleQuoted(name) }
func (postgresDialect) place(n int) string       { return "$" + strconv.Itoa(n) }

func (postgresDialect) readKey(expr string, _ *column) string       { return expr + "::text" }
func (postgresDialect) readText(expr string, _ *column) string      { return expr + "::text" }
func (postgresDialect) readAnchor(expr string, _ anchorKind) string { return expr + "::text" }
func (postgresDialect) bind(c *column, place string) string         { return place + "::text::" + c.typ }

func (postgresDialect) orderBy(expr string, kind anchorKind) string {
	if kind == textAnchor {
		return expr + ` COLLATE "C"`
	}
	return expr
}

func (d postgresDialect) after(s *stmt, exprs []string, cols []*column, args []any) {
	places := make([]string, len(args))
	for i, a := range args {
		places[i] = d.bind(cols[i], s.arg(a))
	}
	s.add("(", strings.Join(exprs, ", "), ") > (", strings.Join(places, ", "), ")")
}

func (d postgresDialect) same(s *stmt, expr string, c *column, arg any) {
	s.add(expr, " = ", d.bind(c, s.arg(arg)))
}

func (d postgresDialect) keyRead(s *stmt, exprs []string, cols []*column, keys []key) {
	d.keyIn(s, exprs, cols, keys)
}

func (d postgresDialect) keyIn(s *stmt, exprs []string, cols []*column, keys []key) {
	lists := make([]string, len(cols))
	for i, c := range cols {
		texts := make([]string, len(keys))
		for j, k := range keys {
			texts[j], _ = k[i].(string)
		}
		lists[i] = s.arg(texts) + "::text[]::" + c.typ + "[]"
	}
	if len(exprs) == 1 {
		s.add(exprs[0], " = ANY(", lists[0], ")")
		return
	}
	s.add("(", strings.Join(exprs, ", "), ") IN (SELECT * FROM unnest(", strings.Join(lists, ", "), "))")
}

func isString(typ string) bool {
	return typ == "text" || typ == "character varying"
}

// textIn asks by a join rather than by = ANY, so that texts can be compared by
// a hash, which the rules of a collation make many times cheaper.
func (d postgresDialect) textIn(s *stmt, expr string, c, like *column, texts []string) {
	switch {
	case isString(c.typ):
		s.add(expr, " IN (SELECT unnest(", s.arg(texts), "::text[]))")
	case c.typ == like.typ && c.typ != "bpchar":
		s.add(expr, " IN (SELECT unnest(", s.arg(texts), "::text[]::", c.typ, "[]))")
	default:
		s.add(expr, "::text IN (SELECT unnest(", s.arg(texts), "::text[]))")
	}
}

func (d postgresDialect) jsonIn(s *stmt, expr string, c *column, path []string, texts []string) bool {
	if !d.isJSON(c) {
		return false // a text may be no JSON, and a cast would end the statement
	}
	doc := expr
	if c.typ == "json" {
		doc += "::jsonb"
	}
	if len(path) == 0 && c.typ == "jsonb" {
		// An index of the GIN kind can answer this. Numbers are not seen by ?|, nor
		// what lies deeper, where no element should be.
		s.add("(", doc, " ?| ", s.arg(texts), "::text[] OR jsonb_path_exists(", doc, ", '$[*].type() ? (@ != \"string\" && @ != \"null\")'))")
		return true
	}
	if len(path) > 0 {
		doc = "(" + doc + " #> " + s.arg(path) + "::text[])"
	}
	s.add("EXISTS (SELECT 1 FROM jsonb_array_elements(CASE WHEN jsonb_typeof(", doc, ") = 'array' THEN ", doc,
		" ELSE jsonb_build_array(", doc, ") END) AS e(v) WHERE (e.v #>> '{}') = ANY(", s.arg(texts), "::text[]) OR jsonb_typeof(e.v) IN ('array', 'object'))")
	return true
}

func (postgresDialect) liesByKey(*table) bool { return false }

func (postgresDialect) anchor(c *column) anchorKind {
	switch c.typ {
	case "timestamp with time zone":
		return instantAnchor
	case "timestamp without time zone":
		return naiveAnchor
	case "date":
		return dayAnchor
	case "text", "character varying", "bpchar":
		return textAnchor
	}
	return notAnchor
}

func (postgresDialect) isJSON(c *column) bool { return c.typ == "json" || c.typ == "jsonb" }

func (postgresDialect) isID(c *column) bool {
	switch c.typ {
	case "smallint", "integer", "bigint", "uuid":
		return true
	}
	return false
}

func (postgresDialect) strayAnchor(expr string, kind anchorKind) string {
	if kind == textAnchor {
		return expr + ` COLLATE "C" >= ':'`
	}
	return ""
}

func (postgresDialect) naiveText(expr string) string {
	return expr + ` ~ '^\d{4}-' AND ` + expr + ` !~* '(z|utc|gmt|:.*[+-]\d\d(:?\d\d)?)$'`
}

func (postgresDialect) clock() string        { return "SELECT clock_timestamp()::text" }
func (postgresDialect) explain() string      { return "EXPLAIN " }
func (postgresDialect) byKey() string        { return "" }
func (postgresDialect) mostKeys(int) int     { return math.MaxInt }
func (postgresDialect) lock() string         { return " FOR UPDATE SKIP LOCKED" }
func (postgresDialect) deferredUnseen() bool { return false }
func (postgresDialect) rowByRow() bool       { return false }

func (postgresDialect) lossy(_, _ *column) bool { return false } // it refuses

func (postgresDialect) exact(a, b *column) bool {
	integer := func(t string) bool { return t == "smallint" || t == "integer" || t == "bigint" }
	return integer(a.typ) && integer(b.typ) || a.typ == "uuid" && b.typ == "uuid"
}

// settings are what every transaction needs whatever the role's defaults are.
// With row_security off a policy that hides rows is an error, not a silence.
const postgresSettings = `; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL row_security = off` +
	`; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL idle_in_transaction_session_timeout = 0`

func (postgresDialect) beginRead(ctx context.Context, c *sql.Conn, within time.Duration) error {
	return run(ctx, c, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"+postgresSettings+
		fmt.Sprintf("; SET LOCAL statement_timeout = %d", milliseconds(within)))
}

func (postgresDialect) costlySavepoint(context.Context, *sql.Conn) (bool, error) { return false, nil }

func (postgresDialect) watch(context.Context, *sql.Conn) (func(), error) { return func() {}, nil }

// milliseconds is for settings in which 0 would mean for ever.
func milliseconds(d time.Duration) int64 { return min(max(d.Milliseconds(), 1), math.MaxInt32) }

func (postgresDialect) timedOut(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "57014" // query canceled
}

func (postgresDialect) beginWrite(ctx context.Context, c *sql.Conn, w waits) error {
	return run(ctx, c, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"+postgresSettings+
		fmt.Sprintf("; SET LOCAL lock_timeout = %d; SET LOCAL statement_timeout = %d", w.lock.Milliseconds(), w.statement.Milliseconds())+
		// What is reported gone has been flushed, whatever the role's default.
		"; SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'")
}

func (postgresDialect) sealed(ctx context.Context, c *sql.Conn, f func() error) error {
	if err := run(ctx, c, "SAVEPOINT epitaph_look; SET TRANSACTION READ ONLY"); err != nil {
		return err
	}
	if err := f(); err != nil {
		return errors.Join(err, run(context.WithoutCancel(ctx), c, "ROLLBACK TO SAVEPOINT epitaph_look"))
	}
	return run(ctx, c, "RELEASE SAVEPOINT epitaph_look")
}

func (postgresDialect) impatient(ctx context.Context, c *sql.Conn) error {
	return run(ctx, c, "SET LOCAL lock_timeout = 50")
}

func (postgresDialect) hurry(ctx context.Context, c *sql.Conn, within time.Duration) error {
	return run(ctx, c, fmt.Sprintf("SET LOCAL statement_timeout = %d", milliseconds(within)))
}

func (postgresDialect) deferChecks(ctx context.Context, c *sql.Conn) error {
	return run(ctx, c, "SET CONSTRAINTS ALL DEFERRED")
}

func (postgresDialect) checkNow(ctx context.Context, c *sql.Conn) error {
	return run(ctx, c, "SET CONSTRAINTS ALL IMMEDIATE")
}

// hold takes advisory locks that end with the transaction, in the order of
// their numbers, so that two claims wait for each other in one direction.
func (postgresDialect) hold(ctx context.Context, c *sql.Conn, names []string) error {
	numbers := make([]int64, len(names))
	for i, n := range names {
		h := sha256.Sum256([]byte("epitaph\x00" + n))
		numbers[i] = int64(binary.BigEndian.Uint64(h[:8])) //nolint:gosec // a lock number
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	_, err := c.ExecContext(ctx, "SELECT count(pg_advisory_xact_lock(h)) FROM unnest($1::bigint[]) AS h", numbers)
	return err
}

func (postgresDialect) unhold(context.Context, *sql.Conn) error { return nil }

func (d postgresDialect) mayDelete(ctx context.Context, q querier, t *table) (bool, error) {
	may := false
	err := newStmt(d, "SELECT CASE WHEN has_table_privilege(").add(
		`(quote_ident($1) || '.' || quote_ident($2))::regclass, 'DELETE') THEN 1 ELSE 0 END`).with(t.schema, t.name).each(ctx, q, 1,
		func(row []any) error { may = isTrue(row[0]); return nil })
	return may, err
}

// mayLock is true for whoever may update one column: that is what SELECT … FOR
// UPDATE asks for, besides the right to select.
func (d postgresDialect) mayLock(ctx context.Context, q querier, t *table) (bool, error) {
	may := false
	err := newStmt(d, "SELECT CASE WHEN has_any_column_privilege(").add(
		`(quote_ident($1) || '.' || quote_ident($2))::regclass, 'UPDATE') THEN 1 ELSE 0 END`).with(t.schema, t.name).each(ctx, q, 1,
		func(row []any) error { may = isTrue(row[0]); return nil })
	return may, err
}

// The trigger of a cascading key costs the same whether or not its rows have
// been deleted before, so deleting them first only adds to it (measured: a
// third more for a root with nine children).
func (postgresDialect) trusts() bool { return true }

// deletions asks the session's own counters, which see what cascades took.
func (d postgresDialect) deletions(ctx context.Context, q querier, ts []*table) (map[*table]int64, error) {
	names := make([]string, len(ts))
	for i, t := range ts {
		names[i] = quoteTable(d, t)
	}
	out := make(map[*table]int64, len(ts))
	err := newStmt(d, `SELECT n.i - 1, (SELECT sum(pg_stat_get_xact_tuples_deleted(p.oid))::bigint
		FROM (SELECT n.name::regclass::oid AS oid UNION SELECT relid::oid FROM pg_partition_tree(n.name::regclass)) AS p)
		FROM unnest($1::text[]) WITH ORDINALITY AS n(name, i)`).with(names).each(ctx, q, 2, func(v []any) error {
		i, _ := v[0].(int64)
		out[ts[i]], _ = v[1].(int64)
		return nil
	})
	return out, err
}

func (postgresDialect) classify(err error) failure {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return lostFailure
	}
	switch e.Code {
	case "42501", "25006": // insufficient privilege, read-only transaction
		return deniedFailure
	case "55P03": // lock not available
		return busyFailure
	case "40001", "40P01": // serialization failure, deadlock
		return retryFailure
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "53", "57", "58", "F0": // connection, resources, operator intervention, system
		return lostFailure
	}
	return refusedFailure
}
