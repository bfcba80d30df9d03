package custody

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
)

// Every field that is written is read again: none is lost without a word.
func TestEventRoundTrip(t *testing.T) {
	t.Parallel()
	at := time.Date(2027, 1, 31, 12, 0, 0, 123456000, time.UTC)
	want := event{
		Operation: Operation{Action: "work_copy_created", Path: "/srv/work/a b.csv", From: "/srv/nas/a b.csv", At: at, Scope: "5", Actor: "jones",
			FileType: "raw_csv", Size: 7, Hash: [32]byte{1, 2, 31: 9}, Ref: Ref{"data-file", "123"}, Purpose: "precheck", Transferred: 9,
			StreamStart: at.Add(-time.Hour), StreamEnd: at.Add(-time.Minute), Host: "web1", Role: "web",
			Owner: owner.Process{Host: "web1", Boot: "boot", PID: 42, Start: 4711, Space: 0xEFFFFFFC,
				Lease: owner.Lease{Path: "/run/app/lease", File: "1.2.3"}}, To: "services/work", Error: "it broke", ErrorType: "IOError", Meta: []byte(`{"k":1}`),
			Required: true, Due: at.Add(time.Hour), Scheduled: at.Add(time.Minute)},
		place: place{"work", "a b.csv", "/srv/work/a b.csv", "web1"}, sight: sight{connector.Present, connector.Eligible, "print", 8},
		kind: Copied, work: "w", stage: committed, answers: "1.2",
	}
	if d := cmp.Diff(want, readEvent(want.item()), cmp.AllowUnexported(event{}, place{}, sight{})); d != "" {
		t.Errorf("(-written +read):\n%s", d)
	}
	if e := readEvent(ledger.Item{SealedOff: true}); !e.sealedOff {
		t.Error("a destroyed item is read as an operation")
	}
}
