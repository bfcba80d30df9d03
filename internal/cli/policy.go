package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/epitaph/epitaph/policy"
)

// policyPath is the policy file: the flag, else the environment, else
// epitaph.yaml.
func (a *app) policyPath() string {
	if a.global.policy != "" {
		return a.global.policy
	}
	if p, ok := a.env.Lookup("EPITAPH_POLICY"); ok && p != "" {
		return p
	}
	return "epitaph.yaml"
}

// loadPolicy reads and checks the policy. Its variables come from the
// environment, then from a .env file beside the policy.
func (a *app) loadPolicy() (*policy.Policy, error) {
	path := a.policyPath()
	pol, err := policy.Load(path, policy.Lookup(a.env.Lookup))
	var bad *policy.Errors
	switch {
	case err == nil, errors.As(err, &bad):
		return pol, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, usage(fmt.Sprintf("no policy file %s", path), "make one: epitaph init, or name yours: --policy FILE")
	default:
		return nil, usage(fmt.Sprintf("cannot read the policy file %s or the .env file beside it: %s", path, cause(err)),
			"both must be regular files that this user may read")
	}
}

// policyOrLedger is loadPolicy for a command that can do with a ledger alone.
func (a *app) policyOrLedger() (*policy.Policy, error) {
	pol, err := a.loadPolicy()
	var p *problem
	if _, e := os.Stat(a.policyPath()); errors.Is(e, fs.ErrNotExist) && errors.As(err, &p) {
		p.hints = append(p.hints, "or name a ledger alone: --ledger sqlite:FILE")
	}
	return pol, err
}

// ledgerAlone is the ledger of a flag or, where there is no policy, that of the
// environment, as the commands for tracked files and sessions take it. A policy that
// was named must be there: else another ledger than its own would be shown or proven.
func (a *app) ledgerAlone(flag string) string {
	named, _ := a.env.Lookup("EPITAPH_POLICY")
	if a.global.policy != "" || named != "" {
		return flag
	}
	if _, err := os.Stat(a.policyPath()); flag == "" && errors.Is(err, fs.ErrNotExist) {
		flag, _ = a.env.Lookup("EPITAPH_LEDGER")
	}
	return flag
}

// pick checks the names of rules on a command line. None means all.
func pick(pol *policy.Policy, names []string) error {
	if len(pol.Rules) == 0 {
		return usage("the policy has no rules, so that nothing falls due by it", "add rules: to it; tracked files are disposed of by: epitaph cleanup run")
	}
	for _, n := range names {
		if _, ok := pol.Rule(n); ok {
			continue
		}
		var all []string
		for i := range pol.Rules {
			all = append(all, pol.Rules[i].Name)
		}
		return usage(fmt.Sprintf("the policy has no rule %q", n), nearestHint(n, all, "", "its rules are: "+strings.Join(all, ", ")))
	}
	return nil
}
