package policy

import (
	_ "embed"
	"slices"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of a policy file, for editors.
// It agrees with [Parse] on every key and on the shape of every value; what
// only shows when values are seen together (a store that is not declared) is
// left to Parse.
func Schema() []byte { return slices.Clone(schema) }
