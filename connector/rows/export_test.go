package rows

import "database/sql"

// Rewire replaces the pools of a connector on SQLite by ones that open makes
// from a driver and its data source name, so that a test can cut them.
func (c *Connector) Rewire(path string, open func(from *sql.DB, name string) *sql.DB) {
	c.reader = open(c.reader, sqliteName(path, true, c.o.LockTimeout))
	c.reader.SetMaxOpenConns(sqliteConns(true))
	c.writer = open(c.writer, sqliteName(path, false, c.o.LockTimeout))
	c.writer.SetMaxOpenConns(sqliteConns(false))
}
