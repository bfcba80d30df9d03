package rows_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/epitaph/epitaph/connector"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// A wall clock that is read in its zone, around the cutoff and around the
// hours that a change of clocks repeats or skips.
func TestNaiveAnchorsAreReadInTheirZone(t *testing.T) {
	t.Parallel()
	cases := []struct{ zone, wall, want string }{
		{"UTC", "2026-11-01 11:59:59.999999", "2026-11-01T11:59:59.999999Z"},
		{"UTC", "2026-11-01 12:00:00", ""},
		{"Europe/Stockholm", "2026-11-01 12:59:59.999999", "2026-11-01T11:59:59.999999Z"},
		{"Europe/Stockholm", "2026-11-01 13:00:00", ""},
		{"America/New_York", "2026-11-01 06:59:59", "2026-11-01T11:59:59Z"},
		{"America/New_York", "2026-11-01 07:00:00", ""},
		{"Pacific/Kiritimati", "2026-11-02 01:59:59", "2026-11-01T11:59:59Z"},
		{"Pacific/Kiritimati", "2026-11-02 02:00:00", ""},
		{"Pacific/Pago_Pago", "2026-11-01 00:59:59", "2026-11-01T11:59:59Z"},
		{"Pacific/Pago_Pago", "2026-11-01 01:00:00", ""},
		// 02:30 occurred twice on 25 October 2026 in Stockholm, at 00:30 and 01:30 UTC.
		{"Europe/Stockholm", "2026-10-25 02:30:00", "2026-10-25T01:30:00Z"},
		{"Europe/Stockholm", "2026-10-25 01:59:59", "2026-10-24T23:59:59Z"},
		{"Europe/Stockholm", "2026-10-25 03:00:00", "2026-10-25T02:00:00Z"},
		// 02:30 did not occur on 29 March 2026.
		{"Europe/Stockholm", "2026-03-29 02:30:00", "2026-03-29T01:30:00Z"},
		{"Europe/Stockholm", "2026-03-29 03:30:00", "2026-03-29T01:30:00Z"},
		{"Australia/Lord_Howe", "2026-04-05 01:45:00", "2026-04-04T15:15:00Z"}, // repeats half an hour
	}
	on(t, func(s *store) {
		s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at "+s.stamp()+")", "CREATE INDEX ix ON root (created_at)")
		for _, c := range cases {
			s.do("DELETE FROM root", fmt.Sprintf("INSERT INTO root VALUES (1, '%s')", c.wall))
			q := query("root")
			q.Anchor.Zone = zone(s.T, c.zone)
			var got string
			items := s.scan(q)
			for _, it := range items {
				got = it.Anchor.Format(time.RFC3339Nano)
				if it.Anchor.Location() != time.UTC {
					s.Errorf("anchor in %v, want UTC", it.Anchor.Location())
				}
			}
			if got != c.want {
				s.Errorf("%s in %s: got %q, want %q", c.wall, c.zone, got, c.want)
			}
			cl, rs := s.c.Claim(s.ctx(), q, []connector.Item{{Locator: s.at("root", 1)}})
			if want := map[bool]string{true: "present NOT_DUE", false: "present ELIGIBLE"}[c.want == ""]; reasons(rs)[0] != want {
				s.Errorf("%s in %s: claim says %s, want %s", c.wall, c.zone, reasons(rs)[0], want)
			}
			cl.Release()
		}
	})
}

func TestAnchorTypes(t *testing.T) {
	t.Parallel()
	type row struct{ value, want string } // want: "" not an item, "undated", "error" or an instant
	cases := map[string][]struct {
		typ   string
		zone  *time.Location
		fault string
		rows  []row
	}{
		"postgres": {
			{typ: "timestamptz", rows: []row{{"'2026-11-01 13:59:59.999999+02'", "2026-11-01T11:59:59.999999Z"}, {"'2026-11-01 12:00:00+00'", ""},
				{"NULL", "undated"}, {"'infinity'", ""}, {"'-infinity'", "error"}}},
			{typ: "timestamptz", zone: time.UTC, rows: []row{{"'2026-11-01 13:59:59+02'", "2026-11-01T11:59:59Z"}}},
			{typ: "timestamp", fault: "without a zone"},
			{typ: "date", fault: "without a zone"},
			{typ: "date", zone: time.UTC, rows: []row{{"'2026-10-31'", "2026-11-01T00:00:00Z"}, {"'2026-11-01'", ""}}},
			{typ: "text", zone: time.UTC, rows: []row{{"'2026-10-31T10:00:00Z'", "2026-10-31T10:00:00Z"}, {"'yesterday'", "error"}, {"'2026-11-01 15:00:00+05:30'", "2026-11-01T09:30:00Z"}}},
			{typ: "integer", zone: time.UTC, fault: "holds no timestamp"},
			{typ: "boolean", zone: time.UTC, fault: "holds no timestamp"},
		},
		"mariadb": {
			{typ: "timestamp(6) NULL", rows: []row{{"'2026-11-01 22:29:59.999999'", "2026-11-01T11:59:59.999999Z"}, {"'2026-11-01 22:30:00'", ""}, {"NULL", "undated"}}}, // written at +10:30
			{typ: "datetime(6)", fault: "without a zone"},
			{typ: "datetime", zone: time.UTC, rows: []row{{"'2026-11-01 11:59:59'", "2026-11-01T11:59:59Z"}, {"'2026-11-01 12:00:00'", ""}}},
			{typ: "date", zone: time.UTC, rows: []row{{"'2026-10-31'", "2026-11-01T00:00:00Z"}, {"'2026-11-01'", ""}}},
			{typ: "varchar(50)", zone: time.UTC, rows: []row{{"'2026-10-31T10:00:00Z'", "2026-10-31T10:00:00Z"}, {"'Yesterday'", "error"}}},
			{typ: "year", zone: time.UTC, fault: "holds no timestamp"},
			{typ: "bigint", zone: time.UTC, fault: "holds no timestamp"},
		},
		"sqlite": {
			{typ: "DATETIME", zone: time.UTC, rows: []row{
				{"'2026-11-01 10:00:00.000000'", "2026-11-01T10:00:00Z"}, {"'2026-11-01T11:59:59.9Z'", "2026-11-01T11:59:59.9Z"},
				{"'2026-11-01T12:00:00Z'", ""}, {"'2026-11-01 13:30:00+02:00'", "2026-11-01T11:30:00Z"}, {"'2026-11-02 01:00:00+14:00'", "2026-11-01T11:00:00Z"},
				{"'2026-11-01 10:00:00-05:00'", ""}, {"'2026-10-31'", "2026-11-01T00:00:00Z"}, {"'2026-11-01'", ""}, {"NULL", "undated"},
				{"'soon'", "error"}, {"''", "error"}, {"x'00'", "error"}, {"1793000000", "2026-10-26T07:33:20Z"}, {"1793000000000", "error"}, {"'2026-13-01'", ""}}},
			{typ: "TEXT", rows: []row{{"'2026-11-01T11:59:59Z'", "2026-11-01T11:59:59Z"}}},
			{typ: "TEXT", fault: "without a zone", rows: []row{{"'2026-11-01 11:59:59'", ""}}},
			{typ: "INTEGER", rows: []row{{"1793000000", "2026-10-26T07:33:20Z"}, {"1793534400", ""}, {"1793534399", "2026-11-01T11:59:59Z"},
				{"NULL", "undated"}, {"'never'", "error"}, {"-200000000000", "error"}}},
			{typ: "REAL", zone: time.UTC, fault: "holds no timestamp"},
			{typ: "BLOB", zone: time.UTC, fault: "holds no timestamp"},
		},
	}
	for system, list := range cases {
		for i, c := range list {
			for _, indexed := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/%d/%v", system, c.typ, i, indexed), func(t *testing.T) {
					t.Parallel()
					s := open(t, system)
					s.do("CREATE TABLE root (id integer PRIMARY KEY, created_at " + c.typ + ")")
					if indexed {
						s.do("CREATE INDEX ix ON root (created_at)")
					}
					var want []string
					for n, r := range c.rows {
						s.do(fmt.Sprintf("INSERT INTO root VALUES (%d, %s)", n, r.value))
						if r.want != "" {
							want = append(want, fmt.Sprintf("%d %s", n, r.want))
						}
					}
					q := query("root")
					q.Anchor.Zone = c.zone
					if c.fault != "" {
						if got := faults(s.check(q)); len(got) != 1 || !strings.Contains(got[0], c.fault) {
							t.Errorf("faults: got %q, want %q", got, c.fault)
						}
						return
					}
					s.c = s.connectChunk(2)
					var got []string
					for _, it := range s.scan(q) {
						switch {
						case it.Err != nil:
							got = append(got, it.ID+" error")
						case it.Anchor.IsZero():
							got = append(got, it.ID+" undated")
						default:
							got = append(got, it.ID+" "+it.Anchor.Format(time.RFC3339Nano))
						}
					}
					slices.Sort(got)
					slices.Sort(want)
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("items (-want +got):\n%s", d)
					}
				})
			}
		}
	}
}
