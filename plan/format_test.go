package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/epitaph/epitaph/connector"
)

func genItem(t *rapid.T) Item {
	text := rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte(` "\-ix0`))), 0, 8).Draw(t, "text"))
	})
	var it Item
	it.Locator = connector.Locator(text.Draw(t, "locator"))
	it.ID = text.Draw(t, "id")
	it.Anchor = time.Unix(rapid.Int64Range(-60000000000, 250000000000).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()
	it.Bytes = rapid.Int64().Draw(t, "bytes")
	it.Print = connector.Fingerprint(text.Draw(t, "print"))
	for range rapid.IntRange(0, 3).Draw(t, "wants") {
		var ts []connector.Tuple
		for range rapid.IntRange(0, 3).Draw(t, "tuples") {
			ts = append(ts, rapid.SliceOfN(text, 0, 3).Draw(t, "tuple"))
		}
		it.Values = append(it.Values, ts)
	}
	for range rapid.IntRange(0, 3).Draw(t, "parts") {
		p := Part{Store: text.Draw(t, "store"), Locator: connector.Locator(text.Draw(t, "at")), State: connector.Gone, Reason: connector.Missing,
			Want: rapid.IntRange(0, 99).Draw(t, "want"), Tuple: rapid.IntRange(0, 99).Draw(t, "tuple")}
		if rapid.Bool().Draw(t, "present") {
			p.State, p.Reason, p.Print, p.Bytes = connector.Present, connector.Eligible, connector.Fingerprint(text.Draw(t, "print")), rapid.Int64().Draw(t, "bytes")
		}
		it.Parts = append(it.Parts, p)
	}
	return it
}

// What is written is read back as it was.
func TestItemRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		it := genItem(t)
		line := string(appendItem(nil, &it))
		if strings.Count(line, "\n") != 1 {
			t.Fatalf("not one line: %q", line)
		}
		got, err := decodeItem(strings.TrimSuffix(strings.TrimPrefix(line, "i "), "\n"))
		if err != nil {
			t.Fatalf("decode %q: %v", line, err)
		}
		if d := cmp.Diff(it, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	})
}

// Whatever is accepted has no other spelling.
func FuzzDecodeItem(f *testing.F) {
	for _, s := range []string{
		`a 1 2026-01-01T00:00:00Z 0 "" 0 0`, `"a b" "" - 5 p 1 1 1 v 1 disk files/v.bin p1 7 0 0 p`, `"\x0a" "" 0001-01-01T00:00:00.5Z -1 "" 1 0 1 d l "" 0 0 0 m`,
		`a  1 - 0 "" 0 0`, `"a" 1 - 0 "" 0 0`, `a 1 - 00 "" 0 0`, `a 1 - +1 "" 0 0`, `a 1 - 0 "" 0 0 `, `a 1 2026-01-01T00:00:00.10Z 0 "" 0 0`,
		`a 1 2026-01-01T00:00:00+00:00 0 "" 0 0`, `"\x41" 1 - 0 "" 0 0`, `"a\q" 1 - 0 "" 0 0`, `a 1 - 0 "" 999999999999 0`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		it, err := decodeItem(line)
		if err != nil {
			return
		}
		if got := string(appendItem(nil, &it)); got != "i "+line+"\n" {
			t.Errorf("%q is read as what is written %q", line, got)
		}
	})
}

func TestSpellingsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		``, `a`, `a  1 - 0 "" 0 0`, `"a" 1 - 0 "" 0 0`, `a 1 - 00 "" 0 0`, `a 1 - +1 "" 0 0`, `a 1 - -0 "" 0 0`, `a 1 - 0 "" 0 0 `, `a 1 - 0 "" 0 0 x`,
		`a 1 2026-01-01T00:00:00.10Z 0 "" 0 0`, `a 1 2026-01-01T00:00:00+00:00 0 "" 0 0`, `"\x41" 1 - 0 "" 0 0`, `"a\q" 1 - 0 "" 0 0`, `"a b 1 - 0 "" 0 0`,
		`a 1 - 0 "" 999999999999 0`, `a 1 - 0 "" -1 0`, `a 1 - 0 "" 0 1 d l p 0 0 0 x`, "\"a\tb\" 1 - 0 \"\" 0 0", `a"b 1 - 0 "" 0 0`,
	} {
		if it, err := decodeItem(s); err == nil {
			t.Errorf("%q was read as %+v", s, it)
		}
	}
}

func benchItem(i int) Item {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	sha := fmt.Sprintf("%064x", i)
	return Item{
		Item: connector.Item{Locator: connector.Locator(fmt.Sprint(i)), ID: fmt.Sprint(i), Anchor: at, Values: [][]connector.Tuple{{{sha}}}},
		Parts: []Part{{Store: "disk", Locator: connector.Locator("files/" + sha + ".bin"), Print: "f8x2k.5yc4.1a2b3c.9z", Bytes: 100000,
			State: connector.Present, Reason: connector.Eligible}},
	}
}

func BenchmarkEncodeItem(b *testing.B) {
	it := benchItem(12345)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = appendItem(buf[:0], &it)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodeItem(b *testing.B) {
	it := benchItem(12345)
	line := strings.TrimSuffix(strings.TrimPrefix(string(appendItem(nil, &it)), "i "), "\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeItem(line); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(line)))
}
