package rows_test

import (
	"testing"

	"github.com/epitaph/epitaph/connector/rows"
)

// There is no MySQL among the servers of these tests, so that what differs
// between it and MariaDB is held here by the versions that they give.
func TestServerByVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]struct {
		product  string
		fit      bool
		replicas string
	}{
		"8.0.36":                            {"MySQL 8.0.36", true, "SHOW REPLICA STATUS"},
		"8.0.22-0ubuntu0.20.04.2":           {"MySQL 8.0.22", true, "SHOW REPLICA STATUS"},
		"8.0.21":                            {"MySQL 8.0.21", true, "SHOW SLAVE STATUS"},
		"8.0.1-dmr":                         {"MySQL 8.0.1", true, "SHOW SLAVE STATUS"},
		"8.0.0-dmr":                         {"MySQL 8.0.0", false, "SHOW SLAVE STATUS"},
		"8.4.3-commercial":                  {"MySQL 8.4.3", true, "SHOW REPLICA STATUS"},
		"9.1.0":                             {"MySQL 9.1.0", true, "SHOW REPLICA STATUS"},
		"8.0.35-27.1":                       {"MySQL 8.0.35", true, "SHOW REPLICA STATUS"}, // Percona
		"8.0.28":                            {"MySQL 8.0.28", true, "SHOW REPLICA STATUS"}, // Aurora
		"5.7.44-log":                        {"MySQL 5.7.44", false, "SHOW SLAVE STATUS"},
		"10.11.14-MariaDB-0+deb12u2-log":    {"MariaDB 10.11.14", true, "SHOW ALL SLAVES STATUS"},
		"5.5.5-10.6.16-MariaDB-1:10.6.16":   {"MariaDB 10.6.16", true, "SHOW ALL SLAVES STATUS"},
		"10.5.23-MariaDB":                   {"MariaDB 10.5.23", false, "SHOW ALL SLAVES STATUS"},
		"11.4.2-MariaDB-ubu2404":            {"MariaDB 11.4.2", true, "SHOW ALL SLAVES STATUS"},
		"12.0.2-mariadb-enterprise":         {"MariaDB 12.0.2", true, "SHOW ALL SLAVES STATUS"},
		"8.0":                               {"MySQL 8.0.0", false, "SHOW SLAVE STATUS"},
		"8.0.11-TiDB-v7.5.0":                {"MySQL 8.0.11", true, "SHOW SLAVE STATUS"},
		"":                                  {"unknown", true, "SHOW REPLICA STATUS"},
		"built by hand":                     {"unknown", true, "SHOW REPLICA STATUS"},
		"99999999999999999999999999.1-what": {"unknown", true, "SHOW REPLICA STATUS"},
	} {
		product, unfit, replicas := rows.ServerOf(version)
		if product != want.product || unfit == "" != want.fit || replicas != want.replicas {
			t.Errorf("%q: got %s, unfit %q, %s; want %+v", version, product, unfit, replicas, want)
		}
	}
}
