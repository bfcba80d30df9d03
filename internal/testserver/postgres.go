package testserver

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Postgres returns the DSN of a new empty database on a PostgreSQL server that
// the test binary shares. The role is a superuser. The server does not flush
// to disk: see [PostgresDurable].
func Postgres(t testing.TB) string {
	t.Helper()
	return sharedServer(t, "PostgreSQL", func() (*Server, error) {
		return newServer(postgres{}, "postgres")
	}).Database(t)
}

// PostgresDurable is like [Postgres] on a server that flushes each commit, for
// measurements and for tests of durability.
func PostgresDurable(t testing.TB) string {
	t.Helper()
	return sharedServer(t, "durable PostgreSQL", func() (*Server, error) {
		return newServer(postgres{durable: true}, "postgres")
	}).Database(t)
}

// NewPostgres starts a PostgreSQL server of the test's own, which it may stop,
// kill and start. It flushes each commit.
func NewPostgres(t testing.TB) *Server {
	t.Helper()
	s, err := newServer(postgres{durable: true}, "postgres")
	return own(t, s, err)
}

type postgres struct{ durable bool }

// tool finds a program of the newest installed PostgreSQL.
func (postgres) tool(name string) string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	slices.SortFunc(found, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	if len(found) > 0 {
		return found[len(found)-1]
	}
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	return name
}

func (p postgres) install(s *Server) error {
	return s.run(p.tool("initdb"), "--pgdata="+filepath.Join(s.dir, "data"), "--username=postgres",
		"--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
}

func (p postgres) command(s *Server) *exec.Cmd {
	settings := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": s.dir,
		"max_connections":         "200",
		"shared_buffers":          "128MB",
		"timezone":                "Australia/Lord_Howe", // an odd zone, so that a naive conversion shows
		"log_min_messages":        "warning",
		"autovacuum":              "off", // it comes when it likes, and keeps for that moment what a test has vacuumed away
	}
	if !p.durable {
		settings["fsync"] = "off"
		settings["synchronous_commit"] = "off"
		settings["full_page_writes"] = "off"
	}
	args := []string{"-D", filepath.Join(s.dir, "data")}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return exec.Command(p.tool("postgres"), args...)
}

func (p postgres) graceful() os.Signal { return syscall.SIGINT } // "fast" shutdown

func (p postgres) dsn(s *Server, db string) string {
	return "postgres://postgres@/" + db + "?host=" + url.QueryEscape(s.dir)
}

func (p postgres) do(s *Server, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.dsn(s, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

func (p postgres) ping(s *Server) error { return p.do(s, "SELECT 1") }

func (p postgres) create(s *Server, db string) error {
	return p.do(s, fmt.Sprintf("CREATE DATABASE %s TEMPLATE template0", db))
}

func (p postgres) drop(s *Server, db string) error {
	return p.do(s, fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", db))
}
