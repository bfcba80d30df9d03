package main

import (
	"fmt"
	"testing"
)

func TestSteps(t *testing.T) {
	t.Parallel()
	page := "text\n```yaml\nversion: 1\n```\nmore\n```\n$ epitaph plan\nDue: 1\n\n```\n```\nA look\n 1 2\n```\n```\n$ ../bin/epitaph x; echo\nstatus 3\n```\n"
	got := fmt.Sprint(steps(page))
	want := "[{epitaph plan false [Due: 1]} {make demo false [A look  1 2]} {../bin/epitaph x; echo true [status 3]}]"
	if got != want {
		t.Errorf("steps:\n got %s\nwant %s", got, want)
	}
}

func TestInOrder(t *testing.T) {
	t.Parallel()
	const out = "head\nat 2026-11-21 02:49:40 UTC\nRun: 20261121T024940Z-8ae91302545f\ntail\n"
	for _, tc := range []struct {
		want []string
		ok   bool
	}{
		{[]string{"at 2027-01-01 00:00:00 UTC", "…", "tail"}, true},
		{[]string{"Run: 20270101T000000Z-000000000000"}, true},
		{[]string{"tail", "head"}, false},
		{[]string{"nothing of it"}, false},
	} {
		if line, ok := inOrder(tc.want, out); ok != tc.ok {
			t.Errorf("inOrder(%q) = %q, %v", tc.want, line, ok)
		}
	}
}
