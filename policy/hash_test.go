package policy_test

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/policy"
)

const hashed = `version: 1
ledger: sqlite:epitaph.db
enabled: true
stores:
  app: {rows: "postgres://u:p@h/db?sslmode=require"}
  disk: {files: /data, mount: true}
  media: {objects: "s3://bkt", region: eu, secret_key: "${S:-a}", access_key: "${S:-a}"}
rules:
  a: {retain: 14d, rows: app.t, anchor: {column: c, zone: UTC}, where: x = 1, parts: [{files: "disk:{id}"}, {rows: app.l, on: l.id = t.l_id}]}
  b: {retain: 1y, files: "disk:*.zip", anchor: modified}
  c: {retain: 1y, objects: "media:x/", anchor: {tag: held-since, zone: UTC}}
limits: {items: 10000}
schedule: "0 3 * * *"
`

func hashOf(t *testing.T, src string, vars map[string]string) [32]byte {
	t.Helper()
	p, err := policy.Parse("p.yaml", []byte(src), policy.LookupIn(vars))
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	return p.Hash
}

func TestHashIsOneForTwoSpellings(t *testing.T) {
	t.Parallel()
	want := hashOf(t, hashed, nil)
	for name, edit := range map[string][]string{
		"comment":          {"version: 1", "# hello\nversion: 1"},
		"key order":        {"{retain: 14d, rows: app.t,", "{rows: app.t, retain: 14d,"},
		"store order":      {"  disk: {files: /data, mount: true}\n  media", "  media"},
		"weeks":            {"14d", "2w"},
		"months":           {"1y", "12mo"},
		"variable":         {"14d", `"${DAYS:-14}d"`},
		"default limit":    {"{items: 10000}", "{items: 10000, share: 25%, missing: 50%, clock_jump: 45d}"},
		"default zone":     {"schedule:", "zone: UTC\nschedule:"},
		"default switch":   {"enabled: true\n", ""},
		"default kind":     {"{retain: 1y,", "{retain: 1y, kind: file,"},
		"own table named":  {"{id}", "{t.id}"},
		"on, other way":    {"l.id = t.l_id", "t.l_id = l.id"},
		"credentials":      {"u:p@h", "other:s3cret@h"},
		"no credentials":   {"u:p@h", "h"},
		"secret parameter": {"sslmode=require", "password=x&sslmode=require"},
		"pace":             {"mount: true}", "mount: true, pace: {items: 5/s, bytes: 1MB/s, slow: 2x, pause_file: p}}"},
		"dry run":          {"enabled: true", "enabled: true\ndry_run: true"},
		"quotes":           {"where: x = 1", `where: "x = 1"`},
		"white space":      {"where: x = 1", `where: " x = 1 "`},
	} {
		src := strings.Replace(hashed, edit[0], edit[1], 1)
		if name == "store order" {
			src = strings.Replace(src, "rules:", "  disk: {files: /data, mount: true}\nrules:", 1)
		}
		if src == hashed {
			t.Fatalf("%s changes nothing", name)
		}
		if got := hashOf(t, src, nil); got != want {
			t.Errorf("%s changes the hash", name)
		}
	}
	if hashOf(t, hashed, map[string]string{"S": "another key"}) != want {
		t.Error("a secret is in the hash")
	}
}

func TestHashChangesWithTheMeaning(t *testing.T) {
	t.Parallel()
	want := hashOf(t, hashed, nil)
	for _, edit := range [][2]string{
		{"14d", "15d"}, {"app.t,", "app.x.t,"}, {"column: c", "column: d"}, {", zone: UTC}, where", "}, where"}, {"x = 1", "x = 2"},
		{"where: x", "hold: x"}, {"{id}", "{id2}"}, {"{id}", "x/{id}"}, {`{id}"`, `{id}", when: y`}, {`{id}"`, `{id}", referenced_by: app.q.r`}, {`{id}"`, `{id}", referenced_by: "app.q.r[*]"`},
		{"l.id = t.l_id", "l.id = t.other"}, {"on: l.id = t.l_id", "where: z"}, {"*.zip", "*.tar"}, {"items: 10000", "items: 9999"},
		{"items: 10000", "share: 1%"}, {"0 3 * * *", "0 4 * * *"}, {"enabled: true", "enabled: false"}, {"@h/db", "@h/db2"}, {"@h/db", "@h2/db"},
		{"/data", "/data2"}, {"mount: true", "marker: m"}, {"s3://bkt", "s3://bkt2"}, {"region: eu", "region: us"}, {"sqlite:epitaph.db", "sqlite:e.db"},
		{"tag: held-since", "tag: recorded"}, {"tag: held-since", "name: YYYY"}, {"{retain: 1y", "{purpose: why, retain: 1y"}, {"{retain: 1y", "{kind: zip, retain: 1y"}, {"{retain: 1y", "{enabled: false, retain: 1y"},
		{"schedule:", "zone: Europe/Paris\nschedule:"}, {"sslmode=require", "sslmode=disable"},
	} {
		src := strings.Replace(hashed, edit[0], edit[1], 1)
		if src == hashed {
			t.Fatalf("%q is not in the policy", edit[0])
		}
		if hashOf(t, src, nil) == want {
			t.Errorf("%q for %q does not change the hash", edit[1], edit[0])
		}
	}
}

func TestCanonicalHoldsNoCredential(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://alice:hunter2@h:5432/db", "postgresql+psycopg2://alice:hunter2@h/db", "postgres://alice:hun/ter2@h/db", "postgres://alice:hunter2@x@h/db",
		"postgres://h/db?user=alice&password=hunter2&sslmode=require", "postgres://h/db?sslpassword=hunter2", "mysql://alice:hunter2@h/db",
		"alice:hunter2@tcp(h:3306)/db", "alice:hunter2@x@tcp(h:3306)/db?parseTime=true", "host=h user=alice password=hunter2 dbname=db",
		"host=h password='hunter2 hunter2' dbname=db", `host=h password='hun\'ter2' dbname=db`, "host=h password = hunter2", "postgres://h/db?password=%zz;hunter2",
		"file:app.db?_auth_pass=hunter2",
	} {
		src := strings.Replace(hashed, "postgres://u:p@h/db?sslmode=require", "${DSN}", 1)
		p, err := policy.Parse("p.yaml", []byte(src), policy.LookupIn(map[string]string{"DSN": dsn, "S": "hunter2"}))
		if err != nil {
			t.Fatal(err)
		}
		text := string(p.Canonical())
		for _, secret := range []string{"hunter2", "ter2", "alice"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: the canonical form holds %q", dsn, secret)
			}
		}
		if p.Hash != sha256.Sum256(p.Canonical()) || !json.Valid(p.Canonical()) {
			t.Errorf("%s: the hash is not that of the canonical form", dsn)
		}
	}
}
