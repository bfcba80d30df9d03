package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/purge"
)

// fileJSON is a tracked file; its names are stable. Path is there with --show only.
type fileJSON struct {
	ID       string     `json:"id"`
	Path     string     `json:"path,omitempty"`
	Store    string     `json:"store,omitempty"`
	Action   string     `json:"action,omitempty"`
	Scope    string     `json:"scope,omitempty"`
	Host     string     `json:"host,omitempty"`
	Ref      string     `json:"ref,omitempty"`
	At       *time.Time `json:"at,omitempty"`
	Due      *time.Time `json:"due,omitempty"`
	Attempts int64      `json:"attempts"`
	Incident bool       `json:"incident"`
	SaidGone bool       `json:"said_gone"`
	Owner    string     `json:"owner"`
	State    string     `json:"state,omitempty"`
	Reason   string     `json:"reason,omitempty"`
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (k *keeper) fileJSON(f custody.File, show bool) fileJSON {
	j := fileJSON{ID: k.name(f), Store: f.Store, Action: f.Made.Action, Scope: f.Made.Scope, Host: f.Made.Host, Ref: f.Made.Ref.String(),
		At: optional(f.Made.At), Due: optional(f.Due), Attempts: f.Attempts, Incident: f.Incident, SaidGone: !f.Said.IsZero(), Owner: f.Life.String()}
	if show {
		j.Path = f.Path
	}
	return j
}

// label is how a line of text names a file.
func (k *keeper) label(f custody.File, show bool) string {
	if show {
		return fmt.Sprintf("%s  %q", k.name(f), f.Path)
	}
	return k.name(f)
}

type groupJSON struct {
	Scope  string `json:"scope"`
	Host   string `json:"host"`
	Action string `json:"action"`
	Files  int64  `json:"files"`
	// Transfers are those that nobody acknowledged in time.
	Transfers int64 `json:"transfers"`
}

func (a *app) overdueCommand() *cobra.Command {
	var f custodyFlags
	cmd := &cobra.Command{
		Use:   "overdue",
		Short: "List tracked files that should be gone and are not known to be",
		Long: `Lists the tracked files whose due date has passed and that nobody has seen to be
gone, and the transfers that the other side has not acknowledged in time, grouped by
scope, host and action. It reads the record and looks at no store: for that there is
epitaph cleanup verify.

Status: 0 when nothing is overdue, 1 when anything is.`,
		Example: "  epitaph overdue || notify\n  epitaph overdue --show",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			k, err := a.openCustody(ctx, &f, false, nil)
			if err != nil {
				return err
			}
			defer k.Close()
			return a.showOverdue(ctx, k, f.show)
		},
	}
	f.addShow(cmd)
	return cmd
}

// overdueGroup is what is overdue of one scope, host and action.
type overdueGroup struct {
	files     []custody.File
	transfers []custody.Transfer
}

// overdue gathers what is overdue.
func (k *keeper) overdue(ctx context.Context) (map[groupJSON]*overdueGroup, error) {
	groups := map[groupJSON]*overdueGroup{}
	of := func(o *custody.Operation) *overdueGroup {
		key := groupJSON{Scope: o.Scope, Host: o.Host, Action: o.Action}
		if groups[key] == nil {
			groups[key] = &overdueGroup{}
		}
		return groups[key]
	}
	for f, err := range k.Overdue(ctx) {
		if err != nil {
			return nil, err
		}
		g := of(&f.Made)
		g.files = append(g.files, f)
	}
	for t, err := range k.OverdueTransfers(ctx) {
		if err != nil {
			return nil, err
		}
		g := of(&t.Made)
		g.transfers = append(g.transfers, t)
	}
	return groups, nil
}

func (a *app) showOverdue(ctx context.Context, k *keeper, show bool) error {
	byGroup, err := k.overdue(ctx)
	if err != nil {
		return err
	}
	groups := slices.SortedFunc(maps.Keys(byGroup), func(x, y groupJSON) int {
		return slices.Compare([]string{x.Scope, x.Host, x.Action}, []string{y.Scope, y.Host, y.Action})
	})
	out := struct {
		Overdue   int64          `json:"overdue"`
		Groups    []groupJSON    `json:"groups"`
		Files     []fileJSON     `json:"files"`
		Transfers []transferJSON `json:"transfers"`
	}{0, []groupJSON{}, []fileJSON{}, []transferJSON{}}
	p := a.stdout()
	for _, g := range groups {
		of := byGroup[g]
		g.Files, g.Transfers = int64(len(of.files)), int64(len(of.transfers))
		out.Overdue += g.Files + g.Transfers
		out.Groups = append(out.Groups, g)
		if a.global.json {
			for _, f := range of.files {
				out.Files = append(out.Files, k.fileJSON(f, show))
			}
			for _, t := range of.transfers {
				out.Transfers = append(out.Transfers, k.transferJSON(&t, show))
			}
			continue
		}
		p.linef("scope %s · host %s · %s: %s", plain(orNone(g.Scope)), plain(orNone(g.Host)), g.Action, g.counted())
		for _, f := range of.files {
			p.linef("  %s  due %s%s", k.label(f, show), instant(f.Due), p.red(remarks(f)))
		}
		for _, t := range of.transfers {
			p.linef("  %s  due %s%s", k.label(t.File, show), instant(t.Due), p.red(transferRemarks(&t)))
		}
	}
	if a.global.json {
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else if out.Overdue == 0 {
		p.linef("nothing is overdue")
	}
	if p.err != nil {
		return p.err
	}
	if out.Overdue > 0 {
		return ended(StatusPartly)
	}
	return nil
}

// counted says how much a group is.
func (g *groupJSON) counted() string {
	switch {
	case g.Transfers == 0:
		return count(g.Files, "file")
	case g.Files == 0:
		return count(g.Transfers, "transfer")
	default:
		return count(g.Files, "file") + ", " + count(g.Transfers, "transfer")
	}
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plain is a text of an application as a line of ours may show it: in quotes where
// it could pass for more than a text.
func plain(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

// remarks says what a person should know of a file that is overdue.
func remarks(f custody.File) string {
	s := ""
	if f.Attempts > 0 {
		s += ", " + count(f.Attempts, "attempt")
	}
	if !f.Said.IsZero() {
		s += ", said to be deleted"
	}
	if f.Incident {
		s += ", INCIDENT"
	}
	return s
}

func (a *app) cleanupCommand() *cobra.Command {
	return a.parent(&cobra.Command{
		Use:     "cleanup COMMAND",
		Short:   "Look whether tracked files are gone, and dispose of those that are due",
		Example: "  epitaph cleanup verify && epitaph cleanup run",
	}, a.cleanupVerify(), a.cleanupRun(), a.cleanupConfirm())
}

func (a *app) cleanupVerify() *cobra.Command {
	var f custodyFlags
	var allow []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Look at every file whose clean-up is pending",
		Long: `Looks at every tracked file that must be cleaned up and is not known to be gone. What
is seen to be gone is recorded; what is there, or in a store that cannot be looked
at, changes nothing. By a clock that jumped nothing is recorded; see cleanup run.

Status: 0 when all was looked at; 1 when something is unknown, or is there past its
due date; 3 when nothing was recorded.`,
		Example: "  epitaph cleanup verify --show",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			if err := checkAllow(allow, "clock"); err != nil {
				return err
			}
			k, err := a.openCustody(ctx, &f, true, func(o *custody.Options) { o.AnyClock = slices.Contains(allow, "clock") })
			if err != nil {
				return err
			}
			defer k.Close()
			list, err := k.Verify(ctx)
			var stop *purge.Interlock
			if err != nil && !errors.As(err, &stop) {
				return err
			}
			now := a.env.Now()
			err = a.showSightings(k, list, f.show, func(s custody.Sighting) bool {
				return s.State == connector.Unknown || s.State == connector.Present && !s.Due.IsZero() && s.Due.Before(now)
			})
			if stop != nil {
				return &problem{StatusInterlock, "nothing was recorded: " + stop.Error(), hintsOf(stop.Hint)}
			}
			return err
		},
	}
	f.addShow(cmd)
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "lift `INTERLOCKS` knowingly: clock; it goes on record")
	return cmd
}

func (a *app) cleanupRun() *cobra.Command {
	var f custodyFlags
	var o custody.Cleanup
	var older string
	var allow []string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Dispose of the files whose clean-up is due",
		Long: `Disposes of the tracked files whose due date has passed, through the purge protocol:
intent, claim, erasure, another look, outcome. A file that does not go is tried
again later, after 1, 2, 4 … 24 hours, for ever; after 5 attempts it is an incident
that stays until the file is gone.

--force takes files that are not due yet, and tries again at once those that did
not go; a file whose owner is alive is still left alone until it is due.

It stops before any effect when the clock stands more than 5 minutes before the
newest entry of the ledger, or after its last run by more than limits: {clock_jump: …}
of the policy (45 days): a clock that was set ahead makes everything due. --allow clock
lifts that.

Status: 0 when all that was taken is gone, 1 when something is left or unknown, 3
when it was stopped.`,
		Example: "  epitaph cleanup run\n  epitaph cleanup run --force --older 4h",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			err := filled(cmd.Flags(), "older")
			if err != nil {
				return err
			}
			if older != "" {
				if o.Older, err = parseSpan("--older", older, a.env.Now()); err != nil {
					return err
				}
			}
			if err := checkAllow(allow, "clock"); err != nil {
				return err
			}
			k, err := a.openCustody(ctx, &f, true, func(o *custody.Options) { o.AnyClock = slices.Contains(allow, "clock") })
			if err != nil {
				return err
			}
			defer k.Close()
			list, err := k.Run(ctx, o)
			if err != nil {
				return err
			}
			return a.showSightings(k, list, f.show, func(s custody.Sighting) bool { return s.State != connector.Gone })
		},
	}
	f.addShow(cmd)
	cmd.Flags().BoolVar(&o.Force, "force", false, "take also what is not due, and do not wait before another attempt")
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "lift `INTERLOCKS` knowingly: clock; it goes on record")
	cmd.Flags().StringVar(&older, "older", "", "only files that were made longer ago than this `SPAN`, such as 4h")
	return cmd
}

// showSightings prints what was seen of each file, and ends with status 1 when any
// of it is bad.
func (a *app) showSightings(k *keeper, list []custody.Sighting, show bool, bad func(custody.Sighting) bool) error {
	counts := map[connector.State]int64{}
	faults := 0
	files := []fileJSON{}
	p := a.stdout()
	for _, s := range list {
		counts[s.State]++
		isBad := bad(s)
		if isBad {
			faults++
		}
		if a.global.json {
			j := k.fileJSON(s.File, show)
			j.State, j.Reason = s.State.String(), string(s.Reason)
			files = append(files, j)
			continue
		}
		text := fmt.Sprintf("%-7s %-12s", s.State, s.Reason)
		if isBad {
			text = p.red(text)
		}
		p.linef("%s  %s%s", text, k.label(s.File, show), remarks(s.File))
	}
	if a.global.json {
		if err := a.printJSON(map[string]any{"gone": counts[connector.Gone], "present": counts[connector.Present], "unknown": counts[connector.Unknown], "files": files}); err != nil {
			return err
		}
	} else {
		p.linef("%s gone, %s present, %s unknown", number(counts[connector.Gone]), number(counts[connector.Present]), number(counts[connector.Unknown]))
	}
	if p.err != nil {
		return p.err
	}
	if faults > 0 {
		return ended(StatusPartly)
	}
	return nil
}

func (a *app) cleanupConfirm() *cobra.Command {
	var f custodyFlags
	var by string
	cmd := &cobra.Command{
		Use:   "confirm ID --by WHO",
		Short: "Record a person's word that a file is gone, or a transfer settled",
		Long: `Records that a person says that a file is gone, for a place that cannot be looked at
any more; or, with the id of a transfer that nobody acknowledges, that it is settled.
It is kept as a word, never as something that was seen. Of a file that is seen to be
there it is not taken.`,
		Example: "  epitaph cleanup confirm 184.3 --by 'J. Jones, disk shredded'",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			if by == "" {
				return usage("it must be known whose word it is", "name the person: --by WHO")
			}
			k, err := a.openCustody(ctx, &f, true, nil)
			if err != nil {
				return err
			}
			defer k.Close()
			file, err := k.Confirm(ctx, args[0], by)
			switch {
			case errors.Is(err, custody.ErrEnded):
				return usage("its clean-up is settled already", "epitaph overdue lists what is not")
			case errors.Is(err, custody.ErrPresent):
				return &problem{StatusPartly, "the file is there: a word against what is seen is not taken", []string{"dispose of it: epitaph cleanup run"}}
			case err != nil:
				return refusal(err)
			}
			if a.global.json {
				j := k.fileJSON(file, f.show)
				j.State = "word"
				return a.printJSON(j)
			}
			p := a.stdout()
			p.linef("recorded as a person's word: %s", k.label(file, f.show))
			return p.err
		},
	}
	f.addShow(cmd)
	cmd.Flags().StringVar(&by, "by", "", "whose word it is; sealed")
	return cmd
}
