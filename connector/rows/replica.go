package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Replica is a copy of a database that follows it. It is safe for concurrent use.
type Replica struct {
	of *Connector
	db *sql.DB

	mu     sync.Mutex
	caught time.Time // when the copy was last seen to have all that the database had
}

// ReplicaError says why it is not known how far a replica is behind, though its
// server answered. It names settings only.
type ReplicaError struct{ Text, Hint string }

// Error is for a person: it names no value and no message of a driver.
func (e *ReplicaError) Error() string { return e.Text }

// Replica opens a copy of the database: a standby of PostgreSQL that follows by
// streaming, or a replica of MySQL or MariaDB. It connects when first needed.
// The error never repeats the DSN.
func (c *Connector) Replica(dsn string) (*Replica, error) {
	at, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	r := &Replica{of: c}
	switch _, mysql := c.d.(mysqlDialect); {
	case mysql && at.system == mysqlSystem:
		r.db, err = openMySQL(at.target, time.Second)
	case c.d == dialect(postgresDialect{}) && at.system == postgresSystem:
		r.db, err = openPostgres(at.target)
	default:
		return nil, errors.New("database address: a replica is of the same kind as its database, PostgreSQL, MySQL or MariaDB")
	}
	if err != nil {
		return nil, err
	}
	r.db.SetMaxOpenConns(1)
	return r, nil
}

// Close ends the connection.
func (r *Replica) Close() error { return r.db.Close() }

// Lag says how far the replica is behind: 0 when it has all that the database
// had a moment ago. An error means that this is not known: a *ReplicaError where
// the server answered that it does not follow.
//
// On PostgreSQL what counts is the position in the log: a standby that has
// replayed all of it is not behind, however long ago that was, and one that has
// not is as far behind as its last replayed commit is old, at most. On MySQL and
// MariaDB it is what the server says (Seconds_Behind_Source), which counts what
// has been received and not applied.
func (r *Replica) Lag(ctx context.Context) (time.Duration, error) {
	if _, ok := r.of.d.(mysqlDialect); ok {
		return r.lagMySQL(ctx)
	}
	return r.lagPostgres(ctx)
}

func (r *Replica) lagPostgres(ctx context.Context) (time.Duration, error) {
	d := postgresDialect{}
	asked := time.Now()
	var flushed, id string
	err := newStmt(d, "SELECT pg_current_wal_flush_lsn()::text, (SELECT system_identifier::text FROM pg_control_system())").each(ctx, r.of.reader, 2,
		func(v []any) error {
			flushed, _ = asText(v[0])
			id, _ = asText(v[1])
			return nil
		})
	if err != nil {
		return 0, fmt.Errorf("read position of the database: %w", err)
	}
	var follows, same, caught bool
	behind := time.Duration(-1)
	err = newStmt(d, `SELECT CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END,
		(SELECT CASE WHEN system_identifier::text = $1::text THEN 1 ELSE 0 END FROM pg_control_system()),
		CASE WHEN pg_last_wal_replay_lsn() >= $2::text::pg_lsn THEN 1 ELSE 0 END,
		(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000000)::bigint`).with(id, flushed).each(ctx, r.db, 4,
		func(v []any) error {
			follows, same, caught = isTrue(v[0]), isTrue(v[1]), isTrue(v[2])
			if us, ok := v[3].(int64); ok {
				behind = time.Duration(us) * time.Microsecond
			}
			return nil
		})
	switch {
	case err != nil:
		return 0, fmt.Errorf("read position of the replica: %w", err)
	case !follows:
		return 0, &ReplicaError{"it is no standby: the server is not in recovery", "give the address of a standby that follows the database"}
	case !same:
		return 0, &ReplicaError{"it is a standby of another server", "give the address of a standby that follows the database"}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if caught {
		if asked.After(r.caught) {
			r.caught = asked
		}
		return 0, nil
	}
	// The database may have been idle for long before what is missing was
	// written: it is no older than the last time that nothing was missing.
	if !r.caught.IsZero() && (behind < 0 || time.Since(r.caught) < behind) {
		behind = time.Since(r.caught)
	}
	if behind < 0 {
		return 0, &ReplicaError{"it is behind, and has replayed no transaction since it was started", "wait, or see whether it is connected: pg_stat_wal_receiver"}
	}
	return behind, nil
}

// mysqlFields are the columns that tell of a replica, by their names of today
// and of old.
var mysqlFields = [][2]string{
	{"replica_io_running", "slave_io_running"}, {"replica_sql_running", "slave_sql_running"}, {"seconds_behind_source", "seconds_behind_master"},
}

func (r *Replica) lagMySQL(ctx context.Context) (time.Duration, error) {
	d := mysqlDialect{}
	server, err := d.server(ctx, r.db)
	if err != nil {
		return 0, fmt.Errorf("read version of the replica: %w", err)
	}
	rows, err := r.db.QueryContext(ctx, server.replicas())
	if err != nil {
		if d.classify(err) == deniedFailure {
			return 0, &ReplicaError{"the role may not ask how far it is behind",
				"grant it: GRANT REPLICATION CLIENT on MySQL, GRANT REPLICA MONITOR on MariaDB"}
		}
		return 0, fmt.Errorf("read state of the replica: %w", err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	row, to := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range row {
		to[i] = &row[i]
	}
	most, sources := time.Duration(0), 0
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return 0, err
		}
		sources++
		var state [3]sql.NullString
		for i, name := range names {
			for f, field := range mysqlFields {
				if name = strings.ToLower(name); name == field[0] || name == field[1] {
					state[f] = row[i]
				}
			}
		}
		lag, err := behindSource(state)
		if err != nil {
			return 0, err
		}
		most = max(most, lag)
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("read state of the replica: %w", err)
	}
	if sources == 0 {
		return 0, &ReplicaError{"it is no replica: the server follows no other", "give the address of a replica of the database"}
	}
	return most, nil
}

// behindSource reads the state of one source: whether it is received, whether it
// is applied, and the seconds.
func behindSource(state [3]sql.NullString) (time.Duration, error) {
	switch {
	case state[1].String != "Yes":
		return 0, &ReplicaError{"it applies nothing: its SQL thread has stopped", "see SHOW REPLICA STATUS there; START REPLICA when the cause is gone"}
	case state[0].String != "Yes":
		return 0, &ReplicaError{"it receives nothing: it is not connected to its source", "see SHOW REPLICA STATUS there"}
	case !state[2].Valid:
		return 0, &ReplicaError{"it does not know how far it is behind", "see SHOW REPLICA STATUS there"}
	}
	seconds, err := time.ParseDuration(state[2].String + "s")
	if err != nil || seconds < 0 {
		return 0, &ReplicaError{"it does not say how far it is behind", "see SHOW REPLICA STATUS there"}
	}
	return seconds, nil
}
