package rows_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/internal/testserver"
)

// blobs is a table whose rows may name the same blob.
func (s *store) blobs(names ...string) *connector.Query {
	s.do("CREATE TABLE blobs (id integer PRIMARY KEY, created_at "+s.stamp()+", name varchar(50))", "CREATE INDEX blobs_name ON blobs (name)", "CREATE INDEX blobs_at ON blobs (created_at)")
	for i, n := range names {
		s.do(fmt.Sprintf("INSERT INTO blobs VALUES (%d, %s, '%s')", i+1, due, n))
	}
	q := query("blobs")
	q.Wants = []connector.Want{{Refs: []connector.Ref{{Column: "name"}}}}
	return q
}

func isKept(r connector.Result) bool { return r.Kept != nil && r.Kept[0][0] }

// Of two records that die together in two claims, the blob they share must go
// with exactly one: kept by both it would be an orphan for ever.
func TestSharedBlobGoesWithTheLastOfTwoClaims(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.c = s.connect(rows.Options{LockTimeout: soon}) // one waits for the other
		for range 20 {
			s.do("DROP TABLE IF EXISTS blobs")
			q := s.blobs("same", "same")
			items := s.scan(q)
			var mu sync.Mutex
			var taken int
			var wg sync.WaitGroup
			start := make(chan struct{})
			for _, it := range items {
				wg.Go(func() {
					<-start
					cl, rs := s.c.Claim(s.ctx(), q, []connector.Item{it})
					defer cl.Release()
					if reasons(rs)[0] != "present ELIGIBLE" {
						s.Errorf("claim: %v %v", reasons(rs), rs[0].Err)
						return
					}
					if !isKept(rs[0]) {
						mu.Lock()
						taken++
						mu.Unlock()
					}
					if e := cl.Erase(s.ctx(), []int{0}); e.Results[0].State != connector.Gone {
						s.Errorf("erase: %v", reasons(e.Results))
					}
				})
			}
			close(start)
			wg.Wait()
			if taken != 1 {
				s.Fatalf("the blob went with %d of 2 records, want 1", taken)
			}
		}
	})
}

// The one that kept the blob for the other's sake must not go alone when the
// other turns out to have stayed or gone meanwhile.
func TestSubsetLooksAgainAtWhatItKept(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres")
	s.c = s.connect(rows.Options{LockTimeout: soon})
	q := s.blobs("same", "other", "same")
	items := s.scan(q)
	first, rs := s.c.Claim(s.ctx(), q, items[:2])
	if !isKept(rs[0]) {
		t.Fatalf("the first claim does not see the third record: %v", rs[0])
	}
	got := make(chan connector.Result, 1)
	go func() {
		second, rs := s.c.Claim(s.ctx(), q, items[2:])
		second.Erase(s.ctx(), []int{0})
		second.Release()
		got <- rs[0]
	}()
	s.waitForLock()
	e := first.Erase(s.ctx(), []int{0}) // undoes the rehearsal, and with it the lock on the name
	first.Release()
	r := <-got
	one, two := e.Results[0].State == connector.Gone && isKept(rs[0]), isKept(r)
	if one && two {
		t.Errorf("both records went and both kept the blob")
	}
	if e.Results[0].State != connector.Gone {
		s.wantCount("SELECT count(*) FROM blobs WHERE id = 1", 1)
	}
}

// waitForLock waits until a session waits for an advisory lock.
func (s *store) waitForLock() {
	s.Helper()
	for deadline := time.Now().Add(soon); s.count("SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()") == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatal("nobody waits for the lock on the name")
		}
	}
}

func TestClaimTakesBlobOnlyWhenBothGo(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		q := s.blobs("same", "same", "same", "own")
		s.do("UPDATE blobs SET created_at = " + young + " WHERE id = 3")
		items := s.scan(q)
		cl, rs := s.c.Claim(s.ctx(), q, items)
		if d := cmp.Diff([]bool{true, true, false}, []bool{isKept(rs[0]), isKept(rs[1]), isKept(rs[2])}); d != "" {
			s.Errorf("kept (-want +got):\n%s", d)
		}
		cl.Release()
		s.do("DELETE FROM blobs WHERE id = 3")
		cl, rs = s.c.Claim(s.ctx(), q, items)
		if isKept(rs[0]) || isKept(rs[1]) {
			s.Error("a blob is kept though both records that name it die in this claim")
		}
		cl.Release()
	})
}

func TestLockedRowsAreInUse(t *testing.T) {
	t.Parallel()
	for _, system := range []string{"postgres", "mariadb"} {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			s := open(t, system)
			q := s.recorder(6)
			items := s.scan(q)
			tx, err := s.db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback() //nolint:errcheck
			for _, text := range []string{"UPDATE transcripts SET title = 'x' WHERE id = 3", "UPDATE segments SET text = 'x' WHERE transcript_id = 5"} {
				if _, err := tx.Exec(text); err != nil {
					t.Fatal(err)
				}
			}
			s.c = s.connect(rows.Options{LockTimeout: time.Second})
			s.scan(q)
			rs, _ := s.purge(q, append(items, connector.Item{Locator: s.at("transcripts", 99)}))
			if d := cmp.Diff([]string{"present ELIGIBLE", "present IN_USE", "present IN_USE", "gone MISSING"}, reasons(rs)); d != "" {
				t.Errorf("claim (-want +got):\n%s", d)
			}
		})
	}
}

// A trigger that keeps the row, on any level, refuses the item before any of
// its parts is touched.
func TestTriggersThatKeepRows(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		for _, table := range []string{"transcripts", "segments"} {
			key := map[string]string{"transcripts": "id", "segments": "transcript_id"}[table]
			s.do("DROP TABLE IF EXISTS segments", "DROP TABLE IF EXISTS audio_assets", "DROP TABLE IF EXISTS transcripts", "DROP TABLE IF EXISTS project_files", "DROP TABLE IF EXISTS projects")
			q := s.recorder(8)
			if s.system == "sqlite" {
				s.do("CREATE TRIGGER keep BEFORE DELETE ON " + table + " WHEN OLD." + key + " = 3 BEGIN SELECT RAISE(IGNORE); END")
			} else if s.system == "mariadb" {
				s.do("CREATE TRIGGER keep BEFORE DELETE ON " + table + " FOR EACH ROW IF OLD." + key + " = 3 THEN SIGNAL SQLSTATE '45000'; END IF")
			} else {
				s.do("CREATE OR REPLACE FUNCTION keep_"+table+"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD."+key+" = 3 THEN RETURN NULL; END IF; RETURN OLD; END $$",
					"CREATE TRIGGER keep BEFORE DELETE ON "+table+" FOR EACH ROW EXECUTE FUNCTION keep_"+table+"()")
			}
			rs, _ := s.purge(q, s.scan(q))
			if d := cmp.Diff([]string{"present ELIGIBLE", "present REFUSED", "present ELIGIBLE", "present ELIGIBLE"}, reasons(rs)); d != "" {
				s.Errorf("trigger on %s: claim (-want +got):\n%s", table, d)
			}
			s.wantCount("SELECT count(*) FROM transcripts WHERE id IN (1, 3, 5, 7)", 1)
			s.wantCount("SELECT count(*) FROM segments WHERE transcript_id = 3", 2)
		}
	})
}

func TestRoleWithoutDelete(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres")
	q := s.recorder(4)
	role := "reader_" + s.word("SELECT current_database()")
	s.do("CREATE ROLE "+role+" LOGIN", "GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO "+role)
	t.Cleanup(func() { s.do("DROP OWNED BY "+role, "DROP ROLE "+role) })
	s.dsn = strings.Replace(s.dsn, "postgres@", role+"@", 1)
	s.c = s.connect(rows.Options{})
	items := s.scan(q)
	warned := false
	for _, f := range s.check(q) {
		warned = warned || f.Severity == connector.Warning && strings.Contains(f.Text, "may not delete from")
	}
	if !warned {
		t.Error("Check does not warn that the role may not delete")
	}
	rs, _ := s.purge(q, items)
	if d := cmp.Diff([]string{"present NO_PERMISSION", "present NO_PERMISSION"}, reasons(rs)); d != "" {
		t.Errorf("claim (-want +got):\n%s", d)
	}
	s.wantCount("SELECT count(*) FROM transcripts", 4)
}

// PostgreSQL lets nobody lock a row who may not update it. A role that may only
// read and delete is told so before the first night, and one column is enough.
func TestRoleThatMayNotLock(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres")
	q := s.recorder(4)
	role := "deleter_" + s.word("SELECT current_database()")
	s.do("CREATE ROLE "+role+" LOGIN", "GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA public TO "+role)
	t.Cleanup(func() { s.do("DROP OWNED BY "+role, "DROP ROLE "+role) })
	s.dsn = strings.Replace(s.dsn, "postgres@", role+"@", 1)
	s.c = s.connect(rows.Options{})
	items := s.scan(q)
	said := func() (hint string) {
		for _, f := range s.check(q) {
			if f.Severity == connector.Warning && strings.Contains(f.Text, "may not lock rows of public.transcripts") {
				hint = f.Hint
			}
		}
		return hint
	}
	grant, _, ok := strings.Cut(said(), " TO ")
	if !ok || !strings.HasPrefix(grant, "GRANT UPDATE (") {
		t.Fatalf("Check does not say what to grant: %q, %+v", grant, s.check(q))
	}
	rs, _ := s.purge(q, items)
	if d := cmp.Diff([]string{"unknown NO_PERMISSION", "unknown NO_PERMISSION"}, reasons(rs)); d != "" {
		t.Errorf("claim (-want +got):\n%s", d)
	}
	s.wantCount("SELECT count(*) FROM transcripts", 4)
	s.do(grant + " TO " + role)
	if hint := said(); hint != "" {
		t.Errorf("Check still warns after %s: %s", grant, hint)
	}
	rs, _ = s.purge(q, items)
	if d := cmp.Diff([]string{"present ELIGIBLE", "present ELIGIBLE"}, reasons(rs)); d != "" {
		t.Errorf("claim with the right to lock (-want +got):\n%s", d)
	}
	s.wantCount("SELECT count(*) FROM transcripts", 2)
}

// MariaDB asks for no more than the pages tell: to select and to delete.
func TestRoleThatMayDeleteOnMariaDB(t *testing.T) {
	t.Parallel()
	s := open(t, "mariadb")
	q := s.recorder(4)
	user := "deleter_" + s.word("SELECT LEFT(MD5(DATABASE()), 12)")
	s.do("CREATE USER "+user+"@localhost IDENTIFIED BY 'p'", "GRANT SELECT, DELETE ON "+s.word("SELECT DATABASE()")+".* TO "+user+"@localhost")
	t.Cleanup(func() { s.do("DROP USER " + user + "@localhost") })
	s.dsn = strings.Replace(s.dsn, "root@", user+":p@", 1)
	s.c = s.connect(rows.Options{})
	for _, f := range s.check(q) {
		if strings.Contains(f.Text, "may not") {
			t.Errorf("Check: %s", f.Text)
		}
	}
	rs, _ := s.purge(q, s.scan(q))
	if d := cmp.Diff([]string{"present ELIGIBLE", "present ELIGIBLE"}, reasons(rs)); d != "" {
		t.Errorf("claim (-want +got):\n%s", d)
	}
	s.wantCount("SELECT count(*) FROM transcripts", 2)
}

func TestReadOnlyConnectorCannotDelete(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		q := s.recorder(4)
		items := s.scan(q)
		s.c = s.connect(rows.Options{ReadOnly: true})
		s.scan(q)
		rs, _ := s.purge(q, items)
		if got := reasons(rs)[0]; got != "unknown NO_PERMISSION" {
			s.Errorf("claim: got %s", got)
		}
		s.wantCount("SELECT count(*) FROM transcripts", 4)
	})
}

// The server is killed between claim and erase, and comes back: nothing may be
// called gone, and a new claim finishes.
func TestServerKilledInMidClaim(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t)
	s := &store{T: t, system: "postgres", dsn: server.Database(t)}
	var err error
	if s.db, err = sql.Open("pgx", s.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	s.c = s.connect(rows.Options{})
	q := s.recorder(6)
	items := s.scan(q)
	cl, _ := s.c.Claim(s.ctx(), q, items)
	server.Kill(t)
	e := cl.Erase(s.ctx(), []int{0, 1, 2})
	for _, r := range e.Results {
		if r.State != connector.Unknown {
			t.Errorf("erase without a server: %v", reasons(e.Results))
		}
	}
	if e.Rows != nil {
		t.Errorf("rows counted though nothing is known to be gone: %v", e.Rows)
	}
	cl.Release()
	if _, rs := s.c.Claim(s.ctx(), q, items); reasons(rs)[0] != "unknown UNREACHABLE" {
		t.Errorf("claim without a server: %v", reasons(rs))
	}
	server.Start(t)
	for s.db.Ping() != nil {
	}
	s.wantCount("SELECT count(*) FROM transcripts", 6)
	rs, _ := s.purge(q, items)
	if d := cmp.Diff([]string{"present ELIGIBLE", "present ELIGIBLE", "present ELIGIBLE"}, reasons(rs)); d != "" {
		t.Errorf("claim after the restart (-want +got):\n%s", d)
	}
}

// The reply to the commit is lost, but it was carried out: only the look can
// tell, and it does.
func TestLostReplyToCommit(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite")
	q := s.recorder(4)
	p := &plug{}
	s.c.Rewire(strings.TrimPrefix(s.dsn, "sqlite:"), p.open)
	items := s.scan(q)
	cl, _ := s.c.Claim(s.ctx(), q, items)
	p.afterCommit.Store(true)
	e := cl.Erase(s.ctx(), []int{0, 1})
	if d := cmp.Diff([]string{"gone GONE", "gone GONE"}, reasons(e.Results)); d != "" {
		t.Errorf("erase (-want +got):\n%s", d)
	}
	if got := countsText(e.Rows); got != "audio_assets 2, segments 4, transcripts 2" {
		t.Errorf("rows: %s", got)
	}
}

// The commit was not carried out, and nobody said so: it may still be on its
// way, so a row that is still seen is Unknown, and never Gone.
func TestLostCommit(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite")
	q := s.recorder(4)
	p := &plug{}
	s.c.Rewire(strings.TrimPrefix(s.dsn, "sqlite:"), p.open)
	items := s.scan(q)
	cl, _ := s.c.Claim(s.ctx(), q, items)
	p.beforeCommit.Store(true)
	e := cl.Erase(s.ctx(), []int{0, 1})
	if d := cmp.Diff([]string{"unknown UNREACHABLE", "unknown UNREACHABLE"}, reasons(e.Results)); d != "" {
		t.Errorf("erase (-want +got):\n%s", d)
	}
	if e.Rows != nil {
		t.Errorf("rows: %v, want none", e.Rows)
	}
	s.wantCount("SELECT count(*) FROM transcripts", 4)
}

// Deleted text is in none of the files, after Erase as after Close, whether
// the database has a WAL or not.
func TestDeletedTextLeavesTheFiles(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"WAL", "DELETE", "TRUNCATE", "PERSIST"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := open(t, "sqlite")
			s.do("PRAGMA journal_mode = "+mode, "PRAGMA secure_delete = 0")
			q := s.recorder(0)
			s.do("CREATE INDEX by_text ON segments (substr(text, 8), id)") // splits its pages anywhere
			dir := filepath.Dir(strings.TrimPrefix(s.dsn, "sqlite:"))
			s.do("BEGIN")
			for i := range 400 {
				text := "PLANTED"
				if i < 150 {
					text = "EARLIER"
				}
				s.do(fmt.Sprintf("INSERT INTO transcripts VALUES (%d, '%s-%d', 'ready', %s, NULL)", i, text, i, due),
					fmt.Sprintf("INSERT INTO segments VALUES (%d, %d, '%s')", i, i, strings.Repeat(fmt.Sprintf("%s-%d ", text, i), 1+i%900)))
			}
			s.do("INSERT INTO transcripts VALUES (1000, 'STAYS', 'ready', "+young+", NULL)", "COMMIT")
			// What an application frees is not overwritten: older text of the rows.
			s.do("UPDATE segments SET text = substr(text, 1, 7) || ' anew' WHERE id % 3 = 0", "UPDATE transcripts SET title = title || title WHERE id % 5 = 0 AND id < 1000")
			if len(grep(t, dir, "PLANTED")) == 0 || len(grep(t, dir, "EARLIER")) == 0 {
				t.Fatal("the planted text is not in the files to begin with")
			}
			items := s.scan(q)
			s.purge(q, items[:150])
			if found := grep(t, dir, "EARLIER"); len(found) > 0 {
				t.Errorf("after Erase: planted text in %v", found)
			}
			for items = items[150:]; len(items) > 0; items = items[50:] {
				s.purge(q, items[:50])
			}
			if found := grep(t, dir, "STAYS"); len(found) == 0 {
				t.Error("text that stays is not found, so the search proves nothing")
			}
			if err := s.c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if found := grep(t, dir, "PLANTED"); len(found) > 0 {
				t.Errorf("after Close: planted text in %v", found)
			}
			if got := s.word("PRAGMA integrity_check"); got != "ok" {
				t.Errorf("integrity: %s", got)
			}
			if got := s.word("PRAGMA journal_mode"); !strings.EqualFold(got, mode) {
				t.Errorf("journal mode: got %s, want %s as it was", got, mode)
			}
		})
	}
}

// While another process reads an old state, the WAL cannot be truncated; Close
// says so, and not that all is well.
func TestCloseSaysWhenTheWALHoldsDeletedText(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite")
	q := s.recorder(4)
	dir := filepath.Dir(strings.TrimPrefix(s.dsn, "sqlite:"))
	c, err := rows.Open(context.Background(), s.dsn, rows.Options{LockTimeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s.c = c
	items := s.scan(q)
	s.do("BEGIN")
	s.wantCount("SELECT count(*) FROM transcripts", 4) // takes a snapshot
	s.purge(q, items)
	if len(grep(t, dir, "secret title 1")) == 0 {
		t.Fatal("the WAL was truncated under a reader's feet")
	}
	if err := c.Close(); err == nil || !strings.Contains(err.Error(), "WAL") {
		t.Errorf("Close: got %v, want an error about the WAL", err)
	}
	s.do("ROLLBACK")
}

func grep(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), text); n > 0 {
			found = append(found, fmt.Sprintf("%s (%d times)", e.Name(), n))
		}
	}
	return found
}

// A claim on a database with one writer waits for its turn as long as it takes:
// the parts of the claim before it may be far away.
func TestClaimWaitsForTheWriter(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite")
	q := s.recorder(6)
	s.c = s.connect(rows.Options{StatementTimeout: 10 * time.Millisecond})
	items := s.scan(q)
	first, rs := s.c.Claim(s.ctx(), q, items[:1])
	if reasons(rs)[0] != "present ELIGIBLE" {
		t.Fatalf("claim: %v", reasons(rs))
	}
	got := make(chan []connector.Result, 1)
	go func() {
		cl, rs := s.c.Claim(s.ctx(), q, items[1:])
		cl.Release() //nolint:errcheck // the results are what counts
		got <- rs
	}()
	time.Sleep(500 * time.Millisecond)
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"present ELIGIBLE", "present ELIGIBLE"}, reasons(<-got)); d != "" {
		t.Errorf("the claim that waited (-want +got):\n%s", d)
	}
}
