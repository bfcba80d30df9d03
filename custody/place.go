package custody

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/epitaph/epitaph/connector"
)

// Store is a store in which tracked files lie.
type Store struct {
	Name      string
	Connector connector.Connector
	// Root is the directory of a store of files, in which a locator is the path
	// below it. It is empty for other stores: their things are named
	// STORE:LOCATOR, and their content is not read.
	Root string
	// Shared says that the directory is the same from every host that uses the
	// ledger, as one on a network file system is. Otherwise what one host has in it
	// cannot be looked at from another.
	Shared bool
	// Content reads what the things of a store without a Root hold; nil where that
	// cannot be read.
	Content Content

	host string // whose it is; "" for all
}

// Content reads the content of things in a store that is no directory. The
// connector for objects is one.
type Content interface {
	// SHA256 returns the hash and the size of the content of the thing that is
	// there now, and how many bytes were read for it: none where the store vouches
	// for a hash that it keeps itself. Err is connector-like: its text may be
	// personal.
	SHA256(ctx context.Context, at connector.Locator) (sum [32]byte, size, read int64, err error)
}

// place is where a file is: a locator in a store, or, outside of all stores, its
// absolute path. One thing has one place.
type place struct {
	store string
	at    connector.Locator
	abs   string // "" in a store without a root
	host  string // where it can be looked at; "" for everywhere
}

// name is the place as a person names it.
func (p place) name() string {
	if p.abs != "" {
		return p.abs
	}
	return p.store + ":" + string(p.at)
}

// identity is what the place is told apart by.
func (p place) identity() string {
	prefix := ""
	if p.host != "" {
		prefix = "\x00\x00" + p.host + "\x00"
	}
	if p.store != "" {
		return prefix + p.store + "\x00" + string(p.at)
	}
	return prefix + "\x00" + p.abs
}

// resolver finds places. It looks at each directory once, so that a thousand
// files in one cost one resolution.
type resolver struct {
	stores []Store
	host   string // whose paths outside of all stores are
	dirs   map[string]string
}

func (c *Custody) resolver() *resolver {
	return &resolver{stores: c.o.Stores, host: c.o.Host, dirs: map[string]string{}}
}

// place finds where path lies.
func (r *resolver) place(path string) (place, error) {
	switch {
	case path == "":
		return place{}, refuse("the path is empty", "name the file")
	case len(path) > mostPath:
		return place{}, refuse("a path of more than 4096 bytes", "no file system here can hold it")
	case strings.IndexByte(path, 0) >= 0:
		return place{}, refuse("the path holds a NUL byte", "no file can have such a name")
	}
	if name, at, ok := strings.Cut(path, ":"); ok {
		for _, s := range r.stores {
			if s.Name == name && !filepath.IsAbs(path) {
				return r.inStore(s, at)
			}
		}
	}
	abs := path
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return place{}, refuse("the path cannot be made absolute", "the working directory is gone: give an absolute path")
		}
		abs = dir + "/" + path // not cleaned: behind a link, .. is not what it seems
	}
	abs, err := r.resolve(abs)
	if err != nil {
		return place{}, err
	}
	return r.within(abs, strings.HasSuffix(path, "/")), nil
}

// inStore takes a locator as it is written. The store's connector says what a
// locator may be.
func (r *resolver) inStore(s Store, at string) (place, error) {
	if at == "" {
		return place{}, refuse("the path names a store and nothing in it", "write STORE:LOCATOR")
	}
	p := place{store: s.Name, at: connector.Locator(at), host: s.host}
	if s.Root != "" {
		clean := strings.TrimSuffix(at, "/")
		if !filepath.IsLocal(clean) || filepath.Clean(clean) != clean || clean == "." {
			return place{}, refuse("the path leads out of its store, or is not in its shortest form", "write it below the root, without . and ..")
		}
		p.abs = filepath.Join(s.Root, clean)
	}
	return p, nil
}

// within tells in which store an absolute path lies: the innermost.
func (r *resolver) within(abs string, tree bool) place {
	p, best := place{abs: abs, host: r.host}, -1
	for _, s := range r.stores {
		if s.Root == "" || len(s.Root) <= best {
			continue
		}
		below, ok := strings.CutPrefix(abs, strings.TrimSuffix(s.Root, "/")+"/")
		if !ok || below == "" {
			continue
		}
		p.store, p.at, p.host, best = s.Name, connector.Locator(below), s.host, len(s.Root)
	}
	if tree && p.store != "" {
		p.at += "/"
	}
	return p
}

// resolve follows the links in a path. What is not there yet keeps its name
// below the deepest directory that is.
func (r *resolver) resolve(abs string) (string, error) {
	dir, base := cut(abs)
	if base == "." || base == ".." {
		dir, base = abs, ""
	}
	real, ok := r.dirs[dir]
	if !ok {
		var err error
		if real, err = resolveDir(dir); err != nil {
			return "", err
		}
		r.dirs[dir] = real
	}
	if base == "" {
		return real, nil
	}
	full := filepath.Join(real, base)
	fi, err := os.Lstat(full)
	if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		return full, nil
	}
	target, err := filepath.EvalSymlinks(full)
	if err != nil {
		return "", refuse("the path is a link that leads nowhere", "name the file itself")
	}
	return target, nil
}

// cut takes the last element from a path. It does not clean the rest.
func cut(path string) (dir, base string) {
	path = strings.TrimRight(path, "/")
	i := strings.LastIndexByte(path, '/')
	if dir, base = strings.TrimRight(path[:max(i, 0)], "/"), path[i+1:]; dir == "" {
		dir = "/"
	}
	return dir, base
}

func resolveDir(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	switch {
	case err == nil:
		return real, nil
	case !errors.Is(err, fs.ErrNotExist) || dir == "/":
		return "", refuse("the path cannot be resolved", "a directory on the way cannot be entered, or links lead in a circle")
	}
	if fi, err := os.Lstat(dir); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		return "", refuse("the path leads through a link that leads nowhere", "name the file itself")
	}
	up, base := cut(dir)
	if base == "." || base == ".." {
		return "", refuse("the path climbs out of a directory that is not there", "write it without ..")
	}
	above, err := resolveDir(up)
	if err != nil {
		return "", err
	}
	return filepath.Join(above, base), nil
}
