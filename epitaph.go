// Package epitaph finds sensitive data that has outlived its retention period,
// disposes of all of it together, and keeps proof of what it did. It is the
// library's front door: the program of the same name is a thin face of it.
//
//	e, err := epitaph.New(epitaph.Config{Policy: pol, Stores: stores, Ledger: led})
//	findings := e.Check(ctx)                       // does the policy fit the stores?
//	p, err := e.Plan(ctx, epitaph.PlanOptions{Path: "tonight.plan"})
//	report, err := e.Purge(ctx, epitaph.PurgeOptions{Plan: p})
//	for entry, err := range e.Trail(ctx, ledger.Filter{Run: report.Run}) { … }
//
// # What it promises
//
// Nothing is stated to be gone without having been looked at. Every item and
// part ends as gone, present or unknown; what cannot be seen is unknown. See
// the packages plan and purge for how that is kept.
//
// # What it needs
//
// The engine links no driver. A program opens its own stores, with the packages
// below connector or its own implementations of [connector.Connector], and its
// own ledger, and hands them over. They stay the caller's to close.
package epitaph

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/purge"
)

// Config is what an engine works with. Policy is needed; Check and Plan do
// without a Ledger.
type Config struct {
	Policy *policy.Policy
	// Stores by their name in the policy. A store that is not here is
	// unreachable: what lies in it is unknown, and stays.
	Stores map[string]connector.Connector
	// Ledger takes the record of every act. A [ledger.Ledger] is one.
	Ledger purge.Ledger
	Clock  func() time.Time // nil: time.Now
	Rand   io.Reader        // nil: crypto/rand
	// Observe is called for every event of a run; it must not block for long.
	Observe func(purge.Event)
	// Host, Who and Version are put on record with each run; Who is sealed.
	Host, Who, Version string
	// RequestID is the id of the outside request behind a run, if there is one.
	RequestID string
}

// Engine carries out one policy. Its methods may be called concurrently; two
// purges at once on one ledger are kept apart by the ledger's lease.
type Engine struct {
	c Config
}

// New returns an engine. It opens and changes nothing.
func New(c Config) (*Engine, error) {
	if c.Policy == nil {
		return nil, errors.New("make engine: no policy")
	}
	for name := range c.Stores {
		if _, ok := c.Policy.Store(name); !ok {
			return nil, fmt.Errorf("make engine: the policy has no store %q", name)
		}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return &Engine{c: c}, nil
}

// Policy returns the policy that the engine carries out.
func (e *Engine) Policy() *policy.Policy { return e.c.Policy }
