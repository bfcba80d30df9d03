package plan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

// batchSize is how many items are expanded and probed together. It shows in the
// digest, through Bytes, so it is part of the format.
const batchSize = 1000

// skewLimit is the difference between a store's clock and ours that is put down
// to the network.
const skewLimit = 5 * time.Minute

// Make plans the rules and writes the plan to path, with mode 0600: under a
// temporary name in the same folder, made durable, then renamed. On an error
// there is no file at path that was not there before. A store that cannot be
// looked at is not an error: it is in the summary of its rule, and the other
// rules are planned.
//
// The plan is returned open; the caller closes it.
func Make(ctx context.Context, in Input, path string) (*Plan, error) {
	rules, err := in.rules()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".epitaph-plan-*")
	if err != nil {
		return nil, fmt.Errorf("create plan: %w", err)
	}
	done := false
	defer func() {
		if !done {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := &writer{f: f, h: sha256.New()}
	sums, err := in.write(ctx, rules, w)
	if err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("write plan: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("write plan: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, fmt.Errorf("write plan: %w", err)
	}
	done = true
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("write plan: %w", err)
	}
	p, err := Open(path)
	if err != nil {
		return nil, err
	}
	for i := range p.Rules {
		p.Rules[i].Failures = sums[i].Failures
	}
	return p, nil
}

// syncFolder makes a rename durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// rules returns copies of the selected rules, in the order of the policy, with
// the effective period.
func (in *Input) rules() ([]*policy.Rule, error) {
	if in.AsOf.IsZero() {
		return nil, errors.New("plan: no instant to count back from")
	}
	for _, name := range in.Rules {
		if _, ok := in.Policy.Rule(name); !ok {
			return nil, fmt.Errorf("plan: the policy has no rule %q", name)
		}
	}
	var period *policy.Period
	if in.Retain != nil {
		// Through its text, so that an override has the one spelling the file knows
		// and a period of zero or less is refused.
		p, err := policy.ParsePeriod(in.Retain.String())
		if err != nil {
			return nil, fmt.Errorf("plan: retention period: %w", err)
		}
		period = &p
	}
	var rules []*policy.Rule
	for i := range in.Policy.Rules {
		r := in.Policy.Rules[i]
		if len(in.Rules) > 0 && !slices.Contains(in.Rules, r.Name) {
			continue
		}
		if period != nil {
			r.Retain = *period
		}
		rules = append(rules, &r)
	}
	return rules, nil
}

func (in *Input) write(ctx context.Context, rules []*policy.Rule, w *writer) ([]RuleSummary, error) {
	asOf := in.AsOf.UTC()
	b := append(append(append(w.buf, magic...), version...), "\npolicy "...)
	b = append(hex.AppendEncode(b, in.Policy.Hash[:]), "\nas-of "...)
	b = append(appendTime(b, asOf), '\n')
	sums := make([]RuleSummary, len(rules))
	for i, r := range rules {
		sums[i] = RuleSummary{
			Rule: r.Name, Kind: r.Kind, Store: r.Store, StoreKind: r.StoreKind,
			Enabled: r.Enabled, Retain: r.Retain, Cutoff: r.Cutoff(asOf),
			Kept: make(map[connector.Reason]int64),
		}
		b = appendRule(b, &sums[i])
	}
	w.buf = b
	for i, r := range rules {
		w.buf = append(appendText(append(w.buf, "items "...), r.Name), '\n')
		if r.Enabled {
			rp := &rulePlanner{in: in, rule: r, asOf: asOf, sum: &sums[i], w: w, looks: make(map[string]*looks)}
			if err := rp.run(ctx); err != nil {
				return nil, err
			}
		}
		w.buf = appendTotal(w.buf, &sums[i])
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	_, err := w.f.Write(append(hex.AppendEncode([]byte(digestPrefix), w.h.Sum(nil)), '\n'))
	return sums, err
}

// writer collects lines, and hashes and writes them in large pieces.
type writer struct {
	f   *os.File
	h   hash.Hash
	buf []byte
	off int64
}

func (w *writer) flush() error {
	n, err := w.f.Write(w.buf)
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	w.h.Write(w.buf)
	w.off += int64(n)
	w.buf = w.buf[:0]
	return nil
}

// mark is a place that the writer can go back to.
type mark struct {
	off int64
	h   hash.Hash
}

func (w *writer) mark() (mark, error) {
	if err := w.flush(); err != nil {
		return mark{}, err
	}
	h, err := w.h.(hash.Cloner).Clone()
	return mark{w.off, h}, err
}

// back drops everything written since m.
func (w *writer) back(m mark) error {
	w.buf, w.off, w.h = w.buf[:0], m.off, m.h
	if err := w.f.Truncate(m.off); err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	_, err := w.f.Seek(m.off, 0)
	return err
}

// rulePlanner plans one rule.
type rulePlanner struct {
	in    *Input
	rule  *policy.Rule
	asOf  time.Time
	sum   *RuleSummary
	w     *writer
	batch []Item
	n     int64 // items scanned
	looks map[string]*looks
}

// looks counts the probes of one store.
type looks struct{ answered, unreachable int64 }

// run scans the rule's store. The error is one that ends the planning; what is
// wrong with the store goes into the summary.
func (rp *rulePlanner) run(ctx context.Context) error {
	start, err := rp.w.mark()
	if err != nil {
		return err
	}
	var survey connector.Survey
	fatal, unread := rp.scan(ctx, &survey)
	if fatal != nil {
		return fatal
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if unread != nil {
		s := rp.sum
		*s = RuleSummary{
			Rule: s.Rule, Kind: s.Kind, Store: s.Store, StoreKind: s.StoreKind, Enabled: s.Enabled,
			Retain: s.Retain, Cutoff: s.Cutoff, Kept: make(map[connector.Reason]int64),
			Unreadable: connector.Unreachable, ErrorType: ErrorType(unread),
		}
		switch {
		case errors.Is(unread, fs.ErrPermission):
			s.Unreadable = connector.NoPermission
		case errors.Is(unread, fs.ErrInvalid):
			s.Unreadable = connector.Invalid // the store was reached; the rule does not fit it
		}
		return rp.w.back(start)
	}
	rp.sum.Total = survey.Total
	rp.skew(survey.Clock)
	for name, l := range rp.looks {
		if l.answered == 0 && l.unreachable > 0 {
			rp.sum.Unseen = append(rp.sum.Unseen, name)
		}
	}
	slices.Sort(rp.sum.Unseen)
	return nil
}

// scan returns what ends the planning and what is wrong with the store.
func (rp *rulePlanner) scan(ctx context.Context, survey *connector.Survey) (fatal, unread error) {
	defer func() {
		if v := recover(); v != nil {
			unread = panicked{}
		}
	}()
	src, ok := rp.in.Stores[rp.rule.Store]
	if !ok {
		return nil, errNoStore
	}
	for it, err := range src.Scan(ctx, rp.rule.Query(rp.sum.Cutoff), survey) {
		if err != nil {
			return nil, err
		}
		rp.n++
		rp.take(it)
		if len(rp.batch) == batchSize {
			if err := rp.look(ctx); err != nil {
				return err, nil
			}
		}
	}
	return rp.look(ctx), nil
}

// take decides on one item, whatever the connector thought of it.
func (rp *rulePlanner) take(it connector.Item) {
	d := rp.rule.Decide(it, rp.asOf)
	s := rp.sum
	if d.Reason == connector.Undated {
		s.Undated++
		return
	}
	if d.Due {
		s.Due++
		if s.OldestDue.IsZero() || it.Anchor.Before(s.OldestDue) {
			s.OldestDue = it.Anchor.UTC()
		}
	}
	if d.Reason != connector.Eligible {
		s.Kept[d.Reason]++
		s.fail(it, d.Reason, it.Err)
		return
	}
	parts, err := Expand(rp.rule, it)
	if err != nil || !bounded(it, parts) {
		s.Kept[connector.Invalid]++
		s.fail(it, connector.Invalid, err)
		return
	}
	rp.batch = append(rp.batch, Item{Item: it, Parts: parts})
}

// maxText is the longest locator or value of an item, far above what any store
// knows. It keeps one odd record from growing past what the ledger can hold.
const maxText = 1 << 16

// bounded reports that the item can be written down: in a plan and in a ledger.
func bounded(it connector.Item, parts []Part) bool {
	ok := it.Locator != "" && len(it.Locator) < maxText && len(it.ID) < maxText && len(it.Print) < maxText &&
		it.Anchor.Year() >= 1 && it.Anchor.Year() <= 9999
	for _, tuples := range it.Values {
		for _, t := range tuples {
			for _, v := range t {
				ok = ok && len(v) < maxText
			}
		}
	}
	for i := range parts {
		ok = ok && len(parts[i].Locator) < maxText
	}
	return ok
}

// look probes the parts of the batch, each thing once, and writes the items
// whose parts are all known.
func (rp *rulePlanner) look(ctx context.Context) error {
	seen := rp.probe(ctx)
	counted := make(map[Thing]bool, len(seen))
	for i := range rp.batch {
		it := &rp.batch[i]
		if r, err := settle(it.Parts, seen); r != connector.Eligible {
			rp.sum.Kept[r]++
			rp.sum.fail(it.Item, r, err)
			continue
		}
		rp.sum.Items++
		rp.sum.Bytes += it.Bytes
		rp.sum.Parts += int64(len(it.Parts))
		for j := range it.Parts {
			p := &it.Parts[j]
			if p.State == connector.Gone {
				rp.sum.PartsMissing++
			}
			if t := (Thing{p.Store, p.Locator}); !counted[t] {
				counted[t] = true
				rp.sum.Bytes += p.Bytes
			}
		}
		rp.w.buf = appendItem(rp.w.buf, it)
		if len(rp.w.buf) >= 1<<18 {
			if err := rp.w.flush(); err != nil {
				return err
			}
		}
	}
	rp.batch = rp.batch[:0]
	if rp.in.Progress != nil {
		rp.in.Progress(Progress{Rule: rp.rule.Name, Scanned: rp.n, Items: rp.sum.Items})
	}
	return nil
}

// settle fills in what was seen of the parts and says why the item must stay.
func settle(parts []Part, seen map[Thing]connector.Result) (why connector.Reason, cause error) {
	why = connector.Eligible
	for i := range parts {
		p := &parts[i]
		r := seen[Thing{p.Store, p.Locator}]
		switch {
		case r.State == connector.Present && r.Print != "" && (r.Reason == "" || r.Reason == connector.Eligible):
			p.State, p.Reason, p.Print, p.Bytes = connector.Present, connector.Eligible, r.Print, r.Bytes
		case r.State == connector.Gone:
			p.State, p.Reason = connector.Gone, connector.Missing
		case r.Reason == "" || r.Reason == connector.Eligible:
			return connector.Unreachable, r.Err
		default:
			why, cause = r.Reason, r.Err
		}
	}
	return why, cause
}

// maxFailures is how many failures of a rule are named.
const maxFailures = 10

// fail names an item that was to go and is left out because something is wrong
// with it or with the store of a part.
func (s *RuleSummary) fail(it connector.Item, reason connector.Reason, err error) {
	switch reason {
	case connector.Invalid, connector.Unreachable, connector.NoPermission, connector.Refused:
		if len(s.Failures) < maxFailures {
			s.Failures = append(s.Failures, Failure{it.ID, it.Locator, reason, ErrorType(err)})
		}
	}
}

// Thing names one part across stores.
type Thing struct {
	Store   string
	Locator connector.Locator
}

// probe looks at every part of the batch once.
func (rp *rulePlanner) probe(ctx context.Context) map[Thing]connector.Result {
	n := 0
	for i := range rp.batch {
		n += len(rp.batch[i].Parts)
	}
	if n == 0 {
		return nil
	}
	seen := make(map[Thing]connector.Result, n)
	ask := make(map[string][]connector.Locator)
	for i := range rp.batch {
		for _, p := range rp.batch[i].Parts {
			t := Thing{p.Store, p.Locator}
			if _, ok := seen[t]; !ok {
				seen[t] = connector.Result{Reason: connector.Unreachable}
				ask[p.Store] = append(ask[p.Store], p.Locator)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ask)) {
		l := rp.looks[name]
		if l == nil {
			l = new(looks)
			rp.looks[name] = l
		}
		for i, r := range probe(ctx, rp.in.Stores[name], ask[name]) {
			seen[Thing{name, ask[name][i]}] = r
			switch {
			case r.State != connector.Unknown:
				l.answered++
			case r.Reason == connector.Unreachable || r.Reason == "":
				l.unreachable++
			}
		}
	}
	return seen
}

// probe asks a store and stands between it and the rest: a store that is not
// there, panics, or answers with a list of another length has told us nothing.
func probe(ctx context.Context, s Source, at []connector.Locator) (out []connector.Result) {
	defer func() {
		if v := recover(); v != nil || len(out) != len(at) {
			out = make([]connector.Result, len(at))
			for i := range out {
				out[i] = connector.Result{Reason: connector.Unreachable, Err: panicked{}}
			}
		}
	}()
	if s == nil {
		return nil
	}
	return s.Probe(ctx, at)
}

func (rp *rulePlanner) skew(clock time.Time) {
	if clock.IsZero() {
		return
	}
	now := time.Now
	if rp.in.Clock != nil {
		now = rp.in.Clock
	}
	if d := clock.Sub(now()); d > skewLimit || d < -skewLimit {
		rp.sum.Skew = d.Truncate(time.Minute)
	}
}

var errNoStore = errors.New("the store is not open")

// panicked stands for a panic in a connector. The value that was thrown may hold
// personal data and is dropped.
type panicked struct{}

func (panicked) Error() string { return "panic in a connector" }

// ErrorType names the Go type of an error, which is safe to show where its text
// is not: the first in the chain that says more than that it wraps another.
func ErrorType(err error) string {
	name := ""
	for err != nil {
		name = strings.TrimLeft(fmt.Sprintf("%T", err), "*")
		if !strings.HasPrefix(name, "fmt.") && !strings.HasPrefix(name, "errors.") {
			break
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			err = nil
			if es := e.Unwrap(); len(es) > 0 {
				err = es[0]
			}
		default:
			err = nil
		}
	}
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._/-", r) {
			return r
		}
		return '_'
	}, name)
	return name[:min(len(name), 100)]
}

func sortedReasons(m map[connector.Reason]int64) []connector.Reason {
	return slices.Sorted(maps.Keys(m))
}
