package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

// parent makes a command that only has others below it.
func (a *app) parent(cmd *cobra.Command, children ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		cmd.SetOut(a.env.Stderr)
		_ = cmd.Help()
		return ended(StatusUsage)
	}
	cmd.AddCommand(children...)
	return cmd
}

func (a *app) keyCommand() *cobra.Command {
	return a.parent(&cobra.Command{
		Use:   "key COMMAND",
		Short: "Make, show and replace the key that signs the ledger",
		Long: `The key signs checkpoints: how long the ledger was and what its tree hashed to. It
is a file of mode 0600 beside the ledger, unless the policy names another place.
Old keys are kept in it, without their private half, to check what they signed.`,
		Example: "  epitaph key show > epitaph.trust       # give this to whoever checks receipts\n  epitaph key rotate",
	}, a.keyNew(), a.keyShow(), a.keyRotate())
}

// keeping reads the policy and finds what belongs to its ledger.
func (a *app) keeping(ctx context.Context) (*keeping, error) {
	pol, err := a.loadPolicy()
	if err != nil {
		return nil, err
	}
	return a.keepingOf(ctx, pol)
}

// inLedger runs do with the policy's ledger open for writing.
func (a *app) inLedger(ctx context.Context, how access, do func(*keeping, *ledger.Ledger) error) (err error) {
	k, err := a.keeping(ctx)
	if err != nil {
		return err
	}
	l, err := a.openKept(ctx, k, how)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return do(k, l)
}

func (a *app) keyNew() *cobra.Command {
	var retired string
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make the key of a ledger that has none",
		Long: `Makes the key and signs what is there. A ledger that was signed before goes on under
its own key: put that file in place. If it is lost, --retired takes its public half.`,
		Example: "  epitaph key new",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			old, err := retiredKeys(retired)
			if err != nil {
				return err
			}
			return a.inLedger(cmd.Context(), write, func(k *keeping, l *ledger.Ledger) error {
				if k.keys != nil {
					return usage("the ledger has a key: "+k.keyPath, "another takes its place by: epitaph key rotate")
				}
				if err := a.makeKey(cmd.Context(), k, l, old); err != nil {
					return err
				}
				if err := a.printKey(k, "Wrote the key %s. The public half is\n%s"); err != nil {
					return err
				}
				return a.afterwards(cmd.Context(), k, l)
			})
		},
	}
	cmd.Flags().StringVar(&retired, "retired", "", "the public keys in `FILE` signed before and are lost: what epitaph key show printed")
	return cmd
}

func retiredKeys(path string) ([]proof.TrustedKey, error) {
	if path == "" {
		return nil, nil
	}
	var k keeping
	err := k.trustFile(path)
	return k.trust.Logs, err
}

func (a *app) printKey(k *keeping, format string) error {
	public := k.keys.Signer.Key().String()
	if a.global.json {
		return a.printJSON(map[string]string{"key": k.keyPath, "public_key": public})
	}
	p := a.stdout()
	p.linef(format, k.keyPath, public)
	return p.err
}

func (a *app) keyShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Aliases: []string{"public"},
		Short:   "Print the public keys, as epitaph-verify --trust reads them",
		Example: "  epitaph key show > epitaph.trust && epitaph-verify --trust epitaph.trust FILE",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := a.keeping(cmd.Context())
			if err != nil {
				return err
			}
			if err := k.readKeys(); err != nil {
				return err
			}
			if k.keys == nil {
				return noKey(k)
			}
			if a.global.json {
				return a.printJSON(trustOf(k.trust))
			}
			_, err = fmt.Fprint(a.env.Stdout, k.trust.String())
			return err
		},
	}
}

func noKey(k *keeping) error {
	return usage("the ledger has no key "+k.keyPath, "make one: epitaph key new")
}

type trustJSON struct {
	Logs      []trustedJSON `json:"keys"`
	Witnesses []string      `json:"witnesses,omitempty"`
	Quorum    int           `json:"quorum"`
}

type trustedJSON struct {
	Key   string     `json:"key"`
	From  *time.Time `json:"from"`
	Until *time.Time `json:"until"`
}

func trustOf(t proof.Trust) trustJSON {
	out := trustJSON{Quorum: t.Quorum}
	for _, l := range t.Logs {
		out.Logs = append(out.Logs, trustedJSON{l.Key.String(), instantJSON(l.From), instantJSON(l.Until)})
	}
	for _, w := range t.Witnesses {
		out.Witnesses = append(out.Witnesses, w.String())
	}
	return out
}

func (a *app) keyRotate() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Sign with a new key from here on",
		Long: `Makes a new key. The ledger says so in an entry, and the checkpoint over it is
signed by both keys, so that whoever trusts the old one can come to trust the new
one. The old private key is not kept; its public half stays, to check old
checkpoints. A person who checks receipts needs epitaph key show again.`,
		Example: "  epitaph key rotate --reason 'yearly'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inLedger(cmd.Context(), rotate, func(k *keeping, l *ledger.Ledger) error {
				return a.rotateKey(cmd.Context(), k, l, reason)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record; it is sealed")
	return cmd
}

func (a *app) rotateKey(ctx context.Context, k *keeping, l *ledger.Ledger, reason string) error {
	if k.keys == nil {
		return noKey(k)
	}
	by, err := l.Replaced(ctx, k.keys.Signer.Key())
	if err != nil {
		return err
	}
	if _, err := os.Lstat(nextKeyPath(k)); by != "" && err != nil {
		return replaced(k)
	}
	// The new key is on the disk before the ledger names it: a rotation that is cut
	// short goes on with the same.
	next, err := a.nextKey(k)
	if err != nil {
		return err
	}
	keys, s, err := l.RotateKey(ctx, k.keys, next.Signer, k.signing(), a.secrets(reason)...)
	if errors.Is(err, ledger.ErrRetired) {
		return replaced(k)
	}
	if keys == nil {
		return err
	}
	if werr := keys.Write(k.keyPath); werr != nil {
		return usage(fmt.Sprintf("cannot write the ledger's key %s: %s; the rotation is not finished", k.keyPath, cause(werr)), "make room and run it again: epitaph key rotate")
	}
	k.keys, k.trust.Logs = keys, keys.Trust().Logs
	if rerr := os.Remove(nextKeyPath(k)); rerr != nil {
		return usage(fmt.Sprintf("the new key is in use, but its copy %s cannot be removed: %s", nextKeyPath(k), cause(rerr)), "remove it")
	}
	if perr := a.printKey(k, "Wrote the new key into %s. The public half is\n%s"); perr != nil {
		return perr
	}
	if ferr := a.flushNote(k); ferr != nil {
		return ferr
	}
	return a.complainPins(&signed{s, k.pinNames, err})
}

// nextKeyPath is where the new key lies until it has taken the place of the old:
// beside it, also if a link leads there.
func nextKeyPath(k *keeping) string {
	if path, err := filepath.EvalSymlinks(k.keyPath); err == nil {
		return path + ".next"
	}
	return k.keyPath + ".next"
}

// nextKey makes the new key, or takes that of a rotation that was cut short.
func (a *app) nextKey(k *keeping) (*proof.Keys, error) {
	path := nextKeyPath(k)
	next, err := proof.ReadKeys(path)
	switch {
	case err == nil && next.Signer.Key().Name == k.keys.Signer.Key().Name:
		return next, nil
	case err == nil:
		return nil, usage(path+" is the key of another ledger; nothing was done", "move it away")
	case !errors.Is(err, fs.ErrNotExist):
		return nil, usage(fmt.Sprintf("the new key %s, of a rotation that was cut short, cannot be used: %s", path, keyFault(err)), "remove it, and run it again")
	}
	signer, err := proof.NewSigner(k.keys.Signer.Key().Name, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	next = &proof.Keys{Signer: signer, Since: a.env.Now().UTC().Truncate(time.Second)}
	if err := next.Write(path); err != nil {
		return nil, usage(fmt.Sprintf("cannot write the new key %s: %s; nothing was done", path, cause(err)), "make room, and run it again")
	}
	return next, nil
}

// replaced is the problem of a key that the ledger says is no longer its own.
func replaced(k *keeping) error {
	hint := "copy the key file from where it was replaced; if it is lost: epitaph key show > FILE, move the old key away, epitaph key new --retired FILE"
	if _, err := os.Lstat(nextKeyPath(k)); err == nil {
		hint = "a rotation was cut short; finish it: epitaph key rotate"
	}
	return usage("the key "+k.keyPath+" was replaced by another, as the ledger says; nothing was done", hint)
}

// secrets are who acts and why, for an entry of the ledger.
func (a *app) secrets(reason string) []ledger.Secret {
	list := []ledger.Secret{{Name: "who", Text: a.who()}}
	if reason = strings.TrimSpace(reason); reason != "" {
		list = append(list, ledger.Secret{Name: "reason", Text: reason})
	}
	return list
}

// checkpointJSON is a signed checkpoint; its names are stable.
type checkpointJSON struct {
	Size      int64      `json:"size"`
	Root      string     `json:"root"`
	SignedAt  *time.Time `json:"signed_at"`
	Pins      []string   `json:"pins"`
	Witnesses []string   `json:"witnesses"`
	Failed    string     `json:"failed,omitempty"`
	Note      string     `json:"note"`
}

func checkpointOf(s *signed) *checkpointJSON {
	if s == nil {
		return nil
	}
	out := &checkpointJSON{Size: s.Size, Root: hex.EncodeToString(s.Root[:]), SignedAt: instantJSON(s.At), Pins: s.pins, Witnesses: []string{}, Note: string(s.Note)}
	for _, w := range s.Witnesses {
		out.Witnesses = append(out.Witnesses, w.Name)
	}
	if s.failed != nil {
		out.Failed = pinFaults(s.failed)
	}
	return out
}

// checkpointText is the same for people.
func checkpointText(k *keeping, s *signed) string {
	switch {
	case s == nil && k.keys == nil:
		return "none, the ledger has no key (epitaph key new)"
	case s == nil:
		return "none"
	}
	text := entriesText(s.Size) + " signed, pinned: " + strings.Join(s.pins, ", ")
	if len(s.Witnesses) > 0 {
		text += ", cosigned: " + number(int64(len(s.Witnesses)))
	}
	if s.failed != nil {
		text += ", but for " + pinFaults(s.failed)
	}
	return text
}

func entriesText(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return number(n) + " entries"
}
