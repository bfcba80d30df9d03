package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

// linked is a policy whose linked rows have these further lines.
func linked(lines string) (*policy.Policy, error) {
	return policy.Parse("p.yaml", []byte(`version: 1
stores:
  app: {rows: "sqlite:app.db"}
  other: {rows: "sqlite:other.db"}
rules:
  transcripts:
    retain: 7d
    rows: app.transcript
    anchor: {column: created_at, zone: UTC}
    parts:
      - rows: app.meeting
`+lines), policy.LookupIn(nil))
}

func TestLinkedRowsThatOthersName(t *testing.T) {
	t.Parallel()
	const on = "        on: meeting.id = transcript.meeting_id\n"
	with, err := linked(on + "        referenced_by: [app.recording.meeting_id, app.public.invoice.meeting]\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []connector.Column{{Table: "recording", Column: "meeting_id"}, {Table: "public.invoice", Column: "meeting"}}
	if d := cmp.Diff(want, with.Rules[0].Links[0].ReferencedBy); d != "" {
		t.Errorf("referenced_by (-want +got):\n%s", d)
	}
	without, err := linked(on)
	if err != nil {
		t.Fatal(err)
	}
	if with.Hash == without.Hash {
		t.Error("what keeps a row does not show in the policy's hash")
	}
	for lines, text := range map[string]string{
		"        referenced_by: [app.recording.meeting_id]\n":                                                 "needs an on with exactly one equation",
		on[:len(on)-1] + " AND meeting.a = transcript.b\n        referenced_by: [app.recording.meeting_id]\n": "needs an on with exactly one equation",
		on + "        referenced_by: [other.recording.meeting_id]\n":                                          "must be in the rule's own store app",
		on + "        referenced_by: [\"app.recording.meetings[*]\"]\n":                                       "linked rows are not named in an array",
		on + "        referenced_by: [recording.meeting_id]\n":                                                "must be STORE.TABLE.COLUMN",
	} {
		if _, err := linked(lines); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %q", lines, err, text)
		}
	}
}
