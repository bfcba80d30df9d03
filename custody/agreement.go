package custody

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// The verdicts on rows of the application's own tables. RowOK, RowNotChecked and
// RowElsewhere are no findings.
const (
	RowOK         Verdict = "row-ok"          // it names a tracked file that is there, and what both say agrees
	RowNotChecked Verdict = "row-not-checked" // the same, but size or hash are known to one side only
	RowElsewhere  Verdict = "row-elsewhere"   // its file is tracked in the directory of another host, which must look at it
	RowUntracked  Verdict = "row-untracked"   // it names a file that is there, and no operation made it
	RowMissing    Verdict = "row-missing"     // it names a file that is not there
	RowResized    Verdict = "row-size"        // it has another size than the tracked file
	RowRehashed   Verdict = "row-hash"        // it has another hash than the tracked file
	RowAstray     Verdict = "row-path"        // the file that was tracked for its object is another one
	RowInvalid    Verdict = "row-invalid"     // what it holds is no path, no size, or cannot be read
	RowUnseen     Verdict = "row-unknown"     // the table, or the file that it names, could not be looked at
	Rowless       Verdict = "no-row"          // a tracked file that a row must name, and none does
)

// Lister gives the rows of a database; the connector for rows is one.
type Lister interface {
	// List yields every row of q.Collection that q.Where matches, with the values
	// of q.Wants, the same data in the same order. What else q says is passed over.
	// An error ends the sequence: what was yielded stands, and nothing may be
	// concluded from what is absent.
	List(ctx context.Context, q *connector.Query) iter.Seq2[connector.Item, error]
}

// Text is made of the values of one row: the text is l0 r0 l1 r1 … ln.
type Text struct {
	Literals []string
	Refs     []connector.Ref // columns of the table itself, never all elements of an array
}

func (t Text) fill(values connector.Tuple) string {
	var b strings.Builder
	for i, l := range t.Literals {
		if b.WriteString(l); i < len(values) {
			b.WriteString(values[i])
		}
	}
	return b.String()
}

// Table is the application's own record of its files.
type Table struct {
	Name string // safe to log
	Rows Lister
	// From is the name of the table, and Where a condition on its rows.
	From, Where string
	// Path names the file of a row: below the root of Store, or, without a Store,
	// from / on. A row in which one of its values is NULL or empty names no file.
	Store string
	Path  Text
	// Size and SHA256 are columns; "" when the table has none. What is not 64 hex
	// digits is no hash yet, and is not compared.
	Size, SHA256 string
	// Ref is the application's object, KIND:ID, for which a row's file is tracked;
	// without literals it is not compared.
	Ref Text
	// Made are the actions whose files, in Store, must have a row, and Within how
	// long after the operation.
	Made   []string
	Within time.Duration
}

// check reports what about the table cannot be.
func (t *Table) check(c *Custody) error {
	if _, ok := c.store(t.Store); !ok && t.Store != "" {
		return fmt.Errorf("there is no store %q", t.Store)
	}
	if t.Rows == nil || len(t.Path.Refs) == 0 || len(t.Path.Literals) != len(t.Path.Refs)+1 {
		return errors.New("a reader of rows and a path with a reference are needed")
	}
	for _, name := range t.Made {
		if _, ok := c.words.Find(name); !ok {
			return fmt.Errorf("unknown action %q", name)
		}
	}
	return nil
}

// query asks for what is compared.
func (t *Table) query() *connector.Query {
	q := &connector.Query{Collection: t.From, Where: t.Where, Wants: []connector.Want{
		{Refs: t.Path.Refs}, {Refs: t.Ref.Refs}}}
	for _, column := range []string{t.Size, t.SHA256} {
		var w connector.Want
		if column != "" {
			w.Refs = []connector.Ref{{Column: column}}
		}
		q.Wants = append(q.Wants, w)
	}
	return q
}

// value is what a row has for a want, and nil for nothing or a want of nothing.
func value(it *connector.Item, want int) connector.Tuple {
	if want < len(it.Values) && len(it.Values[want]) > 0 && len(it.Values[want][0]) > 0 {
		return it.Values[want][0]
	}
	return nil
}

// tableRow is one row as it is compared.
type tableRow struct {
	Checked
	event event
	key   [16]byte
	place [16]byte // the same on whatever host
	// settled is set when the verdict was given.
	settled bool
	ref     string
	size    int64 // negative when the row says nothing
	hash    string
	file    *row // of the cache; nil when the file is not tracked
}

// agreement compares one table with the tracked files.
type agreement struct {
	*verifier
	t     *Table
	texts *texts
	paths *resolver
	start time.Time
	// named are the places of tracked files that a row names.
	named map[[16]byte]bool
	// held are rows whose file is not there, or not tracked: astray has those with
	// an object, for which another file may have been tracked, and apart those
	// whose file may be in the directory of another host.
	held   []*tableRow
	astray map[string]*tableRow
	apart  map[[16]byte]*tableRow
}

// tables compares the application's own tables with the tracked files.
func (v *verifier) tables(ctx context.Context) error {
	var failed []error
	for i := range v.k.Tables {
		t := &v.k.Tables[i]
		a := agreement{verifier: v, t: t, texts: newTexts(v.c), paths: v.c.resolver(), start: v.c.now(),
			named: map[[16]byte]bool{}, astray: map[string]*tableRow{}, apart: map[[16]byte]*tableRow{}}
		if err := a.compare(ctx); err != nil {
			failed = append(failed, fmt.Errorf("table %s: %w", t.Name, err))
		}
		if v.failed != nil || ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

func (a *agreement) compare(ctx context.Context) error {
	var batch []tableRow
	for it, err := range a.t.Rows.List(ctx, a.t.query()) {
		if err != nil {
			// The rows until now stand; of files without one nothing is known.
			err = errors.Join(err, a.batch(ctx, batch))
			a.settleHeld()
			a.give(Checked{Table: a.t.Name, Verdict: RowUnseen, Reason: connector.Unreachable})
			return err
		}
		r, ok := a.read(&it)
		if !ok {
			continue
		}
		if batch = append(batch, r); len(batch) == perLook {
			if err := a.batch(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	if err := a.batch(ctx, batch); err != nil {
		return err
	}
	if err := a.rowless(ctx); err != nil {
		return err
	}
	a.settleHeld()
	return a.failed
}

// read makes a tableRow of what the database gave. It is not ok when the row names
// no file, or one that is for another part.
func (a *agreement) read(it *connector.Item) (r tableRow, ok bool) {
	r = tableRow{Checked: Checked{Table: a.t.Name, Row: it.ID, RowLocator: it.Locator}, size: -1}
	path := value(it, 0)
	switch {
	case it.Err != nil:
		r.Verdict, r.Reason = RowInvalid, connector.Invalid
		return r, true
	case path == nil:
		return r, false
	}
	if r.event.place, r.Verdict = a.place(a.t.Path.fill(path)); r.Verdict != "" {
		r.Reason = connector.Invalid
	} else if !a.turn(r.event.place) {
		return r, false
	}
	r.File = File{Store: r.event.store, Locator: r.event.at, Path: r.event.name(), event: r.event}
	r.key, r.place = [16]byte(a.c.state.hash(a.c.state.identity(r.event.place))), a.anywhere(r.event.place)
	if ref := value(it, 1); ref != nil {
		r.ref = a.t.Ref.fill(ref)
	}
	if size := value(it, 2); size != nil {
		n, err := strconv.ParseInt(size[0], 10, 64)
		if r.size = n; err != nil || n < 0 {
			r.Verdict, r.Reason = RowInvalid, connector.Invalid
		}
	}
	if sum := value(it, 3); sum != nil {
		if b, err := hex.DecodeString(sum[0]); err == nil && len(b) == 32 {
			r.hash = strings.ToLower(sum[0])
		}
	}
	return r, true
}

// anywhere is a place as it is on whatever host: a row does not say on which.
func (a *agreement) anywhere(p place) [16]byte {
	p.host = ""
	return [16]byte(a.c.state.hash(p.identity()))
}

// turn reports a place that is in the part of the check.
func (a *agreement) turn(p place) bool {
	p.host = ""
	return a.k.Parts == 0 || partOf(p.identity(), a.k.Parts) == a.k.Part
}

// place finds where the path of a row lies, or says why it is none.
func (a *agreement) place(path string) (place, Verdict) {
	if s, ok := a.c.store(a.t.Store); ok {
		p, err := a.paths.inStore(s, path)
		if err != nil {
			return place{abs: path}, RowInvalid
		}
		return p, ""
	}
	if !strings.HasPrefix(path, "/") || len(path) > mostPath || strings.IndexByte(path, 0) >= 0 {
		return place{abs: path}, RowInvalid
	}
	p, err := a.paths.place(path)
	if err != nil {
		return place{abs: path}, RowUnseen
	}
	return p, ""
}

// batch looks at the files that rows name, and compares.
func (a *agreement) batch(ctx context.Context, list []tableRow) error {
	if len(list) == 0 {
		return nil
	}
	events := make([]event, len(list))
	for i := range list {
		events[i].place = list[i].event.place
	}
	a.c.look(ctx, events)
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range list {
		list[i].event.sight = events[i].sight
	}
	// After the look: whoever writes a row has tracked its file before.
	if err := a.c.state.catchUp(ctx); err != nil {
		return err
	}
	if err := a.c.state.find(ctx, list); err != nil {
		return err
	}
	// The texts of operations are read together, each entry once.
	var tracked []row
	for i := range list {
		if list[i].file != nil {
			tracked = append(tracked, *list[i].file)
		}
	}
	if err := a.texts.ahead(ctx, tracked); err != nil {
		return err
	}
	for i := range list {
		if err := a.row(ctx, &list[i]); err != nil {
			return err
		}
	}
	return a.failed
}

// row gives the verdict on one row.
func (a *agreement) row(ctx context.Context, r *tableRow) error {
	live := r.file != nil && r.file.state != Ended
	if live {
		if a.k.Scope != "" && !slices.Equal(r.file.scope, a.c.state.hash(a.k.Scope)) {
			a.named[r.place] = true
			return nil
		}
		f, ok, err := a.texts.file(ctx, r.file)
		if err != nil {
			return err
		}
		if live = ok; ok { // else its texts were destroyed, and it is tracked no more
			a.named[r.place] = true
			r.File = f
		}
	}
	switch {
	case r.Verdict != "": // what it holds is no path or no size
	case r.event.state == connector.Unknown:
		r.Verdict, r.Reason = RowUnseen, r.event.reason
	case r.event.state == connector.Gone:
		r.Verdict, r.Reason = RowMissing, connector.Missing
	case !live:
		r.Verdict = RowUntracked
	case r.ref != "" && r.Made.Ref != (Ref{}) && r.Made.Ref.String() != r.ref:
		r.Verdict = RowAstray
	default:
		r.Verdict = a.contents(r)
	}
	if !live && (r.Verdict == RowMissing || r.Verdict == RowUntracked) && a.hold(r) {
		return nil
	}
	a.give(r.Checked)
	return nil
}

// hold keeps a row until the tracked files were seen, of which one may be its own;
// false when none could be.
func (a *agreement) hold(r *tableRow) bool {
	kept := *r
	held := false
	if r.ref != "" && a.astray[r.ref] == nil {
		a.astray[r.ref], held = &kept, true
	}
	if r.Verdict == RowMissing && r.event.place.host != "" && !a.c.o.OneHost && a.apart[r.place] == nil {
		a.apart[r.place], held = &kept, true
	}
	if held {
		a.held = append(a.held, &kept)
	}
	return held
}

// contents compares what row and operation say of the content.
func (a *agreement) contents(r *tableRow) Verdict {
	sized := r.print != "" || r.Size != 0
	switch {
	case r.Condition == Reserved:
		return RowNotChecked
	case r.size >= 0 && sized && r.size != r.Size:
		return RowResized
	case r.hash != "" && r.Hash != "" && r.hash != r.Hash:
		return RowRehashed
	case a.t.Size != "" && (r.size < 0 || !sized), a.t.SHA256 != "" && (r.hash == "" || r.Hash == ""):
		return RowNotChecked
	default:
		return RowOK
	}
}

// rowless finds the tracked files that a row must name and none does, and those
// that are the files of rows that were held.
func (a *agreement) rowless(ctx context.Context) error {
	if len(a.t.Made) == 0 && len(a.held) == 0 {
		return nil
	}
	for f, err := range a.c.files(ctx, "state = 2", nil) {
		if err != nil {
			return err
		}
		at := a.anywhere(f.event.place)
		ours := a.k.Scope == "" || f.Made.Scope == a.k.Scope
		if r := a.apart[at]; r != nil && f.Elsewhere && !r.settled {
			a.named[at] = true
			r.File = f
			if r.Verdict = a.contents(r); r.Verdict == RowOK || r.Verdict == RowNotChecked {
				r.Verdict, r.Reason = RowElsewhere, ""
			}
			a.settleRow(r, ours)
			continue
		}
		if a.t.Store != "" && f.Store != a.t.Store || len(a.t.Made) > 0 && !slices.Contains(a.t.Made, f.Made.Action) || a.named[at] {
			continue
		}
		if r := a.astray[f.Made.Ref.String()]; r != nil && !r.settled {
			r.File, r.Verdict, r.Reason = f, RowAstray, ""
			a.settleRow(r, ours)
			continue
		}
		if len(a.t.Made) == 0 || !ours || a.start.Sub(f.Made.At) < a.t.Within || !a.turn(f.event.place) {
			continue
		}
		a.give(Checked{File: f, Table: a.t.Name, Verdict: Rowless})
	}
	return a.failed
}

// settleRow gives the verdict on a row that was held, unless it is for another
// scope.
func (a *agreement) settleRow(r *tableRow, ours bool) {
	if r.settled = true; ours {
		a.give(r.Checked)
	}
}

// settleHeld gives the verdicts on held rows of which no tracked file is.
func (a *agreement) settleHeld() {
	for _, r := range a.held {
		if !r.settled {
			a.settleRow(r, true)
		}
	}
	a.held = nil
}

// find fills in what the cache knows of the rows' files.
func (p *projection) find(ctx context.Context, list []tableRow) error {
	const most = 500 // parameters of one statement
	for part := range slices.Chunk(list, most) {
		keys := make([]any, len(part))
		for i := range part {
			keys[i] = part[i].key[:]
		}
		rows, err := p.scan(ctx, "key IN (?"+strings.Repeat(", ?", len(keys)-1)+")", "key", keys...)
		if err != nil {
			return err
		}
		byKey := make(map[[16]byte]*row, len(rows))
		for i := range rows {
			byKey[[16]byte(rows[i].key)] = &rows[i]
		}
		for i := range part {
			part[i].file = byKey[part[i].key]
		}
	}
	return nil
}
