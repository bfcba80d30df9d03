package rows

import (
	"context"
	"strings"
)

const mysqlOwn = "('mysql', 'information_schema', 'performance_schema', 'sys')"

// catalog reads all databases that the role can see; the one of the DSN is
// found by an unqualified name.
func (d mysqlDialect) catalog(ctx context.Context, q querier) (*catalog, error) {
	server, err := d.server(ctx, q)
	if err != nil {
		return nil, err
	}
	cat := &catalog{unfit: server.unfit()}
	byName := map[[2]string]*table{}
	err = newStmt(d, `SELECT table_schema, table_name, table_type, COALESCE(engine, ''), CASE WHEN table_schema = DATABASE() THEN 1 ELSE 0 END
		FROM information_schema.tables WHERE table_schema NOT IN `, mysqlOwn).each(ctx, q, 5, func(row []any) error {
		t := &table{visible: isTrue(row[4])}
		t.schema, _ = asText(row[0])
		t.name, _ = asText(row[1])
		kind, _ := asText(row[2])
		engine, _ := asText(row[3])
		switch {
		case kind == "SYSTEM VERSIONED":
			t.unfit = "keeps deleted rows in its history (SYSTEM VERSIONING)"
		case kind != "BASE TABLE":
			t.view = true
		case !strings.EqualFold(engine, "InnoDB"):
			t.unfit = "is of the engine " + engine + ", which has no transactions"
		}
		cat.tables = append(cat.tables, t)
		byName[[2]string{t.schema, t.name}] = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, load := range []func(context.Context, querier, map[[2]string]*table) error{d.columns, d.triggers} {
		if err := load(ctx, q, byName); err != nil {
			return nil, err
		}
	}
	if err := d.indexes(ctx, q, server, byName); err != nil {
		return nil, err
	}
	if server.mariaDB {
		if err := d.jsonColumns(ctx, q, byName); err != nil {
			return nil, err
		}
	}
	keys, err := d.foreignKeys(ctx, q, byName)
	if err != nil {
		return nil, err
	}
	cat.link(keys)
	return cat, nil
}

func (d mysqlDialect) columns(ctx context.Context, q querier, byName map[[2]string]*table) error {
	return newStmt(d, `SELECT table_schema, table_name, column_name, data_type, column_type, CASE WHEN is_nullable = 'NO' THEN 1 ELSE 0 END,
		CASE WHEN generation_expression <> '' THEN 1 ELSE 0 END
		FROM information_schema.columns WHERE table_schema NOT IN `, mysqlOwn, ` ORDER BY table_schema, table_name, ordinal_position`).each(ctx, q, 7,
		func(row []any) error {
			t := tableOf(row, byName)
			if t == nil {
				return nil
			}
			c := &column{table: t, notNull: isTrue(row[5]), generated: isTrue(row[6])}
			c.name, _ = asText(row[2])
			c.typ, _ = asText(row[3])
			c.typ = strings.ToLower(c.typ)
			if full, _ := asText(row[4]); strings.Contains(full, "unsigned") {
				c.typ += " unsigned"
			}
			t.columns = append(t.columns, c)
			return nil
		})
}

// jsonColumns marks the columns that MariaDB keeps as LONGTEXT with a check of
// the column's own name, which is what it makes of the type JSON.
func (d mysqlDialect) jsonColumns(ctx context.Context, q querier, byName map[[2]string]*table) error {
	return newStmt(d, `SELECT constraint_schema, table_name, constraint_name FROM information_schema.check_constraints
		WHERE LOWER(check_clause) = LOWER(CONCAT('json_valid(', CHAR(96), constraint_name, CHAR(96), ')'))`).each(ctx, q, 3, func(row []any) error {
		if t := tableOf(row, byName); t != nil {
			name, _ := asText(row[2])
			if c := t.column(name); c != nil {
				c.json = true
			}
		}
		return nil
	})
}

// indexes reads the B-trees; a column of which only a prefix is indexed, and an
// expression, are nil columns. One that the optimizer is told not to see has no
// name, as a statement must not name it.
func (d mysqlDialect) indexes(ctx context.Context, q querier, server mysqlServer, byName map[[2]string]*table) error {
	hidden := "CASE WHEN is_visible = 'NO' THEN 1 ELSE 0 END"
	switch {
	case server.unfit() != "": // too old to have such indexes
		hidden = "0"
	case server.mariaDB:
		hidden = "CASE WHEN ignored = 'YES' THEN 1 ELSE 0 END"
	}
	last := ""
	return newStmt(d, `SELECT table_schema, table_name, index_name, CASE WHEN non_unique = 0 THEN 1 ELSE 0 END, column_name,
		CASE WHEN sub_part IS NULL THEN 0 ELSE 1 END, `, hidden, `
		FROM information_schema.statistics WHERE index_type = 'BTREE' AND table_schema NOT IN `, mysqlOwn,
		` ORDER BY table_schema, table_name, index_name, seq_in_index`).each(ctx, q, 7, func(row []any) error {
		t := tableOf(row, byName)
		if t == nil {
			return nil
		}
		name, _ := asText(row[2])
		if at := t.full() + "\x00" + name; at != last {
			last = at
			t.indexes = append(t.indexes, index{unique: isTrue(row[3])})
			if !isTrue(row[6]) {
				t.indexes[len(t.indexes)-1].name = name
			}
		}
		x := &t.indexes[len(t.indexes)-1]
		var c *column
		if col, ok := asText(row[4]); ok && !isTrue(row[5]) {
			c = t.column(col)
		}
		x.columns = append(x.columns, c)
		if name == "PRIMARY" {
			t.pk = x.columns
			// Read as a text and asked for by it, such a row would not be found.
			if c != nil && oneOf(c.typ, "float", "float unsigned", "bit") {
				t.unfit = "has a key of the type " + c.typ + ", whose values are not equal to how they are written"
			}
		}
		return nil
	})
}

func (d mysqlDialect) triggers(ctx context.Context, q querier, byName map[[2]string]*table) error {
	return newStmt(d, `SELECT event_object_schema, event_object_table FROM information_schema.triggers
		WHERE event_manipulation = 'DELETE' AND event_object_schema NOT IN `, mysqlOwn).each(ctx, q, 2, func(row []any) error {
		if t := tableOf(row, byName); t != nil {
			t.triggers = true
		}
		return nil
	})
}

// foreignKeys reads the whole graph, across databases, in one query.
func (d mysqlDialect) foreignKeys(ctx context.Context, q querier, byName map[[2]string]*table) ([]*foreignKey, error) {
	var keys []*foreignKey
	var last *foreignKey
	err := newStmt(d, `SELECT k.table_schema, k.table_name, k.referenced_table_schema, k.referenced_table_name, k.constraint_name,
		k.column_name, k.referenced_column_name, r.delete_rule
		FROM information_schema.key_column_usage AS k JOIN information_schema.referential_constraints AS r
		ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name
		WHERE k.referenced_table_name IS NOT NULL AND k.table_schema NOT IN `, mysqlOwn,
		` ORDER BY k.table_schema, k.table_name, k.constraint_name, k.ordinal_position`).each(ctx, q, 8, func(row []any) error {
		child, parent := tableOf(row, byName), tableOf(row[2:], byName)
		if child == nil || parent == nil {
			return nil
		}
		name, _ := asText(row[4])
		if last == nil || last.child != child || last.name != name {
			how, _ := asText(row[7])
			last = &foreignKey{name: name, child: child, parent: parent, onDelete: parseAction(how)}
			keys = append(keys, last)
		}
		from, _ := asText(row[5])
		to, _ := asText(row[6])
		last.columns = append(last.columns, child.column(from))
		last.refs = append(last.refs, parent.column(to))
		return nil
	})
	sound := keys[:0]
	for _, k := range keys {
		if !hasNil(k.columns) && !hasNil(k.refs) {
			sound = append(sound, k)
		}
	}
	return sound, err
}
