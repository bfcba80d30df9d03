package custody

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"syscall"

	"github.com/epitaph/epitaph/connector"
)

// doubtRoot takes back what was seen to be gone in a store when its root is not the
// directory in which something tracked was last seen: nothing is concluded from an
// empty directory where another may have to be mounted. Once something tracked is
// seen in the new one, that is the root. The number of a root's inode stands in the
// cache, and with each operation in the ledger, for a cache that is made anew.
func (c *Custody) doubtRoot(ctx context.Context, s *Store, events []event, looked []int) {
	var present, gone bool
	for _, i := range looked {
		tracked := events[i].Action != "" || events[i].answers != ""
		present = present || events[i].state == connector.Present && tracked
		gone = gone || events[i].state == connector.Gone
	}
	is, ok := inode(s.Root)
	if !ok || !present && !gone {
		return
	}
	for _, i := range looked {
		if e := &events[i]; e.Action != "" && e.state == connector.Present {
			e.root = is
		}
	}
	was, known := c.state.root(ctx, s)
	switch {
	case present && (!known || was != is):
		c.state.keepRoot(ctx, s, is)
	case !present && known && was != is:
		for _, i := range looked {
			if events[i].state == connector.Gone {
				events[i].sight = sight{state: connector.Unknown, reason: connector.Unreachable}
			}
		}
	}
}

// inode is that of a root; not ok where a store has none, or it is not there now,
// though it was when the connector looked.
func inode(root string) (n uint64, ok bool) {
	if root == "" {
		return 0, false
	}
	fi, err := os.Stat(root)
	if err != nil {
		return 0, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Ino, true
}

// doubtful reports a store whose root is not the directory in which something tracked
// was last seen: what was begun there is left until it is, or something tracked is
// seen in it.
func (c *Custody) doubtful(ctx context.Context, s *Store) bool {
	is, ok := inode(s.Root)
	was, known := c.state.root(ctx, s)
	return ok && known && was != is
}

// root is the inode of the root of a store in which something tracked was seen. It
// is not known to a cache that cannot be read.
func (p *projection) root(ctx context.Context, s *Store) (inode uint64, known bool) {
	var n int64
	err := p.db.QueryRowContext(ctx, "SELECT inode FROM roots WHERE key = ?", p.hash(rootOf{s.Name, s.Root}.text())).Scan(&n)
	return uint64(n), err == nil
}

// rootOf names the root of a store.
type rootOf struct{ store, dir string }

func (r rootOf) text() string { return "root\x00" + r.store + "\x00" + r.dir }

// rootAt is the root in which the file of an operation was seen from this host. It
// is not ok for another host's, and for a directory that is shared: inodes there may
// be those of each host.
func (p *projection) rootAt(e *event) (r rootOf, ok bool) {
	if e.root == 0 || e.abs == "" || e.place.host == "" || !p.one && e.place.host != p.host {
		return r, false
	}
	dir, ok := strings.CutSuffix(e.abs, "/"+strings.TrimSuffix(string(e.at), "/"))
	if dir == "" {
		dir = "/"
	}
	return rootOf{e.store, dir}, ok && e.store != ""
}

// keepRoot remembers it. The cache may fail: then the next look does it.
func (p *projection) keepRoot(ctx context.Context, s *Store, inode uint64) {
	_ = p.putRoot(ctx, p.db, rootOf{s.Name, s.Root}, inode)
}

func (p *projection) putRoot(ctx context.Context, to execer, r rootOf, inode uint64) error {
	_, err := to.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS roots (key BLOB PRIMARY KEY, inode INTEGER NOT NULL) WITHOUT ROWID")
	if err == nil {
		_, err = to.ExecContext(ctx, "INSERT OR REPLACE INTO roots (key, inode) VALUES (?, ?)", p.hash(r.text()), int64(inode))
	}
	return err
}

// execer is the cache, or a transaction on it.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}
