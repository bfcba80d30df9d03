package testserver

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// NewPostgresStandby starts a PostgreSQL server that replays what the primary
// writes, from a copy of it: streaming replication over the primary's socket.
// The primary is one of [NewPostgres].
func NewPostgresStandby(t testing.TB, primary *Server) *Server {
	t.Helper()
	if _, ok := primary.kind.(postgres); !ok {
		t.Fatal("not a PostgreSQL server")
	}
	s, err := newServer(standby{postgres{durable: true}, primary}, "postgres")
	return own(t, s, err)
}

type standby struct {
	postgres
	primary *Server
}

func (p standby) install(s *Server) error {
	return s.run(p.tool("pg_basebackup"), "--pgdata="+filepath.Join(s.dir, "data"), "--host="+p.primary.dir, "--username=postgres",
		"--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync")
}

// NewMariaDBPair starts two MariaDB servers: a source, and a replica of it that
// only root can write to. The source listens on the loopback for the replica,
// whose password is random; root is let in by its socket alone.
func NewMariaDBPair(t testing.TB) (source, replica *Server) {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	kind := mariaDB{durable: true, port: port}
	s, err := newServer(kind, "mysql")
	source = own(t, s, err)
	password := rand.Text()
	for _, text := range []string{
		"DELETE FROM mysql.global_priv WHERE user = 'root' AND host <> 'localhost'", "FLUSH PRIVILEGES",
		"CREATE USER replica@'127.0.0.1' IDENTIFIED BY '" + password + "'", "GRANT REPLICATION SLAVE ON *.* TO replica@'127.0.0.1'",
	} {
		if err := kind.do(source, text); err != nil {
			t.Fatal(err)
		}
	}
	copied := mariaDB{replica: true}
	s, err = newServer(copied, "mysql")
	replica = own(t, s, err)
	for _, text := range []string{
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = 'replica', MASTER_PASSWORD = '%s', "+
			"MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1", port, password),
		"START SLAVE",
	} {
		if err := copied.do(replica, text); err != nil {
			t.Fatal(err)
		}
	}
	return source, replica
}

// On returns the DSN, on this server, of the database that another DSN names on
// another server of its kind: on a replica, that of the copy.
func (s *Server) On(dsn string) string {
	name := dsn
	if u, err := url.Parse(dsn); err == nil {
		name = strings.TrimPrefix(u.Path, "/")
	}
	return s.kind.dsn(s, name)
}
