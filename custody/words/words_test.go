package words_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/custody/words"
)

func TestOwnActions(t *testing.T) {
	t.Parallel()
	v, err := words.NewVocabulary(words.Action{Name: "scan_made", Kind: words.Created, Due: time.Hour},
		words.Action{Name: "work_copy_created", Due: 2 * time.Hour}, words.Action{Name: "nas_raw_created", Temporary: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]words.Action{
		"scan_made":              {Name: "scan_made", Kind: words.Created, Temporary: true, Due: time.Hour},
		"work_copy_created":      {Name: "work_copy_created", Kind: words.Copied, Temporary: true, Due: 2 * time.Hour},
		"nas_raw_created":        {Name: "nas_raw_created", Kind: words.Created, Temporary: true},
		"precheck_upload_staged": {Name: "precheck_upload_staged", Kind: words.Created, Temporary: true},
		"conversion_started":     {Name: "conversion_started", Kind: words.Started, Work: "conversion"},
	} {
		if got, ok := v.Find(name); !ok || got != want {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	for _, bad := range [][]words.Action{
		{{Name: "nas_raw_deleted", Due: time.Hour}},
		{{Name: "nas_raw_created", Kind: words.Created}},
		{{Name: "nas_raw_created", Work: "x"}},
		{{Name: "a", Kind: words.Created}, {Name: "a", Kind: words.Created}},
		{{Name: "a", Kind: words.Created}, {Name: "a"}},
		{{Name: "a", Kind: words.Created, Due: -1}},
		{{Name: "a", Kind: words.Deleted, Temporary: true}},
	} {
		if _, err := words.NewVocabulary(bad...); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestKindNames(t *testing.T) {
	t.Parallel()
	names := words.KindNames()
	if len(names) != int(words.Noted) {
		t.Errorf("%d kinds", len(names))
	}
	for _, n := range names {
		if k, ok := words.KindNamed(n); !ok || k.String() != n {
			t.Errorf("%s is %v", n, k)
		}
	}
	for _, n := range []string{"", "none", "Created"} {
		if k, ok := words.KindNamed(n); ok || k != 0 {
			t.Errorf("%q is %v", n, k)
		}
	}
}

func TestPairs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ file, beside, in, path, want string }{
		{"*.csv", "*.duckdb", "", "a.csv", "a.duckdb"},
		{"*.csv", "*.duckdb", "", "5/2024/a.b.csv", "5/2024/a.b.duckdb"},
		{"*.csv", "*.duckdb", "", "a.csv.gz", ""},
		{"*.csv", "all.duckdb", "", "d/a.csv", "d/all.duckdb"},
		{"*.csv", "*.duckdb", "db", "d/a.csv", "a.duckdb"},
		{"*/raw/*.csv", "*/duckdb/*.duckdb", "", "5/raw/a.csv", "5/duckdb/a.duckdb"},
		{"*/raw/*.csv", "*/duckdb/*.duckdb", "", "5/6/raw/a.csv", ""},
		{"**/raw/*.csv", "**/duckdb/*.duckdb", "", "5/2024/raw/a.csv", "5/2024/duckdb/a.duckdb"},
		{"**/raw/*.csv", "**/duckdb/*.duckdb", "", "raw/a.csv", "duckdb/a.duckdb"},
		{"**/*.csv", "*.duckdb", "", "a/b/c.csv", "a/b/c.duckdb"},
		{"*_*.csv", "*-*.db", "", "x_y_z.csv", "x_y-z.db"},
		{"[ab]?.csv", "x.db", "", "b1.csv", "x.db"},
		{"[!ab]*.csv", "*.db", "", "b1.csv", ""},
		{"[!ab]*.csv", "*.db", "", "c1.csv", "1.db"},
		{"a.csv", "b", "", "aXcsv", ""},
		{"*.csv", "*.db", "", "new\nline.csv", "new\nline.db"},
		{"*.csv", "*.db", "", "\xff.csv", "\xff.db"},
		{"*.ö", "*.ü", "", "a.ö", "a.ü"},
	} {
		p, err := words.Pair{File: c.file, Beside: c.beside, In: c.in}.Compile()
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		if got, ok := p.Other(c.path); got != c.want || ok != (c.want != "") {
			t.Errorf("%s=%s: of %q it wants %q, not %q", c.file, c.beside, c.path, got, c.want)
		}
	}
	for _, c := range []struct{ file, beside, field string }{
		{"", "x", "file"}, {"*.csv", "", "beside"}, {"[", "x", "file"}, {"[]a", "x", "file"}, {"[z-a]", "x", "file"}, {"/a", "x", "file"},
		{"a/", "x", "file"}, {"a//b", "x", "file"}, {"../a", "x", "file"}, {"a/**", "x", "file"}, {"**a/b", "x", "file"}, {"\xff", "x", "file"},
		{strings.Repeat("a", 5000), "x", "file"}, {"*.csv", "**/*.db", "beside"}, {"a.csv", "*.db", "beside"}, {"*.csv", "../*.db", "beside"},
		{"*?", "a?", "beside"}, {"*[ab]", "[ab]", "beside"},
	} {
		_, err := words.Pair{File: c.file, Beside: c.beside}.Compile()
		var bad *words.PairError
		if !errors.As(err, &bad) || bad.Field != c.field {
			t.Errorf("%.20q=%q: %v", c.file, c.beside, err)
		}
	}
}
