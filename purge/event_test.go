package purge_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/purge"
)

func TestMain(m *testing.M) {
	// Each world of the model has a ledger on disk; the command line may ask for more.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	code := testserver.Wrap(m).Run()
	if code == 0 {
		code = leaks()
	}
	os.Exit(code)
}

// leaks is 1 when goroutines are left. Those that are about to end have time for
// it: goleak itself gives up after half a second.
func leaks() int {
	for end := time.Now().Add(2 * time.Minute); ; {
		err := goleak.Find()
		if err == nil {
			return 0
		}
		if time.Now().After(end) {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
}

// Promise 9. Whatever happens, no event shows a locator, a value, a person, or
// the text of an error. The world is full of such text, and everything goes
// wrong in it. Seen to fail with err.Error() as error_type, and with the
// locator as the id of an item that has none.
func TestEventsShowNothingOfAPerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secret := "anna-svensson"
	w.config.Who, w.config.RequestID = secret, "for "+secret
	for i := range 8 {
		at := w.record(i, 20, fmt.Sprintf("%s%d", secret, i))
		r, _ := w.app.Get(at)
		if i%2 == 0 {
			r.ID = secret // a connector that gives an id it should not
		}
		w.app.Put(at, r)
	}
	w.export(secret, 20)
	for n, op := range []connectortest.Op{connectortest.OpErase, connectortest.OpClaim, connectortest.OpProbe} {
		p := w.plan()
		stores := w.stores
		w.stores = map[string]connector.Connector{"app": stores["app"], "disk": connectortest.NewFaulty(t, stores["disk"],
			connectortest.Fault{Op: op, N: 1, When: connectortest.Moments()[n], Err: errors.New("open /home/" + secret)})}
		w.mustRun(p)
		w.stores = stores
	}
	w.mustRun(w.plan())
	if len(w.events) < 20 {
		t.Fatalf("only %d events", len(w.events))
	}
	for _, e := range w.events {
		if s := e.String() + e.LogValue().String(); strings.Contains(s, "anna") || strings.Contains(s, "/home") || strings.Contains(s, "files/") {
			t.Errorf("event shows what it must not: %s", s)
		}
		if id, _ := e.Value("run_id"); id == "" || id == nil {
			t.Errorf("event without a run id: %s", e)
		}
	}
	// Nor does the public part of the ledger.
	for _, e := range w.entries() {
		public := fmt.Sprint(e.Kind, e.Run, e.Rule, e.Store, e.Results)
		for _, f := range e.Facts {
			public += " " + f.Name() + "=" + f.String()
		}
		if strings.Contains(public, "anna") || strings.Contains(public, "files/") {
			t.Errorf("entry %d shows what it must not: %s", e.Number, public)
		}
	}
}

// An Event is closed: nothing outside the package can put text into one.
func TestEventIsClosed(t *testing.T) {
	t.Parallel()
	e := reflect.TypeFor[purge.Event]()
	for i := range e.NumField() {
		if e.Field(i).IsExported() {
			t.Errorf("Event.%s is exported", e.Field(i).Name)
		}
	}
	for i := range e.NumMethod() {
		m := e.Method(i)
		for j := 1; j < m.Type.NumIn(); j++ {
			if m.Name != "Value" {
				t.Errorf("Event.%s takes an argument", m.Name)
			}
		}
	}
}

// The recorder's events keep their names and fields.
func TestRecorderEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(123, 15, "a")
	w.export("x", 15)
	w.mustRun(w.plan())
	fields := map[purge.EventName]map[string]any{
		"purge_run_started":     {"dry_run": false, "retention_days": int64(14)},
		"record_purged":         {"record_id": "123", "age_days": int64(15), "reason": "retention_expired", "files_deleted": int64(1)},
		"export_orphan_purged":  {"file_age_days": int64(15), "reason": "retention_expired"},
		"record_purge_complete": {"purged_count": int64(1), "files_deleted": int64(1), "exports_deleted": int64(1), "errors": int64(0), "dry_run": false},
	}
	for name, want := range fields {
		found := false
		for _, e := range w.events {
			if e.Name() != name {
				continue
			}
			found = true
			for key, v := range want {
				if got, ok := e.Value(key); !ok || got != v {
					t.Errorf("%s: %s = %v, want %v", name, key, got, v)
				}
			}
		}
		if !found {
			t.Errorf("no event %s", name)
		}
	}
}

// docs/events.md lists every event that the code knows, and no other.
func TestEventsAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	var src []byte
	for _, name := range []string{"event.go", "../internal/daemon/event.go"} { // those of a run, and of the service
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		src = append(src, text...)
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`EventName += "([a-z_]+)"`).FindAllSubmatch(src, -1) {
		known[string(m[1])] = true
		if !strings.Contains(string(doc), "`"+string(m[1])+"`") {
			t.Errorf("docs/events.md does not list %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+_[a-z_]+)` \\|").FindAllSubmatch(doc, -1) {
		if !known[string(m[1])] {
			t.Errorf("docs/events.md lists %s, which is no event", m[1])
		}
	}
}
