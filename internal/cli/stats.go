package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/custody"
)

func (a *app) statsCommand() *cobra.Command {
	var f custodyFlags
	var days int
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count tracked operations by day, and flag unusual days",
		Long: `Counts the operations of each action by day, in UTC, and flags the days that are far
from usual: more than 5 times 1.4826 × MAD from the median of the daily counts,
where MAD is the median absolute deviation. The spread is taken for not less than a
tenth of the median and one operation. Days without an operation count as zero;
nothing is flagged before an action has 7 days; today, which is not over, is never
flagged for too little.

Status: 0 when no day is flagged, 1 when one is.`,
		Example: "  epitaph stats --days 90",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			if days < 1 || days > 36500 {
				return usage("--days must be between 1 and 36500", "such as --days 90")
			}
			k, err := a.openCustody(ctx, &f, false, nil)
			if err != nil {
				return err
			}
			defer k.Close()
			return a.showVolume(ctx, k, days)
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&days, "days", 30, "look at so many days, today included")
	return cmd
}

func (a *app) showVolume(ctx context.Context, k *keeper, days int) error {
	v, err := k.Volume(ctx, days)
	if err != nil {
		return err
	}
	if a.global.json {
		if err := a.printJSON(volumeJSON(v)); err != nil {
			return err
		}
	} else {
		p := a.stdout()
		for _, d := range v.Days {
			p.linef("%s  %-34s %s", d.Day.Format(time.DateOnly), d.Action, number(d.N))
		}
		for _, u := range v.Usual {
			p.linef("usual       %-34s median %.1f, MAD %.1f over %s", u.Action, u.Median, u.MAD, count(int64(u.Days), "day"))
		}
		for _, o := range v.Outliers {
			p.linef("%s  %s  %-34s %s, %.1f times the spread from the median", p.red("UNUSUAL"), o.Day.Day.Format(time.DateOnly), o.Day.Action, number(o.N), o.Score)
		}
		if len(v.Days) == 0 {
			p.linef("no operation in %s", count(int64(days), "day"))
		}
		if p.err != nil {
			return p.err
		}
	}
	if len(v.Outliers) > 0 {
		return ended(StatusPartly)
	}
	return nil
}

func volumeJSON(v custody.Volume) any {
	type day struct {
		Day    string  `json:"day"`
		Action string  `json:"action"`
		N      int64   `json:"n"`
		Score  float64 `json:"score,omitempty"`
	}
	type usual struct {
		Action string  `json:"action"`
		Days   int     `json:"days"`
		Median float64 `json:"median"`
		MAD    float64 `json:"mad"`
	}
	list := map[string]any{}
	days, usuals, outliers := []day{}, []usual{}, []day{}
	for _, d := range v.Days {
		days = append(days, day{d.Day.Format(time.DateOnly), d.Action, d.N, 0})
	}
	for _, u := range v.Usual {
		usuals = append(usuals, usual{u.Action, u.Days, u.Median, u.MAD})
	}
	for _, o := range v.Outliers {
		outliers = append(outliers, day{o.Day.Day.Format(time.DateOnly), o.Day.Action, o.N, o.Score})
	}
	list["days"], list["usual"], list["unusual"] = days, usuals, outliers
	return list
}
