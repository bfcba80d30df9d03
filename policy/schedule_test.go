package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/policy"
)

func TestNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec, zone string
		from       string
		want       []string
	}{
		{"0 3 * * *", "UTC", "2026-11-21T03:00:00Z", []string{"2026-11-22T03:00:00Z", "2026-11-23T03:00:00Z"}},
		{"0 3 * * *", "Europe/Berlin", "2026-11-21T03:00:00Z", []string{"2026-11-22T02:00:00Z"}},
		{"0 3 * * *", "Europe/Berlin", "2026-07-01T03:00:00Z", []string{"2026-07-02T01:00:00Z"}},
		// 02:30 does not exist on 29 March in Berlin: it runs after the gap.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"}},
		// 02:30 comes twice on 25 October.
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"}},
		// Day of month or day of week, as in every cron: the 13th, and Fridays.
		{"0 0 13 * 5", "UTC", "2026-11-07T00:00:00Z", []string{"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"}},
		{"0 0 14 * 5", "UTC", "2026-11-07T00:00:00Z", []string{"2026-11-13T00:00:00Z", "2026-11-14T00:00:00Z"}},
		{"0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z"}},
		{"0 0 * * 7", "UTC", "2026-11-21T00:00:00Z", []string{"2026-11-22T00:00:00Z"}},
		{"*/15 9-17 * * 1-5", "UTC", "2026-11-20T17:45:00Z", []string{"2026-11-23T09:00:00Z"}},
	} {
		src := strings.Replace(base, `"0 3 * * *"`, `"`+c.spec+`"`, 1) + "zone: " + c.zone + "\n"
		p, err := policy.Parse("p.yaml", []byte(src), nil)
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		now := at(c.from)
		for _, want := range c.want {
			now = p.Next(now)
			if got := now.Format(time.RFC3339); got != want {
				t.Errorf("%s in %s after %s: %s, want %s", c.spec, c.zone, c.from, got, want)
			}
		}
	}
	if got := new(policy.Policy).Next(at("2026-11-21T00:00:00Z")); !got.IsZero() {
		t.Errorf("a policy without a schedule is next due at %v", got)
	}
}
