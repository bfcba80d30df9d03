package rows

import (
	"context"
	"regexp"
	"strings"
)

var fullText = regexp.MustCompile(`(?is)^\s*CREATE\s+VIRTUAL\s+TABLE.*\bUSING\s+fts([345])\b`)

// catalog reads the main schema. Names of tables and columns are matched
// without regard to case, as SQLite does.
func (d sqliteDialect) catalog(ctx context.Context, q querier) (*catalog, error) {
	cat := &catalog{}
	byName := map[string]*table{}
	err := newStmt(d, `SELECT name, type, coalesce(sql, ''), tbl_name FROM sqlite_schema
		WHERE type IN ('table', 'view', 'trigger') ORDER BY type, name`).each(ctx, q, 4, func(row []any) error {
		name, _ := asText(row[0])
		kind, _ := asText(row[1])
		text, _ := asText(row[2])
		if kind == "trigger" {
			on, _ := asText(row[3])
			if t := byName[strings.ToLower(on)]; t != nil {
				t.triggers = true
			}
			return nil
		}
		t := &table{name: name, visible: true, view: kind == "view"}
		if strings.HasPrefix(strings.ToUpper(strings.TrimSpace(text)), "CREATE VIRTUAL") {
			t.view = true
			if m := fullText.FindStringSubmatch(text); m != nil {
				cat.warn = append(cat.warn, "full-text index "+name+" keeps words of deleted rows until it is rebuilt, "+
					"unless it is of FTS5 with the option secure-delete")
			}
		}
		cat.tables = append(cat.tables, t)
		byName[strings.ToLower(name)] = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := d.columns(ctx, q, byName); err != nil {
		return nil, err
	}
	if err := d.indexes(ctx, q, byName); err != nil {
		return nil, err
	}
	keys, err := d.foreignKeys(ctx, q, byName)
	if err != nil {
		return nil, err
	}
	cat.link(keys)
	return cat, nil
}

const sqliteTables = `(SELECT name FROM sqlite_schema WHERE type = 'table' AND upper(ltrim(sql)) NOT LIKE 'CREATE VIRTUAL%') AS m`

func (d sqliteDialect) columns(ctx context.Context, q querier, byName map[string]*table) error {
	pks := map[*table]map[int64]*column{}
	err := newStmt(d, `SELECT m.name, x.name, x.type, x."notnull", x.pk FROM `, sqliteTables,
		` JOIN pragma_table_xinfo(m.name) AS x WHERE x.hidden <> 1 ORDER BY m.name, x.cid`).each(ctx, q, 5, func(row []any) error {
		on, _ := asText(row[0])
		t := byName[strings.ToLower(on)]
		name, _ := asText(row[1])
		typ, _ := asText(row[2])
		c := &column{table: t, name: name, typ: strings.ToLower(typ), notNull: isTrue(row[3])}
		t.columns = append(t.columns, c)
		if n, _ := row[4].(int64); n > 0 {
			if pks[t] == nil {
				pks[t] = map[int64]*column{}
			}
			pks[t][n] = c
		}
		return nil
	})
	for t, pk := range pks {
		for n := int64(1); n <= int64(len(pk)); n++ {
			t.pk = append(t.pk, pk[n])
		}
		if len(t.pk) == 1 && t.pk[0].typ == "integer" {
			t.pk[0].notNull = true // the rowid
		}
	}
	return err
}

func (d sqliteDialect) indexes(ctx context.Context, q querier, byName map[string]*table) error {
	last := ""
	return newStmt(d, `SELECT m.name, l.name, l."unique", l.partial, i.name FROM `, sqliteTables,
		` JOIN pragma_index_list(m.name) AS l JOIN pragma_index_info(l.name) AS i ORDER BY m.name, l.seq, i.seqno`).each(ctx, q, 5,
		func(row []any) error {
			on, _ := asText(row[0])
			name, _ := asText(row[1])
			t := byName[strings.ToLower(on)]
			if at := on + "\x00" + name; at != last {
				last = at
				t.indexes = append(t.indexes, index{unique: isTrue(row[2]), partial: isTrue(row[3])})
			}
			x := &t.indexes[len(t.indexes)-1]
			var c *column
			if col, ok := asText(row[4]); ok {
				c = t.column(col)
			}
			x.columns = append(x.columns, c)
			return nil
		})
}

func (d sqliteDialect) foreignKeys(ctx context.Context, q querier, byName map[string]*table) ([]*foreignKey, error) {
	var keys []*foreignKey
	var last *foreignKey
	lastID := int64(-1)
	err := newStmt(d, `SELECT m.name, f.id, f.seq, f."table", f."from", f."to", f.on_delete FROM `, sqliteTables,
		` JOIN pragma_foreign_key_list(m.name) AS f ORDER BY m.name, f.id, f.seq`).each(ctx, q, 7, func(row []any) error {
		child, _ := asText(row[0])
		id, _ := row[1].(int64)
		parent, _ := asText(row[3])
		from, _ := asText(row[4])
		to, named := asText(row[5])
		how, _ := asText(row[6])
		t, p := byName[strings.ToLower(child)], byName[strings.ToLower(parent)]
		if p == nil {
			last = nil
			return nil // a parent that does not exist: no row of it can go
		}
		if last == nil || last.child != t || lastID != id {
			last = &foreignKey{child: t, parent: p, onDelete: parseAction(how), deferrable: true}
			lastID = id
			keys = append(keys, last)
		}
		n := len(last.columns)
		last.columns = append(last.columns, t.column(from))
		if named {
			last.refs = append(last.refs, p.column(to))
		} else if n < len(p.pk) {
			last.refs = append(last.refs, p.pk[n])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	sound := keys[:0]
	for _, k := range keys {
		if len(k.refs) == len(k.columns) && !hasNil(k.columns) && !hasNil(k.refs) {
			sound = append(sound, k)
		}
	}
	return sound, nil
}

func hasNil(cols []*column) bool {
	for _, c := range cols {
		if c == nil {
			return true
		}
	}
	return false
}

func parseAction(s string) action {
	switch strings.ToUpper(s) {
	case "CASCADE", "C":
		return cascade
	case "SET NULL", "N":
		return setNull
	case "SET DEFAULT", "D":
		return setDefault
	case "RESTRICT", "R":
		return restrict
	}
	return noAction
}
