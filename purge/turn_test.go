package purge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/purge"
)

// A backlog after downtime changes the number of batches, never their size, and
// each batch has its turn before its intent. Seen to fail with the turn taken
// after the intent.
func TestBacklogMakesMoreBatchesNotLargerOnes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 40} {
		w := newWorld(t)
		for i := range n {
			w.record(i, 20, fmt.Sprint("v", i))
		}
		turns := 0
		w.config.Turn = func(_ context.Context, rule string, _ func(string, purge.Pause)) error {
			turns++
			if got := sizes(t, w.ledger); len(got) != turns-1 {
				t.Errorf("turn %d comes after %d intents", turns, len(got))
			}
			if rule != "transcripts" {
				t.Errorf("a turn for rule %s", rule)
			}
			return nil
		}
		w.mustRun(w.plan())
		got := sizes(t, w.ledger)
		if len(got) != n/4 || turns != n/4 {
			t.Errorf("%d items: %d batches after %d turns, want %d", n, len(got), turns, n/4)
		}
		for _, size := range got {
			if size != 4 {
				t.Errorf("%d items: a batch of %d, want 4", n, size)
			}
		}
	}
}

// sizes are the sizes of the batches in a ledger.
func sizes(t *testing.T, l *ledger.Ledger) (out []int) {
	t.Helper()
	for e, err := range l.Entries(t.Context(), ledger.Filter{Kinds: []ledger.Kind{ledger.Intent}, Unseal: true}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, len(e.Items))
	}
	return out
}

// A turn that does not come leaves the batch: no intent, nothing unknown, and the
// next run does it.
func TestTurnThatDoesNotCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 12 {
		w.record(i, 20, fmt.Sprint("v", i))
	}
	turns := 0
	w.config.Turn = func(_ context.Context, _ string, paused func(string, purge.Pause)) error {
		if turns++; turns > 1 {
			paused("disk", purge.PauseFile)
			paused("app", purge.PauseFile)
			paused("app", purge.ReplicaUnknown)
			paused("disk", purge.ReplicaUnknown)
			return errors.New("no more waiting")
		}
		return nil
	}
	rep, err := w.run(w.plan())
	if err != nil || !rep.Interrupted || rep.Rules[0].Gone != 4 || rep.Errors() != 0 || rep.Unknown() != 0 || len(sizes(t, w.ledger)) != 1 {
		t.Errorf("got %+v, %v", rep, err)
	}
	var told []string
	for _, e := range w.events {
		if e.Name() == purge.PausedEvent {
			store, _ := e.Value("store")
			why, _ := e.Value("why")
			told = append(told, fmt.Sprint(store, " ", why))
		}
	}
	if want := []string{"disk pause", "app replica_unknown"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q: each reason once", told, want)
	}
	w.config.Turn = nil
	if rep := w.mustRun(w.plan()); rep.Rules[0].Gone != 8 {
		t.Errorf("the next run: %+v", rep)
	}
}
