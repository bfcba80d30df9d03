package purge

import (
	"context"
	"errors"

	"github.com/epitaph/epitaph/connector"
)

// store stands between a run and a connector. Whatever the connector does —
// panic, answer with a list of another length, return no claim, not be there at
// all — the run gets one result for each thing it asked about, and what it
// cannot use is Unknown.
type store struct{ c connector.Connector }

var (
	errNoStore = errors.New("the store is not open")
	errAnswer  = errors.New("the store answered with a list of another length")
)

// panicked stands for a panic in a connector. What was thrown may hold personal
// data and is dropped.
type panicked struct{}

func (panicked) Error() string { return "panic in a connector" }

func unknown(n int, err error) []connector.Result {
	out := make([]connector.Result, n)
	for i := range out {
		out[i] = connector.Result{Reason: connector.Unreachable, Err: err}
	}
	return out
}

func (s store) probe(ctx context.Context, at []connector.Locator) (out []connector.Result) {
	if len(at) == 0 {
		return nil
	}
	if s.c == nil {
		return unknown(len(at), errNoStore)
	}
	defer func() {
		if v := recover(); v != nil {
			out = unknown(len(at), panicked{})
		}
	}()
	if out = s.c.Probe(ctx, at); len(out) != len(at) {
		return unknown(len(at), errAnswer)
	}
	return out
}

func (s store) claim(ctx context.Context, q *connector.Query, items []connector.Item) (cl claim, out []connector.Result) {
	cl = claim{n: len(items)}
	if s.c == nil {
		return cl, unknown(len(items), errNoStore)
	}
	defer func() {
		if v := recover(); v != nil {
			cl.c, out = nil, unknown(len(items), panicked{})
		}
	}()
	cl.c, out = s.c.Claim(ctx, q, items)
	if len(out) != len(items) || cl.c == nil {
		cl.release()
		return claim{n: len(items)}, unknown(len(items), errAnswer)
	}
	return cl, out
}

// claim guards a connector's claim in the same way.
type claim struct {
	c connector.Claim
	n int
}

func (cl claim) erase(ctx context.Context, which []int) (out connector.Erased) {
	if len(which) == 0 {
		return connector.Erased{}
	}
	if cl.c == nil {
		return connector.Erased{Results: unknown(len(which), errNoStore)}
	}
	defer func() {
		if v := recover(); v != nil {
			out = connector.Erased{Results: unknown(len(which), panicked{})}
		}
	}()
	if out = cl.c.Erase(ctx, which); len(out.Results) != len(which) {
		return connector.Erased{Results: unknown(len(which), errAnswer)}
	}
	return out
}

// holds looks whether the claim stands.
func (cl claim) holds(ctx context.Context) (err error) {
	if cl.c == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = panicked{}
		}
	}()
	return cl.c.Holds(ctx)
}

// release lets go. Its error changes nothing of what is known: what was not
// erased is looked at again before anything is said of it.
func (cl claim) release() (err error) {
	if cl.c == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = panicked{}
		}
	}()
	return cl.c.Release()
}

// free reports a result that nothing stands against.
func free(r connector.Result) bool {
	return r.State == connector.Present && (r.Reason == connector.Eligible || r.Reason == "")
}
