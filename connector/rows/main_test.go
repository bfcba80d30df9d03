package rows_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/internal/testserver"
)

func TestMain(m *testing.M) {
	// They wait for servers, locks and clocks more than they compute.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testserver.Main(m)
}

// store is a real database with a connector on it and a second way in.
type store struct {
	*testing.T
	system string
	dsn    string
	db     *sql.DB
	c      *rows.Connector
}

// cutoff is the instant by which the tests decide what is due.
var cutoff = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// soon is how long is waited for what comes by itself: long, as a busy machine may
// stand still for seconds.
const soon = 3 * time.Minute

// systems are the databases of the tests.
var systems = []string{"sqlite", "postgres", "mariadb"}

// on runs f once for each database.
func on(t *testing.T, f func(s *store)) {
	t.Helper()
	for _, system := range systems {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			f(open(t, system))
		})
	}
}

func open(t *testing.T, system string) *store {
	t.Helper()
	s := &store{T: t, system: system}
	var err error
	switch system {
	case "sqlite":
		path := filepath.Join(t.TempDir(), "app?odd #name.db")
		s.dsn = "sqlite:" + path
		s.db, err = sql.Open("sqlite", "file:"+filepath.Dir(path)+"/app%3fodd%20%23name.db?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	case "postgres":
		s.dsn = testserver.Postgres(t)
		s.db, err = sql.Open("pgx", s.dsn)
	case "mariadb":
		s.dsn = testserver.MariaDB(t)
		s.db, err = sql.Open("mysql", mysqlDSN(t, s.dsn))
	}
	if err != nil {
		t.Fatal(err)
	}
	if system == "sqlite" {
		s.db.SetMaxOpenConns(1) // so that a pragma holds for what follows it
	}
	t.Cleanup(func() { s.db.Close() })
	if err := s.db.Ping(); err != nil {
		t.Fatal(err)
	}
	s.c = s.connect(rows.Options{})
	return s
}

func (s *store) connect(o rows.Options) *rows.Connector {
	s.Helper()
	c, err := rows.Open(context.Background(), s.dsn, o)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	})
	return c
}

func (s *store) connectChunk(n int) *rows.Connector { return s.connect(rows.Options{Chunk: n}) }

// at is the locator of a row of a table in the default schema.
func (s *store) at(table string, key any) connector.Locator {
	return connector.Locator(fmt.Sprintf("%s%s/%v", s.schema(), table, key))
}

// schema is what the connector writes before the name of a table.
func (s *store) schema() string {
	switch s.system {
	case "postgres":
		return "public."
	case "mariadb":
		return s.dsn[strings.Index(s.dsn, "localhost/")+len("localhost/"):strings.Index(s.dsn, "?")] + "."
	}
	return ""
}

// mysqlDSN is the DSN in the form of the driver.
func mysqlDSN(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return "root@unix(" + u.Query().Get("unix_socket") + ")" + u.Path
}

// do runs statements; each list is run on one connection.
func (s *store) do(texts ...string) {
	s.Helper()
	for _, text := range texts {
		if _, err := s.db.Exec(text); err != nil {
			s.Fatalf("%s: %v", text, err)
		}
	}
}

// count runs a query for one number.
func (s *store) count(text string) int {
	s.Helper()
	var n int
	if err := s.db.QueryRow(text).Scan(&n); err != nil {
		s.Fatalf("%s: %v", text, err)
	}
	return n
}

// word runs a query for one text.
func (s *store) word(text string) string {
	s.Helper()
	var w string
	if err := s.db.QueryRow(text).Scan(&w); err != nil {
		s.Fatalf("%s: %v", text, err)
	}
	return w
}

func (s *store) wantCount(text string, want int) {
	s.Helper()
	if got := s.count(text); got != want {
		s.Errorf("%s: got %d, want %d", text, got, want)
	}
}

// stamp is the type of a naive timestamp column.
func (s *store) stamp() string { return stampOf(s.system) }

func stampOf(system string) string {
	return map[string]string{"sqlite": "DATETIME", "postgres": "timestamp", "mariadb": "datetime(6)"}[system]
}

func (s *store) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
	s.Cleanup(cancel)
	return ctx
}

// query is a rule on a table with created_at in UTC.
func query(table string) *connector.Query {
	return &connector.Query{Collection: table, Anchor: connector.Anchor{Column: "created_at", Zone: time.UTC}, Cutoff: cutoff}
}

func (s *store) check(q *connector.Query) []connector.Finding {
	s.Helper()
	fs, err := s.c.Check(s.ctx(), q)
	if err != nil {
		s.Fatalf("Check: %v", err)
	}
	return fs
}

// faults are the faults among the findings, as subject: text.
func faults(fs []connector.Finding) []string {
	var out []string
	for _, f := range fs {
		if f.Severity == connector.Fault {
			out = append(out, f.Subject+": "+f.Text)
		}
	}
	return out
}

func (s *store) scan(q *connector.Query) []connector.Item {
	s.Helper()
	if fs := faults(s.check(q)); len(fs) > 0 {
		s.Fatalf("Check: %v", fs)
	}
	var items []connector.Item
	for it, err := range s.c.Scan(s.ctx(), q, &connector.Survey{}) {
		if err != nil {
			s.Fatalf("Scan: %v", err)
		}
		items = append(items, it)
	}
	return items
}

// reasons spells results.
func reasons(rs []connector.Result) []string {
	var out []string
	for _, r := range rs {
		out = append(out, fmt.Sprintf("%s %s", r.State, r.Reason))
	}
	return out
}

// purge claims and erases all items and returns what the claim said, what was
// erased, and the counts.
func (s *store) purge(q *connector.Query, items []connector.Item) ([]connector.Result, connector.Erased) {
	s.Helper()
	cl, rs := s.c.Claim(s.ctx(), q, items)
	var which []int
	for i, r := range rs {
		if r.State == connector.Present && r.Reason == connector.Eligible {
			which = append(which, i)
		}
	}
	e := cl.Erase(s.ctx(), which)
	for i, r := range e.Results {
		if r.State != connector.Gone || r.Reason != connector.Erasure {
			s.Errorf("Erase of item %d: got %s %s (%v)", which[i], r.State, r.Reason, r.Err)
		}
	}
	if err := cl.Release(); err != nil {
		s.Errorf("Release: %v", err)
	}
	return rs, e
}
