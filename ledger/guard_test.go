package ledger_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

// A trigger that is missing or altered is named, by itself: it is no fault. Seen
// to fail with none looked for.
func TestTriggersThatAreGoneAreNamed(t *testing.T) {
	sqlite := "sqlite:" + filepath.Join(t.TempDir(), "l.db")
	postgres := testserver.Postgres(t)
	for _, c := range []struct {
		name, dsn  string
		statements []string
		want       []string
		back       []string
	}{
		{name: "sqlite, as made", dsn: sqlite},
		{name: "sqlite, dropped", dsn: sqlite, statements: []string{"DROP TRIGGER entries_update", "DROP TRIGGER clues_delete"}, want: []string{"clues_delete", "entries_update"},
			back: []string{"CREATE TRIGGER entries_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger is insert-only: entries cannot be changed'); END"}},
		{name: "sqlite, one made again", dsn: sqlite, want: []string{"clues_delete"}},
		{name: "sqlite, altered", dsn: sqlite, statements: []string{"DROP TRIGGER meta_update", "CREATE TRIGGER meta_update BEFORE UPDATE ON meta BEGIN SELECT 1; END"}, want: []string{"clues_delete", "meta_update"}},
		{name: "postgres, as made", dsn: postgres},
		{name: "postgres, dropped", dsn: postgres, statements: []string{"DROP TRIGGER entries_insert_only ON epitaph.entries"}, want: []string{"entries_insert_only"},
			back: []string{"CREATE TRIGGER entries_insert_only BEFORE UPDATE ON epitaph.entries FOR EACH ROW EXECUTE FUNCTION epitaph.refuse()"}},
		{name: "postgres, disabled", dsn: postgres, statements: []string{"ALTER TABLE epitaph.clues DISABLE TRIGGER ALL"}, want: []string{"clues_insert_only", "clues_no_truncate", "clues_seal_only"},
			back: []string{"ALTER TABLE epitaph.clues ENABLE TRIGGER ALL"}},
		{name: "postgres, on other events", dsn: postgres, statements: []string{"DROP TRIGGER meta_insert_only ON epitaph.meta", "CREATE TRIGGER meta_insert_only BEFORE UPDATE ON epitaph.meta FOR EACH ROW EXECUTE FUNCTION epitaph.refuse()"}, want: []string{"meta_insert_only"},
			back: []string{"DROP TRIGGER meta_insert_only ON epitaph.meta", "CREATE TRIGGER meta_insert_only BEFORE DELETE OR UPDATE ON epitaph.meta FOR EACH ROW EXECUTE FUNCTION epitaph.refuse()"}},
		{name: "postgres, looking elsewhere", dsn: postgres, statements: []string{"ALTER FUNCTION epitaph.refuse_unless_sealing() SET search_path = public"}, want: []string{"clues_seal_only", "lookup_seal_only", "sealed_seal_only"},
			back: []string{"ALTER FUNCTION epitaph.refuse_unless_sealing() SET search_path = epitaph, pg_temp"}},
		{name: "postgres, put back", dsn: postgres},
		{name: "postgres, a function replaced", dsn: postgres, statements: []string{"CREATE OR REPLACE FUNCTION epitaph.refuse_unless_sealing() RETURNS trigger LANGUAGE plpgsql SET search_path = epitaph, pg_temp AS 'BEGIN RETURN OLD; END'"},
			want: []string{"clues_seal_only", "lookup_seal_only", "sealed_seal_only"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := open(t, c.dsn)
			db := rawPostgres
			dsn := c.dsn
			if c.dsn == sqlite {
				db, dsn = rawSQLite, sqlite[len("sqlite:"):]
			}
			raw := db(t, dsn)
			for _, s := range c.statements {
				mustExec(t, raw, s)
			}
			r := verify(t, l, ledger.Verification{})
			if !slices.Equal(r.Unguarded, c.want) || len(r.Faults) > 0 {
				t.Errorf("unguarded %v, faults %v; want %v", r.Unguarded, r.Faults, c.want)
			}
			for _, s := range c.back {
				mustExec(t, raw, s)
			}
		})
	}
}
