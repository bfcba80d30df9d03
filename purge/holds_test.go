package purge_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/epitaph/epitaph/connector"
)

// meanwhile is a store to which something happens once, when parts have been claimed.
type meanwhile struct {
	connector.Connector
	then func()
}

func (m *meanwhile) Claim(ctx context.Context, q *connector.Query, items []connector.Item) (connector.Claim, []connector.Result) {
	cl, rs := m.Connector.Claim(ctx, q, items)
	if m.then != nil {
		m.then()
		m.then = nil
	}
	return cl, rs
}

// A server that ends the transaction of a claim lets go of its rows. Whoever puts one
// to use then keeps its files: nothing of it is erased on the strength of a look that
// no lock stands behind any more. Seen to fail without the second look: all blobs were
// erased, under rows that had come into use.
func TestClaimThatWasEndedErasesNothing(t *testing.T) {
	t.Parallel()
	r := newRealWorld(t, "postgres")
	r.config.Batch = 100
	for id := 1; id <= 3; id++ {
		name := string(rune('a' + id))
		r.write("files/"+name+".bin", 20)
		r.transcript(id, 20, name)
	}
	disk := r.stores["disk"]
	r.stores["disk"] = &meanwhile{Connector: disk, then: func() {
		r.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'epitaph' AND datname = current_database() AND state = 'idle in transaction'")
		r.do("UPDATE transcripts SET status = 'recording' WHERE id < 3") // waits until they are let go
	}}
	rep := r.mustRun(r.plan("transcripts"))
	if got := rule(t, rep, "transcripts"); got.Gone != 0 || got.PartsGone != 0 || got.Unknown != 3 || got.Errors != 3 || r.open() != 0 {
		t.Errorf("got %+v, %d open", got, r.open())
	}
	left := func() (n int) {
		list, err := os.ReadDir(filepath.Join(r.root, "files"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if n := left(); n != 3 {
		t.Errorf("%d files left, want 3", n)
	}
	if got := rule(t, r.mustRun(r.plan("transcripts")), "transcripts"); got.Gone != 1 || got.PartsGone != 1 || left() != 2 {
		t.Errorf("then %+v, %d files", got, left())
	}
}
