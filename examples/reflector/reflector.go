// Package reflector is the example of a meeting transcriber: its tables, the
// policy that keeps its promises of retention, and tests of both.
package reflector

import _ "embed" // for Schema

// Schema makes the tables of Reflector in an empty PostgreSQL database.
//
//go:embed schema_postgres.sql
var Schema string
