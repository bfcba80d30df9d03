package rows

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// flushEvery is the most erasures after which deleted text is taken out of the
// files of SQLite also when another claim waits.
const flushEvery = 8

// flushPause is the time within which erasures share a flush, so that a run of
// quick batches does not spend itself on it.
const flushPause = 300 * time.Millisecond

// scrubPages is the largest database, in pages, that is scrubbed at the end of
// an Erase. A larger one is scrubbed by Close.
const scrubPages = 4096

var errWAL = errors.New("deleted text may remain in the WAL: another process reads an older state of the database")

// flush takes the deleted text out of the files of SQLite; see the package
// comment. That it could not be done now is not an error of the erasure: it is
// tried again, at the latest by Close, which says so when it fails.
func (cl *claim) flush(ctx context.Context) {
	c := cl.c
	if _, ok := c.d.(sqliteDialect); !ok {
		return
	}
	c.mu.Lock()
	for t, n := range cl.tally {
		if n > 0 {
			c.dirty[t.name] = true
		}
	}
	if cl.b.keeps() {
		c.dirty[cl.b.root.name] = true // with what stood there before
	}
	c.mu.Unlock()
	n, busy := c.unflushed.Add(1), c.waiting.Load() > 0 || time.Since(c.flushed) < flushPause
	if busy && n < flushEvery {
		return
	}
	var pages int64
	err := newStmt(c.d, "PRAGMA page_count").each(ctx, cl.conn, 1, func(v []any) error { pages, _ = v[0].(int64); return nil })
	if err == nil && pages <= scrubPages {
		_ = c.scrub(ctx, cl.conn)
	}
	_ = c.flushWAL(ctx, cl.conn, 250*time.Millisecond)
	c.flushed = time.Now()
}

// settle is the last flush, by Close.
func (c *Connector) settle(ctx context.Context) error {
	if c.unflushed.Load() == 0 && len(c.dirty) == 0 {
		return nil
	}
	return c.withConn(ctx, c.writer, func(conn *sql.Conn) error {
		return errors.Join(c.scrub(ctx, conn), c.flushWAL(ctx, conn, c.o.LockTimeout))
	})
}

// flushWAL copies the WAL back into the database file and truncates it.
func (c *Connector) flushWAL(ctx context.Context, conn *sql.Conn, wait time.Duration) error {
	if err := run(ctx, conn, fmt.Sprintf("PRAGMA busy_timeout = %d", wait.Milliseconds())); err != nil {
		return err
	}
	busy := false
	err := newStmt(c.d, "PRAGMA wal_checkpoint(TRUNCATE)").each(ctx, conn, 3, func(v []any) error {
		busy = isTrue(v[0])
		return nil
	})
	err = errors.Join(err, run(ctx, conn, fmt.Sprintf("PRAGMA busy_timeout = %d", c.o.LockTimeout.Milliseconds())))
	if err == nil && busy {
		err = errWAL
	}
	if err == nil {
		c.unflushed.Store(0)
	}
	return err
}

// scrub zeroes what lies unused in the pages of the tables from which rows
// went, and of their indexes, and the free pages. SQLite leaves old content
// there when it splits a page, or frees one while secure_delete is off: a copy
// of a row that nothing points to any more, and that no DELETE reaches.
//
// The pages are read and written through SQLite (sqlite_dbpage), inside a
// transaction, so that locks, journal and WAL are respected; which page is a
// B-tree page is SQLite's own word (dbstat).
func (c *Connector) scrub(ctx context.Context, conn *sql.Conn) error {
	c.mu.Lock()
	tables := slices.Sorted(maps.Keys(c.dirty))
	c.mu.Unlock()
	for _, t := range tables {
		if err := c.rewrite(ctx, conn, scrubTree, func() ([]int64, error) {
			return c.pages(ctx, conn, "SELECT d.pageno FROM sqlite_schema AS s CROSS JOIN dbstat AS d ON d.name = s.name "+
				"WHERE s.tbl_name = ?1 AND s.rootpage > 0 AND d.pagetype <> 'overflow'", t)
		}); err != nil {
			return fmt.Errorf("overwrite unused space: %w", err)
		}
		c.mu.Lock()
		delete(c.dirty, t)
		c.mu.Unlock()
	}
	if len(tables) == 0 {
		return nil
	}
	trunks := map[int64]bool{}
	err := c.rewrite(ctx, conn, func(n int64, page []byte) bool {
		if trunks[n] {
			return scrubTrunk(page)
		}
		return zero(page)
	}, func() ([]int64, error) { return c.freePages(ctx, conn, trunks) })
	if err != nil {
		return fmt.Errorf("overwrite free pages: %w", err)
	}
	return nil
}

// pages runs a query for page numbers.
func (c *Connector) pages(ctx context.Context, conn *sql.Conn, query string, args ...any) ([]int64, error) {
	var out []int64
	err := newStmt(c.d, query).with(args...).each(ctx, conn, 1, func(v []any) error {
		n, _ := v[0].(int64)
		out = append(out, n)
		return nil
	})
	return out, err
}

// read256 reads up to 256 pages.
func (c *Connector) read256(ctx context.Context, conn *sql.Conn, numbers []int64, f func(n int64, page []byte) error) error {
	keys := make([]key, len(numbers))
	for i, n := range numbers {
		keys[i] = key{n}
	}
	list, _ := jsonKeys(keys)
	return newStmt(c.d, "SELECT p.pgno, p.data FROM json_each(?1) AS j CROSS JOIN sqlite_dbpage AS p ON p.pgno = j.value").with(list).each(ctx, conn, 2,
		func(v []any) error {
			n, _ := v[0].(int64)
			page, _ := v[1].([]byte)
			return f(n, page)
		})
}

// rewrite passes the listed pages to f, in one write transaction, and writes
// those back that f changed.
func (c *Connector) rewrite(ctx context.Context, conn *sql.Conn, f func(n int64, page []byte) bool, list func() ([]int64, error)) (err error) {
	// This may be much; it need not all be kept in memory until the commit. The
	// next claim sets it again as it needs it.
	if err = run(ctx, conn, "PRAGMA cache_spill = 1"); err != nil {
		return err
	}
	if err = run(ctx, conn, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		how := "COMMIT"
		if err != nil {
			how = "ROLLBACK"
		}
		err = errors.Join(err, end(ctx, conn, how))
	}()
	numbers, err := list()
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(numbers, 256) {
		changed := map[int64][]byte{}
		err := c.read256(ctx, conn, chunk, func(n int64, page []byte) error {
			if page = slices.Clone(page); f(n, page) {
				changed[n] = page
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, n := range slices.Sorted(maps.Keys(changed)) {
			if _, err := newStmt(c.d, "UPDATE sqlite_dbpage SET data = ?1 WHERE pgno = ?2").with(changed[n], n).exec(ctx, conn); err != nil {
				return err
			}
		}
	}
	return nil
}

// scrubTree zeroes the unused parts of a B-tree page: the gap between the cell
// pointers and the cells, and the free blocks among the cells. It reports
// whether it changed anything, and leaves a page alone that does not read as
// the file format says (https://www.sqlite.org/fileformat2.html, 1.6).
func scrubTree(number int64, page []byte) bool {
	header := 0
	if number == 1 {
		header = 100
	}
	if len(page) < 512 {
		return false
	}
	h := page[header:]
	pointers := header + 8
	switch h[0] {
	case 2, 5:
		pointers = header + 12
	case 10, 13:
	default:
		return false
	}
	cells := int(binary.BigEndian.Uint16(h[3:]))
	content := int(binary.BigEndian.Uint16(h[5:]))
	if content == 0 {
		content = 65536
	}
	from := pointers + 2*cells
	if from > content || content > len(page) {
		return false
	}
	changed := zero(page[from:content])
	for at, last := int(binary.BigEndian.Uint16(h[1:])), content-1; at > last && at+4 <= len(page); {
		size := int(binary.BigEndian.Uint16(page[at+2:]))
		if size < 4 || at+size > len(page) {
			break
		}
		changed = zero(page[at+4:at+size]) || changed
		last, at = at+size-1, int(binary.BigEndian.Uint16(page[at:]))
	}
	return changed
}

// zero clears b and reports whether it was not clear before.
func zero(b []byte) bool {
	dirty := slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
	clear(b)
	return dirty
}

// scrubTrunk zeroes what follows the list in a trunk page of the freelist.
func scrubTrunk(page []byte) bool {
	used := 8 + 4*int(binary.BigEndian.Uint32(page[4:]))
	return used <= len(page) && zero(page[used:])
}

// freePages lists the pages of the freelist and notes which are trunks: a chain
// of pages, each with the number of the next, a count, and the numbers of so
// many leaves (file format, 1.5).
func (c *Connector) freePages(ctx context.Context, conn *sql.Conn, trunks map[int64]bool) ([]int64, error) {
	var all []int64
	next := int64(1)
	for next != 0 && !trunks[next] {
		n := next
		err := c.read256(ctx, conn, []int64{n}, func(_ int64, page []byte) error {
			if len(page) < 512 {
				return errors.New("page too short")
			}
			if n == 1 { // the header of the file
				next = int64(binary.BigEndian.Uint32(page[32:]))
				return nil
			}
			trunks[n] = true
			all = append(all, n)
			next = int64(binary.BigEndian.Uint32(page))
			count := int(binary.BigEndian.Uint32(page[4:]))
			if 8+4*count > len(page) {
				return errors.New("freelist is damaged")
			}
			for i := range count {
				all = append(all, int64(binary.BigEndian.Uint32(page[8+4*i:])))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if next == n {
			break
		}
	}
	return all, nil
}
