package cli

import (
	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/policy"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the policy file",
		Long: `Prints the JSON Schema of epitaph.yaml, for editors that complete and check as you
type. With the YAML language server, name it in the first line of the policy:

  # yaml-language-server: $schema=epitaph.schema.json`,
		Example: "  epitaph schema > epitaph.schema.json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.env.Stdout.Write(policy.Schema())
			return err
		},
	}
}
