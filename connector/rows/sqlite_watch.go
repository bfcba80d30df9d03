package rows

import (
	"context"
	"database/sql"
	"reflect"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// watch ends what runs on the connection when ctx ends, until stop is called.
// The driver itself sees to that only up to the first row of a result; a
// condition that is slow at a later one would run on for ever.
//
// sqlite3_interrupt may be called from any thread while the connection is open
// (https://www.sqlite.org/c3ref/interrupt.html). The driver does not export the
// handle it needs, so it is read out of the driver's structure.
func (sqliteDialect) watch(ctx context.Context, conn *sql.Conn) (stop func(), err error) {
	var db uintptr
	err = conn.Raw(func(driverConn any) error {
		v := reflect.ValueOf(driverConn)
		if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
			return nil
		}
		if v = v.Elem().FieldByName("db"); v.IsValid() && v.Kind() == reflect.Uintptr {
			db = uintptr(v.Uint())
		}
		return nil
	})
	if err != nil || db == 0 { // another driver; TestConditionWithoutEnd tells of it
		return func() {}, err
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
