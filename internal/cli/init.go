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
)

//go:embed init.yaml
var initPolicy []byte

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Write a policy to start from, and make the ledger",
		Long: `Writes a commented epitaph.yaml (or the file that --policy names) and makes its
ledger. A file that exists is never overwritten.`,
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
		return usage(path+" exists; it was left as it is", "name another file: epitaph init --policy FILE")
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
	l, err := a.openLedger(ctx, pol, true)
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	ledger := filepath.Join(filepath.Dir(path), "epitaph.db")
	if a.global.json {
		return a.printJSON(map[string]string{"policy": path, "ledger": ledger})
	}
	p := a.stdout()
	p.linef("Wrote %s and the ledger %s.", path, ledger)
	p.linef("Next: edit %s, then epitaph check", path)
	return p.err
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
