package session

import "sync"

// mostGroup is the most sessions of one disposal.
const mostGroup = 256

// group lets those that close at the same time share a disposal, and with it the
// flushes of the ledger and of the disk. Whoever comes first leads; those that
// come while he is at work are taken together by the next leader.
type group struct {
	most int // leaders at once
	do   func([]*request)

	mu      sync.Mutex
	leaders int
	waiting []*request
	idle    sync.Cond
}

// request is one thing to be disposed of. Its turn is the requests to lead, its
// own the first, or nil when another leader has settled it.
type request struct {
	*ending
	turn chan []*request
}

// submit returns when the disposal of r is over.
func (g *group) submit(e *ending) {
	r := &request{ending: e, turn: make(chan []*request, 1)}
	g.mu.Lock()
	if g.leaders >= g.most {
		g.waiting = append(g.waiting, r)
		g.mu.Unlock()
		if lead := <-r.turn; lead != nil {
			g.lead(lead)
		}
		return
	}
	g.leaders++
	g.mu.Unlock()
	g.lead([]*request{r})
}

func (g *group) lead(rs []*request) {
	defer func() {
		for _, r := range rs[1:] {
			r.turn <- nil
		}
		g.passOn()
	}()
	g.do(rs)
}

// passOn makes the first of those that wait the leader of the others.
func (g *group) passOn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.leaders--
		if g.idle.L != nil {
			g.idle.Broadcast()
		}
		return
	}
	n := min(len(g.waiting), mostGroup)
	next := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	next[0].turn <- next
}

// drain waits until nothing is under way.
func (g *group) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.idle.L = &g.mu
	for g.leaders > 0 {
		g.idle.Wait()
	}
}
