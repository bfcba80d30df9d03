package custody

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
)

// window is what of the state is at hand while entries are taken in: it is read
// before it is changed, many files at a time, and written in the order of its
// keys, so that each page of the cache is written once.
type window struct {
	p         *projection
	tx        *sql.Tx
	stored    *keys // what may be in the cache; nil when that is not known
	files     map[keyHash]*row
	transfers map[opID]*transferRow
	work      map[workKey]*workRow
	daily     map[dayAction]int64
	roots     map[rootOf]uint64
}

// windowFiles is how many files a window holds before it is written.
const windowFiles = 1 << 17

type workKey struct {
	key  keyHash
	work string
}

// workRow is work that began, or, without an id, that ended.
type workRow struct{ id, at int64 }

type dayAction struct {
	day    int64
	action string
}

func newWindow(p *projection, tx *sql.Tx, stored *keys) *window {
	return &window{p: p, tx: tx, stored: stored, files: map[keyHash]*row{}, transfers: map[opID]*transferRow{}, work: map[workKey]*workRow{}, daily: map[dayAction]int64{}, roots: map[rootOf]uint64{}}
}

// keys is what may be in a cache that is being made: a Bloom filter, so that most
// files that are new are not looked for. Keys are random, so that their parts are
// hashes of them.
type keys struct {
	bits   [1 << 20]uint64
	cursor int64 // up to which entry the cache has been made
}

func (k *keys) each(key *keyHash, visit func(word *uint64, bit uint64) bool) bool {
	for i := 0; i < len(key); i += 4 {
		at := binary.LittleEndian.Uint32(key[i:]) % (64 * uint32(len(k.bits)))
		if !visit(&k.bits[at/64], 1<<(at%64)) {
			return false
		}
	}
	return true
}

func (k *keys) add(key *keyHash) {
	k.each(key, func(word *uint64, bit uint64) bool { *word |= bit; return true })
}

func (k *keys) may(key *keyHash) bool {
	return k.each(key, func(word *uint64, bit uint64) bool { return *word&bit != 0 })
}

// digested is an entry as changes.
type digested struct {
	number  int64
	sealed  bool // texts were destroyed
	changes []change
	daily   map[dayAction]int64
	roots   map[rootOf]uint64 // nil for none
	err     error
}

// digest reads entries and turns them into changes, ahead of those who take them
// in. It ends when the context does.
func (p *projection) digest(ctx context.Context, after, upTo int64) <-chan digested {
	out := make(chan digested, 2)
	go func() {
		defer close(out)
		cr := changeReader{p: p, mac: hmac.New(sha256.New, p.key), hosts: hosts{p, map[string]string{}}}
		give := func(d digested) bool {
			select {
			case out <- d:
				return d.err == nil
			case <-ctx.Done():
				return false
			}
		}
		for e, err := range p.ledger.Entries(ctx, ledger.Filter{Kinds: applied, After: after, Before: upTo + 1, Unseal: true}) {
			d := digested{number: e.Number, err: err}
			if err == nil {
				err = cr.entry(ctx, &e, &d)
				d.err = err
			}
			if !give(d) {
				return
			}
		}
	}()
	return out
}

// entry turns one entry into changes.
func (cr *changeReader) entry(ctx context.Context, e *ledger.Entry, d *digested) error {
	switch e.Kind {
	case ledger.SealedOff:
		d.sealed = true
	case ledger.CustodyOperations, ledger.CustodyLooks, ledger.CustodyWord:
		d.changes, d.daily = make([]change, 0, len(e.Items)), map[dayAction]int64{}
		for i := range e.Items {
			ev := readEvent(e.Items[i])
			if ev.sealedOff {
				continue
			}
			if e.Kind == ledger.CustodyOperations && ev.stage.done() {
				d.daily[dayAction{floorDay(ev.At), ev.Action}]++
			}
			if r, ok := cr.p.rootAt(&ev); ok && e.Kind == ledger.CustodyOperations {
				if d.roots == nil {
					d.roots = map[rootOf]uint64{}
				}
				d.roots[r] = ev.root
			}
			d.changes = cr.operation(d.changes, e, int64(i), &ev)
		}
	case ledger.Outcome:
		return cr.outcome(ctx, e, d)
	case ledger.Incident:
		if code, _ := e.Code("incident"); e.Rule != Rule || code != cleanupFailing {
			return nil
		}
		for i := range e.Items {
			if ev := readEvent(e.Items[i]); !ev.sealedOff {
				d.changes = append(d.changes, change{deed: raised, key: cr.hash(cr.p.identity(ev.place)), at: micros(e.At)})
			}
		}
	}
	return nil
}

// outcome takes in what a purge saw to be gone, by custody or by a policy.
func (cr *changeReader) outcome(ctx context.Context, e *ledger.Entry, d *digested) error {
	if !slices.ContainsFunc(e.Results, func(r ledger.Result) bool { return r.State == ledger.Gone || len(r.Parts) > 0 }) {
		return nil
	}
	for in, err := range cr.p.ledger.Entries(ctx, ledger.Filter{After: e.Refers - 1, Before: e.Refers + 1, Limit: 1, Unseal: true}) {
		if err != nil {
			return err
		}
		host, err := cr.hosts.of(ctx, &in)
		if err != nil {
			return err
		}
		went := func(store, locator string, s ledger.State, reason string) {
			if s != ledger.Gone || store == "" {
				return
			}
			c := change{deed: looked, at: micros(e.At), upTo: newID(e.Refers, 1<<placeBits-1)}
			if reason == string(connector.Erasure) {
				c.deed = erased
			}
			c.key = cr.hash(cr.p.identity(cr.p.disposed(store, locator, host)))
			d.changes = append(d.changes, c)
		}
		for i, res := range e.Results {
			if i >= len(in.Items) || in.Items[i].SealedOff {
				continue
			}
			it := &in.Items[i]
			went(in.Store, it.Locator, res.State, res.Reason)
			for k, part := range res.Parts {
				if k < len(it.Parts) {
					went(it.Parts[k].Store, it.Parts[k].Locator, part.State, part.Reason)
				}
			}
		}
	}
	return nil
}

// hash is what stands in the cache for a text.
func (cr *changeReader) hash(s string) (k keyHash) {
	cr.mac.Reset()
	io.WriteString(cr.mac, s)
	copy(k[:], cr.mac.Sum(cr.sum[:0]))
	return k
}

// hosts tells where disposals took place. It is used by one goroutine.
type hosts struct {
	p     *projection
	ofRun map[string]string
}

// of returns where the disposal of an intent took place; "" when that is not known.
func (h *hosts) of(ctx context.Context, in *ledger.Entry) (string, error) {
	if o := owner.From(*in); o.Host != "" {
		return h.p.hostCoded(o.Host), nil
	}
	if in.Run == "" {
		return "", nil
	}
	if host, ok := h.ofRun[in.Run]; ok {
		return host, nil
	}
	host := ""
	for e, err := range h.p.ledger.Entries(ctx, ledger.Filter{Run: in.Run, Kinds: []ledger.Kind{ledger.RunStarted}, Limit: 1, Unseal: true}) {
		if err != nil {
			return "", err
		}
		if host, _ = e.Code("host"); host == "" {
			host, _ = e.Secret("host")
		}
	}
	h.ofRun[in.Run] = host
	return host, nil
}

// disposed is the place of which an outcome tells.
func (p *projection) disposed(store, locator, host string) place {
	if p.common(store) {
		host = ""
	}
	return place{store: store, at: connector.Locator(locator), host: host}
}

// hostCoded is the name of a host of which the entry has the code.
func (p *projection) hostCoded(code string) string {
	if code == ledger.SafeCode(p.host) {
		return p.host
	}
	return code
}

// take takes in one entry.
func (w *window) take(ctx context.Context, d *digested) error {
	if err := w.load(ctx, d.changes); err != nil {
		return err
	}
	for k, n := range d.daily {
		w.daily[k] += n
	}
	maps.Copy(w.roots, d.roots)
	for i := range d.changes {
		c := &d.changes[i]
		switch {
		case c.deed == begins:
			w.work[workKey{c.key, c.work}] = &workRow{int64(c.id), c.at}
		case c.deed == finishes:
			w.work[workKey{c.key, c.work}] = &workRow{}
		case c.deed == sends:
			w.transfers[c.id] = &transferRow{id: c.id, source: c.key, state: transferOpen, due: c.due, moves: c.move, dirty: true}
		case c.perTransfer():
			if err := w.answer(ctx, c); err != nil {
				return err
			}
		default:
			w.files[c.key].change(c)
		}
	}
	return nil
}

// answer takes in what became of a transfer.
func (w *window) answer(ctx context.Context, c *change) error {
	t := w.transfers[c.of]
	if t == nil {
		list, err := w.p.transfers(ctx, w.tx, "id = ?", "id", int64(c.of))
		if err != nil || len(list) == 0 {
			return err // its text was destroyed
		}
		t = &list[0]
		w.transfers[c.of] = t
	}
	if !t.change(c) {
		return nil
	}
	if err := w.load(ctx, []change{{deed: looked, key: t.source}}); err != nil {
		return err
	}
	w.files[t.source].release(c)
	return nil
}

// perSelect is how many files are read by one statement.
const perSelect = 256

// load reads the state of the files that changes are about.
func (w *window) load(ctx context.Context, changes []change) error {
	var missing []keyHash
	for i := range changes {
		if c := &changes[i]; c.perFile() && w.files[c.key] == nil {
			w.files[c.key] = &row{key: c.key}
			if w.stored == nil || w.stored.may(&c.key) {
				missing = append(missing, c.key)
			}
		}
	}
	slices.SortFunc(missing, func(a, b keyHash) int { return bytes.Compare(a[:], b[:]) })
	for part := range slices.Chunk(missing, perSelect) {
		args := make([]any, len(part))
		for i := range part {
			args[i] = part[i][:]
		}
		rows, err := w.p.rows(ctx, w.tx, "key IN (?"+strings.Repeat(", ?", len(part)-1)+")", "key", args...)
		if err != nil {
			return err
		}
		for i := range rows {
			w.files[rows[i].key] = &rows[i]
		}
	}
	return nil
}

// write writes what was changed.
func (w *window) write(ctx context.Context) error {
	files := dirty(w.files, func(r *row) bool { return r.dirty }, func(a, b *row) int { return bytes.Compare(a.key[:], b.key[:]) })
	if err := replace(ctx, w.tx, "files", rowColumns, files, func(r *row) opID { return r.stored }, (*row).values); err != nil {
		return err
	}
	if w.stored != nil {
		for _, r := range files {
			w.stored.add(&r.key)
		}
	}
	transfers := dirty(w.transfers, func(t *transferRow) bool { return t.dirty }, func(a, b *transferRow) int { return cmp.Compare(a.id, b.id) })
	if err := replace(ctx, w.tx, "transfers", transferColumns, transfers, func(t *transferRow) opID { return t.stored }, (*transferRow).values); err != nil {
		return err
	}
	for k, r := range w.work {
		query, args := "INSERT OR REPLACE INTO work (key, work, id, at) VALUES (?, ?, ?, ?)", []any{k.key[:], k.work, r.id, r.at}
		if r.id == 0 {
			query, args = "DELETE FROM work WHERE key = ? AND work = ?", args[:2]
		}
		if _, err := w.tx.ExecContext(ctx, query, args...); err != nil {
			return err
		}
	}
	for r, inode := range w.roots {
		if err := w.p.putRoot(ctx, w.tx, r, inode); err != nil {
			return err
		}
	}
	for k, n := range w.daily {
		if _, err := w.tx.ExecContext(ctx, "INSERT INTO daily (day, action, n) VALUES (?, ?, ?) ON CONFLICT (day, action) DO UPDATE SET n = n + excluded.n", k.day, k.action, n); err != nil {
			return err
		}
	}
	return nil
}

// dirty are the values that were changed, in order.
func dirty[K comparable, V any](m map[K]*V, is func(*V) bool, order func(a, b *V) int) []*V {
	list := make([]*V, 0, len(m))
	for _, v := range m {
		if is(v) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, order)
	return list
}

// perStatement is how many rows one statement writes; SQLite takes 32,766 values.
const perStatement = 64

// replace writes rows in the place of those that are stored. It takes the old ones
// out first: a statement that replaces keeps a copy of each page, for the case that
// it fails.
func replace[V any](ctx context.Context, tx *sql.Tx, table, columns string, list []*V, stored func(*V) opID, values func(*V, []any) []any) error {
	var old []any
	for _, v := range list {
		if id := stored(v); id != 0 {
			old = append(old, int64(id))
		}
	}
	for part := range slices.Chunk(old, perSelect) {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE id IN (?"+strings.Repeat(", ?", len(part)-1)+")", part...); err != nil {
			return err
		}
	}
	one := "(?" + strings.Repeat(", ?", strings.Count(columns, ",")) + ")"
	var whole *sql.Stmt
	args := make([]any, 0, perStatement*10)
	for part := range slices.Chunk(list, perStatement) {
		args = args[:0]
		for _, v := range part {
			args = values(v, args)
		}
		query := "INSERT OR FAIL INTO " + table + " (" + columns + ") VALUES " + one + strings.Repeat(", "+one, len(part)-1)
		var err error
		if len(part) < perStatement {
			_, err = tx.ExecContext(ctx, query, args...)
		} else {
			if whole == nil {
				if whole, err = tx.PrepareContext(ctx, query); err != nil {
					return err
				}
				defer whole.Close()
			}
			_, err = whole.ExecContext(ctx, args...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
