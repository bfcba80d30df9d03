package testserver_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/epitaph/epitaph/internal/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }

func connect(t *testing.T, dsn string) (*pgx.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return pgx.Connect(ctx, dsn)
}

func do(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := connect(t, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatal(err)
	}
}

func one(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := connect(t, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var got string
	if err := conn.QueryRow(context.Background(), sql).Scan(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPostgresDatabasesAreFreshAndApart(t *testing.T) {
	t.Parallel()
	a, b := testserver.Postgres(t), testserver.Postgres(t)
	if a == b {
		t.Fatalf("two calls gave the same database %q", a)
	}
	do(t, a, "CREATE TABLE t (id int)")
	if got := one(t, b, "SELECT count(*)::text FROM pg_tables WHERE tablename = 't'"); got != "0" {
		t.Errorf("tables named t in the other database: got %s, want 0", got)
	}
	if got := one(t, testserver.PostgresDurable(t), "SHOW fsync"); got != "on" {
		t.Errorf("fsync of the durable server: got %s, want on", got)
	}
}

func TestPostgresOwnServerStopsAndStarts(t *testing.T) {
	t.Parallel()
	s := testserver.NewPostgres(t)
	dsn := s.Database(t)
	do(t, dsn, "CREATE TABLE kept AS SELECT 'still here' AS v")
	s.Kill(t)
	if conn, err := connect(t, dsn); err == nil {
		conn.Close(context.Background())
		t.Fatal("a killed server still answers")
	}
	s.Start(t)
	if got := one(t, dsn, "SELECT v FROM kept"); got != "still here" {
		t.Errorf("after kill and start: got %q", got)
	}
	s.Stop(t)
	if conn, err := connect(t, dsn); err == nil {
		conn.Close(context.Background())
		t.Fatal("a stopped server still answers")
	}
}

func TestMariaDBStopsAndStarts(t *testing.T) {
	t.Parallel()
	s := testserver.NewMariaDB(t)
	dsn := s.Database(t)
	if dsn == testserver.MariaDB(t) {
		t.Fatal("two servers gave the same database")
	}
	s.Kill(t)
	s.Start(t)
	s.Stop(t)
}
