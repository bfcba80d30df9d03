package rows_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync/atomic"
)

// CheckNamedValue lets the driver judge its arguments, where it does.
func (c plugConn) CheckNamedValue(v *driver.NamedValue) error {
	if k, ok := c.Conn.(driver.NamedValueChecker); ok {
		return k.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// plug is a way to a database that can be pulled: then nothing passes, on open
// connections too, and what was not committed is rolled back when they close.
type plug struct {
	pulled atomic.Bool
	// afterCommit, when set, pulls the plug once a COMMIT has been carried out
	// and before its reply arrives.
	afterCommit atomic.Bool
	// beforeCommit fails the next COMMIT without carrying it out.
	beforeCommit atomic.Bool
	driver       driver.Driver
	// after, when set, is called when a statement without rows was carried out.
	after func(text string)
}

var errPulled = errors.New("the plug is pulled")

func (p *plug) pull() { p.pulled.Store(true) }
func (p *plug) push() { p.pulled.Store(false) }

func (p *plug) open(from *sql.DB, name string) *sql.DB {
	p.driver = from.Driver()
	from.Close()
	return sql.OpenDB(plugConnector{p: p, name: name})
}

func (p *plug) wrap(c driver.Connector) driver.Connector {
	p.driver = c.Driver()
	return plugConnector{p: p, to: c}
}

type plugConnector struct {
	p    *plug
	name string
	to   driver.Connector // else by name
}

func (c plugConnector) Driver() driver.Driver { return c.p.driver }

func (c plugConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if c.p.pulled.Load() {
		return nil, errPulled
	}
	var conn driver.Conn
	var err error
	if c.to != nil {
		conn, err = c.to.Connect(ctx)
	} else {
		conn, err = c.p.driver.Open(c.name)
	}
	if err != nil {
		return nil, err
	}
	return plugConn{conn, c.p}, nil
}

type plugConn struct {
	driver.Conn
	p *plug
}

func (c plugConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	if c.p.pulled.Load() {
		return nil, errPulled
	}
	if q == "COMMIT" && c.p.beforeCommit.Swap(false) {
		return nil, errPulled
	}
	r, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, q, args)
	if q == "COMMIT" && c.p.afterCommit.Swap(false) {
		return nil, errPulled
	}
	if f := c.p.after; f != nil {
		f(q)
	}
	return r, err
}

func (c plugConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	if c.p.pulled.Load() {
		return nil, errPulled
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, q, args)
}
