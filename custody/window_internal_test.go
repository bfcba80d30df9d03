package custody

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
)

// The state is the same, however much of the ledger is taken in at a time, and
// whether the cache goes on or is made anew.
func TestWindowsDoNotShow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := ledger.Open(t.Context(), "sqlite:"+filepath.Join(dir, "epitaph.db"), ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	open := func(name string, window int) *Custody {
		c, err := Open(t.Context(), Options{Ledger: l, Cache: filepath.Join(dir, name), Host: "web"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.state.window = window
		return c
	}
	steady := open("steady", 3)
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now().UTC().Truncate(time.Microsecond)
	var sent []string
	for n := range 500 {
		e := anything(r, now.Add(time.Duration(n)*time.Second), sent)
		ids, err := steady.record(t.Context(), []event{e})
		if err != nil {
			t.Fatal(err)
		}
		if e.To != "" {
			sent = append(sent, ids[0])
		}
		if n%37 == 0 { // the cache goes on from here
			if err := steady.state.catchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := dump(t, open("whole", windowFiles))
	if strings.Count(want, "\n") < 60 {
		t.Fatalf("there is hardly any state:\n%s", want)
	}
	if got := dump(t, steady); got != want {
		t.Errorf("a cache that went on:\n%s\nwant\n%s", got, want)
	}
	for _, window := range []int{1, 2, 7, 30} {
		if got := dump(t, open(fmt.Sprint("cache", window), window)); got != want {
			t.Errorf("windows of %d:\n%s\nwant\n%s", window, got, want)
		}
	}
	// Two that make one cache, turn by turn.
	first, second := open("shared", 20), open("shared", 30)
	var known [2]*keys
	for more := true; more; {
		more = false
		for i, c := range []*Custody{first, second} {
			m, err := c.state.step(t.Context(), &known[i])
			if err != nil {
				t.Fatal(err)
			}
			more = more || m
		}
	}
	if got := dump(t, first); got != want {
		t.Errorf("two that take turns:\n%s\nwant\n%s", got, want)
	}
}

// anything is one operation, of any kind, with one of forty files.
func anything(r *rand.Rand, at time.Time, sent []string) event {
	e := event{Operation: Operation{At: at, Action: "a", Host: "web"}}
	e.place = place{store: "work", at: connector.Locator(fmt.Sprint("f", r.IntN(40))), host: "web"}
	e.state = [...]connector.State{connector.Unknown, connector.Present, connector.Gone}[r.IntN(3)]
	switch r.IntN(8) {
	case 0, 1, 2:
		if e.kind = Created; r.IntN(2) == 0 {
			e.Due, e.Required = at.Add(time.Duration(r.IntN(9999))*time.Second), true
		}
		if r.IntN(4) == 0 {
			e.stage = reserved
		}
	case 3:
		e.kind = Deleted
	case 4:
		e.kind, e.work = Started, "w"
	case 5:
		e.kind, e.work = Completed, "w"
	case 6:
		e.kind, e.To, e.Due = Left, "services", at
	case 7:
		if e.kind, e.stage = Copied, acknowledged; len(sent) > 0 {
			e.answers = sent[r.IntN(len(sent))]
		}
	}
	return e
}

// dump is all of the state.
func dump(t *testing.T, c *Custody) string {
	t.Helper()
	if err := c.state.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := c.state.scan(t.Context(), "1", "key")
	if err != nil {
		t.Fatal(err)
	}
	transfers, err := c.state.transfers(t.Context(), c.state.db, "1", "id")
	if err != nil {
		t.Fatal(err)
	}
	var work, daily int
	if err := c.state.db.QueryRowContext(t.Context(), "SELECT (SELECT sum(id) FROM work), (SELECT sum(n) FROM daily)").Scan(&work, &daily); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, work, daily)
	for _, r := range rows {
		fmt.Fprintf(&b, "%+v\n", r)
	}
	for _, x := range transfers {
		fmt.Fprintf(&b, "%+v\n", x)
	}
	return b.String()
}
