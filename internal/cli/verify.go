package cli

import "github.com/spf13/cobra"

func (a *app) verifyCommand() *cobra.Command {
	return a.parent(&cobra.Command{
		Use:     "verify COMMAND",
		Short:   "Check that what was recorded is still what was recorded",
		Example: "  epitaph verify ledger\n  epitaph verify files --hashes",
	}, a.verifyLedger(), a.verifyFiles())
}
