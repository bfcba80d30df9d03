package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	t.Parallel()
	const pass = `{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	for _, tc := range []struct {
		name, in string
		ok       bool
		want     []string
		not      []string
	}{
		{"passed", pass, true, []string{"ok  \tp\t0.1s\n", "1 passed, 0 failed, 0 skipped\n"}, []string{"quiet"}},
		{"nothing ran", `{"Action":"skip","Package":"p"}` + "\n", false, []string{"no test ran"}, nil},
		{"skipped", pass + `{"Action":"output","Package":"p","Test":"TestB","Output":"no server\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
`, false, []string{"no server", "skipped: p TestB"}, []string{"quiet"}},
		{"failed", pass + `{"Action":"output","Package":"q","Test":"TestC","Output":"got 1, want 2\n"}
{"Action":"fail","Package":"q","Test":"TestC"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t0.1s\n"}
{"Action":"fail","Package":"q"}
`, false, []string{"got 1, want 2", "FAIL\tq\t0.1s\n", "failed: q"}, []string{"quiet"}},
		{"does not build", pass + `{"ImportPath":"q","Action":"build-output","Output":"q.go:1: undefined: x\n"}
{"Action":"output","Package":"q","Output":"FAIL\tq [build failed]\n"}
{"Action":"fail","Package":"q"}
`, false, []string{"undefined: x", "FAIL\tq [build failed]", "failed: q"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			s, err := read(strings.NewReader(tc.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.report(&out); got != tc.ok {
				t.Errorf("report = %v, want %v", got, tc.ok)
			}
			for _, w := range tc.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("output lacks %q:\n%s", w, &out)
				}
			}
			for _, w := range tc.not {
				if strings.Contains(out.String(), w) {
					t.Errorf("output has %q:\n%s", w, &out)
				}
			}
		})
	}
}
