package epitaph_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxLines is the most lines of a file; main has at most maxMain.
const (
	maxLines = 600
	maxMain  = 25
)

// unwelcome are names of packages that say nothing of what is in them.
var unwelcome = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "shared"}

// TestHouseStyle reads every Go file outside of tests. It holds what a reader
// may rely on: short files, no state set up behind his back, and nothing below
// the command line that ends the process or writes to a terminal.
func TestHouseStyle(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		pkg, ok := own(p.ImportPath)
		if !ok {
			continue
		}
		if slices.Contains(unwelcome, p.Name) || slices.Contains(unwelcome, filepath.Base(pkg)) {
			t.Errorf("package %s: the name says nothing", pkg)
		}
		for _, name := range p.GoFiles {
			for _, fault := range fileFaults(t, pkg, filepath.Join(p.Dir, name)) {
				t.Errorf("%s/%s: %s", pkg, name, fault)
			}
		}
	}
}

// speaks reports whether a package may end the process and print: the command
// line, programs, and tools of the project.
func speaks(pkg string) bool {
	for _, top := range []string{"internal/cli", "cmd", "scripts", "examples", "bench", "internal/testserver"} {
		if pkg == top || strings.HasPrefix(pkg, top+"/") {
			return true
		}
	}
	return false
}

func fileFaults(t *testing.T, pkg, path string) []string {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sourceFaults(t, pkg, filepath.Base(path), string(src))
}

func sourceFaults(t *testing.T, pkg, name, src string) (bad []string) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "", src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(src, "\n"); n > maxLines {
		bad = append(bad, "is too long")
	} else if strings.HasPrefix(pkg, "cmd/") && name == "main.go" && n > maxMain {
		bad = append(bad, "main does more than start")
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			bad = append(bad, "has an init function")
		}
	}
	if speaks(pkg) {
		return bad
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		switch name := x.Name + "." + sel.Sel.Name; name {
		case "os.Exit", "os.Stdout", "os.Stderr", "fmt.Print", "fmt.Println", "fmt.Printf", "log.Fatal", "log.Fatalf", "log.Print", "log.Printf", "slog.Info", "slog.Error", "slog.Default":
			bad = append(bad, "uses "+name+" on line "+fset.Position(sel.Pos()).String())
		}
		return true
	})
	return bad
}

func TestHouseStyleCatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pkg, src string }{
		{"purge", "package purge\nimport \"os\"\nfunc f() { os.Exit(1) }\n"},
		{"purge", "package purge\nimport \"fmt\"\nfunc f() { fmt.Println(1) }\n"},
		{"purge", "package purge\nfunc init() {}\n"},
		{"internal/cli", "package cli\nfunc init() {}\n"},
		{"purge", "package purge\n" + strings.Repeat("\n", maxLines)},
		{"cmd/epitaph", "package main\n" + strings.Repeat("\n", maxMain)},
	} {
		if len(sourceFaults(t, c.pkg, "main.go", c.src)) == 0 {
			t.Errorf("%s: nothing was said against %.60q", c.pkg, c.src)
		}
	}
	if got := sourceFaults(t, "internal/cli", "cli.go", "package cli\nimport \"os\"\nfunc f() { os.Exit(1) }\n"); len(got) != 0 {
		t.Errorf("the command line may exit: %q", got)
	}
}
