package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// completionCommand prints what teaches a shell the commands, flags and names of
// rules and stores.
func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that teaches a shell to complete commands",
		Long: `Prints a script for bash, zsh or fish, after which the Tab key completes commands and
flags, and the names of rules and stores out of the policy.`,
		Example:   "  source <(epitaph completion bash)                  # in ~/.bashrc\n  epitaph completion fish > ~/.config/fish/completions/epitaph.fish",
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("completion takes the name of a shell", "such as epitaph completion bash")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			write := map[string]func(io.Writer) error{
				"bash": func(w io.Writer) error { return cmd.Root().GenBashCompletionV2(w, true) },
				"zsh":  cmd.Root().GenZshCompletion,
				"fish": func(w io.Writer) error { return cmd.Root().GenFishCompletion(w, true) },
			}[args[0]]
			if write == nil {
				return usage(fmt.Sprintf("no completion for the shell %q", args[0]), nearestHint(args[0], shells, "", "there is one for bash, zsh and fish"))
			}
			return write(a.env.Stdout)
		},
	}
}

// ruleNames completes the names of the policy's rules.
func (a *app) ruleNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	pol, err := a.loadPolicy()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all []string
	for i := range pol.Rules {
		all = append(all, pol.Rules[i].Name+"\t"+pol.Rules[i].Purpose)
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// storeNames completes the names of the policy's stores.
func (a *app) storeNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	pol, err := a.loadPolicy()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all []string
	for i := range pol.Stores {
		all = append(all, pol.Stores[i].Name+"\t"+string(pol.Stores[i].Kind))
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}
