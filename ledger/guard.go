package ledger

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// guards are the triggers that keep the tables insert-only, as the migrations up
// to a version make them: name to statement, and on PostgreSQL function to body.
// White space does not count.
type guards struct{ triggers, functions map[string]string }

func readGuards(dialect string, version int64) (guards, error) {
	g := guards{map[string]string{}, map[string]string{}}
	dir := "migrations/" + dialect
	files, err := fs.ReadDir(migrations, dir) // in their order
	if err != nil {
		return g, err
	}
	for _, f := range files {
		var number int64
		if _, err := fmt.Sscanf(f.Name(), "%d_", &number); err != nil {
			return g, err
		}
		if number > version {
			break
		}
		data, err := fs.ReadFile(migrations, path.Join(dir, f.Name()))
		if err != nil {
			return g, err
		}
		end := ";"
		if dialect == "sqlite" {
			end = " END;"
		}
		const create, function = "\nCREATE TRIGGER ", "\nCREATE FUNCTION "
		for _, rest := range strings.Split(string(data), create)[1:] {
			name, _, _ := strings.Cut(rest, " ")
			statement, _, _ := strings.Cut(rest, end)
			g.triggers[name] = oneLine(create + statement + strings.TrimSuffix(end, ";"))
		}
		for _, rest := range strings.Split(string(data), function)[1:] {
			name, rest, _ := strings.Cut(rest, "()")
			if parts := strings.SplitN(rest, "$$", 3); len(parts) == 3 {
				g.functions[name] = oneLine(parts[1])
			}
		}
	}
	return g, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// without lists the triggers that are not there as they were made.
func (g guards) without(intact map[string]bool) (list []string) {
	for name := range g.triggers {
		if !intact[name] {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func (s *sqlite) unguarded(ctx context.Context, q querier, version int64) ([]string, error) {
	g, err := readGuards("sqlite", version)
	if err != nil {
		return nil, err
	}
	rows, err := q.QueryContext(ctx, "SELECT name, coalesce(sql, '') FROM sqlite_schema WHERE type = 'trigger'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	intact := map[string]bool{}
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			return nil, err
		}
		intact[name] = oneLine(text) == g.triggers[name]
	}
	return g.without(intact), rows.Err()
}

// unguarded also finds triggers that are there and do not fire, and functions
// that were replaced or look at other tables.
func (p *postgres) unguarded(ctx context.Context, q querier, version int64) ([]string, error) {
	g, err := readGuards("postgres", version)
	if err != nil {
		return nil, err
	}
	rows, err := q.QueryContext(ctx, `SELECT t.tgname, pg_get_triggerdef(t.oid, true), f.proname, f.prosrc, coalesce(array_to_string(f.proconfig, ';'), ''),
		l.lanname = 'plpgsql' AND (t.tgenabled = 'A' OR t.tgenabled = 'O' AND current_setting('session_replication_role') <> 'replica')
		FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_language l ON l.oid = f.prolang
		WHERE n.nspname = $1 AND NOT t.tgisinternal`, p.schema)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	plain := strings.NewReplacer(`"`, "", " ", "") // a restored dump has other quotes
	ours := plain.Replace("search_path=" + p.schema + ",pg_temp")
	intact := map[string]bool{}
	for rows.Next() {
		var name, text, function, body, settings string
		var fires bool
		if err := rows.Scan(&name, &text, &function, &body, &settings, &fires); err != nil {
			return nil, err
		}
		made := strings.Replace(g.triggers[name], "UPDATE OR DELETE", "DELETE OR UPDATE", 1) // as the server says it
		intact[name] = fires && text == made && oneLine(body) == g.functions[function] && plain.Replace(settings) == ours
	}
	return g.without(intact), rows.Err()
}
