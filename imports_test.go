package epitaph_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/epitaph/epitaph"

// allowed is the table of docs/design.md: what each package may import of ours,
// outside its tests. A name that ends in /... stands for the package and all
// below it. A package that is not listed may not exist.
var allowed = map[string][]string{
	"connector":     {},
	"proof":         {},
	"ledger":        {"proof"},
	"policy":        {"connector", "custody/words"},
	"connector/...": {"connector"},
	"plan":          {"connector", "policy"},
	"report":        {"ledger", "proof"},
	"purge":         {"connector", "policy", "plan", "ledger"},
	"owner":         {"ledger"},
	"custody/words": {},
	"custody":       {"connector", "custody/words", "ledger", "owner", "policy", "purge"},
	// A session is a directory tree by nature: it resolves paths as files does.
	"session":                {"connector", "connector/files", "ledger", "owner", "purge"},
	".":                      {"connector", "policy", "plan", "ledger", "proof", "report", "purge", "custody", "session"},
	"internal/daemon":        {"."},
	"internal/server":        {"."},
	"internal/cli":           {"*"},
	"internal/demo":          {},
	"internal/testserver":    {},
	"cmd/epitaph":            {"internal/cli"},
	"cmd/epitaph-verify":     {"proof"}, // offline: no database
	"scripts/...":            {},
	"connector/rows/...":     {"connector", "connector/rows/..."},
	"connector/files/...":    {"connector", "connector/files/..."},
	"connector/objects/...":  {"connector", "connector/objects/..."},
	"ledger/...":             {"proof", "ledger/..."},
	"examples/...":           {"internal/demo"},
	"examples/reflector/...": {"examples/reflector"},
	"examples/sessions/...":  {"ledger", "session"},
	"bench/...":              {"*"},
}

// drivers may be linked by the command line, the concrete connectors and the
// ledger only: a program that embeds the engine chooses its own.
var drivers = []string{"github.com/jackc/pgx", "modernc.org/sqlite", "github.com/go-sql-driver/mysql", "github.com/aws/aws-sdk-go-v2"}

var driverUsers = []string{"connector/rows", "connector/objects", "ledger", "internal", "examples", "bench"}

// listed is what go list tells of a package.
type listed struct {
	ImportPath string
	Name       string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Dir,GoFiles,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}

// own returns the path of a package of ours relative to the module.
func own(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// rowOf finds the row of the table for a package: its own, or the longest that
// stands for what is below.
func rowOf(pkg string) ([]string, bool) {
	if row, ok := allowed[pkg]; ok {
		return row, true
	}
	for dir := pkg; dir != ""; {
		if row, ok := allowed[dir+"/..."]; ok {
			return row, true
		}
		i := strings.LastIndexByte(dir, '/')
		if i < 0 {
			break
		}
		dir = dir[:i]
	}
	return nil, false
}

func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		below, tree := strings.CutSuffix(p, "/...")
		return p == "*" || p == pkg || tree && (pkg == below || strings.HasPrefix(pkg, below+"/"))
	})
}

// faults names every arrow that the table does not allow.
func faults(all []listed) []string {
	var bad []string
	for _, p := range all {
		pkg, ok := own(p.ImportPath)
		if !ok {
			continue
		}
		row, known := rowOf(pkg)
		if !known {
			bad = append(bad, pkg+" has no place in the table of docs/design.md")
			continue
		}
		for _, imp := range p.Imports {
			if to, ok := own(imp); ok && !matches(row, to) {
				bad = append(bad, pkg+" must not import "+to)
			}
			if slices.ContainsFunc(drivers, func(d string) bool { return imp == d || strings.HasPrefix(imp, d+"/") }) &&
				!slices.ContainsFunc(driverUsers, func(d string) bool { return pkg == d || strings.HasPrefix(pkg, d+"/") }) {
				bad = append(bad, pkg+" must not link a driver: "+imp)
			}
		}
	}
	return bad
}

func TestImportsFollowTheDesign(t *testing.T) {
	t.Parallel()
	for _, f := range faults(packages(t)) {
		t.Error(f)
	}
}

// A table that lets everything through would pass the test above too.
func TestImportTableCatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pkg, imports string
		ok           bool
	}{
		{"plan", "ledger", false},
		{"plan", "purge", false},
		{"plan", "policy", true},
		{"policy", "plan", false},
		{"connector", "policy", false},
		{"connector/rows", "connector", true},
		{"connector/rows", "connector/files", false},
		{"connector/rows", "ledger", false},
		{"ledger", "connector", false},
		{"report", "purge", false},
		{".", "connector/rows", false},
		{".", "purge", true},
		{"purge", "connector/files", false},
		{"internal/cli", "connector/rows", true},
		{"cmd/epitaph", "purge", false},
		{"util", "connector", false},
	} {
		path := module + "/" + c.pkg
		if c.pkg == "." {
			path = module
		}
		got := faults([]listed{{ImportPath: path, Imports: []string{strings.TrimSuffix(module+"/"+c.imports, "/.")}}})
		if (len(got) == 0) != c.ok {
			t.Errorf("%s → %s: got %q, want ok=%t", c.pkg, c.imports, got, c.ok)
		}
	}
	if got := faults([]listed{{ImportPath: module + "/purge", Imports: []string{"modernc.org/sqlite"}}}); len(got) == 0 {
		t.Error("purge may link a driver")
	}
}
