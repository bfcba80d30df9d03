package epitaph_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// factMakers are the packages that write entries.
var factMakers = []string{"purge", "session", "custody", "owner", "ledger"}

// madeUp are the names of facts that are put together when the program runs, as
// docs/events.md writes them, by the file that does it.
var madeUp = map[string][]string{
	"purge/root.go":    {"root.STORE"},
	"purge/run.go":     {"retain.RULE", "cutoff.RULE", "host", "version", "request"},
	"purge/tally.go":   {"kept.REASON", "rows.TABLE"},
	"ledger/carry.go":  {"fork.NUMBER.NAME", "key.NUMBER.NAME"},
	"custody/track.go": {"action.NAME", "reserved.NAME", "abandoned.NAME", "differs.NAME"},
}

// facts are what the code calls public facts.
type facts struct {
	names     map[string]string // by name, where it is made
	incidents map[string]bool
	kinds     map[string]bool
	loose     []string // places where a name cannot be told from the source
}

// read collects the facts of one package.
func (f *facts) read(t *testing.T, dir string) {
	t.Helper()
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range sources(t, dir) {
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	constants := map[string]string{}
	for _, file := range parsed {
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, name := range v.Names {
				if i < len(v.Values) {
					if text, ok := literal(v.Values[i]); ok {
						constants[name.Name] = text
						if typ, ok := v.Type.(*ast.Ident); ok && dir == "ledger" && typ.Name == "Kind" {
							f.kinds[text] = true
						}
					}
				}
			}
			return true
		})
	}
	for _, file := range parsed {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 || !makesFact(call.Fun, dir) {
				return true
			}
			file := filepath.ToSlash(set.Position(call.Pos()).Filename)
			f.name(file, set.Position(call.Pos()).String(), call.Args[0], constants)
			if name, _ := literal(call.Args[0]); name == "incident" {
				if id, ok := call.Args[1].(*ast.Ident); ok && constants[id.Name] != "" {
					f.incidents[constants[id.Name]] = true
				} else if text, ok := literal(call.Args[1]); ok {
					f.incidents[text] = true
				}
			}
			return true
		})
	}
}

// makesFact reports a call of ledger.Int, Code, Hash or Instant.
func makesFact(fun ast.Expr, dir string) bool {
	of := []string{"Int", "Code", "Hash", "Instant"}
	switch fun := fun.(type) {
	case *ast.SelectorExpr:
		x, ok := fun.X.(*ast.Ident)
		return ok && x.Name == "ledger" && slices.Contains(of, fun.Sel.Name)
	case *ast.Ident:
		return dir == "ledger" && slices.Contains(of, fun.Name)
	}
	return false
}

// name takes in the name of one fact.
func (f *facts) name(file, at string, e ast.Expr, constants map[string]string) {
	if text, ok := literal(e); ok {
		f.names[text] = at
		return
	}
	if id, ok := e.(*ast.Ident); ok && constants[id.Name] != "" {
		f.names[constants[id.Name]] = at
		return
	}
	// would+"gone": a name with "would." before it in a dry run.
	if sum, ok := e.(*ast.BinaryExpr); ok {
		if x, isName := sum.X.(*ast.Ident); isName && x.Name == "would" {
			if text, ok := literal(sum.Y); ok {
				f.names[text], f.names["would."+text] = at, at
				return
			}
		}
	}
	if len(madeUp[file]) == 0 {
		f.loose = append(f.loose, at)
	}
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// sources are the files of a package, without its tests.
func sources(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no source: %v", dir, err)
	}
	return slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
}

// source is their text.
func source(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range sources(t, dir) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// docs/events.md tells every kind of entry, every public fact and every incident
// that the code knows, and no other.
func TestFactsAreDocumented(t *testing.T) {
	t.Parallel()
	f := facts{names: map[string]string{}, incidents: map[string]bool{}, kinds: map[string]bool{}}
	for _, dir := range factMakers {
		f.read(t, dir)
	}
	for file, list := range madeUp {
		src := source(t, filepath.Dir(file))
		for _, name := range list {
			f.names[name] = file
			if word, _, _ := strings.Cut(name, "."); !strings.Contains(src, `"`+word) {
				t.Errorf("%s does not write the fact %s", file, name)
			}
		}
	}
	for _, at := range f.loose {
		t.Errorf("%s: the name of this fact is put together, and madeUp does not say how it is written in docs/events.md", at)
	}
	if len(f.names) < 50 || len(f.kinds) < 10 || len(f.incidents) < 2 {
		t.Fatalf("found %d facts, %d kinds and %d incidents: the test looks at the wrong place", len(f.names), len(f.kinds), len(f.incidents))
	}
	text, err := os.ReadFile("docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, ok := strings.Cut(string(text), "\n## In the ledger\n")
	if !ok {
		t.Fatal("docs/events.md has no part about the ledger")
	}
	for _, name := range slices.Sorted(maps.Keys(f.names)) {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("%s: docs/events.md does not tell of the fact %s", f.names[name], name)
		}
	}
	for code := range f.incidents {
		if !strings.Contains(page, "`"+code+"`") {
			t.Errorf("docs/events.md does not tell of the incident %s", code)
		}
	}
	told := map[string]bool{}
	word := regexp.MustCompile("`([^`]+)`")
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*) \\|$").FindAllStringSubmatch(page, -1) {
		told[row[1]] = true
		if !f.kinds[row[1]] {
			t.Errorf("docs/events.md tells of entries %s, which there are not", row[1])
		}
		for _, m := range word.FindAllStringSubmatch(row[2], -1) {
			if _, ok := f.names[m[1]]; !ok {
				t.Errorf("docs/events.md tells of the fact %s of %s, which there is not", m[1], row[1])
			}
		}
	}
	for kind := range f.kinds {
		if !told[kind] {
			t.Errorf("docs/events.md does not tell of entries %s", kind)
		}
	}
}
