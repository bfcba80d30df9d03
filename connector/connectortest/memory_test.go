package connectortest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
)

// cutoff is the cutoff of every query here.
var cutoff = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func TestMemoryKeepsTheContract(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{Locks: true, Refuses: true, Sets: true, New: func(t *testing.T) connectortest.Fixture {
		m := connectortest.NewMemory()
		return memoryFixture(m, m)
	}})
}

// A Faulty without faults is the connector it wraps.
func TestFaultyPassesOn(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{Locks: true, Refuses: true, Sets: true, New: func(t *testing.T) connectortest.Fixture {
		m := connectortest.NewMemory()
		return memoryFixture(m, connectortest.NewFaulty(t, m))
	}})
}

func memoryFixture(m *connectortest.Memory, c connector.Connector) connectortest.Fixture {
	n := 0
	anchors := map[connectortest.Age]time.Time{
		connectortest.Due: cutoff.Add(-time.Hour), connectortest.Young: cutoff,
	}
	put := func(at connector.Locator, change func(*connectortest.Record)) {
		r, _ := m.Get(at)
		change(&r)
		m.Put(at, r)
	}
	return connectortest.Fixture{
		Connector: c,
		Query:     &connector.Query{Collection: "things", Cutoff: cutoff},
		Plant: func(a connectortest.Age) connector.Locator {
			n++
			at := connector.Locator(fmt.Sprintf("thing-%03d", n*7919%1000))
			m.Put(at, connectortest.Record{Collection: "things", Anchor: anchors[a], Bytes: int64(n)})
			return at
		},
		Then: &connector.Query{Collection: "things", Cutoff: cutoff,
			Then: []connector.Setting{{Column: "gone", Value: connector.Value{Kind: connector.BoolValue, Text: "true"}}}},
		IsSet: func(at connector.Locator) bool {
			r, _ := m.Get(at)
			return r.Set
		},
		Absent: "nothing",
		Has:    m.Has, Dump: m.Dump, Remove: m.Remove, Break: m.Break, Restore: m.Restore,
		Change: func(at connector.Locator) { put(at, func(r *connectortest.Record) { r.Bytes++ }) },
		Refuse: func(at connector.Locator) {
			put(at, func(r *connectortest.Record) { r.Refuse = connector.Refused })
		},
	}
}
