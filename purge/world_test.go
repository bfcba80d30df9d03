package purge_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"
)

// t0 is "now" in these tests: a summer day, so that nothing depends on the
// zone of the machine.
var t0 = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// world is a policy, its stores in memory, and a real ledger.
type world struct {
	t      testing.TB
	policy *policy.Policy
	app    *connectortest.Memory // records
	disk   *connectortest.Memory // blobs, and exports by a rule of their own
	stores map[string]connector.Connector
	ledger *ledger.Ledger
	// through, when set, stands between the run and the ledger.
	through purge.Ledger
	now     time.Time
	config  purge.Config

	mu     sync.Mutex
	events []purge.Event
}

// blank is the file of a ledger in which there is nothing yet. It is made once, and
// each world has a copy: there are hundreds, and to make one takes many flushes.
var blank = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "epitaph-purge-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "ledger.db")
	l, err := ledger.Open(context.Background(), "sqlite:"+path, ledger.Config{})
	if err == nil {
		err = l.Close() // which leaves nothing in the write-ahead log
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, app: connectortest.NewMemory(), disk: connectortest.NewMemory(), now: t0}
	w.stores = map[string]connector.Connector{"app": w.app, "disk": w.disk}
	ref := connector.Ref{Table: "audio", Column: "sha256"}
	w.policy = &policy.Policy{
		Stores: []policy.Store{{Name: "app", Kind: policy.Rows}, {Name: "disk", Kind: policy.Files}},
		Rules: []policy.Rule{{
			Name: "transcripts", Kind: "record", Enabled: true, Retain: policy.Period{Days: 14}, Store: "app", StoreKind: policy.Rows,
			Collection: "transcripts", Limits: policy.Limits{Items: policy.Unlimited, Share: 1_000_000, Missing: 1_000_000},
			Parts: []policy.Part{{
				Kind: policy.Files, Store: policy.Template{Literals: []string{"disk"}},
				Path: policy.Template{Literals: []string{"files/", ".bin"}, Refs: []connector.Ref{ref}},
				Want: connector.Want{Refs: []connector.Ref{ref}},
			}},
		}, {
			Name: "exports", Kind: "export", Enabled: true, Retain: policy.Period{Days: 14}, Store: "disk", StoreKind: policy.Files,
			Collection: "export-*.zip", Anchor: connector.Anchor{Kind: connector.AnchorModified},
			Limits: policy.Limits{Items: policy.Unlimited, Share: 1_000_000, Missing: 1_000_000},
		}},
	}
	w.rehash()
	path := filepath.Join(t.TempDir(), "ledger.db")
	text, err := blank()
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(t.Context(), "sqlite:"+path, ledger.Config{Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w.ledger = l
	w.config = purge.Config{Workers: 1, Batch: 4, Version: "test", Host: "host-1", Who: "anna@example.org"}
	return w
}

// newKeepingWorld is one of which the transcripts stay, and are set.
func newKeepingWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.keep()
	return w
}

// keep makes the rule one that sets its rows instead of erasing them.
func (w *world) keep() {
	w.policy.Rules[0].Then = []connector.Setting{{Column: "audio_deleted", Value: connector.Value{Kind: connector.BoolValue, Text: "true"}}}
	w.rehash()
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// rehash gives the policy the hash of its text, as a parsed one has.
func (w *world) rehash() { w.policy.Hash = sha256.Sum256(fmt.Appendf(nil, "%+v", w.policy.Rules)) }

func blob(name string) connector.Locator { return connector.Locator("files/" + name + ".bin") }

// record plants a transcript of that age with blobs of these names.
func (w *world) record(id int, days int, blobs ...string) connector.Locator {
	at := connector.Locator(fmt.Sprintf("transcripts/%05d", id))
	var ts []connector.Tuple
	for _, b := range blobs {
		ts = append(ts, connector.Tuple{b})
		if !w.disk.Has(blob(b)) {
			w.disk.Put(blob(b), connectortest.Record{Bytes: 100})
		}
	}
	w.app.Put(at, connectortest.Record{Collection: "transcripts", ID: fmt.Sprint(id), Anchor: t0.AddDate(0, 0, -days),
		Values: [][]connector.Tuple{ts}, Rows: []connector.Count{{Table: "segments", N: 2}, {Table: "transcripts", N: 1}}})
	return at
}

// export plants an export of that age.
func (w *world) export(name string, days int) connector.Locator {
	at := connector.Locator("export-" + name + ".zip")
	w.disk.Put(at, connectortest.Record{Collection: "export-*.zip", Anchor: t0.AddDate(0, 0, -days), Bytes: 10})
	return at
}

// plan makes a plan as of now.
func (w *world) plan(rules ...string) *plan.Plan {
	w.t.Helper()
	p, err := w.tryPlan(w.clock(), rules...)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) tryPlan(asOf time.Time, rules ...string) (*plan.Plan, error) {
	p, err := plan.Make(context.Background(), plan.Input{Policy: w.policy, Rules: rules, Stores: plan.LookOnly(w.stores), AsOf: asOf, Clock: w.clock},
		filepath.Join(w.t.TempDir(), "plan"))
	if err == nil {
		w.t.Cleanup(func() { p.Close() })
	}
	return p, err
}

// run carries out a plan.
func (w *world) run(p *plan.Plan) (purge.Report, error) { return w.runCtx(context.Background(), p) }

func (w *world) runCtx(ctx context.Context, p *plan.Plan) (purge.Report, error) {
	c := w.config
	c.Ledger = w.ledger
	if w.through != nil {
		c.Ledger = w.through
	}
	c.Stores = w.stores
	c.Clock = w.clock
	c.Observe = func(e purge.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}
	return purge.Run(ctx, w.policy, p, c)
}

// mustRun carries out a plan that nothing stops.
func (w *world) mustRun(p *plan.Plan) purge.Report {
	w.t.Helper()
	rep, err := w.run(p)
	if err != nil {
		w.t.Fatalf("run: %v", err)
	}
	return rep
}

// entries reads the ledger.
func (w *world) entries(kinds ...ledger.Kind) []ledger.Entry {
	w.t.Helper()
	var out []ledger.Entry
	for e, err := range w.ledger.Entries(context.Background(), ledger.Filter{Kinds: kinds, Unseal: true}) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// open counts the open intents.
func (w *world) open() int {
	w.t.Helper()
	n := 0
	for _, err := range w.ledger.OpenIntents(context.Background()) {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

func (w *world) names() []purge.EventName {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []purge.EventName
	for _, e := range w.events {
		out = append(out, e.Name())
	}
	return out
}

// rule returns one rule's report.
func rule(t testing.TB, rep purge.Report, name string) purge.RuleReport {
	t.Helper()
	for _, r := range rep.Rules {
		if r.Rule == name {
			return r
		}
	}
	t.Fatalf("no rule %s in the report", name)
	return purge.RuleReport{}
}

// whole fails when a live record points to a dead blob, or one that says that its
// blobs are gone to a live one, or a blob has no record. extra blobs are named by
// rows of other tables, and stay.
func (w *world) whole(extra ...string) {
	w.t.Helper()
	pointed := make(map[connector.Locator]bool)
	for _, at := range w.app.Locators() {
		r, _ := w.app.Get(at)
		for _, t := range r.Values[0] {
			pointed[blob(t[0])] = true
			if there := w.disk.Has(blob(t[0])); !there && !r.Set {
				w.t.Errorf("record %s points to a blob that is gone", at)
			} else if there && r.Set {
				w.t.Errorf("record %s says that its blobs are gone, and one is there", at)
			}
		}
	}
	for _, name := range extra {
		pointed[blob(name)] = true
		if !w.disk.Has(blob(name)) {
			w.t.Errorf("blob %s is gone, and a row of somebody else points to it", name)
		}
	}
	for _, at := range w.disk.Locators() {
		if r, _ := w.disk.Get(at); r.Collection == "" && !pointed[at] {
			w.t.Errorf("blob %s has no record", at)
		}
	}
}
