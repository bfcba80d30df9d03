package cli_test

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/internal/testserver"
)

// Check says what a server of MariaDB has against us, and not in its words.
func TestCheckSaysWhatMariaDBRefuses(t *testing.T) {
	t.Parallel()
	dsn := testserver.MariaDB(t)
	for want, change := range map[string]func(*url.URL){
		": the database refused the user or password\n": func(u *url.URL) { u.User = url.UserPassword("canary_user", "canary") },
		": there is no such database\n":                 func(u *url.URL) { u.Path = "/canary_database" },
	} {
		u, err := url.Parse(dsn)
		must(t, err)
		change(u)
		dir := t.TempDir()
		must(t, os.WriteFile(dir+"/epitaph.yaml", []byte(`version: 1
stores: {app: {rows: "${DSN}"}}
rules: {r: {retain: 14d, rows: app.t, anchor: {column: at, zone: UTC}}}
`), 0o600))
		cmd := command(t.Context(), dir, "check")
		cmd.Env = append(cmd.Environ(), "DSN="+u.String())
		out, err := cmd.CombinedOutput()
		if status := statusOf(t, err); status != 2 || !strings.Contains(string(out), want) || strings.Contains(string(out), "canary") {
			t.Errorf("status %d, want 2 with %q:\n%s", status, want, out)
		}
	}
}
