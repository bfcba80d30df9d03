package purge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/purge"
)

// Promise 8. Every evaluation of every rule writes a heartbeat: nothing due,
// switched off, unreadable, stopped, or only rehearsed.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy.Rules[1].Enabled = false
	w.rehash()
	w.record(1, 20, "a")
	p := w.plan()
	c := w.config
	c.Ledger, c.Clock = w.ledger, w.clock
	if _, err := purge.DryRun(t.Context(), w.policy, p, c); err != nil {
		t.Fatal(err)
	}
	if !w.app.Has("transcripts/00001") {
		t.Fatal("a dry run deletes")
	}
	w.mustRun(p)
	w.mustRun(w.plan())
	w.app.Break()
	w.mustRun(w.plan())
	type beat struct{ Rule, Mode, State string }
	var got []beat
	for _, e := range w.entries(ledger.Heartbeat) {
		mode, _ := e.Code("mode")
		state, _ := e.Code("state")
		got = append(got, beat{e.Rule, mode, state})
		_, gone := e.Int("gone")
		_, would := e.Int("would.gone")
		if dry := mode == "dry-run"; gone == dry || would != dry {
			t.Errorf("%s, %s: facts %v: only a purge may call anything gone", e.Rule, mode, e.Facts)
		}
	}
	want := []beat{
		{"transcripts", "dry-run", "done"}, {"exports", "dry-run", "disabled"},
		{"transcripts", "purge", "done"}, {"exports", "purge", "disabled"},
		{"transcripts", "purge", "done"}, {"exports", "purge", "disabled"},
		{"transcripts", "purge", "unreadable"}, {"exports", "purge", "disabled"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("heartbeats (-want +got):\n%s", d)
	}
}

// The entry of a run says by which policy, plan, cutoff and period it ran, where
// and with what; who asked is sealed.
func TestRunStartedEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.RequestID = "req 7 of anna@example.org"
	w.config.Allow = purge.Allow{Items: true, Clock: true}
	p := w.plan()
	w.mustRun(p)
	e := w.entries(ledger.RunStarted)[0]
	h, _ := e.Hash("policy")
	d, _ := e.Hash("plan")
	cutoff, _ := e.Instant("cutoff.transcripts")
	retain, _ := e.Code("retain.transcripts")
	host, _ := e.Code("host")
	allow, _ := e.Code("allow")
	who, _ := e.Secret("who")
	req, _ := e.Secret("request")
	_, plain := e.Code("request")
	if h != w.policy.Hash || d != p.Digest || !cutoff.Equal(t0.Add(-14*24*time.Hour)) || retain != "14d" || host != "host-1" ||
		allow != "items+clock" || who != "anna@example.org" || req != w.config.RequestID || plain {
		t.Errorf("got %v %v", e.Facts, e.Secrets)
	}
	for _, ev := range w.events {
		if v, ok := ev.Value("request_id"); !ok || !strings.HasPrefix(v.(string), "h:") {
			t.Errorf("request_id %v in %s", v, ev)
		}
		if v, _ := ev.Value("run_id"); v != e.Run {
			t.Errorf("run_id %v, want %s", v, e.Run)
		}
	}
	w.quiet()
}
