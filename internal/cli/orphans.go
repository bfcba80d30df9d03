package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody"
)

// orphansFlags are those of the orphans command.
type orphansFlags struct {
	custodyFlags
	tracked, allow []string
	older          string
	dispose        bool
	given          func(flag string) bool
}

func (a *app) orphansCommand() *cobra.Command {
	var f orphansFlags
	cmd := &cobra.Command{
		Use:   "orphans",
		Short: "List files that somebody left behind",
		Long: `Lists
  dead-owner   files that must be cleaned up and whose owner, a process, is dead
  untracked    files in tracked stores that no operation made
  missing      tracked files that are not there, though nobody said that they go
  uncommitted  files that were reserved and never committed
  unfinished   work that was started and neither completed nor failed

Tracked stores are those of --tracked, else those under custody: {tracked: …} in the
policy, each with its own grace; --older overrides it.

An owner on another host or in another container is unknown, never taken for dead.
--dispose takes the first two kinds, through the purge protocol. It stops before the
first deletion when more untracked files would go than limits: {items: …} of the
policy says, and when the ledger never tracked a file in a store: with the wrong
ledger every file looks untracked. It stops too when the clock jumped, as cleanup run
does. --allow items, --allow ledger and --allow clock lift that.

Status: 0 when there are none, or all that --dispose takes are gone and no other
kind is left; 1 otherwise; 3 when --dispose was stopped.`,
		Example: "  epitaph orphans --tracked scratch --older 4h\n  epitaph orphans --tracked scratch --dispose",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			f.given = cmd.Flags().Changed
			return a.runOrphans(ctx, &f)
		},
	}
	f.addShow(cmd)
	fl := cmd.Flags()
	fl.StringSliceVar(&f.tracked, "tracked", nil, "the `STORES` whose every file must be tracked (default: the policy's; '' for none)")
	fl.StringVar(&f.older, "older", "4h", "leave alone what is younger than this `SPAN`")
	fl.StringSliceVar(&f.allow, "allow", nil, "lift `INTERLOCKS` knowingly: items,ledger,clock; it goes on record")
	fl.BoolVar(&f.dispose, "dispose", false, "dispose of files with a dead owner and of untracked files")
	return cmd
}

func (a *app) runOrphans(ctx context.Context, f *orphansFlags) error {
	grace, err := parseSpan("--older", f.older, a.env.Now())
	if err != nil {
		return err
	}
	if err := checkAllow(f.allow, "items", "ledger", "clock"); err != nil {
		return err
	}
	var o *custody.Options
	k, err := a.openCustody(ctx, &f.custodyFlags, f.dispose, func(got *custody.Options) {
		o = got
		o.AnyLedger, o.AnyClock = slices.Contains(f.allow, "ledger"), slices.Contains(f.allow, "clock")
		if slices.Contains(f.allow, "items") {
			o.MostUntracked = -1
		}
	})
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.checkTracked(o, f.tracked); err != nil {
		return err
	}
	roots := k.roots(f.tracked, f.given("tracked"), grace, f.given("older"))
	list, blind := k.Orphans(ctx, custody.Search{Roots: roots, Grace: grace, Except: k.except})
	if err := ctx.Err(); err != nil {
		return err
	}
	var done []custody.Sighting
	if f.dispose {
		var stop *custody.Interlock
		done, err = k.Dispose(ctx, list)
		if errors.As(err, &stop) {
			return &problem{StatusInterlock, "stopped before the first deletion: " + stop.Error(), []string{stopHint(stop)}}
		}
		if err != nil {
			return err
		}
	}
	err = a.showOrphans(k, searched{list, done, f.dispose, f.show, blind == nil})
	var found ended
	if blind == nil || err != nil && !errors.As(err, &found) {
		return err
	}
	return &problem{StatusPartly, "not every tracked store could be searched: " + cause(blind), []string{"what was found is above; nothing is known of the rest"}}
}

// checkAllow refuses names of interlocks that the command does not have.
func checkAllow(names []string, known ...string) error {
	for _, name := range names {
		if !slices.Contains(known, name) {
			last := len(known) - 1
			hint := known[last]
			if last > 0 {
				hint = strings.Join(known[:last], ", ") + " or " + hint
			}
			return usage(fmt.Sprintf("--allow: unknown interlock %q", name), "it is "+hint)
		}
	}
	return nil
}

func stopHint(i *custody.Interlock) string {
	if i.Store != "" {
		return "is it the right ledger? then add --allow ledger"
	}
	return "look at the list without --dispose; then raise limits: {items: …} in the policy, or add --allow items"
}

type orphanJSON struct {
	Kind  string     `json:"kind"`
	Since *time.Time `json:"since"`
	fileJSON
}

// searched is what an orphans command found, and did.
type searched struct {
	list     []custody.Orphan
	done     []custody.Sighting
	disposed bool
	show     bool // by path
	complete bool // every tracked store was searched
}

func (a *app) showOrphans(k *keeper, s searched) error {
	list, disposed, show := s.list, s.disposed, s.show
	results := map[string]custody.Sighting{}
	for _, s := range s.done {
		results[s.Path] = s
	}
	counts := map[string]int64{}
	all, left := []orphanJSON{}, 0
	p := a.stdout()
	for _, o := range list {
		counts[string(o.Kind)]++
		if s, ok := results[o.Path]; ok && (o.Kind == custody.DeadOwner || o.Kind == custody.Untracked) {
			o.Sighting = s
		}
		gone := disposed && o.State == connector.Gone && (o.Kind == custody.DeadOwner || o.Kind == custody.Untracked)
		if !gone {
			left++
		}
		if a.global.json {
			j := orphanJSON{string(o.Kind), optional(o.Since), k.fileJSON(o.File, show)}
			j.State, j.Reason = o.State.String(), string(o.Reason)
			all = append(all, j)
			continue
		}
		word := o.State.String()
		if disposed {
			word += " " + string(o.Reason)
		}
		p.linef("%-11s since %s  %s  %s, owner %s", o.Kind, instant(o.Since), k.label(o.File, show), strings.TrimSpace(word), o.Life)
	}
	switch {
	case a.global.json:
		if err := a.printJSON(map[string]any{"counts": counts, "left": left, "complete": s.complete, "orphans": all}); err != nil {
			return err
		}
	case len(list) == 0 && s.complete:
		p.linef("no orphans")
	case len(list) == 0: // nothing is known
	default:
		var parts []string
		for _, kind := range slices.Sorted(maps.Keys(counts)) {
			parts = append(parts, fmt.Sprintf("%s %s", kind, number(counts[kind])))
		}
		p.linef("%s", strings.Join(parts, ", "))
	}
	if p.err != nil {
		return p.err
	}
	if left > 0 {
		return ended(StatusPartly)
	}
	return nil
}
