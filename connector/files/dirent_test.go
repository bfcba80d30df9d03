package files

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"
)

// A directory is read in the same order, without loss or repetition, however
// many names are held at once.
func TestListInChunks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var want []string
	for i := range 1000 {
		name := fmt.Sprintf("%x", i*7919%1009)
		if err := os.WriteFile(dir+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	slices.Sort(want)
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, limit := range []int{1, 7, 333, 500, 999, 1000, 1001, 5000} {
		l := lister{limit: limit}
		var got []string
		var after []byte
		for more := true; more; {
			if more, err = l.list(int(f.Fd()), after, nil); err != nil {
				t.Fatal(err)
			}
			if l.len() == 0 || l.len() > limit {
				t.Fatalf("limit %d: %d names at once", limit, l.len())
			}
			for i := range l.len() {
				if e := l.at(i); e.terminated()[len(e.name)] != 0 {
					t.Fatalf("name %q does not end in NUL", e.name)
				}
				got = append(got, string(l.at(i).name))
			}
			after = bytes.Clone(l.at(l.len() - 1).name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: got %d names in another order or number than the %d there are", limit, len(got), len(want))
		}
	}
}
