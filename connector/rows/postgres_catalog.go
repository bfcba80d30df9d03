package rows

import (
	"context"
	"encoding/json"
)

// catalog reads all tables outside the system's schemas. A partition is read
// as its partitioned table, which is what a policy names.
func (d postgresDialect) catalog(ctx context.Context, q querier) (*catalog, error) {
	cat := &catalog{}
	byName := map[[2]string]*table{}
	err := newStmt(d, `SELECT n.nspname::text, c.relname::text, c.relkind::text, CASE WHEN pg_table_is_visible(c.oid) THEN 1 ELSE 0 END,
		CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::regclass::text ELSE '' END
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`).each(ctx, q, 5,
		func(row []any) error {
			t := &table{visible: isTrue(row[3])}
			t.schema, _ = asText(row[0])
			t.name, _ = asText(row[1])
			kind, _ := asText(row[2])
			t.partitionOf, _ = asText(row[4])
			t.view = kind != "r" && kind != "p"
			cat.tables = append(cat.tables, t)
			byName[[2]string{t.schema, t.name}] = t
			return nil
		})
	if err != nil {
		return nil, err
	}
	for _, load := range []func(context.Context, querier, map[[2]string]*table) error{d.columns, d.indexes, d.triggers} {
		if err := load(ctx, q, byName); err != nil {
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

func tableOf(row []any, byName map[[2]string]*table) *table {
	schema, _ := asText(row[0])
	name, _ := asText(row[1])
	return byName[[2]string{schema, name}]
}

func (d postgresDialect) columns(ctx context.Context, q querier, byName map[[2]string]*table) error {
	return newStmt(d, `SELECT n.nspname::text, c.relname::text, a.attname::text,
		format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, -1), CASE WHEN a.attnotnull THEN 1 ELSE 0 END
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition
		AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY c.oid, a.attnum`).each(ctx, q, 5, func(row []any) error {
		t := tableOf(row, byName)
		if t == nil {
			return nil
		}
		name, _ := asText(row[2])
		typ, _ := asText(row[3])
		t.columns = append(t.columns, &column{table: t, name: name, typ: typ, notNull: isTrue(row[4])})
		return nil
	})
}

// indexes reads the valid B-trees; expressions are nil columns.
func (d postgresDialect) indexes(ctx context.Context, q querier, byName map[[2]string]*table) error {
	return newStmt(d, `SELECT n.nspname::text, c.relname::text, CASE WHEN x.indisunique AND x.indimmediate THEN 1 ELSE 0 END,
		CASE WHEN x.indisprimary THEN 1 ELSE 0 END, CASE WHEN x.indpred IS NOT NULL THEN 1 ELSE 0 END,
		(SELECT json_agg(a.attname ORDER BY k.n)::text FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(att, n)
		 LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.att AND k.att > 0 WHERE k.n <= x.indnkeyatts)
		FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
		WHERE x.indisvalid AND m.amname = 'btree' AND NOT c.relispartition
		AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY c.oid, i.relname`).each(ctx, q, 6, func(row []any) error {
		t := tableOf(row, byName)
		if t == nil {
			return nil
		}
		cols, err := columnsOf(t, row[5])
		if err != nil {
			return err
		}
		if isTrue(row[3]) {
			t.pk = cols
		}
		t.indexes = append(t.indexes, index{columns: cols, unique: isTrue(row[2]), partial: isTrue(row[4])})
		return nil
	})
}

// triggers marks the tables on which a trigger or rule hears of a DELETE.
func (d postgresDialect) triggers(ctx context.Context, q querier, byName map[[2]string]*table) error {
	return newStmt(d, `SELECT n.nspname::text, c.relname::text FROM (
		 SELECT tgrelid AS rel FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 8 <> 0
		 UNION SELECT ev_class FROM pg_rewrite WHERE ev_type = '4') AS x
		JOIN pg_class c ON c.oid = coalesce(pg_partition_root(x.rel), x.rel)
		JOIN pg_namespace n ON n.oid = c.relnamespace`).each(ctx, q, 2, func(row []any) error {
		if t := tableOf(row, byName); t != nil {
			t.triggers = true
		}
		return nil
	})
}

// foreignKeys reads the whole graph in one query. Constraints that the server
// cloned for partitions are left out; those declared on one partition count
// for the partitioned table.
func (d postgresDialect) foreignKeys(ctx context.Context, q querier, byName map[[2]string]*table) ([]*foreignKey, error) {
	var keys []*foreignKey
	err := newStmt(d, `SELECT cn.nspname::text, c.relname::text, pn.nspname::text, p.relname::text, k.conname::text, k.confdeltype::text,
		CASE WHEN k.condeferrable THEN 1 ELSE 0 END,
		(SELECT json_agg(a.attname ORDER BY o.n)::text FROM unnest(k.conkey) WITH ORDINALITY AS o(att, n)
		 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.att),
		(SELECT json_agg(a.attname ORDER BY o.n)::text FROM unnest(k.confkey) WITH ORDINALITY AS o(att, n)
		 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = o.att)
		FROM pg_constraint k
		JOIN pg_class c ON c.oid = coalesce(pg_partition_root(k.conrelid), k.conrelid) JOIN pg_namespace cn ON cn.oid = c.relnamespace
		JOIN pg_class p ON p.oid = coalesce(pg_partition_root(k.confrelid), k.confrelid) JOIN pg_namespace pn ON pn.oid = p.relnamespace
		WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY k.oid`).each(ctx, q, 9, func(row []any) error {
		child, parent := tableOf(row, byName), tableOf(row[2:], byName)
		if child == nil || parent == nil {
			return nil
		}
		how, _ := asText(row[5])
		k := &foreignKey{child: child, parent: parent, onDelete: parseAction(how), deferrable: isTrue(row[6])}
		k.name, _ = asText(row[4])
		if how == "a" {
			k.onDelete = noAction
		}
		var err error
		if k.columns, err = columnsOf(child, row[7]); err != nil {
			return err
		}
		if k.refs, err = columnsOf(parent, row[8]); err != nil {
			return err
		}
		if !hasNil(k.columns) && !hasNil(k.refs) {
			keys = append(keys, k)
		}
		return nil
	})
	return keys, err
}

// columnsOf finds the columns whose names are listed in JSON.
func columnsOf(t *table, list any) ([]*column, error) {
	text, _ := asText(list)
	var names []*string
	if err := json.Unmarshal([]byte(text), &names); err != nil {
		return nil, err
	}
	cols := make([]*column, len(names))
	for i, n := range names {
		if n != nil {
			cols[i] = t.column(*n)
		}
	}
	return cols, nil
}
