package custody_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/internal/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// depot is a database of an application with a table of its files.
type depot struct {
	*world
	db *sql.DB
	c  *rows.Connector
}

// onEach runs f with a depot on each database.
func onEach(t *testing.T, f func(d *depot)) {
	t.Helper()
	for system, open := range map[string]func(t *testing.T) (dsn, driver, name string){
		"sqlite": func(t *testing.T) (string, string, string) {
			path := filepath.Join(t.TempDir(), "app.db")
			return "sqlite:" + path, "sqlite", "file:" + path
		},
		"postgres": func(t *testing.T) (string, string, string) {
			dsn := testserver.Postgres(t)
			return dsn, "pgx", dsn
		},
		"mariadb": func(t *testing.T) (string, string, string) {
			dsn := testserver.MariaDB(t)
			u, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			c := mysql.NewConfig()
			c.User, c.Net, c.Addr, c.DBName = "root", "unix", u.Query().Get("unix_socket"), strings.TrimPrefix(u.Path, "/")
			return dsn, "mysql", c.FormatDSN()
		},
	} {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			dsn, driver, name := open(t)
			d := &depot{world: newWorld(t)}
			var err error
			if d.db, err = sql.Open(driver, name); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.db.Close() })
			if d.c, err = rows.Open(t.Context(), dsn, rows.Options{ReadOnly: true, Chunk: 3}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.c.Close() })
			d.sql("CREATE TABLE files (id integer PRIMARY KEY, path varchar(500) NOT NULL, file_size bigint, file_hash varchar(64), gone integer DEFAULT 0)")
			f(d)
		})
	}
}

func (d *depot) sql(text string, args ...any) {
	d.t.Helper()
	for i, a := range args { // the three drivers have no placeholder in common
		s := fmt.Sprint(a)
		if _, ok := a.(string); ok {
			s = "'" + a.(string) + "'"
		} else if a == nil {
			s = "NULL"
		}
		text = strings.Replace(text, fmt.Sprintf("$%d", i+1), s, 1)
	}
	if _, err := d.db.ExecContext(d.t.Context(), text); err != nil {
		d.t.Fatal(err)
	}
}

// row adds a row of a file with its content.
func (d *depot) row(id int, path string, size, hash any) {
	d.t.Helper()
	d.sql("INSERT INTO files (id, path, file_size, file_hash) VALUES ($1, $2, $3, $4)", id, path, size, hash)
}

func (d *depot) table() custody.Table {
	return custody.Table{
		Name: "files", Rows: d.c, From: "files", Where: "gone = 0", Store: "work", Size: "file_size", SHA256: "file_hash",
		Path: custody.Text{Literals: []string{"", ""}, Refs: []connector.Ref{{Column: "path"}}},
		Made: []string{"nas_raw_created"}, Within: time.Hour,
	}
}

// agreed returns "row:path:verdict" of the check's tables, sorted.
func (d *depot) agreed(k custody.Check) (string, error) {
	d.t.Helper()
	var got []string
	err := d.VerifyFiles(d.t.Context(), k, func(c custody.Checked) error {
		if c.Table != "" {
			got = append(got, fmt.Sprintf("%s:%s:%s", c.Row, strings.TrimPrefix(c.Path, d.dir+"/"), c.Verdict))
		}
		return nil
	})
	slices.Sort(got)
	return strings.Join(got, " "), err
}

func sumOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func TestAgreement(t *testing.T) {
	t.Parallel()
	onEach(t, func(d *depot) {
		ago := d.now.Add(-2 * time.Hour)
		op := custody.Operation{At: ago, Scope: "5"}
		d.kept("a/good.csv", "good", op)
		d.row(1, "a/good.csv", 4, strings.ToUpper(sumOf("good")))
		d.kept("size.csv", "size", op)
		d.row(2, "size.csv", 5, sumOf("size"))
		d.kept("hash.csv", "hash", op)
		d.row(3, "hash.csv", 4, sumOf("other"))
		d.write("nobody.csv", "x")
		d.row(4, "nobody.csv", 1, sumOf("x"))
		d.row(5, "nowhere.csv", 1, sumOf("x"))
		d.remove(d.kept("lost.csv", "x", op))
		d.row(6, "lost.csv", 1, sumOf("x"))
		d.kept("pending.csv", "x", op)
		d.row(7, "pending.csv", 1, "pending_async_calculation")
		d.kept("blank.csv", "x", op)
		d.row(8, "blank.csv", nil, "")
		d.row(9, "../climbs.csv", 1, nil)
		d.row(10, "/absolute.csv", 1, nil)
		d.row(11, "", 1, nil) // names no file
		deleted := d.kept("deleted.csv", "x", op)
		d.remove(deleted)
		d.track(custody.Operation{Action: "nas_raw_deleted", Path: deleted})
		d.row(12, "deleted.csv", 1, sumOf("x"))
		back := d.kept("back.csv", "x", op)
		d.remove(back)
		d.track(custody.Operation{Action: "nas_raw_deleted", Path: back})
		d.write("back.csv", "x")
		d.row(15, "back.csv", 1, sumOf("x"))
		d.kept("negative.csv", "x", op)
		d.row(13, "negative.csv", -1, nil)
		d.row(14, "cleaned.csv", 1, nil)
		d.sql("UPDATE files SET gone = 1 WHERE id = 14")
		d.kept("rowless.csv", "x", op)
		d.kept("young.csv", "x", custody.Operation{})
		d.kept("rowless.html", "x", custody.Operation{At: ago, Action: "nas_report_created"})

		k := custody.Check{Tables: []custody.Table{d.table()}}
		want := "10:/absolute.csv:row-invalid 12:deleted.csv:row-missing 13:negative.csv:row-invalid 15:back.csv:row-untracked 1:a/good.csv:row-ok 2:size.csv:row-size " +
			"3:hash.csv:row-hash 4:nobody.csv:row-untracked 5:nowhere.csv:row-missing 6:lost.csv:row-missing 7:pending.csv:row-not-checked " +
			"8:blank.csv:row-not-checked 9:../climbs.csv:row-invalid :rowless.csv:no-row"
		if got, err := d.agreed(k); err != nil || got != want {
			t := d.t
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}

		// A part of the files is a part of the rows, and a scope is not that of others.
		seen := map[string]int{}
		for part := 1; part <= 3; part++ {
			k.Part, k.Parts = part, 3
			got, err := d.agreed(k)
			if err != nil {
				d.t.Error(err)
			}
			for _, v := range strings.Fields(got) {
				seen[v]++
			}
		}
		if k.Part, k.Parts = 0, 0; seen["1:a/good.csv:row-ok"] != 1 || seen[":rowless.csv:no-row"] != 1 || seen["4:nobody.csv:row-untracked"] != 1 {
			d.t.Errorf("three parts: %v", seen)
		}
		k.Scope = "6"
		if got, err := d.agreed(k); err != nil || strings.Contains(got, "rowless.csv") || strings.Contains(got, "size.csv") || !strings.Contains(got, "nobody.csv") {
			d.t.Errorf("another scope: %v, %s", err, got)
		}
		k.Scope = ""

		// An outage of the files is no finding and no agreement.
		if err := os.Rename(d.dir, d.dir+".away"); err != nil {
			d.t.Fatal(err)
		}
		got, err := d.agreed(k)
		if err != nil || strings.Contains(got, "row-ok") || strings.Contains(got, "row-missing") || strings.Contains(got, "row-untracked") || !strings.Contains(got, "1:a/good.csv:row-unknown") {
			d.t.Errorf("an outage: %v, %s", err, got)
		}
		if err := os.Rename(d.dir+".away", d.dir); err != nil {
			d.t.Fatal(err)
		}

		// A table that cannot be read is unknown, and says nothing of files without a row.
		bad := d.table()
		bad.From = "elsewhere"
		k.Tables = []custody.Table{bad, d.table()}
		got, err = d.agreed(k)
		var fault *rows.FaultError
		if !errors.As(err, &fault) || !strings.HasPrefix(got, "10:") || strings.Count(got, "no-row") != 1 || !strings.Contains(got, "::row-unknown") {
			d.t.Errorf("a missing table: %v, %s", err, got)
		}
	})
}

// A row and a tracked file of one object that are not one file are told together.
func TestAgreementByObject(t *testing.T) {
	t.Parallel()
	onEach(t, func(d *depot) {
		ago := d.now.Add(-2 * time.Hour)
		ref := func(id string) custody.Operation {
			return custody.Operation{At: ago, Ref: custody.Ref{Kind: "data-file", ID: id}}
		}
		d.kept("one.csv", "x", ref("1"))
		d.row(1, "one.csv", 1, nil)
		d.kept("really.csv", "x", ref("2"))
		d.row(2, "said.csv", 1, nil)
		d.kept("of-four.csv", "x", ref("4"))
		d.row(3, "of-four.csv", 1, nil)
		d.row(5, "nowhere.csv", 1, nil)
		table := d.table()
		table.SHA256, table.Ref = "", custody.Text{Literals: []string{"data-file:", ""}, Refs: []connector.Ref{{Column: "id"}}}
		got, err := d.agreed(custody.Check{Tables: []custody.Table{table}})
		if want := "1:one.csv:row-ok 2:really.csv:row-path 3:of-four.csv:row-path 5:nowhere.csv:row-missing"; err != nil || got != want {
			d.t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	})
}

// Absolute paths are resolved as those of operations are.
func TestAgreementOfAbsolutePaths(t *testing.T) {
	t.Parallel()
	onEach(t, func(d *depot) {
		real := d.kept("deep/a.csv", "x", custody.Operation{At: d.now.Add(-2 * time.Hour)})
		link := filepath.Join(d.base, "link")
		if err := os.Symlink(filepath.Dir(real), link); err != nil {
			d.t.Fatal(err)
		}
		d.row(1, real, 1, nil)
		d.row(2, link+"/a.csv", 1, nil)
		d.row(3, "deep/a.csv", 1, nil)
		d.row(4, filepath.Join(d.base, "elsewhere.csv"), 1, nil)
		d.row(5, "unknown", nil, nil)
		table := d.table()
		table.Store, table.SHA256 = "", ""
		got, err := d.agreed(custody.Check{Tables: []custody.Table{table}})
		want := "1:deep/a.csv:row-ok 2:deep/a.csv:row-ok 3:deep/a.csv:row-invalid 4:" + d.base + "/elsewhere.csv:row-unknown 5:unknown:row-invalid"
		if err != nil || got != want {
			d.t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	})
}

// broken is a database that goes away in the middle of a listing.
type broken struct {
	custody.Lister
	after int
}

var errAway = errors.New("the server has gone away")

func (b broken) List(ctx context.Context, q *connector.Query) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		n := 0
		for it, err := range b.Lister.List(ctx, q) {
			if n == b.after {
				yield(connector.Item{}, errAway)
				return
			}
			if n++; !yield(it, err) {
				return
			}
		}
	}
}

// A listing that breaks off concludes nothing of what it did not read.
func TestAgreementBreaksOff(t *testing.T) {
	t.Parallel()
	onEach(t, func(d *depot) {
		for i := range 10 {
			name := fmt.Sprintf("%d.csv", i)
			d.kept(name, "x", custody.Operation{At: d.now.Add(-2 * time.Hour)})
			d.row(i, name, 1, sumOf("x"))
		}
		table := d.table()
		table.Rows = broken{d.c, 5}
		got, err := d.agreed(custody.Check{Tables: []custody.Table{table}})
		if !errors.Is(err, errAway) || strings.Count(got, ":row-ok") != 5 || strings.Contains(got, "no-row") || !strings.Contains(got, "::row-unknown") {
			d.t.Errorf("%v, %s", err, got)
		}
	})
}

// A row does not say on which host its file is: what is tracked in the directory of
// another host is neither missing here, nor without a row.
func TestAgreementAcrossHosts(t *testing.T) {
	t.Parallel()
	web, services := twoHosts(t, "sqlite:"+filepath.Join(t.TempDir(), "epitaph.db"))
	d := &depot{world: services}
	path := filepath.Join(t.TempDir(), "app.db")
	var err error
	if d.db, err = sql.Open("sqlite", "file:"+path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.db.Close() })
	if d.c, err = rows.Open(t.Context(), "sqlite:"+path, rows.Options{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.c.Close() })
	d.sql("CREATE TABLE files (id integer PRIMARY KEY, path varchar(500) NOT NULL, file_size bigint, file_hash varchar(64), gone integer DEFAULT 0)")
	op := custody.Operation{At: web.now.Add(-2 * time.Hour)}
	web.kept("there.csv", "x", op)
	d.row(1, "there.csv", 1, sumOf("x"))
	web.kept("differs.csv", "x", op)
	d.row(2, "differs.csv", 2, sumOf("x"))
	d.row(3, "nowhere.csv", 1, sumOf("x"))
	web.kept("rowless.csv", "x", op)
	for _, c := range []struct {
		on        *world
		good, bad string
	}{{services, "row-elsewhere", "row-size"}, {web, "row-ok", "row-size"}} {
		d.world = c.on
		got, err := d.agreed(custody.Check{Tables: []custody.Table{d.table()}})
		got = strings.NewReplacer(web.dir+"/", "").Replace(got)
		if want := "1:there.csv:" + c.good + " 2:differs.csv:" + c.bad + " 3:nowhere.csv:row-missing :rowless.csv:no-row"; err != nil || got != want {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
		seen := map[string]int{}
		for part := 1; part <= 4; part++ {
			got, err := d.agreed(custody.Check{Tables: []custody.Table{d.table()}, Part: part, Parts: 4})
			if err != nil {
				t.Error(err)
			}
			for _, v := range strings.Fields(got) {
				seen[v]++
			}
		}
		if len(seen) != 4 {
			t.Errorf("in four parts: %v", seen)
		}
	}
}
