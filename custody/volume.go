package custody

import (
	"context"
	"math"
	"slices"
	"time"
)

// Day is how often an action happened on one day, in UTC.
type Day struct {
	Day    time.Time
	Action string
	N      int64
}

// Usual is what is usual of one action: the median of its daily counts, and the
// median absolute deviation from it.
type Usual struct {
	Action      string
	Days        int
	Median, MAD float64
}

// Outlier is a day on which an action happened far more or less often than is
// usual. Today, which is not over, is never far too little.
type Outlier struct {
	Day
	Usual
	// Score is the distance from the median in units of the spread.
	Score float64
}

// What is far from usual. The median absolute deviation is made comparable to a
// standard deviation with 1.4826 (Hampel 1974), and is taken for not less than a
// tenth of the median and one operation, so that a very even past does not raise an
// alarm over nothing. Below fewest days nothing is known of what is usual.
const (
	farFrom    = 5.0
	fewestDays = 7
	normal     = 1.4826
)

// Volume is the daily counts by action.
type Volume struct {
	Days     []Day // by day, then action; days without an operation are left out
	Usual    []Usual
	Outliers []Outlier
}

// Volume counts the operations by day and action in the days before now, today
// included, and says which days are far from usual. A day without an operation
// counts as zero from the action's first day on.
func (c *Custody) Volume(ctx context.Context, days int) (Volume, error) {
	if err := c.state.catchUp(ctx); err != nil {
		return Volume{}, err
	}
	today := floorDay(c.now())
	first := today - int64(max(days, 1)) + 1
	rows, err := c.state.db.QueryContext(ctx, "SELECT day, action, n FROM daily WHERE day BETWEEN ? AND ? ORDER BY day, action", first, today)
	if err != nil {
		return Volume{}, err
	}
	defer rows.Close()
	var v Volume
	byAction := map[string]map[int64]int64{}
	for rows.Next() {
		var day int64
		var d Day
		if err := rows.Scan(&day, &d.Action, &d.N); err != nil {
			return Volume{}, err
		}
		d.Day = time.Unix(day*86400, 0).UTC()
		v.Days = append(v.Days, d)
		if byAction[d.Action] == nil {
			byAction[d.Action] = map[int64]int64{}
		}
		byAction[d.Action][day] = d.N
	}
	if err := rows.Err(); err != nil {
		return Volume{}, err
	}
	for _, action := range sortedKeys(byAction) {
		u, out := judge(action, byAction[action], today)
		v.Usual, v.Outliers = append(v.Usual, u), append(v.Outliers, out...)
	}
	slices.SortStableFunc(v.Outliers, func(a, b Outlier) int { return a.Day.Day.Compare(b.Day.Day) })
	return v, nil
}

// judge compares each day with all others.
func judge(action string, counts map[int64]int64, today int64) (Usual, []Outlier) {
	start := today
	for d := range counts {
		start = min(start, d)
	}
	var all []float64
	for d := start; d < today; d++ { // today is not over
		all = append(all, float64(counts[d]))
	}
	u := Usual{Action: action, Days: len(all)}
	if len(all) == 0 {
		return u, nil
	}
	u.Median = median(all)
	off := make([]float64, len(all))
	for i, n := range all {
		off[i] = math.Abs(n - u.Median)
	}
	if u.MAD = median(off); len(all) < fewestDays {
		return u, nil
	}
	spread := max(normal*u.MAD, u.Median/10, 1)
	var out []Outlier
	for d := start; d <= today; d++ {
		score := (float64(counts[d]) - u.Median) / spread
		if math.Abs(score) >= farFrom && !(d == today && score < 0) {
			out = append(out, Outlier{Day{time.Unix(d*86400, 0).UTC(), action, counts[d]}, u, score})
		}
	}
	return u, out
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
