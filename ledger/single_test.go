package ledger_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/epitaph/epitaph/ledger"
)

// Two handles on one file append in turns, by either of the two ways to write: what
// the other wrote is never passed over, doubled or overwritten.
func TestHandlesTakeTurns(t *testing.T) {
	t.Parallel()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "ledger.db")
	handles := []*ledger.Ledger{open(t, dsn), open(t, dsn)}
	want := int64(1)
	for i := range 400 {
		es := make([]ledger.Entry, 1+i%5)
		for j := range es {
			es[j] = ledger.Entry{At: day, Kind: ledger.Heartbeat, Rule: "transcripts", Facts: []ledger.Fact{ledger.Int("n", want+int64(j))}}
			if i%7 == 6 {
				es[j].Secrets = []ledger.Secret{{Name: "who", Text: "Grete"}}
			}
		}
		// now one after the other, now some times the same
		if got := mustAppend(t, handles[i/(1+i%3)%2], es...); got != want {
			t.Fatalf("append %d: first number %d, want %d", i, got, want)
		}
		want += int64(len(es))
	}
	for _, e := range collect(t, handles[0], ledger.Filter{}) {
		if n, _ := e.Int("n"); n != e.Number {
			t.Fatalf("entry %d is the one that was written as %d", e.Number, n)
		}
	}
	r, err := handles[1].Verify(t.Context(), ledger.Verification{})
	if err != nil || len(r.Faults) > 0 || r.Entries != want-1 {
		t.Errorf("%d entries, %v, %v", r.Entries, r.Faults, err)
	}
}

// A handle that wrote the last entry itself before the ledger moved away must see
// that it moved.
func TestAHandleSeesThatTheLedgerMoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dsn := "sqlite:" + filepath.Join(dir, "ledger.db")
	stays, moves := open(t, dsn), open(t, dsn)
	beat := ledger.Entry{At: day, Kind: ledger.Heartbeat, Rule: "transcripts"}
	mustAppend(t, stays, beat)
	mustAppend(t, moves, beat)
	mustAppend(t, moves, beat)
	to, err := ledger.Copy(t.Context(), moves, "sqlite:"+filepath.Join(dir, "to.db"), ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	for _, l := range []*ledger.Ledger{stays, moves} {
		for range 2 {
			if _, err := l.Append(t.Context(), beat); !errors.Is(err, ledger.ErrMoved) {
				t.Errorf("appended to a ledger that moved: %v", err)
			}
		}
	}
	if n := mustAppend(t, to, beat); n != 5 {
		t.Errorf("number %d in the new place, want 5", n)
	}
}
