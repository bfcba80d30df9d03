package policy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/epitaph/epitaph/policy"
)

// validator checks a YAML policy against the JSON Schema, as an editor does.
func validator(t testing.TB) func(src []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(policy.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("policy.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("policy.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(src []byte) error {
		var v any
		// What is not YAML or repeats a key never reaches a schema.
		if err := yaml.Unmarshal(src, &v); err != nil {
			return nil
		}
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return err
		}
		return s.Validate(instance)
	}
}

func TestSchemaTakesWhatTheParserTakes(t *testing.T) {
	t.Parallel()
	validate := validator(t)
	for _, path := range append(fixtures(t, "testdata/valid/*.yaml"), fixtures(t, "../examples/*/*.yaml")...) {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(src); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSchemaIsACopy(t *testing.T) {
	t.Parallel()
	policy.Schema()[0] = 'x'
	if policy.Schema()[0] != '{' {
		t.Error("a caller can change the schema of all others")
	}
}
