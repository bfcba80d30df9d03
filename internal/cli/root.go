package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/epitaph/epitaph/policy"
)

const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}Usage: {{if .Runnable}}{{.UseLine}}{{else}}{{.CommandPath}} COMMAND{{end}}
{{if .HasAvailableSubCommands}}{{$all := .Commands}}{{range $group := .Groups}}
{{$group.Title}}{{range $all}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}
{{end}}{{if not .AllChildCommandsHaveGroup}}
Commands:{{range $all}}{{if and (eq .GroupID "") .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}
{{end}}{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}
{{end}}{{if .HasAvailableInheritedFlags}}
Global: --policy FILE  --json  --quiet  --no-color  --log FILE|-  --request-id ID
{{end}}{{if .HasExample}}
Example:
{{.Example}}
{{end}}`

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "epitaph COMMAND",
		Short: "Deletion you can prove",
		Long: `Epitaph finds data that has outlived its retention period, disposes of all of it
together, and keeps proof of what it did. It never states that data is gone
without having looked: gone, present, or unknown.

Status: 0 done · 1 some items failed or are unknown · 2 usage or policy error ·
3 stopped by an interlock · 4 the ledger does not verify · 130 interrupted`,
		Example:           "  epitaph demo                 # play with it, on data it makes itself\n  epitaph plan && epitaph purge",
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.ArbitraryArgs,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return filled(cmd.Flags(), "policy", "ledger", "root") // else another one would be worked on
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			cmd.SetOut(a.env.Stderr)
			_ = cmd.Help()
			return ended(StatusUsage)
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.global.policy, "policy", "", "policy `FILE` (default epitaph.yaml, or $EPITAPH_POLICY)")
	f.BoolVar(&a.global.json, "json", false, "one JSON object on stdout, with stable names; {error, hints, status} where there is no result")
	f.BoolVar(&a.global.quiet, "quiet", false, "no progress and no remarks on stderr; problems only")
	f.BoolVar(&a.global.noColor, "no-color", false, "no colour (also $NO_COLOR)")
	f.StringVar(&a.global.log, "log", "", "write events as JSON lines to `FILE`, or - for stderr")
	f.StringVar(&a.global.requestID, "request-id", "", "an outside `ID` that every event and the ledger's run carry")
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(helpTemplate)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		a.noFlags = true
		return flagProblem(cmd, err)
	})
	root.SetHelpCommand(a.helpCommand())
	root.Version = Version()
	root.SetVersionTemplate(versionLine())
	root.AddCommand(a.initCommand(), a.checkCommand(), a.planCommand(), a.purgeCommand(), a.serveCommand(), a.pauseCommand(), a.trailCommand(),
		a.verifyCommand(), a.proveCommand(), a.ledgerCommand(), a.keyCommand(),
		a.trackCommand(), a.overdueCommand(), a.cleanupCommand(), a.orphansCommand(), a.statsCommand(),
		a.sessionCommand(), a.demoCommand(), a.schemaCommand(), a.completionCommand(), a.versionCommand())
	cobra.EnableCommandSorting = false // the order above is that of the work
	arrange(root)
	return root
}

// arrange puts the commands under headings, in the order in which somebody needs
// them.
func arrange(root *cobra.Command) {
	of := map[string]string{}
	for i, g := range []struct{ title, names string }{
		{"Delete what is due:", "init check plan purge pause serve"},
		{"Prove what was done:", "trail verify prove ledger key"},
		{"Account for files that applications make:", "track overdue cleanup orphans stats"},
		{"Give files a directory with an end:", "session"},
		{"Look around:", "demo schema completion version"},
	} {
		id := strconv.Itoa(i)
		root.AddGroup(&cobra.Group{ID: id, Title: g.title})
		for _, name := range strings.Fields(g.names) {
			of[name] = id
		}
	}
	for _, c := range root.Commands() {
		c.GroupID = of[c.Name()]
	}
	root.SetHelpCommandGroupID("0") // hidden, but counted
}

// helpCommand is for those who write help in front of a command. It is not listed:
// --help is the way.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(about, rest[0])
			}
			return about.Help()
		},
	}
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage(fmt.Sprintf("%s takes no argument, got %q", cmd.CommandPath(), args[0]), "see "+cmd.CommandPath()+" --help")
}

// filled refuses flags of these names that were given and are empty, such as by a
// variable of a shell that is not set: left out, they would mean more than what was
// asked for, and with some commands more would go.
func filled(fl *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		if f := fl.Lookup(name); f != nil && f.Changed && (f.Value.String() == "" || f.Value.String() == "[]") {
			return usage("--"+name+" is empty", "say what is meant, or leave the flag out")
		}
	}
	return nil
}

func unknownCommand(root *cobra.Command, name string) error {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usage(fmt.Sprintf("unknown command %q", name), nearestHint(name, names, "", "the commands are listed by: "+root.CommandPath()+" --help"))
}

// flagProblem turns a flag error into a usage problem that names the nearest
// flags.
func flagProblem(cmd *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	var period *policy.PeriodError
	if errors.As(err, &period) {
		return usage(err.Error(), hintsOf(period.Hint)...)
	}
	if !errors.As(err, &missing) {
		return usage(err.Error(), "see "+cmd.CommandPath()+" --help")
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	name := missing.GetSpecifiedName()
	dash := "--"
	if missing.GetSpecifiedShortnames() != "" {
		dash = "-"
	}
	return usage(fmt.Sprintf("unknown flag %s%s", dash, name),
		nearestHint(name, names, "--", "the flags are listed by: "+cmd.CommandPath()+" --help"))
}

// nearestHint names the words nearest to got, or else says otherwise.
func nearestHint(got string, words []string, prefix, otherwise string) string {
	near := nearest(got, words)
	if len(near) == 0 {
		return otherwise
	}
	for i := range near {
		near[i] = prefix + near[i]
	}
	return "did you mean " + strings.Join(near, " or ") + "?"
}

// nearest returns up to three of words that a slip of the fingers could have
// turned into got, nearest first.
func nearest(got string, words []string) []string {
	type scored struct {
		word string
		d    int
	}
	var found []scored
	for _, w := range words {
		d := editDistance(strings.ToLower(got), w)
		if d <= max(1, len(w)/3) || len(got) > 1 && strings.HasPrefix(w, strings.ToLower(got)) {
			found = append(found, scored{w, d})
		}
	}
	slices.SortStableFunc(found, func(x, y scored) int { return x.d - y.d })
	var near []string
	for _, s := range found[:min(3, len(found))] {
		near = append(near, s.word)
	}
	return near
}

// editDistance counts the bytes that must be put in, left out, replaced or
// swapped with their neighbour to turn a into b.
func editDistance(a, b string) int {
	var before, last []int // the two rows above the current one
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// printJSON writes v as one object on stdout.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.env.Stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
