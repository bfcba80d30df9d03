package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

type proveFlags struct {
	out, ledger string
	entry       bool
	unnamed     bool
}

func (a *app) proveCommand() *cobra.Command {
	var f proveFlags
	cmd := &cobra.Command{
		Use:   "prove ITEM|RUN|ENTRY",
		Short: "Write a receipt that anybody can check offline",
		Long: `Writes a receipt, a C2SP tlog-proof, that what the ledger says of an item, a run or
an entry was in the ledger when a checkpoint was signed. epitaph-verify checks it
offline with the public key alone, and says what it shows and what not.

A name is looked for as a run, then as an item (its id, path or key in full, or a
path of its parts), then as the number of an entry. The receipt of an item names
it; with --unnamed it shows its place in the batch only. What was sealed off is
not found by name, and its entries can still be proven by number.`,
		Example: "  epitaph prove 4711 --out 4711.tlog-proof\n  epitaph-verify --trust epitaph.trust 4711.tlog-proof",
		Args:    exactly("ITEM|RUN|ENTRY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			return a.runProve(ctx, f, args[0])
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.out, "out", "", "write into `FILE`, with mode 0600, instead of stdout")
	fl.StringVar(&f.ledger, "ledger", "", "prove from this ledger, such as sqlite:epitaph.db, instead of the policy's (also $EPITAPH_LEDGER, where there is no policy)")
	fl.BoolVar(&f.entry, "entry", false, "the name is the number of an entry, and nothing else")
	fl.BoolVar(&f.unnamed, "unnamed", false, "leave the item's name out of its receipt")
	return cmd
}

func (a *app) runProve(ctx context.Context, f proveFlags, name string) error {
	f.ledger = a.ledgerAlone(f.ledger)
	k, err := a.keepingFor(ctx, f.ledger)
	if err != nil {
		return err
	}
	l, err := a.openKept(ctx, k, readOnly)
	if err != nil {
		return err
	}
	defer l.Close()
	if f.ledger == "" && !f.entry {
		if name, err = a.itemName(ctx, l, name); err != nil {
			return err
		}
	}
	receipts, err := prove(ctx, l, f, name)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return usage("the ledger knows no such run, item or entry",
			hintItem+"; what was sealed off is proven by the number of its entry")
	case errors.Is(err, ledger.ErrNoCheckpoint):
		return usage("no checkpoint covers it yet, so nothing can be proven", "sign one: epitaph ledger checkpoint")
	case err != nil:
		return err
	}
	if err := holds(k, receipts); err != nil {
		return err
	}
	return a.writeReceipts(f, receipts)
}

// holds checks receipts before they are given out, where the ledger's key is at
// hand: whoever can write to the ledger could have left a checkpoint in it that
// nobody signed.
func holds(k *keeping, receipts []*proof.Receipt) error {
	if k.readKeys() != nil || k.keys == nil {
		return nil // then it is for whoever has the public key
	}
	for _, r := range receipts {
		if _, err := r.Check(k.trust.WithoutQuorum()); err != nil {
			return &problem{StatusLedger, "the receipt would not hold: " + err.Error(), []string{"find out who wrote to the ledger: epitaph verify ledger"}}
		}
	}
	return nil
}

// prove finds what a name means, and proves it.
func prove(ctx context.Context, l *ledger.Ledger, f proveFlags, name string) ([]*proof.Receipt, error) {
	n, nerr := strconv.ParseInt(name, 10, 64)
	isNumber := nerr == nil && n > 0
	if f.entry {
		if !isNumber {
			return nil, usage(fmt.Sprintf("--entry: %q is not the number of an entry", name), "numbers begin with 1; see epitaph trail")
		}
		r, err := l.ProveEntry(ctx, n)
		return []*proof.Receipt{r}, err
	}
	r, err := l.ProveRun(ctx, name)
	if !errors.Is(err, ledger.ErrNotFound) {
		return []*proof.Receipt{r}, err
	}
	rs, err := l.ProveItem(ctx, name, !f.unnamed)
	if !errors.Is(err, ledger.ErrNotFound) || !isNumber {
		return rs, err
	}
	r, err = l.ProveEntry(ctx, n)
	return []*proof.Receipt{r}, err
}

// writeReceipts writes the newest receipt to stdout, or all of them to files.
func (a *app) writeReceipts(f proveFlags, receipts []*proof.Receipt) error {
	newest := receipts[len(receipts)-1].Bytes()
	if f.out == "" && !a.global.json {
		if _, err := a.env.Stdout.Write(newest); err != nil {
			return err
		}
		if len(receipts) > 1 && !a.global.quiet {
			a.complain(fmt.Sprintf("the ledger names it in %d batches; this is the newest", len(receipts)), "--out FILE writes a receipt of each")
		}
		return nil
	}
	if a.global.json && f.out == "" {
		texts := make([]string, len(receipts))
		for i, r := range receipts {
			texts[i] = string(r.Bytes())
		}
		return a.printJSON(map[string]any{"receipts": texts})
	}
	names := []string{}
	slices.Reverse(receipts) // the newest bears the name as it was given
	for i, r := range receipts {
		name := f.out
		if i > 0 {
			ext := filepath.Ext(f.out)
			name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(f.out, ext), i+1, ext)
		}
		if err := writeReceipt(name, r.Bytes()); err != nil {
			return err
		}
		names = append(names, name)
	}
	if a.global.json {
		return a.printJSON(map[string]any{"files": names})
	}
	p := a.stdout()
	for _, n := range names {
		p.linef("Wrote the receipt %s; check it: epitaph key show > epitaph.trust && epitaph-verify --trust epitaph.trust %s", n, n)
	}
	return p.err
}

// writeReceipt writes a file, over an older receipt but nothing else.
func writeReceipt(name string, data []byte) error {
	old, err := readSmall(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		if _, bad := proof.ParseReceipt(old); bad != nil || err != nil {
			return usage(name+" exists and is not a receipt", "name another place: --out FILE")
		}
		if err := os.Remove(name); err != nil {
			return usage(fmt.Sprintf("cannot write the receipt %s: %s", name, cause(err)), "name another place: --out FILE")
		}
	}
	if err := writeNew(name, data); err != nil {
		return usage(fmt.Sprintf("cannot write the receipt %s: %s", name, cause(err)), "name another place: --out FILE")
	}
	return nil
}
