// Package demo makes a believable data set of the recorder system, of any
// size: a database of transcripts with their segments, audit events and audio,
// the encrypted audio files, and the export archives. The same options give
// the same data. All names and words are invented.
package demo

import (
	"context"
	"crypto/sha256"
	"database/sql"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The dialects of a database.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

//go:embed schema_sqlite.sql
var schemaSQLite string

//go:embed schema_postgres.sql
var schemaPostgres string

// Schema returns the statements that create the recorder's tables.
func Schema(dialect string) string {
	if dialect == Postgres {
		return schemaPostgres
	}
	return schemaSQLite
}

// Options say what to make. DB, Dialect, Records and Now are needed.
type Options struct {
	DB      *sql.DB
	Dialect string // SQLite or Postgres (a pgx database/sql handle)
	// Dir is the data directory: audio goes to Dir/files, exports to Dir. With
	// Files false no file is made and Dir may be empty.
	Dir     string
	Files   bool
	Records int
	Seed    uint64
	Now     time.Time
	// DueShare of the records and exports are between 15 and 180 days old; the
	// others are at most 12 days old. 0 means 0.6.
	DueShare float64
	// InOrder gives older records lower ids, as an application does that inserts
	// them as they come. Otherwise ages are strewn over the ids, so that any
	// prefix has about the same share of due records.
	InOrder bool
	// Children is the number of rows that go with a record, over its three
	// child tables; 0 means 9.
	Children int
	// Missing is how many of the due records have no audio file though their
	// row says so, as after a restore that lost some.
	Missing int
}

// Summary is what was made.
type Summary struct {
	Records    int
	Due        int
	Children   int // rows of the child tables, of all records
	Blobs      int // audio files written
	DueBlobs   int // audio of due records, without those that are shared or missing
	Shared     int // audio of due records that a project still holds
	Missing    int // audio of due records that was never written
	Exports    int
	DueExports int
}

// Generate makes the tables where they are absent, and adds records to them
// and files to the directory.
func Generate(ctx context.Context, o Options) (Summary, error) {
	if o.DB == nil || o.Records < 0 || o.Now.IsZero() {
		return Summary{}, errors.New("make data: a database, a number of records and an instant are needed")
	}
	if o.DueShare == 0 {
		o.DueShare = 0.6
	}
	if o.Children == 0 {
		o.Children = 9
	}
	g := &generator{o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x65706974617068)), now: o.Now.UTC().Truncate(time.Second)}
	if _, err := o.DB.ExecContext(ctx, Schema(o.Dialect)); err != nil {
		return Summary{}, fmt.Errorf("create tables: %w", err)
	}
	if err := g.run(ctx); err != nil {
		return Summary{}, err
	}
	return g.sum, nil
}

type generator struct {
	o    Options
	rng  *rand.Rand
	now  time.Time
	sum  Summary
	next map[string]int // next id by table
	sink *sink
	disk *disk
}

// chunk is the number of records made and written together.
const chunk = 2000

func (g *generator) run(ctx context.Context) (err error) {
	g.sink = &sink{db: g.o.DB, dialect: g.o.Dialect, rows: map[string][][]any{}}
	if err := g.readNext(ctx); err != nil {
		return err
	}
	if g.o.Files {
		if g.disk, err = newDisk(g.o.Dir); err != nil {
			return err
		}
	}
	projects := g.projects()
	if err := g.sink.flush(ctx); err != nil {
		return err
	}
	for i := range g.o.Records {
		if err := g.record(i, projects); err != nil {
			return err
		}
		if (i+1)%chunk == 0 {
			if err := g.sink.flush(ctx); err != nil {
				return err
			}
		}
	}
	if err := g.sink.flush(ctx); err != nil {
		return err
	}
	if err := g.exports(ctx); err != nil {
		return err
	}
	return g.sink.finish(ctx)
}

// readNext finds the first free id of each table, so that data can be added to
// what is there.
func (g *generator) readNext(ctx context.Context) error {
	g.next = map[string]int{}
	for _, t := range tables {
		var top sql.NullInt64
		if err := g.o.DB.QueryRowContext(ctx, "SELECT MAX(id) FROM "+t.name).Scan(&top); err != nil {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
		g.next[t.name] = int(top.Int64) + 1
	}
	return nil
}

func (g *generator) add(table string, values ...any) int {
	id := g.next[table]
	g.next[table]++
	g.sink.add(table, append([]any{id}, values...))
	return id
}

// age returns an age in the wanted part of the range; both parts stay a day
// clear of the fourteen-day border.
func (g *generator) age(due bool) time.Duration {
	if due {
		return 15*24*time.Hour + time.Duration(g.rng.Int64N(int64(165*24*time.Hour/time.Second)))*time.Second
	}
	return time.Duration(g.rng.Int64N(int64(12*24*time.Hour/time.Second))) * time.Second
}

// ageOf returns the age of record i in the same ranges, falling with i.
func (g *generator) ageOf(i int, due bool) time.Duration {
	const day = 24 * time.Hour
	all := int(float64(g.o.Records) * g.o.DueShare)
	from, to := 180*day, 15*day
	if !due {
		i, all, from, to = i-all, g.o.Records-all, 12*day, 0
	}
	return from - (from-to)/time.Duration(all)*time.Duration(i) - time.Duration(g.rng.Int64N(int64((from-to)/time.Duration(all))+1))
}

// projects makes the projects, whose rows outlive all transcripts, with a note
// and an audit event each.
func (g *generator) projects() []int {
	ids := make([]int, 3+g.o.Records/40)
	for i := range ids {
		at := g.now.Add(-200*24*time.Hour - time.Duration(i)*time.Hour)
		ids[i] = g.add("projects", projectNames[i%len(projectNames)]+" "+at.Format("2006"), pick(g.rng, []string{"standard", "standard", "sensitive"}),
			"active", at, at, at.Format(time.DateOnly))
		body := sentence(g.rng)
		sum := sha256.Sum256([]byte(body))
		g.add("project_notes", ids[i], "Anteckning", body, hex.EncodeToString(sum[:]), at, at)
		g.add("project_audit_events", ids[i], "created", "info", "system", nil, at, `{"source":"web"}`)
	}
	return ids
}

// record makes one transcript with its children and its audio.
func (g *generator) record(i int, projects []int) error {
	due := int(float64(i+1)*g.o.DueShare) > int(float64(i)*g.o.DueShare)
	if g.o.InOrder {
		due = i < int(float64(g.o.Records)*g.o.DueShare)
	}
	at := g.now.Add(-g.age(due))
	if g.o.InOrder {
		at = g.now.Add(-g.ageOf(i, due))
	}
	var project any
	if i%2 == 0 {
		project = projects[g.rng.IntN(len(projects))]
	}
	assets := min(1, g.o.Children)
	if g.o.Children >= 3 {
		switch i % 25 {
		case 7:
			assets = 0 // still waiting for its audio
		case 19:
			assets = 2 // recorded in two takes
		}
	}
	events := min(2, g.o.Children-assets)
	id := g.add("transcripts", title(g.rng), pick(g.rng, []string{"interview", "meeting", "upload"}), pick(g.rng, []string{"sv", "sv", "en"}),
		60+g.rng.IntN(5400), "reviewed", at, at.Add(time.Hour), project, g.sha("raw", i, 0))
	g.segments(id, g.o.Children-assets-events, at)
	for e := range events {
		g.add("transcript_audit_events", id, []string{"created", "segments_upserted"}[e], "system", at.Add(time.Duration(e)*time.Minute), `{"ok":true}`)
	}
	for k := range assets {
		if err := g.asset(i, k, id, project, projects[i%len(projects)], due, at); err != nil {
			return err
		}
	}
	g.sum.Records++
	g.sum.Children += g.o.Children
	if due {
		g.sum.Due++
	}
	return nil
}

func (g *generator) segments(transcript, n int, at time.Time) {
	ms := 0
	for s := range n {
		length := 1500 + g.rng.IntN(6000)
		g.add("transcript_segments", transcript, ms, ms+length, fmt.Sprintf("SPEAKER_%02d", s%2), sentence(g.rng),
			0.8+float64(g.rng.IntN(2000))/10000, at)
		ms += length
	}
}

// asset makes one audio row and its file; one in fifty is also the holder's.
func (g *generator) asset(i, k, transcript int, project any, holder int, due bool, at time.Time) error {
	sha := g.sha("audio", i, k)
	size := 2000 + g.rng.IntN(4000)
	g.add("audio_assets", project, transcript, sha, "audio/webm", size, sha+".bin", at, "none", nil)
	shared := i%50 == 11 && k == 0
	if shared {
		g.add("project_files", holder, title(g.rng)+".webm", sha, "audio/webm", size, true, sha+".bin", at)
	}
	missing := due && !shared && g.sum.Missing < g.o.Missing
	switch {
	case missing:
		g.sum.Missing++
	case due && shared:
		g.sum.Shared++
	case due:
		g.sum.DueBlobs++
	}
	if missing || g.disk == nil {
		return nil
	}
	g.sum.Blobs++
	return g.disk.blob(sha, g.rng, at)
}

// exports makes the archives that users downloaded, which no row knows of.
func (g *generator) exports(ctx context.Context) error {
	if g.disk == nil {
		return nil
	}
	n := 4 + g.o.Records/10
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		due := int(float64(i+1)*g.o.DueShare) > int(float64(i)*g.o.DueShare)
		name := g.sha("export", i+g.next["transcripts"], 0)[:16]
		if err := g.disk.export(name, g.rng, g.now.Add(-g.age(due))); err != nil {
			return err
		}
		g.sum.Exports++
		if due {
			g.sum.DueExports++
		}
	}
	return nil
}

// sha stands for the digest of a content that is never made in the clear.
func (g *generator) sha(what string, i, k int) string {
	var b [24]byte
	binary.BigEndian.PutUint64(b[0:], g.o.Seed)
	binary.BigEndian.PutUint64(b[8:], uint64(i)+uint64(g.first())<<32)
	binary.BigEndian.PutUint64(b[16:], uint64(k))
	sum := sha256.Sum256(append([]byte(what), b[:]...))
	return hex.EncodeToString(sum[:])
}

// first tells one generation into a database from the next: digests are unique.
func (g *generator) first() int { return g.next["transcripts"] - 1 - g.sum.Records }
