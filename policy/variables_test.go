package policy_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/policy"
)

// withPurpose parses the base policy with a purpose, written as YAML.
func withPurpose(t *testing.T, purpose string, vars map[string]string) (string, error) {
	t.Helper()
	src := strings.Replace(base, "    where: a = 1", "    purpose: "+purpose, 1)
	p, err := policy.Parse("p.yaml", []byte(src), policy.LookupIn(vars))
	if err != nil {
		return "", err
	}
	r, _ := p.Rule("records")
	return r.Purpose, nil
}

func TestVariables(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"A": "one", "B_2": "two", "EMPTY": "", "DOLLAR": "$A ${A} $$", "YAML": "x\nrules: {}", "BRACE": "{id}"}
	for _, c := range []struct{ in, want string }{
		{`${A}`, "one"},
		{`"${A}"`, "one"},
		{`'${A} and ${B_2}'`, "one and two"},
		{`x${A}${A}y`, "xoneoney"},
		{`"${NONE:-three}"`, "three"},
		{`"${A:-three}"`, "one"},
		{`"a ${NONE:-}"`, "a"},
		{`"a ${NONE:-$$5}"`, "a $5"},
		{`"a ${NONE:-b:-c}"`, "a b:-c"},
		{`"x ${EMPTY:-default}"`, "x"}, // set to nothing is set
		{`"$${A}"`, "${A}"},
		{`"$$$${A}"`, "$${A}"},
		{`"$$${A}"`, "$one"},
		{`"${DOLLAR}"`, "$A ${A} $$"}, // never expanded again
		{`"${YAML}"`, "x\nrules: {}"}, // and never read as YAML
		{"|\n      ${A}\n      two", "one\ntwo"},
	} {
		if got, err := withPurpose(t, c.in, vars); err != nil || got != c.want {
			t.Errorf("%s = %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	for _, c := range []struct{ in, want string }{
		{`"${NONE}"`, "p.yaml:12:15: the variable NONE is not set"},
		{`"ab ${NONE}"`, "p.yaml:12:18: the variable NONE is not set"},
		{`"$A"`, "a lone $"},
		{`"5 $"`, "a lone $"},
		{`"${A"`, "${ without its closing }"},
		{`"${}"`, "this is not a variable"},
		{`"${2A}"`, "this is not a variable"},
		{`"${A-b}"`, "this is not a variable"},
		{`"${A:?no}"`, "this is not a variable"},
		{`"${ A }"`, "this is not a variable"},
		{`"${NONE:-${A}}"`, "a default cannot hold another variable"},
		{`"${A} ${NONE} ${NEITHER}"`, "the variable NEITHER is not set"},
		{`"${EMPTY}"`, "purpose is empty"},
	} {
		if _, err := withPurpose(t, c.in, vars); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gives %v, want %q", c.in, err, c.want)
		}
	}
	if _, err := withPurpose(t, "${BIG}", map[string]string{"BIG": strings.Repeat("x", 65537)}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a value of 64 KiB and one byte: %v", err)
	}
	if _, err := withPurpose(t, "${NUL}", map[string]string{"NUL": "a\x00b"}); err == nil || !strings.Contains(err.Error(), "control character") {
		t.Errorf("a value with a NUL: %v", err)
	}
	if _, err := withPurpose(t, "${RAW}", map[string]string{"RAW": "a\xffb"}); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("a value that is not UTF-8: %v", err)
	}
}

// A variable in a key is no variable: a value cannot name a store or a rule.
func TestVariablesAreNotReadInKeys(t *testing.T) {
	t.Parallel()
	src := strings.Replace(base, "  records:", `  "${A}":`, 1)
	if _, err := policy.Parse("p.yaml", []byte(src), policy.LookupIn(map[string]string{"A": "records"})); err == nil {
		t.Error("a variable was filled into a key")
	}
}

func TestSwitchesFromVariables(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"true": "on", "TRUE": "on", "1": "on", "yes": "on", "Yes": "on",
		"false": "off", "False": "off", "0": "off", "no": "off",
		"": "EMPTY", "maybe": "bad", "2": "bad", " true": "bad", "on": "bad",
	} {
		src := base + "enabled: \"${E}\"\ndry_run: ${E}\n"
		p, err := policy.Parse("p.yaml", []byte(src), policy.LookupIn(map[string]string{"E": in}))
		switch {
		case want == "on" || want == "off":
			if err != nil || p.Enabled != (want == "on") || p.DryRun != (want == "on") {
				t.Errorf("E=%q: %v", in, err)
			}
		case err == nil:
			t.Errorf("E=%q is taken as a switch", in)
		case want == "EMPTY" && !strings.Contains(err.Error(), "the value of E is empty"):
			t.Errorf("E=%q: %v", in, err)
		}
	}
}

func TestNumbersFromVariables(t *testing.T) {
	t.Parallel()
	src := strings.Replace(base, "{items: 10}", `{items: "${N:-7}", share: "${S:-5}%"}`, 1)
	for in, want := range map[string]int64{"12": 12, "0": 0, "-1": 0, "": 0, "x": 0, "010": 0, "1_0": 0} {
		p, err := policy.Parse("p.yaml", []byte(src), policy.LookupIn(map[string]string{"N": in}))
		if want == 0 && err == nil || want != 0 && (err != nil || p.Limits.Items != want) {
			t.Errorf("N=%q: %v", in, err)
		}
	}
	p, err := policy.Parse("p.yaml", []byte(src), nil)
	if err != nil || p.Limits.Items != 7 || p.Limits.Share != 50_000 {
		t.Errorf("defaults: %v", err)
	}
}

func TestLookupsPrecedence(t *testing.T) {
	t.Parallel()
	l := policy.Lookups(policy.LookupIn(map[string]string{"A": "flag", "E": ""}), nil, policy.LookupIn(map[string]string{"A": "env", "B": "env", "E": "env"}))
	for name, want := range map[string]string{"A": "flag", "B": "env", "E": "", "C": "(unset)"} {
		got, ok := l(name)
		if !ok {
			got = "(unset)"
		}
		if got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestParseDotenv(t *testing.T) {
	t.Parallel()
	src := "\ufeff# a comment\r\n\r\nA=1\nexport B=two words # a comment\n  C = spaced\nD=\nE=''\nF='$A #x' # y\n" +
		"G=\"a\\n\\\"b\\\" \\$c \\\\ #\"\nH=a#b\nI=#\nURL=postgres://u:p@h/d?x=1#y\n_j2=x=y\nK=it's\n"
	want := map[string]string{
		"A": "1", "B": "two words", "C": "spaced", "D": "", "E": "", "F": "$A #x", "G": "a\n\"b\" $c \\ #", "H": "a#b", "I": "",
		"URL": "postgres://u:p@h/d?x=1#y", "_j2": "x=y", "K": "it's",
	}
	got, err := policy.ParseDotenv(".env", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestParseDotenvErrors(t *testing.T) {
	t.Parallel()
	src := "A=hunter2\nhunter2\nA-B=hunter2\nC='hunter2\nD=\"hunter2\nE='a'hunter2\nF=\"hunter2\\x\"\nA=hunter2\n=hunter2\nG='a'#hunter2\n"
	_, err := policy.ParseDotenv("x/.env", []byte(src))
	var errs *policy.Errors
	if !errors.As(err, &errs) || len(errs.Problems) != 9 {
		t.Fatalf("want nine problems, got %v", err)
	}
	for i, p := range errs.Problems {
		if p.Pos.Line != i+2 || p.Hint == "" {
			t.Errorf("problem %d is at line %d, hint %q", i, p.Pos.Line, p.Hint)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error repeats a secret:\n%v", err)
	}
	for name, src := range map[string]string{"large": strings.Repeat("#", 1<<20+1), "binary": "A=\xff", "nul": "A=\x00"} {
		if _, err := policy.ParseDotenv(".env", []byte(src)); err == nil {
			t.Errorf("%s file is taken", name)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Flag before environment before .env before the default in the file.
func TestLoadPrecedence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "epitaph.yaml")
	write(t, path, strings.Replace(base, "retain: 14d\n    rows", "retain: \"${DAYS:-1}d\"\n    rows", 1))
	days := func(vars policy.Lookup) string {
		p, err := policy.Load(path, vars)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := p.Rule("records")
		return r.Retain.String()
	}
	if got := days(nil); got != "1d" {
		t.Errorf("default: %s", got)
	}
	write(t, filepath.Join(dir, ".env"), "DAYS=2\n")
	if got := days(nil); got != "2d" {
		t.Errorf(".env: %s", got)
	}
	env := policy.LookupIn(map[string]string{"DAYS": "3"})
	if got := days(env); got != "3d" {
		t.Errorf("environment: %s", got)
	}
	if got := days(policy.Lookups(policy.LookupIn(map[string]string{"DAYS": "4"}), env)); got != "4d" {
		t.Errorf("flag: %s", got)
	}
	p, err := policy.Load(path, nil)
	if err != nil || p.Resolve("data") != filepath.Join(dir, "data") || p.Resolve("/data") != "/data" {
		t.Errorf("Resolve: %v", err)
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "epitaph.yaml")
	if _, err := policy.Load(path, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing policy: %v", err)
	}
	if _, err := policy.Load(dir, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	write(t, path, base)
	write(t, filepath.Join(dir, ".env"), "nonsense\n")
	var errs *policy.Errors
	if _, err := policy.Load(path, nil); !errors.As(err, &errs) || errs.File != filepath.Join(dir, ".env") {
		t.Errorf("bad .env: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, ".env")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".env"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load(path, nil); err == nil || !strings.Contains(err.Error(), "read variables") {
		t.Errorf("a .env that is a directory must not be passed over: %v", err)
	}
	write(t, filepath.Join(dir, "large.yaml"), strings.Repeat("#", 1<<20+1))
	if err := os.Remove(filepath.Join(dir, ".env")); err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load(filepath.Join(dir, "large.yaml"), nil); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("large policy: %v", err)
	}
}
