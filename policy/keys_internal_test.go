package policy

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
)

// The JSON Schema has the keys that the parser knows, no more and no fewer.
func TestSchemaHasTheParsersKeys(t *testing.T) {
	t.Parallel()
	type node struct {
		Properties           map[string]json.RawMessage
		AdditionalProperties any
		OneOf                []node
		Defs                 map[string]node `json:"$defs"`
	}
	var root node
	if err := json.Unmarshal(schema, &root); err != nil {
		t.Fatal(err)
	}
	same := func(what string, n node, keys []string) {
		got := slices.Sorted(maps.Keys(n.Properties))
		if want := slices.Sorted(slices.Values(keys)); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, the parser %v", what, got, want)
		}
		if n.AdditionalProperties != false {
			t.Errorf("%s: the schema takes unknown keys", what)
		}
	}
	without := func(keys []string, drop ...string) []string {
		return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return slices.Contains(drop, k) })
	}
	same("policy", root, topKeys)
	same("ledger", root.Defs["ledger"], ledgerKeys)
	same("checkpoints", root.Defs["checkpoints"], checkpointKeys)
	same("witness", root.Defs["witness"], witnessKeys)
	same("limits", root.Defs["limits"], limitsKeys)
	same("limits of a rule", root.Defs["ruleLimits"], without(limitsKeys, "clock_jump"))
	same("rule of rows", root.Defs["rowRule"], without(ruleKeys, "files", "objects"))
	rowsOnly := []string{"rows", "where", "hold", "in_use", "parts", "then"}
	same("rule of files", root.Defs["fileRule"], without(ruleKeys, append(rowsOnly, "objects")...))
	same("rule of objects", root.Defs["objectRule"], without(ruleKeys, append(rowsOnly, "files")...))
	same("then", root.Defs["then"], thenKeys)
	same("instant", root.Defs["instant"], instantKeys)
	for i, kind := range []StoreKind{Rows, Files, Objects} {
		same("store of "+string(kind), root.Defs["store"].OneOf[i], storeKeys[kind])
	}
	for i, kind := range []StoreKind{Rows, Files, Objects} {
		var pace node
		if err := json.Unmarshal(root.Defs["store"].OneOf[i].Properties["pace"], &pace); err != nil {
			t.Fatal(err)
		}
		same("pace of "+string(kind), pace, paceKeys[kind])
	}
	same("custody", root.Defs["custody"], custodyKeys)
	same("action", root.Defs["action"], actionKeys)
	same("tracked store", root.Defs["trackedStore"].OneOf[1], trackedKeys)
	same("pair", root.Defs["pair"], pairKeys)
	same("agreement", root.Defs["agreement"], agreementKeys)
	for i, kind := range []StoreKind{Files, Objects, Rows} {
		same("part of "+string(kind), root.Defs["part"].OneOf[i], partKeys[kind])
	}
}
