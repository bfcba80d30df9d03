package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/connector/pace"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"
)

type pauseFlags struct {
	span   string
	store  string
	resume bool
}

func (a *app) pauseCommand() *cobra.Command {
	var f pauseFlags
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Hold deletions back for a while",
		Long: `Makes a pause file beside the ledger. As long as it holds, a purge, also one that is
running, begins no further batch: it waits, with nothing locked and nothing left
open, and goes on by itself. With --store only the rules wait that have items or
parts in that store. Plans are made and shown all the same.`,
		Example: "  epitaph pause --for 2h\n  epitaph pause --store app\n  epitaph pause --resume",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := filled(cmd.Flags(), "store"); err != nil {
				return err
			}
			return a.runPause(f, cmd.Flags().Changed("for"))
		},
	}
	cmd.Flags().StringVar(&f.span, "for", "", "end by itself after this `SPAN`, such as 90m, 2h or 1d")
	cmd.Flags().StringVar(&f.store, "store", "", "for the store `NAME` alone")
	cmd.Flags().BoolVar(&f.resume, "resume", false, "end the pause")
	_ = cmd.RegisterFlagCompletionFunc("store", a.storeNames) // the flag is there
	return cmd
}

func (a *app) runPause(f pauseFlags, limited bool) error {
	if f.resume && limited {
		return usage("--resume ends a pause and --for begins one", "give one of them")
	}
	pol, err := a.loadPolicy()
	if err != nil {
		return err
	}
	if _, ok := pol.Store(f.store); f.store != "" && !ok {
		var names []string
		for i := range pol.Stores {
			names = append(names, pol.Stores[i].Name)
		}
		return usage(fmt.Sprintf("the policy has no store %q", f.store), nearestHint(f.store, names, "", "its stores are: "+strings.Join(names, ", ")))
	}
	path := pausePath(pol, f.store)
	said := ""
	if f.resume {
		said = "Resumed: " + pausedText(f.store)
		err = os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			err, said = nil, "Nothing to resume: epitaph pause holds back nothing for "+pausedText(f.store)
		}
	} else {
		var until time.Time
		if until, err = a.pauseEnd(f.span, limited); err != nil {
			return err
		}
		err = pace.WritePause(path, until)
	}
	if err != nil {
		return usage(fmt.Sprintf("cannot change the pause file %s: %s", path, cause(err)), "it lies beside the ledger: who may write there?")
	}
	return a.showPauses(pol, said, a.pauses(pol))
}

// pauseEnd is the instant after a span from now, zero without one.
func (a *app) pauseEnd(span string, limited bool) (time.Time, error) {
	if !limited {
		return time.Time{}, nil
	}
	now := a.env.Now().UTC()
	until := now
	if d, err := time.ParseDuration(span); err == nil {
		until = now.Add(d)
	} else if p, err := policy.ParsePeriod(span); err == nil {
		until = p.After(now)
	}
	if !until.After(now.Add(time.Second)) {
		return until, usage(fmt.Sprintf("--for %q is not a span of time", span), "such as --for 90m, --for 2h or --for 1d")
	}
	return until.Add(time.Second).Truncate(time.Second), nil
}

// pausePath is the pause file of one store, or of all of them: beside the
// ledger, or beside the policy where the ledger is no file.
func pausePath(pol *policy.Policy, store string) string {
	if path, ok := strings.CutPrefix(pol.Ledger, "sqlite:"); ok {
		return pauseBeside(pol.Resolve(path), store)
	}
	return pauseBeside(strings.TrimSuffix(pol.Path, filepath.Ext(pol.Path)), store)
}

// pauseBeside is the pause file beside a ledger.
func pauseBeside(base, store string) string {
	base = strings.TrimSuffix(base, ".db")
	if store != "" {
		base += "." + store
	}
	return base + ".pause"
}

// pausedStore reports whether files of a store are left alone, and says so on
// stderr.
func (a *app) pausedStore(files func(store string) []string) func(string) bool {
	return func(store string) bool {
		for _, path := range files(store) {
			if on, _, err := pace.ReadPause(path, a.env.Now()); on || err != nil {
				if !a.global.quiet {
					printProblem(a.env.Stderr, "a pause is on; files in store "+store+" are left alone for now", []string{"to go on: epitaph pause --resume"})
				}
				return true
			}
		}
		return false
	}
}

// pauseFiles are all the files that can pause a store.
func pauseFiles(pol *policy.Policy, s *policy.Store) []string {
	list := []string{pausePath(pol, ""), pausePath(pol, s.Name)}
	if s.Pace.PauseFile != "" {
		list = append(list, pol.Resolve(s.Pace.PauseFile))
	}
	return list
}

// pauseJSON is one pause that is on; its names are stable.
type pauseJSON struct {
	Store string     `json:"store,omitempty"` // all of them when empty
	Until *time.Time `json:"until"`           // null: until it is ended
	File  string     `json:"file"`
}

// pauses are those that are on.
func (a *app) pauses(pol *policy.Policy) []pauseJSON {
	on := []pauseJSON{}
	see := func(store, path string) {
		there, until, err := pace.ReadPause(path, a.env.Now())
		if there || err != nil {
			on = append(on, pauseJSON{store, instantJSON(until), path})
		}
	}
	see("", pausePath(pol, ""))
	for i := range pol.Stores {
		s := &pol.Stores[i]
		for _, path := range pauseFiles(pol, s)[1:] {
			see(s.Name, path)
		}
	}
	return on
}

// pausedText says for what a pause holds.
func pausedText(store string) string {
	if store == "" {
		return "every store"
	}
	return "store " + store
}

// showPauses prints the pauses that are on, after what a resumption did, which is
// "" where none was asked for.
func (a *app) showPauses(pol *policy.Policy, said string, on []pauseJSON) error {
	if a.global.json {
		return a.printJSON(struct {
			Paused []pauseJSON `json:"paused"`
		}{on})
	}
	w := a.stdout()
	if said == "" {
		printPauses(w, on)
		return w.err
	}
	w.linef("%s", said)
	for i := range on {
		printPauses(w, on[i:i+1])
		end := "whoever made the file " + on[i].File + " removes it"
		if on[i].File == pausePath(pol, on[i].Store) {
			end = strings.TrimSuffix("epitaph pause --resume --store "+on[i].Store, " --store ")
		}
		w.linef("  hint: to end it too: %s", end)
	}
	return w.err
}

func printPauses(w *printer, on []pauseJSON) {
	for _, p := range on {
		what, until := pausedText(p.Store), "until it is ended"
		if p.Until != nil {
			until = "until " + instant(*p.Until)
		}
		w.linef("%s: %s, %s (%s)", w.yellow("Paused"), what, until, p.File)
	}
}

// paced puts the pace of the policy around the stores, and returns what gives
// each batch of a rule its turn.
func (a *app) paced(pol *policy.Policy, st *stores, bar *progress) func(context.Context, string, func(string, purge.Pause)) error {
	of := map[string]*pace.Connector{}
	for i := range pol.Stores {
		s := &pol.Stores[i]
		limits := pace.Limits{
			Items: s.Pace.Items, Rows: s.Pace.Rows, Bytes: s.Pace.Bytes, Slow: s.Pace.Slow,
			PauseFiles: pauseFiles(pol, s), Clock: a.env.Now,
		}
		if r := st.replicas[s.Name]; r != nil {
			limits.Lag, limits.MaxLag = r.Lag, s.Pace.Lag
		}
		of[s.Name] = pace.Wrap(st.byName[s.Name], limits)
		st.byName[s.Name] = of[s.Name]
	}
	var once [len(pauseOf)]sync.Once
	return func(ctx context.Context, rule string, paused func(string, purge.Pause)) error {
		ctx, cancel := a.untilStopped(ctx)
		defer cancel()
		names := storesOf(pol, rule)
		for waiting := true; waiting; {
			waiting = false
			for _, name := range names {
				err := of[name].Turn(ctx, func(cause pace.Cause) {
					waiting = true
					paused(name, pauseOf[cause])
					once[cause].Do(func() { a.remarkPause(bar, name, cause) })
				})
				if err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// pauseOf is how a run calls what a store is spared for.
var pauseOf = [...]purge.Pause{pace.ByFile: purge.PauseFile, pace.Behind: purge.ReplicaBehind, pace.Unseen: purge.ReplicaUnknown}

// remarkPause says on stderr what makes the run wait.
func (a *app) remarkPause(bar *progress, store string, cause pace.Cause) {
	if a.global.quiet {
		return
	}
	text, hint := "a pause is on; waiting until it ends", "to go on now: epitaph pause --resume"
	switch cause {
	case pace.Behind:
		text, hint = "the replica of store "+store+" is too far behind; waiting until it has caught up", "how far it is: epitaph check"
	case pace.Unseen:
		text, hint = "it is not known how far the replica of store "+store+" is behind; waiting until it is", "what is wrong with it: epitaph check"
	case pace.Free, pace.ByFile:
	}
	var w io.Writer = a.env.Stderr
	if bar.shown() {
		w = bar.p // above the bar
	}
	printProblem(w, text, []string{hint})
}

// storesOf are the stores that hold items or parts of a rule, in a stable order.
func storesOf(pol *policy.Policy, rule string) []string {
	r, ok := pol.Rule(rule)
	if !ok {
		return nil
	}
	set := map[string]bool{r.Store: true}
	for _, p := range r.Parts {
		if len(p.Store.Refs) == 0 {
			set[p.Store.String()] = true
		}
		for _, name := range p.Buckets {
			set[name] = true
		}
		for _, b := range p.Patterns {
			set[b.Store] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
