package ledger_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/report"
)

// withUser is the DSN for another role.
func withUser(t *testing.T, dsn, user string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(user)
	return u.String()
}

// The role of docs/ledger-format.md can do a purge's work and nothing else.
func TestAppendOnlyRole(t *testing.T) {
	dsn := testserver.Postgres(t)
	owner := open(t, dsn)
	fillLedger(t, owner, 300)
	db := rawPostgres(t, dsn)
	for _, q := range []string{
		"DROP ROLE IF EXISTS epitaph_writer", "CREATE ROLE epitaph_writer LOGIN",
		"GRANT USAGE ON SCHEMA epitaph TO epitaph_writer",
		"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA epitaph TO epitaph_writer",
		"GRANT DELETE ON epitaph.open_intents TO epitaph_writer",
	} {
		mustExec(t, db, q)
	}
	t.Cleanup(func() {
		mustExec(t, db, "DROP OWNED BY epitaph_writer")
		mustExec(t, db, "DROP ROLE epitaph_writer")
	})
	w := open(t, withUser(t, dsn, "epitaph_writer"))
	n := mustAppend(t, w, anIntent(4))
	mustAppend(t, w, anOutcome(n, 4))
	release, err := w.Lease(t.Context(), "purge")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	k := newKeys(t, w)
	checkpoint(t, w, signing(k))
	if r := verify(t, w, ledger.Verification{Trust: k.Trust()}); r.Unaltered != ledger.Good {
		t.Errorf("unaltered %s, %v", r.Unaltered, r.Faults)
	}
	if _, err := w.SealOff(t.Context(), ledger.Selection{Item: "id=1"}, false); err == nil {
		t.Error("the role could seal off")
	}
	raw := rawPostgres(t, withUser(t, dsn, "epitaph_writer"))
	for _, q := range forbidden("epitaph.") {
		if _, err := raw.Exec(q); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s as the role: %v, want permission denied", q, err)
		}
	}
	// the owner is bound by the triggers
	for _, q := range forbidden("epitaph.") {
		if _, err := db.Exec(q); err == nil || !strings.Contains(err.Error(), "insert-only") {
			t.Errorf("%s as the owner: %v, want a refusal", q, err)
		}
	}
}

func forbidden(schema string) (list []string) {
	for _, table := range []string{"entries", "leaves", "nodes", "checkpoints", "sealed", "lookup", "marks", "blocks", "answers", "meta", "clues"} {
		list = append(list, "DELETE FROM "+schema+table, "TRUNCATE "+schema+table)
	}
	return append(list, "UPDATE "+schema+"entries SET count = 1", "UPDATE "+schema+"sealed SET texts = ''", "UPDATE "+schema+"checkpoints SET size = 1")
}

// A role that may not update the tables goes on with those of version 1, and has
// its rights to the new ones when their owner has made them.
func TestAppendOnlyRoleOutlivesAnUpdate(t *testing.T) {
	dsn := testserver.Postgres(t)
	if err := open(t, dsn).Close(); err != nil {
		t.Fatal(err)
	}
	db := rawPostgres(t, dsn)
	for _, q := range []string{
		"DROP TABLE epitaph.clues", "ALTER TABLE epitaph.entries DROP COLUMN clued", "DELETE FROM epitaph.goose_db_version WHERE version_id >= 2",
		"DROP ROLE IF EXISTS epitaph_old_writer", "CREATE ROLE epitaph_old_writer LOGIN", "GRANT USAGE ON SCHEMA epitaph TO epitaph_old_writer",
		"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA epitaph TO epitaph_old_writer", "GRANT DELETE ON epitaph.open_intents TO epitaph_old_writer",
	} {
		mustExec(t, db, q)
	}
	t.Cleanup(func() {
		mustExec(t, db, "DROP OWNED BY epitaph_old_writer")
		mustExec(t, db, "DROP ROLE epitaph_old_writer")
	})
	asked := report.Options{Actor: "anna"}
	before := open(t, withUser(t, dsn, "epitaph_old_writer"))
	mustAppend(t, before, anOperation("anna", "x", "y"))
	owner := open(t, dsn)
	mustAppend(t, before, anOperation("anna", "x", "y")) // opened before the update
	after := open(t, withUser(t, dsn, "epitaph_old_writer"))
	mustAppend(t, after, anOperation("anna", "x", "y"), ledger.Entry{Kind: ledger.Heartbeat})
	for name, l := range map[string]*ledger.Ledger{"before": before, "owner": owner, "after": after} {
		if got := numbersOf(t, l, asked); !slices.Equal(got, []int64{1, 2, 3}) {
			t.Errorf("%s: found %v", name, got)
		}
		if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
			t.Errorf("%s: faults %v", name, r.Faults)
		}
	}
	if n := queryInt(t, dsn, "SELECT count(DISTINCT number) FROM clues"); n != 1 {
		t.Errorf("%d entries with clues, want 1", n)
	}
}

func TestLedgersShareADatabase(t *testing.T) {
	dsn := testserver.Postgres(t)
	sep := "?"
	if strings.Contains(dsn, "?") {
		sep = "&"
	}
	a, b := open(t, dsn), open(t, dsn+sep+"search_path=other")
	mustAppend(t, a, ledger.Entry{Kind: ledger.Heartbeat})
	if n, _, err := b.Newest(t.Context()); n != 0 || err != nil {
		t.Errorf("the other ledger has %d entries, %v", n, err)
	}
	if a.Name() == b.Name() {
		t.Error("two ledgers have one name")
	}
	if r := verify(t, b, ledger.Verification{}); len(r.Unguarded) > 0 {
		t.Errorf("triggers of the other are missing: %v", r.Unguarded)
	}
	release, err := a.Lease(t.Context(), "purge")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	other, err := b.Lease(t.Context(), "purge")
	if errors.Is(err, ledger.ErrBusy) {
		t.Error("the lease of one ledger holds the other")
	} else if err == nil {
		other()
	}
}

// Connections that break while the pool is idle are no one's concern.
func TestServerRestarts(t *testing.T) {
	s := testserver.NewPostgres(t)
	dsn := s.Database(t)
	l := open(t, dsn)
	mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat})
	s.Kill(t)
	s.Start(t)
	if n := mustAppend(t, l, ledger.Entry{Kind: ledger.Heartbeat}); n != 2 {
		t.Errorf("entry %d after a restart, want 2", n)
	}
}
