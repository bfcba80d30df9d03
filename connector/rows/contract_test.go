package rows_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/internal/testserver"
)

// plantedAnchors are the anchors of the ages that the suite asks for.
var plantedAnchors = map[connectortest.Age]string{
	connectortest.Due:     "'2026-10-01 10:00:00'",
	connectortest.Young:   "'2026-11-01 12:00:00'", // the cutoff itself
	connectortest.Undated: "NULL",
}

// fixture fits a store with tables for the suite. A row of keeper refuses the
// record it names.
func fixture(s *store) connectortest.Fixture {
	s.do(
		"CREATE TABLE records (id integer PRIMARY KEY, created_at "+s.stamp()+", title varchar(100) NOT NULL, gone boolean, gone_at "+s.stamp()+", stuck boolean, CHECK (gone IS NULL OR stuck IS NULL))",
		"CREATE INDEX records_created_at ON records (created_at)",
		"CREATE TABLE notes (id integer PRIMARY KEY, record_id integer NOT NULL REFERENCES records (id) ON DELETE CASCADE)",
	)
	if s.system == "mariadb" {
		s.do("CREATE TABLE keeper (record_id integer)",
			"CREATE TRIGGER keep BEFORE DELETE ON records FOR EACH ROW IF OLD.id IN (SELECT record_id FROM keeper) THEN SIGNAL SQLSTATE '45000'; END IF")
	} else {
		s.do("CREATE TABLE keeper (record_id integer REFERENCES records (id) ON DELETE SET NULL, CHECK (record_id IS NOT NULL))")
	}
	prefix := s.schema()
	id := func(at connector.Locator) string { return string(at[strings.LastIndexByte(string(at), '/')+1:]) }
	next := 0
	return connectortest.Fixture{
		Connector: s.c,
		Query:     query("records"),
		Plant: func(a connectortest.Age) connector.Locator {
			next++
			s.do(fmt.Sprintf("INSERT INTO records (id, created_at, title) VALUES (%d, %s, 'a title')", next, plantedAnchors[a]),
				fmt.Sprintf("INSERT INTO notes VALUES (%d, %d)", next, next))
			return connector.Locator(fmt.Sprintf("%srecords/%d", prefix, next))
		},
		Absent: connector.Locator(prefix + "records/999999"),
		Has: func(at connector.Locator) bool {
			return s.count("SELECT count(*) FROM records WHERE id = "+id(at)) == 1
		},
		Dump: func() string {
			return s.dump("SELECT * FROM records ORDER BY id") + s.dump("SELECT * FROM notes ORDER BY id") + s.dump("SELECT * FROM keeper")
		},
		Change: func(at connector.Locator) {
			s.do("UPDATE records SET created_at = '2026-12-01 00:00:00' WHERE id = " + id(at))
		},
		Remove: func(at connector.Locator) { s.do("DELETE FROM records WHERE id = " + id(at)) },
		Refuse: func(at connector.Locator) {
			s.do("INSERT INTO keeper VALUES ("+id(at)+")", "UPDATE records SET stuck = true WHERE id = "+id(at))
		},
		Then: then(query("records"), "gone", connector.BoolValue, "true", "gone_at", connector.NowValue, ""),
		IsSet: func(at connector.Locator) bool {
			return s.count("SELECT count(*) FROM records WHERE gone AND gone_at IS NOT NULL AND id = "+id(at)) == 1
		},
	}
}

// then adds settings to a query: column, kind and text of each. An instant is
// in UTC.
func then(q *connector.Query, set ...any) *connector.Query {
	for i := 0; i < len(set); i += 3 {
		v := connector.Value{Kind: set[i+1].(connector.ValueKind), Text: set[i+2].(string)}
		if v.Kind == connector.NowValue {
			v.Zone = time.UTC
		}
		q.Then = append(q.Then, connector.Setting{Column: set[i].(string), Value: v})
	}
	return q
}

func (s *store) dump(query string) string {
	s.Helper()
	rs, err := s.db.Query(query)
	if err != nil {
		s.Fatal(err)
	}
	defer rs.Close()
	cols, _ := rs.Columns()
	var b strings.Builder
	for rs.Next() {
		vals, to := make([]any, len(cols)), make([]any, len(cols))
		for i := range vals {
			to[i] = &vals[i]
		}
		if err := rs.Scan(to...); err != nil {
			s.Fatal(err)
		}
		fmt.Fprintln(&b, vals...)
	}
	return b.String()
}

func TestContractPostgres(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{Locks: true, Refuses: true, NoPrints: true, Sets: true, New: func(t *testing.T) connectortest.Fixture {
		s := open(t, "postgres")
		f := fixture(s)
		admin, err := sql.Open("pgx", testserver.Postgres(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { admin.Close() })
		name := s.word("SELECT current_database()")
		do := func(text string) {
			if _, err := admin.Exec(text); err != nil {
				t.Fatal(err)
			}
		}
		f.Break = func() {
			do("ALTER DATABASE " + name + " ALLOW_CONNECTIONS false")
			do("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '" + name + "'")
		}
		f.Restore = func() {
			do("ALTER DATABASE " + name + " ALLOW_CONNECTIONS true")
			for s.db.Ping() != nil { // the pool's connections were cut too
			}
		}
		return f
	}})
}

func TestContractMariaDB(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{Locks: true, Refuses: true, NoPrints: true, Sets: true, New: func(t *testing.T) connectortest.Fixture {
		s := open(t, "mariadb")
		f := fixture(s)
		p := &plug{}
		s.c.RewireMySQL(s.dsn, p.wrap)
		f.Break, f.Restore = p.pull, p.push
		return f
	}})
}

func TestContractSQLite(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			connectortest.Run(t, connectortest.Harness{Locks: true, Refuses: true, NoPrints: true, Sets: true, New: func(t *testing.T) connectortest.Fixture {
				path := t.TempDir() + "/app.db"
				s := &store{T: t, system: "sqlite", dsn: "sqlite:" + path}
				var err error
				if s.db, err = sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode("+mode+")"); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.db.Close() })
				s.do("CREATE TABLE first (id integer)")
				s.c = s.connect(rows.Options{LockTimeout: soon}) // readers wait while a slow disk flushes
				plug := &plug{}
				s.c.Rewire(path, plug.open)
				f := fixture(s)
				f.Break, f.Restore = plug.pull, plug.push
				return f
			}})
		})
	}
}

func TestClaimOfHeldItemsDoesNotWait(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		// Who waits for the lock waits longer than this test.
		s.c = s.connect(rows.Options{LockTimeout: 4 * soon})
		q := s.recorder(4)
		items := s.scan(q)
		first, _ := s.c.Claim(s.ctx(), q, items[:1])
		defer first.Release()
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		second, rs := s.c.Claim(ctx, q, items[:1])
		defer second.Release()
		if got := reasons(rs)[0]; got != "present IN_USE" {
			s.Errorf("got %s, want present IN_USE", got)
		}
	})
}
