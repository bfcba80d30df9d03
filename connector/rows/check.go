package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/connector"
)

// Check implements [connector.Connector]. Everything that the query will ask
// of the database is planned by the database, in read-only transactions; what
// is run of it are the conditions, on the first rows.
func (c *Connector) Check(ctx context.Context, q *connector.Query) ([]connector.Finding, error) {
	b, err := c.rebind(ctx, q)
	if err != nil {
		return nil, err
	}
	if !b.sound() {
		return b.findings, nil
	}
	for _, cond := range b.conditions() {
		s := newStmt(c.d, "SELECT 1 FROM ", quoteTable(c.d, cond.on), " WHERE (", cond.text, "\n)")
		if err := c.try(ctx, b, s, cond.subject, "the condition is not understood",
			"write one condition on "+cond.on.full()+" that is true or false for a row; "+namesOfColumns(cond.on)); err != nil {
			return nil, err
		}
	}
	if !b.sound() {
		return b.findings, nil
	}
	if err := c.checkThen(ctx, b); err != nil || !b.sound() {
		return b.findings, err
	}
	for _, check := range []func(context.Context, *binding) error{c.checkConditions, c.checkReads, c.checkZone, c.checkArrays, c.checkPrivileges, c.checkFile} {
		if err := check(ctx, b); err != nil {
			return nil, err
		}
	}
	return b.findings, nil
}

// namesOfColumns names the columns of a table, not all of a wide one: what a condition
// gets wrong is most often a name.
func namesOfColumns(t *table) string {
	names := make([]string, 0, len(t.columns))
	for _, c := range t.columns {
		names = append(names, c.name)
	}
	const most = 20
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return "its columns are " + strings.Join(names, ", ")
}

// try lets the database plan a statement; a refusal is a fault of the subject.
func (c *Connector) try(ctx context.Context, b *binding, s *stmt, subject, text, hint string) error {
	err := c.readWithin(ctx, 10*c.trial(), func(ctx context.Context, conn *sql.Conn) error {
		rows, err := conn.QueryContext(ctx, c.d.explain()+s.b.String(), s.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
		}
		return rows.Err()
	})
	var late *TimeoutError
	switch {
	case err == nil:
	case errors.As(err, &late):
		b.fault(subject, fmt.Sprintf("the database did not plan it within %v", late.Limit), hint)
	case c.d.classify(err) == refusedFailure:
		b.fault(subject, text, hint)
	case c.d.classify(err) == deniedFailure:
		b.fault(subject, "the role may not read what it names", "GRANT SELECT ON "+b.root.full()+", and on the other tables that the rule names, TO the role of the DSN")
	default:
		return err
	}
	return nil
}

// trialRows is how many rows a condition is tried on.
const trialRows = 20

// trial is how long a condition may take for these.
func (c *Connector) trial() time.Duration { return max(c.o.LookTimeout/180, time.Millisecond) }

// checkConditions tries each condition on a few rows. What the database
// understands it may still refuse, or never come to an end with.
func (c *Connector) checkConditions(ctx context.Context, b *binding) error {
	for _, cond := range b.conditions() {
		s := newStmt(c.d, "SELECT ", truth(cond.text), " FROM ", quoteTable(c.d, cond.on), fmt.Sprintf(" LIMIT %d", trialRows))
		err := c.readWithin(ctx, c.trial(), func(ctx context.Context, conn *sql.Conn) error {
			return s.each(ctx, conn, 1, func([]any) error { return nil })
		})
		var late *TimeoutError
		switch {
		case err == nil:
		case errors.As(err, &late):
			b.fault(cond.subject, fmt.Sprintf("the condition took longer than %v for the first %d rows", late.Limit, trialRows), hintSlow)
		case c.d.classify(err) == refusedFailure:
			b.fault(cond.subject, textRefused, hintRefused)
		case c.d.classify(err) == deniedFailure:
			b.fault(cond.subject, "the role may not run what it names", "grant it to the role of the DSN, or leave it out")
		default:
			return err
		}
	}
	return nil
}

const (
	hintSlow    = "write one that an index can answer; a recursive query in it must come to an end"
	textRefused = "the database refuses the condition when it is run"
	hintRefused = "run SELECT count(*) FROM the table WHERE the condition as the same user, and see what it says"
)

// checkReads plans the scan, the reading of values, the looks for survivors
// and the joins to linked rows, which proves that their types go together.
func (c *Connector) checkReads(ctx context.Context, b *binding) error {
	width := 0
	pass := pass{byAnchor: b.byAnchor, dated: true, undated: true}
	if err := c.try(ctx, b, b.chunkStmt(pass, nil, 1, &width), "collection", "the collection cannot be read", ""); err != nil {
		return err
	}
	sets := map[*table][]key{b.root: {}}
	for _, l := range b.links {
		sets[l.table] = []key{}
	}
	for i := range b.wants {
		w, subject := &b.wants[i], fmt.Sprintf("parts[%d]", i)
		if len(w.path) > 0 {
			if err := c.try(ctx, b, b.wantStmt(w, nil), subject, "the columns that join its tables do not compare", ""); err != nil {
				return err
			}
		}
		for j := range w.looks {
			if err := c.try(ctx, b, b.lookStmt(&w.looks[j], nil, sets), subject, "referenced_by does not compare with the column of the part", ""); err != nil {
				return err
			}
		}
	}
	for i := range b.links {
		if err := c.try(ctx, b, b.linkedStmt(i, sets), fmt.Sprintf("links[%d]", i), "the columns of on: do not compare",
			"equate columns of the same type"); err != nil {
			return err
		}
	}
	return nil
}

// checkZone looks for one text timestamp without a zone where none is declared.
func (c *Connector) checkZone(ctx context.Context, b *binding) error {
	if b.kind != textAnchor || b.zone != nil {
		return nil
	}
	t := quoteTable(c.d, b.root)
	cond := c.d.naiveText(of(c.d, t, []*column{b.anchor})[0])
	naive := false
	err := c.readWithin(ctx, c.trial(), func(ctx context.Context, conn *sql.Conn) error {
		return newStmt(c.d, "SELECT 1 FROM ", t, " WHERE ", cond, " LIMIT 1").each(ctx, conn, 1, func([]any) error {
			naive = true
			return nil
		})
	})
	var late *TimeoutError
	if errors.As(err, &late) && !naive {
		b.warn("anchor", fmt.Sprintf("no timestamp without a zone was found in column %s of %s within %v; the rest was not looked at",
			b.anchor.name, b.root.full(), late.Limit), "declare a zone if there may be one: such a row is otherwise INVALID, and stays")
		return nil
	}
	if naive {
		b.fault("anchor", fmt.Sprintf("column %s of %s holds timestamps without a zone", b.anchor.name, b.root.full()),
			fmt.Sprintf("say in which zone they were written, such as UTC or Europe/Berlin: anchor: {column: %s, zone: …}", b.anchor.name))
	}
	return err
}

// checkPrivileges warns when the role may not delete, or lock what it deletes. It
// is no fault: a plan may be made by a role that can only read.
func (c *Connector) checkPrivileges(ctx context.Context, b *binding) error {
	if b.keeps() {
		return nil
	}
	var denied []string
	locks := true
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		if locks, err = c.d.mayLock(ctx, conn, b.root); err != nil {
			return err
		}
		for _, n := range b.nodes {
			may, err := c.d.mayDelete(ctx, conn, n.table)
			if err != nil {
				return err
			}
			if !may {
				denied = append(denied, n.table.full())
			}
		}
		return nil
	})
	if !locks {
		b.warn("collection", "the role may not lock rows of "+b.root.full()+", so none of them can go: PostgreSQL wants the right to update for that, of one column at least",
			fmt.Sprintf("GRANT UPDATE (%s) ON %s TO the role that purges", b.root.pk[0].name, b.root.full()))
	}
	if len(denied) > 0 {
		b.warn("collection", "the role may not delete from "+strings.Join(denied, ", "), "grant DELETE to the role that purges")
	}
	if err != nil && c.d.classify(err) == refusedFailure {
		return errors.Join(errors.New("read privileges"), err)
	}
	return err
}

// checkFile warns when SQLite could not write: like a missing grant, it is no
// fault of a plan.
func (c *Connector) checkFile(ctx context.Context, b *binding) error {
	if _, ok := c.d.(sqliteDialect); !ok {
		return nil
	}
	path := ""
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) error {
		return newStmt(c.d, "SELECT file FROM pragma_database_list WHERE name = 'main'").each(ctx, conn, 1, func(v []any) error {
			path, _ = asText(v[0])
			return nil
		})
	})
	if err != nil || path == "" {
		return err
	}
	writable := func(path string) bool { return unix.Access(path, unix.W_OK) == nil }
	if !writable(path) {
		b.warn("collection", "this user may not write to the database file, so no row of it can go",
			"let the user that purges write to the file and its directory")
	} else if !writable(filepath.Dir(path)) {
		b.warn("collection", "this user may not write to the directory of the database file, where SQLite keeps its journal, so no row may be able to go",
			"let the user that purges write to the file and its directory")
	}
	return nil
}
