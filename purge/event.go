package purge

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/plan"
)

// EventName is the name of an event. The list, with the fields of each, is in
// docs/events.md.
type EventName string

// The events. Those of a rule whose kind is "record" or "export" have the names
// that the recorder's logs had; every other kind has the item names.
const (
	RunStartedEvent   EventName = "purge_run_started"
	RunCompleteEvent  EventName = "record_purge_complete"
	RunFailedEvent    EventName = "purge_run_failed"
	InterlockEvent    EventName = "purge_interlock"
	RuleStartedEvent  EventName = "purge_rule_started"
	RuleCompleteEvent EventName = "purge_rule_complete"
	RuleDisabled      EventName = "purge_rule_disabled"
	RuleUnreadable    EventName = "purge_rule_unreadable"
	ResumeEvent       EventName = "purge_resumed"
	IncidentEvent     EventName = "purge_incident"
	PausedEvent       EventName = "purge_paused"

	RecordCandidate EventName = "record_purge_candidate"
	RecordPurged    EventName = "record_purged"
	RecordSet       EventName = "record_set"
	RecordKept      EventName = "record_purge_kept"
	RecordFailed    EventName = "record_purge_failed"
	ExportCandidate EventName = "export_purge_candidate"
	ExportPurged    EventName = "export_orphan_purged"
	ExportSet       EventName = "export_set"
	ExportKept      EventName = "export_purge_kept"
	ExportFailed    EventName = "export_purge_failed"
	ItemCandidate   EventName = "item_purge_candidate"
	ItemPurged      EventName = "item_purged"
	ItemSet         EventName = "item_set"
	ItemKept        EventName = "item_purge_kept"
	ItemFailed      EventName = "item_purge_failed"
)

// family is the set of event names for a rule's kind.
type family struct{ candidate, purged, set, kept, failed EventName }

func familyOf(kind string) family {
	switch kind {
	case "record":
		return family{RecordCandidate, RecordPurged, RecordSet, RecordKept, RecordFailed}
	case "export":
		return family{ExportCandidate, ExportPurged, ExportSet, ExportKept, ExportFailed}
	default:
		return family{ItemCandidate, ItemPurged, ItemSet, ItemKept, ItemFailed}
	}
}

// Event is one thing that happened, in a form that may be logged. It is closed:
// only this package can make one, out of counts, instants, codes, names from the
// policy, error types, and ids that tell nothing of a person. A path, a key, a
// column value or a driver's message cannot get in.
type Event struct {
	name   EventName
	level  slog.Level
	fields []field
}

// field is one statement of an event. What is in it is one of these five.
type field struct {
	key  string
	kind uint8
	n    int64
	s    safe
	at   time.Time
}

const (
	isInt uint8 = iota
	isSafe
	isBool
	isTime
)

// safe is text that may be shown. It is made by the functions below only.
type safe string

// code takes a name from the policy, a reason code, or an error type.
func code(s string) safe { return safe(ledger.SafeCode(s)) }

// idOf takes a connector's safe id, but only if it looks like one: an integer or
// a UUID, or a few of them for a composite key. Otherwise the item is named by a
// keyed hash of its locator.
func idOf(l Ledger, id string, loc string) safe {
	if id != "" && plainID(id) {
		return safe(id)
	}
	return safe(l.ShortHash(loc))
}

func plainID(id string) bool {
	if len(id) > 128 {
		return false
	}
	for part := range strings.SplitSeq(id, ",") {
		if !integer(part) && !uuid(part) {
			return false
		}
	}
	return true
}

func integer(s string) bool {
	s = strings.TrimPrefix(s, "-")
	return s != "" && len(s) <= 20 && strings.Trim(s, "0123456789") == ""
}

func uuid(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') {
			return false
		} else if !dash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}

// requestOf takes the id of an outside request: as it is when it can only be an
// id, otherwise as a keyed hash, because whoever sends requests writes it.
func requestOf(l Ledger, id string) safe {
	switch {
	case id == "":
		return ""
	case ledger.SafeCode(id) == id:
		return safe(id)
	default:
		return safe(l.ShortHash(id))
	}
}

func num(key string, n int64) field { return field{key: key, kind: isInt, n: n} }
func text(key string, s safe) field { return field{key: key, kind: isSafe, s: s} }
func flag(key string, b bool) field {
	f := field{key: key, kind: isBool}
	if b {
		f.n = 1
	}
	return f
}
func instant(key string, t time.Time) field { return field{key: key, kind: isTime, at: t} }

// Name returns the event's name.
func (e Event) Name() EventName { return e.name }

// Level returns how much the event matters: Info, Warn or Error.
func (e Event) Level() slog.Level { return e.level }

// Attrs returns the fields in their documented order, the name not among them.
// Each value is an int64, a string, a bool or a UTC time.
func (e Event) Attrs() []slog.Attr {
	out := make([]slog.Attr, len(e.fields))
	for i, f := range e.fields {
		switch f.kind {
		case isInt:
			out[i] = slog.Int64(f.key, f.n)
		case isBool:
			out[i] = slog.Bool(f.key, f.n != 0)
		case isTime:
			out[i] = slog.Time(f.key, f.at)
		default:
			out[i] = slog.String(f.key, string(f.s))
		}
	}
	return out
}

// Value returns one field's value, and whether the event has it.
func (e Event) Value(key string) (any, bool) {
	for _, a := range e.Attrs() {
		if a.Key == key {
			return a.Value.Any(), true
		}
	}
	return nil, false
}

// LogValue makes an Event usable as a value in slog.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(append([]slog.Attr{slog.String("event", string(e.name))}, e.Attrs()...)...)
}

// String returns the event as one line, for tests and terminals.
func (e Event) String() string {
	var b strings.Builder
	b.WriteString(string(e.name))
	for _, a := range e.Attrs() {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
	}
	return b.String()
}

// voice tells the observer, one event at a time.
type voice struct {
	mu      sync.Mutex
	observe func(Event)
	run     safe
	request safe
}

// say sends an event; every one carries the run's id, and the request's.
func (v *voice) say(level slog.Level, name EventName, fields ...field) {
	if v.observe == nil {
		return
	}
	head := make([]field, 0, len(fields)+2)
	head = append(head, text("run_id", v.run))
	if v.request != "" {
		head = append(head, text("request_id", v.request))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.observe(Event{name: name, level: level, fields: append(head, fields...)})
}

// itemFields are the fields of every event about one item.
func itemFields(l Ledger, s *plan.RuleSummary, it *connector.Item, now time.Time) []field {
	fields := make([]field, 0, 10)
	fields = append(fields, text("rule", code(s.Rule)))
	age := "age_days"
	switch s.Kind {
	case "record":
		fields = append(fields, text("record_id", idOf(l, it.ID, string(it.Locator))))
	case "export":
		age = "file_age_days"
		fields = append(fields, text("item_id", idOf(l, it.ID, string(it.Locator))))
	default:
		fields = append(fields, text("kind", code(s.Kind)), text("item_id", idOf(l, it.ID, string(it.Locator))))
	}
	if !it.Anchor.IsZero() { // what is disposed of on request has no age that counts
		fields = append(fields, num(age, int64(now.Sub(it.Anchor)/(24*time.Hour))))
	}
	return fields
}
