// Command generate fills a recorder database and its data directory with
// made-up records, to try Epitaph on:
//
//	DATABASE_URL=sqlite:/tmp/rec/app.db DATA_DIR=/tmp/rec/data go run ./examples/recorder/generate --records 5000
//
// It makes the tables where they are absent and adds to what is there. The
// same seed gives the same data.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/epitaph/epitaph/internal/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := generate(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("generate", flag.ExitOnError)
	dsn := f.String("database", os.Getenv("DATABASE_URL"), "`DSN`: postgres://… or sqlite:PATH (default $DATABASE_URL)")
	dir := f.String("data", os.Getenv("DATA_DIR"), "data `directory` (default $DATA_DIR); empty: rows only")
	records := f.Int("records", 1000, "`number` of records; about ten rows and one file each")
	seed := f.Uint64("seed", 1, "same `seed`, same data")
	due := f.Float64("due", 0.6, "`share` of the records that is older than fourteen days")
	missing := f.Int("missing", 0, "`number` of due records whose audio file is not there")
	f.Parse(args)

	db, dialect, err := open(*dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := demo.Generate(ctx, demo.Options{
		DB: db, Dialect: dialect, Dir: *dir, Files: *dir != "", Records: *records, Seed: *seed,
		Now: time.Now(), DueShare: *due, Missing: *missing, InOrder: true,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d records with %d rows of their own, %d of them older than fourteen days\n", s.Records, s.Children, s.Due)
	fmt.Fprintf(out, "%d audio files: %d go with the old records, %d of those stay with a project, %d are missing\n",
		s.Blobs, s.DueBlobs, s.Shared, s.Missing)
	fmt.Fprintf(out, "%d exports, %d of them older than fourteen days\n", s.Exports, s.DueExports)
	return nil
}

func open(dsn string) (db *sql.DB, dialect string, err error) {
	switch path, sqlite := strings.CutPrefix(dsn, "sqlite:"); {
	case sqlite:
		db, err = sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_txlock=immediate")
		return db, demo.SQLite, err
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
		db, err = sql.Open("pgx", dsn)
		return db, demo.Postgres, err
	case dsn == "":
		return nil, "", fmt.Errorf("no database: set DATABASE_URL or give --database")
	default:
		return nil, "", fmt.Errorf("the database must be postgres://… or sqlite:PATH")
	}
}
