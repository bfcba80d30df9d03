package testserver

import (
	"context"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// MariaDB returns the DSN, as mysql://root@localhost/NAME?unix_socket=PATH, of
// a new empty database on a MariaDB server that the test binary shares. The
// server does not flush to disk at each commit: see [NewMariaDB].
func MariaDB(t testing.TB) string {
	t.Helper()
	return sharedServer(t, "MariaDB", func() (*Server, error) { return newServer(mariaDB{}, "mysql") }).Database(t)
}

// MariaDBDurable is like [MariaDB] on a server that flushes each commit.
func MariaDBDurable(t testing.TB) string {
	t.Helper()
	return sharedServer(t, "durable MariaDB", func() (*Server, error) { return newServer(mariaDB{durable: true}, "mysql") }).Database(t)
}

// NewMariaDB starts a MariaDB server of the test's own, which it may stop, kill
// and start. It flushes each commit.
func NewMariaDB(t testing.TB) *Server {
	t.Helper()
	s, err := newServer(mariaDB{durable: true}, "mysql")
	return own(t, s, err)
}

type mariaDB struct {
	durable bool
	// port is where a source of replication listens, on the loopback alone; 0
	// for a server that is reached by its socket only.
	port int
	// replica makes a server that others but root cannot write to.
	replica bool
}

func (mariaDB) socket(s *Server) string { return filepath.Join(s.dir, "socket") }

func (m mariaDB) install(s *Server) error {
	return s.run("mariadb-install-db", "--no-defaults", "--datadir="+filepath.Join(s.dir, "data"),
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-log-bin")
}

func (m mariaDB) command(s *Server) *exec.Cmd {
	name := "mariadbd"
	if _, err := exec.LookPath(name); err != nil {
		name = "/usr/sbin/mariadbd"
	}
	flush := "--innodb-flush-log-at-trx-commit=0"
	if m.durable {
		flush = "--innodb-flush-log-at-trx-commit=1"
	}
	role := []string{"--skip-networking", "--skip-log-bin"}
	switch {
	case m.port != 0:
		role = []string{"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(m.port), "--skip-name-resolve", "--log-bin=bin", "--server-id=1"}
	case m.replica:
		role = append(role, "--server-id=2", "--read-only=1", "--relay-log=relay")
	}
	// A server that starts deletes the temporary tables of all others in its tmpdir.
	return exec.Command(name, append([]string{"--no-defaults", "--datadir=" + filepath.Join(s.dir, "data"), "--tmpdir=" + s.dir, "--socket=" + m.socket(s),
		"--pid-file=" + filepath.Join(s.dir, "pid"), "--innodb-buffer-pool-size=128M",
		"--innodb-fast-shutdown=2", "--character-set-server=utf8mb4", "--default-time-zone=+10:30", flush}, role...)...)
}

func (mariaDB) graceful() os.Signal { return syscall.SIGTERM }

func (m mariaDB) dsn(s *Server, db string) string {
	return "mysql://root@localhost/" + db + "?unix_socket=" + m.socket(s)
}

func (m mariaDB) do(s *Server, text string) error {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.Logger = "root", "unix", m.socket(s), &mysql.NopLogger{}
	conn, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(conn)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = db.ExecContext(ctx, text)
	return err
}

func (m mariaDB) ping(s *Server) error              { return m.do(s, "SELECT 1") }
func (m mariaDB) create(s *Server, db string) error { return m.do(s, "CREATE DATABASE "+db) }
func (m mariaDB) drop(s *Server, db string) error   { return m.do(s, "DROP DATABASE IF EXISTS "+db) }
