package policy_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/epitaph/epitaph/policy"
)

// check asserts what holds for every input: no panic, an answer in time, either
// a policy or problems, and problems that name a place in the file. It reports
// whether src is a policy.
func check(t *testing.T, src []byte) bool {
	const secret = "s3cr3t-v4lue"
	vars := policy.LookupIn(map[string]string{"DATABASE_URL": "postgres://u:" + secret + "@h/d", "A": secret, "E": ""})
	p, err := policy.Parse("p.yaml", src, vars)
	if err == nil {
		if p.Hash == [32]byte{} || len(p.Rules) == 0 && (!bytes.Contains(src, []byte("custody")) || p.Schedule != "") {
			t.Fatal("a policy that is not whole")
		}
		for i := range p.Rules {
			r := &p.Rules[i]
			if r.Retain.IsZero() || r.Limits.Items < 1 || r.Limits.Share < 1 || r.Store == "" {
				t.Fatalf("a rule that is not whole: %+v", r)
			}
			r.Query(r.Cutoff(time.Unix(0, 0)))
			for _, part := range r.Parts {
				again, err := policy.ParseTemplate(part.Path.String())
				if err != nil || again.String() != part.Path.String() {
					t.Fatalf("template %q reads back as %q, %v", part.Path, again, err)
				}
				if loc := part.Path.Fill(make([]string, len(part.Path.Refs))); part.Kind == policy.Files && strings.HasPrefix("/"+loc, "/../") {
					t.Fatalf("template %q climbs", part.Path)
				}
			}
		}
		return true
	}
	var errs *policy.Errors
	if p != nil || !errors.As(err, &errs) || len(errs.Problems) == 0 || len(errs.Problems) > 100 {
		t.Fatalf("not an answer: %v, %v", p, err)
	}
	lines := bytes.Count(src, []byte("\n")) + 1
	for _, problem := range errs.Problems {
		// YAML counts three more characters as ends of lines.
		breaks := lines + bytes.Count(src, []byte("\r")) + bytes.Count(src, []byte("\u0085")) + bytes.Count(src, []byte("\u2028")) + bytes.Count(src, []byte("\u2029"))
		if problem.Text == "" || problem.Pos.Line > breaks+1 || problem.Pos.Column < 0 {
			t.Fatalf("problem without a place: %+v", problem)
		}
	}
	text := err.Error()
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\x1b\x00\r") || strings.Contains(text, secret) && !bytes.Contains(src, []byte(secret)) {
		t.Fatalf("an error that is not fit to be shown: %q", text)
	}
	if len(text) > 100*2000 {
		t.Fatalf("an error of %d bytes", len(text))
	}
	return false
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/valid/*.yaml", "testdata/invalid/*.yaml"} {
		for _, path := range fixtures(f, pattern) {
			src, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	for _, c := range classes {
		f.Add([]byte(strings.Replace(base, c.old, c.new, 1)))
	}
	f.Fuzz(func(t *testing.T, src []byte) { check(t, src) })
}

func FuzzDotenv(f *testing.F) {
	f.Add([]byte("A=1\nexport B=\"x\\n\" # c\nC='d'\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		vars, err := policy.ParseDotenv(".env", src)
		if (vars == nil) == (err == nil) {
			t.Fatalf("%v, %v", vars, err)
		}
	})
}

func FuzzParsePeriod(f *testing.F) {
	f.Add("1y6mo")
	f.Add("-1d")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := policy.ParsePeriod(s)
		if err != nil {
			return
		}
		if q, err := policy.ParsePeriod(p.String()); err != nil || q != p || p.IsZero() {
			t.Fatalf("%q reads as %v and again as %v, %v", s, p, q, err)
		}
		now := time.Unix(1_800_000_000, 0)
		if !p.Before(now).Before(now) || !p.After(now).After(now) {
			t.Fatalf("%q does not move the clock", s)
		}
	})
}

// worked is how long the process has had a processor.
func worked(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Input made to exhaust a reader is refused within its bounds. Not parallel: the
// time is that of the process.
func TestHostileInput(t *testing.T) {
	rules := func(body string) string {
		return "version: 1\nstores: {app: {rows: x}, d: {files: x}}\nrules:\n" + body
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "x]\n"
	}
	for name, src := range map[string]string{
		"brackets":      strings.Repeat("[", 100_000),
		"braces":        strings.Repeat("{a: ", 50_000),
		"hyphens":       strings.Repeat("- ", 100_000),
		"indent":        strings.Repeat("? ", 100_000),
		"alias bomb":    bomb,
		"self alias":    "a: &a [*a]\n",
		"many keys":     strings.Repeat("k: 1\n", 30_000),
		"many nodes":    rules("  a: {parts: [" + strings.Repeat("x,", 60_000) + "]}"),
		"many rules":    rules(strings.Repeat("  a: {}\n", 20_000)),
		"long key":      rules("  " + strings.Repeat("k", 1000) + ": {}\n"),
		"huge key":      strings.Repeat("k", 1<<19) + ": 1\n",
		"long value":    rules("  a: {retain: " + strings.Repeat("9", 500_000) + "d, rows: app.t, anchor: {column: c}}"),
		"glob":          rules("  a: {retain: 1d, files: \"d:" + strings.Repeat("{a,b,", 800) + strings.Repeat("}", 800) + "\", anchor: modified}"),
		"wide glob":     rules("  a: {retain: 1d, files: \"d:" + strings.Repeat("{a,b}", 800) + "\", anchor: modified}"),
		"deep glob":     rules("  a: {retain: 1d, files: \"d:" + strings.Repeat("{", 2000) + "a,b" + strings.Repeat("}", 2000) + "\", anchor: modified}"),
		"on":            rules("  a: {retain: 1d, rows: app.t, anchor: {column: c}, parts: [{rows: app.l, on: \"" + strings.Repeat("l.a = t.b AND ", 30_000) + "\"}]}"),
		"path":          rules("  a: {retain: 1d, rows: app.t, anchor: {column: c}, parts: [{files: \"d:{a" + strings.Repeat("->b", 100_000) + "}\"}]}"),
		"parentheses":   rules("  a: {retain: 1d, rows: app.t, anchor: {column: c}, where: \"" + strings.Repeat("(", 400_000) + "\"}"),
		"variables":     rules("  a: {retain: 1d, rows: app.t, anchor: {column: c}, purpose: \"" + strings.Repeat("${A}", 30_000) + "\"}"),
		"cron":          "version: 1\nschedule: \"" + strings.Repeat("1,", 200_000) + "1 * * * *\"\n",
		"cron range":    "version: 1\nschedule: \"0-99999999999 * * * *\"\n",
		"cron step":     "version: 1\nschedule: \"*/0 * * * *\"\n",
		"zone":          "version: 1\nzone: \"" + strings.Repeat("a/", 100_000) + "\"\n",
		"tags":          strings.Repeat("!a ", 1000) + "x",
		"directive":     "%YAML 9.9\n---\na: 1\n",
		"huge":          strings.Repeat("#", 1<<21),
		"nul":           "version: 1\x00\n",
		"carriage":      strings.Repeat("\r", 20_000),
		"utf-16":        "\xff\xfev\x00e\x00",
		"only bom":      "\ufeff",
		"documents":     strings.Repeat("---\n", 20_000),
		"nothing":       "",
		"null":          "~",
		"second broken": "version: 1\n---\n[",
	} {
		start := worked(t)
		if check(t, []byte(src)) {
			t.Errorf("%s is taken as a policy", name)
		}
		// Far above what a slow machine needs, far below what a square of the size
		// takes; what others do on it does not count.
		if d := worked(t) - start; d > 20*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
	}
}
