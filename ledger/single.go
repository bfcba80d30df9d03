package ledger

import (
	"context"
	"encoding/binary"

	"golang.org/x/mod/sumdb/tlog"
)

// writeRow writes a group that comes to one row and nothing beside it, which is
// what most appends are, by a statement that is its own transaction: to begin and
// to end one around it takes as much of the processor as all else. The statement
// writes only where the ledger is as long as it was left. It reports false, with
// nothing written, where that is not so, and where more is to be written; then the
// longer way goes.
func (l *Ledger) writeRow(ctx context.Context, group []*request, token []byte) (bool, error) {
	statement := l.stmts[insertNext]
	if statement == nil || l.tail.marks == nil {
		return false, nil
	}
	n := 0
	for _, r := range group {
		if r.alone || r.err != nil {
			return false, nil
		}
		for _, p := range r.entries {
			if !p.isRow() || p.refers > l.tail.size {
				return false, nil
			}
		}
		n += len(r.entries)
	}
	if len(l.tail.hashes)+n >= blockSize { // a block that is made whole is written with its index
		return false, nil
	}
	// As in writeEntries: until the commit the tail is ahead of the ledger.
	next := l.tail
	l.tail = tail{}
	entries := number(group, next.size+1)
	bundle, hashes := bundleOf(entries)
	done, err := statement.ExecContext(ctx, next.size+1, n, bundle, hashes, token)
	if err != nil {
		return false, err
	}
	if written, err := done.RowsAffected(); err != nil || written == 0 {
		return false, err
	}
	for _, p := range entries {
		next.note(&p.record, p.hash)
	}
	l.tail = next
	return true, nil
}

// isRow reports an entry beside which nothing is written, and after which the
// ledger goes on here.
func (p *prepared) isRow() bool {
	switch Kind(p.kind) {
	case Intent, Outcome, Copied:
		return false
	}
	return p.batch == noBatch && p.leaves == nil && p.texts == nil && p.lookup == nil && len(p.clues) == 0
}

// bundleOf is the entries as a C2SP tlog-tiles entry bundle, and their leaf hashes.
func bundleOf(ps []*prepared) (bundle, hashes []byte) {
	size := 0
	for _, p := range ps {
		size += 2 + len(p.body)
	}
	bundle, hashes = make([]byte, 0, size), make([]byte, 0, len(ps)*tlog.HashSize)
	for _, p := range ps {
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(p.body))), p.body...)
		hashes = append(hashes, p.hash[:]...)
	}
	return bundle, hashes
}
