package purge_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/policy"
)

// realWorld is a world on a real database and a real directory, with the
// recorder's tables.
type realWorld struct {
	*world
	db   *sql.DB
	root string
}

const realPolicy = `
version: 1
stores:
  app: {rows: "${DB}"}
  disk: {files: "${ROOT}"}
rules:
  transcripts:
    retain: 14d
    rows: app.transcripts
    anchor: {column: created_at, zone: UTC}
    where: status <> 'recording'
    parts:
      - files: "disk:files/{audio_assets.sha256}.bin"
        referenced_by: [app.project_files.sha256]
  exports:
    kind: export
    retain: 14d
    files: "disk:export-*.zip"
    anchor: modified
limits: {items: unlimited, share: 100%, missing: 100%}
`

func newRealWorld(t testing.TB, system string) *realWorld {
	t.Helper()
	return newRealWorldBy(t, system, realPolicy)
}

// newRealKeepingWorld is one of which the transcripts stay, and are set.
func newRealKeepingWorld(t testing.TB, system string) *realWorld {
	t.Helper()
	return newRealWorldBy(t, system, strings.Replace(realPolicy, "  exports:", "    then: {update: {audio_deleted: true, deleted_at: {instant: now, zone: UTC}}}\n  exports:", 1))
}

func newRealWorldBy(t testing.TB, system, text string) *realWorld {
	t.Helper()
	dir := t.TempDir()
	dsn, driver, name := "sqlite:"+filepath.Join(dir, "app.db"), "sqlite", filepath.Join(dir, "app.db")
	if system == "postgres" {
		dsn = testserver.Postgres(t)
		driver, name = "pgx", dsn
	}
	r := &realWorld{root: filepath.Join(dir, "data")}
	var err error
	if r.db, err = sql.Open(driver, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.db.Close() })
	if err := os.MkdirAll(filepath.Join(r.root, "files"), 0o700); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"DB": dsn, "ROOT": r.root}
	pol, err := policy.Parse("epitaph.yaml", []byte(text), func(n string) (string, bool) { v, ok := vars[n]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	app, err := rows.Open(t.Context(), dsn, rows.Options{LockTimeout: 2 * time.Minute}) // no test is about a lock that lasts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	disk, err := files.Open(r.root, files.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	r.world = newWorld(t)
	r.policy = pol
	r.stores = map[string]connector.Connector{"app": app, "disk": disk}
	// Real stores have real clocks and real fingerprints with real times.
	r.now = time.Now().UTC()
	for _, s := range []string{
		"CREATE TABLE projects (id integer PRIMARY KEY)",
		"CREATE TABLE project_files (id integer PRIMARY KEY, sha256 varchar NOT NULL)",
		"CREATE TABLE transcripts (id integer PRIMARY KEY, title varchar NOT NULL, status varchar NOT NULL, created_at timestamp NOT NULL, audio_deleted boolean, deleted_at timestamp)",
		"CREATE TABLE segments (id integer PRIMARY KEY, transcript_id integer NOT NULL REFERENCES transcripts (id) ON DELETE CASCADE)",
		"CREATE TABLE audio_assets (id integer PRIMARY KEY, transcript_id integer NOT NULL REFERENCES transcripts (id) ON DELETE CASCADE, sha256 varchar NOT NULL)",
	} {
		r.do(s)
	}
	return r
}

func (r *realWorld) do(s string) {
	r.t.Helper()
	if _, err := r.db.Exec(s); err != nil {
		r.t.Fatalf("%s: %v", s, err)
	}
}

func (r *realWorld) write(name string, days int) {
	r.t.Helper()
	path := filepath.Join(r.root, name)
	if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
		r.t.Fatal(err)
	}
	at := r.now.AddDate(0, 0, -days)
	if err := os.Chtimes(path, at, at); err != nil {
		r.t.Fatal(err)
	}
}

func (r *realWorld) transcript(id, days int, blobs ...string) {
	r.t.Helper()
	r.do(fmt.Sprintf("INSERT INTO transcripts (id, title, status, created_at) VALUES (%d, 'secret', 'ready', '%s')", id, r.now.AddDate(0, 0, -days).Format("2006-01-02 15:04:05")))
	r.do(fmt.Sprintf("INSERT INTO segments VALUES (%d, %d), (%d, %d)", 2*id, id, 2*id+1, id))
	for i, b := range blobs {
		r.do(fmt.Sprintf("INSERT INTO audio_assets VALUES (%d, %d, '%s')", 10*id+i, id, b))
		r.write("files/"+b+".bin", 0)
	}
}

// fill plants what populate plants, for real.
func (r *realWorld) fill() {
	r.transcript(1, 20, "a1", "a2")
	r.transcript(2, 19, "b1")
	r.transcript(3, 18, "both", "c1")
	r.transcript(4, 17, "both")
	r.transcript(5, 16, "kept", "e1")
	r.do("INSERT INTO project_files VALUES (1, 'kept')")
	r.transcript(6, 16)
	r.transcript(7, 15, "lost")
	if err := os.Remove(filepath.Join(r.root, "files/lost.bin")); err != nil {
		r.t.Fatal(err)
	}
	r.transcript(8, 2, "young")
	r.transcript(9, 40, "still")
	r.do("UPDATE transcripts SET status = 'recording' WHERE id = 9")
	r.write("export-x.zip", 20)
	r.write("export-y.zip", 21)
	r.write("export-z.zip", 1)
	r.write("unrelated.zip", 99)
}

// dump spells what is left.
func (r *realWorld) dump() string {
	r.t.Helper()
	var out []string
	for _, q := range []string{"SELECT id, 'transcript' FROM transcripts", "SELECT id, 'set' FROM transcripts WHERE audio_deleted AND deleted_at IS NOT NULL", "SELECT id, 'segment' FROM segments",
		"SELECT id, sha256 FROM audio_assets", "SELECT id, sha256 FROM project_files"} {
		rs, err := r.db.Query(q)
		if err != nil {
			r.t.Fatal(err)
		}
		for rs.Next() {
			var id int
			var s string
			if err := rs.Scan(&id, &s); err != nil {
				r.t.Fatal(err)
			}
			out = append(out, fmt.Sprint(s, " ", id))
		}
		if err := rs.Close(); err != nil {
			r.t.Fatal(err)
		}
	}
	err := filepath.WalkDir(r.root, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, strings.TrimPrefix(p, r.root))
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// systems are the databases.
func systems() []string { return []string{"sqlite", "postgres"} }

func TestRealStores(t *testing.T) {
	t.Parallel()
	for _, system := range systems() {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			r := newRealWorld(t, system)
			r.fill()
			r.config.Workers = 3
			rep := r.mustRun(r.plan())
			tr := rule(t, rep, "transcripts")
			if tr.Total != 8 || tr.Gone != 7 || tr.PartsGone != 6 || tr.PartsShared != 1 || tr.PartsMissing != 1 || tr.Errors != 0 {
				t.Errorf("transcripts: %+v", tr)
			}
			want := []connector.Count{{Table: "audio_assets", N: 9}, {Table: "segments", N: 14}, {Table: "transcripts", N: 7}}
			got := slices.Clone(tr.Rows)
			for i := range got {
				got[i].Table = got[i].Table[strings.LastIndexByte(got[i].Table, '.')+1:]
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("rows (-want +got):\n%s", d)
			}
			if ex := rule(t, rep, "exports"); ex.Gone != 2 || ex.Errors != 0 {
				t.Errorf("exports: %+v", ex)
			}
			left := strings.Join([]string{"/export-z.zip", "/files/kept.bin", "/files/still.bin", "/files/young.bin", "/unrelated.zip",
				"kept 1", "segment 16", "segment 17", "segment 18", "segment 19", "still 90", "transcript 8", "transcript 9", "young 80"}, "\n")
			if d := cmp.Diff(left, r.dump()); d != "" {
				t.Errorf("left (-want +got):\n%s", d)
			}
			if again := r.mustRun(r.plan()); again.Errors() != 0 || rule(t, again, "transcripts").Items != 0 {
				t.Errorf("second run: %+v", again)
			}
		})
	}
}

// The crash test on a real database and real files. (Promise 2.)
func TestCrashOnRealStores(t *testing.T) {
	t.Parallel()
	crashOnRealStores(t, newRealWorld)
}

// The same where the rows stay: none is set before its blobs are gone.
func TestCrashOnRealStoresWithThen(t *testing.T) {
	t.Parallel()
	crashOnRealStores(t, newRealKeepingWorld)
	for _, system := range systems() {
		t.Run(system+"/whole", func(t *testing.T) {
			t.Parallel()
			r := newRealKeepingWorld(t, system)
			r.fill()
			rep := rule(t, r.mustRun(r.plan()), "transcripts")
			if rep.Set != 6 || rep.Gone != 0 || rep.PartsGone != 5 || rep.PartsShared != 1 || rep.PartsMissing != 1 || rep.Kept[connector.Shared] != 1 || len(rep.Rows) > 0 {
				t.Errorf("got %+v", rep)
			}
			for _, want := range []string{"set 1\nset 2\nset 3\nset 4\nset 6\nset 7", "/files/e1.bin", "/files/kept.bin", "transcript 5", "segment 14"} {
				if !strings.Contains(r.dump(), want) {
					t.Errorf("%s is not left:\n%s", want, r.dump())
				}
			}
		})
	}
}

func crashOnRealStores(t *testing.T, fresh func(testing.TB, string) *realWorld) {
	for _, system := range systems() {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			whole := fresh(t, system)
			whole.fill()
			whole.mustRun(whole.plan())
			wantDump, wantTruth := whole.dump(), whole.truth()

			count := fresh(t, system)
			count.fill()
			p := count.plan()
			app, disk := connectortest.NewFaulty(t, count.stores["app"]), connectortest.NewFaulty(t, count.stores["disk"])
			count.stores = map[string]connector.Connector{"app": app, "disk": disk}
			l := &cutLedger{Ledger: count.ledger}
			count.through = l
			count.mustRun(p)
			var points []cutPoint
			for n := 1; n <= l.n; n++ {
				points = append(points, cutPoint{n: n, when: connectortest.Before}, cutPoint{n: n, when: connectortest.After})
			}
			for name, f := range map[string]*connectortest.Faulty{"app": app, "disk": disk} {
				for _, c := range f.Calls() {
					if c.Op == connectortest.OpErase || c.Op == connectortest.OpClaim {
						for _, when := range connectortest.Moments() {
							if c.Op == connectortest.OpErase || when != connectortest.Midway { // a claim has no middle
								points = append(points, cutPoint{name, c.Op, c.N, when})
							}
						}
					}
				}
			}
			for _, point := range points {
				t.Run(point.String(), func(t *testing.T) {
					r := fresh(t, system)
					r.fill()
					fired := r.die(t, r.plan(), point)
					if !fired() {
						t.Fatal("the cut never happened")
					}
					again := r.mustRun(r.plan())
					if d := cmp.Diff(wantDump, r.dump()); d != "" {
						t.Errorf("left (-uninterrupted +crashed):\n%s", d)
					}
					if d := cmp.Diff(wantTruth.Items, r.truth().Items); d != "" {
						t.Errorf("ledger (-uninterrupted +crashed):\n%s", d)
					}
					if d := cmp.Diff(wantTruth.Counts, r.truth().Counts); d != "" {
						t.Errorf("counts (-uninterrupted +crashed):\n%s", d)
					}
					if again.Errors() != 0 || again.Open != 0 || again.Incidents != r.leftBehind(again.Run) {
						t.Errorf("second run: %+v", again)
					}
				})
			}
		})
	}
}

// Records that share a blob die in different batches on different workers: each
// blob goes exactly once, with the last record that names it, and none is left
// over or taken from under a living row. (Promises 2 and 3.)
func TestSharedBlobsAcrossWorkers(t *testing.T) {
	t.Parallel()
	for _, system := range systems() {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			r := newRealWorld(t, system)
			const n = 60
			for i := range n {
				r.transcript(i+1, 20, fmt.Sprint("pair", i%(n/2)))
			}
			r.transcript(n+1, 1, "pair0") // a living row names one of them
			r.config.Workers, r.config.Batch = 4, 5
			rep := r.mustRun(r.plan("transcripts"))
			got := rule(t, rep, "transcripts")
			for n := 0; got.Kept[connector.InUse] > 0; n++ { // a claim that met another worker's lock is kept for the next run
				if t.Logf("in use: %d", got.Kept[connector.InUse]); n == 100 {
					t.Fatal("some are in use for ever")
				}
				more := rule(t, r.mustRun(r.plan("transcripts")), "transcripts")
				more.Gone, more.PartsGone = more.Gone+got.Gone, more.PartsGone+got.PartsGone
				more.Errors, more.PartsMissing = more.Errors+got.Errors, more.PartsMissing+got.PartsMissing
				got = more
			}
			if got.Gone != n || got.PartsGone != n/2-1 || got.PartsMissing != 0 || got.Errors != 0 {
				t.Errorf("got %+v", got)
			}
			want := strings.Join([]string{"/files/pair0.bin", "pair0 610", "segment 122", "segment 123", "transcript 61"}, "\n")
			if d := cmp.Diff(want, r.dump()); d != "" {
				t.Errorf("left (-want +got):\n%s", d)
			}
		})
	}
}

// Rows that share a blob are set together, by claims on several workers; one
// that a living row needs too is left, with its blob.
func TestThenSharedBlobsAcrossWorkers(t *testing.T) {
	t.Parallel()
	for _, system := range systems() {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			r := newRealKeepingWorld(t, system)
			const n = 60
			for i := range n {
				r.transcript(i+1, 20, fmt.Sprint("pair", i%(n/2)))
			}
			r.transcript(n+1, 1, "pair0") // a living row names one of them
			r.config.Workers, r.config.Batch = 4, 5
			got := rule(t, r.mustRun(r.plan("transcripts")), "transcripts")
			if got.Set != n-2 || got.PartsGone != n/2-1 || got.Kept[connector.Shared] != 2 || got.Errors != 0 {
				t.Errorf("got %+v", got)
			}
			if blobs := strings.Count(r.dump(), "/files/"); blobs != 1 {
				t.Errorf("%d blobs are left, want the one that is needed", blobs)
			}
			r.do("UPDATE audio_assets SET sha256 = 'other' WHERE transcript_id = 61")
			if got := rule(t, r.mustRun(r.plan("transcripts")), "transcripts"); got.Set != 2 || got.PartsGone != 1 {
				t.Errorf("when it is needed no more: %+v", got)
			}
		})
	}
}
