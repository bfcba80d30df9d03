package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
)

// alsoOf returns by which columns else, and with which values, the first part of the
// first rule is looked for when it was named by the tuple.
func alsoOf(t *testing.T, parts string, tuple ...string) (words []string) {
	t.Helper()
	const head = `version: 1
stores:
  app: {rows: "sqlite:app.db"}
  other: {rows: "sqlite:other.db"}
  disk: {files: /data}
  again: {files: /data/}
  scratch: {files: /scratch}
  sub: {files: /data/sub}
  here: {files: .}
  below: {files: ./below/}
  beside: {files: /data/submarine}
  media: {objects: "s3://media-bucket"}
  twin: {objects: "s3://twin-bucket", endpoint: "https://s3.example.org"}
  tracks: {objects: "s3://tracks-bucket/rec"}
  any: {objects: "s3://", buckets: ["any-*"]}
rules:
`
	src := head
	if strings.Contains(parts, "double:") { // of a bucket of two stores no row can name it
		src = strings.Replace(head, "rules:\n", "  double: {objects: \"s3://twin-bucket\", endpoint: \"https://s3.example.org/\"}\nrules:\n", 1)
	}
	for i, rule := range strings.Split(strings.TrimSpace(parts), "\n") {
		store, list, _ := strings.Cut(strings.TrimSpace(rule), " ")
		src += fmt.Sprintf("  r%d:\n    retain: 1d\n    rows: %s\n    anchor: {column: at}\n    parts:\n", i, store)
		for _, p := range strings.Fields(list) {
			kind := "objects"
			if s, _, _ := strings.Cut(p, ":"); slices.Contains([]string{"disk", "again", "scratch", "sub", "beside", "here", "below"}, s) {
				kind = "files"
			}
			src += fmt.Sprintf("      - %s: \"%s\"\n", kind, p)
		}
	}
	p, err := policy.Parse("epitaph.yaml", []byte(src), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	for _, a := range p.Rules[0].Parts[0].Want.Also {
		values, ok := a.Of(connector.Tuple(tuple))
		if !ok {
			continue
		}
		var all []string
		for i, r := range a.Refs {
			each := ""
			if r.Each {
				each = "[*]"
			}
			all = append(all, fmt.Sprintf("%s.%s%s=%s", r.Table, r.Column, each, values[i]))
		}
		words = append(words, strings.Join(all, " "))
	}
	for _, f := range p.Unguarded(&p.Rules[0]) {
		parts := strings.Split(f.Text, ": ")
		words = append(words, f.Subject+" "+parts[len(parts)-1])
	}
	return words
}

func TestOneThingInOtherWords(t *testing.T) {
	for _, c := range []struct{ name, parts, tuple, want string }{
		{"the same column is looked at anyway", "app.a media:{key}\napp.a media:{key}", "k", ""},
		{"another column", "app.a media:{key} media:{other}", "k", "a.other=k"},
		{"an array", "app.a media:{key} media:{keys[*]}", "k", "a.keys[*]=k"},
		{"another rule", "app.a media:{key}\napp.b media:{file}", "k", "b.file=k"},
		{"the rule's own table and a linked one", "app.a media:{b.key} media:{key}", "k", "a.key=k"},
		{"another bucket", "app.a media:{key}\napp.b twin:{file}", "k", ""},
		{"a longer name", "app.a media:{id}/audio.mp3 media:{key}", "7", "a.key=7/audio.mp3"},
		{"a shorter name", "app.a media:{key} media:{id}/audio.mp3", "7/audio.mp3", "a.id=7"},
		{"a name that is not made so", "app.a media:{key} media:{id}/audio.mp3", "7/audio.wav", ""},
		{"a name with nothing in it", "app.a media:{key} media:x/{id}", "x/", ""},
		{"ends that never meet", "app.a media:{id}/a.mp3 media:{id}/b.mp3", "7", ""},
		{"a bucket by the row", "app.a {bucket}:{key} media:{other}", "media-bucket k", "a.other=k"},
		{"another bucket by the row", "app.a {bucket}:{key} media:{other}", "tracks-bucket k", ""},
		{"a bucket that the row would name", "app.a media:{other} {bucket}:{key}", "k", "a.bucket=media-bucket a.key=k"},
		{"a bucket below a prefix", "app.a tracks:rec/{n} {bucket}:{keys[*]}", "1", "a.bucket=tracks-bucket a.keys[*]=rec/1"},
		{"both by the row", "app.a {bucket}:{key} {bucket}:{keys[*]}", "media-bucket k", "a.bucket=media-bucket a.keys[*]=k"},
		{"a store of any bucket", "app.a any:{place} {bucket}:{key}", "any-1/k/l", "a.bucket=any-1 a.key=k/l"},
		{"into a store of any bucket", "app.a {bucket}:{key} any:{place}", "any-1 k/l", "a.place=any-1/k/l"},
		{"a bucket written into the path", "app.a any:any-1/{key} {bucket}:rec/{n}", "rec/9", "a.bucket=any-1 a.n=9"},
		{"two values, alike", "app.a disk:{dir}/{name}\napp.b disk:{folder}/{file}", "d n", "b.folder=d b.file=n"},
		{"two values, not alike", "app.a disk:{path}\napp.b disk:{folder}/{file}", "d/n", "parts[0] which values made a name cannot be told from it"},
		{"two values into one", "app.a disk:{dir}/{name}\napp.b disk:{path}", "d n", "b.path=d/n"},
		{"one directory under two names", "app.a disk:{path}\napp.b again:{file}", "p", "b.file=p"},
		{"a directory in another", "app.a disk:{path}\napp.b sub:{file}", "sub/p", "b.file=p"},
		{"a directory around another", "app.a sub:{file}.mp3\napp.b disk:{path}", "p", "b.path=sub/p.mp3"},
		{"outside of the directory in another", "app.a disk:{path}\napp.b sub:{file}", "p", ""},
		{"a directory of a longer name", "app.a disk:{path}\napp.b beside:{file}", "sub/p", ""},
		{"beside a directory", "app.a sub:{path}\napp.b beside:{file}", "p", ""},
		{"the policy's own folder", "app.a below:{path}\napp.b here:{file}", "p", "b.file=below/p"},
		{"one bucket under two names", "app.a twin:{key}\napp.b double:{file}", "k", "b.file=k"},
		{"another directory", "app.a disk:{path}\napp.b scratch:{file}", "p", ""},
		{"a tree elsewhere", "app.a disk:x/{id}/\napp.b disk:y/{path}", "7", ""},
		{"two trees", "app.a disk:{id}/\napp.b disk:{run}/", "7", "b.run=7"},
		{"another database", "app.a media:{key}\nother.b media:{file}", "k", "parts[0] they are in another database"},
		{"a name of two tables", "app.a disk:{path}\napp.b disk:{id}/{c.name}", "p", "parts[0] their name is made of two tables"},
		{"a file in a tree", "app.a disk:{id}/\napp.b disk:{path}", "7", "parts[0] the directory may hold files that the part disk:{path} of the rule r1 names; they go with it, whichever rows still name them"},
		{"two values in a directory in another", "app.a disk:{dir}/{name}\napp.b sub:{folder}/{file}", "sub n", "parts[0] which values made a name cannot be told from it"},
		{"the same table of another database", "app.a media:{key}\nother.a media:{key}", "k", "parts[0] they are in another database"},
		{"one table of two databases", "app.a media:{key}\nother.b media:{file}\napp.b media:{file}", "k", "b.file=k, parts[0] they are in another database"},
		{"the row's own file in its tree", "app.a disk:{id}/ disk:{id}/a.mp3", "7", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(alsoOf(t, c.parts, strings.Fields(c.tuple)...), ", "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// What goes by its age takes what rows name, too: the check says so.
func TestRuleByAgeOverWhatRowsName(t *testing.T) {
	for _, c := range []struct {
		kind, taken, part string
		want              int
	}{
		{"objects", "media:exports/", "media:{key}", 1},
		{"objects", "media:exports/", "media:exports/{id}.zip", 1},
		{"objects", "media:exports/", "media:audio/{id}.mp3", 0},
		{"objects", "media:*", "{bucket}:{key}", 1},
		{"objects", "media:*", "other:{key}", 0},
		{"files", "disk:export-*.zip", "disk:files/{sha}.bin", 0},
		{"files", "disk:export-*.zip", "disk:{sha}.bin", 0},
		{"files", "disk:export-*.zip", "disk:{path}", 1},
		{"files", "disk:**/*.bin", "disk:files/{sha}.bin", 1},
	} {
		kind := "objects"
		if strings.HasPrefix(c.part, "disk:") {
			kind = "files"
		}
		src := fmt.Sprintf(`version: 1
stores: {app: {rows: "sqlite:app.db"}, disk: {files: /data}, media: {objects: "s3://media-bucket"}, other: {objects: "s3://other-bucket"}}
rules:
  aged: {retain: 1d, %s: "%s", anchor: modified}
  rows: {retain: 1d, rows: app.a, anchor: {column: at}, parts: [{%s: "%s"}]}
`, c.kind, c.taken, kind, c.part)
		p, err := policy.Parse("epitaph.yaml", []byte(src), nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, src)
		}
		if got := p.Unguarded(&p.Rules[0]); len(got) != c.want {
			t.Errorf("%s with %s: %v, want %d", c.taken, c.part, got, c.want)
		}
	}
}

// Two rules that set their rows and name the same thing would wait for each other.
func TestRulesThatWaitForEachOther(t *testing.T) {
	for then, want := range map[string]int{", then: {update: {gone: true}}": 2, "": 0} {
		src := `version: 1
stores: {app: {rows: "sqlite:app.db"}, disk: {files: /data}}
rules:
  one: {retain: 1d, rows: app.a, anchor: {column: at}, parts: [{files: "disk:{x}"}], then: {update: {gone: true}}}
  two: {retain: 1d, rows: app.a, where: y, anchor: {column: at}, parts: [{files: "disk:{x}"}]` + then + `}
  far: {retain: 1d, rows: app.a, anchor: {column: at}, parts: [{files: "disk:far/{x}.bin"}], then: {update: {gone: true}}}
`
		p, err := policy.Parse("epitaph.yaml", []byte(strings.Replace(src, "disk:{x}", "disk:near/{x}", 2)), nil)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i := range p.Rules {
			for _, f := range p.Unguarded(&p.Rules[i]) {
				if strings.Contains(f.Text, "each waits for the other") {
					n++
				}
			}
		}
		if n != want {
			t.Errorf("with %q: %d warnings, want %d", then, n, want)
		}
	}
}

// Each part is held against every other, so that their number has a bound: a file
// of a megabyte would keep a machine busy for hours.
func TestTooManyParts(t *testing.T) {
	policyOf := func(n int) []byte {
		var b strings.Builder
		b.WriteString("version: 1\nstores: {app: {rows: \"sqlite:app.db\"}, disk: {files: /data}}\nrules:\n  one:\n    retain: 1d\n    rows: app.a\n    anchor: {column: at}\n    parts:\n")
		for i := range n {
			fmt.Fprintf(&b, "      - files: \"disk:{c%d}\"\n", i)
		}
		return []byte(b.String())
	}
	p, err := policy.Parse("epitaph.yaml", policyOf(300), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(p.Rules[0].Parts[7].Want.Also); got != 299 {
		t.Errorf("a part is held against %d others, want 299", got)
	}
	_, err = policy.Parse("epitaph.yaml", policyOf(12000), nil)
	if err == nil || strings.Count(err.Error(), "the policy has too many parts") != 1 || !strings.Contains(err.Error(), "epitaph.yaml:309:") {
		t.Errorf("12000 parts: %.300v", err)
	}
}

// A column of referenced_by is compared with the value that names the thing. The same
// column may name it from another directory too, by another value.
func TestListedColumnOfAnotherPlace(t *testing.T) {
	const src = `version: 1
stores: {app: {rows: "sqlite:app.db"}, disk: {files: /data}, sub: {files: /data/sub}}
rules:
  one: {retain: 1d, rows: app.a, anchor: {column: at}, parts: [{files: "disk:{path}", referenced_by: app.b.file}]}
  two: {retain: 1d, rows: app.b, anchor: {column: at}, parts: [{files: "sub:{file}"}]}
`
	p, err := policy.Parse("epitaph.yaml", []byte(src), nil)
	if err != nil {
		t.Fatal(err)
	}
	also := p.Rules[0].Parts[0].Want.Also
	if len(also) != 1 {
		t.Fatalf("%d other columns are looked at, want 1", len(also))
	}
	if got, ok := also[0].Of(connector.Tuple{"sub/x"}); !ok || !slices.Equal(got, connector.Tuple{"x"}) {
		t.Errorf("looked for as %q, %v", got, ok)
	}
}
