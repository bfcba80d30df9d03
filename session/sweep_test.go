package session_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
	"github.com/epitaph/epitaph/session"
)

// left makes a session that nobody holds, with one file.
func (b *bed) left(s *session.Store, ttl time.Duration, o owner.Process) string {
	b.Helper()
	id, _, err := s.Leave(b.Context(), "", ttl, o)
	b.must(err)
	b.must(os.WriteFile(b.path(id, "note.txt"), []byte("x"), 0o600))
	return id
}

// rewrite changes a session's record, as another host would have written it.
func (b *bed) rewrite(id string, change func(map[string]any)) {
	b.Helper()
	path := b.path(id, ".epitaph-session")
	text, err := os.ReadFile(path)
	b.must(err)
	var r map[string]any
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	b.must(d.Decode(&r))
	change(r)
	text, err = json.Marshal(r)
	b.must(err)
	b.must(os.WriteFile(path, text, 0o600))
}

func me(t *testing.T) owner.Process {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	o, err := owner.Of(host, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// What a sweep takes and what it leaves. An owner is dead only where that is
// known: another process under its number, another boot of this host. Another
// host, and another namespace, are unknown until the time is over.
func TestSweepTakesWhatIsOver(t *testing.T) {
	t.Parallel()
	own := me(t)
	gone := exec.CommandContext(t.Context(), "sleep", "600")
	if err := gone.Start(); err != nil {
		t.Fatal(err)
	}
	dead, err := owner.Of(own.Host, gone.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = gone.Wait() // it was killed
	with := func(change func(*owner.Process)) owner.Process {
		o := own
		change(&o)
		return o
	}
	for _, c := range []struct {
		name   string
		owner  owner.Process
		stands session.Standing
	}{
		{"nobody", owner.Process{}, session.Waiting},
		{"alive", own, session.Waiting},
		{"dead", dead, session.Abandoned},
		{"pid reused", with(func(o *owner.Process) { o.Start-- }), session.Abandoned},
		{"another boot", with(func(o *owner.Process) { o.Boot = "another" }), session.Abandoned},
		{"another host", with(func(o *owner.Process) { o.Host, o.Boot = "other", "another" }), session.Foreign},
		{"a container of another boot", with(func(o *owner.Process) { o.Boot, o.Space = "another", 4026532999 }), session.Foreign},
		{"another namespace", with(func(o *owner.Process) { o.Space, o.PID = 4026532999, 1<<22+1 }), session.Foreign},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			s := b.store()
			id := b.left(s, time.Hour, c.owner)
			infos, _, err := s.List(t.Context())
			b.must(err)
			if len(infos) != 1 || infos[0].Stands != c.stands || infos[0].Files != 1 || infos[0].Bytes != 1 {
				t.Errorf("list: %+v, want %s", infos, c.stands)
			}
			w, err := s.Sweep(t.Context())
			b.must(err)
			if taken := c.stands == session.Abandoned; b.exists(b.path(id)) == taken || (w.Gone == 1) != taken {
				t.Errorf("sweep: %+v", w)
			}
			b.wait(time.Hour)
			if _, err = s.Sweep(t.Context()); err != nil || b.exists(b.path(id)) {
				t.Errorf("after its time: %v, there: %t", err, b.exists(b.path(id)))
			}
			if gone, open := b.balance(); gone != 1 || open != 0 {
				t.Errorf("ledger: %d gone, %d open", gone, open)
			}
		})
	}
}

// A session of which someone holds the lease stays, even past its time.
func TestSweepNeverTakesALease(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	x := b.session(s)
	b.write(x, "note.txt", "x")
	b.wait(100 * time.Hour)
	for _, sweeper := range []*session.Store{s, b.store()} {
		w, err := sweeper.Sweep(t.Context())
		b.must(err)
		if w.InUse != 1 || len(w.Ended) != 0 {
			t.Errorf("sweep: %+v", w)
		}
	}
	e, err := x.Close()
	b.must(err)
	b.ended(e, "gone GONE: 1 gone, 0 left, 0 unknown")
}

// A lease that was let go on this kernel is the end of the session; on another
// host, with another kernel, a lock says nothing.
func TestSweepOfAFreeLease(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	for _, far := range []bool{false, true} {
		id := b.left(s, time.Hour, me(t))
		b.rewrite(id, func(r map[string]any) {
			r["leased"] = true
			if far {
				o := r["owner"].(map[string]any)
				o["host"], o["boot"] = "other", "another"
			}
		})
		_, err := s.Sweep(t.Context())
		b.must(err)
		if b.exists(b.path(id)) != far {
			t.Errorf("far %t: there %t", far, b.exists(b.path(id)))
		}
	}
}

// A record that is none makes its directory a leftover: reported, and taken
// only after the grace period.
func TestSweepOfADamagedRecord(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", "null", `{"v":2}`, `{"v":1,"nonce":"x","unknown":1}`, strings.Repeat("a", 8192)} {
		b := newBed(t)
		s := b.store()
		id := b.left(s, time.Hour, owner.Process{})
		b.must(os.WriteFile(b.path(id, ".epitaph-session"), []byte(text), 0o600))
		w, err := s.Sweep(t.Context())
		b.must(err)
		if len(w.Leftovers) != 1 || !b.exists(b.path(id, "note.txt")) {
			t.Errorf("%.20q: %+v", text, w)
		}
		b.wait(2 * session.DefaultGrace)
		if w, err = s.Sweep(t.Context()); err != nil || w.Gone != 1 || b.exists(b.path(id)) {
			t.Errorf("%.20q: %+v, %v", text, w, err)
		}
	}
}

// A process that died between the intent and the outcome: the next sweep settles
// its intent, and the session is counted once.
func TestSweepSettlesWhatADeadProcessBegan(t *testing.T) {
	t.Parallel()
	for _, erased := range []bool{false, true} {
		b := newBed(t)
		s := b.store()
		id := b.left(s, time.Hour, owner.Process{})
		print := lookup(t, b, id)
		o := me(t)
		_, err := b.ledger.Append(t.Context(), ledger.Entry{Kind: ledger.Intent, Run: "20260101T000000Z-0123456789ab", Rule: "sessions", Store: "sessions",
			Items: []ledger.Item{{Locator: id + "/", Print: print}},
			Facts: []ledger.Fact{ledger.Code("host", o.Host), ledger.Code("boot", o.Boot), ledger.Int("pid", int64(o.PID)), ledger.Int("start", o.Start-1), ledger.Int("space", o.Space)}})
		b.must(err)
		// And one of a process that lives, which is its own business.
		_, err = b.ledger.Append(t.Context(), ledger.Entry{Kind: ledger.Intent, Run: "20260101T000000Z-ffffffffffff", Rule: "sessions", Store: "sessions",
			Items: []ledger.Item{{Locator: "elsewhere/", Print: "s.1.2"}},
			Facts: []ledger.Fact{ledger.Code("host", o.Host), ledger.Code("boot", o.Boot), ledger.Int("pid", int64(o.PID)), ledger.Int("start", o.Start), ledger.Int("space", o.Space)}})
		b.must(err)
		if erased {
			b.must(os.RemoveAll(b.path(id)))
		}
		if erased {
			w, err := s.Sweep(t.Context())
			b.must(err)
			if w.Settled != 1 {
				t.Errorf("sweep: %+v", w)
			}
		} else { // whoever deletes it is told what went
			e, err := s.Delete(t.Context(), id)
			b.must(err)
			b.ended(e, "gone GONE: 1 gone, 0 left, 0 unknown")
			e, err = s.Delete(t.Context(), id)
			b.must(err)
			b.ended(e, "gone MISSING: 0 gone, 0 left, 0 unknown")
		}
		if b.exists(b.path(id)) {
			t.Error("it is still there")
		}
		if gone, open := b.balance(); gone != 1 || open != 1 {
			t.Errorf("erased %t: ledger: %d gone, %d open", erased, gone, open)
		}
	}
}

// lookup is the fingerprint of a session, from a deletion that could not begin:
// without an intent nothing goes.
func lookup(t *testing.T, b *bed, id string) string {
	t.Helper()
	o := b.o
	c := &cut{Ledger: b.ledger}
	o.Ledger = c
	s, err := session.Open(t.Context(), b.root, o)
	b.must(err)
	defer s.Close()
	if e, err := s.Delete(t.Context(), id); !errors.Is(err, errCut) || e.Unknown != 1 || e.Counts.Gone != 0 {
		t.Fatalf("without a ledger: %+v, %v", e, err)
	}
	if !b.exists(b.path(id, "note.txt")) {
		t.Fatal("something went without an intent")
	}
	return c.print
}

// A dead process had begun to delete a session; another has been made under the
// same id since. It is another one, and stays.
func TestSettleTakesNoOtherSession(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	o := me(t)
	for range 2 {
		_, _, err := s.Leave(t.Context(), "same", time.Hour, owner.Process{})
		b.must(err)
		b.must(os.WriteFile(b.path("same", "note.txt"), []byte("x"), 0o600))
		if n, _ := b.balance(); n == 0 {
			_, err := s.Delete(t.Context(), "same")
			b.must(err)
		}
	}
	first := ""
	for e, err := range b.ledger.Entries(t.Context(), ledger.Filter{Kinds: []ledger.Kind{ledger.Intent}, Unseal: true}) {
		b.must(err)
		first = e.Items[0].Print
	}
	_, err := b.ledger.Append(t.Context(), ledger.Entry{Kind: ledger.Intent, Run: "20260101T000000Z-0123456789ab", Rule: "sessions", Store: "sessions",
		Items: []ledger.Item{{Locator: "same/", Print: first}},
		Facts: []ledger.Fact{ledger.Code("host", o.Host), ledger.Code("boot", o.Boot), ledger.Int("pid", int64(o.PID)), ledger.Int("start", o.Start-1), ledger.Int("space", o.Space)}})
	b.must(err)
	w, err := s.Sweep(t.Context())
	b.must(err)
	if !b.exists(b.path("same", "note.txt")) || w.Counts.Gone != 0 || w.Waiting != 1 {
		t.Errorf("sweep: %+v", w)
	}
	if gone, open := b.balance(); gone != 1 || open != 0 {
		t.Errorf("ledger: %d gone, %d open", gone, open)
	}
}

// A clock that is set ahead by years ends no session: how long it has lived is counted
// by the kernel. Of an earlier boot nothing is counted, and the clock is all there is.
func TestSweepBelievesNoClockThatJumped(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.store()
	id, earlier, old, elsewhere := b.left(s, time.Hour, me(t)), b.left(s, time.Hour, owner.Process{}), b.left(s, time.Hour, owner.Process{}), b.left(s, time.Hour, owner.Process{})
	b.rewrite(earlier, func(r map[string]any) { r["boot"] = "11111111-2222-3333-4444-555555555555" })
	b.rewrite(old, func(r map[string]any) { delete(r, "boot"); delete(r, "up") })  // of a program that did not count
	b.rewrite(elsewhere, func(r map[string]any) { r["up"] = 40 * 24 * time.Hour }) // where the count is another
	b.set(2 * 365 * 24 * time.Hour)
	w, err := s.Sweep(t.Context())
	b.must(err)
	if len(w.Ended) != 3 || w.Waiting != 1 || !b.exists(b.path(id, "note.txt")) {
		t.Fatalf("%d ended, %d waiting, the session of this boot is there: %v", len(w.Ended), w.Waiting, b.exists(b.path(id)))
	}
	for _, gone := range []string{earlier, old, elsewhere} {
		if b.exists(b.path(gone)) {
			t.Error("a session that only the clock can tell of is left")
		}
	}
	b.wait(59 * time.Minute)
	if w, err = s.Sweep(t.Context()); err != nil || len(w.Ended) != 0 {
		t.Fatalf("a minute before its time: %d ended, %v", len(w.Ended), err)
	}
	b.wait(2 * time.Minute)
	if w, err = s.Sweep(t.Context()); err != nil || len(w.Ended) != 1 || b.exists(b.path(id)) {
		t.Fatalf("after its time: %d ended, %v", len(w.Ended), err)
	}
	// Set back, the clock keeps one a while longer: nothing goes before both agree.
	id = b.left(s, time.Hour, owner.Process{})
	b.set(-24 * time.Hour)
	b.wait(2 * time.Hour)
	if w, err = s.Sweep(t.Context()); err != nil || len(w.Ended) != 0 || !b.exists(b.path(id)) {
		t.Fatalf("with a clock set back: %d ended, %v", len(w.Ended), err)
	}
}
