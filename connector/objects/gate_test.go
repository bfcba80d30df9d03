package objects

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestGateHalvesAndClimbs(t *testing.T) {
	t.Parallel()
	g := newGate(32)
	limits := func() int { return int(g.limit) }
	enter := func() {
		t.Helper()
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int{16, 8, 4, 2, 1, 1} {
		enter()
		g.leave(true)
		if limits() != want {
			t.Fatalf("limit %d, want %d", limits(), want)
		}
	}
	for range 600 {
		enter()
		g.leave(false)
	}
	if got := limits(); got != 32 {
		t.Errorf("limit %d after many good answers, want 32", got)
	}
}

func TestGateBoundsAndHandsOn(t *testing.T) {
	t.Parallel()
	g := newGate(1)
	if err := g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := g.enter(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second one got in: %v", err)
	}
	in := make(chan error)
	go func() { in <- g.enter(t.Context()) }()
	g.leave(false)
	if err := <-in; err != nil {
		t.Fatal(err)
	}
	g.leave(false)
	if g.used != 0 || len(g.waiting) != 0 {
		t.Errorf("used %d, waiting %d", g.used, len(g.waiting))
	}
}

func TestSightOfManyVersions(t *testing.T) {
	t.Parallel()
	var s sight
	for range 2 {
		for i := range 500 {
			s.add(version{id: time.Unix(int64(i), 0).String()})
		}
	}
	if len(s.versions) != 500 {
		t.Errorf("got %d versions, want 500", len(s.versions))
	}
}

func TestBeforeSortsBefore(t *testing.T) {
	t.Parallel()
	for _, k := range []string{"a", "ab", "a ", "a\x01", "é", "a\ue000", "日本", "a/", "\U0010FFFF", "0"} {
		if b := before(k); b >= k {
			t.Errorf("before(%q) = %q", k, b)
		}
	}
	if p := commonPrefix([]string{"aé", "aè"}); p != "a" {
		t.Errorf("the common prefix ends inside a rune: %q", p)
	}
}
