package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// request is one call of Append, waiting for a flush.
type request struct {
	entries []*prepared
	// alone asks for a transaction without other requests. within runs in it,
	// after the entries were written; its error undoes them.
	alone  bool
	within func(ctx context.Context, tx *txn, first int64) error
	// despite writes also where appending is refused.
	despite bool
	first   int64
	err     error
	// turn is closed when err is final, or receives true when this caller must
	// flush the next group itself.
	turn chan bool
}

// maxGroup bounds the entries of one flush.
const maxGroup = 8192

// Append writes entries with consecutive numbers, the first of which it
// returns. They are durable when err is nil, all of them or none. After an error
// they are not in the ledger, but for a PostgreSQL server that stays away after
// a connection broke at the commit: then it is not known. An error that wraps context.Canceled or context.DeadlineExceeded comes only before
// anything was written. Concurrent calls share a flush.
func (l *Ledger) Append(ctx context.Context, es ...Entry) (first int64, err error) {
	if l.write == nil {
		return 0, ErrReadOnly
	}
	if len(es) == 0 {
		return 0, errors.New("append: no entry given")
	}
	r := &request{entries: make([]*prepared, len(es)), turn: make(chan bool, 1)}
	for i := range es {
		if r.entries[i], err = prepare(&es[i], l.config.Clock(), l.config.Rand); err != nil {
			return 0, fmt.Errorf("append %s: %w", SafeCode(string(es[i].Kind)), err)
		}
	}
	return l.submit(ctx, r)
}

// submit queues a request and waits for it. The first of those that wait
// flushes for all: the others cost no flush of their own.
func (l *Ledger) submit(ctx context.Context, r *request) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	refusal := l.refusal
	if l.closed {
		refusal = ErrClosed
	} else if r.despite {
		refusal = nil
	}
	if refusal != nil {
		l.mu.Unlock()
		return 0, fmt.Errorf("append: %w", refusal)
	}
	l.waiting = append(l.waiting, r)
	lead := !l.flushing
	l.flushing = true
	l.mu.Unlock()
	if !lead {
		select {
		case lead = <-r.turn:
		case <-ctx.Done():
			if l.withdraw(r) {
				return 0, ctx.Err()
			}
			lead = <-r.turn // being written: what becomes of it must be known
		}
	}
	if lead {
		l.gather()
		l.flush(context.WithoutCancel(ctx), l.takeGroup())
		l.passOn()
	}
	return r.first, r.err
}

// withdraw takes a request out of the queue, if it is still there and not
// called to lead.
func (l *Ledger) withdraw(r *request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.waiting {
		if w == r && len(r.turn) == 0 {
			l.waiting = append(l.waiting[:i:i], l.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// gather lets those who were served together with the last flush come back with
// their next request, so that they share this flush too. It does not sleep: who
// is alone does not wait.
func (l *Ledger) gather() {
	const most = 4
	for range most {
		l.mu.Lock()
		enough := l.crowd < 2 || len(l.waiting) >= l.crowd
		l.mu.Unlock()
		if enough {
			return
		}
		runtime.Gosched()
	}
}

// takeGroup takes requests from the front of the queue, one at least.
func (l *Ledger) takeGroup() []*request {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for n < len(l.waiting) && (n == 0 || !l.waiting[n].alone && size+len(l.waiting[n].entries) <= maxGroup) {
		size += len(l.waiting[n].entries)
		n++
		if l.waiting[n-1].alone {
			break
		}
	}
	group := l.waiting[:n:n]
	l.waiting, l.crowd = l.waiting[n:], n
	return group
}

// passOn makes the first of those that wait the next to flush.
func (l *Ledger) passOn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.flushing = false
		l.idle.Broadcast()
		return
	}
	l.waiting[0].turn <- true
}

// flush writes the requests of a group in one transaction. A request that is
// refused does not touch the others.
func (l *Ledger) flush(ctx context.Context, group []*request) {
	err := l.writeGroup(ctx, group)
	for i, r := range group {
		if err != nil && r.err == nil {
			r.first, r.err = 0, fmt.Errorf("append: %w", err)
		}
		if i > 0 { // the first is the one who flushes
			r.turn <- false
		}
	}
}

// writeGroup commits the group. When the connection is lost at the commit, the
// group's token tells whether it got through, so that it is written once.
func (l *Ledger) writeGroup(ctx context.Context, group []*request) error {
	token := make([]byte, 16)
	if _, err := io.ReadFull(l.config.Rand, token); err != nil {
		return fmt.Errorf("read random token: %w", err)
	}
	const attempts = 12
	pause := 2 * time.Millisecond // up to 8 s in all, as long as a server takes to start again
	var base int64 = -1           // size before the first attempt that may have been committed
	for attempt := 1; ; attempt++ {
		err := l.tryGroup(ctx, group, token, &base)
		if err == nil {
			err = l.still()
		}
		if err == nil || attempt == attempts || !l.lost(err) {
			return err
		}
		l.tail = tail{}
		time.Sleep(pause)
		pause *= 2
	}
}

// txn is the transaction of a flush.
type txn struct {
	*sql.Tx
	l *Ledger
}

// The statements of the hot path.
const (
	minimumQuery = "SELECT coalesce(max(minimum), 0) FROM prunes"
	sizeQuery    = "SELECT coalesce((SELECT number + count - 1 FROM entries ORDER BY number DESC LIMIT 1), 0)"
	insertRow    = "INSERT INTO entries (number, count, bundle, hashes, token, clued) VALUES ($1, $2, $3, $4, $5, 1)"
	insertOldRow = "INSERT INTO entries (number, count, bundle, hashes, token) VALUES ($1, $2, $3, $4, $5)" // where there are no clues
	insertNext   = "INSERT INTO entries (number, count, bundle, hashes, token, clued) SELECT $1, $2, $3, $4, $5, 1 WHERE $1 = 1 + (" + sizeQuery + ")"
	insertClue   = "INSERT INTO clues (key, number) VALUES ($1, $2)"
	insertLeaves = "INSERT INTO leaves (number, blob) VALUES ($1, $2)"
	insertTexts  = "INSERT INTO sealed (number, texts) VALUES ($1, $2)"
	insertLookup = "INSERT INTO lookup (number, filter) VALUES ($1, $2)"
	insertOpen   = "INSERT INTO open_intents (number, items) VALUES ($1, $2)"
	deleteOpen   = "DELETE FROM open_intents WHERE number = $1"
	insertAnswer = "INSERT INTO answers (intent, outcome) VALUES ($1, $2)"
	insertBlock  = "INSERT INTO blocks (block, first_at, last_at) VALUES ($1, $2, $3)"
	insertMark   = "INSERT INTO marks (key, block, bits) VALUES ($1, $2, $3)"
	insertNode   = "INSERT INTO nodes (level, idx, hash) VALUES ($1, $2, $3)"
)

// prepareStatements keeps the statements of the hot path prepared, where the
// driver does not do so itself.
func (l *Ledger) prepareStatements(ctx context.Context) error {
	l.stmts = map[string]*sql.Stmt{}
	if l.write == nil || l.keepsStatements() {
		return nil
	}
	queries := []string{sizeQuery, insertRow, insertLeaves, insertTexts, insertLookup,
		insertOpen, deleteOpen, insertAnswer, insertBlock, insertMark, insertNode, insertClue}
	if l.clued {
		queries = append(queries, insertNext)
	}
	for _, query := range queries {
		s, err := l.write.PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		l.stmts[query] = s
	}
	return nil
}

// exec runs a statement.
func (t *txn) exec(ctx context.Context, query string, args ...any) (err error) {
	if s := t.l.stmts[query]; s != nil {
		_, err = t.StmtContext(ctx, s).ExecContext(ctx, args...)
	} else {
		_, err = t.ExecContext(ctx, query, args...)
	}
	return err
}

func (l *Ledger) tryGroup(ctx context.Context, group []*request, token []byte, base *int64) error {
	if written, err := l.writeRow(ctx, group, token); written || err != nil {
		return err
	}
	tx, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	size, err := tx.size(ctx)
	if err != nil {
		return err
	}
	if *base >= 0 && size > *base {
		found, err := tx.findToken(ctx, *base, token)
		if err != nil {
			return err
		}
		if found > 0 {
			number(group, found)
			return nil
		}
	}
	*base = size
	return l.writeEntries(ctx, tx, group, size, token)
}

func (l *Ledger) begin(ctx context.Context) (*txn, error) {
	tx, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err := l.lockHead(ctx, tx); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return &txn{tx, l}, nil
}

func (t *txn) size(ctx context.Context) (n int64, err error) {
	if s := t.l.stmts[sizeQuery]; s != nil {
		err = t.StmtContext(ctx, s).QueryRowContext(ctx).Scan(&n)
		return n, err
	}
	err = t.QueryRowContext(ctx, sizeQuery).Scan(&n)
	return n, err
}

// findToken looks for an entry written by an earlier attempt.
func (t *txn) findToken(ctx context.Context, after int64, token []byte) (n int64, err error) {
	err = t.QueryRowContext(ctx, "SELECT coalesce(min(number), 0) FROM entries WHERE number > $1 AND token = $2", after, token).Scan(&n)
	return n, err
}

// number tells the requests that were not refused their first numbers.
func number(group []*request, first int64) (entries []*prepared) {
	for _, r := range group {
		if r.err == nil {
			r.first = first
			first += int64(len(r.entries))
			entries = append(entries, r.entries...)
		}
	}
	return entries
}

func (l *Ledger) writeEntries(ctx context.Context, tx *txn, group []*request, size int64, token []byte) error {
	if l.tail.size != size || l.tail.marks == nil {
		t, err := loadTail(ctx, tx, size)
		if err != nil {
			return err
		}
		if err := l.checkMoved(ctx, tx, size); err != nil {
			return err
		}
		l.tail = *t
	}
	for _, r := range group {
		if r.err != nil {
			continue
		}
		if err := checkRefers(ctx, tx, r, size); err != nil {
			r.err = err
		}
	}
	entries := number(group, size+1)
	if len(entries) == 0 {
		return nil
	}
	// Until the commit the tail is ahead of the ledger: whatever fails from here
	// on, the next flush reads it again.
	next := l.tail
	l.tail = tail{}
	if err := tx.insertEntries(ctx, size+1, entries, token); err != nil {
		return err
	}
	for i, p := range entries {
		if err := tx.insertAside(ctx, size+1+int64(i), p); err != nil {
			return err
		}
	}
	if err := next.add(ctx, tx, entries); err != nil {
		return err
	}
	if r := group[0]; r.within != nil {
		if err := r.within(ctx, tx, r.first); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if entries[len(entries)-1].kind != string(Copied) { // which is to be looked at before anything is appended
		l.tail = next
	}
	return nil
}

// checkRefers checks that results answer an intent of as many items. Writing
// results that cannot be read again would lose what became of the items.
func checkRefers(ctx context.Context, tx *txn, r *request, size int64) error {
	for _, p := range r.entries {
		if p.refers > size {
			return fmt.Errorf("append %s: refers to entry %d, which does not exist", p.kind, p.refers)
		}
		if p.batch != resultBatch {
			continue
		}
		var items int64
		err := tx.QueryRowContext(ctx, "SELECT items FROM open_intents WHERE number = $1", p.refers).Scan(&items)
		if errors.Is(err, sql.ErrNoRows) {
			items, err = tx.intentItems(ctx, p.refers)
		}
		if err != nil {
			return fmt.Errorf("append %s: %w", p.kind, err)
		}
		if items != int64(p.count) {
			return fmt.Errorf("append %s: %d results for entry %d, which has %d items", p.kind, p.count, p.refers, items)
		}
	}
	return nil
}

// intentItems counts the items of an intent that is no longer open.
func (t *txn) intentItems(ctx context.Context, number int64) (int64, error) {
	r, err := readRecord(ctx, t, number)
	if err != nil {
		return 0, err
	}
	if r.kind != string(Intent) {
		return 0, fmt.Errorf("entry %d is not an intent", number)
	}
	return int64(r.count), nil
}

// insertEntries writes entries in rows as long as they may be.
func (t *txn) insertEntries(ctx context.Context, first int64, ps []*prepared, token []byte) error {
	query := insertRow
	if !t.l.clued {
		query = insertOldRow
	}
	for len(ps) > 0 {
		n := min(len(ps), int(blockSize-(first-1)%blockSize))
		bundle, hashes := bundleOf(ps[:n])
		if err := t.exec(ctx, query, first, n, bundle, hashes, token); err != nil {
			return err
		}
		ps, first, token = ps[n:], first+int64(n), nil
	}
	return nil
}

// insertAside writes what lies beside an entry: leaves, sealed texts, and the
// projections it implies.
func (t *txn) insertAside(ctx context.Context, number int64, p *prepared) error {
	if p.leaves != nil {
		if err := t.exec(ctx, insertLeaves, number, p.leaves); err != nil {
			return err
		}
	}
	if p.texts != nil {
		if err := t.exec(ctx, insertTexts, number, p.texts); err != nil {
			return err
		}
	}
	if p.lookup != nil {
		if err := t.exec(ctx, insertLookup, number, []byte(p.lookup)); err != nil {
			return err
		}
	}
	if len(p.clues) > 0 {
		if err := t.insertClues(ctx, number, p.clues); err != nil {
			return err
		}
	}
	switch {
	case p.kind == string(Intent):
		return t.exec(ctx, insertOpen, number, p.count)
	case p.kind == string(Outcome) && p.refers != 0:
		if err := t.exec(ctx, insertAnswer, p.refers, number); err != nil {
			return err
		}
		return t.exec(ctx, deleteOpen, p.refers)
	}
	return nil
}
