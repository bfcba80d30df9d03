package ledger

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/epitaph/epitaph/proof"
)

// counter is a source of salts that is the same in each run: 0, 1, 2, …
type counter byte

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*c)
		*c++
	}
	return len(p), nil
}

var goldenTime = time.Date(2026, 3, 1, 12, 0, 0, 5_000, time.UTC)

// goldenEntries are one entry of each shape.
func goldenEntries() []Entry {
	return []Entry{
		{At: goldenTime, Kind: Heartbeat, Rule: "transcripts", Facts: []Fact{Int("due", 0), Instant("cutoff", goldenTime.AddDate(0, 0, -14))}},
		{
			At: goldenTime, Kind: Intent, Run: "20260301T120000Z-7f3a", Rule: "transcripts", Store: "app",
			Facts:   []Fact{Code("version", "1.0.0"), Hash("plan", [32]byte{0xab, 31: 1}), Int("bytes", -1)},
			Secrets: []Secret{{Name: "who", Text: "müller"}},
			Items: []Item{
				{ID: "17", Locator: "id=17", Print: "v1", Anchor: goldenTime.AddDate(0, -1, 0), Bytes: 300,
					Values: [][][]string{{{"a.wav"}}}, Parts: []Part{{Store: "disk", Locator: "files/a.wav", Print: "1:2:3", Bytes: 1 << 33, Gone: true}}},
				{Locator: "id=18"},
				{Locator: "id=19"},
			},
		},
		{At: goldenTime, Kind: Outcome, Run: "20260301T120000Z-7f3a", Rule: "transcripts", Store: "app", Refers: 2, Results: []Result{
			{State: Gone, Reason: "GONE", Parts: []PartResult{{Gone, "GONE"}}}, {State: Present, Reason: "CHANGED"}, {State: Gone, Reason: "GONE", Parts: []PartResult{{Gone, "GONE"}}},
		}},
	}
}

// The encoding may never change: what was written must verify for ever.
func TestGoldenEncoding(t *testing.T) {
	var b strings.Builder
	salts := counter(0)
	for _, e := range goldenEntries() {
		p, err := prepare(&e, time.Time{}, &salts)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(p.body)
		b.WriteString("hash " + hex.EncodeToString(p.hash[:]) + "\nleaves " + hex.EncodeToString(p.leaves) +
			"\ntexts " + hex.EncodeToString(p.texts) + "\nlookup " + hex.EncodeToString(p.lookup) + "\n\n")
	}
	const name = "testdata/v1.golden"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the encoding has changed:\n%s", b.String())
	}
}

// The worked example of docs/ledger-format.md is what the code does.
func TestWorkedExample(t *testing.T) {
	doc, err := os.ReadFile("../docs/ledger-format.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []tlog.Hash
	salts := counter(0)
	for i, e := range goldenEntries() {
		p, err := prepare(&e, time.Time{}, &salts)
		if err != nil {
			t.Fatal(err)
		}
		hs, err := tlog.StoredHashes(int64(i), p.body, tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
			for _, i := range indexes {
				out = append(out, all[i])
			}
			return out, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hs...)
		for line := range strings.Lines(string(p.body)) {
			if !strings.Contains(string(doc), "    "+line) {
				t.Errorf("the example lacks the line %q", line)
			}
		}
		if h := hex.EncodeToString(p.hash[:]); !strings.Contains(string(doc), h) {
			t.Errorf("the example lacks the leaf hash %s of entry %d", h, i+1)
		}
	}
	root, err := tlog.TreeHash(3, tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, all[i])
		}
		return out, nil
	}))
	if err != nil || !strings.Contains(string(doc), hex.EncodeToString(root[:])) {
		t.Errorf("the example lacks the root %x, %v", root[:], err)
	}
	salts = 0
	e := goldenEntries()[1]
	p, err := prepare(&e, time.Time{}, &salts)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{hex.EncodeToString(appendItem(nil, &e.Items[1])), hex.EncodeToString(p.leaves[32:64])} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("the example lacks %s", want)
		}
	}
}

func TestLeafHashIsThatOfTheField(t *testing.T) {
	for _, n := range []int{0, 1, 54, 55, 64, 1022, 1023, 1024, 5000} {
		data := bytes.Repeat([]byte{7}, n)
		if leafHash(data) != [32]byte(tlog.RecordHash(data)) {
			t.Errorf("leaf hash of %d bytes differs from RFC 6962", n)
		}
	}
	for n := 1; n <= 300; n++ {
		var all, leaves []tlog.Hash
		read := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
			for _, i := range indexes {
				out = append(out, all[i])
			}
			return out, nil
		})
		for i := range n {
			leaves = append(leaves, tlog.RecordHash([]byte{byte(i)}))
			hs, err := tlog.StoredHashesForRecordHash(int64(i), leaves[i], read)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, hs...)
		}
		want, err := tlog.TreeHash(int64(n), read)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{0, n / 2, n - 1} {
			path := batchPath(append([]tlog.Hash{}, leaves...), i)
			if err := tlog.CheckRecord(path, int64(n), want, int64(i), leaves[i]); err != nil {
				t.Errorf("path of leaf %d of %d: %v", i, n, err)
			}
		}
		if got := treeRoot(leaves); got != want {
			t.Errorf("root of %d leaves differs from RFC 6962", n)
		}
	}
}

func TestWhatAppendRefuses(t *testing.T) {
	long := strings.Repeat("a", 129)
	many := func(n int) (fs []Fact) {
		for i := range n {
			fs = append(fs, Code("fact"+strings.Repeat("x", i%100)+string(rune('a'+i%26))+hex.EncodeToString([]byte{byte(i >> 8), byte(i)}), strings.Repeat("v", 128)))
		}
		return fs
	}
	for name, e := range map[string]Entry{
		"no kind":                {},
		"kind with a space":      {Kind: "a b"},
		"run with a newline":     {Kind: "a", Run: "x\nkind intent"},
		"rule with a letter":     {Kind: "a", Rule: "müller"},
		"store too long":         {Kind: "a", Store: long},
		"negative reference":     {Kind: "a", Refers: -1},
		"fact twice":             {Kind: "a", Facts: []Fact{Int("x", 1), Int("x", 2)}},
		"fact made by hand":      {Kind: "a", Facts: []Fact{{}}},
		"fact without a name":    {Kind: "a", Facts: []Fact{Int("", 1)}},
		"code with a space":      {Kind: "a", Facts: []Fact{Code("x", "a b")}},
		"empty code":             {Kind: "a", Facts: []Fact{Code("x", "")}},
		"code too long":          {Kind: "a", Facts: []Fact{Code("x", long)}},
		"instant out of range":   {Kind: "a", Facts: []Fact{Instant("x", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))}},
		"entry before the years": {Kind: "a", At: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)},
		"secret twice":           {Kind: "a", Secrets: []Secret{{Name: "x"}, {Name: "x"}}},
		"secret without a name":  {Kind: "a", Secrets: []Secret{{}}},
		"items and results":      {Kind: Intent, Refers: 1, Items: []Item{{}}, Results: []Result{{}}},
		"results of nothing":     {Kind: Outcome, Results: []Result{{}}},
		"reason that is a text":  {Kind: Outcome, Refers: 1, Results: []Result{{Reason: "file not found: /x"}}},
		"a fourth state":         {Kind: Outcome, Refers: 1, Results: []Result{{State: 3}}},
		"text of a megabyte":     {Kind: Intent, Items: []Item{{Locator: strings.Repeat("x", maxText)}}},
		"secret of a megabyte":   {Kind: "a", Secrets: []Secret{{Name: "x", Text: strings.Repeat("x", maxText)}}},
		"entry of 64 KB":         {Kind: "a", Facts: many(500)},
	} {
		e := e
		if p, err := prepare(&e, goldenTime, rand.Reader); err == nil {
			t.Errorf("%s: accepted as %q", name, p.body)
		} else if strings.Contains(err.Error(), "müller") || strings.Contains(err.Error(), "/x") {
			t.Errorf("%s: the error shows a value: %v", name, err)
		}
	}
	for s, want := range map[string]string{"plain.name": "plain.name", "a b": "a=20b", "": "=", "é=": "=C3=A9=3D", long: long[:128]} {
		if got := SafeCode(s); got != want || !isCode(got) {
			t.Errorf("SafeCode(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestDecodeRefusesOtherSpellings(t *testing.T) {
	good := "epitaph/entry v1\nat 2026-03-01T12:00:00.000005Z\nkind intent\nrefers 3\nfact a int 5\nfact b code x\n" +
		"secret s " + strings.Repeat("0", 64) + "\nitems 2 " + strings.Repeat("f", 64) + "\n"
	var r record
	if err := decodeRecord(good, &r); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"v1\n", "v2\n"}, {"at ", "at  "}, {"05Z", "05+00:00"}, {".000005", ".00005"}, {"T12", "T24"}, {"03-01", "02-30"}, {"2026", "0000"}, {"12:00:00", "12:60:00"},
		{"kind intent\n", ""}, {"kind intent", "kind in tent"}, {"kind intent\n", "kind intent\nkind intent\n"}, {"refers 3", "refers 03"}, {"refers 3", "refers +3"}, {"refers 3", "refers 0"}, {"refers 3", "refers -3"},
		{"int 5", "int 05"}, {"int 5", "int -0"}, {"int 5", "int 9223372036854775808"}, {"int 5", "int"}, {"int 5", "integer 5"}, {"fact a", "fact c"}, {"fact a", "fact b"}, {"code x", "code "}, {"code x", "code x y"},
		{"secret s 0", "secret s g"}, {"secret s 0", "secret s A"}, {"secret s 0", "secret s "}, {"items 2", "items 0"}, {"items 2", "items 1048577"}, {"items 2", "items  2"}, {"items 2 f", "items 2 F"}, {"items 2", "results 2 0\nitems 2"},
		{"items", "x\nitems"}, {"\nrefers", "\r\nrefers"}, {"kind intent\nrefers 3\n", "refers 3\nkind intent\n"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if err := decodeRecord(bad, &r); err == nil || bad == good {
			t.Errorf("accepted %q for %q", change[1], change[0])
		}
	}
	for i := range good {
		if decodeRecord(good[:i], &r) == nil && good[:i] != good && !strings.HasSuffix(good[:i], "\n") {
			t.Errorf("accepted when cut at %d", i)
		}
	}
	if decodeRecord(good+"\n", &r) == nil || decodeRecord(good+"x", &r) == nil {
		t.Error("accepted with something behind it")
	}
}

// The decoder in package proof, written apart, agrees with this encoder.
func TestProofReadsItems(t *testing.T) {
	salts := counter(0)
	e := goldenEntries()[1]
	p, err := prepare(&e, time.Time{}, &salts)
	if err != nil {
		t.Fatal(err)
	}
	s, err := decodeSealed(p.texts)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := proof.NewSigner("example.com/x", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for i, it := range e.Items {
		leaves := make([]tlog.Hash, len(e.Items))
		for j := range leaves {
			leaves[j] = leafHash(p.leaves[32*j : 32*j+32])
		}
		c := proof.Checkpoint{Origin: "example.com/x", Size: 1, Root: p.hash}
		note, err := c.Sign(goldenTime, signer)
		if err != nil {
			t.Fatal(err)
		}
		r := proof.Receipt{Checkpoint: note, Entries: []proof.Inclusion{{Body: p.body, Leaf: &proof.Leaf{
			Index: int64(i), Opening: &proof.Opening{Salt: s.items[i].salt, Item: s.items[i].text}, Path: batchPath(leaves, i)}}}}
		trust, err := proof.TrustKeys(signer.Key().String())
		if err != nil {
			t.Fatal(err)
		}
		shown, err := r.Check(trust)
		if err != nil {
			t.Fatal(err)
		}
		got := shown.Entries[0].Item
		if got.ID != it.ID || got.Locator != it.Locator || got.Print != it.Print || !got.Anchor.Equal(it.Anchor) || got.Bytes != it.Bytes ||
			!reflect.DeepEqual(got.Values, it.Values) || len(got.Parts) != len(it.Parts) || len(it.Parts) > 0 && Part(got.Parts[0]) != it.Parts[0] {
			t.Errorf("item %d is told as %+v, want %+v", i, got, it)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	salts := counter(0)
	for _, e := range goldenEntries() {
		p, err := prepare(&e, time.Time{}, &salts)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(p.body))
	}
	f.Fuzz(func(t *testing.T, body string) {
		var r record
		if decodeRecord(body, &r) != nil {
			return
		}
		if err := r.check(); err != nil {
			t.Errorf("what was decoded could not be appended: %v", err)
		}
		if again := string(appendRecord(nil, &r)); again != body {
			t.Errorf("two spellings of one entry:\n%q\n%q", body, again)
		}
	})
}

func FuzzDecodeItem(f *testing.F) {
	for _, it := range goldenEntries()[1].Items {
		f.Add(appendItem(nil, &it))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		it, err := decodeItem(b)
		if err == nil && !bytes.Equal(appendItem(nil, &it), b) {
			t.Errorf("two spellings of one item: %x", b)
		}
	})
}

func FuzzDecodeResults(f *testing.F) {
	blob, _ := encodeResults(2, goldenEntries()[2].Results)
	f.Add(blob, 3)
	f.Fuzz(func(t *testing.T, b []byte, count int) {
		if count < 0 || count > 10_000 {
			return
		}
		results, err := decodeResults(b, count)
		if err != nil {
			return
		}
		if len(results) != count {
			t.Errorf("%d results, want %d", len(results), count)
		}
		again, _ := encodeResults(2, results)
		if got, err := decodeResults(again, count); err != nil || !reflect.DeepEqual(got, results) {
			t.Errorf("results do not survive: %v", err)
		}
	})
}

func FuzzDecodeSealed(f *testing.F) {
	salts := counter(0)
	e := goldenEntries()[1]
	p, err := prepare(&e, time.Time{}, &salts)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.texts)
	f.Add([]byte{1, 0, 0xff, 0xff, 0xff, 0xff, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSealed(b)
		if err == nil && !bytes.Equal(s.encode(), b) {
			t.Errorf("two spellings of sealed texts: %x", b)
		}
		if tg, err := decodeSlots(1, b); err == nil && !bytes.Equal(tg.slots(), b) {
			t.Errorf("two spellings of places: %x", b)
		}
	})
}
