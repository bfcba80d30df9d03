package custody

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"

	"github.com/epitaph/epitaph/owner"
)

// OrphanKind says what is wrong.
type OrphanKind string

// The kinds of orphan. Only the first two are ever disposed of.
const (
	DeadOwner   OrphanKind = "dead-owner"  // a file that must be cleaned up, whose owner is dead
	Untracked   OrphanKind = "untracked"   // a file in a tracked root that no operation made
	Dangling    OrphanKind = "missing"     // a tracked file that is not there, though nobody said that it goes
	Uncommitted OrphanKind = "uncommitted" // a reservation that was never committed
	Unfinished  OrphanKind = "unfinished"  // work that was started and neither completed nor failed
)

// Orphan is something that somebody left behind.
type Orphan struct {
	Sighting
	Kind OrphanKind
	// Since is when it began: the operation, or, of an untracked file, when it was
	// last written.
	Since time.Time
}

// Search says where and how Orphans looks.
type Search struct {
	// Roots are the stores whose every file must be tracked, each with its own
	// grace. In others, untracked files are none of our business.
	Roots []Root
	// Grace leaves alone what else began less long ago.
	Grace time.Duration
	// Except reports paths that are no application's, such as the ledger itself.
	Except func(path string) bool
}

// Orphans lists what was left behind. An owner of whom nothing can be known is
// not taken for dead. A store that cannot be looked at gives no orphans but
// an error: nothing may be concluded from what was not seen. What was found
// until then is returned.
func (c *Custody) Orphans(ctx context.Context, s Search) ([]Orphan, error) {
	before := c.now().Add(-s.Grace)
	var list []Orphan
	for i, where := range orphaned {
		column := [...]string{"at", "at", "since"}[i] // there is no index by time of all that is kept
		var batch []Sighting
		look := func() {
			c.sight(ctx, batch)
			for i := range batch {
				if kind := orphanKind(&batch[i]); kind != "" {
					list = append(list, Orphan{Sighting: batch[i], Kind: kind, Since: batch[i].Made.At})
				}
			}
			batch = batch[:0]
		}
		for f, err := range c.filesBy(ctx, column, where, []any{micros(before)}) {
			if err != nil {
				return list, err
			}
			if batch = append(batch, Sighting{File: f}); len(batch) == perLook {
				look()
			}
		}
		look()
	}
	work, err := c.unfinished(ctx, before)
	if err != nil {
		return list, err
	}
	list = append(list, work...)
	var blind []error
	for _, root := range s.Roots {
		more, err := c.untracked(ctx, root.Store, c.now().Add(-root.Grace), s.Except)
		list = append(list, more...)
		if err != nil {
			blind = append(blind, fmt.Errorf("store %s: %w", root.Store, err))
		}
	}
	return list, errors.Join(blind...)
}

// orphaned are the conditions on the cache of files that may be orphans: of those
// that must go, of those that were reserved, and of those that are kept.
var orphaned = [...]string{"state < 3 AND required = 1 AND at < ?", "state = 1 AND required = 0 AND at < ?", "state < 3 AND state = 2 AND required = 0 AND at < ?"}

func orphanKind(s *Sighting) OrphanKind {
	switch {
	case s.Condition == Reserved && s.Life == owner.Alive:
		return ""
	case s.Condition == Reserved && s.State == connector.Present && s.Life == owner.Dead:
		return DeadOwner
	case s.Condition == Reserved:
		return Uncommitted
	case s.State == connector.Gone && !s.Required:
		return Dangling
	case s.State != connector.Gone && s.Required && s.Life == owner.Dead:
		return DeadOwner
	default:
		return ""
	}
}

// unfinished finds the work that began before an instant and did not end, but for
// that of an owner who is alive.
func (c *Custody) unfinished(ctx context.Context, before time.Time) ([]Orphan, error) {
	rows, err := c.state.db.QueryContext(ctx, "SELECT id, at FROM work WHERE at < ? ORDER BY id", micros(before))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []opID
	since := map[opID]int64{}
	for rows.Next() {
		var id opID
		var at int64
		if err := rows.Scan(&id, &at); err != nil {
			return nil, err
		}
		ids, since[id] = append(ids, id), at
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	t := newTexts(c)
	var list []Orphan
	for part := range slices.Chunk(ids, page) {
		if err := t.read(ctx, part); err != nil {
			return list, err
		}
		for _, id := range part {
			e, ok, err := t.at(ctx, id)
			if err != nil {
				return list, err
			}
			life := t.life(e.Owner)
			if !ok || life == owner.Alive {
				continue
			}
			f := File{ID: id.String(), Store: e.store, Locator: e.at, Path: e.name(), Made: e.Operation, Life: life, Elsewhere: c.elsewhere(e.place), event: e}
			list = append(list, Orphan{Sighting: Sighting{File: f}, Kind: Unfinished, Since: fromMicros(since[id])})
		}
	}
	seen := make([]Sighting, len(list))
	for i := range list {
		seen[i] = list[i].Sighting
	}
	c.sight(ctx, seen)
	for i := range list {
		list[i].Sighting = seen[i]
	}
	return list, nil
}

// errUnseen reports a store that could not be looked at.
var errUnseen = errors.New("it could not be looked at")

// untracked finds the regular files below a root that no operation made, last
// written before an instant. It follows no link.
func (c *Custody) untracked(ctx context.Context, name string, before time.Time, except func(string) bool) ([]Orphan, error) {
	s, ok := c.store(name)
	if !ok || s.Root == "" {
		return nil, fmt.Errorf("it is not a store of files")
	}
	// Nothing is concluded from an empty directory where something else should be
	// mounted: only the connector knows what that is.
	if r := s.Connector.Probe(ctx, []connector.Locator{".epitaph"}); r[0].State == connector.Unknown {
		return nil, fmt.Errorf("look at its root: %w", cmp.Or(pathless(r[0].Err), errUnseen))
	}
	var list []Orphan
	err := filepath.WalkDir(s.Root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if d.IsDir() && path != s.Root && slices.ContainsFunc(c.o.Stores, func(inner Store) bool { return inner.Root == path }) {
			return fs.SkipDir // what lies there is the business of that store
		}
		if !d.Type().IsRegular() || except != nil && except(path) {
			return nil
		}
		at := connector.Locator(below(path, s.Root))
		known, err := c.knows(ctx, path)
		if err != nil || known {
			return err
		}
		fi, err := d.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if fi.ModTime().Before(before) {
			e := event{place: place{store: name, at: at, abs: path, host: s.host}}
			list = append(list, Orphan{Kind: Untracked, Since: fi.ModTime().UTC(),
				Sighting: Sighting{File: File{Store: name, Locator: at, Path: path, Size: fi.Size(), event: e}}})
		}
		return nil
	})
	seen := make([]Sighting, len(list))
	for i := range list {
		seen[i] = list[i].Sighting
	}
	c.sight(ctx, seen)
	former, e := c.former(ctx, len(list))
	if e != nil {
		return nil, e
	}
	kept := list[:0]
	for i := range list {
		if list[i].Sighting = seen[i]; seen[i].State != connector.Gone && !former[seen[i].Path] {
			kept = append(kept, list[i])
		}
	}
	if err != nil {
		return kept, fmt.Errorf("walk: %w", pathless(err))
	}
	return kept, nil
}

// below is a path below a root, or "" when it is not.
func below(path, root string) string {
	at, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/")+"/")
	if !ok {
		return ""
	}
	return at
}

// knows reports whether a path has a file that is not known to be gone, by
// whichever store around it, or outside of all, it was tracked.
func (c *Custody) knows(ctx context.Context, path string) (bool, error) {
	known, err := c.state.knows(ctx, place{abs: path, host: c.o.Host})
	for _, s := range c.o.Stores {
		if at := below(path, s.Root); at != "" && s.Root != "" && !known && err == nil {
			known, err = c.state.knows(ctx, place{store: s.Name, at: connector.Locator(at), host: s.host})
		}
	}
	return known, err
}

// former returns the paths of files on this host that are tracked in a store which
// has another name today, or another root. It reads the texts of all files, so that
// it is not asked when there are no strangers.
func (c *Custody) former(ctx context.Context, strangers int) (map[string]bool, error) {
	paths := map[string]bool{}
	if strangers == 0 {
		return paths, nil
	}
	r := c.resolver()
	for f, err := range c.filesBy(ctx, "since", "state < 3", nil) {
		if err != nil {
			return nil, err
		}
		p := f.event.place
		if today := r.within(p.abs, false); p.abs != "" && !f.Elsewhere && (today.store != p.store || today.at != p.at) {
			paths[p.abs] = true
		}
	}
	return paths, nil
}

// knows reports whether the place has a file that is not known to be gone.
func (p *projection) knows(ctx context.Context, at place) (bool, error) {
	var n int
	err := p.db.QueryRowContext(ctx, "SELECT count(*) FROM files WHERE key = ? AND state < 3", p.hash(p.identity(at))).Scan(&n)
	return n > 0, err
}

// taken reports a file that was tracked anew since it was listed: it has another
// owner or another due date.
func (c *Custody) taken(ctx context.Context, f *File) (bool, error) {
	if f.ID == "" {
		return false, nil
	}
	rows, err := c.state.scan(ctx, "key = ?", "id", c.state.hash(c.state.identity(f.event.place)))
	for i := range rows {
		if r := &rows[i]; r.id.String() != f.ID || !fromMicros(r.due).Equal(f.Due) {
			return true, err
		}
	}
	return false, err
}

// Dispose erases the orphans of the first two kinds, through the purge protocol,
// and returns them with what became of each. Others are left out. Too many
// untracked files, and those of a store that the ledger does not know, are an
// [*Interlock]; a clock that jumped is a [*purge.Interlock].
func (c *Custody) Dispose(ctx context.Context, orphans []Orphan) ([]Sighting, error) {
	if err := c.clock(ctx); err != nil {
		return nil, err
	}
	if err := c.guard(ctx, orphans); err != nil {
		return nil, err
	}
	paused := c.paused()
	if err := c.finish(ctx, paused); err != nil {
		return nil, err
	}
	if err := c.state.catchUp(ctx); err != nil {
		return nil, err
	}
	var list []Sighting
	for _, o := range orphans {
		if o.Kind == Untracked { // it may have been registered meanwhile
			if known, err := c.knows(ctx, o.Path); err != nil {
				return nil, err
			} else if known {
				continue
			}
		}
		if o.Kind == DeadOwner || o.Kind == Untracked {
			list = append(list, o.Sighting)
		}
	}
	return list, c.dispose(ctx, list, func(s *Sighting) bool { return paused[s.event.store] })
}
