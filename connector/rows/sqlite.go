package rows

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"modernc.org/sqlite"
)

// sqliteDialect speaks SQLite. One writer at a time: the connector's pool for
// claims holds one connection, so claims of one process queue up there.
type sqliteDialect struct{}

// openSQLite opens the file. Claims get one connection, so that they queue.
func openSQLite(path string, reader bool, wait time.Duration) (*sql.DB, error) {
	db, err := sql.Open("sqlite", sqliteName(path, reader, wait))
	if err == nil {
		db.SetMaxOpenConns(sqliteConns(reader))
	}
	return db, err
}

func sqliteConns(reader bool) int {
	if reader {
		return 4
	}
	return 1
}

// sqliteName tells the driver what to open and how. The file must exist: a
// database that is not there is not an empty database. Deleted content is
// overwritten (secure_delete), and the journal mode is left as the application
// chose it.
func sqliteName(path string, reader bool, wait time.Duration) string {
	q := url.Values{"mode": {"rw"}}
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", wait.Milliseconds()),
		"foreign_keys(1)", "recursive_triggers(1)", "trusted_schema(0)",
	}
	if reader {
		pragmas = append(pragmas, "query_only(1)")
		q.Set("_dqs", "0") // a misspelt "column" is an error here, not a text
	} else {
		pragmas = append(pragmas, "secure_delete(1)", "synchronous(FULL)", "temp_store(MEMORY)",
			// The WAL is copied back by flushWAL, not in the middle of a batch.
			"cache_size(-16384)", "cache_spill(0)", "wal_autocheckpoint(0)")
	}
	q["_pragma"] = pragmas
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func (sqliteDialect) grammar() grammar {
	return grammar{backtick: true, bracket: true, params: "?:@$"}
}

func (sqliteDialect) quote(name string) string { return doubleQuoted(name) }
func (sqliteDialect) place(n int) string       { return fmt.Sprintf("?%d", n) }

// The unary plus keeps the stored type and hides the declared one, by which
// the driver would turn texts into times.
func (sqliteDialect) readKey(expr string, _ *column) string       { return "+" + expr }
func (sqliteDialect) readText(expr string, _ *column) string      { return "CAST(" + expr + " AS TEXT)" }
func (sqliteDialect) readAnchor(expr string, _ anchorKind) string { return "+" + expr }
func (sqliteDialect) bind(_ *column, place string) string         { return place }
func (sqliteDialect) orderBy(expr string, _ anchorKind) string    { return expr }
func (sqliteDialect) after(s *stmt, exprs []string, _ []*column, args []any) {
	places := make([]string, len(args))
	for i, a := range args {
		places[i] = s.arg(a)
	}
	s.add("(", strings.Join(exprs, ", "), ") > (", strings.Join(places, ", "), ")")
}

func (sqliteDialect) same(s *stmt, expr string, _ *column, arg any) {
	s.add(expr, " = ", s.arg(arg))
}

func (d sqliteDialect) keyRead(s *stmt, exprs []string, cols []*column, keys []key) {
	d.keyIn(s, exprs, cols, keys)
}

func (sqliteDialect) keyIn(s *stmt, exprs []string, _ []*column, keys []key) {
	list, plain := jsonKeys(keys)
	if len(exprs) == 1 {
		s.add(exprs[0], " IN (SELECT ", jsonValue("value", 0, plain), " FROM json_each(", s.arg(list), "))")
		return
	}
	read := make([]string, len(exprs))
	for i := range exprs {
		at := fmt.Sprintf("value -> %d", i)
		if plain {
			at = fmt.Sprintf("value ->> %d", i)
		}
		read[i] = jsonValue("("+at+")", i, plain)
	}
	s.add("(", strings.Join(exprs, ", "), ") IN (SELECT ", strings.Join(read, ", "), " FROM json_each(", s.arg(list), "))")
}

// jsonValue reads one value of the list that jsonKeys wrote.
func jsonValue(at string, _ int, plain bool) string {
	if plain {
		return at
	}
	return "CASE " + at + " ->> 0 WHEN 'b' THEN unhex(" + at + " ->> 1) WHEN 't' THEN CAST(unhex(" + at +
		" ->> 1) AS TEXT) ELSE " + at + " ->> 1 END"
}

// jsonKeys writes keys as a JSON array. Where one holds what JSON cannot, all
// values become pairs of a type and a hexadecimal text.
func jsonKeys(keys []key) (list string, plain bool) {
	plain = true
	for _, k := range keys {
		for _, v := range k {
			switch v := v.(type) {
			case []byte:
				plain = false
			case string:
				plain = plain && utf8.ValidString(v) && !strings.ContainsRune(v, 0)
			}
		}
	}
	one := func(v any) any {
		if plain {
			return v
		}
		switch v := v.(type) {
		case []byte:
			return [2]any{"b", hex.EncodeToString(v)}
		case string:
			return [2]any{"t", hex.EncodeToString([]byte(v))}
		}
		return [2]any{"n", v}
	}
	out := make([]any, len(keys))
	for i, k := range keys {
		if len(k) == 1 {
			out[i] = one(k[0])
			continue
		}
		all := make([]any, len(k))
		for j, v := range k {
			all[j] = one(v)
		}
		out[i] = all
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(out) // texts, numbers and lists only: cannot fail
	return b.String(), plain
}

func textKeys(texts []string) []key {
	keys := make([]key, len(texts))
	for i, t := range texts {
		keys[i] = key{t}
	}
	return keys
}

func (d sqliteDialect) textIn(s *stmt, expr string, c, _ *column, texts []string) {
	if a := affinity(c.typ); a == "BLOB" || a == "REAL" {
		// No conversion would take place in the comparison.
		expr = d.readText(expr, c)
	}
	d.keyIn(s, []string{expr}, []*column{c}, textKeys(texts))
}

func (d sqliteDialect) jsonIn(s *stmt, expr string, c *column, path []string, texts []string) bool {
	at := "$"
	for _, p := range path {
		if strings.ContainsAny(p, `"\`) {
			return false
		}
		at += `."` + p + `"`
	}
	s.add("(NOT json_valid(", expr, ") OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(", expr, ") THEN ", expr, " ELSE '[]' END, ", s.arg(at),
		") AS e WHERE e.type IN ('array', 'object') OR ")
	d.keyIn(s, []string{"CAST(e.value AS TEXT)"}, []*column{c}, textKeys(texts))
	s.add("))")
	return true
}

// affinity follows section 3.1 of https://www.sqlite.org/datatype3.html.
func affinity(declared string) string {
	t := strings.ToUpper(declared)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(t, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("INT"):
		return "INTEGER"
	case has("CHAR", "CLOB", "TEXT"):
		return "TEXT"
	case t == "" || has("BLOB"):
		return "BLOB"
	case has("REAL", "FLOA", "DOUB"):
		return "REAL"
	}
	return "NUMERIC"
}

// An INTEGER PRIMARY KEY is the number of the row.
func (sqliteDialect) liesByKey(t *table) bool { return len(t.pk) == 1 && t.pk[0].typ == "integer" }

func (sqliteDialect) anchor(c *column) anchorKind {
	switch t := strings.ToUpper(c.typ); affinity(t) {
	case "INTEGER":
		return unixAnchor
	case "TEXT":
		return textAnchor
	case "NUMERIC":
		if strings.Contains(t, "DATE") || strings.Contains(t, "TIME") {
			return textAnchor
		}
	}
	return notAnchor
}

func (sqliteDialect) isJSON(c *column) bool { return strings.HasPrefix(strings.ToUpper(c.typ), "JSON") }

// A column of SQLite holds any type, so only the value itself can tell.
func (sqliteDialect) isID(*column) bool { return false }

func (sqliteDialect) strayAnchor(expr string, kind anchorKind) string {
	if kind == unixAnchor {
		return expr + " >= ''" // texts and blobs sort behind numbers
	}
	return expr + " >= ':'" // the character behind 9; blobs sort behind texts
}

func (sqliteDialect) naiveText(expr string) string {
	return "typeof(" + expr + ") = 'text' AND " + expr + " NOT LIKE '%z' AND " + expr + " NOT GLOB '*:*[+-][0-9][0-9]*'" +
		" AND " + expr + " GLOB '[0-9][0-9][0-9][0-9]-*'"
}

func (sqliteDialect) clock() string        { return "" }
func (sqliteDialect) explain() string      { return "EXPLAIN QUERY PLAN " }
func (sqliteDialect) byKey() string        { return "" }
func (sqliteDialect) mostKeys(int) int     { return math.MaxInt }
func (sqliteDialect) lock() string         { return "" } // the write transaction is the lock
func (sqliteDialect) deferredUnseen() bool { return true }

// There is no server to stop: what runs too long is interrupted when its context
// ends.
func (sqliteDialect) beginRead(ctx context.Context, c *sql.Conn, _ time.Duration) error {
	return run(ctx, c, "BEGIN")
}

func (sqliteDialect) timedOut(error) bool { return false }

// beginWrite lets pages that do not fit into the cache go to the WAL before the
// commit. Without a WAL they would go to the database file itself, which shuts
// out all readers; then a batch stays in memory until its commit, so that nobody
// waits while blobs are being erased. SQLite heeds the setting only between
// transactions.
func (d sqliteDialect) beginWrite(ctx context.Context, c *sql.Conn, _ waits) error {
	wal, err := d.inWAL(ctx, c)
	if err != nil {
		return err
	}
	spill := "PRAGMA cache_spill = 0"
	if wal {
		spill = "PRAGMA cache_spill = 1"
	}
	if err := run(ctx, c, spill); err != nil {
		return err
	}
	return run(ctx, c, "BEGIN IMMEDIATE")
}

func (d sqliteDialect) inWAL(ctx context.Context, c *sql.Conn) (wal bool, err error) {
	err = newStmt(d, "PRAGMA journal_mode").each(ctx, c, 1, func(v []any) error {
		mode, _ := asText(v[0])
		wal = mode == "wal"
		return nil
	})
	return wal, err
}

// With a WAL, SQLite keeps a copy of each page that changes after a savepoint in
// memory: as much as all that a batch touches. The rollback journal has the
// pages anyway.
func (d sqliteDialect) costlySavepoint(ctx context.Context, c *sql.Conn) (bool, error) {
	return d.inWAL(ctx, c)
}

func (sqliteDialect) sealed(ctx context.Context, c *sql.Conn, f func() error) error {
	if err := run(ctx, c, "PRAGMA query_only = 1"); err != nil {
		return err
	}
	err := f()
	return errors.Join(err, run(context.WithoutCancel(ctx), c, "PRAGMA query_only = 0"))
}

func (sqliteDialect) impatient(context.Context, *sql.Conn) error            { return nil }
func (sqliteDialect) hurry(context.Context, *sql.Conn, time.Duration) error { return nil }
func (sqliteDialect) deferChecks(context.Context, *sql.Conn) error          { return nil }
func (sqliteDialect) checkNow(context.Context, *sql.Conn) error             { return nil }
func (sqliteDialect) hold(context.Context, *sql.Conn, []string) error       { return nil }
func (sqliteDialect) unhold(context.Context, *sql.Conn) error               { return nil }
func (sqliteDialect) mayDelete(context.Context, querier, *table) (bool, error) {
	return true, nil
}

func (sqliteDialect) mayLock(context.Context, querier, *table) (bool, error) { return true, nil }

func (sqliteDialect) lossy(_, _ *column) bool { return false } // a text is a number only as a whole

func (sqliteDialect) exact(a, b *column) bool {
	return affinity(a.typ) == "INTEGER" && affinity(b.typ) == "INTEGER"
}
func (sqliteDialect) rowByRow() bool { return false }
func (sqliteDialect) trusts() bool   { return false }
func (sqliteDialect) deletions(context.Context, querier, []*table) (map[*table]int64, error) {
	return nil, nil
}

func (sqliteDialect) classify(err error) failure {
	var e *sqlite.Error
	if !errors.As(err, &e) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return lostFailure
	}
	switch e.Code() & 0xff { // primary result code
	case 1, 19, 18, 20: // ERROR, CONSTRAINT, TOOBIG, MISMATCH
		return refusedFailure
	case 5, 6: // BUSY, LOCKED
		return busyFailure
	case 3, 8, 23: // PERM, READONLY, AUTH
		return deniedFailure
	}
	return lostFailure
}

func run(ctx context.Context, q querier, text string) error {
	_, err := q.ExecContext(ctx, text)
	return err
}
