package rows

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// system is a kind of database.
type system uint8

const (
	sqliteSystem system = iota + 1
	postgresSystem
	mysqlSystem
)

// address is a DSN taken apart: which system, and what its driver is given.
type address struct {
	system system
	target string // file of SQLite; URL of the others, in the driver's own scheme
}

// parseDSN reads a DSN. Its errors never repeat the DSN, which may hold a
// password.
func parseDSN(dsn string) (address, error) {
	scheme, rest, ok := strings.Cut(dsn, ":")
	if !ok || strings.ContainsAny(scheme, "/\\") || len(scheme) < 2 {
		return sqliteAddress(dsn)
	}
	// SQLAlchemy names its driver in the scheme: postgresql+psycopg2://.
	base, _, _ := strings.Cut(strings.ToLower(scheme), "+")
	switch base {
	case "postgres", "postgresql":
		if !strings.HasPrefix(rest, "//") {
			return address{}, errors.New("database address: want postgres://USER@HOST/DATABASE")
		}
		return address{postgresSystem, "postgres:" + rest}, nil
	case "mysql", "mariadb":
		if !strings.HasPrefix(rest, "//") {
			return address{}, errors.New("database address: want mysql://USER@HOST/DATABASE")
		}
		return address{mysqlSystem, "mysql:" + rest}, nil
	case "sqlite", "sqlite3":
		return sqliteURL(rest)
	case "file":
		return sqliteAddress(strings.TrimPrefix(rest, "//"))
	}
	return address{}, errors.New("database address: want postgres://, mysql:// or a file of SQLite")
}

// sqliteURL reads what follows "sqlite:". Without slashes it is a path. Four
// slashes are an absolute path. Three slashes are read as SQLAlchemy reads
// them, relative to the working directory, unless only the absolute path is there.
func sqliteURL(rest string) (address, error) {
	path, isURL := strings.CutPrefix(rest, "//")
	if !isURL {
		return sqliteAddress(rest)
	}
	path, _, _ = strings.Cut(path, "?")
	if p, err := url.PathUnescape(path); err == nil {
		path = p
	}
	absolute, threeOrMore := strings.CutPrefix(path, "/")
	switch {
	case !threeOrMore: // sqlite://file.db
		return sqliteAddress(path)
	case strings.HasPrefix(absolute, "/"): // four
		return sqliteAddress(absolute)
	}
	relative := absolute
	relativeThere, absoluteThere := exists(relative), exists(path)
	switch {
	case relativeThere && absoluteThere && !sameFile(relative, path):
		return address{}, errors.New("database address: sqlite:/// names two files, one relative and one absolute; write sqlite: and the path")
	case absoluteThere && !relativeThere:
		return sqliteAddress(path)
	}
	return sqliteAddress(relative)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func sqliteAddress(path string) (address, error) {
	switch {
	case path == "":
		return address{}, errors.New("database address: no file named")
	case path == ":memory:" || strings.HasPrefix(path, ":memory:"):
		return address{}, errors.New("database address: a database in memory cannot be shared with its application")
	case strings.ContainsRune(path, 0):
		return address{}, errors.New("database address: a file name cannot hold a NUL")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return address{}, fmt.Errorf("database address: %w", err)
	}
	return address{sqliteSystem, abs}, nil
}
