package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

type verifyFlags struct {
	ledger, key string
	checkpoints []string
	since       int64
	workers     int
}

func (a *app) verifyLedger() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Check the ledger, entry by entry",
		Long: `Reads every entry, computes its hash and the tree anew, and compares them with the
signed checkpoints and the sealed texts. It answers two questions, which are not
the same: is what is there unaltered, and is all there that a checkpoint kept
outside of the ledger covers? All faults are listed, with their places.

Status: 0 twice yes · 1 a question could not be answered, or triggers are missing ·
4 once no.`,
		Example: "  epitaph verify ledger\n  epitaph verify ledger --checkpoint /mnt/other/epitaph.checkpoint --key epitaph.trust",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			return a.runVerifyLedger(ctx, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.ledger, "ledger", "", "check this ledger, such as sqlite:epitaph.db, instead of the policy's (also $EPITAPH_LEDGER, where there is no policy)")
	fl.StringVar(&f.key, "key", "", "trust the keys in this `FILE`: of epitaph key show, a key file, or public keys line by line")
	fl.StringArrayVar(&f.checkpoints, "checkpoint", nil, "compare with the checkpoint in this `FILE` too; may be repeated")
	fl.Int64Var(&f.since, "since", 0, "skip the first `N` entries, which were verified before")
	fl.IntVar(&f.workers, "workers", 0, "goroutines that hash (default: one for each processor)")
	return cmd
}

func (a *app) runVerifyLedger(ctx context.Context, f verifyFlags) error {
	if f.since < 0 || f.workers < 0 {
		return usage("--since and --workers must not be negative", "leave them out to check everything")
	}
	f.ledger = a.ledgerAlone(f.ledger)
	k, err := a.keepingFor(ctx, f.ledger)
	if err != nil {
		return err
	}
	if err := k.trustFile(f.key); err != nil {
		return err
	}
	v := ledger.Verification{Trust: k.trust, Pins: k.pins, Since: f.since, Workers: f.workers}
	for _, path := range f.checkpoints {
		note, err := readSmall(path)
		if err != nil {
			return usage(fmt.Sprintf("cannot read the checkpoint %s: %s", path, cause(err)))
		}
		if _, err := proof.Peek(note); err != nil {
			return usage(path+" is no checkpoint", "epitaph ledger checkpoint prints one, and so do the places named by checkpoints: pins")
		}
		v.Notes = append(v.Notes, note)
	}
	l, err := a.openKept(ctx, k, readOnly)
	if err != nil {
		return a.unreadable(k, err)
	}
	defer l.Close()
	r, err := l.Verify(ctx, v)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return unverified(err)
	}
	if err := a.showVerification(l.Name(), &r); err != nil {
		return err
	}
	switch {
	case r.Unaltered == ledger.Bad || r.Complete == ledger.Bad:
		return ended(StatusLedger)
	case r.Unaltered != ledger.Good || r.Complete != ledger.Good || len(r.Unguarded) > 0:
		return ended(StatusPartly)
	default:
		return nil
	}
}

// keepingFor finds the ledger of a flag, or else the policy's.
func (a *app) keepingFor(ctx context.Context, dsn string) (*keeping, error) {
	if dsn == "" {
		pol, err := a.policyOrLedger()
		if err != nil {
			return nil, err
		}
		return a.keepingOf(ctx, pol)
	}
	if !strings.Contains(dsn, ":") {
		dsn = "sqlite:" + dsn
	}
	return keepingAt(dsn), nil
}

// unreadable is the problem of a ledger that does not open. One that is gone
// while a checkpoint of it is there, or that is no ledger any more, does not
// verify.
func (a *app) unreadable(k *keeping, err error) error {
	var un *unopened
	if !errors.As(err, &un) || !strings.HasPrefix(k.dsn, "sqlite:") || errors.Is(err, fs.ErrPermission) {
		return err
	}
	_, pinned := os.Stat(k.besidePath)
	if errors.Is(err, fs.ErrNotExist) && pinned != nil {
		return err
	}
	text := "the ledger cannot be read as one"
	if errors.Is(err, fs.ErrNotExist) {
		text = "there is no ledger, and a checkpoint of it is pinned"
	}
	return &problem{StatusLedger, text, []string{"keep what is there, and compare it with a backup: epitaph verify ledger --ledger BACKUP"}}
}

// unverified is the problem of a ledger that was opened and could not be read
// through.
func unverified(err error) error {
	if text := err.Error(); strings.Contains(text, "pruned meanwhile") {
		return &problem{StatusPartly, "the ledger was pruned meanwhile", []string{"verify it again"}}
	} else if strings.Contains(text, "read pinned checkpoint") {
		return &problem{StatusPartly, "a pinned checkpoint cannot be read: " + cause(err), []string{"is its place reachable? leave it out with --ledger, and name others with --checkpoint"}}
	}
	return &problem{StatusPartly, "the ledger could not be read: " + cause(err), []string{"nothing is known of it until it can; run it again"}}
}

// readSmall reads a file that a person names, no more than a checkpoint or a
// list of keys can have.
func readSmall(path string) ([]byte, error) {
	const most = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(data) > most {
		err = errors.New("too long")
	}
	return data, err
}

// trustFile takes the keys of a file instead of the ledger's own; "" means its
// own.
func (k *keeping) trustFile(path string) error {
	if path == "" {
		return k.readKeys()
	}
	data, err := readSmall(path)
	if err != nil {
		return usage(fmt.Sprintf("cannot read the keys %s: %s", path, cause(err)))
	}
	text := string(data)
	var t proof.Trust
	switch {
	case strings.HasPrefix(text, "epitaph/keys "):
		var keys *proof.Keys
		if keys, err = proof.ParseKeys(text); err == nil {
			t = keys.Trust()
		}
	case strings.HasPrefix(text, "epitaph/trust "):
		t, err = proof.ParseTrust(text)
	default:
		t, err = proof.TrustKeys(strings.Fields(text)...)
	}
	if err == nil && len(t.Logs) == 0 {
		err = errors.New("there is no key in it")
	}
	if err != nil {
		return usage(path+": "+err.Error(), "epitaph key show prints what belongs there")
	}
	t.Witnesses, t.Quorum = append(t.Witnesses, k.trust.Witnesses...), max(t.Quorum, k.trust.Quorum)
	k.trust = t
	return nil
}

// verificationJSON is the result of verify ledger; its names are stable.
type verificationJSON struct {
	Ledger    string `json:"ledger"`
	Unaltered struct {
		Verdict  ledger.Verdict `json:"verdict"`
		SignedTo int64          `json:"signed_to"`
		Skipped  int64          `json:"skipped"`
	} `json:"unaltered"`
	Complete struct {
		Verdict   ledger.Verdict `json:"verdict"`
		UpTo      int64          `json:"up_to"`
		At        *time.Time     `json:"at"`
		Witnesses []string       `json:"witnesses"`
		Empty     []string       `json:"empty_pins"`
	} `json:"complete"`
	Size        int64       `json:"size"`
	Minimum     int64       `json:"pruned"`
	Root        string      `json:"root"`
	Entries     int64       `json:"entries_read"`
	Sealed      int64       `json:"sealed"`
	Off         int64       `json:"sealed_off"`
	Checkpoints int64       `json:"checkpoints"`
	Unchecked   int64       `json:"checkpoints_unchecked"`
	Forks       []int64     `json:"forks"`
	Prunings    []pruneJSON `json:"prunings"`
	Unguarded   []string    `json:"triggers_missing"`
	Faults      []faultJSON `json:"faults"`
	Missing     []faultJSON `json:"missing"`
	More        int64       `json:"more"`
}

type pruneJSON struct {
	Entry   int64     `json:"entry"`
	At      time.Time `json:"at"`
	Minimum int64     `json:"pruned"`
	Before  time.Time `json:"before"`
	Signed  bool      `json:"signed"`
}

func prunesOf(r *ledger.Report) []pruneJSON {
	out := make([]pruneJSON, len(r.Prunings))
	for i, p := range r.Prunings {
		out[i] = pruneJSON{p.Entry, p.At, p.Minimum, p.Before, p.Entry <= r.SignedTo}
	}
	return out
}

type faultJSON struct {
	Entry int64  `json:"entry,omitempty"`
	Place string `json:"place"`
	Text  string `json:"text"`
}

func faultsOf(fs []ledger.Fault) []faultJSON {
	out := make([]faultJSON, len(fs))
	for i, f := range fs {
		out[i] = faultJSON{f.Number, f.Place, f.Text}
	}
	return out
}

func (a *app) showVerification(name string, r *ledger.Report) error {
	if a.global.json {
		out := verificationJSON{
			Ledger: name, Size: r.Size, Minimum: r.Minimum, Root: hex.EncodeToString(r.Root[:]), Entries: r.Entries, Sealed: r.Sealed, Off: r.Off,
			Checkpoints: r.Checkpoints, Unchecked: r.Unchecked, Forks: append([]int64{}, r.Forks...), Prunings: prunesOf(r), Unguarded: append([]string{}, r.Unguarded...), Faults: faultsOf(r.Faults), Missing: faultsOf(r.Missing), More: r.More,
		}
		out.Unaltered.Verdict, out.Unaltered.SignedTo, out.Unaltered.Skipped = r.Unaltered, r.SignedTo, r.Since
		out.Complete.Verdict, out.Complete.UpTo, out.Complete.At = r.Complete, r.CompleteTo, instantJSON(r.CompleteAt)
		out.Complete.Witnesses, out.Complete.Empty = []string{}, append([]string{}, r.Empty...)
		for _, w := range r.Witnesses {
			out.Complete.Witnesses = append(out.Complete.Witnesses, w.Name)
		}
		return a.printJSON(out)
	}
	w := a.stdout()
	w.linef("Ledger %s: %s, root %s", name, entriesText(r.Size), hex.EncodeToString(r.Root[:]))
	w.linef("  Unaltered: %s", unalteredText(w, r))
	w.linef("  Complete:  %s", completeText(w, r))
	if r.Minimum > 0 {
		w.linef("  Pruned: the first %s; their hashes are still part of the tree", entriesText(r.Minimum))
	}
	for _, p := range r.Prunings {
		w.linef("    %s", pruningText(w, r, &p))
	}
	if len(r.Prunings) > 0 {
		w.linef("    by whom and why: epitaph trail --action ledger.pruned")
	}
	w.linef("  Read: %s", entriesText(r.Entries))
	w.linef("  Sealed texts: %s as committed, %s sealed off", number(r.Sealed), number(r.Off))
	w.linef("  Checkpoints: %s agree, %s cannot be compared", number(r.Checkpoints), number(r.Unchecked))
	for _, n := range r.Forks {
		action := ledger.Forked
		if n <= r.Minimum { // said again by the pruning
			action = ledger.Pruned
		}
		w.linef("  Fork: history was lost before entry %d, and somebody said why: epitaph trail --action %s", n, action)
	}
	if len(r.Unguarded) > 0 {
		w.linef("  %s: the tables are not protected against change any more; missing, altered or disabled: %s", w.yellow("Triggers"), strings.Join(r.Unguarded, ", "))
	}
	listFaults(w, "Faults", r.Faults)
	listFaults(w, "Missing", r.Missing)
	if r.More > 0 {
		w.linef("And %s more.", number(r.More))
	}
	return w.err
}

// pruningText is one pruning: who can write can prune, so that it is said what he
// let go of, when, and whether anybody signed it.
func pruningText(w *printer, r *ledger.Report, p *ledger.PruneEntry) string {
	text := fmt.Sprintf("entry %d of %s let go of all up to entry %d, as older than %s", p.Entry, instant(p.At), p.Minimum, instant(p.Before))
	if p.Entry > r.SignedTo {
		text += ", and " + w.yellow("is not signed") + " by a trusted key"
	}
	return text
}

func listFaults(w *printer, title string, fs []ledger.Fault) {
	if len(fs) == 0 {
		return
	}
	w.linef("%s:", w.red(title))
	for _, f := range fs {
		w.linef("  %s", f)
	}
}

func unalteredText(w *printer, r *ledger.Report) string {
	switch r.Unaltered {
	case ledger.Good:
		text := fmt.Sprintf("%s, by a trusted signature up to entry %d", w.green("yes"), r.SignedTo)
		if r.Since > 0 {
			text += fmt.Sprintf("; entries %d to %d were not read again", r.Minimum+1, r.Minimum+r.Since)
		}
		if r.SignedTo < r.Size {
			text += "; what is newer is not signed yet"
		}
		return text
	case ledger.Bad:
		return w.red("no") + ", see the faults"
	default:
		return w.yellow("unknown") + ", no trusted key has signed a checkpoint"
	}
}

func completeText(w *printer, r *ledger.Report) string {
	switch r.Complete {
	case ledger.Good:
		text := fmt.Sprintf("%s, up to checkpoint %d", w.green("yes"), r.CompleteTo)
		if !r.CompleteAt.IsZero() {
			text += " of " + instant(r.CompleteAt)
		}
		if n := len(r.Witnesses); n > 0 {
			text += fmt.Sprintf(", cosigned by %d", n)
		}
		return text
	case ledger.Bad:
		return w.red("no") + ", see what is missing"
	default:
		if r.CompleteTo > 0 {
			return w.yellow("unknown") + fmt.Sprintf(", up to checkpoint %d by some pins, and there is nothing in: %s", r.CompleteTo, strings.Join(r.Empty, ", "))
		}
		return w.yellow("unknown") + ", no checkpoint is kept outside of the ledger"
	}
}
