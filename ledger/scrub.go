package ledger

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// SQLite leaves old content in the unused part of a page when it splits the page
// or moves its cells, also with secure_delete: a copy that nothing points to, and
// that no DELETE reaches. What follows reads and overwrites pages through SQLite
// itself (sqlite_dbpage), so that locks and the write-ahead log are respected.
// The format is that of https://www.sqlite.org/fileformat2.html, 1.6.

// forgetting are the tables of which something is destroyed.
var forgetting = []string{"sealed", "lookup", "clues"}

// scrubPages zeroes what lies unused in the pages of those tables, in one
// transaction.
func scrubPages(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	rows, err := tx.QueryContext(ctx, "SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0")
	if err != nil {
		return err
	}
	var pages []int64
	for rows.Next() {
		var name string
		var root int64
		if err := rows.Scan(&name, &root); err != nil {
			return errors.Join(err, rows.Close())
		}
		if slices.Contains(forgetting, name) {
			pages = append(pages, root)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	read, err := tx.PrepareContext(ctx, "SELECT data FROM sqlite_dbpage WHERE pgno = $1")
	if err != nil {
		return err
	}
	defer read.Close()
	for seen := map[int64]bool{}; len(pages) > 0; {
		n := pages[len(pages)-1]
		pages = pages[:len(pages)-1]
		if seen[n] {
			return errors.New("a tree of pages meets itself")
		}
		seen[n] = true
		var page []byte
		if err := read.QueryRowContext(ctx, n).Scan(&page); err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
		children, changed, err := scrubPage(page)
		if err == nil && changed {
			_, err = tx.ExecContext(ctx, "UPDATE sqlite_dbpage SET data = $1 WHERE pgno = $2", page, n)
		}
		if err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
		pages = append(pages, children...)
	}
	return tx.Commit()
}

// scrubPage zeroes the unused parts of a page of a tree: the gap between the cell
// pointers and the cells, and the free blocks among the cells. It returns the
// pages below. Page 1, which begins differently, is of no tree that is asked for.
func scrubPage(page []byte) (children []int64, changed bool, err error) {
	bad := errors.New("it is no page of a tree")
	if len(page) < 512 {
		return nil, false, bad
	}
	u16 := func(at int) int { return int(binary.BigEndian.Uint16(page[at:])) }
	pointers := 8
	switch page[0] {
	case 2, 5: // interior, of an index or a table
		pointers = 12
	case 10, 13:
	default:
		return nil, false, bad
	}
	cells, content := u16(3), u16(5)
	if content == 0 {
		content = 1 << 16
	}
	gap := pointers + 2*cells
	if gap > content || content > len(page) {
		return nil, false, bad
	}
	if pointers == 12 {
		children = append(children, int64(binary.BigEndian.Uint32(page[8:])))
		for i := range cells {
			at := u16(pointers + 2*i)
			if at+4 > len(page) {
				return nil, false, bad
			}
			children = append(children, int64(binary.BigEndian.Uint32(page[at:])))
		}
	}
	zero := func(b []byte) {
		for i := range b {
			changed = changed || b[i] != 0
			b[i] = 0
		}
	}
	zero(page[gap:content])
	for last, at := content-1, u16(1); at != 0; {
		if at <= last || at+4 > len(page) {
			return nil, false, bad
		}
		size := u16(at + 2)
		if size < 4 || at+size > len(page) {
			return nil, false, bad
		}
		zero(page[at+4 : at+size])
		last, at = at+size-1, u16(at)
	}
	return children, changed, nil
}
