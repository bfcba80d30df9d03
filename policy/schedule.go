package policy

import (
	"time"

	cron "github.com/netresearch/go-cron"
)

// schedule is a checked cron expression.
type schedule interface{ Next(time.Time) time.Time }

// cronParser reads five fields. Day of month and day of week are alternatives,
// as in every cron: with both given, a day that matches either matches.
func cronParser() cron.Parser {
	return cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom)
}

// Next returns the first instant after t at which the schedule is due, in UTC;
// the zero time when the policy has no schedule. A time of day that a zone
// skips in spring runs after the gap, and one that it repeats in autumn runs
// twice: running again is harmless, not running is not.
func (p *Policy) Next(t time.Time) time.Time {
	if p.schedule == nil {
		return time.Time{}
	}
	return p.schedule.Next(t.In(p.Zone)).UTC()
}
