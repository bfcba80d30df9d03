package purge

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

// DryRun says what Run would do with the plan. It holds nothing able to delete:
// it reads the plan and looks at no store. Heartbeats, the run and its end are
// written to the ledger with the mode "dry-run". The interlocks that would stop
// a run are in the report; they are not an error here.
func DryRun(ctx context.Context, pol *policy.Policy, p *plan.Plan, c Config) (Report, error) {
	c.Stores = nil
	r, err := newRun(modeDryRun, pol, p, c)
	if err != nil {
		return Report{}, err
	}
	newest, err := r.prepare(ctx)
	if err != nil {
		return r.report, err
	}
	if err := r.begin(ctx); err != nil {
		return r.report, err
	}
	if r.report.Stops, err = r.interlocks(ctx, newest); err != nil {
		return r.report, r.finish(ctx, err)
	}
	for i := range p.Rules {
		if r.over(ctx) {
			break
		}
		r.would(ctx, &p.Rules[i], &r.report.Rules[i])
	}
	return r.report, r.finish(ctx, nil)
}

// would goes through one rule's items and counts what would go.
func (r *run) would(ctx context.Context, s *plan.RuleSummary, rep *RuleReport) {
	names := familyOf(s.Kind)
	state := stateDone
	count := &rep.Gone
	if rep.Keeps {
		count = &rep.Set
	}
	now := r.clock()
	seen := make(map[plan.Thing]bool)
	rep.Done = true
	switch {
	case !s.Enabled:
		state = stateDisabled
		r.voice.say(slog.LevelInfo, RuleDisabled, text("rule", code(s.Rule)))
	case s.Unreadable != "":
		state = stateUnreadable
		rep.Done = false
		r.voice.say(slog.LevelError, RuleUnreadable, text("rule", code(s.Rule)), text("store", code(s.Store)),
			text("reason", code(string(s.Unreadable))), text("error_type", code(or(s.ErrorType, "none"))))
	}
	for batch, err := range r.plan.Batches(s.Rule, r.c.Batch) {
		if err != nil {
			r.fail(fmt.Errorf("read plan: %w", err))
			return
		}
		if r.over(ctx) {
			rep.Done = false
			state = stateInterrupted
			break
		}
		clear(seen)
		for i := range batch {
			it := &batch[i]
			*count++
			rep.Bytes += it.Bytes
			files := int64(0)
			for _, p := range it.Parts {
				t := plan.Thing{Store: p.Store, Locator: p.Locator}
				if p.State == connector.Gone {
					rep.PartsMissing++
					continue
				}
				files++
				if !seen[t] {
					seen[t] = true
					rep.PartsGone++
					rep.ObjectsGone += objects(r.policy, p.Store)
					rep.Bytes += p.Bytes
				}
			}
			fields := append(itemFields(r.c.Ledger, s, &it.Item, now), text("reason", "retention_expired"))
			if s.StoreKind == policy.Rows {
				fields = append(fields, num("audio_files_count", files))
			}
			r.voice.say(slog.LevelInfo, names.candidate, fields...)
		}
	}
	r.heartbeat(ctx, s, rep, state)
}
