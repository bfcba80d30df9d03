package custody

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
)

// Condition is what is known of a tracked file from the entries alone.
type Condition uint8

// The conditions. Their values stand in the cache.
const (
	Reserved Condition = 1 // announced, and its content is not there yet
	Kept     Condition = 2 // made, and not known to be gone
	Ended    Condition = 3 // gone: see Ending
)

// Ending says how it is known that a file is gone.
type Ending uint8

// The ways to know.
const (
	NotEnded Ending = iota
	Looked          // somebody else took it, and it was seen to be gone
	Erased          // erased by Epitaph, and seen to be gone
	Word            // a person says so; nobody looked
)

// String returns "", "seen", "erased" or "word".
func (e Ending) String() string { return [...]string{"", "seen", "erased", "word"}[min(e, Word)] }

// row is the state of one file in the cache.
type row struct {
	key             []byte
	entry, place    int64 // the operation that made it
	state           Condition
	at              int64
	scope           []byte
	pid             int64
	print           string
	size            int64
	sha             []byte
	required        bool
	due, scheduled  int64
	attempts, tried int64
	incident        bool
	said            int64 // it was said to be gone, and was not seen to be
	ended           int64
	how             Ending
}

const rowColumns = "key, entry, place, state, at, scope, pid, print, size, sha, required, due, scheduled, attempts, tried, incident, said, ended, how"

func (r *row) fields() []any {
	return []any{&r.key, &r.entry, &r.place, &r.state, &r.at, &r.scope, &r.pid, &r.print, &r.size, &r.sha, &r.required,
		&r.due, &r.scheduled, &r.attempts, &r.tried, &r.incident, &r.said, &r.ended, &r.how}
}

func (r *row) values() []any {
	return []any{r.key, r.entry, r.place, r.state, r.at, r.scope, r.pid, r.print, r.size, r.sha, r.required,
		r.due, r.scheduled, r.attempts, r.tried, r.incident, r.said, r.ended, r.how}
}

// applier takes entries into the cache, in their order.
type applier struct {
	p                            *projection
	get, put, begin, done, count *sql.Stmt
	daily                        map[dayAction]int64
}

type dayAction struct {
	day    int64
	action string
}

func newApplier(ctx context.Context, p *projection, tx *sql.Tx) (*applier, error) {
	a := &applier{p: p, daily: map[dayAction]int64{}}
	for _, s := range []struct {
		to    **sql.Stmt
		query string
	}{
		{&a.get, "SELECT " + rowColumns + " FROM files WHERE key = ?"},
		{&a.put, "INSERT OR REPLACE INTO files (" + rowColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
		{&a.begin, "INSERT OR REPLACE INTO work (key, work, entry, place, at) VALUES (?, ?, ?, ?, ?)"},
		{&a.done, "DELETE FROM work WHERE key = ? AND work = ?"},
		{&a.count, "INSERT INTO daily (day, action, n) VALUES (?, ?, ?) ON CONFLICT (day, action) DO UPDATE SET n = n + excluded.n"},
	} {
		var err error
		if *s.to, err = tx.PrepareContext(ctx, s.query); err != nil {
			a.close()
			return nil, err
		}
	}
	return a, nil
}

func (a *applier) close() {
	for _, s := range []*sql.Stmt{a.get, a.put, a.begin, a.done, a.count} {
		if s != nil {
			s.Close()
		}
	}
}

// flush writes the daily counts.
func (a *applier) flush(ctx context.Context) error {
	for k, n := range a.daily {
		if _, err := a.count.ExecContext(ctx, k.day, k.action, n); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) entry(ctx context.Context, e ledger.Entry) error {
	switch e.Kind {
	case ledger.CustodyOperations, ledger.CustodyLooks, ledger.CustodyWord:
		for i, it := range e.Items {
			ev := readEvent(it)
			if ev.sealedOff {
				continue
			}
			if err := a.event(ctx, e, int64(i), &ev); err != nil {
				return err
			}
		}
		return nil
	case ledger.Outcome:
		return a.outcome(ctx, e)
	case ledger.Incident:
		if e.Rule != Rule {
			return nil
		}
		for _, it := range e.Items {
			ev := readEvent(it)
			if err := a.change(ctx, ev.place, func(r *row) { r.incident = true }); err != nil {
				return err
			}
		}
	}
	return nil
}

// change alters the row of a place, if there is one.
func (a *applier) change(ctx context.Context, p place, with func(*row)) error {
	r, err := a.read(ctx, p)
	if err != nil || r.state == 0 {
		return err
	}
	with(r)
	_, err = a.put.ExecContext(ctx, r.values()...)
	return err
}

// read returns the row of a place; its state is 0 when there is none.
func (a *applier) read(ctx context.Context, p place) (*row, error) {
	r := &row{key: a.p.hash(p.identity())}
	err := a.get.QueryRowContext(ctx, r.key).Scan(r.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return r, err
}

func (r *row) end(at time.Time, how Ending) {
	if r.state != Ended {
		r.state, r.ended, r.how, r.incident = Ended, micros(at), how, false
	}
}

// event takes in one operation.
func (a *applier) event(ctx context.Context, e ledger.Entry, n int64, ev *event) error {
	switch ev.stage {
	case seen:
		return a.change(ctx, ev.place, func(r *row) { r.end(e.At, Looked) })
	case attempt:
		return a.change(ctx, ev.place, func(r *row) { r.attempts, r.tried = r.attempts+1, micros(e.At) })
	}
	if e.Kind == ledger.CustodyWord {
		return a.change(ctx, ev.place, func(r *row) { r.end(e.At, Word) })
	}
	if ev.stage == whole || ev.stage == committed { // a reservation is not done yet
		a.daily[dayAction{floorDay(ev.At), ev.Action}]++
	}
	key := a.p.hash(ev.identity())
	switch {
	case ev.kind == Started:
		_, err := a.begin.ExecContext(ctx, key, ev.work, e.Number, n, micros(ev.At))
		return err
	case ev.kind == Completed || ev.kind == Failed:
		if _, err := a.done.ExecContext(ctx, key, ev.work); err != nil {
			return err
		}
		if ev.kind == Failed || ev.state != connector.Present {
			return nil
		}
	case ev.kind.ends() || ev.stage == abandoned:
		return a.change(ctx, ev.place, func(r *row) {
			if r.said = micros(e.At); ev.state == connector.Gone {
				r.end(e.At, Looked)
			}
		})
	case !ev.kind.makes():
		return nil
	}
	return a.make(ctx, e, n, ev)
}

// make takes in an operation after which the file is there, or is to be.
func (a *applier) make(ctx context.Context, e ledger.Entry, n int64, ev *event) error {
	old, err := a.read(ctx, ev.place)
	if err != nil {
		return err
	}
	open := old.state == Reserved || old.state == Kept
	if ev.kind == Completed && open {
		return nil // the file was there before the work and is there still
	}
	r := &row{key: old.key, entry: e.Number, place: n, state: Kept, at: micros(ev.At), pid: int64(ev.Owner.PID),
		print: string(ev.print), size: ev.bytes, required: ev.Required, due: micros(ev.Due), scheduled: micros(ev.Scheduled)}
	if ev.Scope != "" {
		r.scope = a.p.hash(ev.Scope)
	}
	if ev.state != connector.Present {
		r.size = ev.Size
	}
	if ev.Hash != [32]byte{} {
		r.sha = ev.Hash[:]
	}
	if ev.stage == reserved {
		r.state = Reserved
	}
	if open {
		// What was promised of this place holds until it is seen to be kept, or
		// another promise is made.
		if r.due == 0 {
			r.due = old.due
		}
		if r.scheduled == 0 {
			r.scheduled = old.scheduled
		}
		r.required = r.required || old.required
	}
	_, err = a.put.ExecContext(ctx, r.values()...)
	return err
}

// outcome takes in what a purge saw to be gone, by custody or by a policy.
func (a *applier) outcome(ctx context.Context, e ledger.Entry) error {
	gone := false
	for _, r := range e.Results {
		gone = gone || r.State == ledger.Gone || len(r.Parts) > 0
	}
	if !gone {
		return nil
	}
	for in, err := range a.p.ledger.Entries(ctx, ledger.Filter{After: e.Refers - 1, Before: e.Refers + 1, Limit: 1, Unseal: true}) {
		if err != nil {
			return err
		}
		for i, res := range e.Results {
			if i >= len(in.Items) || in.Items[i].SealedOff {
				continue
			}
			it := &in.Items[i]
			if err := a.wentBy(ctx, e, in.Store, it.Locator, res.State, res.Reason); err != nil {
				return err
			}
			for k, part := range res.Parts {
				if k < len(it.Parts) {
					if err := a.wentBy(ctx, e, it.Parts[k].Store, it.Parts[k].Locator, part.State, part.Reason); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (a *applier) wentBy(ctx context.Context, e ledger.Entry, store, locator string, s ledger.State, reason string) error {
	if s != ledger.Gone || store == "" {
		return nil
	}
	how := Erased
	if reason != string(connector.Erasure) {
		how = Looked
	}
	return a.change(ctx, place{store: store, at: connector.Locator(locator)}, func(r *row) { r.end(e.At, how) })
}

// floorDay is the number of the day, in UTC.
func floorDay(t time.Time) int64 {
	s := t.Unix()
	d := s / 86400
	if s%86400 < 0 {
		d--
	}
	return d
}
