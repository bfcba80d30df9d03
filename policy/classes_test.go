package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/policy"
)

// base is a policy in which each line below stands once, to be replaced.
const base = `version: 1
ledger: sqlite:epitaph.db
stores:
  app: {rows: "sqlite:app.db"}
  disk: {files: /data}
  media: {objects: "s3://media-bucket"}
rules:
  records:
    retain: 14d
    rows: app.transcripts
    anchor: {column: created_at}
    where: a = 1
    parts:
      - files: "disk:{id}.bin"
      - rows: app.meeting
        on: meeting.id = transcripts.meeting_id
  exports:
    retain: 14d
    files: "disk:export-*.zip"
    anchor: modified
  takes:
    retain: 14d
    objects: "media:takes/*"
    anchor: modified
limits: {items: 10}
schedule: "0 3 * * *"
`

// classes has every way in which a policy can be wrong: old is replaced by new,
// and a problem with this place, text and hint must be found. shape says that
// the JSON Schema must refuse it too.
var classes = []struct {
	old, new, want, hint string
	shape                bool
}{
	{"version: 1", "version: '1'", "1:10: this version of the policy is not known", "version: 1", true},
	{"version: 1\n", "", "1:1: the policy has no version", "version: 1", true},
	{"version: 1", "version: 1\nversion: 1", `2:1: the key "version" is given twice`, "line 1", false},
	{"stores:", "store:", `3:1: unknown key "store" in the policy`, "did you mean stores?", true},
	{"stores:", "Stores:", `3:1: unknown key "Stores" in the policy`, "did you mean stores?", true},
	{"rules:", "wholly_else:", `7:1: unknown key "wholly_else" in the policy`, "the policy has the keys version, ledger", true},
	{"sqlite:epitaph.db", "mysql://x", "2:9: the ledger is neither sqlite: nor postgres://", "sqlite:epitaph.db", true},
	{"sqlite:epitaph.db", "5", "2:9: ledger must be text, and YAML reads this as a number", "quotes", true},
	{"sqlite:epitaph.db", "[a]", "2:9: ledger must be a single value, not a list", "", true},
	{"sqlite:epitaph.db", "{a: b}", `2:10: unknown key "a" in ledger`, "did you mean at?", true},
	{"sqlite:epitaph.db", "{at: 'mysql://x'}", "2:15: the ledger is neither sqlite: nor postgres://", "sqlite:epitaph.db", true},
	{"sqlite:epitaph.db", "{key: ''}", "2:15: key is empty", "", true},
	{"sqlite:epitaph.db", "{retain: 0d}", "2:18: retain: ", "", true},
	{"version: 1", "version: 1\ncheckpoints: {pin: stdout}", `2:15: unknown key "pin" in checkpoints`, "did you mean pins?", true},
	{"version: 1", "version: 1\ncheckpoints: {pins: [stdin]}", "2:22: this is no place for a checkpoint", "file:PATH", true},
	{"version: 1", "version: 1\ncheckpoints: {pins: ['file:']}", "2:23: this is no place for a checkpoint", "file:PATH", true},
	{"version: 1", "version: 1\ncheckpoints: {pins: ['object:media']}", "2:23: this is no place for a checkpoint", "object:STORE/KEY", true},
	{"version: 1", "version: 1\ncheckpoints: {pins: ['https://']}", "2:23: this is no place for a checkpoint", "https://", true},
	{"version: 1", "version: 1\ncheckpoints: {pins: ['object:disk/a']}", "2:23: there is no object store disk", "stores", false},
	{"version: 1", "version: 1\ncheckpoints: {pins: []}", "2:21: pins is an empty list", "", true},
	{"version: 1", "version: 1\ncheckpoints: {witnesses: [{url: 'https://w'}]}", "2:27: a witness has a url and a key, and key is not there", "NAME+HASH+KEY", true},
	{"version: 1", "version: 1\ncheckpoints: {witnesses: [{url: w, key: k}]}", "2:33: the url of a witness must begin with", "prefix", true},
	{"version: 1", "version: 1\ncheckpoints: {quorum: 1}", "2:23: quorum is more than there are witnesses", "cosigned", false},
	{"version: 1", "version: 1\ncheckpoints: {every: 0s}", "2:22: every: it must be a length of time from 1s to 24h", "60s or 5m", false},
	{"version: 1", "version: 1\ncheckpoints: {every: 60}", "2:22: every must be text, and YAML reads this as a number", "quotes", true},
	{"version: 1", "version: 1\ncheckpoints: {every: 1d}", "2:22: every: it must be a length of time from 1s to 24h", "60s or 5m", true},
	{"version: 1", "version: 1\ncheckpoints: {every: 25h}", "2:22: every: it must be a length of time from 1s to 24h", "60s or 5m", false},
	{"sqlite:epitaph.db", "", "2:8: ledger has no value", "remove the key", true},

	{"version: 1", "version: 1\ncustody: [a]", "2:10: custody must be a mapping", "", true},
	{"version: 1", "version: 1\ncustody: {trackd: [disk]}", `2:11: unknown key "trackd" in custody`, "did you mean tracked?", true},
	{"version: 1", "version: 1\ncustody: {actions: {Scan: {kind: created}}}", "2:21: the name of an action has 1 to 64", "", true},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {due: 2h}}}", "2:21: the action scan has no kind", "created, copied", false},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {kind: create}}}", `2:34: there is no kind "create"`, "did you mean created?", true},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {kind: none}}}", `2:34: there is no kind "none"`, "", true},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {kind: created, duee: 2h}}}", `2:43: unknown key "duee" in the action scan`, "did you mean due?", true},
	{"version: 1", "version: 1\ncustody: {actions: {nas_raw_created: {kind: deleted}}}", "2:39: the action nas_raw_created is built in, and its kind is created", "remove kind", false},
	{"version: 1", "version: 1\ncustody: {actions: {stream_started: {work: a}}}", "2:38: the action stream_started is built in", "remove work", false},
	{"version: 1", "version: 1\ncustody: {actions: {nas_raw_deleted: {due: 2h}}}", "2:39: an action of kind deleted makes no file", "comes into being", false},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {kind: sent, required: true}}}", "2:40: an action of kind sent makes no file", "comes into being", false},
	{"version: 1", "version: 1\ncustody: {actions: {work_copy_created: {required: false}}}", "2:41: the files of the action work_copy_created must be cleaned up", "remove", false},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {kind: created, required: false, due: 2h}}}", "2:43: the files of the action scan must be cleaned up", "remove", false},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {kind: created, due: 2mo}}}", "2:48: due is no length of time", "2h", true},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {kind: created, due: 90}}}", "2:48: due is no length of time", "2h", true},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {kind: created, due: 0h}}}", "2:48: due must be longer than zero", "2h", true},
	{"version: 1", "version: 1\ncustody: {actions: {scan: {kind: created, due: 999999w}}}", "2:48: due is too long", "100 years", false},
	{"version: 1", "version: 1\ncustody: {actions: {ocr: {kind: started}}}", "2:21: the action ocr does not say which work", "work: NAME", false},
	{"version: 1", "version: 1\ncustody: {actions: {ocr: {kind: started, work: O C R}}}", "2:48: the name of work has", "", true},
	{"version: 1", "version: 1\ncustody: {actions: {ocr: {kind: created, work: ocr}}}", "2:42: an action of kind created begins and ends no work", "remove work", false},
	{"version: 1", "version: 1\ncustody: {tracked: [dsk]}", `2:21: there is no store "dsk"`, "did you mean disk?", false},
	{"version: 1", "version: 1\ncustody: {tracked: media}", "2:20: the store media holds objects, not files", "", false},
	{"version: 1", "version: 1\ncustody: {tracked: []}", "2:20: tracked is an empty list", "", true},
	{"version: 1", "version: 1\ncustody: {tracked: [disk, {store: disk}]}", "2:35: the store disk is tracked twice", "once", false},
	{"version: 1", "version: 1\ncustody: {tracked: [{grace: 4h}]}", "2:21: a tracked store has no store", "{store: NAME", true},
	{"version: 1", "version: 1\ncustody: {tracked: [{store: disk, grace: soon}]}", "2:42: grace is no length of time", "2h", true},
	{"version: 1", "version: 1\ncustody: {pairs: [{file: '*.csv', within: 2h}]}", "2:19: a pair has no beside", "*.duckdb", true},
	{"version: 1", "version: 1\ncustody: {pairs: [{file: '*.csv', beside: '*.db'}]}", "2:19: a pair has no within", "2h", true},
	{"version: 1", "version: 1\ncustody: {pairs: [{file: '*.csv', beside: '*-*.db', within: 2h}]}", "2:44: beside holds more wildcards", "same wildcards", false},
	{"version: 1", "version: 1\ncustody: {pairs: [{file: '[a', beside: 'b', within: 2h}]}", "2:27: file has a [ that is not closed", "pattern", false},
	{"version: 1", "version: 1\ncustody: {pairs: [{file: 'a', beside: 'b', within: 2h, in: app}]}", "2:60: the store app holds rows, not files", "", false},
	{"version: 1", "version: 1\ncustody: {pairs: [{file: 'a', beside: 'b', within: 2h, made: nas_raw_create}]}", `2:62: there is no action "nas_raw_create"`, "did you mean nas_raw_created", false},
	{"version: 1", "version: 1\ncustody: {pairs: [{file: 'a', beside: 'b', within: 2h, made: nas_raw_deleted}]}", "2:62: an action of kind deleted makes no file", "", false},
	{"version: 1", "version: 1\ncustody: {agreement: {none: {rows: app.f, path: 'disk:{p}'}}}", "2:23: the name of an agreement has", "", true},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f}}}", "2:23: the agreement raw has no path", "STORE:{column}", true},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: disk.f, path: 'disk:{p}'}}}", "2:35: the store disk holds files, not rows", "", false},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'p'}}}", "2:49: path does not say in which store", "absolute", true},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'app:{p}'}}}", "2:48: the store app holds rows, not files", "", false},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'disk:../{p}'}}}", "2:54: the path climbs out of its root", "", false},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'disk:p'}}}", "2:49: the template has no reference", "", true},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'disk:{g.p}'}}}", "2:49: an agreement compares columns of the table itself", "agreement of its own", false},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'disk:{p[*]}'}}}", "2:49: an agreement compares columns of the table itself", "", false},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'disk:{p}', size: a.b}}}", "2:67: size is one column of the table", "alone", false},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'disk:{p}', ref: '{id}'}}}", "2:66: ref must be KIND:ID", "data-file:{id}", true},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'disk:{p}', where: 'a = (1'}}}", "2:68: where: a ( without its )", "", false},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'disk:{p}', made: [x]}}}", `2:67: there is no action "x"`, "track --list", false},
	{"version: 1", "version: 1\ncustody: {agreement: {raw: {rows: app.f, path: 'disk:{p}', within: 1h}}}", "2:60: within says how soon a file must have a row", "made", false},

	{"app: {rows", "9app: {rows", "4:3: the name of a store has letters", "", true},
	{`{rows: "sqlite:app.db"}`, `{rows: ""}`, "4:15: rows is empty", "", true},
	{`{rows: "sqlite:app.db"}`, `{}`, "4:8: the store app has none of rows, files and objects", "{rows: DSN}", true},
	{`{rows: "sqlite:app.db"}`, `{rows: a, files: b}`, "4:18: the store app has both rows and files", "keep one", true},
	{`{rows: "sqlite:app.db"}`, `sqlite:app.db`, "4:8: the store app must be a mapping", "", true},
	{`{rows: "sqlite:app.db"}`, `{rows: [a]}`, "4:15: rows must be a single value, not a list", "", true},
	{"{files: /data}", "{files: /data, mount: 'true'}", "5:31: mount must be true or false", "without quotes", true},
	{"{files: /data}", "{files: /data, marker: ..}", "5:32: the marker is the name of a file", "", false},
	{"{files: /data}", "{files: //}", "5:17: the root of a store cannot be the whole file system", "", false},
	{"{files: /data}", "{files: /data, endpoint: x}", `5:24: unknown key "endpoint" in the store disk`, "files, mount", true},
	{"s3://media-bucket", "http://media", "6:21: objects must be the URL of a bucket", "s3://", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", region: 7`, "6:49: region must be text", "quotes", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", endpoint: s3.example.org`, "6:51: the endpoint must begin with", "https://", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", secret_key: abc, access_key: "${A:-b}"`, "6:53: secret_key is written into the policy", "${NAME}", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", access_key: "${A:-b}"`, "6:3: access_key and secret_key go together", "", false},
	{`"s3://media-bucket"`, `"s3://media-bucket", buckets: [x]`, "6:41: buckets is for a store without a bucket", "s3://", false},
	{`"s3://media-bucket"`, `"s3://", buckets: ["a/b"]`, "6:40: this is not the name of a bucket", "reflector-*", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", uploads: some`, "6:50: uploads can only be none", "", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", timeout: 30`, "6:50: timeout must be text", "", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", timeout: -3s`, "6:50: the timeout is not a time above zero", "30s", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", attempts: 0`, "6:51: attempts must be more than zero", "", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", attempts: 1001`, "6:51: attempts is too large", "1 to 1000", true},
	{`"s3://media-bucket"`, `"s3://media-bucket", inventory: x`, "6:52: the inventory must be the URL", "", true},

	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {}}`, "4:38: the pace is empty", "items: 500/s", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: fast}`, "4:38: the pace of a store of rows must be a mapping", "", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {items: 500}}`, "4:46: items must be text", "quotes", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {items: 0/s}}`, "4:46: items is not a rate above zero", "500/s", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {rows: -5/s}}`, "4:45: rows is not a rate above zero", "5000/s", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {rows: 5/m}}`, "4:45: rows is not a rate above zero", "/min", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {bytes: 5MB/s}}`, `4:39: unknown key "bytes" in the pace of a store of rows`, "items, rows, slow, pause_file", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {slow: 200ms}}`, "4:45: slow is not a factor above one", "slow: 2x", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {slow: 1x}}`, "4:45: slow is not a factor above one", "slow: 2x", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {pause_file: ''}}`, "4:51: pause_file is empty", "", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {replica: ''}}`, "4:48: replica is empty", "", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {lag: 30s}}`, "4:39: lag is how far a replica may be behind", "replica: ", false},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {replica: x, lag: 0s}}`, "4:56: lag is not a time from 1s to 24h", "lag: 30s", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {replica: x, lag: 500ms}}`, "4:56: lag is not a time from 1s to 24h", "lag: 30s", true},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {replica: x, lag: 25h}}`, "4:56: lag is not a time from 1s to 24h", "lag: 30s", false},
	{`{rows: "sqlite:app.db"}`, `{rows: "sqlite:app.db", pace: {replica: x, lag: 30}}`, "4:56: lag must be text", "", true},
	{"{files: /data}", "{files: /data, pace: {replica: x}}", `5:31: unknown key "replica" in the pace of a store of files`, "items, bytes", true},
	{"{files: /data}", "{files: /data, pace: {rows: 5/s}}", `5:31: unknown key "rows" in the pace of a store of files`, "items, bytes", true},
	{"{files: /data}", "{files: /data, pace: {bytes: 50Mb/s}}", "5:38: bytes is not a rate above zero", "50MB/s", true},
	{"{files: /data}", "{files: /data, pace: {bytes: 1.5MB/s}}", "5:38: bytes is not a rate above zero", "50MB/s", true},
	{"  records:", "  my records:", "8:3: the name of a rule has letters", "", true},
	{"    retain: 14d\n    rows", "    rows", "8:3: the rule records has no retain", "retain: 14d", true},
	{"retain: 14d\n    rows", "retain: 14\n    rows", "9:13: retain: the period has no unit", "14d", true},
	{"retain: 14d\n    rows", "retain: -14d\n    rows", "9:13: retain: a period cannot be negative", "", true},
	{"retain: 14d\n    rows", "retain: 0d\n    rows", "9:13: retain: a period must be longer than zero", "", true},
	{"retain: 14d\n    rows", "retain: 6m\n    rows", "9:13: retain: the smallest unit", "6mo", true},
	{"retain: 14d\n    rows", "retain: [14d]\n    rows", "9:13: retain must be a single value", "", true},
	{"retain: 14d\n    rows", "retain: 1d1y\n    rows", "9:13: retain: the units of a period go from large to small", "1y6mo", true},
	{"    rows: app.transcripts\n", "", "9:5: the rule records has none of rows, files and objects", "rows: STORE.TABLE", true},
	{"rows: app.transcripts", "rows: transcripts", "10:11: rows must be STORE.TABLE", "app.transcripts", true},
	{"rows: app.transcripts", "rows: app.a.b.c", "10:11: rows must be STORE.TABLE", "", true},
	{"rows: app.transcripts", "rows: app.tran scripts", "10:19: rows must be STORE.TABLE", "", false},
	{"rows: app.transcripts", `rows: 'app."transcripts'`, "10:16: the quote is not closed", "", false},
	{"rows: app.transcripts", `rows: 'app."tran.scripts"'`, "10:16: a quoted name cannot hold a dot", "", false},
	{"rows: app.transcripts", `rows: 'app.""'`, "10:16: the name is empty", "", false},
	{"rows: app.transcripts", "rows: apps.transcripts", `10:11: there is no store "apps"`, "did you mean app?", false},
	{"rows: app.transcripts", "rows: nowhere.transcripts", `10:11: there is no store "nowhere"`, "stores with rows are app", false},
	{"rows: app.transcripts", "rows: disk.transcripts", "10:11: the store disk holds files, not rows", "", false},
	{"rows: app.transcripts", "rows: app.transcripts\n    files: x", "11:5: the rule records has both rows and files", "", true},
	{"rows: app.transcripts", "rows: app.transcripts\n    purpose: ''", "11:14: purpose is empty", "", true},
	{"rows: app.transcripts", "rows: app.transcripts\n    kind: Case", "11:11: a kind is one lower-case word", "record", true},
	{"rows: app.transcripts", "rows: app.transcripts\n    enabled: 1", "11:14: enabled must be true or false", "", true},
	{"rows: app.transcripts", "rows: app.transcripts\n    limits: {clock_jump: 1d}", "11:14: clock_jump is a limit of the whole policy", "", true},
	{"    anchor: {column: created_at}\n", "", "8:3: the rule records has no anchor", "anchor: {column", true},
	{"{column: created_at}", "modified", "11:13: a row has no modification time", "", true},
	{"{column: created_at}", "created_at", "11:13: anchor must be modified, or a mapping", "{column: created_at", true},
	{"{column: created_at}", "{}", "11:13: anchor must have either column or name or tag", "", true},
	{"{column: created_at}", "{column: a, name: YYYY}", "11:13: anchor must have either column or name", "", true},
	{"{column: created_at}", "{tag: t, zone: UTC}", "11:14: rows have no tags", "{column: created_at", true},
	{"{column: created_at}", "{name: YYYY, zone: UTC}", "11:14: a row has no file name", "", true},
	{"{column: created_at}", "{column: t.created_at}", "11:23: the anchor is one column of the rule's own table", "", false},
	{"{column: created_at}", "{column: a, zone: Local}", "11:31: the zone Local differs", "Europe/Berlin", true},
	{"{column: created_at}", "{column: a, zone: Europe/Brelin}", `11:31: the zone "Europe/Brelin" is not known`, "", false},
	{"{column: created_at}", "{column: a, zone: ../../etc/passwd}", "11:31: the zone", "", false},
	{"where: a = 1", "where: ''", "12:12: where is empty", "", true},
	{"where: a = 1", "where: true", "12:12: where must be text, and YAML reads this as true or false", "quotes", true},
	{"where: a = 1", "where: a = 1; DROP TABLE x", "12:17: where: a condition cannot hold a semicolon", "", false},
	{"where: a = 1", "where: a = 1 -- why", "12:18: where: a condition cannot hold a comment", "", false},
	{"where: a = 1", "where: (a = 1", "12:12: where: a ( without its )", "", false},
	{"where: a = 1", "where: a = 'x", "12:16: where: the quote is not closed", "it''s", false},
	{"where: a = 1", "hold: a)", "12:12: hold: a ) without its (", "", false},
	{"where: a = 1", "in_use: [a]", "12:13: in_use must be a single value", "", true},

	{`"disk:{id}.bin"`, `"{id}.bin"`, "14:17: files does not say in which store", "STORE:", true},
	{`"disk:{id}.bin"`, `"dsk:{id}.bin"`, `14:17: there is no store "dsk"`, "did you mean disk?", false},
	{`"disk:{id}.bin"`, `"media:{id}.bin"`, "14:17: the store media holds objects, not files", "", false},
	{`"disk:{id}.bin"`, `"{id}:{id}.bin"`, "14:17: the store of files must be named", "", false},
	{`"disk:{id}.bin"`, `"disk:all.bin"`, "14:22: the template has no reference", "{column}", true},
	{`"disk:{id}.bin"`, `"disk:../{id}.bin"`, "14:22: the path climbs out of its root with ..", "", false},
	{`"disk:{id}.bin"`, `"disk:a/../../{id}.bin"`, "14:22: the path climbs out of its root with ..", "", false},
	{`"disk:{id}.bin"`, `"disk:{id}/.."`, "14:22: the path climbs out of its root with ..", "", false},
	{`"disk:{id}.bin"`, `"disk:/data/{id}.bin"`, "14:22: the path is absolute", "", false},
	{`"disk:{id}.bin"`, `"disk:./{id}.bin"`, "14:22: the path has an element that is only a dot", "", false},
	{`"disk:{id}.bin"`, `"disk:a//{id}.bin"`, "14:22: the path has an empty element", "", false},
	{`"disk:{id}.bin"`, `"disk:{id}\u0000.bin"`, "14:16: files holds a control character", "", false},
	{`"disk:{id}.bin"`, `"disk:` + strings.Repeat("x", 5000) + `{id}"`, "14:22: the path is too long", "", false},
	{`"disk:{id}.bin"`, `"disk:{id"`, "14:22: a { without its }", "{{", false},
	{`"disk:{id}.bin"`, `"disk:{id}}"`, "14:26: a } without its {", "{{", false},
	{`"disk:{id}.bin"`, `"disk:{}"`, "14:23: a name is missing here", "{column}", false},
	{`"disk:{id}.bin"`, `"disk:{ id }"`, "14:23: a name is missing here", "{column}", false},
	{`"disk:{id}.bin"`, `"disk:{id[0]}"`, "14:25: this is not part of a reference", "{column[*]}", false},
	{`"disk:{id}.bin"`, `"disk:{a.b.c.d}"`, "14:23: a reference has at most a schema, a table and a column", "->", false},
	{`"disk:{id}.bin"`, `"disk:{a->}"`, "14:26: a name is missing here", "->", false},
	{`"disk:{id}.bin"`, `"disk:{a[*]}{b[*]}"`, "14:17: the template goes through two arrays", "", false},
	{`"disk:{id}.bin"`, `"disk:{a.x}{b.x}"`, "14:17: the template takes values of two tables", "two parts", false},
	{`- files: "disk:{id}.bin"`, `- {files: "disk:{id}", files: "x"}`, `14:30: the key "files" is given twice`, "", false},
	{`- files: "disk:{id}.bin"`, `- {files: "disk:{id}", on: "a"}`, `14:30: unknown key "on" in a part of files`, "when", true},
	{`- files: "disk:{id}.bin"`, `- {fils: "disk:{id}"}`, "14:9: a part has none of rows, files and objects", "files:", true},
	{`- files: "disk:{id}.bin"`, `- disk:{id}`, "14:9: a part must be a mapping", "", true},
	{`- files: "disk:{id}.bin"`, "- files: \"disk:{id}\"\n      - files: \"disk:{id}\"", "15:9: this part is given twice", "", false},
	{`- files: "disk:{id}.bin"`, `- {files: "disk:{id}", when: "a;"}`, "14:38: when: a condition cannot hold a semicolon", "", false},
	{`- files: "disk:{id}.bin"`, `- {files: "disk:{a}{b}", referenced_by: [app.x.y]}`, "14:32: referenced_by needs a template with exactly one reference", "", false},
	{`- files: "disk:{id}.bin"`, `- {files: "disk:{a}", referenced_by: [x.y]}`, "14:45: referenced_by must be STORE.TABLE.COLUMN", "", true},
	{`- files: "disk:{id}.bin"`, `- {files: "disk:{a}", referenced_by: "app.x.y[1]"}`, "14:45: referenced_by must be STORE.TABLE.COLUMN", "", false},
	{`- files: "disk:{id}.bin"`, `- {files: "disk:{a}", referenced_by: []}`, "14:44: referenced_by is an empty list", "", true},
	{`- files: "disk:{id}.bin"`, `- {files: "disk:{a}", referenced_by: {x: y}}`, "14:44: referenced_by must be a list", "", true},
	{`- files: "disk:{id}.bin"`, `- {files: "disk:{a}", referenced_by: disk.x.y}`, "14:44: the store disk holds files", "", false},
	{`- files: "disk:{id}.bin"`, `- objects: "{bucket}:{key}"` + "\n      - objects: \"media:{a}{b[*]}{c[*]}\"", "15:19: the template goes through two arrays", "", false},
	{"- rows: app.meeting", "- rows: disk.meeting", "15:15: the store disk holds files, not rows", "", false},
	{"- rows: app.meeting", "- rows: app.transcripts", "15:15: a linked table cannot be the rule's own", "", false},
	{"- rows: app.meeting", "- rows: app.meeting\n      - rows: app.meeting", "16:15: this table is linked twice", "AND", false},
	{"- rows: app.meeting", "- rows: app.meeting\n        when: x", `16:9: unknown key "when" in a part of rows`, "keys rows, kind, on, where", true},
	{"- rows: app.meeting", "- rows: app.meeting\n        kind: Two Words", "16:15: a kind is one lower-case word", "meeting or note", true},
	{"meeting.id = transcripts.meeting_id", "meeting.id == transcripts.meeting_id", "16:25: a name is missing here", "on:", false},
	{"meeting.id = transcripts.meeting_id", "meeting.id > transcripts.meeting_id", "16:24: on compares with =", "on:", true},
	{"meeting.id = transcripts.meeting_id", "id = meeting_id", "16:13: both sides of on must be TABLE.COLUMN", "on:", false},
	{"meeting.id = transcripts.meeting_id", "meeting.id = other.meeting_id", `16:13: the table "other" is neither`, "transcripts", false},
	{"meeting.id = transcripts.meeting_id", "transcripts.a = transcripts.meeting_id", "16:13: one side of on, and only one", "on:", false},
	{"meeting.id = transcripts.meeting_id", "meeting.id = meeting.x", "16:13: one side of on, and only one", "on:", false},
	{"meeting.id = transcripts.meeting_id", "meeting.id = transcripts.m OR 1 = 1", "16:40: on is one equation", "meeting.id", false},
	{"meeting.id = transcripts.meeting_id", "meeting.id = transcripts.m AND", "16:40: on is one equation", "meeting.id", false},
	{"    parts:\n      - files: \"disk:{id}.bin\"\n      - rows: app.meeting\n        on: meeting.id = transcripts.meeting_id\n", "    parts: []\n", "13:12: parts must be a list", "- files:", true},

	{"disk:export-*.zip", "export-*.zip", "19:13: files does not say in which store", "disk:export", true},
	{"disk:export-*.zip", "disk:", "19:18: the glob is empty", "", true},
	{"disk:export-*.zip", "disk:/export-*.zip", "19:18: the glob is absolute", "", true},
	{"disk:export-*.zip", "disk:a/../../x", "19:20: the glob climbs out of its root with ..", "", false},
	{"disk:export-*.zip", `disk:a/\\.\\./x`, "19:12: the glob climbs out of its root with ..", "", false},
	{"disk:export-*.zip", "disk:{a,..}/x", "19:21: the glob climbs out of its root with ..", "", false},
	{"disk:export-*.zip", "disk:./x", "19:18: the glob has an element that is only a dot", "", false},
	{"disk:export-*.zip", "disk:a//x", "19:18: the glob has an empty element", "", false},
	{"disk:export-*.zip", "disk:**.zip", "19:18: ** stands alone between slashes", "**/*.json", false},
	{"disk:export-*.zip", "disk:[a-", "19:18: a [ of the glob is not closed", "", false},
	{"disk:export-*.zip", "disk:{id}.zip", "19:18: a selector has no references", "{json,log}", false},
	{"disk:export-*.zip", "disk:{a,b.zip", "19:18: a { without its }", "", false},
	{"disk:export-*.zip", "disk:a}.zip", "19:19: a } without its {", "", false},
	{"disk:export-*.zip", "disk:" + strings.Repeat("{a,b}", 12), "19:21: the braces of the glob have too many alternatives", "", false},
	{"disk:export-*.zip", "app:x", "19:13: the store app holds rows, not files", "", false},
	{"    anchor: modified\n  takes", "    anchor: {column: a}\n  takes", "20:14: files have no columns", "modified", true},
	{"    anchor: modified\n  takes", "    anchor: {name: app.log, zone: UTC}\n  takes", "20:20: the anchor's name has no date", "YYYY", true},
	{"    anchor: modified\n  takes", "    anchor: {name: YYYY-DD.log, zone: UTC}\n  takes", "20:20: the anchor's name has DD but no MM", "", false},
	{"    anchor: modified\n  takes", "    anchor: {name: YYYY-YYYY.log, zone: UTC}\n  takes", "20:25: the element YYYY is given twice", "", false},
	{"    anchor: modified\n  takes", "    anchor: {name: logs/YYYY.log, zone: UTC}\n  takes", "20:24: the anchor's name is a base name", "", true},
	{"    anchor: modified\n  takes", "    anchor: {name: YYYY.log}\n  takes", "20:14: a date in a name has no zone of its own", "zone: UTC", true},
	{"    anchor: modified\n  takes", "    anchor: modified\n    where: a\n  takes", "21:5: where is a condition on rows", "remove it", true},
	{"    anchor: modified\n  takes", "    anchor: modified\n    hold: a\n  takes", "21:5: hold is a condition on rows", "remove it", true},
	{"    anchor: modified\n  takes", "    anchor: modified\n    in_use: a\n  takes", "21:5: in_use is a condition on rows", "remove it", true},
	{"    anchor: modified\n  takes", "    anchor: modified\n    parts: []\n  takes", "21:5: parts are named by the columns of a row", "", true},
	{"    anchor: modified\n  takes", "    anchor: {tag: t, zone: UTC}\n  takes", "20:14: files have no tags", "modified", true},
	{"    anchor: modified\nlimits", "    anchor: {tag: t}\nlimits", "24:14: a date in a tag has no zone of its own", "zone: UTC", true},
	{"    anchor: modified\nlimits", "    anchor: {tag: '', zone: UTC}\nlimits", "24:19: tag is empty", "", true},
	{"    anchor: modified\nlimits", "    anchor: {tag: t, name: YYYY, zone: UTC}\nlimits", "24:13: anchor must have either column or name or tag", "", true},
	{"    anchor: modified\nlimits", "    anchor: {tag: " + strings.Repeat("t", 129) + ", zone: UTC}\nlimits", "24:19: the tag is longer", "128", true},
	{"    anchor: modified\nlimits", "    anchor: {name: a/b, zone: UTC}\nlimits", "24:20: the anchor's name has no date", "YYYY", true},
	{"media:takes/*", "media:", "23:21: the prefix is empty", "recordings/*", true},
	{"media:takes/*", "media:a/*/b", "23:23: * stands only at the end of a prefix", "", true},
	{"media:takes/*", "media:{id}", "23:21: a selector has no references", "", false},
	{"media:takes/*", "disk:takes/*", "23:15: the store disk holds files, not objects", "", false},

	{"{items: 10}", "{items: 0}", "25:17: items must be more than zero", "unlimited", true},
	{"{items: 10}", "{items: -5}", "25:17: items must be a whole number", "unlimited", true},
	{"{items: 10}", "{items: all}", "25:17: items must be a whole number", "unlimited", true},
	{"{items: 10}", "{items: '10'}", "25:18: items must be a whole number", "", true},
	{"{items: 10}", "{items: 1.5}", "25:17: items must be a whole number", "", true},
	{"{items: 10}", "{items: 99999999999999999999}", "25:17: items", "", false},
	{"{items: 10}", "{share: 25}", "25:17: share: a share has the sign %", "25%", true},
	{"{items: 10}", "{share: 0%}", "25:17: share: a share is more than 0%", "", true},
	{"{items: 10}", "{share: 101%}", "25:17: share: a share is more than 0% and at most 100%", "", true},
	{"{items: 10}", "{share: 0.00001%}", "25:17: share: a share is a number with at most four decimals", "", true},
	{"{items: 10}", "{missing: -1%}", "25:19: missing: a share is a number", "", true},
	{"{items: 10}", "{clock_jump: 0h}", "25:22: clock_jump: a period must be longer than zero", "", true},
	{"{items: 10}", "10", "25:9: limits must be a mapping", "", true},
	{"0 3 * * *", "0 3 * *", "26:12: the schedule cannot be read", "five fields", true},
	{"0 3 * * *", "0 3 * * * *", "26:12: the schedule cannot be read", "five fields", true},
	{"0 3 * * *", "61 3 * * *", "26:12: the schedule cannot be read", "five fields", false},
	{"0 3 * * *", "0 0 30 2 *", "26:12: the schedule never comes", "calendar", false},
	{"0 3 * * *", "@daily", "26:12: the schedule must have five fields", "five fields", true},
	{"0 3 * * *", "TZ=0 0 3 * * *", "26:12: the schedule cannot hold a zone", "zone:", true},
	{"0 3 * * *", "CRON_TZ=UTC 0 3 * * *", "26:12: the schedule cannot hold a zone", "zone:", true},
}

func TestEveryErrorClass(t *testing.T) {
	t.Parallel()
	if _, err := policy.Parse("p.yaml", []byte(base), nil); err != nil {
		t.Fatalf("the base policy:\n%v", err)
	}
	validate := validator(t)
	if err := validate([]byte(base)); err != nil {
		t.Fatalf("the schema refuses the base policy: %v", err)
	}
	for _, c := range classes {
		if strings.Count(base, c.old) < 1 {
			t.Fatalf("the base policy has no %q", c.old)
		}
		src := strings.Replace(base, c.old, c.new, 1)
		p, err := policy.Parse("p.yaml", []byte(src), nil)
		var errs *policy.Errors
		if p != nil || !errors.As(err, &errs) {
			t.Errorf("%q for %q is taken", c.new, c.old)
			continue
		}
		if !found(errs, c.want, c.hint) {
			t.Errorf("%q for %q: want a problem %q with hint %q; got\n%v", c.new, c.old, c.want, c.hint, err)
		}
		if serr := validate([]byte(src)); (serr != nil) != c.shape {
			t.Errorf("%q for %q: the schema says %v; want it refused: %v", c.new, c.old, serr, c.shape)
		}
	}
}

func found(errs *policy.Errors, want, hint string) bool {
	for _, p := range errs.Problems {
		text := fmt.Sprintf("%d:%d: %s", p.Pos.Line, p.Pos.Column, p.Text)
		if strings.HasPrefix(text, want) && strings.Contains(p.Hint, hint) && p.Line != "" {
			return true
		}
	}
	return false
}
