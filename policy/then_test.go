package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

const keeping = `version: 1
stores:
  app: {rows: "sqlite:app.db"}
  disk: {files: /data}
rules:
  consent:
    retain: 1h
    rows: app.transcript
    anchor: {column: created_at, zone: UTC}
    parts:
      - files: "disk:{id}.mp3"
      - files: "disk:{recording.path}"
      - rows: app.recording
        on: recording.id = transcript.recording_id
    then: {update: {audio_deleted: true}}
`

func parseThen(then string) (*policy.Policy, error) {
	return policy.Parse("p.yaml", []byte(strings.Replace(keeping, "{update: {audio_deleted: true}}", then, 1)), nil)
}

func TestThenValues(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseThen(`{update: {b: false, n: -12.50, i: 7, s: "gone", e: "", y: "true", z: null, t: ~, "\"odd name\"": x,
      at: {instant: now}, wall: {instant: now, zone: Europe/Berlin}}}`)
	if err != nil {
		t.Fatal(err)
	}
	value := func(k connector.ValueKind, text string) connector.Value { return connector.Value{Kind: k, Text: text} }
	want := []connector.Setting{
		{Column: "at", Value: value(connector.NowValue, "")},
		{Column: "b", Value: value(connector.BoolValue, "false")},
		{Column: "e", Value: value(connector.TextValue, "")},
		{Column: "i", Value: value(connector.NumberValue, "7")},
		{Column: "n", Value: value(connector.NumberValue, "-12.50")},
		{Column: "odd name", Value: value(connector.TextValue, "x")},
		{Column: "s", Value: value(connector.TextValue, "gone")},
		{Column: "t", Value: connector.Value{}},
		{Column: "wall", Value: connector.Value{Kind: connector.NowValue, Zone: berlin}},
		{Column: "y", Value: value(connector.TextValue, "true")},
		{Column: "z", Value: connector.Value{}},
	}
	r, _ := p.Rule("consent")
	same := cmp.Comparer(func(a, b *time.Location) bool { return (a == nil) == (b == nil) && fmt.Sprint(a) == fmt.Sprint(b) })
	if d := cmp.Diff(want, r.Then, same); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want, r.Query(time.Now()).Then, same); d != "" {
		t.Errorf("in the query (-want +got):\n%s", d)
	}
}

// What the parser takes the JSON Schema takes.
func TestThenSchema(t *testing.T) {
	t.Parallel()
	validate := validator(t)
	for _, then := range []string{`{update: {b: false, n: -12.5, s: "gone", e: "", z: null}}`, `{update: {at: {instant: now, zone: UTC}}}`} {
		if _, err := parseThen(then); err != nil {
			t.Error(err)
		}
		if err := validate([]byte(strings.Replace(keeping, "{update: {audio_deleted: true}}", then, 1))); err != nil {
			t.Errorf("%s: %v", then, err)
		}
	}
}

// Everything that can be wrong with then has its own words; shape says that the
// JSON Schema must refuse it too.
func TestThenErrors(t *testing.T) {
	t.Parallel()
	validate := validator(t)
	const then = "then: {update: {audio_deleted: true}}"
	parts := keeping[strings.Index(keeping, "    parts:"):strings.Index(keeping, "    then:")]
	for _, c := range []struct {
		old, new, want, hint string
		shape                bool
	}{
		{then, "then: delete", "15:11: then must be a mapping", "", true},
		{then, "then: {}", "15:11: then has no update", "audio_deleted: true", true},
		{then, "then: {delete: {a: true}}", `15:12: unknown key "delete" in then`, "the only key of then is update", true},
		{then, "then: {update: {}}", "15:20: update sets no column", "audio_deleted: true", true},
		{then, "then: {update: [a]}", "15:20: update must be a mapping", "", true},
		{then, "then: {update: {a: true, a: false}}", `15:30: the key "a" is given twice`, "", false},
		{then, "then: {update: {a: true, A: false}}", "15:30: the column A is set twice", "keep one", false},
		{then, "then: {update: {created_at: null}}", "15:21: the column created_at starts the clock", "another column", false},
		{then, "then: {update: {transcript.a: true}}", "15:21: update sets columns of the rule's own table", "alone", false},
		{then, "then: {update: {'a b': true}}", "15:21: update sets columns of the rule's own table", "alone", false},
		{then, "then: {update: {a: [true]}}", "15:24: a must be a single value, not a list", "", true},
		{then, "then: {update: {a: }}", "15:24: a has no value", "write a value", false},
		{then, "then: {update: {a: 2026-01-31}}", "15:24: a must be true, false, a number, a text, null or {instant: now}, and YAML reads this as a date", "quotes", false},
		{then, "then: {update: {a: 0x1F}}", "15:24: a is not a plain number", "digits", false},
		{then, "then: {update: {a: 1e3}}", "15:24: a is not a plain number", "digits", false},
		{then, "then: {update: {a: .inf}}", "15:24: a is not a plain number", "digits", false},
		{then, "then: {update: {a: now}}", "15:24: a: now is only a text here", "{instant: now}", true},
		{then, "then: {update: {a: {instant: today}}}", "15:34: the only instant is now", "{instant: now}", true},
		{then, "then: {update: {a: {zone: UTC}}}", "15:24: an instant has the key instant", "{instant: now}", true},
		{then, "then: {update: {a: {instant: now, zone: Local}}}", "15:45: the zone Local differs", "UTC", true},
		{then, "then: {update: {a: {instant: now, in: UTC}}}", `15:39: unknown key "in" in an instant`, "instant, zone", true},
		{parts, "", "10:5: then has no files or objects to wait for", "add parts", true},
		{parts, "    parts:\n      - rows: app.recording\n        on: recording.id = transcript.recording_id\n", "13:5: then has no files or objects to wait for", "add parts", false},
		{`      - files: "disk:{recording.path}"` + "\n", "", "14:5: with then no row goes, and no file or object is named by the part with the rows of recording", "a rule of its own", false},
		{"- rows: app.recording", "- rows: app.recording\n        kind: recording", "16:5: with then no row goes, so that there is none of recording to count", "remove kind", false},
		{"rows: app.transcript\n    anchor: {column: created_at, zone: UTC}\n" + parts, "files: \"disk:*\"\n    anchor: modified\n", "10:5: then keeps a row, and this rule takes files", "remove it", true},
	} {
		src := strings.Replace(keeping, c.old, c.new, 1)
		if src == keeping {
			t.Fatalf("%q is not in the policy", c.old)
		}
		_, err := policy.Parse("p.yaml", []byte(src), nil)
		var problems *policy.Errors
		if !errors.As(err, &problems) {
			t.Errorf("%q: no problem", c.new)
			continue
		}
		found := false
		for _, p := range problems.Problems {
			at := fmt.Sprintf("%d:%d: %s", p.Pos.Line, p.Pos.Column, p.Text)
			found = found || strings.HasPrefix(at, c.want) && strings.Contains(p.Hint, c.hint)
		}
		if !found || len(problems.Problems) != 1 {
			t.Errorf("%q: want only %q with hint %q; got\n%v", c.new, c.want, c.hint, err)
		}
		if c.shape && validate([]byte(src)) == nil {
			t.Errorf("%q: the JSON Schema takes it", c.new)
		}
	}
}

// A linked table by which another one is found is of use too.
func TestThenChainOfLinks(t *testing.T) {
	t.Parallel()
	src := strings.Replace(keeping, `- rows: app.recording
        on: recording.id = transcript.recording_id`, `- rows: app.meeting
        on: meeting.id = transcript.meeting_id
      - rows: app.recording
        on: recording.id = meeting.recording_id`, 1)
	if _, err := policy.Parse("p.yaml", []byte(src), nil); err != nil {
		t.Error(err)
	}
}

// Then decides what becomes of rows, so it is in the hash; a policy without one
// has the hash it always had.
func TestThenIsInTheHash(t *testing.T) {
	t.Parallel()
	hash := func(then string) [32]byte {
		p, err := parseThen(then)
		if err != nil {
			t.Fatal(err)
		}
		return p.Hash
	}
	seen := map[[32]byte]string{}
	for _, then := range []string{"{update: {a: true}}", "{update: {b: true}}", "{update: {a: false}}", `{update: {a: "true"}}`, "{update: {a: null}}", `{update: {a: ""}}`,
		"{update: {a: 1}}", "{update: {a: true, b: true}}", "{update: {a: {instant: now}}}", "{update: {a: {instant: now, zone: UTC}}}"} {
		h := hash(then)
		if other, twice := seen[h]; twice {
			t.Errorf("%s and %s have one hash", then, other)
		}
		seen[h] = then
	}
	if hash("{update: {a: true, b: null}}") != hash("{update: {b: ~, a: true}}") {
		t.Error("the order of the columns changes the hash")
	}
	without, err := policy.Parse("p.yaml", []byte(strings.Replace(keeping, "    then: {update: {audio_deleted: true}}\n", "", 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(without.Canonical()), "then") {
		t.Error("the canonical form of a rule without then speaks of it")
	}
}
