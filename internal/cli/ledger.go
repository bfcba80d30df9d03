package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"
)

func (a *app) ledgerCommand() *cobra.Command {
	return a.parent(&cobra.Command{
		Use:   "ledger COMMAND",
		Short: "Look after the ledger: checkpoints, forgetting, moving",
		Long: `What was written in the ledger is never changed. Names in it can be destroyed, and
whole years at its beginning let go of, so that every proof stays valid; each such
act is an entry itself.`,
		Example: "  epitaph ledger seal-off --subject 'Jane Roe' --yes",
	}, a.ledgerCheckpoint(), a.ledgerSealOff(), a.ledgerPrune(), a.ledgerCopy(), a.ledgerFork())
}

func (a *app) ledgerCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "Sign the ledger as it is, and pin the checkpoint",
		Long: `Every run ends with a checkpoint by itself. This one is for entries that others
wrote, such as applications, and for pins and witnesses that could not be reached.
The signed note is the result.`,
		Example: "  epitaph ledger checkpoint > epitaph-$(date +%F).checkpoint",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inLedger(cmd.Context(), write, func(k *keeping, l *ledger.Ledger) error {
				if k.keys == nil {
					return noKey(k)
				}
				s, err := a.checkpoint(cmd.Context(), k, l)
				switch {
				case err != nil:
					return err
				case s == nil:
					return usage("the ledger is empty, so there is nothing to sign", "the first purge writes to it")
				case a.global.json:
					err = a.printJSON(checkpointOf(s))
				default:
					_, err = a.env.Stdout.Write(s.Note)
				}
				return errors.Join(err, a.complainPins(s))
			})
		},
	}
}

func (a *app) ledgerFork() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "fork --reason TEXT",
		Short: "Say why the ledger is behind its checkpoint, and let it go on",
		Long: `A ledger that was restored from a backup is behind the checkpoint that is pinned,
and refuses to be written to. This puts on record that history was lost, and why.
From there on its checkpoints bear a name of their own, so that nothing is signed
that contradicts what was signed before. What was lost stays lost, and verify
shows the fork for ever.`,
		Example: "  epitaph ledger fork --reason 'disk failed on Monday, restored the backup of Sunday'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return usage("a fork needs a reason", "say what happened: epitaph ledger fork --reason TEXT")
			}
			return a.inLedger(cmd.Context(), writeDespite, func(k *keeping, l *ledger.Ledger) error {
				return a.fork(cmd.Context(), k, l, reason)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what happened, for the record; it is sealed")
	return cmd
}

func (a *app) fork(ctx context.Context, k *keeping, l *ledger.Ledger, reason string) error {
	if err := l.Refusal(); err == nil {
		return usage("the ledger agrees with every checkpoint; there is nothing to fork from", "see: epitaph verify ledger")
	} else if !errors.Is(err, ledger.ErrBehind) && !errors.Is(err, ledger.ErrAltered) {
		return refused(err)
	}
	n, err := l.Fork(ctx, a.secrets(reason)...)
	if err != nil {
		return err
	}
	if err := a.printActs(map[string]any{"entry": n}, "Entry %d says that history was lost before it, and why.", n); err != nil {
		return err
	}
	return a.afterwards(ctx, k, l)
}

// printActs prints the result of a command that wrote to the ledger.
func (a *app) printActs(object map[string]any, format string, args ...any) error {
	if a.global.json {
		return a.printJSON(object)
	}
	p := a.stdout()
	p.linef(format, args...)
	return p.err
}

type pruneFlags struct {
	before string
	allow  []string
	actFlags
}

// actFlags are those of commands that destroy something in the ledger.
type actFlags struct {
	reason string
	dryRun bool
	yes    bool
}

func (f *actFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.reason, "reason", "", "why, for the record; it is sealed")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would go, and touch nothing")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
}

func (a *app) ledgerPrune() *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Let go of entries older than the ledger's retention",
		Long: `Lets go of the entries at the beginning of the ledger that are older than
ledger: {retain: …} says, six years by default, in whole blocks of 256. Their
hashes stay part of the tree: checkpoints, and proofs of what is left, remain
valid. That they went is an entry.

An entry that is in effect stays however old it is, and all after it: a batch
without an outcome, a file that is tracked, the start of a run that goes on. Its
years count from when it last was. What a fork and the key's last rotation said,
which hold for ever, the entry of the pruning says again.

Nothing goes while the clock stands further after the last run than the policy's
limits: {clock_jump: …}, or before the newest entry: --allow clock says that it is right.`,
		Example: "  epitaph ledger prune --dry-run\n  epitaph ledger prune --yes        # from cron, once a month",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inLedger(cmd.Context(), write, func(k *keeping, l *ledger.Ledger) error {
				return a.prune(cmd.Context(), k, l, f)
			})
		},
	}
	cmd.Flags().StringVar(&f.before, "before", "", "those before `WHEN`, 2027-01-31 or a span such as 7y; never younger than the retention")
	cmd.Flags().StringSliceVar(&f.allow, "allow", nil, "lift `INTERLOCKS` knowingly: clock")
	f.add(cmd)
	return cmd
}

func (a *app) prune(ctx context.Context, k *keeping, l *ledger.Ledger, f pruneFlags) error {
	if err := checkAllow(f.allow, "clock"); err != nil {
		return err
	}
	now := a.env.Now()
	before := k.retain.Before(now)
	if f.before != "" {
		at, err := parseWhen("--before", f.before, now)
		if err != nil {
			return err
		}
		if at.After(before) {
			return usage("--before: entries are kept for "+k.retain.String(), "the policy says how long: ledger: {at: …, retain: 6y}")
		}
		before = at
	}
	p := ledger.Pruning{Before: before, Dry: true}
	var err error
	if p.Tracked, err = a.oldestTracked(ctx, k, l, before); err != nil {
		return err
	}
	r, err := l.Prune(ctx, p)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.printPrune(r, before, true)
	}
	if r.Entries == 0 {
		if err := a.cleanUp(ctx, l); err != nil {
			return err
		}
		return a.printPrune(r, before, false)
	}
	if err := a.agree(f.yes, entriesText(r.Entries)+" before "+instant(before)+" would be gone for good"); err != nil {
		return err
	}
	if !slices.Contains(f.allow, "clock") {
		if err := clockStop(ctx, l, now, k.clockJump); err != nil {
			return err
		}
	}
	if err := a.sayRewritten(ctx, l); err != nil {
		return err
	}
	p.Dry, p.Secrets = false, a.secrets(f.reason)
	if r, err = l.Prune(ctx, p); err != nil {
		return copiesLeft(err, "the entries are pruned")
	}
	if err := a.printPrune(r, before, false); err != nil {
		return err
	}
	return a.afterwards(ctx, k, l)
}

// clockStop is an error when the clock is not to be believed: one that was set
// ahead by years makes entries look older than the retention.
func clockStop(ctx context.Context, l *ledger.Ledger, now time.Time, limit policy.Period) error {
	stop, err := purge.ClockJump(ctx, l, now, limit)
	if err == nil && stop != nil {
		return stop
	}
	return err
}

// cleanUp removes the copies that a pruning may have left which was cut short.
func (a *app) cleanUp(ctx context.Context, l *ledger.Ledger) error {
	if pruned, err := l.Minimum(ctx); err != nil || pruned == 0 {
		return err
	}
	if err := a.sayRewritten(ctx, l); err != nil {
		return err
	}
	return copiesLeft(l.Scrub(ctx), "the entries are pruned")
}

// sayRewritten says, where whoever appends is about to wait, for what.
func (a *app) sayRewritten(ctx context.Context, l *ledger.Ledger) error {
	n, err := l.Rewritten(ctx)
	if err == nil && n > 0 && !a.global.quiet {
		fmt.Fprintf(a.env.Stderr, "epitaph: the tables with names, %s, are written anew; whoever appends to the ledger waits meanwhile\n", bytesText(n))
	}
	return err
}

// printPrune prints what went, or would go, and what holds the rest.
func (a *app) printPrune(r ledger.PruneReport, before time.Time, dry bool) error {
	object := map[string]any{"pruned": r.Entries, "would_prune": 0, "before": before.UTC(), "held": nil, "held_by": nil}
	text := fmt.Sprintf("Let go of %s before %s.", entriesText(r.Entries), instant(before))
	if dry {
		object["pruned"], object["would_prune"] = 0, r.Entries
		text = fmt.Sprintf("Of the entries before %s, %s would go.", instant(before), number(r.Entries))
	}
	if r.Held > 0 {
		object["held"], object["held_by"] = r.Held, string(r.By)
		text += fmt.Sprintf("\nEntry %d and all after it stay: %s.", r.Held, effectText(r.By))
	}
	return a.printActs(object, "%s", text)
}

// effectText says why an entry is still in effect.
func effectText(e ledger.Effect) string {
	switch e {
	case ledger.ByIntent:
		return "a batch of it has no outcome, or had none until lately"
	case ledger.ByRun:
		return "a run began with it that has younger entries"
	case ledger.ByKey:
		return "the key that it introduced signs, and it says more than a pruning can say again"
	case ledger.ByFork:
		return "the ledger has its name from it, and there are more forks than a pruning can say again"
	case ledger.ByFile:
		return "a file that it tells of is tracked, or was until lately"
	default:
		return "it is in effect"
	}
}

// agree asks before something goes for good. Where nobody can be asked, --yes
// must have said so.
func (a *app) agree(yes bool, what string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.env.Stdin) || !isTerminal(a.env.Stderr) {
		return usage(what+"; nothing was done", "say that you mean it: --yes, or look first: --dry-run")
	}
	ok, err := a.askYes(what)
	if err == nil && !ok {
		err = &problem{status: StatusInterrupted, text: "declined; nothing was touched"}
	}
	return err
}

type sealFlags struct {
	item, before, subject string
	actFlags
}

func (a *app) ledgerSealOff() *cobra.Command {
	var f sealFlags
	cmd := &cobra.Command{
		Use:   "seal-off --item NAME | --before WHEN | --subject TEXT",
		Short: "Destroy names in the ledger; every proof stays valid",
		Long: `Destroys sealed texts: paths, keys, ids, who asked, what a person wrote. The entries
stay, with a hash that can no longer be confirmed by guessing, and so does every
proof. The trail shows ‹sealed off›. The seal-off is itself an entry, which does
not say what was looked for. Receipts that name an item are not in our reach,
nor are backups of the ledger.

A batch that has no outcome yet is left alone: a run still needs its names. So is
a tracked file that is not known to be gone, and a transfer that nobody has
acknowledged: whoever forgets where it is can never look.`,
		Example: "  epitaph ledger seal-off --item 4711 --yes\n  epitaph ledger seal-off --before 2y --dry-run\n  epitaph ledger seal-off --subject 'Jane Roe' --yes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sel, err := f.selection(a.env.Now())
			if err != nil {
				return err
			}
			return a.inLedger(cmd.Context(), write, func(k *keeping, l *ledger.Ledger) error {
				return a.sealOff(cmd.Context(), k, l, sel, f.actFlags)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.item, "item", "", "the item with this id, path or key in full, or with this part")
	fl.StringVar(&f.before, "before", "", "all names in entries before `WHEN`: 2027-01-31, or a span such as 2y")
	fl.StringVar(&f.subject, "subject", "", "every name in which this `TEXT` occurs as a whole word; case counts")
	f.add(cmd)
	return cmd
}

func (f *sealFlags) selection(now time.Time) (ledger.Selection, error) {
	given := 0
	for _, s := range []string{f.item, f.before, f.subject} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return ledger.Selection{}, usage("give one of --item, --before and --subject", "such as epitaph ledger seal-off --item 4711")
	}
	if f.subject != "" && !strings.ContainsFunc(f.subject, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
		return ledger.Selection{}, usage("--subject holds no letter or digit: it would be found in nearly every name", "write the name as it occurs, such as 'Jane Roe'")
	}
	at, err := parseWhenMaybe("--before", f.before, now)
	return ledger.Selection{Item: f.item, Subject: f.subject, Before: at}, err
}

func parseWhenMaybe(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return parseWhen(flag, s, now)
}

func (a *app) sealOff(ctx context.Context, k *keeping, l *ledger.Ledger, sel ledger.Selection, f actFlags) (err error) {
	if sel.Item, err = a.itemName(ctx, l, sel.Item); err != nil {
		return err
	}
	keep, done, err := a.trackedNames(ctx, k, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	sel.Keep = keep
	d, err := l.SealOff(ctx, sel, true)
	if err != nil {
		return err
	}
	text := "names of " + count(d.Items, "item") + " and " + count(d.Secrets, "other text") + ", in " + entriesText(d.Entries)
	if f.dryRun {
		if err := a.printActs(sealedOffJSON(d, true), "Would destroy %s.", text); err != nil {
			return err
		}
		a.nothingSealed(sel, d)
		return a.leftOpen(d)
	}
	if d.Entries > 0 {
		if err := a.agree(f.yes, text+", would be gone for good"); err != nil {
			return err
		}
	}
	if err := a.sayRewritten(ctx, l); err != nil {
		return err
	}
	// Also where there is nothing: one that was cut short may have left copies.
	if d, err = l.SealOff(ctx, sel, false, a.secrets(f.reason)...); err != nil {
		return copiesLeft(err, "the names are destroyed")
	}
	a.nothingSealed(sel, d)
	text = "names of " + count(d.Items, "item") + " and " + count(d.Secrets, "other text") + ", in " + entriesText(d.Entries)
	if err := a.printActs(sealedOffJSON(d, false), "Destroyed %s.", text); err != nil {
		return err
	}
	return errors.Join(a.leftOpen(d), a.afterwards(ctx, k, l))
}

// nothingSealed says so where no item goes by the name that was given.
func (a *app) nothingSealed(sel ledger.Selection, d ledger.Destroyed) {
	if d.Entries == 0 && sel.Item != "" && d.Open+d.Kept == 0 {
		a.complain("no name that is still kept is this item's", itemHints(sel.Item)...)
	}
}

// ownersOnly explains a database that lets this user insert and no more.
func ownersOnly(err error) error {
	if text := cause(err); text == "permission denied" {
		return &problem{StatusPartly, text, []string{"on PostgreSQL only the owner of the ledger's tables may destroy anything in it"}}
	}
	return err
}

// copiesLeft explains an error of what destroys texts: they are gone from the
// tables, as done says, and copies may be left; or the user may not.
func copiesLeft(err error, done string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ledger.ErrCopiesLeft) {
		return &problem{StatusPartly, done + ", but copies of names may be left in the ledger's files",
			[]string{"run it again when nobody reads the ledger, and on PostgreSQL when older transactions have ended: it cleans up, though it finds nothing more to destroy"}}
	}
	return ownersOnly(err)
}

func sealedOffJSON(d ledger.Destroyed, dry bool) map[string]any {
	return map[string]any{"dry_run": dry, "entries": d.Entries, "items": d.Items, "texts": d.Secrets, "open": d.Open, "tracked": d.Kept, "sealed_by": append([]int64{}, d.Numbers...)}
}

// leftOpen says that names were left because they are still needed.
func (a *app) leftOpen(d ledger.Destroyed) error {
	switch {
	case d.Open == 1:
		a.complain("1 batch without an outcome was left alone: a run still needs its names", "finish it first: epitaph purge, then seal off again")
	case d.Open > 1:
		a.complain(number(d.Open)+" batches without an outcome were left alone: a run still needs their names", "finish them first: epitaph purge, then seal off again")
	}
	switch {
	case d.Kept == 1:
		a.complain("1 name of a tracked file was left alone: the file is not known to be gone", "dispose of it first: epitaph cleanup run, or see epitaph cleanup confirm; then seal off again")
	case d.Kept > 1:
		a.complain(number(d.Kept)+" names of tracked files were left alone: the files are not known to be gone", "dispose of them first: epitaph cleanup run, or see epitaph cleanup confirm; then seal off again")
	}
	if d.Open+d.Kept > 0 {
		return ended(StatusPartly)
	}
	return nil
}

func (a *app) ledgerCopy() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "copy --to DSN",
		Short: "Move the ledger to another database, proofs intact",
		Long: `Copies all entries, hashes, checkpoints and sealed texts into an empty database, and
compares the trees before it commits. The old ledger says so in its last entry and
takes no more: a ledger that went on in two places would be two. When it was cut
short, run it again.`,
		Example: "  epitaph ledger copy --to 'postgres://epitaph@db/ops'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !strings.HasPrefix(to, "sqlite:") && !strings.HasPrefix(to, "postgres://") && !strings.HasPrefix(to, "postgresql://") {
				return usage("--to must name a database", "such as --to postgres://USER@HOST/DATABASE")
			}
			return a.inLedger(cmd.Context(), write, func(k *keeping, l *ledger.Ledger) error {
				return a.copyLedger(cmd.Context(), k, l, to)
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`DSN` of an empty database: postgres://… or sqlite:PATH")
	return cmd
}

func (a *app) copyLedger(ctx context.Context, k *keeping, l *ledger.Ledger, dsn string) error {
	// The old ledger takes no more once it is told: everything that can be seen
	// to be wrong is seen before.
	if err := a.checkEmpty(ctx, dsn); err != nil {
		return err
	}
	release, err := l.Lease(ctx, "purge")
	if err != nil {
		return err
	}
	defer func() { _ = release() }()
	c, err := ledger.Copy(ctx, l, dsn, ledger.Config{Clock: a.env.Now, Pins: k.pins, Trust: k.trust})
	if err != nil {
		return err
	}
	n, _, err := c.Newest(ctx)
	if err == nil {
		err = a.printActs(map[string]any{"entries": n}, "Copied %s. Next: name the new place in the policy, %s", entriesText(n), a.newPlace(k, dsn))
	}
	if err == nil {
		err = a.afterwards(ctx, k, c)
	}
	return errors.Join(err, c.Close())
}

// checkEmpty makes sure that a ledger can go to a database.
func (a *app) checkEmpty(ctx context.Context, dsn string) error {
	there, err := ledger.OpenReadOnly(ctx, dsn, ledger.Config{})
	if errors.Is(err, ledger.ErrUnmade) {
		return nil // left by a copy that was cut short
	}
	if err == nil {
		_ = there.Close()
		return usage("there is a ledger already where it should go; nothing was done", "name an empty database")
	}
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return usage("there is a file already where it should go; nothing was done", "name a path that does not exist")
		}
		return nil
	}
	db, err := sql.Open("pgx", dsn)
	if err == nil {
		err = errors.Join(db.PingContext(ctx), db.Close())
	}
	if err != nil {
		return usage("the database it should go to cannot be used: "+cause(err)+"; nothing was done", "is it up, and may this user enter it?")
	}
	return nil
}

// newPlace says what to write into the policy for a ledger that moved while its
// key stayed. The address itself may hold a password.
func (a *app) newPlace(k *keeping, dsn string) string {
	beside := keepingBeside(dsn).keyPath
	if beside == "" {
		path := a.policyPath()
		beside = strings.TrimSuffix(path, filepath.Ext(path)) + ".key"
	}
	if filepath.Clean(beside) == filepath.Clean(k.keyPath) {
		return "ledger: ADDRESS"
	}
	key, err := filepath.Abs(k.keyPath)
	if err != nil {
		key = k.keyPath
	}
	return "ledger: {at: ADDRESS, key: " + key + "}"
}
