package ledger_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/proof"
)

// victim is a ledger that someone can write to who does not go through us.
type victim struct {
	*ledger.Ledger
	db   *sql.DB
	keys *proof.Keys
	pin  ledger.Pin
	path string
}

// newVictim makes a ledger with something of everything, signed and pinned, and
// takes its triggers away.
func newVictim(t *testing.T, heartbeats int) *victim {
	t.Helper()
	dir := t.TempDir()
	v := &victim{path: filepath.Join(dir, "l.db"), pin: ledger.FilePin(filepath.Join(dir, "pin"))}
	v.keys = soundFiles(t, heartbeats).copyTo(t, dir)
	v.Ledger = open(t, "sqlite:"+v.path)
	v.db = rawSQLite(t, v.path)
	dropTriggers(t, v.db)
	wantGood(t, verify(t, v.Ledger, v.verification()))
	return v
}

// files are those of a ledger that is closed, its pin, and the keys that signed it.
type files struct {
	made   sync.Once
	ledger []byte
	pin    []byte
	keys   *proof.Keys
}

func (f *files) copyTo(t *testing.T, dir string) *proof.Keys {
	t.Helper()
	if len(f.ledger) == 0 {
		t.Fatal("the ledger that is to be copied could not be made")
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "l.db"), f.ledger, 0o600), os.WriteFile(filepath.Join(dir, "pin"), f.pin, 0o600)); err != nil {
		t.Fatal(err)
	}
	return f.keys
}

// sound holds the files of ledgers that are made once for all tests, by heartbeats.
var sound sync.Map

func soundFiles(t *testing.T, heartbeats int) *files {
	t.Helper()
	known, _ := sound.LoadOrStore(heartbeats, new(files))
	f := known.(*files)
	f.made.Do(func() {
		dir := t.TempDir()
		l, err := ledger.Open(t.Context(), "sqlite:"+filepath.Join(dir, "l.db"), ledger.Config{})
		if err != nil {
			t.Fatal(err)
		}
		f.keys = newKeys(t, l)
		s := signing(f.keys, ledger.FilePin(filepath.Join(dir, "pin")))
		fillLedger(t, l, heartbeats)
		if _, err := l.SealOff(t.Context(), ledger.Selection{Item: "id=4"}, false, ledger.Secret{Name: "who", Text: "x"}); err != nil {
			t.Fatal(err)
		}
		checkpoint(t, l, s)
		mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat, At: day})
		checkpoint(t, l, s)
		err = l.Close() // which leaves nothing in the write-ahead log
		var err2, err3 error
		f.ledger, err2 = os.ReadFile(filepath.Join(dir, "l.db"))
		f.pin, err3 = os.ReadFile(filepath.Join(dir, "pin"))
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatal(err)
		}
	})
	return f
}

func (v *victim) verification() ledger.Verification {
	return ledger.Verification{Trust: v.keys.Trust(), Pins: []ledger.Pin{v.pin}, Workers: 2}
}

func rawSQLite(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)&_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func dropTriggers(t testing.TB, db *sql.DB) {
	t.Helper()
	for _, name := range names(t, db, "SELECT name FROM sqlite_master WHERE type = 'trigger'") {
		mustExec(t, db, "DROP TRIGGER "+name)
	}
}

func names(t testing.TB, db *sql.DB, query string) (list []string) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func mustExec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// verifyDamaged verifies with a deadline, far above what a slow machine needs: it
// may neither hang nor panic.
func (v *victim) verifyDamaged(t *testing.T) ledger.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := v.Verify(ctx, v.verification())
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return r
}

func TestEachFlippedByteIsSeen(t *testing.T) {
	for _, heartbeats := range []int{2, 252} {
		t.Run(fmt.Sprint(heartbeats), func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, heartbeats)
			flipped := 0
			for _, c := range []struct{ table, column string }{
				{"entries", "bundle"}, {"entries", "hashes"}, {"leaves", "blob"}, {"nodes", "hash"}, {"checkpoints", "note"},
				{"sealed", "texts"}, {"lookup", "filter"}, {"sealings", "slots"}, {"marks", "bits"}, {"marks", "key"},
			} {
				flipped += v.flipColumn(t, c.table, c.column, heartbeats > 100)
			}
			if flipped < 300/everyFlip {
				t.Errorf("only %d bytes were flipped", flipped)
			}
			wantGood(t, v.verifyDamaged(t))
		})
	}
}

// flipColumn flips each byte of each value, one at a time. In a large ledger one
// byte in 29 has to do, but for the hashes of blocks; under the race detector,
// whose business is not the bytes, one in [everyFlip].
func (v *victim) flipColumn(t *testing.T, table, column string, large bool) (flipped int) {
	t.Helper()
	key := "rowid"
	if table == "nodes" {
		key = "level || ' ' || idx"
	} else if table == "marks" {
		key = "key || ' ' || block"
	} else if table == "sealings" {
		key = "entry || ' ' || target"
	}
	step := everyFlip
	if large && table != "nodes" {
		step = 29 * everyFlip
	}
	for _, id := range names(t, v.db, "SELECT "+key+" FROM "+table) {
		var value []byte
		if err := v.db.QueryRow("SELECT "+column+" FROM "+table+" WHERE "+key+" = $1", id).Scan(&value); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(value); i += step {
			value[i] ^= 1 << (i % 8)
			if column == "key" {
				n := 0
				if err := v.db.QueryRow("SELECT count(*) FROM marks WHERE key = $1", string(value)).Scan(&n); err != nil || n > 0 {
					value[i] ^= 1 << (i % 8) // another row has that key
					continue
				}
			}
			v.set(t, table, column, key, id, value)
			if column == "key" {
				id = strings.Replace(id, id[:len(value)], string(value), 1)
			}
			if r := v.verifyDamaged(t); r.Unaltered != ledger.Bad || len(r.Faults) == 0 || r.Faults[0].Place == "" {
				t.Errorf("byte %d of %s.%s (%s) flipped goes unseen", i, table, column, id)
			}
			value[i] ^= 1 << (i % 8)
			v.set(t, table, column, key, id, value)
			if column == "key" {
				id = strings.Replace(id, id[:len(value)], string(value), 1)
			}
			flipped++
		}
	}
	return flipped
}

func (v *victim) set(t *testing.T, table, column, key, id string, value []byte) {
	t.Helper()
	var arg any = value
	if column == "note" || column == "key" {
		arg = string(value)
	}
	mustExec(t, v.db, "UPDATE "+table+" SET "+column+" = $1 WHERE "+key+" = $2", arg, id)
}

func TestDamageIsNamed(t *testing.T) {
	const last = 262 // of the entries: 252 heartbeats and ten others
	for _, tc := range []struct {
		name string
		sql  []string
		want string // part of a fault or of what is missing
	}{
		{"drop an entry", []string{"DELETE FROM entries WHERE number = 2"}, "entry 2: it is not in the ledger"},
		{"drop the head", []string{"DELETE FROM entries WHERE number < 3"}, "entries 1 to 2: they are not in the ledger"},
		{"drop a block", []string{"DELETE FROM entries WHERE number <= 256"}, "entries 1 to 256: they are not in the ledger"},
		{"drop all entries", []string{"DELETE FROM entries"}, "the ledger has 0: the end is missing"},
		{"truncate the tail", []string{"DELETE FROM entries WHERE number >= 257"}, "the end is missing"},
		{"truncate the tail and what tells of it", []string{
			"DELETE FROM entries WHERE number >= 257", "DELETE FROM checkpoints", "DELETE FROM sealed WHERE number >= 257",
			"DELETE FROM leaves WHERE number >= 257", "DELETE FROM lookup WHERE number >= 257", "DELETE FROM open_intents WHERE number >= 257"}, "pinned checkpoint (file): it covers"},
		{"swap two entries", []string{"UPDATE entries SET number = -1 WHERE number = 1", "UPDATE entries SET number = 1 WHERE number = 3", "UPDATE entries SET number = 3 WHERE number = -1"}, "entries 1 to 256: they do not have the hash"},
		{"swap two contents", []string{"UPDATE entries SET bundle = (SELECT bundle FROM entries WHERE number = 3), hashes = (SELECT hashes FROM entries WHERE number = 3) WHERE number = 1"}, "entries 1 to 256: they do not"},
		{"double an entry", []string{fmt.Sprintf("INSERT INTO entries SELECT (SELECT max(number + count) FROM entries), count, bundle, hashes, NULL, 1 FROM entries WHERE number = %d", 1)}, "sealed text is gone"},
		{"an entry below the first", []string{"INSERT INTO entries SELECT 0, count, bundle, hashes, NULL, 1 FROM entries WHERE number = 1"}, "number below 1"},
		{"an entry far away", []string{"INSERT INTO entries SELECT 1000000, count, bundle, hashes, NULL, 1 FROM entries WHERE number = 1"}, "they are not in the ledger"},
		{"an entry at the end of numbers", []string{"INSERT INTO entries SELECT 9223372036854775807, count, bundle, hashes, NULL, 1 FROM entries WHERE number = 1"}, "no ledger reaches"},
		{"a row that says less", []string{"UPDATE entries SET count = 0 WHERE number = 4"}, "entry 4: its row is malformed"},
		{"a row that says more", []string{"UPDATE entries SET count = 2147483647 WHERE number = 4"}, "entry 4: its row is malformed"},
		{"a row of text", []string{"UPDATE entries SET count = 'many' WHERE number = 4"}, "cannot be read"},
		{"a bundle of text", []string{"UPDATE entries SET bundle = 'epitaph/entry v1' WHERE number = 4"}, "entry 4: its row is malformed"},
		{"an empty bundle", []string{"UPDATE entries SET bundle = x'' WHERE number = 4"}, "entry 4: its row is malformed"},
		{"a huge bundle", []string{"UPDATE entries SET bundle = zeroblob(40000000) WHERE number = 2"}, "entry 2: its row is malformed"},
		{"huge sealed texts", []string{"UPDATE sealed SET texts = zeroblob(300000000) WHERE number = 2"}, "entry 2: its sealed texts are malformed"},
		{"a length of 2 GiB in the sealed texts", []string{"UPDATE sealed SET texts = x'0100ffffffff07' WHERE number = 2"}, "entry 2: its sealed texts are malformed"},
		{"a length of 2^63 in the results", []string{"UPDATE leaves SET blob = x'ffffffffffffffffff01' WHERE number = 3"}, "entry 3: its results are missing or malformed"},
		{"a huge checkpoint", []string{"UPDATE checkpoints SET note = CAST(zeroblob(4000000) AS TEXT) WHERE id = 1"}, "checkpoint 1"},
		{"drop the leaves", []string{"DELETE FROM leaves WHERE number = 2"}, "entry 2: the leaves of its items"},
		{"leaves of no batch", []string{"INSERT INTO leaves VALUES (1, x'00')"}, "entry 1: there are leaves of it"},
		{"drop sealed texts", []string{"DELETE FROM sealed WHERE number = 1"}, "secret who of entry 1: the sealed text is gone, and no entry says"},
		{"sealed texts of another", []string{"UPDATE sealed SET texts = (SELECT texts FROM sealed WHERE number = 2) WHERE number = 1"}, "entry 1: its sealed texts are malformed"},
		{"sealed texts of no entry", []string{"INSERT INTO sealed VALUES (99999, x'010000')"}, "sealed: 1 sealed texts of no entry"},
		{"hide an item", []string{"DELETE FROM lookup WHERE number = 2"}, "entry 2: the filter"},
		{"claim that it was sealed off", []string{"DELETE FROM sealed WHERE number = 1", "INSERT INTO sealings VALUES (260, 1, x'010000')"}, "entry 260: texts are listed as sealed off"},
		{"forget what was sealed off", []string{"DELETE FROM sealings"}, "no entry says that it was sealed off"},
		{"drop a hash of a block", []string{"DELETE FROM nodes"}, "entries 1 to 256: they do not have the hash"},
		{"a hash of no block", []string{"INSERT INTO nodes VALUES (2, 0, zeroblob(32))"}, "tree level 2, 0"},
		{"a hash too long", []string{"UPDATE nodes SET hash = zeroblob(33)"}, "tree level 1, 0: the hash is malformed"},
		{"hide a rule from the trail", []string{"DELETE FROM marks WHERE key = 'rule rule1'"}, "index of entries 1 to 256: by what it says"},
		{"hide a block from the trail", []string{"DELETE FROM blocks"}, "index of entries 1 to 256: it is missing"},
		{"move a block in time", []string{"UPDATE blocks SET last_at = 0"}, "index of entries 1 to 256: its time span"},
		{"hide an open intent", []string{"DELETE FROM open_intents"}, "it is an open intent of 3 items"},
		{"open an intent again", []string{"INSERT INTO open_intents VALUES (2, 5)"}, "entry 2: it is listed as an open intent"},
		{"hide an outcome", []string{"DELETE FROM answers"}, "entry 3: it answers entry 2"},
		{"invent an outcome", []string{"INSERT INTO answers VALUES (2, 1)"}, "entry 1: the index says"},
		{"claim that it was pruned", []string{"INSERT INTO prunes VALUES (5, 256)", "DELETE FROM entries WHERE number <= 256"}, "as if pruned, and no entry says so"},
		{"prune beyond the end", []string{"INSERT INTO prunes VALUES (5, 1 << 60)"}, "are said to be pruned"},
		{"file a checkpoint under another size", []string{"UPDATE checkpoints SET size = 3 WHERE id = 1"}, "checkpoint 1: it is filed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, 252)
			if n, _, err := v.Newest(t.Context()); err != nil || n < last-4 {
				t.Fatalf("the ledger has %d entries, %v", n, err)
			}
			for _, s := range tc.sql {
				mustExec(t, v.db, s)
			}
			r := v.verifyDamaged(t)
			var all []string
			for _, f := range append(r.Faults, r.Missing...) {
				all = append(all, f.String())
			}
			if !strings.Contains(strings.Join(all, "\n"), tc.want) {
				t.Errorf("want a fault with %q, got:\n%s", tc.want, strings.Join(all, "\n"))
			}
			if r.Unaltered != ledger.Bad && r.Complete != ledger.Bad {
				t.Errorf("verdicts: unaltered %s, complete %s", r.Unaltered, r.Complete)
			}
		})
	}
}

func TestAllFaultsAreListed(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 1000)
	mustExec(t, v.db, "DELETE FROM entries WHERE number = 1")
	mustExec(t, v.db, "DELETE FROM leaves WHERE number = 3")
	mustExec(t, v.db, "UPDATE entries SET hashes = zeroblob(length(hashes)) WHERE number = 257")
	mustExec(t, v.db, "UPDATE checkpoints SET note = 'x' WHERE id = 2")
	r := v.verifyDamaged(t)
	var all strings.Builder
	for _, f := range r.Faults {
		fmt.Fprintln(&all, f)
	}
	for _, want := range []string{"entry 1: it is not", "entry 3: its results", "entry 257: it does not have", "entry 512: it does not have", "checkpoint 2: "} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("fault %q is not listed", want)
		}
	}
	if len(r.Faults) < 256+4 {
		t.Errorf("%d faults listed, want one for each", len(r.Faults))
	}
}

// Whoever has the database and the key can make another ledger that agrees with
// itself. Only what is pinned outside can tell.
func TestForgedLedgerIsToldByThePinOnly(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 300)
	path := filepath.Join(t.TempDir(), "forged.db")
	forged, err := ledger.Open(t.Context(), "sqlite:"+path, ledger.Config{Origin: v.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer forged.Close()
	fillLedger(t, forged, 400)
	checkpoint(t, forged, signing(v.keys))
	r := verify(t, forged, ledger.Verification{Trust: v.keys.Trust()})
	if r.Unaltered != ledger.Good || r.Complete != ledger.Undetermined {
		t.Errorf("without the pin: unaltered %s, complete %s; want good and unknown", r.Unaltered, r.Complete)
	}
	r = verify(t, forged, v.verification())
	if r.Unaltered != ledger.Good || r.Complete != ledger.Bad || !strings.Contains(r.Missing[0].String(), "are not those of the ledger") {
		t.Errorf("with the pin: unaltered %s, complete %s, %v; want good and bad", r.Unaltered, r.Complete, r.Missing)
	}
	if _, err := forged.Checkpoint(t.Context(), signing(v.keys, v.pin)); err == nil {
		t.Error("a forged ledger was pinned over the true one")
	}
}

func TestRenamedLedger(t *testing.T) {
	t.Parallel()
	v := newVictim(t, 5)
	mustExec(t, v.db, "UPDATE meta SET value = CAST('example.com/x' AS BLOB) WHERE name = 'origin'")
	again := open(t, "sqlite:"+v.path)
	if r := verify(t, again, v.verification()); r.Unaltered != ledger.Bad || r.Complete != ledger.Bad {
		t.Errorf("a renamed ledger: unaltered %s, complete %s", r.Unaltered, r.Complete)
	}
}

func TestTriggersRefuse(t *testing.T) {
	l := filepath.Join(t.TempDir(), "l.db")
	fillLedger(t, open(t, "sqlite:"+l), 300)
	mustAppend(t, open(t, "sqlite:"+l), anOperation("anna", "x", "y"))
	db := rawSQLite(t, l)
	for _, query := range []string{
		"UPDATE entries SET count = 2", "DELETE FROM entries", "DELETE FROM entries WHERE number = 1", "UPDATE leaves SET blob = x''", "DELETE FROM leaves",
		"REPLACE INTO entries VALUES (1, 1, x'', x'', NULL, 1)", "INSERT OR REPLACE INTO leaves VALUES (2, x'')",
		"DELETE FROM sealed", "UPDATE sealed SET texts = x''", "REPLACE INTO sealed VALUES (1, x'')", "DELETE FROM lookup",
		"UPDATE nodes SET hash = x''", "DELETE FROM nodes", "REPLACE INTO nodes VALUES (1, 0, x'')",
		"UPDATE meta SET value = x''", "DELETE FROM meta", "REPLACE INTO meta VALUES ('origin', x'')",
		"DELETE FROM answers", "DELETE FROM blocks", "DELETE FROM marks", "DELETE FROM clues", "UPDATE clues SET number = 9", "UPDATE marks SET bits = x''",
	} {
		if _, err := db.Exec(query); err == nil || !strings.Contains(err.Error(), "insert-only") {
			t.Errorf("%s: %v, want a refusal", query, err)
		}
	}
}
