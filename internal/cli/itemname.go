package cli

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
)

// itemName is the name by which the ledger knows an item that a person named. A
// row whose key is a text has no id and is called TABLE/KEY: of a bare key, the
// policy says which tables it may be of.
func (a *app) itemName(ctx context.Context, l *ledger.Ledger, name string) (string, error) {
	_, notNumber := strconv.ParseInt(name, 10, 64)
	if name == "" || notNumber == nil || strings.Contains(name, "/") {
		return name, nil
	}
	if found, err := inTheLedger(ctx, l, name); found || err != nil {
		return name, err
	}
	pol, err := a.loadPolicy()
	if err != nil {
		return "", err
	}
	called := map[string]bool{}
	for _, r := range pol.Rules {
		row := r.Collection + "/" + strings.ReplaceAll(name, "%", "%25")
		if r.StoreKind != policy.Rows {
			continue
		}
		if found, err := inTheLedger(ctx, l, row); err != nil {
			return "", err
		} else if found {
			called[row] = true
		}
	}
	switch rows := slices.Collect(maps.Keys(called)); len(rows) {
	case 0:
		return name, nil
	case 1:
		return rows[0], nil
	default:
		return "", usage("more than one table has a row with this key", "say which: TABLE/KEY")
	}
}

func inTheLedger(ctx context.Context, l *ledger.Ledger, item string) (bool, error) {
	for _, err := range l.Entries(ctx, ledger.Filter{Item: item, Limit: 1}) {
		return err == nil, err
	}
	return false, nil
}
