package policy

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The keys of a store, by kind.
var storeKeys = map[StoreKind][]string{
	Rows:    {"rows"},
	Files:   {"files", "mount", "marker", "cross_mounts"},
	Objects: {"objects", "endpoint", "region", "path_style", "profile", "access_key_id", "secret_access_key", "session_token"},
}

// secretOptions are the options of a store that may only come from a variable.
var secretOptions = []string{"access_key_id", "secret_access_key", "session_token"}

var (
	nameOf   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	bucketOf = regexp.MustCompile(`^s3://([A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9])$`)
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

// bucket reads the settings of an object store.
func (p *parser) bucket(target value, f map[string]field, s *Store) {
	if !bucketOf.MatchString(target.text) {
		p.problem(target, 0, "objects must be the URL of a bucket", "write s3://BUCKET; a prefix belongs in the rule or template")
	}
	s.Options = map[string]string{}
	for _, name := range storeKeys[Objects][1:] {
		n, ok := f[name]
		if !ok {
			continue
		}
		if name == "path_style" {
			if on, ok := p.boolean(n.val, name); ok && on {
				s.Options[name] = "true"
			}
			continue
		}
		v, ok := p.maybeEmpty(n.val, name)
		if !ok {
			continue
		}
		p.option(v, name)
		if v.text != "" {
			s.Options[name] = v.text
		}
	}
}

func (p *parser) option(v value, name string) {
	for _, secret := range secretOptions {
		if name == secret && !v.refs {
			p.problem(v, 0, name+" is written into the policy", "keep it out of the file: ${NAME}")
		}
	}
	if name == "endpoint" && v.text != "" && !strings.HasPrefix(v.text, "http://") && !strings.HasPrefix(v.text, "https://") {
		p.problem(v, 0, "the endpoint must begin with http:// or https://", "such as https://s3.example.org")
	}
}

// Bucket returns the bucket of an object store, "" for another kind.
func (s *Store) Bucket() string {
	if m := bucketOf.FindStringSubmatch(s.Target); s.Kind == Objects && m != nil {
		return m[1]
	}
	return ""
}
