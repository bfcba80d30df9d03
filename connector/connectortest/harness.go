package connectortest

import (
	"testing"

	"github.com/epitaph/epitaph/connector"
)

// Age says what a planted item is to be, measured against Fixture.Query.
type Age uint8

// The ages.
const (
	Due     Age = iota // its anchor lies before the cutoff
	Young              // its anchor lies at or after the cutoff
	Undated            // it has no anchor
)

// Harness tells how to make stores to test, and what they can do.
type Harness struct {
	// New makes a fresh, empty store with a connector on it, and ends both with
	// the test. It is called once for each case.
	New func(t *testing.T) Fixture
	// NoUndated says that in this store everything has an anchor.
	NoUndated bool
	// Locks says that a claim keeps others from changing or claiming the item.
	Locks bool
	// Refuses says that the store can refuse to let a single item go.
	Refuses bool
	// NoPrints says that Scan gives no fingerprints, because the store checks
	// an item by the rule itself (rows). Probe gives them all the same.
	NoPrints bool
	// Sets says that the store has rows, which a query with Then keeps.
	Sets bool
}

// Fixture is one store under test, with means to work on it behind the
// connector's back. Its functions end the test when they cannot do their work.
type Fixture struct {
	Connector connector.Connector
	Query     *connector.Query
	// Plant puts a new item of that age into the collection of Query and returns
	// the locator by which the connector knows it.
	Plant func(a Age) connector.Locator
	// Absent is a well-formed locator that names nothing.
	Absent connector.Locator
	// Has looks whether the item is there.
	Has func(at connector.Locator) bool
	// Dump spells the whole content of the store: equal text, equal content.
	Dump func() string
	// Change makes another version of the item: its fingerprint differs, or it
	// is no longer due.
	Change func(at connector.Locator)
	// Remove takes the item away.
	Remove func(at connector.Locator)
	// Refuse makes the store refuse to let this one item go, or to set it: a
	// trigger, a constraint, a missing right. It is called only if the Harness
	// says Refuses.
	Refuse func(at connector.Locator)
	// Then is Query with a Then, and IsSet looks whether an item has its values.
	// They are used only if the Harness says Sets.
	Then  *connector.Query
	IsSet func(at connector.Locator) bool
	// Break makes the store unreachable, also for claims that are held; Restore
	// brings it back with its content.
	Break, Restore func()
}
