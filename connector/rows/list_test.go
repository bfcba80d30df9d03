package rows_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
)

// listed returns "id:values" of every row that a list gives, in its order.
func listed(c *rows.Connector, s *store, q *connector.Query) (string, error) {
	s.Helper()
	var got []string
	for it, err := range c.List(s.Context(), q) {
		if err != nil {
			return strings.Join(got, " "), err
		}
		text := it.ID
		if text == "" {
			text = string(it.Locator)[strings.Index(string(it.Locator), "/"):]
		}
		for _, v := range it.Values {
			text += fmt.Sprintf(":%v", v)
		}
		if it.Err != nil {
			text += "!"
		}
		got = append(got, text)
	}
	return strings.Join(got, " "), nil
}

func want(columns ...string) (list []connector.Want) {
	for _, c := range columns {
		list = append(list, connector.Want{Refs: []connector.Ref{{Column: c}}})
	}
	return list
}

// A list yields every row by its key, without an anchor, and whether or not the row
// could go.
func TestList(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE files (id integer PRIMARY KEY, path varchar(100), size bigint, meta text)")
		s.do("CREATE TABLE kept (id integer PRIMARY KEY, file_id integer NOT NULL REFERENCES files (id))") // no rule could take its parent
		for i := range 7 {
			s.do(fmt.Sprintf("INSERT INTO files VALUES (%d, 'p%d', %d, '{\"k\": \"v%d\"}')", i, i, 10*i, i))
		}
		s.do("INSERT INTO files VALUES (8, NULL, NULL, 'no json')")
		s.do("INSERT INTO kept VALUES (1, 3)")
		for _, chunk := range []int{1, 2, 7, 8, 100} {
			got, err := listed(s.connectChunk(chunk), s, &connector.Query{Collection: "files", Where: "id <> 5", Wants: want("path", "size")})
			if want := "0:[[p0]]:[[0]] 1:[[p1]]:[[10]] 2:[[p2]]:[[20]] 3:[[p3]]:[[30]] 4:[[p4]]:[[40]] 6:[[p6]]:[[60]] 8:[]:[]"; err != nil || got != want {
				s.Errorf("by %d: %v\n got %s\nwant %s", chunk, err, got, want)
			}
		}
		json := &connector.Query{Collection: "files", Where: "id > 5", Wants: []connector.Want{{Refs: []connector.Ref{{Column: "meta", Path: []string{"k"}}}}}}
		if got, err := listed(s.c, s, json); err != nil || got != "6:[[v6]] 8:[]!" {
			s.Errorf("json: %v, %s", err, got)
		}
		s.do("CREATE TABLE pairs (a varchar(20), b integer, path varchar(20), PRIMARY KEY (a, b))")
		for _, a := range []string{"x", "y", "a/b"} {
			for b := range 3 {
				s.do(fmt.Sprintf("INSERT INTO pairs VALUES ('%s', %d, 'p')", a, b))
			}
		}
		if got, err := listed(s.connectChunk(2), s, &connector.Query{Collection: "pairs", Wants: want("path")}); err != nil || strings.Count(got, "[[p]]") != 9 {
			s.Errorf("a composite key: %v, %s", err, got)
		}
		found, err := s.c.CheckList(s.Context(), &connector.Query{Collection: "files", Where: "id > 5", Wants: want("path", "size")})
		if err != nil || len(found) > 0 {
			s.Errorf("check: %v, %+v", err, found)
		}
	})
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	on(t, func(s *store) {
		s.do("CREATE TABLE files (id integer PRIMARY KEY, path varchar(100))")
		s.do("CREATE TABLE other (id integer PRIMARY KEY, path varchar(100))")
		s.do("CREATE TABLE keyless (path varchar(100))")
		for name, c := range map[string]struct {
			q    connector.Query
			want string
			late bool // only the database can tell
		}{
			"table":   {q: connector.Query{Collection: "fles"}, want: `there is no table "fles"`},
			"column":  {q: connector.Query{Collection: "files", Wants: want("pth")}, want: `no column "pth"`},
			"other":   {q: connector.Query{Collection: "files", Wants: []connector.Want{{Refs: []connector.Ref{{Table: "other", Column: "path"}}}}}, want: "not of the table"},
			"no key":  {q: connector.Query{Collection: "keyless"}, want: "no primary key"},
			"escapes": {q: connector.Query{Collection: "files", Where: "1=1) OR (1=1"}, want: "closes a parenthesis"},
			"sql":     {q: connector.Query{Collection: "files", Where: "nothing = 1"}, want: "not understood", late: true},
		} {
			found, err := s.c.CheckList(s.Context(), &c.q)
			if err != nil || len(found) == 0 || found[0].Severity != connector.Fault || !strings.Contains(found[0].Text, c.want) {
				s.Errorf("%s: %v, %+v", name, err, found)
			}
			got, err := listed(s.c, s, &c.q)
			if got != "" || err == nil || !c.late && !errors.Is(err, fs.ErrInvalid) {
				s.Errorf("%s: it was listed: %v, %s", name, err, got)
			}
		}
	})
}
