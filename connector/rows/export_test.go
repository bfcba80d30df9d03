package rows

import (
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/go-sql-driver/mysql"
)

// Rewire replaces the pools of a connector on SQLite by ones that open makes
// from a driver and its data source name, so that a test can cut them.
func (c *Connector) Rewire(path string, open func(from *sql.DB, name string) *sql.DB) {
	c.reader = open(c.reader, sqliteName(path, true, c.o.LockTimeout))
	c.reader.SetMaxOpenConns(sqliteConns(true))
	c.writer = open(c.writer, sqliteName(path, false, c.o.LockTimeout))
	c.writer.SetMaxOpenConns(sqliteConns(false))
}

// RewireMySQL does the same for a connector on MySQL.
func (c *Connector) RewireMySQL(dsn string, wrap func(driver.Connector) driver.Connector) {
	at, err := parseDSN(dsn)
	if err != nil {
		panic(err)
	}
	cfg, err := mysqlConfig(at.target)
	if err != nil {
		panic(err)
	}
	conn, err := mysql.NewConnector(cfg)
	if err != nil {
		panic(err)
	}
	c.reader.Close()
	c.reader = sql.OpenDB(wrap(conn))
	c.writer = c.reader
}

// ServerOf is what a version tells of a server that speaks MySQL's protocol.
func ServerOf(version string) (product, unfit, replicas string) {
	s := mysqlServerOf(version)
	product = "unknown"
	if s.major != newestMySQL {
		product = fmt.Sprintf("%s %d.%d.%d", map[bool]string{true: "MariaDB", false: "MySQL"}[s.mariaDB], s.major, s.minor, s.patch)
	}
	return product, s.unfit(), s.replicas()
}
