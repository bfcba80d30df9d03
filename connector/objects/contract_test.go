package objects_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/connectortest"
	"github.com/epitaph/epitaph/internal/testserver"
)

func TestContract(t *testing.T) {
	t.Parallel()
	for _, kind := range servers {
		// A claim keeps the other claims of the connector off, but nobody else:
		// the cases for both sorts of store hold.
		for _, locks := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, locks %t", kind.name, locks), func(t *testing.T) {
				t.Parallel()
				connectortest.Run(t, connectortest.Harness{Locks: locks, New: func(t *testing.T) connectortest.Fixture {
					return fixture(t, kind.make(t))
				}})
			})
		}
	}
}

// fixture plants keys with a date in their name.
func fixture(t *testing.T, b testserver.Bucket) connectortest.Fixture {
	s, n := spoiled(t, b)
	serial := 0
	q := &connector.Query{Collection: "things/", Cutoff: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		Anchor: connector.Anchor{Kind: connector.AnchorName, Layout: "*-YYYY-MM-DD*", Zone: time.UTC}}
	return connectortest.Fixture{
		Connector: s.Connector, Query: q,
		Plant: func(a connectortest.Age) connector.Locator {
			serial++
			date := map[connectortest.Age]string{connectortest.Due: "2026-02-01", connectortest.Young: "2026-03-01",
				connectortest.Undated: "some-day"}[a]
			key := fmt.Sprintf("things/%03d-%s.json", serial*7919%1000, date)
			s.put(key, fmt.Sprint("body ", serial))
			return connector.Locator(key)
		},
		Absent: "things/absent-2026-02-01.json",
		Has:    func(at connector.Locator) bool { return slices.Contains(s.leftKeys(), string(at)) },
		Dump:   func() string { return strings.Join(s.left(), "\n") },
		Change: func(at connector.Locator) { serial++; s.put(string(at), fmt.Sprint("another body ", serial)) },
		Remove: func(at connector.Locator) { s.destroy(string(at)) },
		Break: func() {
			n.spoil(func(w http.ResponseWriter, _ *http.Request) bool { cut(w); return true })
		},
		Restore: n.heal,
	}
}

// destroy removes a key with all its versions, without our code.
func (s *store) destroy(key string) {
	s.t.Helper()
	for _, l := range s.left() {
		rest, ok := strings.CutPrefix(l, key+" ")
		if !ok {
			continue
		}
		_, id, _ := strings.Cut(rest, " ")
		in := &s3.DeleteObjectInput{Bucket: &s.Name, Key: &key, VersionId: aws.String(id)}
		if id == "null" || id == "" {
			in.VersionId = nil
		}
		if _, err := s.s3.DeleteObject(s.t.Context(), in); err != nil {
			s.t.Fatal(err)
		}
	}
	if slices.Contains(s.leftKeys(), key) { // a marker took its place
		for _, l := range s.left() {
			if rest, ok := strings.CutPrefix(l, key+" "); ok {
				_, id, _ := strings.Cut(rest, " ")
				if _, err := s.s3.DeleteObject(s.t.Context(), &s3.DeleteObjectInput{Bucket: &s.Name, Key: &key, VersionId: &id}); err != nil {
					s.t.Fatal(err)
				}
			}
		}
	}
}
