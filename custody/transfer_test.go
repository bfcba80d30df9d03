package custody_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

// twoHosts are two hosts that share a ledger. Both call their own directory
// "work", and one that both have mounted "nas".
func twoHosts(t *testing.T, dsn string) (web, services *world) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	nas := t.TempDir()
	host := func(name string) *world {
		w := &world{t: t, base: t.TempDir(), now: now}
		w.dir = filepath.Join(w.base, "work")
		if err := os.Mkdir(w.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		l, err := ledger.Open(t.Context(), dsn, ledger.Config{Clock: w.clock})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		w.ledger = l
		w.o = custody.Options{Ledger: l, Cache: filepath.Join(w.base, "cache"), Clock: w.clock, Host: name, Role: name}
		for name, dir := range map[string]string{"work": w.dir, "nas": nas} {
			conn, err := files.Open(dir, files.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			w.o.Stores = append(w.o.Stores, custody.Store{Name: name, Root: dir, Connector: conn, Shared: name == "nas"})
		}
		w.Custody = w.open()
		return w
	}
	return host("web"), host("services")
}

// ledgers runs a test on both kinds of ledger.
func ledgers(t *testing.T, do func(t *testing.T, dsn string)) {
	t.Helper()
	t.Parallel()
	t.Run("PostgreSQL", func(t *testing.T) { t.Parallel(); do(t, testserver.Postgres(t)) })
	t.Run("SQLite", func(t *testing.T) { t.Parallel(); do(t, "sqlite:"+filepath.Join(t.TempDir(), "epitaph.db")) })
}

// What one host has in its own directory is not looked for in that of another,
// though both call it by one name: that would call it gone.
func TestOtherHostIsNotLookedAt(t *testing.T) {
	ledgers(t, func(t *testing.T, dsn string) {
		web, services := twoHosts(t, dsn)
		path := web.due("a")
		if got := services.results(services.Verify(t.Context())); got != "" {
			t.Errorf("services looked at %q", got)
		}
		if got := services.results(services.Run(t.Context(), custody.Cleanup{Force: true})); got != "" {
			t.Errorf("services disposed of %q", got)
		}
		for _, w := range []*world{web, services} {
			n := 0
			for f, err := range w.Overdue(t.Context()) {
				if n++; err != nil || f.Elsewhere != (w == services) || f.Attempts != 0 {
					t.Errorf("%+v %v", f, err)
				}
			}
			if n != 1 {
				t.Errorf("%d overdue on %s", n, w.o.Host)
			}
		}
		if got, want := services.verdicts(custody.Check{}), path+":elsewhere"; got != want {
			t.Errorf("verify files: %q, want %q", got, want)
		}
		// A file of the same name on the other host is another file.
		services.track(custody.Operation{Action: work, Path: services.write("a", "other"), Due: web.now.Add(-time.Hour)})
		if got := web.results(web.Run(t.Context(), custody.Cleanup{})); got != "a gone GONE" {
			t.Errorf("web: %q", got)
		}
		if got := services.overdue(); got != "a" || !services.exists(filepath.Join(services.dir, "a")) {
			t.Errorf("overdue on services: %q", got)
		}
		// In a directory that both share, either sees what the other has.
		web.track(custody.Operation{Action: work, Path: web.shared("b"), Due: web.now.Add(-time.Hour)})
		services.results(services.Run(t.Context(), custody.Cleanup{}))
		if got := web.overdue(); got != "" || web.exists(web.shared("")+"b") {
			t.Errorf("overdue on web: %q", got)
		}
	})
}

// shared makes a file in the directory that both hosts have; "" names that.
func (w *world) shared(name string) string {
	w.t.Helper()
	for _, s := range w.o.Stores {
		if s.Name == "nas" {
			if name == "" {
				return s.Root + "/"
			}
			path := filepath.Join(s.Root, name)
			if err := os.WriteFile(path, []byte("content of "+name), 0o600); err != nil {
				w.t.Fatal(err)
			}
			return path
		}
	}
	w.t.Fatal("there is no nas")
	return ""
}

// send tracks a file on its way to services.
func (w *world) send(action, name, content string, o custody.Operation) string {
	w.t.Helper()
	o.Action, o.Path = action, w.write(name, content)
	if o.To == "" {
		o.To = "services"
	}
	sum, size, err := w.Digest(w.t.Context(), o.Path)
	if err != nil {
		w.t.Fatal(err)
	}
	o.Hash, o.Size = sum, size
	return w.track(o).ID
}

// late are the names of the transfers that should have been acknowledged.
func (w *world) late() string {
	w.t.Helper()
	var list []string
	for x, err := range w.OverdueTransfers(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		name := filepath.Base(x.Path)
		if x.Lost {
			name += " lost"
		}
		if x.Differs > 0 {
			name += " differs"
		}
		list = append(list, name)
	}
	return strings.Join(list, "; ")
}

// A copy is a claim until the other side has it; then it is tracked there.
func TestTransfer(t *testing.T) {
	ledgers(t, func(t *testing.T, dsn string) {
		web, services := twoHosts(t, dsn)
		ref := custody.Ref{Kind: "data-file", ID: "7"}
		id := web.send("transfer_sent", "a.csv", "abc", custody.Operation{Scope: "5", Ref: ref, Due: web.now.Add(time.Hour)})
		if got := web.late(); got != "" {
			t.Errorf("late before it is due: %q", got)
		}
		web.now, services.now = web.now.Add(2*time.Hour), services.now.Add(2*time.Hour)
		if got := services.late() + "|" + web.late(); got != "a.csv|a.csv" {
			t.Errorf("late: %q", got)
		}
		arrived := services.write("in/a.csv", "abc")
		a, err := services.Acknowledge(t.Context(), id, custody.Operation{Path: arrived})
		if err != nil || !a.Agrees || a.Path != arrived {
			t.Fatalf("%+v %v", a, err)
		}
		if got := services.late() + "|" + web.late(); got != "|" {
			t.Errorf("late after it was acknowledged: %q", got)
		}
		f, ok, err := web.Find(t.Context(), a.ID)
		if err != nil || !ok || f.Made.Scope != "5" || f.Made.Ref != ref || f.Made.Action != "transfer_received" || f.Made.From != "web:"+filepath.Join(web.dir, "a.csv") || f.Condition != custody.Kept {
			t.Errorf("%+v %v %v", f, ok, err)
		}
		if _, err := services.Acknowledge(t.Context(), id, custody.Operation{Path: arrived}); !errors.Is(err, custody.ErrAcknowledged) {
			t.Errorf("twice: %v", err)
		}
		if !web.exists(filepath.Join(web.dir, "a.csv")) || web.overdue() != "" {
			t.Error("the original of a copy became due")
		}
		var lines []string
		for r, err := range web.History(t.Context(), custody.Wanted{File: "*/work/a.csv"}) {
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, strings.TrimSpace(strings.TrimSpace(r.Action+" "+r.Stage)+" "+r.To))
		}
		if got, want := strings.Join(lines, "; "), "transfer_sent services; transfer_received acknowledged"; got != want {
			t.Errorf("history: %q, want %q", got, want)
		}
	})
}

// Something else than was sent is a finding, is tracked, and settles nothing.
func TestTransferDiffers(t *testing.T) {
	ledgers(t, func(t *testing.T, dsn string) {
		web, services := twoHosts(t, dsn)
		id := web.send("transfer_sent", "a.csv", "abc", custody.Operation{Due: web.now.Add(-time.Minute)})
		for n, content := range []string{"abd", "ab", "abcd"} {
			a, err := services.Acknowledge(t.Context(), id, custody.Operation{Action: work, Path: services.write("a.csv", content), Due: services.now.Add(-time.Second)})
			if err != nil || a.Agrees || a.ID == "" {
				t.Fatalf("%q: %+v %v", content, a, err)
			}
			if x, ok, err := web.Transfer(t.Context(), id); err != nil || !ok || x.Settled() || x.Differs != int64(n+1) {
				t.Errorf("%q: %+v %v", content, x, err)
			}
		}
		if got := web.late(); got != "a.csv differs" {
			t.Errorf("late: %q", got)
		}
		if got := services.overdue(); got != "a.csv" {
			t.Errorf("what arrived is not tracked: %q", got)
		}
		incidents := 0
		for e, err := range web.ledger.Entries(t.Context(), ledger.Filter{Kinds: []ledger.Kind{ledger.Incident}}) {
			if code, _ := e.Code("incident"); err != nil || code != "transfer-differs" {
				t.Errorf("%+v %v", e, err)
			}
			incidents++
		}
		if incidents != 3 {
			t.Errorf("%d incidents", incidents)
		}
		a, err := services.Acknowledge(t.Context(), id, custody.Operation{Path: services.write("a.csv", "abc")})
		if err != nil || !a.Agrees || web.late() != "" {
			t.Errorf("the right one: %+v %v", a, err)
		}
	})
}

// The original of a move stays until the other side has it; then it is due.
func TestTransferMoves(t *testing.T) {
	ledgers(t, func(t *testing.T, dsn string) {
		web, services := twoHosts(t, dsn)
		tracked := web.write("a.csv", "abc")
		web.track(custody.Operation{Action: "nas_raw_created", Path: tracked})
		id := web.send("transfer_moved", "a.csv", "abc", custody.Operation{})
		stranger := web.send("transfer_moved", "b.csv", "def", custody.Operation{}) // that nobody tracked before
		early := web.send("transfer_moved", "c.csv", "ghi", custody.Operation{Due: web.now.Add(time.Minute)})
		if got := web.results(web.Run(t.Context(), custody.Cleanup{Force: true})); got != "" || web.overdue() != "" {
			t.Errorf("went before it was acknowledged: %q", got)
		}
		for id, name := range map[string]string{id: "abc", stranger: "def"} {
			if a, err := services.Acknowledge(t.Context(), id, custody.Operation{Path: services.write(name, name)}); err != nil || !a.Agrees {
				t.Fatalf("%+v %v", a, err)
			}
		}
		web.now = web.now.Add(2 * time.Minute)
		if got := web.overdue(); got != "a.csv b.csv" && got != "b.csv a.csv" {
			t.Errorf("overdue on web: %q", got)
		}
		if got := web.results(web.Run(t.Context(), custody.Cleanup{})); strings.Count(got, "gone GONE") != 2 {
			t.Errorf("web: %q", got)
		}
		// A sender who deletes before anybody acknowledged has lost the only copy that
		// is known.
		if err := os.Remove(filepath.Join(web.dir, "c.csv")); err != nil {
			t.Fatal(err)
		}
		web.track(custody.Operation{Action: "file_deleted_via_api", Path: filepath.Join(web.dir, "c.csv")})
		if got := web.late(); got != "c.csv lost" {
			t.Errorf("late: %q", got)
		}
		if _, err := web.Confirm(t.Context(), early, "jones"); err != nil {
			t.Error(err)
		}
		if x, ok, err := services.Transfer(t.Context(), early); err != nil || !ok || !x.Settled() || web.late() != "" {
			t.Errorf("after a person's word: %+v %v", x, err)
		}
	})
}

func TestTransferRefuses(t *testing.T) {
	t.Parallel()
	web, services := twoHosts(t, "sqlite:"+filepath.Join(t.TempDir(), "epitaph.db"))
	path := web.write("a.csv", "abc")
	for name, o := range map[string]custody.Operation{
		"without a hash":     {Action: "transfer_sent", Path: path, To: "services"},
		"of another kind":    {Action: work, Path: path, To: "services", Hash: [32]byte{1}},
		"to nowhere":         {Action: "transfer_sent", Path: path, To: "/work", Hash: [32]byte{1}},
		"to no store":        {Action: "transfer_sent", Path: path, To: "services/", Hash: [32]byte{1}},
		"to a sentence":      {Action: "transfer_sent", Path: path, To: "the other host", Hash: [32]byte{1}},
		"of another size":    {Action: "transfer_sent", Path: path, To: "services", Hash: [32]byte{1}, Size: 99},
		"to its own host":    {Action: "transfer_sent", Path: path, To: "web", Hash: [32]byte{1}},
		"of what is nowhere": {Action: "transfer_sent", Path: path + ".absent", To: "services", Hash: [32]byte{1}},
		"required":           {Action: "transfer_sent", Path: path, To: "services", Hash: [32]byte{1}, Required: true},
	} {
		rs, err := web.Track(t.Context(), o)
		var bad *custody.Refused
		if err != nil || !errors.As(rs[0].Err, &bad) || strings.Contains(bad.Text, "a.csv") {
			t.Errorf("%s: %+v %v", name, rs, err)
		}
	}
	plain := web.track(custody.Operation{Action: "nas_raw_created", Path: path}).ID
	id := web.send("transfer_sent", "a.csv", "abc", custody.Operation{To: "services/work"})
	there := services.write("a.csv", "abc")
	for name, c := range map[string]struct {
		w    *world
		id   string
		o    custody.Operation
		want error
	}{
		"unknown":       {services, "9999.0", custody.Operation{Path: there}, custody.ErrNotTransfer},
		"no id":         {services, "x", custody.Operation{Path: there}, custody.ErrNotTransfer},
		"no transfer":   {services, plain, custody.Operation{Path: there}, custody.ErrNotTransfer},
		"wrong host":    {web, id, custody.Operation{Path: path}, custody.ErrOtherHost},
		"absent":        {services, id, custody.Operation{Path: there + ".absent"}, nil},
		"other store":   {services, id, custody.Operation{Path: services.shared("a.csv")}, nil},
		"uncovered":     {services, id, custody.Operation{Path: "/etc/passwd"}, nil},
		"wrong kind":    {services, id, custody.Operation{Path: there, Action: "nas_raw_deleted"}, nil},
		"unknown word":  {services, id, custody.Operation{Path: there, Action: "received"}, nil},
		"no path":       {services, id, custody.Operation{}, nil},
		"nobody's word": {services, id, custody.Operation{Path: "work:../a.csv"}, nil},
	} {
		before, _, _ := c.w.ledger.Newest(t.Context())
		_, err := c.w.Acknowledge(t.Context(), c.id, c.o)
		var bad *custody.Refused
		if c.want != nil && !errors.Is(err, c.want) || c.want == nil && !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
		if after, _, _ := c.w.ledger.Newest(t.Context()); after != before {
			t.Errorf("%s: something was recorded", name)
		}
	}
	// What was sent cannot be acknowledged with itself.
	shared := web.shared("b.csv")
	sum, size, err := web.Digest(t.Context(), shared)
	if err != nil {
		t.Fatal(err)
	}
	id = web.track(custody.Operation{Action: "transfer_sent", Path: shared, To: "services", Hash: sum, Size: size}).ID
	var bad *custody.Refused
	if _, err := services.Acknowledge(t.Context(), id, custody.Operation{Path: shared}); !errors.As(err, &bad) {
		t.Errorf("with itself: %v", err)
	}
}

// Of two who acknowledge at the same moment, one is told that it is settled.
func TestTransferAcknowledgedAtOnce(t *testing.T) {
	ledgers(t, func(t *testing.T, dsn string) {
		web, services := twoHosts(t, dsn)
		second := services.open()
		for n := range 5 {
			id := web.send("transfer_sent", "a.csv", "abc", custody.Operation{})
			errs := make(chan error, 2)
			for i, c := range []*custody.Custody{services.Custody, second} {
				path := services.write(strings.Repeat("x", i+1), "abc")
				go func() {
					_, err := c.Acknowledge(t.Context(), id, custody.Operation{Path: path})
					errs <- err
				}()
			}
			a, b := <-errs, <-errs
			if a == nil {
				a, b = b, a
			}
			if b != nil || !errors.Is(a, custody.ErrAcknowledged) {
				t.Errorf("round %d: %v, %v", n, a, b)
			}
		}
	})
}

// What was written to after it was sent is not what the other side has: it stays, and
// somebody is told. What only looks new goes, and so does what must be gone anyway.
func TestTransferMovesWhatWasSent(t *testing.T) {
	ledgers(t, func(t *testing.T, dsn string) {
		web, services := twoHosts(t, dsn)
		web.track(custody.Operation{Action: "nas_raw_created", Path: web.write("edited", "edited")})
		web.track(custody.Operation{Action: work, Path: web.write("dated", "dated"), Due: web.now.Add(time.Hour)})
		names := []string{"edited", "stealthy", "touched", "dated", "anew"}
		for _, name := range names {
			id := web.send("transfer_moved", name, name, custody.Operation{Due: web.now.Add(time.Hour)})
			if a, err := services.Acknowledge(t.Context(), id, custody.Operation{Path: services.write(name, name)}); err != nil || !a.Agrees {
				t.Fatalf("%+v %v", a, err)
			}
		}
		path := func(name string) string { return filepath.Join(web.dir, name) }
		raised := func(list []custody.Sighting, err error) string {
			var lines []string
			for i := range list {
				line := web.results(list[i:i+1], err)
				if list[i].Raised {
					line += " incident"
				}
				lines = append(lines, line)
			}
			return strings.Join(lines, "; ")
		}
		stealthy, err := os.Stat(path("stealthy"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"edited", "stealthy", "dated"} {
			f, err := os.OpenFile(path(name), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("E"); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		for name, at := range map[string]time.Time{"stealthy": stealthy.ModTime(), "touched": web.now.Add(time.Hour)} {
			if err := os.Chtimes(path(name), at, at); err != nil {
				t.Fatal(err)
			}
		}
		web.remove(path("anew"))
		web.track(custody.Operation{Action: "nas_raw_created", Path: web.write("anew", "other")})

		web.now = web.now.Add(time.Minute)
		want := "anew present CHANGED incident; dated present CHANGED incident; edited present CHANGED incident; stealthy present CHANGED incident; touched gone GONE"
		if got := sorted(raised(web.Run(t.Context(), custody.Cleanup{}))); got != want {
			t.Errorf("\n got %q\nwant %q", got, want)
		}
		for _, f := range []string{"anew", "dated", "edited", "stealthy"} {
			if !web.exists(path(f)) {
				t.Errorf("%s is gone", f)
			}
		}
		// The owner is this process; as an orphan it would not go either.
		list, err := web.Orphans(t.Context(), custody.Search{})
		if err != nil {
			t.Fatal(err)
		}
		if done, err := web.Dispose(t.Context(), list); err != nil || len(done) != 0 {
			t.Errorf("%+v %v", done, err)
		}
		// Its own date counts whatever it holds.
		web.now = web.now.Add(2 * time.Hour)
		want = "anew present CHANGED; dated gone GONE; edited present CHANGED; stealthy present CHANGED"
		if got := sorted(raised(web.Run(t.Context(), custody.Cleanup{Force: true}))); got != want {
			t.Errorf("\n got %q\nwant %q", got, want)
		}
		// Sent once more as it is now, it goes.
		id := web.send("transfer_moved", "edited", "Edited", custody.Operation{Due: web.now.Add(time.Hour)})
		if a, err := services.Acknowledge(t.Context(), id, custody.Operation{Path: services.write("edited", "Edited")}); err != nil || !a.Agrees {
			t.Fatalf("%+v %v", a, err)
		}
		if got := sorted(web.results(web.Run(t.Context(), custody.Cleanup{Force: true}))); !strings.Contains(got, "edited gone GONE") || web.exists(path("edited")) {
			t.Errorf("sent once more: %q", got)
		}
	})
}

// Many are recorded together, each with its own answer.
func TestAcknowledgeAll(t *testing.T) {
	t.Parallel()
	web, services := twoHosts(t, "sqlite:"+filepath.Join(t.TempDir(), "epitaph.db"))
	const n = 300
	var sent []custody.Operation
	for i := range n {
		name := fmt.Sprint(i)
		sent = append(sent, custody.Operation{Action: "transfer_sent", Path: web.write(name, name), To: "services", Hash: sha256.Sum256([]byte(name)), Size: int64(len(name)), Due: web.now.Add(-time.Minute)})
	}
	tracked, err := web.Track(t.Context(), sent...)
	if err != nil {
		t.Fatal(err)
	}
	var list []custody.Arrival
	for i := range n {
		content := fmt.Sprint(i)
		if i%100 == 7 {
			content = "other"
		}
		list = append(list, custody.Arrival{ID: tracked[i].ID, Operation: custody.Operation{Path: services.write(fmt.Sprint(i), content)}})
	}
	list = append(list, list[0], custody.Arrival{ID: "9999.0", Operation: list[0].Operation}, custody.Arrival{ID: list[1].ID, Operation: custody.Operation{Path: services.write("new", "1")}})
	before, _, err := web.ledger.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := services.AcknowledgeAll(t.Context(), list...)
	if err != nil {
		t.Fatal(err)
	}
	if after, _, err := web.ledger.Newest(t.Context()); err != nil || after != before+3 { // two for the operations, one for what differs
		t.Errorf("%d entries, %v", after-before, err)
	}
	for i, a := range got[:n] {
		if a.Err != nil || a.ID == "" || a.Agrees != (i%100 != 7) {
			t.Errorf("%d: %+v", i, a)
		}
	}
	for i, want := range []error{custody.ErrAcknowledged, custody.ErrNotTransfer, custody.ErrAcknowledged} {
		if a := got[n+i]; !errors.Is(a.Err, want) || a.ID != "" {
			t.Errorf("%d: %+v, want %v", n+i, a, want)
		}
	}
	if got := strings.Count(web.late(), "differs"); got != 3 || strings.Count(web.late(), ";") != 2 {
		t.Errorf("late: %q", web.late())
	}
}

// sorted puts results in the order of their names.
func sorted(results string) string {
	list := strings.Split(results, "; ")
	slices.Sort(list)
	return strings.Join(list, "; ")
}
