package objects

import (
	"context"
	"slices"
	"sync"
)

// gate bounds the requests in flight. The bound falls by half when the server
// asks to slow down and rises by one for each full round of good answers.
type gate struct {
	max int

	mu      sync.Mutex
	limit   float64
	used    int
	waiting []chan struct{}
}

func newGate(limit int) *gate { return &gate{max: limit, limit: float64(limit)} }

// enter waits for a place.
func (g *gate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	if g.used < int(g.limit) {
		g.used++
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if i := slices.Index(g.waiting, turn); i >= 0 {
			g.waiting = slices.Delete(g.waiting, i, i+1)
			return ctx.Err()
		}
		g.used-- // the turn came at the same moment: pass it on
		g.wake()
		return ctx.Err()
	}
}

// leave gives the place back and learns from the answer.
func (g *gate) leave(throttled bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used--
	if throttled {
		g.limit = max(1, g.limit/2)
	} else {
		g.limit = min(float64(g.max), g.limit+1/g.limit)
	}
	g.wake()
}

func (g *gate) wake() {
	for len(g.waiting) > 0 && g.used < int(g.limit) {
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
		g.used++
	}
}

// slow halves the bound after an answer that throttled some of its keys.
func (g *gate) slow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = max(1, g.limit/2)
}
