package cli

import (
	"bytes"
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	_ "modernc.org/sqlite" // the demonstration's database

	"github.com/epitaph/epitaph/internal/demo"
	"github.com/epitaph/epitaph/policy"
)

//go:embed demo.yaml
var demoPolicy []byte

type demoFlags struct {
	dir     string
	records int
	seed    uint64
}

func (a *app) demoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Make an application's data and purge it, to see how it goes",
		Long: `Makes a directory with the SQLite database of an application, its audio files and
exports, and a policy; shows the plan, purges, looks at what is left by itself, and
shows the trail. All names and words are invented, and the same seed gives the same
data. The directory stays, to play in. Needs no database server and no root.`,
		Example: "  epitaph demo --dir /tmp/demo --records 5000 --seed 7",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runDemo(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.dir, "dir", "demo", "make the data in `DIRECTORY`, which must be new or empty")
	fl.IntVar(&f.records, "records", 300, "number of records, about ten rows each")
	fl.Uint64Var(&f.seed, "seed", 1, "the same seed gives the same data")
	return cmd
}

func (a *app) runDemo(ctx context.Context, f demoFlags) error {
	if f.records < 1 || f.records > 1_000_000 {
		return usage(fmt.Sprintf("--records %d: want 1 to 1000000", f.records))
	}
	if a.global.json || a.global.policy != "" {
		return usage("a demonstration is for people, with a policy of its own; --json and --policy are of no use", "epitaph demo --dir DIRECTORY")
	}
	if err := emptyDir(f.dir); err != nil {
		return err
	}
	d := &demonstration{a: a, dir: f.dir, p: a.stdout()}
	if err := d.prepare(ctx, f); err != nil {
		return err
	}
	return d.show(ctx)
}

// emptyDir makes the directory, or accepts one that holds nothing.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return usage(fmt.Sprintf("cannot make the directory %s: %s", dir, cause(err)), "choose another: --dir DIRECTORY")
		}
		return nil
	case err != nil:
		return usage(fmt.Sprintf("cannot use the directory %s: %s", dir, cause(err)), "choose another: --dir DIRECTORY")
	case len(entries) > 0:
		return usage(fmt.Sprintf("the directory %s is not empty; it was left as it is", dir), "choose another: --dir DIRECTORY, or remove it if it is an old demo: rm -r "+dir)
	default:
		return nil
	}
}

// demonstration is a directory with an application's data, and what is shown.
type demonstration struct {
	a   *app
	dir string
	p   *printer
	// digests are of records that are due: they stand in the rows and nowhere
	// else.
	digests []string
	// first is the id of the first of them.
	first int64
}

func (d *demonstration) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demonstration) database() (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+d.path("app.db")+"?_pragma=foreign_keys(1)&_pragma=synchronous(NORMAL)")
}

func (d *demonstration) prepare(ctx context.Context, f demoFlags) error {
	db, err := d.database()
	if err != nil {
		return fmt.Errorf("open demonstration database: %w", err)
	}
	defer db.Close()
	now := d.a.env.Now()
	_, err = demo.Generate(ctx, demo.Options{
		DB: db, Dialect: demo.SQLite, Dir: d.path("data"), Files: true,
		Records: f.records, Seed: f.seed, Now: now, Missing: f.records / 100,
	})
	if err != nil {
		return err
	}
	if err := writeNew(d.path("epitaph.yaml"), demoPolicy); err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	if err := d.makeLedger(ctx); err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, "SELECT id, raw_integrity_hash FROM transcripts WHERE created_at < ? ORDER BY id LIMIT 100",
		now.UTC().AddDate(0, 0, -14).Format("2006-01-02 15:04:05.000000"))
	if err != nil {
		return fmt.Errorf("read demonstration database: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var sum string
		if err := rows.Scan(&id, &sum); err != nil {
			return fmt.Errorf("read demonstration database: %w", err)
		}
		if len(d.digests) == 0 {
			d.first = id
		}
		d.digests = append(d.digests, sum)
	}
	return rows.Err()
}

// makeLedger does what epitaph init does, for the policy of the demonstration.
func (d *demonstration) makeLedger(ctx context.Context) error {
	pol, err := policy.Load(d.path("epitaph.yaml"), policy.Lookup(d.a.env.Lookup))
	if err != nil {
		return err
	}
	_, err = d.a.makeLedger(ctx, pol)
	return err
}

// show tells the story, with the real commands.
func (d *demonstration) show(ctx context.Context) error {
	d.p.linef("%s holds an application's database app.db, its files in data, and the policy epitaph.yaml.", d.dir)
	before, err := d.look(ctx)
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"check"}, {"plan"}, {"purge", "--yes"}} {
		if err := d.run(ctx, args...); err != nil {
			return err
		}
	}
	after, err := d.look(ctx)
	if err != nil {
		return err
	}
	if err := d.compare(ctx, before, after); err != nil {
		return err
	}
	if err := d.run(ctx, "purge", "--yes"); err != nil {
		return err
	}
	for _, args := range [][]string{{"trail", "--limit", "6"}, {"verify", "ledger"}} {
		if err := d.run(ctx, args...); err != nil {
			return err
		}
	}
	d.p.linef("\nThe directory is yours to play in:")
	if _, err := exec.LookPath("epitaph"); err != nil { // what is told next would not be found
		if self, err := os.Executable(); err == nil {
			d.p.linef("  export PATH=%s:$PATH", filepath.Dir(self))
		}
	}
	for _, next := range []string{
		"cd " + d.dir,
		"epitaph plan --as-of " + d.a.env.Now().UTC().AddDate(0, 0, 10).Format("2006-01-02") + "       # look ten days ahead",
		"epitaph plan --retain 7d --show       # what a shorter period would take, by name",
		"epitaph purge --retain 7d             # it asks first",
		"epitaph trail --items                 # every act, by path and key",
		fmt.Sprintf("epitaph prove %-24d# a receipt that anybody can check offline", d.first),
	} {
		d.p.linef("  %s", next)
	}
	return d.p.err
}

// run runs a command of epitaph as a person would, and shows it.
func (d *demonstration) run(ctx context.Context, args ...string) error {
	d.p.linef("\n%s", d.p.bold("$ epitaph "+strings.Join(args, " ")))
	env := d.a.env
	env.Args = append([]string{"--policy", d.path("epitaph.yaml")}, args...)
	if d.a.global.noColor {
		env.Args = append(env.Args, "--no-color")
	}
	env.Signals = forward(ctx, d.a.stop)
	if status := Run(ctx, env); status != StatusDone {
		return ended(status)
	}
	return d.p.err
}

// forward makes a stop of this command a signal to the one that runs inside.
func forward(ctx context.Context, stop <-chan struct{}) <-chan os.Signal {
	out := make(chan os.Signal, 1)
	go func() {
		select {
		case <-stop:
			out <- os.Interrupt
		case <-ctx.Done():
		}
	}()
	return out
}

// seen is what the demonstration finds by itself: it asks the database and the
// directory, not the report.
type seen struct {
	name string
	n    int
}

func (d *demonstration) look(ctx context.Context) ([]seen, error) {
	db, err := d.database()
	if err != nil {
		return nil, fmt.Errorf("open demonstration database: %w", err)
	}
	defer db.Close()
	var all []seen
	for _, table := range []string{"transcripts", "transcript_segments", "transcript_audit_events", "audio_assets", "projects", "project_files"} {
		var n int
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			return nil, fmt.Errorf("count rows: %w", err)
		}
		all = append(all, seen{"rows in " + table, n})
	}
	for _, g := range []string{"files/*.bin", "export-*.zip"} {
		found, err := filepath.Glob(filepath.Join(d.dir, "data", g))
		if err != nil {
			return nil, fmt.Errorf("count files: %w", err)
		}
		all = append(all, seen{"files data/" + g, len(found)})
	}
	return all, nil
}

// remains counts the digests of due records that still stand in the bytes of the
// database and the files that SQLite keeps beside it.
func (d *demonstration) remains() (n int, err error) {
	names, err := filepath.Glob(d.path("app.db*"))
	if err != nil {
		return 0, fmt.Errorf("find database files: %w", err)
	}
	var raw []byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("read database file: %w", err)
		}
		raw = append(raw, b...)
	}
	for _, sum := range d.digests {
		if bytes.Contains(raw, []byte(sum)) {
			n++
		}
	}
	return n, nil
}

func (d *demonstration) compare(ctx context.Context, before, after []seen) error {
	d.p.linef("\n%s", d.p.bold("A look at what is left, from the database and the directory themselves:"))
	d.p.linef("  %8s  %8s", "before", "after")
	for i := range before {
		d.p.linef("  %8d  %8d  %s", before[i].n, after[i].n, before[i].name)
	}
	purged, err := d.remains()
	if err != nil {
		return err
	}
	if err := d.vacuum(ctx); err != nil {
		return err
	}
	vacuumed, err := d.remains()
	if err != nil {
		return err
	}
	d.p.linef("In the raw bytes of app.db stand %d of %d digests of due records: SQLite keeps samples of indexed\n"+
		"values in its statistics, until the next ANALYZE. After ANALYZE and VACUUM: %d.", purged, len(d.digests), vacuumed)
	return d.p.err
}

// vacuum renews the statistics, which hold samples of what is gone, and rewrites
// the file: what they stood in is unused space then.
func (d *demonstration) vacuum(ctx context.Context) error {
	db, err := d.database()
	if err != nil {
		return fmt.Errorf("open demonstration database: %w", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "ANALYZE; VACUUM"); err != nil {
		return fmt.Errorf("rewrite demonstration database: %w", err)
	}
	return nil
}
