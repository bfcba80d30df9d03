package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

var errNoHandle = errors.New("the SQLite driver does not show the handle of its connection")

// watch ends what runs on the connection when ctx ends, until stop is called.
// The driver itself sees to that only up to the first row of a result; a
// condition that is slow at a later one would run on for ever.
//
// sqlite3_interrupt may be called from any thread while the connection is open
// (https://www.sqlite.org/c3ref/interrupt.html). The driver does not export the
// handle it needs, so it is read out of the driver's structure; a driver in which
// it is elsewhere is refused, for nothing could end its statements.
func (sqliteDialect) watch(ctx context.Context, conn *sql.Conn) (stop func(), err error) {
	var db uintptr
	err = conn.Raw(func(driverConn any) error {
		db = handle(reflect.ValueOf(driverConn))
		if db == 0 {
			return errNoHandle
		}
		return nil
	})
	if err != nil {
		return func() {}, fmt.Errorf("watch connection: %w", err)
	}
	ended := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(ended)
		tls := libc.NewTLS()
		defer tls.Close()
		sqlite3.Xsqlite3_interrupt(tls, db)
	})
	return func() {
		if !release() {
			<-ended // the handle must not be used once the connection is given back
		}
	}, nil
}

// handle finds the handle in the driver's connection, or in one that embeds it.
func handle(v reflect.Value) uintptr {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return 0
	}
	if db := v.FieldByName("db"); db.IsValid() && db.Kind() == reflect.Uintptr {
		return uintptr(db.Uint())
	}
	if inner := v.FieldByName("Conn"); inner.IsValid() {
		return handle(inner)
	}
	return 0
}
