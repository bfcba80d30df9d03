package rows

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// mysqlServer says which server it is that speaks the protocol of MySQL, by what
// it answers to SELECT VERSION(): "8.0.36", "8.4.0-commercial",
// "10.11.14-MariaDB-0+deb12u2-log".
type mysqlServer struct {
	mariaDB             bool
	major, minor, patch int
}

// newestMySQL stands for the version of a server that does not tell it.
const newestMySQL = 1 << 20

// mysqlServerOf reads a version.
func mysqlServerOf(version string) (s mysqlServer) {
	s.mariaDB = strings.Contains(strings.ToLower(version), "mariadb")
	if s.mariaDB {
		version = strings.TrimPrefix(version, "5.5.5-") // which it puts in front for old clients
	}
	n := 0
	for _, to := range []*int{&s.major, &s.minor, &s.patch} {
		end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(version)
		}
		v, err := strconv.Atoi(version[:end])
		if err != nil || v >= newestMySQL {
			break
		}
		*to = v
		n++
		if end == len(version) || version[end] != '.' {
			break
		}
		version = version[end+1:]
	}
	if n < 2 {
		s.major = newestMySQL
	}
	return s
}

func (s mysqlServer) before(major, minor, patch int) bool {
	switch {
	case s.major != major:
		return s.major < major
	case s.minor != minor:
		return s.minor < minor
	}
	return s.patch < patch
}

// unfit says why the server cannot be purged; "" when it can. A claim needs SKIP
// LOCKED, which came with MySQL 8.0.1 and MariaDB 10.6.
func (s mysqlServer) unfit() string {
	switch {
	case s.mariaDB && s.before(10, 6, 0):
		return fmt.Sprintf("MariaDB %d.%d is too old: it cannot skip rows that others have locked", s.major, s.minor)
	case !s.mariaDB && s.before(8, 0, 1):
		return fmt.Sprintf("MySQL %d.%d is too old: it cannot skip rows that others have locked", s.major, s.minor)
	}
	return ""
}

// replicas is the statement that tells of all servers that this one follows.
// MySQL 8.4 knows no other spelling, and one before 8.0.22 not this one.
func (s mysqlServer) replicas() string {
	switch {
	case s.mariaDB:
		return "SHOW ALL SLAVES STATUS"
	case s.before(8, 0, 22):
		return "SHOW SLAVE STATUS"
	}
	return "SHOW REPLICA STATUS"
}

// server asks which server it is.
func (d mysqlDialect) server(ctx context.Context, q querier) (s mysqlServer, err error) {
	err = newStmt(d, "SELECT VERSION()").each(ctx, q, 1, func(v []any) error {
		text, _ := asText(v[0])
		s = mysqlServerOf(text)
		return nil
	})
	return s, err
}
