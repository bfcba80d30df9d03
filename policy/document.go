package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// The bounds on a policy file. A policy of a hundred rules stays far below.
const (
	maxSize     = 1 << 20 // bytes
	maxDepth    = 32
	maxNodes    = 50_000
	maxProblems = 100
	maxLine     = 8 << 10 // bytes; a longer line is not shown, and not searched for a column
)

// document reads the one YAML document of src and returns its root mapping, or
// nil when there is nothing that could be read further. What could hide or
// multiply text (anchors, aliases, merge keys, tags) is refused.
func (r *reader) document(src []byte) *yaml.Node {
	switch {
	case len(src) > maxSize:
		r.add(Pos{}, "the policy is larger than 1 MiB", "")
		return nil
	case !utf8.Valid(src):
		bad := 0
		for rest := src; ; {
			c, n := utf8.DecodeRune(rest)
			if c == utf8.RuneError && n <= 1 {
				break
			}
			bad, rest = bad+n, rest[n:]
		}
		line := bytes.Count(src[:bad], []byte("\n")) + 1
		column := utf8.RuneCount(src[bytes.LastIndexByte(src[:bad], '\n')+1:bad]) + 1
		r.add(Pos{line, column}, "the policy is not UTF-8 text", "save the file as UTF-8")
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(src), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		r.add(Pos{}, fmt.Sprintf("the YAML reader did not start: %v", err), "")
		return nil
	}
	var doc yaml.Node
	if err := loader.Load(&doc); err != nil {
		r.syntax(err)
		return nil
	}
	var second yaml.Node
	switch err := loader.Load(&second); {
	case err == nil:
		r.add(pos(&second), "a policy is one YAML document", "remove what follows the line with ---")
		return nil
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil
	}
	if len(doc.Content) != 1 || doc.Content[0].Tag == "!!null" {
		r.add(Pos{1, 1}, "the policy is empty", "epitaph init writes one to start from")
		return nil
	}
	nodes := 0
	if !r.guard(doc.Content[0], 0, &nodes) {
		return nil
	}
	return doc.Content[0]
}

// syntax reports what the YAML reader could not read.
func (r *reader) syntax(err error) {
	if errors.Is(err, io.EOF) {
		r.add(Pos{1, 1}, "the policy is empty", "epitaph init writes one to start from")
		return
	}
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		r.add(Pos{}, "this is not YAML", "")
		return
	}
	hint := "check the indentation, the quotes and the brackets here and just above"
	switch {
	case strings.Contains(le.Message, "cannot start any token"):
		hint = "indent with spaces, not tabs; put text that begins with @, ` or % in quotes"
	case strings.Contains(le.Message, "mapping values are not allowed"):
		hint = "put text that holds a colon and a space in quotes"
	case strings.Contains(le.Message, "max depth"):
		hint = "a policy is never nested this deep"
	case strings.Contains(le.Message, "anchor"):
		hint = "anchors and aliases (& and *) are not used in a policy; put text that begins with * in quotes"
	}
	r.add(Pos{max(0, le.Mark.Line), max(0, le.Mark.Column)}, "this is not YAML: "+printable(le.Message), hint)
}

// guard refuses every construct that makes a document mean something else than
// it says. It returns false when the document must not be read on.
func (r *reader) guard(n *yaml.Node, depth int, nodes *int) bool {
	*nodes++
	switch {
	case *nodes > maxNodes:
		r.add(pos(n), "the policy has too many values", fmt.Sprintf("a policy may have %d", maxNodes))
		return false
	case depth > maxDepth:
		r.add(pos(n), "the policy is nested too deep", "a policy is never nested this deep")
		return false
	}
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		r.add(pos(n), "anchors and aliases are not used in a policy", "write the value out; put text that begins with & or * in quotes")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		r.add(pos(n), "tags are not used in a policy", "remove the word that begins with !, or put the text in quotes")
	}
	if n.Tag == "!!merge" {
		r.add(pos(n), "merge keys are not used in a policy", "write the keys out")
	}
	for _, c := range n.Content {
		if !r.guard(c, depth+1, nodes) {
			return false
		}
	}
	return true
}

// refused reports that guard has already spoken about this value.
func refused(n *yaml.Node) bool {
	return n.Kind == yaml.AliasNode || n.Style&yaml.TaggedStyle != 0
}

func pos(n *yaml.Node) Pos { return Pos{n.Line, n.Column} }
