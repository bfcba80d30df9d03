package custody

import (
	"context"
	"os"
	"syscall"

	"github.com/epitaph/epitaph/connector"
)

// doubtRoot takes back what was seen to be gone in a store when its root is not the
// directory in which something tracked was last seen: nothing is concluded from an
// empty directory where another may have to be mounted. Once something tracked is
// seen in the new one, that is the root. The number of a root's inode stands in the
// cache; one that was made anew remembers none.
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
// is not known to a cache that was made anew, or cannot be read.
func (p *projection) root(ctx context.Context, s *Store) (inode uint64, known bool) {
	var n int64
	err := p.db.QueryRowContext(ctx, "SELECT inode FROM roots WHERE key = ?", p.hash("root\x00"+s.Name+"\x00"+s.Root)).Scan(&n)
	return uint64(n), err == nil
}

// keepRoot remembers it. The cache may fail: then the next look does it.
func (p *projection) keepRoot(ctx context.Context, s *Store, inode uint64) {
	_, err := p.db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS roots (key BLOB PRIMARY KEY, inode INTEGER NOT NULL) WITHOUT ROWID")
	if err == nil {
		_, _ = p.db.ExecContext(ctx, "INSERT OR REPLACE INTO roots (key, inode) VALUES (?, ?)", p.hash("root\x00"+s.Name+"\x00"+s.Root), int64(inode))
	}
}
