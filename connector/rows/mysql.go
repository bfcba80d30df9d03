package rows

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// mysqlDialect speaks MySQL 8 and MariaDB 10.6 or newer; SKIP LOCKED came with
// these. FOREIGN_KEY_CHECKS is never switched off.
//
// Their collations may call two texts equal that are spelt differently. So
// everything that is compared by the server is compared once more, byte by
// byte, in Go; DISTINCT is asked under a binary collation; and a text key is
// never taken from the column of another table that refers to it.
type mysqlDialect struct{}

func openMySQL(target string, wait time.Duration) (*sql.DB, error) {
	cfg, err := mysqlConfig(target)
	if err != nil {
		return nil, err
	}
	cfg.Params["innodb_lock_wait_timeout"] = strconv.Itoa(max(1, int(wait.Seconds())))
	conn, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, errors.New("database address: MySQL cannot read it")
	}
	db := sql.OpenDB(conn)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(8)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}

func mysqlConfig(target string) (*mysql.Config, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("database address: not a URL")
	}
	cfg := mysql.NewConfig()
	cfg.User, cfg.DBName = u.User.Username(), strings.TrimPrefix(u.Path, "/")
	cfg.Passwd, _ = u.User.Password()
	cfg.Net, cfg.Addr = "tcp", u.Host
	if cfg.DBName == "" {
		return nil, errors.New("database address: no database named")
	}
	if u.Port() == "" {
		cfg.Addr = u.Hostname() + ":3306"
	}
	q := u.Query()
	if socket := q.Get("unix_socket"); socket != "" {
		cfg.Net, cfg.Addr = "unix", socket
	}
	if cfg.TLSConfig, err = mysqlTLS(q); err != nil {
		return nil, err
	}
	cfg.Logger = &mysql.NopLogger{}
	cfg.Collation = "utf8mb4_general_ci"
	cfg.InterpolateParams = true
	cfg.Timeout = 10 * time.Second
	cfg.Params = map[string]string{
		"time_zone": "'+00:00'",
		// The defaults, but for ANSI_QUOTES and NO_BACKSLASH_ESCAPES, which
		// would change how a text is read.
		"sql_mode":           "'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
		"foreign_key_checks": "1",
		"sql_safe_updates":   "0",
	}
	return cfg, nil
}

// mysqlTLS reads how the connection is encrypted, in the words of Go's driver or of
// MySQL's own programs. A wish that cannot be met is an error, which repeats nothing
// that could be a password: else passwords and rows would travel in the clear.
func mysqlTLS(q url.Values) (mode string, err error) {
	for name := range q {
		switch word := strings.ToLower(strings.ReplaceAll(name, "-", "_")); {
		case word == "tls", word == "ssl":
			if v := q.Get(name); v != "" {
				mode = v
			}
		case word == "ssl_mode", word == "sslmode":
			switch strings.ToLower(strings.ReplaceAll(q.Get(name), "-", "_")) {
			case "disabled", "disable":
				mode = "false"
			case "preferred", "prefer":
				mode = "preferred"
			case "required", "require":
				mode = "skip-verify"
			case "verify_ca", "verify_identity", "verify_full":
				mode = "true"
			default:
				return "", fmt.Errorf("database address: %s is none of DISABLED, PREFERRED, REQUIRED and VERIFY_IDENTITY", word)
			}
		case strings.HasPrefix(word, "ssl"), strings.HasPrefix(word, "tls"):
			if !oneOf(word, "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher", "ssl_verify_cert", "ssl_verify_identity", "ssl_check_hostname", "ssl_disabled") {
				word = "a setting of encryption"
			}
			return "", fmt.Errorf("database address: no support for %s; write ssl_mode=VERIFY_IDENTITY, with the authority among those the system trusts", word)
		}
	}
	return mode, nil
}

func (mysqlDialect) grammar() grammar { return grammar{backslash: true, backtick: true, params: "?@"} }

func (mysqlDialect) quote(name string) string {
	return "`" + strings.ReplaceAll(name, "`", "``") + "`"
}
func (mysqlDialect) place(int) string { return "?" }

func isBinary(typ string) bool {
	return strings.Contains(typ, "binary") || strings.Contains(typ, "blob")
}

func isInt(typ string) bool {
	base, _, _ := strings.Cut(typ, " ")
	return strings.HasSuffix(base, "int")
}

func isChars(typ string) bool {
	return strings.Contains(typ, "char") || strings.Contains(typ, "text") || typ == "enum" || typ == "set"
}

// A binary key is read and bound in hexadecimal.
func (d mysqlDialect) readKey(expr string, c *column) string { return d.readText(expr, c) }

func (mysqlDialect) readText(expr string, c *column) string {
	if isBinary(c.typ) {
		return "LOWER(HEX(" + expr + "))"
	}
	return "CAST(" + expr + " AS CHAR CHARACTER SET utf8mb4) COLLATE utf8mb4_bin"
}

func (mysqlDialect) readAnchor(expr string, _ anchorKind) string { return "CAST(" + expr + " AS CHAR)" }

func (mysqlDialect) bind(c *column, place string) string {
	if isBinary(c.typ) {
		return "UNHEX(" + place + ")"
	}
	return place
}

func (mysqlDialect) orderBy(expr string, kind anchorKind) string {
	if kind == textAnchor {
		return "CAST(" + expr + " AS BINARY)"
	}
	return expr
}

// value makes a parameter of a key's text. A number must be bound as one: a
// text compared with a number is compared as a float, of 53 bits.
func (mysqlDialect) value(c *column, v any) any {
	text, ok := v.(string)
	if !ok || !isInt(c.typ) {
		return v
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return n
	}
	return v
}

// after spells the comparison of rows out, because the optimizer does not use
// an index for the short form.
func (d mysqlDialect) after(s *stmt, exprs []string, cols []*column, args []any) {
	bind := func(i int) string { return d.bind(cols[i], s.arg(d.value(cols[i], args[i]))) }
	s.add(exprs[0], " >= ", bind(0), " AND (")
	for i := range exprs {
		if i > 0 {
			s.add(" OR ")
		}
		s.add("(")
		for j := range i {
			s.add(exprs[j], " = ", bind(j), " AND ")
		}
		s.add(exprs[i], " > ", bind(i), ")")
	}
	s.add(")")
}

func (d mysqlDialect) same(s *stmt, expr string, c *column, arg any) {
	s.add(expr, " = ", d.bind(c, s.arg(d.value(c, arg))))
}

func (d mysqlDialect) keyIn(s *stmt, exprs []string, cols []*column, keys []key) {
	if len(keys) == 0 {
		s.add("1 = 0")
		return
	}
	open, end := "", ""
	if len(exprs) > 1 {
		open, end = "(", ")"
	}
	s.add(open, strings.Join(exprs, ", "), end, " IN (")
	for n, k := range keys {
		if n > 0 {
			s.add(",")
		}
		s.add(open)
		for i, c := range cols {
			if i > 0 {
				s.add(",")
			}
			s.add(d.bind(c, s.arg(d.value(c, k[i]))))
		}
		s.add(end)
	}
	s.add(")")
}

// keyRead asks for whole numbers without a gap by the first and the last: a list of
// a thousand costs the server more than to read the rows. A statement that locks must
// not: at the end of a range it locks, or waits for, the row behind it.
func (d mysqlDialect) keyRead(s *stmt, exprs []string, cols []*column, keys []key) {
	low, high, ok := d.gapless(cols, keys)
	if !ok {
		d.keyIn(s, exprs, cols, keys)
		return
	}
	s.add(exprs[0], " BETWEEN ", s.arg(low), " AND ", s.arg(high))
}

// gapless reports that keys are all the whole numbers from low to high.
func (d mysqlDialect) gapless(cols []*column, keys []key) (low, high int64, ok bool) {
	if len(cols) != 1 || !isInt(cols[0].typ) || len(keys) < 2 {
		return 0, 0, false
	}
	numbers := make([]int64, len(keys))
	for i, k := range keys {
		if numbers[i], ok = d.value(cols[0], k[0]).(int64); !ok {
			return 0, 0, false
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers[1:] {
		if n != numbers[i]+1 {
			return 0, 0, false
		}
	}
	return numbers[0], numbers[len(numbers)-1], true
}

func (d mysqlDialect) textIn(s *stmt, expr string, c, _ *column, texts []string) {
	switch {
	case isBinary(c.typ):
		d.keyIn(s, []string{expr}, []*column{c}, textKeys(texts))
	case isChars(c.typ):
		// A text that the column's character set cannot hold is in none of its rows.
		d.keyIn(s, []string{expr}, []*column{{typ: "char"}}, textKeys(texts))
	default:
		d.keyIn(s, []string{d.readText(expr, c)}, []*column{{typ: "char"}}, textKeys(texts))
	}
}

func (mysqlDialect) jsonIn(*stmt, string, *column, []string, []string) bool { return false }

// So do tables of InnoDB, but what that is worth for a scan was not measured.
func (mysqlDialect) liesByKey(*table) bool { return false }

func (mysqlDialect) anchor(c *column) anchorKind {
	switch {
	case c.typ == "timestamp":
		return instantAnchor
	case c.typ == "datetime":
		return naiveAnchor
	case c.typ == "date":
		return dayAnchor
	case isChars(c.typ) && c.typ != "enum" && c.typ != "set":
		return textAnchor
	}
	return notAnchor
}

func (mysqlDialect) isJSON(c *column) bool { return c.typ == "json" || c.json }
func (mysqlDialect) isID(c *column) bool   { return isInt(c.typ) || c.typ == "uuid" }
func (mysqlDialect) exact(a, b *column) bool {
	return isInt(a.typ) && isInt(b.typ)
}

// lossy: a text compared with a number is read as a float of 53 bits up to the
// first character that is no digit, and one compared with a date as a date.
func (mysqlDialect) lossy(a, b *column) bool {
	class := func(c *column) string {
		base, _, _ := strings.Cut(c.typ, " ")
		switch {
		case isInt(base), oneOf(base, "decimal", "bit", "year"):
			return "exact"
		case oneOf(base, "float", "double"):
			return "float"
		case oneOf(base, "date", "datetime", "timestamp", "time"):
			return "time"
		}
		return "text"
	}
	return class(a) != class(b)
}

func (mysqlDialect) strayAnchor(expr string, kind anchorKind) string {
	if kind == textAnchor {
		return "CAST(" + expr + " AS BINARY) >= ':'"
	}
	return ""
}

func (mysqlDialect) naiveText(expr string) string {
	return expr + " REGEXP '^[0-9]{4}-' AND " + expr + " NOT REGEXP '(z|utc|gmt|:.*[+-][0-9]{2}(:?[0-9]{2})?)$'"
}

func (mysqlDialect) clock() string   { return "SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)" }
func (mysqlDialect) explain() string { return "EXPLAIN " }
func (mysqlDialect) lock() string    { return " FOR UPDATE SKIP LOCKED" }

// byKey: where a list of keys names more than a small part of a table, the
// optimizer reads all of it, and InnoDB locks each row on the way, or waits for the
// claim that has it. A DELETE takes the hint only in the form for several tables.
func (mysqlDialect) byKey() string { return " FORCE INDEX (PRIMARY)" }

// mostKeys: of lists of rows MariaDB makes ranges of an index up to some length,
// which lies between 400 and 1000 for two columns.
func (mysqlDialect) mostKeys(columns int) int {
	if columns > 1 {
		return 250
	}
	return 10000
}

func (mysqlDialect) deferredUnseen() bool { return false }
func (mysqlDialect) rowByRow() bool       { return true }

// The counters of the server do not tell what a cascade took.
func (mysqlDialect) trusts() bool { return false }
func (mysqlDialect) deletions(context.Context, querier, []*table) (map[*table]int64, error) {
	return nil, nil
}

// atMost bounds the statements of a session that follow. MariaDB reads the
// first comment, in seconds, and MySQL the second. MariaDB makes a table of its own
// of a list of a thousand keys, and joins with it as it thinks best; see byKey.
func atMost(d time.Duration) string {
	ms := milliseconds(d)
	return fmt.Sprintf("SET /*M!100601 SESSION max_statement_time = %d.%03d, SESSION in_predicate_conversion_threshold = 0 */ /*!50708 SESSION max_execution_time = %d */", ms/1000, ms%1000, ms)
}

func (mysqlDialect) costlySavepoint(context.Context, *sql.Conn) (bool, error) { return false, nil }

func (mysqlDialect) watch(context.Context, *sql.Conn) (func(), error) { return func() {}, nil }

func (mysqlDialect) timedOut(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && (e.Number == 1969 || e.Number == 3024)
}

func (mysqlDialect) beginRead(ctx context.Context, c *sql.Conn, within time.Duration) error {
	if err := run(ctx, c, atMost(within)); err != nil {
		return err
	}
	if err := run(ctx, c, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return err
	}
	return run(ctx, c, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
}

func (mysqlDialect) beginWrite(ctx context.Context, c *sql.Conn, w waits) error {
	// READ COMMITTED, so that each statement sees what is committed, and a
	// DELETE locks rows and no gaps.
	for _, text := range []string{
		fmt.Sprintf("SET SESSION innodb_lock_wait_timeout = %d", max(1, int(w.lock.Seconds()))), atMost(w.statement),
		"SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION READ WRITE",
	} {
		if err := run(ctx, c, text); err != nil {
			return err
		}
	}
	return nil
}

// A function that writes cannot be kept from it inside a transaction that
// writes; the scan before, in a read-only one, would have failed on it.
func (mysqlDialect) sealed(_ context.Context, _ *sql.Conn, f func() error) error { return f() }

func (mysqlDialect) impatient(ctx context.Context, c *sql.Conn) error {
	return run(ctx, c, "SET SESSION innodb_lock_wait_timeout = 1")
}

func (mysqlDialect) hurry(ctx context.Context, c *sql.Conn, within time.Duration) error {
	return run(ctx, c, atMost(within))
}

func (mysqlDialect) deferChecks(context.Context, *sql.Conn) error { return nil }
func (mysqlDialect) checkNow(context.Context, *sql.Conn) error    { return nil }

var errHeldName = errors.New("another claim holds the lock on a name")

// hold takes locks by name, in order. They belong to the session, so unhold
// gives them back.
func (d mysqlDialect) hold(ctx context.Context, c *sql.Conn, names []string) error {
	locks := make([]string, len(names))
	for i, n := range names {
		h := sha256.Sum256([]byte(n))
		locks[i] = "epitaph:" + hex.EncodeToString(h[:16])
	}
	slices.Sort(locks)
	for some := range slices.Chunk(slices.Compact(locks), 100) {
		s := newStmt(d, "SELECT ")
		for i, l := range some {
			if i > 0 {
				s.add(" AND ") // which is read from the left, and no further than to a lock that is not given
			}
			s.add("GET_LOCK(CONCAT(", s.arg(l), ", LEFT(MD5(DATABASE()), 16)), 10)")
		}
		got := false
		err := s.each(ctx, c, 1, func(v []any) error {
			got = isTrue(v[0])
			return nil
		})
		if err == nil && !got {
			err = errHeldName
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (mysqlDialect) unhold(ctx context.Context, c *sql.Conn) error {
	return run(ctx, c, "DO RELEASE_ALL_LOCKS()")
}

func (d mysqlDialect) mayDelete(ctx context.Context, q querier, t *table) (bool, error) {
	rows, err := q.QueryContext(ctx, "EXPLAIN DELETE FROM "+quoteTable(d, t)+" WHERE 1 = 0")
	if err == nil {
		return true, rows.Close()
	}
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number != 1142 && e.Number != 1143 && e.Number != 1044, nil
	}
	return false, err
}

// mayLock is true: whoever may delete may lock.
func (mysqlDialect) mayLock(context.Context, querier, *table) (bool, error) { return true, nil }

func (mysqlDialect) classify(err error) failure {
	if errors.Is(err, errHeldName) {
		return busyFailure
	}
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return lostFailure
	}
	switch e.Number {
	case 1205, 3572: // lock wait timeout, lock not given with NOWAIT
		return busyFailure
	// Deadlock, also between locks by name; a record changed under a snapshot; a
	// conflict that a group of servers found at the commit.
	case 1020, 1213, 3058, 3101:
		return retryFailure
	case 1044, 1142, 1143, 1227, 1290, 1370, 1792, 1836: // privileges, read-only server or transaction
		return deniedFailure
	// Connection, resources, shutdown, a session or statement that was ended.
	case 1021, 1040, 1041, 1042, 1043, 1045, 1047, 1049, 1053, 1077, 1114, 1129, 1130, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1206,
		1226, 1317, 1927, 1969, 2006, 2013, 3024, 3169, 4031:
		return lostFailure
	}
	return refusedFailure
}
