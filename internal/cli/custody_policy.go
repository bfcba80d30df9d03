package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/policy"
)

// vocabulary has the actions built in and those of the policy. Beside --ledger, and
// where there is no policy, it has those built in.
func (a *app) vocabulary(dsn string) (*custody.Vocabulary, error) {
	if dsn == "" {
		dsn, _ = a.env.Lookup("EPITAPH_LEDGER")
	}
	if _, err := os.Stat(a.policyPath()); dsn != "" || errors.Is(err, fs.ErrNotExist) {
		return custody.NewVocabulary()
	}
	pol, err := a.loadPolicy()
	if err != nil {
		return nil, err
	}
	return custody.NewVocabulary(pol.Custody.Actions...)
}

// listed is one of the policy's databases, to read rows of.
type listed interface {
	custody.Lister
	CheckList(ctx context.Context, q *connector.Query) ([]connector.Finding, error)
}

var _ listed = (*rows.Connector)(nil)

// roots are the stores whose every file must be tracked: those of the flag if it was
// given, with that grace, else those of the policy, each with its own grace or, if
// the command line gave one, with that.
func (k *keeper) roots(names []string, given bool, grace time.Duration, graceGiven bool) (list []custody.Root) {
	if given {
		for _, n := range names {
			list = append(list, custody.Root{Store: n, Grace: grace})
		}
		return list
	}
	if k.policy == nil {
		return nil
	}
	for _, t := range k.policy.Custody.Tracked {
		if !graceGiven {
			grace = t.Grace
		}
		list = append(list, custody.Root{Store: t.Store, Grace: grace})
	}
	return list
}

// tables are the application's own tables: those that the flag names if it was
// given, else all of the policy.
func (k *keeper) tables(names []string, given bool) (list []custody.Table, err error) {
	var agreement []policy.Agreement
	if k.policy != nil {
		agreement = k.policy.Custody.Agreement
	}
	var known []string
	for i := range agreement {
		known = append(known, agreement[i].Name)
	}
	for _, n := range names {
		if n != "none" && !slices.Contains(known, n) {
			return nil, usage(fmt.Sprintf("--agreement: the policy has no agreement %q", n), nearestHint(n, known, "", "it has: "+strings.Join(append(known, "none"), ", ")))
		}
	}
	for i := range agreement {
		t := &agreement[i]
		if given && !slices.Contains(names, t.Name) {
			continue
		}
		list = append(list, custody.Table{
			Name: t.Name, Rows: k.databases[t.Store], From: t.Table, Where: t.Where, Store: t.In, Path: textOf(t.Path),
			Size: t.Size, SHA256: t.SHA256, Ref: textOf(t.Ref), Made: t.Made, Within: t.Within,
		})
	}
	return list, nil
}

func textOf(t policy.Template) custody.Text { return custody.Text{Literals: t.Literals, Refs: t.Refs} }

// checkAgreement proves that the tables of the policy can be compared. What it
// finds is named by the agreement.
func checkAgreement(ctx context.Context, pol *policy.Policy, st *stores) (found []epitaph.Finding) {
	for i := range pol.Custody.Agreement {
		t := &pol.Custody.Agreement[i]
		add := func(f connector.Finding) {
			f.Subject = "agreement " + t.Name + ", " + agreed(t, f.Subject)
			found = append(found, epitaph.Finding{Pos: t.Pos, Finding: f})
		}
		db, ok := st.byName[t.Store].(listed)
		if !ok {
			continue // the policy does not take another kind of store
		}
		list, err := db.CheckList(ctx, t.Query())
		for _, f := range list {
			add(f)
		}
		if err != nil {
			add(connector.Finding{Severity: connector.Fault, Subject: "rows", Text: "the database could not be read: " + cause(err), Hint: "look at store " + t.Store})
		}
	}
	return found
}

// agreed names a part of a query as the policy does.
func agreed(t *policy.Agreement, subject string) string {
	keys := []string{"path", "ref"}
	if t.Size != "" {
		keys = append(keys, "size")
	}
	keys = append(keys, "sha256")
	var i int
	if _, err := fmt.Sscanf(subject, "parts[%d]", &i); err == nil && i < len(keys) {
		return keys[i]
	}
	return strings.Replace(subject, "collection", "rows", 1)
}
