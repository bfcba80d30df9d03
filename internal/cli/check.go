package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Prove the policy against its stores, without any effect",
		Long: `Reads the policy, opens every store, and proves that each table, column, link,
condition and template exists and can be run. Warns where a purge would be slow
or surprising. Nothing is changed, and of the ledger nothing is opened: whether its
folder is there is looked at.

Status: 0 when a run can do its work, with or without warnings; 2 on a fault.`,
		Example: "  epitaph check && epitaph plan",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			pol, err := a.loadPolicy()
			if err != nil {
				return err
			}
			st, err := openStores(ctx, pol, true)
			if err != nil {
				return err
			}
			defer st.Close()
			e, err := epitaph.New(epitaph.Config{Policy: pol, Stores: st.byName, Clock: a.env.Now})
			if err != nil {
				return err
			}
			found := append(e.Check(ctx), checkAgreement(ctx, pol, st)...)
			found = append(found, st.checkReplicas(ctx, pol)...)
			found = append(found, checkLedgerFolder(pol)...)
			if err := ctx.Err(); err != nil {
				return err
			}
			return a.showFindings(pol, found)
		},
	}
}

// checkLedgerFolder looks whether a ledger on SQLite could lie where the policy
// has it.
func checkLedgerFolder(pol *policy.Policy) []epitaph.Finding {
	path, ok := strings.CutPrefix(pol.Ledger, "sqlite:")
	if !ok {
		return nil
	}
	f := connector.Finding{Subject: "ledger"}
	folder := filepath.Dir(pol.Resolve(path))
	switch _, err := os.Stat(folder); {
	case errors.Is(err, fs.ErrNotExist):
		f.Severity, f.Text, f.Hint = connector.Fault, "its folder does not exist", "make it, or mend the line ledger: in the policy"
	case err == nil && unix.Access(folder, unix.W_OK|unix.X_OK) != nil:
		f.Text, f.Hint = "this user may not write to its folder, and without it nothing is purged", "let the user that purges own the folder, or mend the line ledger: in the policy"
	default:
		return nil
	}
	return []epitaph.Finding{{Finding: f}}
}

// findingJSON is one finding; its names are stable.
type findingJSON struct {
	Severity string `json:"severity"`
	Rule     string `json:"rule,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Subject  string `json:"subject"`
	Text     string `json:"text"`
	Hint     string `json:"hint,omitempty"`
}

func asJSON(pol *policy.Policy, severity string, f epitaph.Finding) findingJSON {
	if why := knownCause(f.Cause); why != "" {
		f.Text += ": " + why
	}
	if r, ok := pol.Rule(f.Rule); ok { // a store does not know by which name the policy has it
		f.Hint = strings.Replace(f.Hint, " STORE.", " "+r.Store+".", 1)
	}
	return findingJSON{severity, f.Rule, f.Pos.Line, f.Pos.Column, f.Subject, f.Text, f.Hint}
}

func (a *app) showFindings(pol *policy.Policy, found []epitaph.Finding) error {
	result := struct {
		Policy     string        `json:"policy"`
		PolicyHash string        `json:"policy_hash"`
		Rules      int           `json:"rules"`
		Stores     int           `json:"stores"`
		Faults     int           `json:"faults"`
		Warnings   int           `json:"warnings"`
		Findings   []findingJSON `json:"findings"`
		Paused     []pauseJSON   `json:"paused"`
	}{Policy: pol.Path, PolicyHash: hex.EncodeToString(pol.Hash[:]), Rules: len(pol.Rules), Stores: len(pol.Stores), Findings: []findingJSON{}, Paused: a.pauses(pol)}
	type told struct{ rule, text, hint string }
	once := map[told]bool{}
	for _, f := range found {
		if t := (told{f.Rule, f.Text, f.Hint}); once[t] { // two parts lack the same index
			continue
		} else {
			once[t] = true
		}
		severity := "warning"
		if f.Severity == connector.Fault {
			severity = "fault"
			result.Faults++
		} else {
			result.Warnings++
		}
		result.Findings = append(result.Findings, asJSON(pol, severity, f))
	}
	if a.global.json {
		if err := a.printJSON(result); err != nil {
			return err
		}
	} else if err := a.printFindings(pol, result.Findings, result.Paused, result.Faults, result.Warnings); err != nil {
		return err
	}
	if result.Faults > 0 {
		return ended(StatusUsage)
	}
	return nil
}

// subjectText names a part as the policy writes it. A store counts linked tables
// apart from files and objects; a reader of the policy does not.
func subjectText(pol *policy.Policy, rule, subject string) string {
	r, ok := pol.Rule(rule)
	if !ok {
		return subject
	}
	if subject == "collection" {
		return string(r.StoreKind)
	}
	var i int
	if _, err := fmt.Sscanf(subject, "links[%d]", &i); err == nil && i < len(r.Links) {
		return "part rows " + r.Store + "." + r.Links[i].Table
	}
	if _, err := fmt.Sscanf(subject, "parts[%d]", &i); err == nil && i < len(r.Parts) {
		return "part " + r.Parts[i].Store.String() + ":" + r.Parts[i].Path.String()
	}
	return subject
}

// printFinding says one finding, with its place in the policy.
func printFinding(p *printer, pol *policy.Policy, f findingJSON) {
	var what []string
	if f.Rule != "" {
		what = append(what, "rule "+f.Rule)
	}
	if !strings.HasPrefix(f.Text, f.Subject+" ") { // "store app could not …" says it
		what = append(what, subjectText(pol, f.Rule, f.Subject))
	}
	about := ""
	if len(what) > 0 {
		about = strings.Join(what, ", ") + ": "
	}
	label := p.yellow("warning")
	if f.Severity == "fault" {
		label = p.red("fault")
	}
	place := pol.Path
	if f.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", place, f.Line, f.Column)
	}
	p.linef("%s: %s: %s%s", place, label, about, f.Text)
	if f.Hint != "" {
		p.linef("  hint: %s", f.Hint)
	}
}

func (a *app) printFindings(pol *policy.Policy, found []findingJSON, paused []pauseJSON, faults, warnings int) error {
	p := a.stdout()
	for _, f := range found {
		printFinding(p, pol, f)
	}
	for i := range pol.Rules {
		if r := &pol.Rules[i]; !r.Enabled {
			p.linef("rule %s is switched off: %s", r.Name, r.Off)
		}
	}
	printPauses(p, paused)
	p.linef("%s: %s, %s: %s, %s", pol.Path, count(int64(len(pol.Rules)), "rule"), count(int64(len(pol.Stores)), "store"),
		count(int64(faults), "fault"), count(int64(warnings), "warning"))
	return p.err
}
