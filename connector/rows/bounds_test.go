package rows_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
)

// endless are conditions of which the database finds no end: at once, and only
// at the second row that it is asked for.
var endless = map[string][2]string{
	"sqlite": {"(WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n) > 0",
		"CASE WHEN id = 1 THEN 1 ELSE (WITH RECURSIVE n (x) AS (SELECT transcripts.id UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n) END"},
	"postgres": {"(SELECT count(*) FROM generate_series(1, 1000000000000)) > 0",
		"CASE WHEN id = 1 THEN true ELSE (SELECT count(*) FROM generate_series(id, 1000000000000)) > 0 END"},
	"mariadb": {"SLEEP(600) = 0", "CASE WHEN id = 1 THEN 1 ELSE SLEEP(id * 600) END"},
}

// running counts the statements that the server is still at work on.
func (s *store) running() int {
	s.Helper()
	switch s.system {
	case "postgres":
		return s.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()")
	case "mariadb":
		return s.count("SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE '%SLEEP%' AND id <> CONNECTION_ID()")
	}
	return 0
}

func TestConditionWithoutEnd(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		q := s.recorder(4)
		c := s.connect(rows.Options{LookTimeout: 3 * time.Minute}) // a trial takes a second
		for _, cond := range endless[s.system] {
			bad := *q
			bad.Where = cond
			start := time.Now()
			found, err := c.Check(s.ctx(), &bad)
			if err != nil {
				s.Fatalf("Check: %v", err)
			}
			if got := faults(found); len(got) != 1 || got[0] != "where: the condition took longer than 1s for the first 20 rows" {
				s.Errorf("faults: %q", got)
			}
			if took := time.Since(start); took > soon {
				s.Errorf("Check took %v", took)
			}
		}
		// Whoever asks no check is not kept for ever either.
		quick := s.connect(rows.Options{LookTimeout: 300 * time.Millisecond})
		for _, cond := range endless[s.system] {
			bad := *q
			bad.Where = cond
			var late *rows.TimeoutError
			for _, err := range quick.Scan(s.ctx(), &bad, nil) {
				if err == nil {
					s.Error("Scan found an item by a condition that has no end")
				} else if !errors.As(err, &late) {
					s.Errorf("Scan: %v, want a TimeoutError", err)
				}
			}
			if late == nil {
				s.Error("Scan said nothing")
			}
		}
		for deadline := time.Now().Add(soon); s.running() > 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				s.Fatal("the server is still at work on a statement that nobody waits for")
			}
		}
		// The caller's own end comes first, and is no TimeoutError.
		ctx, cancel := context.WithCancel(s.ctx())
		time.AfterFunc(100*time.Millisecond, cancel)
		bad := *q
		bad.Where = endless[s.system][1]
		start := time.Now()
		for _, err := range s.c.Scan(ctx, &bad, nil) {
			var late *rows.TimeoutError
			if err == nil || errors.As(err, &late) {
				s.Errorf("Scan that was interrupted: %v", err)
			}
		}
		if took := time.Since(start); took > soon {
			s.Errorf("an interrupted Scan took %v", took)
		}
		if got := len(s.scan(q)); got != 2 {
			s.Errorf("%d items, want 2", got)
		}
	})
}

// What the database understands, and refuses when it comes to it, is a fault of
// the condition. The database is well.
func TestConditionRefusedWhenRun(t *testing.T) {
	t.Parallel()
	refused := map[string]string{
		"sqlite":   "load_extension('/no/such/extension') IS NULL",
		"postgres": "1 / (id - id) = 1",
		"mariadb":  "(SELECT id FROM transcripts) = 1",
	}
	on(t, func(s *store) {
		q := s.recorder(4)
		for subject, put := range map[string]func(q *connector.Query, cond string){
			"where":  func(q *connector.Query, cond string) { q.Where = cond },
			"hold":   func(q *connector.Query, cond string) { q.Hold = cond },
			"in_use": func(q *connector.Query, cond string) { q.InUse = cond },
		} {
			bad := *q
			put(&bad, refused[s.system])
			if got := faults(s.check(&bad)); len(got) != 1 || !strings.HasPrefix(got[0], subject+": the ") {
				s.Errorf("faults: %q, want one of %s", got, subject)
			}
			for _, err := range s.c.Scan(s.ctx(), &bad, nil) {
				if !errors.Is(err, fs.ErrInvalid) {
					s.Errorf("Scan with %s: %v, want an error of the policy", subject, err)
				}
			}
		}
	})
}

// Who may not write cannot purge, and learns of it before the night.
func TestCheckFindsReadOnlyFile(t *testing.T) {
	t.Parallel()
	const file = "this user may not write to the database file, so no row of it can go"
	const dir = "this user may not write to the directory of the database file, where SQLite keeps its journal, so no row may be able to go"
	warned := func(s *store, q *connector.Query) (texts []string) {
		for _, f := range s.check(q) {
			if f.Severity == connector.Fault {
				s.Errorf("fault: %s", f.Text)
			}
			if strings.HasPrefix(f.Text, "this user") {
				texts = append(texts, f.Text)
			}
		}
		return texts
	}
	s := open(t, "sqlite")
	q := s.recorder(2)
	path := strings.TrimPrefix(s.dsn, "sqlite:")
	if got := warned(s, q); got != nil {
		s.Fatalf("warnings about a file that may be written: %q", got)
	}
	thaw := freeze(t, path, 0o400)
	if got := fmt.Sprint(warned(s, q)); got != "["+file+"]" {
		s.Errorf("read-only file: %s", got)
	}
	thaw()
	thaw = freeze(t, filepath.Dir(path), 0o500)
	if got := fmt.Sprint(warned(s, q)); got != "["+dir+"]" {
		s.Errorf("read-only directory: %s", got)
	}
	thaw()
	if got := warned(s, q); got != nil {
		s.Errorf("warnings afterwards: %q", got)
	}
}

// freeze makes a file or directory read-only, also for root.
func freeze(t *testing.T, path string, mode os.FileMode) (thaw func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		st, err := os.Stat(path)
		if err == nil {
			err = os.Chmod(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		thaw = func() { os.Chmod(path, st.Mode()) }
		t.Cleanup(thaw)
		return thaw
	}
	set := func(on bool) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		flags &^= unix.STATX_ATTR_IMMUTABLE
		if on {
			flags |= unix.STATX_ATTR_IMMUTABLE
		}
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err := set(true); err != nil {
		t.Fatal(err)
	}
	thaw = func() { set(false) }
	t.Cleanup(thaw)
	return thaw
}
