package epitaph_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

// bed is a directory with one export that is due, its policy, store and ledger.
type bed struct {
	dir  string
	pol  *policy.Policy
	disk *files.Connector
	led  *ledger.Ledger
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{dir: t.TempDir()}
	pol, err := policy.Parse(filepath.Join(b.dir, "epitaph.yaml"), []byte(strings.Replace(exportsPolicy, "50%", "100%", 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.pol = pol
	path := filepath.Join(b.dir, "export-1.zip")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().AddDate(0, 0, -20)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if b.disk, err = files.Open(b.dir, files.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.disk.Close() })
	if b.led, err = ledger.Open(t.Context(), "sqlite:"+filepath.Join(b.dir, "epitaph.db"), ledger.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.led.Close() })
	return b
}

func (b *bed) engine(t *testing.T) *epitaph.Engine {
	t.Helper()
	e, err := epitaph.New(epitaph.Config{Policy: b.pol, Stores: map[string]connector.Connector{"disk": b.disk}, Ledger: b.led})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (b *bed) there() bool {
	_, err := os.Stat(filepath.Join(b.dir, "export-1.zip"))
	return err == nil
}

func TestNewRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if _, err := epitaph.New(epitaph.Config{Ledger: b.led}); err == nil {
		t.Error("no policy: no error")
	}
	if _, err := epitaph.New(epitaph.Config{Policy: b.pol, Stores: map[string]connector.Connector{"disc": b.disk}}); err == nil {
		t.Error("a store that the policy does not have: no error")
	}
	e, err := epitaph.New(epitaph.Config{Policy: b.pol, Stores: map[string]connector.Connector{"disk": b.disk}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Purge(t.Context(), epitaph.PurgeOptions{}); err == nil || !b.there() {
		t.Errorf("purge without a ledger: error %v, file there: %t", err, b.there())
	}
	for _, err := range e.Trail(t.Context(), ledger.Filter{}) {
		if err == nil {
			t.Error("trail without a ledger: no error")
		}
	}
}

func TestDeclinedTouchesNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	asked := int64(0)
	_, err := b.engine(t).Purge(t.Context(), epitaph.PurgeOptions{Confirm: func(p *plan.Plan) (bool, error) {
		asked = p.Rules[0].Items
		return false, nil
	}})
	if !errors.Is(err, epitaph.ErrDeclined) || asked != 1 || !b.there() {
		t.Errorf("got %v, asked about %d, file there: %t; want ErrDeclined, 1, true", err, asked, b.there())
	}
	if n, _, err := b.led.Newest(t.Context()); n != 0 || err != nil {
		t.Errorf("the ledger has %d entries (%v), want none", n, err)
	}
}

// The names of what is due must not stay behind in a temporary directory.
func TestPrivatePlanLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	b := newBed(t)
	rep, err := b.engine(t).Purge(t.Context(), epitaph.PurgeOptions{Confirm: func(*plan.Plan) (bool, error) {
		left, err := filepath.Glob(filepath.Join(tmp, "epitaph-*"))
		if len(left) > 0 || err != nil {
			t.Errorf("while running, %d private files are there (%v)", len(left), err)
		}
		return true, nil
	}})
	if err != nil || rep.Rules[0].Gone != 1 || b.there() {
		t.Fatalf("got %v, gone %d, file there: %t", err, rep.Rules[0].Gone, b.there())
	}
	if left, err := filepath.Glob(filepath.Join(tmp, "epitaph-*")); len(left) > 0 || err != nil {
		t.Errorf("%d private files are left (%v)", len(left), err)
	}
}

// guard is a connector that fails the test when anybody takes hold of an item.
type guard struct {
	connector.Connector
	t *testing.T
}

func (g guard) Claim(context.Context, *connector.Query, []connector.Item) (connector.Claim, []connector.Result) {
	g.t.Error("claimed")
	panic("claimed")
}

// Check, Plan and a dry run cannot delete: what planning holds has no method to
// claim, not even behind a type assertion, and none of the three ever claims.
func TestOnlyAPurgeCanClaim(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	e, err := epitaph.New(epitaph.Config{Policy: b.pol, Stores: map[string]connector.Connector{"disk": guard{b.disk, t}}, Ledger: b.led})
	if err != nil {
		t.Fatal(err)
	}
	if found := e.Check(t.Context()); len(found) != 0 {
		t.Errorf("check found %v", found)
	}
	p, err := e.Plan(t.Context(), epitaph.PlanOptions{Path: filepath.Join(b.dir, "p.plan")})
	if err != nil || p.Rules[0].Items != 1 {
		t.Fatalf("plan: %v", err)
	}
	defer p.Close()
	rep, err := e.Purge(t.Context(), epitaph.PurgeOptions{Plan: p, DryRun: true})
	if err != nil || !rep.DryRun || rep.Rules[0].Gone != 1 || !b.there() {
		t.Errorf("dry run: %v, would take %d, file there: %t", err, rep.Rules[0].Gone, b.there())
	}
	source := reflect.TypeFor[plan.Source]()
	for i := range source.NumMethod() {
		if name := source.Method(i).Name; name != "Scan" && name != "Probe" {
			t.Errorf("a plan.Source can %s", name)
		}
	}
	look := plan.LookOnly(map[string]connector.Connector{"disk": b.disk})["disk"]
	if _, ok := look.(interface {
		Claim(context.Context, *connector.Query, []connector.Item) (connector.Claim, []connector.Result)
	}); ok {
		t.Error("what the planner is given can claim behind a type assertion")
	}
}

// A stop while planning ends it at once; nothing has begun, so nothing is on
// record.
func TestStopWhilePlanning(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	stop := make(chan struct{})
	var once sync.Once
	e, err := epitaph.New(epitaph.Config{Policy: b.pol, Stores: map[string]connector.Connector{"disk": waiting{b.disk, func() { once.Do(func() { close(stop) }) }}}, Ledger: b.led})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Purge(t.Context(), epitaph.PurgeOptions{Stop: stop})
	if !errors.Is(err, context.Canceled) || !b.there() {
		t.Errorf("got %v, file there: %t; want context.Canceled, true", err, b.there())
	}
	if n, _, err := b.led.Newest(t.Context()); n != 0 || err != nil {
		t.Errorf("the ledger has %d entries (%v), want none", n, err)
	}
}

// waiting is a connector whose scan tells that it began and waits for the end of
// its context.
type waiting struct {
	connector.Connector
	began func()
}

func (w waiting) Scan(ctx context.Context, _ *connector.Query, _ *connector.Survey) iter.Seq2[connector.Item, error] {
	return func(yield func(connector.Item, error) bool) {
		w.began()
		<-ctx.Done()
		yield(connector.Item{}, ctx.Err())
	}
}

// An intent says in which directory the root of a store of files was, so that a run
// after a crash is not taken in by a disk that is not mounted.
func TestIntentNamesTheRoot(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if _, err := b.engine(t).Purge(t.Context(), epitaph.PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range b.led.Entries(t.Context(), ledger.Filter{Kinds: []ledger.Kind{ledger.Intent}}) {
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := e.Int("root.disk"); !ok || uint64(n) != info.Sys().(*syscall.Stat_t).Ino {
			t.Errorf("got %d, %t", n, ok)
		}
		return
	}
	t.Error("no intent")
}
