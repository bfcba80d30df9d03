package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/epitaph/epitaph/proof"
)

// Verdict is the answer to one question about a ledger.
type Verdict string

// The verdicts. A question that cannot be answered is Unknown, never Good.
const (
	Good         Verdict = "good"
	Bad          Verdict = "bad"
	Undetermined Verdict = "unknown"
)

// Verification says what to verify.
type Verification struct {
	// Trust checks the signatures of checkpoints.
	Trust proof.Trust
	// Pins and Notes are checkpoints kept outside of the ledger.
	Pins  []Pin
	Notes [][]byte
	// Since skips the entries up to that number, which must have been verified
	// before: of them only the hashes of whole blocks are read, which are bound by
	// the checkpoints. What was changed in them since then is not seen.
	Since int64
	// Workers is how many goroutines hash. Default: one for each processor.
	Workers int
}

// Report is the result of Verify. Its two verdicts answer two questions and are
// never merged.
type Report struct {
	// Unaltered: is what the ledger holds what was written? Bad when there is a
	// Fault; Good when there is none and a trusted signature covers the entries
	// up to SignedTo; Undetermined when nothing is signed by a trusted key.
	Unaltered Verdict
	SignedTo  int64
	Since     int64 // entries that were skipped as verified before, in whole blocks
	// Complete: does the ledger still hold all that the checkpoints kept outside
	// of it cover? Bad when Missing is not empty; Undetermined when none was
	// given. Good means complete up to CompleteTo entries, as of CompleteAt.
	Complete   Verdict
	CompleteTo int64
	CompleteAt time.Time // when the checkpoint was signed; zero when it does not say
	// Witnesses cosigned the checkpoint of CompleteTo.
	Witnesses []proof.Cosignature
	// Empty names the pins that can be read and hold nothing: what was kept there
	// is gone, or never came there. With one of them Complete is not Good.
	Empty []string

	Size    int64 // entries, pruned ones included
	Minimum int64 // entries that were pruned from the beginning
	Root    tlog.Hash
	Entries int64 // entries that were read, decoded, encoded again and hashed
	Sealed  int64 // sealed texts that match their commitments
	Off     int64 // sealed texts that were destroyed, as an entry says
	// Checkpoints counts kept checkpoints that agree with the tree. Unchecked
	// counts those that cannot be compared: of a tree that was pruned, or of
	// history lost by a fork.
	Checkpoints, Unchecked int64
	Forks                  []int64 // entries that say that history was lost, pruned ones too
	// Prunings are the entries that say that the beginning went, as far as they are
	// still there and were read: the last is the one in force.
	Prunings []PruneEntry
	// Unguarded names the triggers that keep the tables insert-only and are
	// missing, altered or out of force. They are no sign of an alteration, and no
	// fault: the next careless statement changes the ledger instead of failing.
	Unguarded []string

	// Faults and Missing name each fault with its place, at most MaxFaults of
	// each; More counts the rest.
	Faults  []Fault
	Missing []Fault
	More    int64
}

// MaxFaults bounds the faults that a report lists.
const MaxFaults = 10_000

// Fault is one thing that is wrong.
type Fault struct {
	// Number is the entry it is about; 0 when it is about none.
	Number int64
	Place  string // such as "entry 12" or "checkpoint 3"
	Text   string // what is wrong with it
}

// String returns "place: text".
func (f Fault) String() string { return f.Place + ": " + f.Text }

// verifier gathers what the workers find.
type verifier struct {
	l       *Ledger
	v       Verification
	size    int64
	minimum int64
	first   int64 // the block from which entries are read

	mu     sync.Mutex
	report Report
	blocks []blockSum          // by block, from first on
	clues  map[int64]*[32]byte // by block: the sum of its entries' clues; nil where it is not known
	acts   []numbered          // entries that concern the ledger itself
	// pruning is the entry of the pruning in force; nil where none says it.
	pruning *numbered
	opened  map[int64]int         // intents: items
	closed  map[span]bool         // intent and outcome
	prefix  map[int64][]tlog.Hash // sizes of checkpoints inside a block: subtrees
}

// blockSum is what the entries of a block come to.
type blockSum struct {
	root            tlog.Hash
	whole           bool // all its entries were read
	marks           [32]byte
	firstAt, lastAt int64
}

// Verify reads the whole ledger and checks it against itself, against the
// signatures, and against what is kept outside. It finds all faults, not the
// first only. The error is for a ledger that could not be read at all, and for
// a context that ended; a damaged ledger is no error but a fault.
func (l *Ledger) Verify(ctx context.Context, v Verification) (Report, error) {
	if v.Workers < 1 {
		v.Workers = runtime.GOMAXPROCS(0)
	}
	s := &verifier{l: l, v: v, opened: map[int64]int{}, closed: map[span]bool{}, prefix: map[int64][]tlog.Hash{}, clues: map[int64]*[32]byte{}}
	notes, err := s.outside(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	tx, err := l.snapshot(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	defer tx.Rollback()
	var pruned int64
	if s.size, err = lastNumber(ctx, tx); err == nil {
		err = tx.QueryRowContext(ctx, minimumQuery).Scan(&pruned)
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	s.minimum = pruned
	version, err := currentVersion(ctx, tx)
	if err == nil {
		s.report.Unguarded, err = l.unguarded(ctx, tx, version)
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify: read the triggers: %w", err)
	}
	if err := s.bound(ctx, tx); err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	s.report.Size, s.report.Minimum, s.report.Since = s.size, s.minimum, max(0, s.first*blockSize-s.minimum)
	notes = s.collectNotes(ctx, tx, notes)
	if err := s.readAll(ctx); err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	s.strays(ctx, tx)
	s.readPruning(ctx, tx)
	s.readForks(ctx, tx)
	t := s.buildTree(ctx, tx)
	s.checkNotes(ctx, tx, t, notes)
	s.checkIndex(ctx, tx)
	s.checkActs(ctx, tx)
	if err := ctx.Err(); err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	if now, err := l.Minimum(ctx); err == nil && now > pruned {
		return Report{}, errors.New("verify: the ledger was pruned meanwhile; verify it again")
	}
	s.conclude()
	return s.report, nil
}

// lastNumber is the number of the last entry, of a table that may hold anything.
func lastNumber(ctx context.Context, q querier) (int64, error) {
	var number int64
	var count any
	err := q.QueryRowContext(ctx, "SELECT number, count FROM entries ORDER BY number DESC LIMIT 1").Scan(&number, &count)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if n, ok := count.(int64); ok && n > 1 && n <= blockSize && number < math.MaxInt64-blockSize {
		number += n - 1
	}
	return number, err
}

// bound brings numbers that the database may lie about within reason: a single
// row far away may not cost the time and memory of all numbers up to it.
func (s *verifier) bound(ctx context.Context, q querier) error {
	const few = 1 << 20
	if s.size < 0 || s.size > few {
		var entries int64
		err := q.QueryRowContext(ctx, "SELECT coalesce(sum(CASE WHEN count BETWEEN 1 AND $1 THEN count END), 0) FROM entries", int64(blockSize)).Scan(&entries)
		if err != nil {
			return err
		}
		var blocks int64 // of which a hash is kept, those that were pruned too
		if err := q.QueryRowContext(ctx, "SELECT count(*) FROM nodes WHERE level = 1").Scan(&blocks); err != nil {
			return err
		}
		// Of a sound ledger all are there. Of one that lost most of them, the gaps
		// are still to be listed.
		if most := blocks*blockSize + 8*entries + few; s.size < 0 || s.size > most {
			s.fault(0, "entries", "a number of %d, which no ledger reaches that holds %d", s.size, entries)
			err := q.QueryRowContext(ctx, "SELECT coalesce(max(number), 0) FROM entries WHERE number >= 0 AND number <= $1", most).Scan(&s.size)
			if err != nil {
				return err
			}
		}
	}
	if s.minimum < 0 || s.minimum > s.size || s.minimum%blockSize != 0 {
		s.fault(0, "prunes", "%d entries are said to be pruned, of %d", s.minimum, s.size)
		s.minimum = 0
	}
	if s.v.Since > s.size {
		s.missing(fmt.Sprintf("entries %d to %d", s.size+1, s.v.Since), "they were verified before, and are not in the ledger")
	}
	s.first = max(s.minimum, min(s.v.Since, s.size)) / blockSize
	return nil
}

func (s *verifier) fault(number int64, place, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.report.Faults) >= MaxFaults {
		s.report.More++
		return
	}
	s.report.Faults = append(s.report.Faults, Fault{number, place, fmt.Sprintf(format, args...)})
}

func (s *verifier) missing(place, format string, args ...any) {
	s.report.Missing = append(s.report.Missing, Fault{0, place, fmt.Sprintf(format, args...)})
}

// outsideNote is a checkpoint to compare with.
type outsideNote struct {
	place   string
	note    []byte
	outside bool // not kept in the ledger itself
	size    int64
	signed  proof.Signed // as it was opened
	err     error
}

// outside reads the checkpoints outside of the ledger. It is called before the state
// to verify is taken, so that none is of entries after that.
func (s *verifier) outside(ctx context.Context) (notes []outsideNote, err error) {
	for _, p := range s.v.Pins {
		note, err := p.Latest(ctx)
		if err != nil {
			return nil, fmt.Errorf("read pinned checkpoint (%s): %w", p.Name(), err)
		}
		if note != nil {
			notes = append(notes, outsideNote{place: "pinned checkpoint (" + p.Name() + ")", note: note, outside: true})
		} else if canBeRead(p) {
			s.report.Empty = append(s.report.Empty, p.Name())
		}
	}
	for i, note := range s.v.Notes {
		notes = append(notes, outsideNote{place: fmt.Sprintf("given checkpoint %d", i+1), note: note, outside: true})
	}
	return notes, nil
}

// collectNotes adds the kept checkpoints, and remembers which sizes lie within a
// block.
func (s *verifier) collectNotes(ctx context.Context, q querier, notes []outsideNote) []outsideNote {
	err := s.l.eachNote(ctx, q, func(id, size int64, note []byte) {
		place := fmt.Sprintf("checkpoint %d", id)
		if c, err := proof.Peek(note); err == nil && c.Size != size {
			s.fault(0, place, "it is filed under the size %d and has %d", size, c.Size)
		}
		notes = append(notes, outsideNote{place: place, note: note})
	})
	if err != nil {
		s.fault(0, "checkpoints", "they cannot be read")
	}
	for i := range notes {
		if c, err := proof.Peek(notes[i].note); err == nil {
			notes[i].size = c.Size
			if c.Size > s.first*blockSize && c.Size <= s.size && c.Size%blockSize != 0 {
				s.prefix[c.Size] = nil
			}
		}
	}
	s.prefix[s.size] = nil
	return notes
}

// readAll reads the entries in parallel, some blocks at a time.
func (s *verifier) readAll(ctx context.Context) error {
	const step = 64 // blocks
	last := (s.size + blockSize - 1) / blockSize
	s.blocks = make([]blockSum, max(0, last-s.first))
	sizes := make(map[int64][]int64)
	for size := range s.prefix {
		sizes[size/blockSize] = append(sizes[size/blockSize], size)
	}
	work := make(chan int64)
	var wg sync.WaitGroup
	for range min(int64(s.v.Workers), max(1, last-s.first)) {
		wg.Go(func() {
			for from := range work {
				c := &chunk{s: s, sizes: sizes, from: from, to: min(from+step, last)}
				c.read(ctx)
			}
		})
	}
	for from := s.first; from < last && ctx.Err() == nil; from += step {
		work <- from
	}
	close(work)
	wg.Wait()
	return ctx.Err()
}

// strays looks for rows that lie where none may be, in the state that is verified:
// what is appended meanwhile is of entries after it.
func (s *verifier) strays(ctx context.Context, q querier) {
	for _, t := range []struct{ table, where, text string }{
		{"entries", "number < 1 OR number <= $1", "rows of entries that were pruned, or with a number below 1"},
		{"leaves", "number < 1 OR number <= $1 OR number > $2", "leaves of no entry"},
		{"sealed", "number < 1 OR number <= $1 OR number > $2", "sealed texts of no entry"},
		{"lookup", "number < 1 OR number <= $1 OR number > $2", "filters of no entry"},
	} {
		args := []any{s.minimum}
		if t.table != "entries" {
			args = append(args, s.size)
		}
		var n int64
		if err := q.QueryRowContext(ctx, "SELECT count(*) FROM "+t.table+" WHERE "+t.where, args...).Scan(&n); err != nil {
			s.fault(0, t.table, "it cannot be read")
		} else if n > 0 {
			s.fault(0, t.table, "%d %s", n, t.text)
		}
	}
}

// conclude draws the verdicts.
func (s *verifier) conclude() {
	r := &s.report
	slices.SortStableFunc(r.Faults, func(a, b Fault) int { return cmp.Compare(orLast(a.Number), orLast(b.Number)) })
	switch {
	case len(r.Faults) > 0:
		r.Unaltered = Bad
	case r.SignedTo > 0:
		r.Unaltered = Good
	default:
		r.Unaltered = Undetermined
	}
	switch {
	case len(r.Missing) > 0:
		r.Complete = Bad
	case r.CompleteTo > 0 && len(r.Empty) == 0:
		r.Complete = Good
	default:
		r.Complete = Undetermined
	}
}

func orLast(number int64) int64 {
	if number == 0 {
		return math.MaxInt64
	}
	return number
}
