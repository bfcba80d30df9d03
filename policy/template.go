package policy

import (
	"strings"

	"github.com/epitaph/epitaph/connector"
)

// Fill returns the text with each reference replaced by its value. values are
// in the order of t.Refs; there must be one for each.
func (t Template) Fill(values []string) string {
	if len(t.Literals) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(t.Literals[0])
	for i := range t.Refs {
		b.WriteString(values[i])
		b.WriteString(t.Literals[i+1])
	}
	return b.String()
}

// String returns the template as it is written in a policy.
func (t Template) String() string {
	if len(t.Literals) == 0 {
		return ""
	}
	escape := strings.NewReplacer("{", "{{", "}", "}}")
	var b strings.Builder
	b.WriteString(escape.Replace(t.Literals[0]))
	for i, r := range t.Refs {
		b.WriteString("{" + refString(r) + "}")
		b.WriteString(escape.Replace(t.Literals[i+1]))
	}
	return b.String()
}

// refString writes a reference as in a policy: "table.column->key[*]".
func refString(r connector.Ref) string {
	var b strings.Builder
	if r.Table != "" {
		for _, part := range strings.Split(r.Table, ".") {
			b.WriteString(quoteName(part) + ".")
		}
	}
	b.WriteString(quoteName(r.Column))
	for _, key := range r.Path {
		b.WriteString("->" + quoteName(key))
	}
	if r.Each {
		b.WriteString("[*]")
	}
	return b.String()
}
