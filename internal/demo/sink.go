package demo

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// table names the columns that are filled, in the order in which rows are
// given. Tables come before those that refer to them.
type table struct {
	name    string
	columns []string
}

var tables = []table{
	{"projects", []string{"id", "name", "sensitivity", "status", "created_at", "updated_at", "start_date"}},
	{"project_notes", []string{"id", "project_id", "title", "body_text", "note_integrity_hash", "created_at", "updated_at"}},
	{"project_audit_events", []string{"id", "project_id", "action", "severity", "actor", "request_id", "created_at", "metadata_json"}},
	{"project_files", []string{"id", "project_id", "original_filename", "sha256", "mime_type", "size_bytes", "stored_encrypted", "storage_path", "created_at"}},
	{"transcripts", []string{"id", "title", "source", "language", "duration_seconds", "status", "created_at", "updated_at", "project_id", "raw_integrity_hash"}},
	{"transcript_segments", []string{"id", "transcript_id", "start_ms", "end_ms", "speaker_label", "text", "confidence", "created_at"}},
	{"transcript_audit_events", []string{"id", "transcript_id", "action", "actor", "created_at", "metadata_json"}},
	{"audio_assets", []string{"id", "project_id", "transcript_id", "sha256", "mime_type", "size_bytes", "storage_path", "created_at", "destroy_status", "destroyed_at"}},
}

// sink collects rows and writes them in sets: COPY on PostgreSQL, statements
// of many rows in key order on SQLite.
type sink struct {
	db      *sql.DB
	dialect string
	rows    map[string][][]any
}

func (s *sink) add(table string, row []any) { s.rows[table] = append(s.rows[table], row) }

// flush writes what was collected, in one transaction.
func (s *sink) flush(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	if s.dialect == Postgres {
		err = conn.Raw(func(driver any) error {
			return pgx.BeginFunc(ctx, driver.(*stdlib.Conn).Conn(), func(tx pgx.Tx) error { return s.copyAll(ctx, tx) })
		})
	} else {
		err = s.insertAll(ctx, conn)
	}
	if err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	for name := range s.rows {
		s.rows[name] = s.rows[name][:0]
	}
	return nil
}

func (s *sink) copyAll(ctx context.Context, tx pgx.Tx) error {
	for _, t := range tables {
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromRows(s.rows[t.name])); err != nil {
			return fmt.Errorf("copy into %s: %w", t.name, err)
		}
	}
	return nil
}

// rowsPerInsert keeps a statement well below SQLite's 32766 parameters.
const rowsPerInsert = 200

func (s *sink) insertAll(ctx context.Context, conn *sql.Conn) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, t := range tables {
		for part := range slices.Chunk(s.rows[t.name], rowsPerInsert) {
			if err := insert(ctx, tx, t, part); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

func insert(ctx context.Context, tx *sql.Tx, t table, rows [][]any) error {
	one := "(" + strings.TrimSuffix(strings.Repeat("?,", len(t.columns)), ",") + ")"
	text := "INSERT INTO " + t.name + " (" + strings.Join(t.columns, ",") + ") VALUES " + strings.TrimSuffix(strings.Repeat(one+",", len(rows)), ",")
	args := make([]any, 0, len(rows)*len(t.columns))
	for _, row := range rows {
		for _, v := range row {
			if at, ok := v.(time.Time); ok {
				v = at.Format("2006-01-02 15:04:05.000000") // as SQLAlchemy writes it: naive
			}
			args = append(args, v)
		}
	}
	if _, err := tx.ExecContext(ctx, text, args...); err != nil {
		return fmt.Errorf("insert into %s: %w", t.name, err)
	}
	return nil
}

// finish sets PostgreSQL's sequences past the ids that were given and lets the
// planner count.
func (s *sink) finish(ctx context.Context) error {
	if s.dialect != Postgres {
		_, err := s.db.ExecContext(ctx, "ANALYZE")
		return err
	}
	for _, t := range tables {
		text := fmt.Sprintf("SELECT setval(pg_get_serial_sequence('%s','id'), COALESCE((SELECT MAX(id) FROM %s), 1))", t.name, t.name)
		if _, err := s.db.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("set sequence of %s: %w", t.name, err)
		}
		if _, err := s.db.ExecContext(ctx, "ANALYZE "+t.name); err != nil {
			return fmt.Errorf("analyze %s: %w", t.name, err)
		}
	}
	return nil
}
