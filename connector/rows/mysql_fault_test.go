package rows_test

import (
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/internal/testserver"
)

// ownMariaDB is a store on a server that belongs to the test.
func ownMariaDB(t *testing.T) (*store, *testserver.Server) {
	t.Helper()
	server := testserver.NewMariaDB(t)
	return onServer(t, server.Database(t)), server
}

func onServer(t *testing.T, dsn string) *store {
	t.Helper()
	s := &store{T: t, system: "mariadb", dsn: dsn}
	var err error
	if s.db, err = sql.Open("mysql", mysqlDSN(t, s.dsn)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	s.c = s.connect(rows.Options{LockTimeout: time.Second})
	return s
}

// eligible are the places of the items that were claimed.
func eligible(rs []connector.Result) (which []int) {
	for i, r := range rs {
		if r.State == connector.Present && r.Reason == connector.Eligible {
			which = append(which, i)
		}
	}
	return which
}

// finish claims and erases all that is left, and looks at the tables.
func (s *store) finish(q *connector.Query) {
	s.Helper()
	items := s.scan(q)
	if len(items) == 0 {
		s.Error("nothing is left to finish: the fault did not keep anything")
	}
	s.purge(q, items)
	if again := s.scan(q); len(again) != 0 {
		s.Errorf("%d items are left after the rerun", len(again))
	}
	s.wantCount("SELECT count(*) FROM segments AS g LEFT JOIN transcripts AS t ON t.id = g.transcript_id WHERE t.id IS NULL", 0)
}

// The server is restarted, in order or by a power cut, between claim and erase:
// nothing is called gone while it is down, nor after it, and a rerun finishes.
func TestMariaDBRestartsMidBatch(t *testing.T) {
	t.Parallel()
	s, server := ownMariaDB(t)
	q := s.recorder(12)
	for name, end := range map[string]func(testing.TB){"kill": server.Kill, "stop": server.Stop} {
		for _, back := range []bool{false, true} { // before the erasure
			items := s.scan(q)
			cl, rs := s.c.Claim(s.ctx(), q, items)
			if n := len(eligible(rs)); n != len(items) || n == 0 {
				t.Fatalf("%s: claim: %v", name, reasons(rs))
			}
			end(t)
			if back {
				server.Start(t)
			}
			e := cl.Erase(s.ctx(), eligible(rs))
			for _, r := range e.Results {
				if r.State != connector.Unknown || r.Reason != connector.Unreachable {
					t.Errorf("%s, back %v: erase: %v", name, back, reasons(e.Results))
				}
			}
			if e.Rows != nil {
				t.Errorf("%s: rows counted though nothing is known to be gone: %v", name, e.Rows)
			}
			cl.Release() //nolint:errcheck // its connection is dead
			if !back {
				if _, rs := s.c.Claim(s.ctx(), q, items); reasons(rs)[0] != "unknown UNREACHABLE" {
					t.Errorf("%s: claim without a server: %v", name, reasons(rs))
				}
				server.Start(t)
			}
			for s.db.Ping() != nil {
			}
			s.wantCount("SELECT count(*) FROM transcripts", 12)
		}
	}
	s.finish(q)
}

// trxAge is how long the server's list of transactions must not be read before it
// is made anew.
const trxAge = 150 * time.Millisecond

// waiting waits until a transaction waits for a lock, unless it is over.
func (s *store) waiting(over func() bool) {
	s.Helper()
	for deadline := time.Now().Add(soon); s.count("SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'") == 0 && !over(); {
		if time.Now().After(deadline) {
			s.Fatal("nobody waits for a lock")
		}
		time.Sleep(trxAge)
	}
}

// begin opens a transaction of the application's.
func (s *store) begin(texts ...string) *sql.Tx {
	s.Helper()
	tx, err := s.db.Begin()
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { tx.Rollback() }) //nolint:errcheck // it may have ended
	for _, text := range texts {
		if _, err := tx.Exec(text); err != nil {
			s.Fatalf("%s: %v", text, err)
		}
	}
	return tx
}

// A deadlock of which the claim is the victim: it is tried again, what the other
// transaction holds stays for now, and all else goes.
func TestMariaDBDeadlock(t *testing.T) {
	t.Parallel()
	s, _ := ownMariaDB(t)
	q := s.recorder(10)
	items := s.scan(q) // 1, 3, 5, 7, 9
	s.do("CREATE TABLE ballast (id integer PRIMARY KEY)")
	type answer struct {
		cl connector.Claim
		rs []connector.Result
	}
	deadlocks := func() int {
		return s.count("SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_DEADLOCKS'")
	}
	// On a slow machine the claim may have waited for long enough before the other
	// transaction asks for what it holds: then there is none.
	for patience := 3 * time.Second; ; patience *= 3 {
		// InnoDB ends the transaction that changed less.
		tx := s.begin("INSERT INTO ballast SELECT seq FROM seq_1_to_2000", "UPDATE segments SET text = 'x' WHERE transcript_id = 3")
		got := make(chan answer, 1)
		s.c = s.connect(rows.Options{LockTimeout: patience})
		s.scan(q)
		go func() {
			cl, rs := s.c.Claim(s.ctx(), q, items)
			got <- answer{cl, rs}
		}()
		s.waiting(func() bool { return len(got) > 0 }) // for the segment, with the rows of all transcripts locked
		if _, err := tx.Exec("UPDATE transcripts SET title = 'x' WHERE id = 1"); err != nil {
			t.Fatalf("the other transaction was the victim: %v", err)
		}
		a := <-got
		if n := deadlocks(); n == 0 && patience < time.Minute {
			a.cl.Release() //nolint:errcheck // it is tried anew
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			continue
		} else if n != 1 {
			t.Errorf("%d deadlocks, want 1", n)
		}
		want := []string{"present IN_USE", "present IN_USE", "present ELIGIBLE", "present ELIGIBLE", "present ELIGIBLE"}
		if d := cmp.Diff(want, reasons(a.rs)); d != "" {
			t.Errorf("claim (-want +got):\n%s", d)
		}
		e := a.cl.Erase(s.ctx(), eligible(a.rs))
		if d := cmp.Diff([]string{"gone GONE", "gone GONE", "gone GONE"}, reasons(e.Results)); d != "" {
			t.Errorf("erase (-want +got):\n%s", d)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		break
	}
	s.wantCount("SELECT count(*) FROM transcripts WHERE id IN (1, 3)", 2)
	s.finish(q)
}

// A lock that is not given in time keeps the items it concerns, and no other.
func TestMariaDBLockWaitTimeout(t *testing.T) {
	t.Parallel()
	s, _ := ownMariaDB(t)
	q := s.recorder(20)
	items := s.scan(q)
	tx := s.begin("UPDATE segments SET text = 'x' WHERE transcript_id IN (5, 15)")
	rs, _ := s.purge(q, items)
	for i, r := range rs {
		want := "present ELIGIBLE"
		if items[i].ID == "5" || items[i].ID == "15" {
			want = "present IN_USE"
		}
		if got := reasons(rs)[i]; got != want {
			t.Errorf("item %s: got %s, want %s (%v)", items[i].ID, got, want, r.Err)
		}
	}
	s.wantCount("SELECT count(*) FROM transcripts WHERE id % 2 = 1", 2)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	s.finish(q)
}

// A server that became read-only, before a batch or in its midst, denies it.
func TestMariaDBReadOnly(t *testing.T) {
	t.Parallel()
	s, server := ownMariaDB(t)
	q := s.recorder(6)
	// A user that read_only binds; root is above it.
	s.do("CREATE USER purger@localhost IDENTIFIED BY 'p'", "GRANT SELECT, UPDATE, DELETE ON *.* TO purger@localhost")
	s.dsn = strings.Replace(s.dsn, "root@", "purger:p@", 1)
	s.c = s.connect(rows.Options{LockTimeout: time.Second})
	items := s.scan(q)

	cl, rs := s.c.Claim(s.ctx(), q, items)
	s.do("SET GLOBAL read_only = 1")
	e := cl.Erase(s.ctx(), eligible(rs))
	if d := cmp.Diff([]string{"present NO_PERMISSION", "present NO_PERMISSION", "present NO_PERMISSION"}, reasons(e.Results)); d != "" {
		t.Errorf("erase on a server that became read-only (-want +got):\n%s", d)
	}
	_, rs = s.c.Claim(s.ctx(), q, items)
	if d := cmp.Diff([]string{"unknown NO_PERMISSION", "unknown NO_PERMISSION", "unknown NO_PERMISSION"}, reasons(rs)); d != "" {
		t.Errorf("claim on a read-only server (-want +got):\n%s", d)
	}
	s.wantCount("SELECT count(*) FROM transcripts", 6)
	s.do("SET GLOBAL read_only = 0")
	s.finish(q)
	_ = server
}

// The claim's session is killed: between claim and erase, in the midst of a
// statement, or only its statement.
func TestMariaDBConnectionKilled(t *testing.T) {
	t.Parallel()
	s, _ := ownMariaDB(t)
	q := s.recorder(8)
	session := func() int {
		s.Helper()
		return s.count("SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_rows_modified > 0 ORDER BY trx_started DESC LIMIT 1")
	}
	items := s.scan(q)
	cl, rs := s.c.Claim(s.ctx(), q, items)
	s.do(fmt.Sprintf("KILL CONNECTION %d", session()))
	for _, r := range cl.Erase(s.ctx(), eligible(rs)).Results {
		if r.State != connector.Unknown || r.Reason != connector.Unreachable {
			t.Errorf("erase on a killed connection: %s %s (%v)", r.State, r.Reason, r.Err)
		}
	}
	for _, how := range []string{"KILL CONNECTION", "KILL QUERY"} {
		tx := s.begin("UPDATE segments SET text = 'x' WHERE transcript_id = 3")
		s.c = s.connect(rows.Options{LockTimeout: soon})
		s.scan(q)
		got := make(chan []connector.Result, 1)
		go func() {
			_, rs := s.c.Claim(s.ctx(), q, items)
			got <- rs
		}()
		s.waiting(func() bool { return false })
		for deadline := time.Now().Add(soon); ; {
			// What the server lists may be old.
			n := s.count("SELECT max(trx_mysql_thread_id) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
			if _, err := s.db.Exec(fmt.Sprintf("%s %d", how, n)); err == nil {
				break
			} else if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(trxAge)
		}
		for _, r := range <-got {
			if r.State != connector.Unknown || r.Reason != connector.Unreachable {
				t.Errorf("%s in a claim: %s %s (%v)", how, r.State, r.Reason, r.Err)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		s.wantCount("SELECT count(*) FROM transcripts", 8)
	}
	s.finish(q)
}

// A statement that runs too long is ended, and its batch split: what is slow
// stays alone.
func TestSlowStatementIsEnded(t *testing.T) {
	t.Parallel()
	for _, system := range []string{"postgres", "mariadb"} {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			s := open(t, system)
			q := s.recorder(16)
			items := s.scan(q)
			if system == "postgres" {
				s.do("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 5 THEN PERFORM pg_sleep(3600); END IF; RETURN OLD; END $$",
					"CREATE TRIGGER slow BEFORE DELETE ON transcripts FOR EACH ROW EXECUTE FUNCTION slow()")
			} else {
				s.do("CREATE TRIGGER slow BEFORE DELETE ON transcripts FOR EACH ROW IF OLD.id = 5 THEN DO SLEEP(3600); END IF")
			}
			s.c = s.connect(rows.Options{StatementTimeout: time.Second})
			s.scan(q)
			// On a machine that stands still for a second another one may be slow too, and
			// is so no longer when it is its turn again.
			for try := 1; try == 1 || len(items) > 1; try++ {
				start := time.Now()
				rs, _ := s.purge(q, items)
				for i, r := range rs {
					got := reasons(rs)[i]
					slow := got == "present UNREACHABLE"
					if own := items[i].ID == "5"; own && !slow || !own && got != "present ELIGIBLE" && (!slow || try == 5) {
						t.Errorf("item %s: got %s (%v)", items[i].ID, got, r.Err)
					}
				}
				if took := time.Since(start); took > soon {
					t.Errorf("took %v", took)
				}
				if items = s.scan(q); try == 5 {
					break
				}
			}
			s.wantCount("SELECT count(*) FROM transcripts WHERE id % 2 = 1", 1)
			s.do("DROP TRIGGER slow" + map[string]string{"postgres": " ON transcripts"}[system])
			s.finish(q)
		})
	}
}

// What the server is sent, by its own log: foreign keys are never switched off,
// nothing is locked as a whole, and rows are walked by key, not by OFFSET.
func TestMariaDBStatements(t *testing.T) {
	t.Parallel()
	server := testserver.NewMariaDB(t)
	first := onServer(t, server.Database(t))
	first.do("SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1")
	for _, c := range graphCases(stampOf("mariadb")) {
		runGraphCase(onServer(t, server.Database(t)), c)
	}
	s := onServer(t, server.Database(t))
	q := s.recorder(40)
	s.c = s.connectChunk(3)
	items := s.scan(q)
	if len(items) != 20 {
		t.Fatalf("%d items in chunks of three, want 20", len(items))
	}
	cl, rs := s.c.Claim(s.ctx(), q, items)
	cl.Erase(s.ctx(), eligible(rs)[:7]) // a part of what was claimed
	s.c.Probe(s.ctx(), []connector.Locator{items[0].Locator, items[19].Locator})
	s.finish(q)
	first.do("SET GLOBAL general_log = 0")

	// The application of the test has its own connections; ours say who they are
	// by what they set first.
	sent := first.texts(`SELECT convert(argument USING utf8mb4) FROM mysql.general_log WHERE command_type IN ('Query', 'Prepare', 'Execute') AND thread_id IN
		(SELECT thread_id FROM mysql.general_log WHERE argument LIKE 'SET %foreign_key_checks%')`)
	count := func(pattern string) int {
		re := regexp.MustCompile("(?is)" + pattern)
		return len(slices.DeleteFunc(slices.Clone(sent), func(text string) bool { return !re.MatchString(text) }))
	}
	for _, seen := range []string{`^DELETE `, `FOR UPDATE SKIP LOCKED`, `^START TRANSACTION READ WRITE`, `^SAVEPOINT`, `^COMMIT`, ` LIMIT 3$`, `foreign_key_checks *= *1`, `^SELECT .* BETWEEN \d+ AND \d+$`} {
		if count(seen) == 0 {
			t.Errorf("the log holds no statement like %q, so that it proves nothing", seen)
		}
	}
	if on, any := count(`foreign_key_checks *= *1`), count(`foreign_key_checks`); on != any {
		t.Errorf("%d of %d statements about foreign_key_checks set it to 1: every one must", on, any)
	}
	for _, locks := range []string{`^DELETE .*`, `^SELECT .*FOR UPDATE`} {
		if by, any := count(strings.Replace(locks, ".*", ".* FORCE INDEX \\(PRIMARY\\) .*", 1)), count(locks); by != any {
			t.Errorf("%d of %d statements like %q find the rows that they lock by the primary key: every one must", by, any, locks)
		}
	}
	// What only one of MariaDB and MySQL knows stands in a comment that the other passes over.
	only := regexp.MustCompile(`/\*(M!|!5)[^*]*\*/`)
	for i := range sent {
		sent[i] = only.ReplaceAllString(sent[i], "")
	}
	for _, never := range []string{`max_statement_time`, `max_execution_time`, `^(DELETE|UPDATE|SELECT .*FOR UPDATE).* BETWEEN `, `^SELECT .* BETWEEN .*FOR UPDATE`, `\bRETURNING\b`, `SET +STATEMENT`, `unique_checks`, `\bOFFSET\b`, `LIMIT \d+ *,`, `^ *LOCK `, `FLUSH `, `^ *SET +GLOBAL`, `sql_log_bin`, `TRUNCATE`, `\bDROP\b`, `\bALTER\b`} {
		if n := count(never); n > 0 {
			t.Errorf("%d statements like %q", n, never)
		}
	}
}

// texts runs a query for a column of text.
func (s *store) texts(query string) (out []string) {
	s.Helper()
	rs, err := s.db.Query(query)
	if err != nil {
		s.Fatal(err)
	}
	defer rs.Close()
	for rs.Next() {
		var text string
		if err := rs.Scan(&text); err != nil {
			s.Fatal(err)
		}
		out = append(out, text)
	}
	return out
}
