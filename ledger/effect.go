package ledger

import (
	"context"
	"fmt"
)

// Effect is what rests on an entry, so that it is still in effect however old it
// is. Retention counts from there: what is kept for six years is kept for six
// years after it last was in effect (45 CFR 164.316(b)(2)(i)). Nothing in a
// ledger rests on an entry but for these.
type Effect string

// The effects. The codes stand in the entry of a pruning.
const (
	// ByIntent: it is an intent without an outcome, or its outcome is young; or
	// the run of such an intent began with it.
	ByIntent Effect = "intent"
	// ByRun: a run began with it that has younger entries. It says who ran which
	// policy and where, for all of them.
	ByRun Effect = "run"
	// ByKey: the key that it introduced signs, or did until lately, and it says more
	// than the entry of a pruning can say again.
	ByKey Effect = "key"
	// ByFork: the ledger has its name from it, and there are more forks than the
	// entry of a pruning can say again.
	ByFork Effect = "fork"
	// ByFile: a file that it tells of is tracked, or was until lately.
	ByFile Effect = "file"
)

// inEffect finds the oldest of the first old entries, all of which are old enough
// to go, that is in effect, or was until one of the younger entries; 0 when there
// is none. What the younger entries tell is what is known of the time since:
// that some of those nearest are older than they need to be keeps a little more.
func (l *Ledger) inEffect(ctx context.Context, old, tracked int64) (held int64, by Effect, err error) {
	minimum, err := l.Minimum(ctx)
	if err != nil || old <= minimum {
		return 0, "", err // nothing more would go
	}
	hold := func(number int64, why Effect) {
		if number > 0 && number <= old && (held == 0 || number < held) {
			held, by = number, why
		}
	}
	hold(tracked, ByFile)
	for _, of := range []func(context.Context, int64, func(int64, Effect)) error{l.heldByIntents, l.heldByRuns, l.heldByNames} {
		if err := of(ctx, old, hold); err != nil {
			return 0, "", fmt.Errorf("find what is in effect: %w", err)
		}
	}
	return held, by, nil
}

// heldByIntents holds the intents that are open, and those whose outcome stays,
// with the starts of their runs.
func (l *Ledger) heldByIntents(ctx context.Context, old int64, hold func(int64, Effect)) error {
	rows, err := l.read.QueryContext(ctx, `SELECT number FROM open_intents WHERE number <= $1
		UNION SELECT intent FROM answers WHERE intent <= $1 AND outcome > $1 ORDER BY 1`, old)
	if err != nil {
		return err
	}
	defer rows.Close()
	var intents []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return err
		}
		intents = append(intents, n)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	runs := map[string]bool{"": true}
	for _, n := range intents {
		hold(n, ByIntent)
		r, err := readRecord(ctx, l.read, n)
		if err != nil {
			return err
		}
		if runs[r.run] {
			continue
		}
		runs[r.run] = true
		if err := l.holdStart(ctx, r.run, old, ByIntent, hold); err != nil {
			return err
		}
	}
	return nil
}

// heldByRuns holds the starts of runs that have entries among those that stay.
func (l *Ledger) heldByRuns(ctx context.Context, old int64, hold func(int64, Effect)) error {
	// '!' follows the space: these are all marks of runs.
	rows, err := l.read.QueryContext(ctx, `SELECT DISTINCT substr(a.key, 5) FROM marks a WHERE a.key >= 'run ' AND a.key < 'run!' AND a.block < $1
		AND EXISTS (SELECT 1 FROM marks b WHERE b.key = a.key AND b.block >= $1)`, old/blockSize)
	if err != nil {
		return err
	}
	defer rows.Close()
	runs := map[string]bool{}
	for rows.Next() {
		var run string
		if err := rows.Scan(&run); err != nil {
			return err
		}
		runs[run] = true
	}
	if err := rows.Err(); err != nil {
		return err
	}
	// The entries after the last whole block have no marks yet.
	var top int64
	if err := l.read.QueryRowContext(ctx, sizeQuery).Scan(&top); err != nil {
		return err
	}
	tail, err := l.load(ctx, span{max(old, top/blockSize*blockSize) + 1, top}, false)
	if err != nil {
		return err
	}
	for i := range tail {
		runs[tail[i].record.run] = true
	}
	delete(runs, "")
	for run := range runs {
		if err := l.holdStart(ctx, run, old, ByRun, hold); err != nil {
			return err
		}
	}
	return nil
}

// holdStart holds the entry with which a run began.
func (l *Ledger) holdStart(ctx context.Context, run string, old int64, why Effect, hold func(int64, Effect)) error {
	return l.holdFirst(ctx, Filter{Kinds: []Kind{RunStarted}, Run: run, Before: old + 1}, why, hold)
}

func (l *Ledger) holdFirst(ctx context.Context, f Filter, why Effect, hold func(int64, Effect)) error {
	f.Limit = 1
	for e, err := range l.Entries(ctx, f) {
		if err != nil {
			return err
		}
		hold(e.Number, why)
	}
	return nil
}

// heldByNames holds, of what says under which key and name the ledger is signed, what
// the entry of a pruning has no room to say again: see carry.go.
func (l *Ledger) heldByNames(ctx context.Context, old int64, hold func(int64, Effect)) error {
	es, err := l.toCarry(ctx, old)
	if err != nil {
		return err
	}
	left := maxCarried - maxCarriedKey
	for i := range es {
		n, ok := carriedLines(&es[i])
		switch {
		case es[i].Kind == KeyRotated:
			if !ok || n > maxCarriedKey {
				hold(es[i].Number, ByKey)
			}
		case !ok || n > left:
			hold(es[i].Number, ByFork)
			left = 0
		default:
			left -= n
		}
	}
	return nil
}
