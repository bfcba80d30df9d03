package files_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
)

// What a glob takes, by Scan and in the same words by Claim, in which order.
func TestGlobs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, f := range []string{"a.log", "b.log", "b.log.gz", ".hidden.log", "export-1.zip", "export-.zip", "export-2.ZIP", "é.txt",
		"\xff.txt", "[x].txt", "logs/1.json", "logs/.2.json", "logs/.dot/3.json", "logs/deep/4.json", "logs/deep/er/5.json",
		"s/one/a", "s/one/sub/b", "s/two/a", "s/.three/a", "s/file", "x/audio/1.wav", "y/audio/2.wav", "y/other/3.wav"} {
		write(t, filepath.Join(root, f))
	}
	c := open(t, root, files.Options{})
	for glob, want := range map[string]string{
		"*.log":                 "a.log b.log",
		"*.log*":                "a.log b.log b.log.gz",
		".*":                    ".hidden.log",
		"{.*,*}.log":            ".hidden.log a.log b.log",
		"{a,b}.log{,.gz}":       "a.log b.log b.log.gz",
		"{*.log,a.log,a.*}":     "a.log b.log",
		"export-*.zip":          "export-.zip export-1.zip",
		"export-?.zip":          "export-1.zip",
		"?.txt":                 "é.txt \xff.txt",
		"[!a-z]*.txt":           "[x].txt é.txt \xff.txt",
		"[[]x].txt":             "[x].txt",
		`\[x\].txt`:             "[x].txt",
		"[a-b].log":             "a.log b.log",
		"[^a].log":              "b.log",
		"**/*.json":             "logs/1.json logs/deep/4.json logs/deep/er/5.json",
		"logs/**/*.json":        "logs/1.json logs/deep/4.json logs/deep/er/5.json",
		"logs/**":               "logs/1.json logs/deep/4.json logs/deep/er/5.json",
		"logs/**/**/5.json":     "logs/deep/er/5.json",
		"logs/{.*,*}/*.json":    "logs/.dot/3.json logs/deep/4.json",
		"logs/*":                "logs/1.json",
		"logs/deep/**/er/*":     "logs/deep/er/5.json",
		"*/audio/*.wav":         "x/audio/1.wav y/audio/2.wav",
		"{x,y}/{audio,other}/*": "x/audio/1.wav y/audio/2.wav y/other/3.wav",
		"s/*/":                  "s/one/ s/two/",
		"s/one/":                "s/one/",
		"s/**/":                 "s/one/ s/two/",
		"s/{*,*/}":              "s/file s/one/ s/two/",
		"s/*/*":                 "s/one/a s/two/a",
		"none/**":               "",
		"a.log/*":               "",
		"a.log/":                "",
		"s/one":                 "",
	} {
		q := modifiedQuery(glob)
		items, s, err := scanAll(t, c, q)
		if err != nil {
			t.Errorf("%s: Scan: %v", glob, err)
			continue
		}
		var got []string
		for _, it := range items {
			got = append(got, string(it.Locator))
		}
		if diff := cmp.Diff(strings.Fields(want), got, cmp.Transformer("", func(s []string) []string {
			if len(s) == 0 {
				return nil
			}
			return s
		})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", glob, diff)
		}
		if s.Total != int64(len(items)) {
			t.Errorf("%s: total %d of %d items", glob, s.Total, len(items))
		}
		claimWhatMatches(t, c, q, got)
	}
}

// claimWhatMatches claims everything there is by q: exactly matching is claimed.
func claimWhatMatches(t *testing.T, c *files.Connector, q *connector.Query, matching []string) {
	t.Helper()
	everything, _, err := scanAll(t, c, modifiedQuery("{**,**/.*,**/.*/*,s/one/,s/two/}"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tree := range []connector.Locator{"s/one/", "s/two/", "s/.three/", "logs/"} {
		everything = append(everything, probeItem(t, c, tree))
	}
	cl, rs := c.Claim(context.Background(), q, everything)
	defer cl.Release()
	for i, r := range rs {
		want := connector.NotDue
		if slices.Contains(matching, string(everything[i].Locator)) {
			want = connector.Eligible
		}
		wantResult(t, q.Collection+": Claim "+string(everything[i].Locator), r, connector.Present, want)
	}
}

// Check names what is wrong with a query; Scan and Claim refuse it.
func TestBadQueries(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root+"/a")
	c := open(t, root, files.Options{})
	ctx := context.Background()
	for _, glob := range []string{"", "/a", "../a", "a/../b", "./a", "a//b", "**a", "a/b**", "[a", "[z-a]", "{a,b", `a\`, "a\x00", `\../a`,
		strings.Repeat("{a,b}", 12)} {
		q := modifiedQuery(glob)
		if fs, err := c.Check(ctx, q); err != nil || len(fs) == 0 || fs[0].Severity != connector.Fault || fs[0].Subject != "collection" {
			t.Errorf("Check of %.20q: %v, %v, want a fault", glob, fs, err)
		}
		if items, _, err := scanAll(t, c, q); err == nil {
			t.Errorf("Scan of %.20q: %v, want an error", glob, items)
		}
		cl, rs := c.Claim(ctx, q, []connector.Item{probeItem(t, c, "a")})
		wantResult(t, "Claim by a bad glob", rs[0], connector.Unknown, connector.Invalid)
		cl.Release()
	}
	name := connector.Anchor{Kind: connector.AnchorName, Layout: "YYYY", Zone: time.UTC}
	for subject, q := range map[string]*connector.Query{
		"where":    {Collection: "*", Anchor: name, Where: "x"},
		"hold":     {Collection: "*", Anchor: name, Hold: "x"},
		"in_use":   {Collection: "*", Anchor: name, InUse: "x"},
		"links[0]": {Collection: "*", Anchor: name, Links: []connector.Link{{}}},
		"then":     {Collection: "*", Anchor: name, Then: []connector.Setting{{Column: "c"}}},
		"parts[0]": {Collection: "*", Anchor: name, Wants: []connector.Want{{Refs: []connector.Ref{{Column: "x"}}}}},
		"anchor":   {Collection: "*", Anchor: connector.Anchor{Kind: connector.AnchorName, Layout: "YYYY"}},
	} {
		fs, err := c.Check(ctx, q)
		if err != nil || !slices.ContainsFunc(fs, func(f connector.Finding) bool {
			return f.Severity == connector.Fault && f.Subject == subject && f.Hint != ""
		}) {
			t.Errorf("Check: %v, %v, want a fault with %s", fs, err, subject)
		}
	}
}

// An anchor in the name is the end of its smallest element; a name without a
// valid date is undated, and a date without a zone says nothing.
func TestNameAnchor(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, f := range []string{"app-2026-02-27.log", "app-2026-02-28.log.gz", "app-2026-03-01.log", "app-2026-02-30.log", "app-current.log"} {
		write(t, filepath.Join(root, f))
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, root, files.Options{})
	// 1 March, 00:00 in Berlin, is when 28 February is over.
	q := &connector.Query{Collection: "app-*", Cutoff: time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC),
		Anchor: connector.Anchor{Kind: connector.AnchorName, Layout: "app-YYYY-MM-DD*", Zone: berlin}}
	day := time.Date(2026, 2, 27, 23, 0, 0, 0, time.UTC)
	want := map[connector.Locator]time.Time{"app-2026-02-27.log": day, "app-2026-02-30.log": {}, "app-current.log": {}}
	compare := func() {
		t.Helper()
		items, s, err := scanAll(t, c, q)
		got := make(map[connector.Locator]time.Time)
		for _, it := range items {
			got[it.Locator] = it.Anchor
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil || s.Total != 5 {
			t.Errorf("Scan: total %d, %v (-want +got):\n%s", s.Total, err, diff)
		}
	}
	compare()
	q.Cutoff = q.Cutoff.Add(1)
	want["app-2026-02-28.log.gz"] = day.AddDate(0, 0, 1)
	compare()
	q.Anchor.Zone = nil
	for at := range want {
		want[at] = time.Time{}
	}
	want["app-2026-03-01.log"] = time.Time{}
	compare()
}

// The anchor of a directory is the newest time of anything in it.
func TestDirectoryAnchor(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	file := write(t, root+"/s/one/in/file")
	old, new := cutoff.Add(-time.Hour), cutoff.Add(-time.Minute)
	for _, p := range []string{file, root + "/s/one/in", root + "/s/one"} {
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(root+"/s/one/in", new, new); err != nil {
		t.Fatal(err)
	}
	items, _, err := scanAll(t, open(t, root, files.Options{}), modifiedQuery("s/*/"))
	if err != nil || len(items) != 1 || !items[0].Anchor.Equal(new) || items[0].Bytes != 6 {
		t.Errorf("Scan: %v, %v, want the anchor %v and 6 bytes", items, err, new)
	}
}
