package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestNoClueIsLeftInUnusedSpace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l.db")
	l, err := Open(context.Background(), "sqlite:"+path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	actor := func(i int) string { return fmt.Sprintf("actor%04d", i) }
	for i := range 60 {
		var es []Entry
		for j := range 50 {
			at := time.Now()
			if j%2 == 1 {
				at = at.AddDate(-1, 0, 0)
			}
			es = append(es, Entry{Kind: CustodyOperations, At: at, Items: []Item{{Locator: "x", Values: [][][]string{{{"actor", actor(i*50 + j)}}}}}})
		}
		if _, err := l.Append(context.Background(), es...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.SealOff(context.Background(), Selection{Before: time.Now().AddDate(0, -1, 0), Keep: func(Kind, int64, int, Item) bool { return false }}, false); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := l.read.QueryRow("SELECT count(*) FROM clues").Scan(&n); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for i := range 3000 {
		if i%2 == 0 {
			continue
		}
		key := binary.BigEndian.AppendUint64(nil, uint64(l.clueKey("actor"+wholeText+actor(i))))
		if bytes.Contains(data, key) {
			left++
		}
	}
	if left > 0 || n != 1500 {
		t.Errorf("%d clues are listed, %d are left in the file", n, left)
	}
}
