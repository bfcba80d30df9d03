package purge_test

import (
	"errors"
	"testing"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/purge"
)

// A run that died before it erased anything, and a disk that is not mounted when the
// next one comes: what the intent names is not there, and is not gone. Seen to fail
// without the comparison: all records went, with their blobs called erased, while the
// blobs were on the disk; the interlock for missing parts took them for the work of
// the run that died.
func TestAnotherRootStopsTheResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.Batch = 100
	for i := range 12 {
		w.record(i, 20, string(rune('a'+i)))
	}
	w.policy.Rules[0].Limits.Missing = 0
	w.rehash()
	inode := uint64(7)
	w.config.Root = func(store string) (uint64, bool) { return inode, store == "disk" }
	w.die(t, w.plan("transcripts"), cutPoint{store: "disk", op: connectortest.OpErase, n: 1, when: connectortest.Before})
	empty := connectortest.NewMemory()
	w.stores, inode = map[string]connector.Connector{"app": w.app, "disk": empty}, 8

	rep, err := w.run(w.plan("transcripts"))
	var stop *purge.Interlock
	if !errors.As(err, &stop) || stop.Code != purge.Root || stop.Store != "disk" || stop.Rule != "transcripts" {
		t.Fatalf("got %v, %+v", err, rep.Stops)
	}
	const text = "rule transcripts: the root of store disk is not the directory in which an unfinished run was at work"
	if stop.Error() != text {
		t.Errorf("says %q", stop.Error())
	}
	if n, m := len(w.app.Locators()), w.open(); n != 12 || m != 1 {
		t.Errorf("%d records left and %d intents open, want 12 and 1", n, m)
	}

	w.stores["disk"], inode = w.disk, 7 // mounted
	if got := rule(t, w.mustRun(w.plan("transcripts")), "transcripts"); got.Gone != 12 || got.PartsGone != 12 || len(w.disk.Locators()) != 0 {
		t.Errorf("mounted: %+v, %d blobs", got, len(w.disk.Locators()))
	}
}

// Somebody who knows that the data lies elsewhere now says so.
func TestAnotherRootIsAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(1, 20, "a")
	inode := uint64(7)
	w.config.Root = func(store string) (uint64, bool) { return inode, store == "disk" }
	w.die(t, w.plan("transcripts"), cutPoint{store: "disk", op: connectortest.OpErase, n: 1, when: connectortest.After})
	inode = 8
	if rep, err := w.run(w.plan("transcripts")); err == nil || len(rep.Stops) != 1 {
		t.Fatalf("got %v", err)
	}
	w.config.Allow.Missing = true
	if got := rule(t, w.mustRun(w.plan("transcripts")), "transcripts"); got.Gone != 1 || got.PartsGone != 1 || w.open() != 0 {
		t.Errorf("got %+v, %d open", got, w.open())
	}
}
