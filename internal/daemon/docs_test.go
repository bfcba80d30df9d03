package daemon_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/internal/daemon"
)

// The page lists the events with their fields: all there are, and no more.
func TestEventsPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## The service\n")
	section, _, _ = strings.Cut(section, "\n## ")
	page := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z, ]+) \\| (.*) \\|$").FindAllStringSubmatch(section, -1) {
		page[m[1]] = m[2] + "|" + m[3]
	}
	seen := map[string]bool{}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "2026-11-20T12:00:00Z", "*/5 * * * *", "UTC")
		w.terms.Cleanup, w.terms.Sweep, w.terms.Prune, w.terms.Sign = time.Minute, time.Minute, time.Minute, time.Minute
		refused := false
		for _, a := range []daemon.Act{daemon.Check, daemon.Purge, daemon.Sign, daemon.Cleanup, daemon.Sweep, daemon.Prune} {
			w.does[a] = func(_ context.Context, _ <-chan struct{}, n int) daemon.Result {
				w.mu.Lock()
				defer w.mu.Unlock()
				if refused || a == daemon.Check {
					return daemon.Result{Status: 4 * n % 8, Refusal: []daemon.Refusal{"", daemon.Altered}[n%2], Err: errors.New("x")}
				}
				if a == daemon.Sweep && n == 3 {
					w.mu.Unlock()
					time.Sleep(2 * time.Hour)
					w.mu.Lock()
				}
				return daemon.Result{Status: n % 2, Busy: a == daemon.Purge && n == 2, Held: 1, HeldBy: "key"}
			}
		}
		if err := w.serve(func() {
			time.Sleep(3 * time.Hour)
			w.change(func() { w.bad, w.fresh = errors.New("x"), true })
			time.Sleep(time.Minute)
			w.change(func() { w.bad, w.fresh = nil, true })
			time.Sleep(time.Minute)
			w.set("2026-11-21T12:00:00Z")
			time.Sleep(time.Minute)
		}); err != nil {
			t.Fatal(err)
		}
		for _, e := range w.events {
			name := string(e.Name())
			seen[name] = true
			levels, fields, _ := strings.Cut(page[name], "|")
			if !strings.Contains(levels, strings.ToLower(e.Level().String())) {
				t.Errorf("%s has level %s; the page says %q", name, e.Level(), levels)
			}
			if name == "policy_loaded" {
				_, fields, _ = strings.Cut(page["service_started"], "|")
			}
			for _, a := range e.Attrs() {
				if !strings.Contains(fields, "`"+a.Key+"`") {
					t.Errorf("%s has %s; the page says %q", name, a.Key, fields)
				}
			}
		}
	})
	for name := range page {
		if !seen[name] {
			t.Errorf("the page has %s, which was not seen", name)
		}
	}
	if len(page) != 16 {
		t.Errorf("%d events on the page", len(page))
	}
}
