package report

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/epitaph/epitaph/ledger"
)

// Statistics sum up a trail; their JSON names are stable.
type Statistics struct {
	Entries   int64            `json:"entries"`
	First     *time.Time       `json:"first"`
	Last      *time.Time       `json:"last"`
	Runs      int64            `json:"runs"`      // that were started
	Incidents int64            `json:"incidents"` // what a person must look at
	Actions   map[string]int64 `json:"actions"`
	Rules     []RuleStatistics `json:"rules"` // by name
}

// RuleStatistics count what the outcomes of one rule say, by items.
type RuleStatistics struct {
	Rule       string           `json:"rule"`
	Evaluated  int64            `json:"evaluated"` // heartbeats
	Gone       int64            `json:"gone"`
	Present    int64            `json:"present"`
	Unknown    int64            `json:"unknown"`
	PartsGone  int64            `json:"parts_gone"`
	Bytes      int64            `json:"bytes"`
	Reasons    map[string]int64 `json:"reasons"` // of items that are not gone
	LastGoneAt *time.Time       `json:"last_gone_at"`
}

// Summarize reads a trail to its end and counts. Memory does not grow with it.
func Summarize(lines iter.Seq2[Line, error]) (Statistics, error) {
	s := Statistics{Actions: map[string]int64{}, Rules: []RuleStatistics{}}
	rules := map[string]*RuleStatistics{}
	for l, err := range lines {
		if err != nil {
			return s, err
		}
		s.Entries++
		at := l.At.UTC()
		if s.First == nil || at.Before(*s.First) {
			s.First = &at
		}
		if s.Last == nil || at.After(*s.Last) {
			s.Last = &at
		}
		s.Actions[string(l.Kind)]++
		switch l.Kind {
		case ledger.RunStarted:
			s.Runs++
		case ledger.Incident:
			s.Incidents++
		default:
		}
		if l.Rule == "" {
			continue
		}
		r := rules[l.Rule]
		if r == nil {
			r = &RuleStatistics{Rule: l.Rule, Reasons: map[string]int64{}}
			rules[l.Rule] = r
		}
		r.count(&l, at)
	}
	for _, r := range rules {
		s.Rules = append(s.Rules, *r)
	}
	slices.SortFunc(s.Rules, func(a, b RuleStatistics) int { return cmp.Compare(a.Rule, b.Rule) })
	return s, nil
}

func (r *RuleStatistics) count(l *Line, at time.Time) {
	switch l.Kind {
	case ledger.Heartbeat:
		r.Evaluated++
	case ledger.Outcome:
		r.Gone += l.Tally.Gone
		r.Present += l.Tally.Present
		r.Unknown += l.Tally.Unknown
		for v, n := range l.Tally.Reasons {
			if v.State != ledger.Gone {
				r.Reasons[v.Reason] += n
			}
		}
		for v, n := range l.Tally.Parts {
			if v.State == ledger.Gone {
				r.PartsGone += n
			}
		}
		bytes, _ := l.Int("bytes")
		r.Bytes += bytes
		if l.Tally.Gone > 0 && (r.LastGoneAt == nil || at.After(*r.LastGoneAt)) {
			r.LastGoneAt = &at
		}
	default:
	}
}

// Text writes the statistics for people.
func (s *Statistics) Text(w io.Writer, st Style) error {
	p := &writer{w: w}
	p.linef("Entries: %d", s.Entries)
	if s.First != nil {
		p.linef("From:    %s to %s UTC", s.First.Format(time.DateTime), s.Last.Format(time.DateTime))
	}
	p.linef("Runs:    %d", s.Runs)
	if s.Incidents > 0 {
		p.linef("%s: %d", paint(st.Bad, "Incidents"), s.Incidents)
	}
	p.linef("Actions:")
	for _, k := range sorted(s.Actions) {
		p.linef("  %-18s %8d", k, s.Actions[k])
	}
	for i := range s.Rules {
		r := &s.Rules[i]
		p.linef("Rule %s: evaluated %d times", r.Rule, r.Evaluated)
		p.linef("  %s, %d parts, %d bytes", paint(st.Good, "gone "+strconv.FormatInt(r.Gone, 10)), r.PartsGone, r.Bytes)
		if r.Present > 0 {
			p.linef("  %s", paint(st.Warn, "present "+strconv.FormatInt(r.Present, 10)))
		}
		if r.Unknown > 0 {
			p.linef("  %s", paint(st.Bad, "unknown "+strconv.FormatInt(r.Unknown, 10)))
		}
		for _, k := range sorted(r.Reasons) {
			p.linef("    %-14s %8d", k, r.Reasons[k])
		}
		if r.LastGoneAt != nil {
			p.linef("  last at %s UTC", r.LastGoneAt.Format(time.DateTime))
		}
	}
	return p.err
}

func sorted(m map[string]int64) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// writer keeps the first error, so that one check at the end is enough.
type writer struct {
	w   io.Writer
	err error
}

func (p *writer) linef(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
