package policy

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// The keys of a store, by kind.
var storeKeys = map[StoreKind][]string{
	Rows:  {"rows", "pace"},
	Files: {"files", "mount", "marker", "cross_mounts", "shared", "pace"},
	Objects: {"objects", "endpoint", "region", "path_style", "profile", "access_key", "secret_key", "session_token",
		"buckets", "inventory", "uploads", "timeout", "attempts", "concurrency", "pace"},
}

// optionKeys are the keys of an object store that become its Options.
var optionKeys = slices.DeleteFunc(slices.Clone(storeKeys[Objects]), func(k string) bool { return k == "objects" || k == "pace" })

// secretOptions are the options of a store that may only come from a variable.
var secretOptions = []string{"access_key", "secret_key", "session_token"}

var (
	nameOf   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	bucketOf = regexp.MustCompile(`^s3://(?:([A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9])(?:/.*)?)?$`)
)

func (p *parser) stores(n *yaml.Node) {
	ok := p.each(n, "stores", func(f field) {
		if !nameOf.MatchString(f.key.Value) {
			p.add(pos(f.key), "the name of a store has letters, digits, _ and -, and begins with a letter", "")
			return
		}
		s := Store{Name: f.key.Value, Pos: pos(f.key)}
		p.store(f, &s)
		p.policy.Stores = append(p.policy.Stores, s)
	})
	if ok && len(n.Content) == 0 {
		p.add(pos(n), "the policy has no stores", "add the databases and directories it speaks of")
	}
}

func (p *parser) store(f field, s *Store) {
	const hint = "write {rows: DSN}, {files: DIRECTORY} or {objects: s3://BUCKET}"
	what := "the store " + s.Name
	if f.val.Kind == yaml.MappingNode {
		s.Kind = p.kindOfMapping(f.val, what, hint)
	}
	keys := storeKeys[s.Kind]
	if s.Kind == "" {
		keys = append(append(append(keys, storeKeys[Rows]...), storeKeys[Files]...), storeKeys[Objects]...)
	}
	fields, ok := p.mapping(f.val, what, keys...)
	if !ok || s.Kind == "" {
		return
	}
	if n, ok := fields["pace"]; ok {
		p.pace(n, s)
	}
	switch target, ok := p.text(fields[string(s.Kind)].val, string(s.Kind)); {
	case !ok:
	case s.Kind == Files:
		s.Target = target.text
		p.root(target, fields, s)
	case s.Kind == Objects:
		s.Target = target.text
		p.bucket(target, fields, s)
	default:
		s.Target = target.text
	}
}

// kindOfMapping tells by its keys which kind of thing a mapping describes.
func (p *parser) kindOfMapping(n *yaml.Node, what, hint string) StoreKind {
	var kind StoreKind
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch k := StoreKind(n.Content[i].Value); k {
		case Rows, Files, Objects:
			if kind != "" && kind != k {
				p.add(pos(n.Content[i]), what+" has both "+string(kind)+" and "+string(k), "keep one of them")
				return ""
			}
			kind = k
		}
	}
	if kind == "" {
		p.add(pos(n), what+" has none of rows, files and objects", hint)
	}
	return kind
}

// root reads the settings of a file store.
func (p *parser) root(target value, f map[string]field, s *Store) {
	if strings.Trim(target.text, "/.") == "" && strings.Contains(target.text, "/") {
		p.problem(target, 0, "the root of a store cannot be the whole file system", "name the directory that holds the data")
	}
	if n, ok := f["mount"]; ok {
		s.Mount, _ = p.boolean(n.val, "mount")
	}
	if n, ok := f["cross_mounts"]; ok {
		s.CrossMounts, _ = p.boolean(n.val, "cross_mounts")
	}
	if n, ok := f["shared"]; ok {
		s.Shared, _ = p.boolean(n.val, "shared")
	}
	n, ok := f["marker"]
	if !ok {
		return
	}
	v, ok := p.text(n.val, "marker")
	if !ok {
		return
	}
	if strings.Contains(v.text, "/") || v.text == "." || v.text == ".." {
		p.problem(v, 0, "the marker is the name of a file directly below the root", "write a name such as .epitaph-root")
		return
	}
	s.Marker = v.text
}

// bucket reads the settings of an object store into Options, as text.
func (p *parser) bucket(target value, f map[string]field, s *Store) {
	if !bucketOf.MatchString(target.text) {
		p.problem(target, 0, "objects must be the URL of a bucket", "write s3://BUCKET, s3://BUCKET/PREFIX, or s3:// where rows name the bucket")
	}
	s.Options = map[string]string{}
	for _, name := range optionKeys {
		if n, ok := f[name]; ok {
			if text := p.option(n.val, name); text != "" {
				s.Options[name] = text
			}
		}
	}
	_, key := f["access_key"]
	_, secret := f["secret_key"]
	if key != secret {
		p.add(s.Pos, "access_key and secret_key go together", "give both, or neither and let the environment or a profile say")
	}
	if n, ok := f["buckets"]; ok && s.Bucket() != "" {
		p.add(pos(n.key), "buckets is for a store without a bucket of its own", "write objects: s3://, or remove buckets")
	}
}

// option reads one setting of an object store; "" when it is not given.
func (p *parser) option(n *yaml.Node, name string) string {
	switch name {
	case "path_style":
		on, ok := p.boolean(n, name)
		if !ok {
			return ""
		}
		return strconv.FormatBool(on)
	case "attempts", "concurrency":
		const hint = "write a number from 1 to 1000"
		i, ok := p.integer(n, name, hint)
		if ok && i > 1000 {
			p.add(pos(n), name+" is too large", hint)
		}
		return strconv.FormatInt(i, 10)
	case "buckets":
		var list []string
		for _, n := range p.list(n, name) {
			if v, ok := p.text(n, name); ok {
				if _, err := path.Match(v.text, ""); err != nil || strings.ContainsAny(v.text, "/, ") {
					p.problem(v, 0, "this is not the name of a bucket, nor a pattern of one", "such as reflector-*")
				}
				list = append(list, v.text)
			}
		}
		return strings.Join(list, ",")
	}
	v, ok := p.maybeEmpty(n, name)
	if !ok || v.text == "" {
		return ""
	}
	if text, hint := optionFlaw(name, v); text != "" {
		p.problem(v, 0, text, hint)
	}
	return v.text
}

// optionFlaw says what is wrong with a setting that is text.
func optionFlaw(name string, v value) (text, hint string) {
	switch {
	case slices.Contains(secretOptions, name) && !v.refs:
		return name + " is written into the policy", "keep it out of the file: ${NAME}"
	case name == "endpoint" && !strings.HasPrefix(v.text, "http://") && !strings.HasPrefix(v.text, "https://"):
		return "the endpoint must begin with http:// or https://", "such as https://s3.example.org"
	case name == "inventory" && !strings.HasPrefix(v.text, "s3://"):
		return "the inventory must be the URL of a manifest", "such as s3://inventories/media/manifest.json"
	case name == "uploads" && v.text != "none":
		return "uploads can only be none", "write none where the server keeps no unfinished uploads"
	case name == "timeout":
		if d, err := time.ParseDuration(v.text); err != nil || d <= 0 {
			return "the timeout is not a time above zero", "such as 30s"
		}
	}
	return "", ""
}

// Bucket returns the bucket of an object store, "" for another kind and for a
// store whose buckets are named by rows ("s3://").
func (s *Store) Bucket() string {
	if m := bucketOf.FindStringSubmatch(s.Target); s.Kind == Objects && m != nil {
		return m[1]
	}
	return ""
}
