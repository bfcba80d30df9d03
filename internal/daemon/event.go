package daemon

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/epitaph/epitaph"
)

// EventName is the name of an event. The list, with the fields of each, is in
// docs/events.md.
type EventName string

// The events.
const (
	ServiceStarted   EventName = "service_started"
	ServiceStopped   EventName = "service_stopped"
	NextRun          EventName = "next_run"
	RunEnded         EventName = "run_ended"
	RunPostponed     EventName = "run_postponed"
	CheckpointSigned EventName = "checkpoint_signed"
	CheckpointFailed EventName = "checkpoint_failed"
	CleanupEnded     EventName = "cleanup_ended"
	SweepEnded       EventName = "sweep_ended"
	PruneEnded       EventName = "pruned"
	PolicyLoaded     EventName = "policy_loaded"
	PolicyBroken     EventName = "policy_broken"
	LedgerRefused    EventName = "ledger_refused"
	LedgerAccepted   EventName = "ledger_accepted"
	ClockJumped      EventName = "clock_jumped"
	ActLate          EventName = "act_late"
)

// Event is one thing that happened, in a form that may be logged. It is closed:
// only this package can make one, out of counts, instants, spans, codes and types
// of errors. A path, a name, a key or the text of an error cannot get in.
type Event struct {
	name  EventName
	level slog.Level
	attrs []slog.Attr
}

// Name returns the event's name.
func (e Event) Name() EventName { return e.name }

// Level returns how much the event matters: Info, Warn or Error.
func (e Event) Level() slog.Level { return e.level }

// Attrs returns the fields in their documented order, the name not among them.
func (e Event) Attrs() []slog.Attr { return slices.Clone(e.attrs) }

// Value returns one field's value, and whether the event has it.
func (e Event) Value(key string) (any, bool) {
	for _, a := range e.attrs {
		if a.Key == key {
			return a.Value.Any(), true
		}
	}
	return nil, false
}

// String returns the event as one line, for tests and terminals.
func (e Event) String() string {
	var b strings.Builder
	b.WriteString(string(e.name))
	for _, a := range e.attrs {
		v := a.Value.String()
		if a.Value.Kind() == slog.KindTime {
			v = a.Value.Time().Format(time.RFC3339)
		}
		fmt.Fprintf(&b, " %s=%s", a.Key, v)
	}
	return b.String()
}

func (d *watch) say(e Event) {
	if d.c.Observe != nil {
		d.c.Observe(e)
	}
}

// The only ways to make a field.
func num(key string, n int64) slog.Attr { return slog.Int64(key, n) }
func flag(key string, b bool) slog.Attr { return slog.Bool(key, b) }
func instant(key string, t time.Time) slog.Attr {
	return slog.Time(key, t.UTC().Truncate(time.Microsecond))
}
func span(key string, d time.Duration) slog.Attr { return slog.Int64(key, int64(d/time.Second)) }
func kind(err error) slog.Attr                   { return slog.String("error_type", code(epitaph.ErrorType(err))) }
func word(key, s string) slog.Attr               { return slog.String(key, code(s)) }

// levelOf is that of an act with this status. 130 is an end that was asked for.
func levelOf(status int) slog.Level {
	switch status {
	case 0:
		return slog.LevelInfo
	case 130:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// code lets through what can only be a code: of anything else nothing is told.
func code(s string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:+/@=-"
	if s == "" {
		return "none"
	}
	if len(s) > 128 || strings.Trim(s, letters) != "" {
		return "other"
	}
	return s
}

func serviceStarted(t *Terms, version string) Event {
	return Event{ServiceStarted, slog.LevelInfo, append([]slog.Attr{word("version", version)}, termsFields(t)...)}
}

func policyLoaded(t *Terms) Event { return Event{PolicyLoaded, slog.LevelInfo, termsFields(t)} }

// termsFields say what the daemon does how often, in seconds; 0 is never.
func termsFields(t *Terms) []slog.Attr {
	return []slog.Attr{word("policy", t.Policy), flag("dry_run", t.DryRun), flag("schedule", t.Schedule != nil), flag("key", t.Key),
		span("checkpoint_every", t.Sign), span("cleanup_every", t.Cleanup), span("sweep_every", t.Sweep), span("prune_every", t.Prune)}
}

func policyBroken(err error) Event {
	return Event{PolicyBroken, slog.LevelError, []slog.Attr{kind(err)}}
}

// nextRun has no instant when no run is planned.
func nextRun(at time.Time, missed bool) Event {
	if at.IsZero() {
		return Event{NextRun, slog.LevelWarn, []slog.Attr{flag("planned", false)}}
	}
	e := Event{NextRun, slog.LevelInfo, []slog.Attr{flag("planned", true), instant("at", at), flag("missed", missed)}}
	if missed {
		e.level = slog.LevelWarn
	}
	return e
}

func runEnded(r *Result, missed bool, took time.Duration) Event {
	return Event{RunEnded, levelOf(r.Status), []slog.Attr{word("run_id", r.Run), num("status", int64(r.Status)), flag("missed", missed),
		span("seconds", took), kind(r.Err)}}
}

func runPostponed(at time.Time, alarm bool) Event {
	e := Event{RunPostponed, slog.LevelWarn, []slog.Attr{word("reason", "busy"), instant("retry_at", at)}}
	if alarm {
		e.level = slog.LevelError
	}
	return e
}

func actLate(a Act, since time.Duration) Event {
	return Event{ActLate, slog.LevelError, []slog.Attr{word("act", a.String()), span("seconds", since)}}
}

func checkpointSigned(r *Result) Event {
	return Event{CheckpointSigned, slog.LevelInfo, []slog.Attr{num("size", r.Size)}}
}

func checkpointFailed(r *Result, failures int, at time.Time) Event {
	return Event{CheckpointFailed, slog.LevelError, []slog.Attr{num("size", r.Size), num("failures", int64(failures)), instant("retry_at", at), kind(r.Err)}}
}

func cleanupEnded(r *Result) Event {
	return Event{CleanupEnded, levelOf(r.Status), []slog.Attr{num("status", int64(r.Status)), num("gone", r.Gone), num("left", r.Left), num("unknown", r.Unknown), kind(r.Err)}}
}

func sweepEnded(r *Result) Event {
	return Event{SweepEnded, levelOf(r.Status), []slog.Attr{num("status", int64(r.Status)), num("gone", r.Gone), num("left", r.Left), kind(r.Err)}}
}

func pruned(r *Result) Event {
	e := Event{PruneEnded, levelOf(r.Status), []slog.Attr{num("status", int64(r.Status)), num("entries", r.Entries)}}
	if r.Held > 0 {
		e.attrs = append(e.attrs, num("held", r.Held), word("held_by", r.HeldBy))
	}
	e.attrs = append(e.attrs, kind(r.Err))
	return e
}

func ledgerRefused(why Refusal, err error, at time.Time) Event {
	return Event{LedgerRefused, slog.LevelError, []slog.Attr{word("reason", string(why)), instant("retry_at", at), kind(err)}}
}

func ledgerAccepted() Event { return Event{LedgerAccepted, slog.LevelInfo, nil} }

func clockJumped(off time.Duration) Event {
	return Event{ClockJumped, slog.LevelWarn, []slog.Attr{span("seconds", off)}}
}

func serviceStopped(after time.Duration) Event {
	return Event{ServiceStopped, slog.LevelInfo, []slog.Attr{span("seconds", after)}}
}
