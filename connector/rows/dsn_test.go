package rows_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/internal/testserver"
)

func TestOpenReadsDSNs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	s := open(t, "sqlite")
	s.do("VACUUM INTO '" + path + "'")
	t.Chdir(filepath.Dir(path))
	for _, dsn := range []string{"sqlite:" + path, "sqlite:app.db", "sqlite:///app.db", "sqlite:///./app.db", "sqlite:///" + path, "sqlite://" + path, "app.db", path, "sqlite+pysqlite:///" + path, "file:" + path} {
		c, err := rows.Open(context.Background(), dsn, rows.Options{})
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
			continue
		}
		if fs, err := c.Check(s.ctx(), query("absent")); err != nil || len(faults(fs)) != 1 {
			t.Errorf("%s: check: %v, %v", dsn, fs, err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("%s: close: %v", dsn, err)
		}
	}
	pg := open(t, "postgres")
	for _, scheme := range []string{"postgres:", "postgresql:", "postgresql+psycopg2:", "postgresql+asyncpg:"} {
		pg.dsn = scheme + strings.TrimPrefix(pg.dsn[strings.Index(pg.dsn, "//"):], "")
		pg.c = pg.connect(rows.Options{})
		pg.check(query("absent"))
	}
	for _, dsn := range []string{"", "mongodb://user:geheim@host/db", "postgres:geheim", "postgres://user:geheim@host:port/db", "mysql://user:geheim@host", "mysql://user:ge%zzheim@host/db", ":memory:", "sqlite::memory:", "sqlite:"} {
		if c, err := rows.Open(context.Background(), dsn, rows.Options{}); err == nil {
			t.Errorf("%q: no error", dsn)
			c.Close()
		} else if strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: the error repeats the password: %v", dsn, err)
		}
	}
}

// A DSN that asks for encryption in the words of another driver must not be
// answered with a connection in the clear.
func TestEncryptionIsNotPassedOver(t *testing.T) {
	t.Parallel()
	plain := testserver.MariaDB(t) // speaks no TLS
	for param, refused := range map[string]string{
		"ssl_mode=REQUIRED": "", "ssl-mode=VERIFY_CA": "", "sslmode=verify_identity": "", "tls=true": "", "ssl=true": "", "ssl_mode=required": "",
		"ssl_ca=/etc/ssl/ca.pem": "ssl_ca", "ssl_verify_cert=true": "ssl_verify_cert", "ssl_mode=geheim": "ssl_mode", "tls=geheim": "cannot read",
	} {
		c, err := rows.Open(context.Background(), plain+"&"+param, rows.Options{})
		if refused != "" {
			if err == nil || !strings.Contains(err.Error(), refused) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("%s: got error %v, want one with %s", param, err, refused)
			}
			if err == nil {
				c.Close()
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", param, err)
			continue
		}
		if _, err := c.Check(context.Background(), query("absent")); err == nil {
			t.Errorf("%s: the connection is in the clear", param)
		}
		c.Close()
	}
	for _, param := range []string{"ssl_mode=DISABLED", "charset=utf8mb4", "ssl=false", "ssl_mode=PREFERRED"} {
		c, err := rows.Open(context.Background(), plain+"&"+param, rows.Options{})
		if err != nil {
			t.Errorf("%s: %v", param, err)
			continue
		}
		if _, err := c.Check(context.Background(), query("absent")); err != nil {
			t.Errorf("%s: %v", param, err)
		}
		c.Close()
	}
}

// A database that is down, or a file that is not there, is Unknown to all
// questions; it is neither made nor taken for an empty one.
func TestDownIsUnknown(t *testing.T) {
	t.Parallel()
	absent := filepath.Join(t.TempDir(), "absent.db")
	text := filepath.Join(t.TempDir(), "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{"sqlite:" + absent, "sqlite:" + text, "postgres://nobody@/x?host=" + t.TempDir(), "mysql://nobody@localhost/x?unix_socket=" + absent} {
		c, err := rows.Open(context.Background(), dsn, rows.Options{})
		if err != nil {
			t.Fatalf("%s: %v", dsn, err)
		}
		q := query("records")
		if _, err := c.Check(context.Background(), q); err == nil {
			t.Errorf("%s: Check gives no error", dsn)
		}
		n, last := 0, error(nil)
		for _, err := range c.Scan(context.Background(), q, &connector.Survey{}) {
			n, last = n+1, err
		}
		if n != 1 || last == nil {
			t.Errorf("%s: Scan: %d elements, error %v", dsn, n, last)
		}
		cl, rs := c.Claim(context.Background(), q, []connector.Item{{Locator: "records/1"}})
		rs = append(append(rs, cl.Erase(context.Background(), []int{0}).Results...), c.Probe(context.Background(), []connector.Locator{"records/1"})...)
		for _, r := range rs {
			if r.State != connector.Unknown {
				t.Errorf("%s: %v", dsn, reasons(rs))
			}
		}
		if err := c.Close(); err != nil {
			t.Errorf("%s: Close: %v", dsn, err)
		}
	}
	if _, err := os.Stat(absent); err == nil {
		t.Error("the absent database was made")
	}
}
