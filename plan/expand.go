package plan

import (
	"errors"
	"fmt"
	"strings"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

// Expand names the parts of an item by filling the rule's templates with the
// item's values. Two values that name the same thing give one part. The parts
// are in the order of the rule and of the values.
//
// The error says that the record names something no store may hold: a value
// that is empty or holds a NUL, a bucket of no store, and for files a value that
// climbs, starts with a slash or makes an empty element. The item is then Invalid, stays, and loses
// nothing. The text holds no value.
func Expand(r *policy.Rule, it connector.Item) ([]Part, error) {
	if len(r.Parts) == 0 {
		return nil, nil
	}
	n := 0
	for _, ts := range it.Values {
		n += len(ts)
	}
	if n == 0 {
		return nil, nil
	}
	if len(it.Values) > len(r.Parts) {
		return nil, errors.New("more values than the rule has parts")
	}
	parts := make([]Part, 0, n)
	for w, tuples := range it.Values {
		for k, tuple := range tuples {
			p, err := fill(&r.Parts[w], tuple)
			if err != nil {
				return nil, fmt.Errorf("parts[%d]: %w", w, err)
			}
			p.Want, p.Tuple = w, k
			if i := indexOf(parts, p); i >= 0 {
				parts[i].Also = append(parts[i].Also, Origin{w, k})
				continue
			}
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// indexOf finds the part that names the same thing. Items have few parts; a map
// would cost more than it saves until there are many.
func indexOf(parts []Part, p Part) int {
	for i := range parts {
		if parts[i].Locator == p.Locator && parts[i].Store == p.Store {
			return i
		}
	}
	return -1
}

func fill(p *policy.Part, tuple connector.Tuple) (Part, error) {
	ns, np := len(p.Store.Refs), len(p.Path.Refs)
	if len(tuple) != ns+np {
		return Part{}, fmt.Errorf("%d values for %d references", len(tuple), ns+np)
	}
	store, prefix, ok := p.Place(p.Store.Fill(tuple[:ns]))
	if !ok {
		return Part{}, errors.New("a value names a bucket of no store, or of two")
	}
	loc, err := locate(p, tuple[ns:])
	if err != nil {
		return Part{}, err
	}
	return Part{Store: store, Locator: connector.Locator(prefix + loc)}, nil
}

// locate fills the path of a part. An object store has no directories: dots and
// slashes are letters of a key, and the key is used as it is.
func locate(p *policy.Part, values []string) (string, error) {
	refuse := climbs
	if p.Kind == policy.Objects {
		refuse = unnamed
	}
	for _, v := range values {
		if err := refuse(v); err != nil {
			return "", err
		}
	}
	loc := p.Path.Fill(values)
	if err := refuse(loc); err != nil {
		return "", err
	}
	if p.Kind == policy.Objects {
		return loc, nil
	}
	return onePath(loc, p.Tree)
}

// onePath lets a thing in a file tree have one spelling only. "a//b" is refused,
// not read as "a/b": a surviving row that says "a/b" is looked for by its value,
// would not be found, and its file would go. A trailing slash, which stands for
// a directory with everything in it, is the policy's to write, never a value's.
func onePath(loc string, tree bool) (string, error) {
	if strings.HasSuffix(loc, "/") != tree {
		return "", errors.New("a value names a directory")
	}
	if strings.Contains(loc, "//") {
		return "", errors.New("a value makes a path with an empty element")
	}
	return loc, nil
}

// unnamed refuses what is no name in any store.
func unnamed(s string) error {
	switch {
	case s == "":
		return errors.New("a value is empty")
	case strings.IndexByte(s, 0) >= 0:
		return errors.New("a value holds a NUL")
	}
	return nil
}

// climbs refuses what could lead out of the root of a file store.
func climbs(s string) error {
	if err := unnamed(s); err != nil {
		return err
	}
	if s[0] == '/' {
		return errors.New("a value starts with a slash")
	}
	for e := range strings.SplitSeq(s, "/") {
		if e == "." || e == ".." {
			return errors.New("a value climbs with dots")
		}
	}
	return nil
}
