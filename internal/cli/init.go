package cli

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/policy"
)

//go:embed init.yaml
var initPolicy []byte

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Write a policy to start from, and make the ledger and its key",
		Long: `Writes a commented epitaph.yaml (or the file that --policy names) and makes its
ledger, and the key that signs checkpoints of it. A file that exists is never
overwritten.`,
		Example: "  epitaph init && $EDITOR epitaph.yaml && epitaph check",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runInit(cmd.Context())
		},
	}
}

func (a *app) runInit(ctx context.Context) (err error) {
	path := a.policyPath()
	err = writeNew(path, initPolicy)
	switch {
	case errors.Is(err, fs.ErrExist):
		return usage(path+" exists; it was left as it is", "for its ledger and key: epitaph key new; for another policy: epitaph init --policy FILE")
	case err != nil:
		return usage(fmt.Sprintf("cannot write %s: %s", path, cause(err)), "name another file: epitaph init --policy FILE")
	}
	defer func() {
		if err != nil { // a policy without its ledger would be half a beginning
			err = errors.Join(err, os.Remove(path))
		}
	}()
	pol, err := a.loadPolicy()
	if err != nil {
		return err
	}
	k, err := a.makeLedger(ctx, pol)
	if err != nil {
		return err
	}
	ledger := filepath.Join(filepath.Dir(path), "epitaph.db")
	if a.global.json {
		return a.printJSON(map[string]string{"policy": path, "ledger": ledger, "key": k.keyPath, "public_key": k.keys.Signer.Key().String()})
	}
	p := a.stdout()
	p.linef("Wrote %s and the ledger %s.", path, ledger)
	p.linef("Its key is %s: keep a copy of it, and let nobody else read it.", k.keyPath)
	p.linef("Next: edit %s, then epitaph check", path)
	return p.err
}

// makeLedger makes the policy's ledger, and its key.
func (a *app) makeLedger(ctx context.Context, pol *policy.Policy) (k *keeping, err error) {
	if k, err = a.keepingOf(ctx, pol); err != nil {
		return nil, err
	}
	l, err := a.openKept(ctx, k, write)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return k, a.makeKey(ctx, k, l, nil)
}

// writeNew writes a file that must not exist, and makes it durable.
func writeNew(path string, text []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); e != nil && err == nil {
			err = e
		}
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}
