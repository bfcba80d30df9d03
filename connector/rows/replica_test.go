package rows_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/internal/testserver"
)

// replica opens a copy of the store's database.
func (s *store) replica(dsn string) *rows.Replica {
	s.Helper()
	r, err := s.c.Replica(dsn)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { r.Close() })
	return r
}

// lag asks once.
func (s *store) lag(r *rows.Replica) time.Duration {
	s.Helper()
	d, err := r.Lag(s.ctx())
	if err != nil {
		s.Fatalf("lag: %v", err)
	}
	return d
}

// until asks until the answer is what is wanted.
func (s *store) until(what string, r *rows.Replica, want func(time.Duration, error) bool) {
	s.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		d, err := r.Lag(s.ctx())
		if want(d, err) {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("%s: still %v behind, error %v", what, d, err)
		}
	}
}

func caughtUp(d time.Duration, err error) bool { return err == nil && d == 0 }

// says reports an answer of the server's that leaves the lag unknown.
func says(text string) func(time.Duration, error) bool {
	return func(_ time.Duration, err error) bool {
		var known *rows.ReplicaError
		return errors.As(err, &known) && strings.Contains(known.Text, text) && known.Hint != ""
	}
}

func silent(_ time.Duration, err error) bool {
	var known *rows.ReplicaError
	return err != nil && !errors.As(err, &known)
}

func TestReplicaOfPostgres(t *testing.T) {
	t.Parallel()
	primary := testserver.NewPostgres(t)
	s := &store{T: t, system: "postgres", dsn: primary.Database(t)}
	var err error
	if s.db, err = sql.Open("pgx", s.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	s.c = s.connect(rows.Options{})
	s.do("CREATE TABLE t (id integer)")
	standby := testserver.NewPostgresStandby(t, primary)
	there, err := sql.Open("pgx", standby.On(s.dsn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	on := func(text string) {
		t.Helper()
		if _, err := there.Exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	r := s.replica(standby.On(s.dsn))
	s.until("at first", r, caughtUp)
	s.do("INSERT INTO t VALUES (0)") // a standby that has replayed no commit cannot say how old its last one is
	s.until("after a commit", r, caughtUp)

	// An idle database has no lag, however old its last commit is.
	time.Sleep(1500 * time.Millisecond)
	s.until("an idle database", r, caughtUp) // but for what it writes of its own
	// Of what was written just now the replica is not behind by the idle time.
	asked := time.Now()
	s.until("idle", r, caughtUp)
	on("SELECT pg_wal_replay_pause()")
	for state := ""; state != "paused"; time.Sleep(time.Millisecond) {
		if err := there.QueryRow("SELECT pg_get_wal_replay_pause_state()").Scan(&state); err != nil {
			t.Fatal(err)
		}
	}
	s.do("INSERT INTO t VALUES (1)")
	if d := s.lag(r); d <= 0 || d > time.Since(asked) {
		t.Errorf("behind by one commit of now: %v, want more than nothing and at most %v", d, time.Since(asked))
	}
	// It grows as long as nothing is replayed, also for one that is asked for the first time.
	fresh := s.replica(standby.On(s.dsn))
	for _, r := range []*rows.Replica{r, fresh} {
		s.until("paused", r, func(d time.Duration, err error) bool { return err == nil && d > 2*time.Second })
	}
	on("SELECT pg_wal_replay_resume()")
	s.until("resumed", r, caughtUp)
	s.until("resumed", fresh, caughtUp)

	// The primary away: it is not known where it is. Then the standby.
	primary.Stop(t)
	s.until("without the database", r, silent)
	primary.Start(t)
	s.until("the database is back", r, caughtUp)
	standby.Kill(t)
	s.until("without the replica", r, silent)
	standby.Start(t)
	s.until("the replica is back", r, caughtUp)

	// What is no standby of this database.
	s.until("the database itself", s.replica(s.dsn), says("not in recovery"))
	other := open(t, "postgres")
	other.until("another server's", other.replica(standby.On(s.dsn)), says("of another server"))
	on("SELECT pg_promote()")
	s.until("promoted", r, says("not in recovery"))
}

func TestReplicaOfMariaDB(t *testing.T) {
	t.Parallel()
	source, replica := testserver.NewMariaDBPair(t)
	s := onServer(t, source.Database(t))
	s.do("CREATE TABLE t (id integer PRIMARY KEY)")
	there := &store{T: t, system: "mariadb", dsn: replica.On(s.dsn)}
	var err error
	if there.db, err = sql.Open("mysql", mysqlDSN(t, there.dsn)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.db.Close() })
	r := s.replica(there.dsn)
	s.until("at first", r, caughtUp)

	// What it has received and may not apply makes it fall behind.
	conn, err := there.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	on := func(text string) {
		t.Helper()
		if _, err := conn.ExecContext(context.Background(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	on("FLUSH TABLES WITH READ LOCK")
	s.do("INSERT INTO t VALUES (1)")
	s.until("held", r, func(d time.Duration, err error) bool { return err == nil && d >= 2*time.Second })
	on("UNLOCK TABLES")
	s.until("let go", r, caughtUp)

	// NULL is not nought: what does not follow is not known.
	on("STOP SLAVE SQL_THREAD")
	s.until("not applying", r, says("SQL thread has stopped"))
	on("START SLAVE SQL_THREAD")
	s.until("applying", r, caughtUp)
	on("STOP SLAVE IO_THREAD")
	s.until("not receiving", r, says("not connected to its source"))
	on("START SLAVE IO_THREAD")
	s.until("receiving", r, caughtUp)
	source.Stop(t)
	s.until("without its source", r, says("not connected to its source"))
	source.Start(t)
	s.until("the source is back", r, caughtUp)

	s.until("the source itself", s.replica(s.dsn), says("follows no other"))
	there.do("CREATE USER watcher@localhost IDENTIFIED BY 'w'", "GRANT SELECT ON *.* TO watcher@localhost")
	watcher := s.replica(strings.Replace(there.dsn, "root@", "watcher:w@", 1))
	s.until("without the right to ask", watcher, says("may not ask"))
	there.do("GRANT REPLICA MONITOR ON *.* TO watcher@localhost")
	watcher = s.replica(strings.Replace(there.dsn, "root@", "watcher:w@", 1))
	s.until("with it", watcher, caughtUp)

	// A replica is read-only, and no purge of it is reported.
	s.do("CREATE TABLE old (id integer PRIMARY KEY, created_at datetime)", "INSERT INTO old VALUES (1, "+due+")")
	// It counts what it has received, so that it may be up to date without this.
	for end, n := time.Now().Add(soon), 0; n != 1; time.Sleep(50 * time.Millisecond) {
		err := there.db.QueryRow("SELECT count(*) FROM old").Scan(&n)
		if time.Now().After(end) {
			t.Fatalf("the replica has %d rows, want 1: %v", n, err)
		}
	}
	s.until("with what is due", r, caughtUp)
	there.do("GRANT DELETE, UPDATE ON *.* TO watcher@localhost")
	there.dsn = strings.Replace(there.dsn, "root@", "watcher:w@", 1)
	there.c = there.connect(rows.Options{})
	q := query("old")
	if _, rs := there.c.Claim(there.ctx(), q, there.scan(q)); len(rs) != 1 || reasons(rs)[0] != "unknown NO_PERMISSION" {
		t.Errorf("claim on a read-only replica: %v", reasons(rs))
	}
	s.wantCount("SELECT count(*) FROM old", 1)
	if err := there.c.Close(); err != nil {
		t.Error(err)
	}

	replica.Kill(t)
	s.until("without the replica", r, silent)
}

// A replica that cannot be one is refused, and its password not repeated.
func TestReplicaAddress(t *testing.T) {
	t.Parallel()
	for dsn, others := range map[string][]string{
		"sqlite:app.db":            {"sqlite:copy.db", "postgres://h/d", "mysql://h/d"},
		"postgres://u:geheim@h/d":  {"mysql://u:geheim@h/d", "sqlite:x.db", "", "redis://geheim"},
		"mysql://root:geheim@h/d":  {"postgres://u:geheim@h/d", "copy.db", "mysql://u:geheim@h"},
		"mariadb://r:geheim@h:1/d": {"postgres://h/d"},
	} {
		c, err := rows.Open(t.Context(), dsn, rows.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range others {
			if r, err := c.Replica(other); err == nil {
				t.Errorf("%s: %s was taken for its replica", dsn, other)
				r.Close()
			} else if strings.Contains(err.Error(), "geheim") {
				t.Errorf("the error repeats the password: %v", err)
			}
		}
	}
}
