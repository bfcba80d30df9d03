package custody

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"runtime"
	"sync"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody/words"
)

// Verdict says what an integrity check found of one file or row.
type Verdict string

// The verdicts. OK, KnownGone, NotChecked and Elsewhere are no findings.
const (
	OK         Verdict = "ok"          // there, and all that was checked agrees
	KnownGone  Verdict = "deleted"     // known to be gone, and not there
	NotChecked Verdict = "not-checked" // there, with its size, but nobody recorded its hash
	Elsewhere  Verdict = "elsewhere"   // in the directory of another host, which must look at it
	Lost       Verdict = "missing"     // it should be there, and is not
	Returned   Verdict = "returned"    // it was known to be gone, and is there
	Resized    Verdict = "size"        // its size is not the one recorded
	Edited     Verdict = "edited"      // its content is not the one recorded, and it was written to since
	Rotten     Verdict = "bit-rot"     // its content is not the one recorded, and it was not written to
	Unseen     Verdict = "unknown"     // it could not be looked at or read
	Stranger   Verdict = "untracked"   // it is in a tracked root, and no operation made it
	Unpaired   Verdict = "no-pair"     // the file that must stand beside it is not there in time
)

// Finding reports a verdict that a person must look at.
func (v Verdict) Finding() bool {
	return v != OK && v != KnownGone && v != NotChecked && v != Elsewhere && v != RowOK && v != RowNotChecked && v != RowElsewhere
}

// Checked is what a check found of one file.
type Checked struct {
	File
	Verdict Verdict
	Reason  connector.Reason
	// Read is how many bytes were hashed: none where a bucket vouches for the hash
	// that it keeps itself.
	Read int64
	// Table is the name of the application's table that the verdict is about; ""
	// for none. Row is the key of the row where that tells nothing of a person, and
	// RowLocator always; both are empty for the whole table and for a file
	// without a row.
	Table, Row string
	RowLocator connector.Locator
}

// Pair is a rule that a file must have another within a time; see [words.Pair].
type Pair = words.Pair

// Root is a store whose every file must be tracked.
type Root struct {
	Store string
	// Grace leaves alone what was written less long ago.
	Grace time.Duration
}

// Check says what VerifyFiles checks.
type Check struct {
	// Hashes reads every file and compares its SHA-256.
	Hashes bool
	// Scope takes only files of this scope.
	Scope string
	// Part and Parts take one of so many parts of the files: all of them are
	// checked after Parts runs. Zero takes all.
	Part, Parts int
	// Roots are the stores in which untracked files are looked for.
	Roots []Root
	// Except reports paths that are no application's, such as the ledger itself.
	Except func(path string) bool
	Pairs  []Pair
	// Tables are the application's own tables, with which the tracked files are
	// compared.
	Tables []Table
	// Workers read files at the same time. Default: all processors.
	Workers int
	// Progress is called now and then with the files done so far, and about how
	// many there are.
	Progress func(done, of int64)
}

// VerifyFiles compares every tracked file with what was recorded of it and calls
// visit with each verdict, in no particular order but never at the same time. Then
// it compares the tables of the application with the tracked files; rows are not
// counted in the progress. It ends with an error when the ledger, a root or a table
// cannot be read, or visit gives one.
func (c *Custody) VerifyFiles(ctx context.Context, k Check, visit func(Checked) error) error {
	if k.Parts < 0 || k.Parts > 0 && (k.Part < 1 || k.Part > k.Parts) {
		return fmt.Errorf("part %d of %d is none", k.Part, k.Parts)
	}
	v := verifier{c: c, k: k, visit: visit}
	if err := v.compile(); err != nil {
		return err
	}
	if k.Workers <= 0 {
		v.k.Workers = runtime.GOMAXPROCS(0)
	}
	where, args := "1", []any(nil)
	if k.Scope != "" {
		where, args = "scope = ?", []any{c.state.hash(k.Scope)}
	}
	if err := v.count(ctx, where, args); err != nil {
		return err
	}
	var batch []Sighting
	for f, err := range c.files(ctx, where, args) {
		if err != nil {
			return err
		}
		if k.Parts > 0 && partOf(f.event.identity(), k.Parts) != k.Part {
			continue
		}
		if batch = append(batch, Sighting{File: f}); len(batch) == perLook {
			if err := v.batch(ctx, batch); err != nil {
				return err
			}
			batch = nil
		}
	}
	if err := v.batch(ctx, batch); err != nil {
		return err
	}
	return errors.Join(v.strangers(ctx), v.tables(ctx))
}

// compile reads the pairs and tables of the check.
func (v *verifier) compile() error {
	for _, p := range v.k.Pairs {
		pattern, err := p.Compile()
		if err != nil {
			return fmt.Errorf("pair %q: %w", p.File+"="+p.Beside, err)
		}
		for _, name := range []string{p.Store, p.In} {
			if _, ok := v.c.store(name); !ok && name != "" {
				return fmt.Errorf("pair %q: there is no store %q", p.File+"="+p.Beside, name)
			}
		}
		v.pairs = append(v.pairs, pattern)
	}
	for i := range v.k.Tables {
		if err := v.k.Tables[i].check(v.c); err != nil {
			return fmt.Errorf("table %s: %w", v.k.Tables[i].Name, err)
		}
	}
	return nil
}

// partOf is the part, from 1, in which a file is checked. It depends on nothing but the
// place, so that every file has its turn.
func partOf(identity string, parts int) int {
	h := fnv.New64a()
	h.Write([]byte(identity))
	return 1 + int(h.Sum64()%uint64(parts))
}

type verifier struct {
	c          *Custody
	k          Check
	visit      func(Checked) error
	pairs      []*words.Pattern
	mu         sync.Mutex // holds visit and the counts
	files, all int64
	failed     error
}

// count finds out how many files there are, for the progress.
func (v *verifier) count(ctx context.Context, where string, args []any) error {
	if v.k.Progress == nil {
		return nil
	}
	if err := v.c.state.catchUp(ctx); err != nil {
		return err
	}
	err := v.c.state.db.QueryRowContext(ctx, "SELECT count(*) FROM files WHERE "+where, args...).Scan(&v.all)
	v.all /= int64(max(v.k.Parts, 1))
	return err
}

// batch looks at files by store and reads them on all workers.
func (v *verifier) batch(ctx context.Context, list []Sighting) error {
	v.c.sightAsRecorded(ctx, list)
	work := make(chan *Sighting)
	var wg sync.WaitGroup
	for range min(v.k.Workers, len(list)) {
		wg.Go(func() {
			buf := make([]byte, chunk)
			for s := range work {
				v.give(v.one(ctx, s, buf))
			}
		})
	}
	for i := range list {
		if ctx.Err() != nil {
			break
		}
		work <- &list[i]
	}
	close(work)
	wg.Wait()
	if v.failed != nil {
		return v.failed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.unpaired(ctx, list)
}

func (v *verifier) give(r Checked) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed == nil {
		v.failed = v.visit(r)
	}
	if r.Table != "" {
		return
	}
	v.files++
	if v.k.Progress != nil && (v.files%256 == 0 || r.Read > 1<<20) {
		v.k.Progress(v.files, max(v.all, v.files))
	}
}

// sightAsRecorded looks at the files and keeps the fingerprint that was recorded.
func (c *Custody) sightAsRecorded(ctx context.Context, list []Sighting) {
	recorded := make([]connector.Fingerprint, len(list))
	for i := range list {
		recorded[i] = list[i].print
	}
	c.sight(ctx, list)
	for i := range list {
		list[i].print = recorded[i]
	}
}

// one gives the verdict on one file that was looked at.
func (v *verifier) one(ctx context.Context, s *Sighting, buf []byte) Checked {
	r := Checked{File: s.File, Reason: s.Reason}
	now := s.event.sight
	switch {
	case s.File.Elsewhere:
		r.Verdict = Elsewhere
	case s.State == connector.Unknown:
		r.Verdict = Unseen
	case s.State == connector.Gone && s.Condition == Kept:
		r.Verdict = Lost
	case s.State == connector.Gone:
		r.Verdict = KnownGone // or reserved, and not there yet
	case s.Condition == Ended:
		r.Verdict = Returned
	case s.Condition == Reserved:
		r.Verdict = NotChecked // it is being written
	case s.print == "" && s.Size == 0:
		r.Verdict = NotChecked // it was never seen, nor was its size said
	case now.bytes != s.Size:
		r.Verdict = Resized
	case !v.k.Hashes:
		r.Verdict = OK
	case s.Hash == "":
		r.Verdict = NotChecked
	default:
		v.content(ctx, s, buf, &r)
	}
	return r
}

// content reads the file and compares its hash.
func (v *verifier) content(ctx context.Context, s *Sighting, buf []byte, r *Checked) {
	sum, _, n, err := v.c.read(ctx, s.event.place, buf)
	r.Read = n
	switch {
	case errors.Is(err, errNoContent):
		r.Verdict = NotChecked
	case err != nil && errors.Is(err, fs.ErrPermission):
		r.Verdict, r.Reason = Unseen, connector.NoPermission
	case errors.Is(err, errMoved):
		r.Verdict, r.Reason = Unseen, connector.Changed
	case err != nil:
		r.Verdict, r.Reason = Unseen, connector.Unreachable
	case hex.EncodeToString(sum[:]) == s.Hash:
		r.Verdict = OK
	case s.print != "" && s.print == s.event.print:
		// The same inode, size and instant of the last write, and other bytes.
		r.Verdict = Rotten
	default:
		r.Verdict = Edited
	}
}

// unpaired looks for the files that must be there because of those of the list.
func (v *verifier) unpaired(ctx context.Context, list []Sighting) error {
	now := v.c.now()
	var missing []Sighting
	var of []int
	for i := range list {
		s := &list[i]
		if s.Condition != Kept || s.State != connector.Present {
			continue
		}
		for _, p := range v.pairs {
			if p.Made != "" && p.Made != s.Made.Action || p.Store != "" && p.Store != s.event.store || now.Sub(s.Made.At) < p.Within {
				continue
			}
			at, ok := p.Other(string(s.event.at))
			if !ok {
				continue
			}
			other := *s
			if other.event.at = connector.Locator(at); p.In != "" {
				other.event.store = p.In
			}
			missing, of = append(missing, other), append(of, i)
		}
	}
	v.c.sight(ctx, missing)
	for k := range missing {
		if missing[k].State == connector.Gone {
			v.give(Checked{File: list[of[k]].File, Verdict: Unpaired, Reason: connector.Missing})
		} else if missing[k].State == connector.Unknown {
			v.give(Checked{File: list[of[k]].File, Verdict: Unseen, Reason: missing[k].Reason})
		}
	}
	return v.failed
}

// strangers reports untracked files; whether they belong to a scope cannot be
// known, so that they are reported with every one.
func (v *verifier) strangers(ctx context.Context) error {
	var blind []error
	for _, root := range v.k.Roots {
		before := v.c.now().Add(-root.Grace)
		if root.Grace == 0 {
			before = before.Add(time.Hour) // the clock of a file server may be ahead
		}
		list, err := v.c.untracked(ctx, root.Store, before, v.k.Except)
		for _, o := range list {
			v.give(Checked{File: o.File, Verdict: Stranger})
		}
		if err != nil {
			blind = append(blind, fmt.Errorf("store %s: %w", root.Store, err))
		}
	}
	return errors.Join(append(blind, v.failed)...)
}
