package ledger_test

import (
	"errors"
	"testing"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

// A transaction that began before keeps what it could still see, also through VACUUM
// FULL: then copies are left, and that is said. Seen to fail with the word of VACUUM
// FULL not listened to: the text was called destroyed and was in the files.
func TestAnOldSnapshotKeepsCopies(t *testing.T) {
	t.Parallel()
	const needle = "ngaio-marsh-needle"
	dsn := testserver.Postgres(t)
	l := open(t, dsn)
	mustAppend(t, l, ledger.Entry{Kind: ledger.Incident, Secrets: []ledger.Secret{{Name: "reason", Text: needle}}})
	old, err := rawPostgres(t, dsn).Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := old.Exec("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
		t.Fatal(err)
	}
	if err := old.QueryRow("SELECT count(*) FROM epitaph.meta").Scan(&n); err != nil {
		t.Fatal(err)
	}
	subject := ledger.Selection{Subject: needle}
	if _, err := l.SealOff(t.Context(), subject, false); !errors.Is(err, ledger.ErrCopiesLeft) || grepPostgres(t, dsn, needle) == 0 {
		t.Errorf("with an old snapshot: %v, %d files; want ErrCopiesLeft", err, grepPostgres(t, dsn, needle))
	}
	if err := old.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SealOff(t.Context(), subject, false); err != nil || grepPostgres(t, dsn, needle) > 0 {
		t.Errorf("without: %v, %d files; want none", err, grepPostgres(t, dsn, needle))
	}
}

// Who reads the texts for long, such as a backup, is not waited for: all who append
// would wait too.
func TestAReaderIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	const needle = "ngaio-marsh-needle"
	dsn := testserver.Postgres(t)
	l := open(t, dsn)
	mustAppend(t, l, ledger.Entry{Kind: ledger.Incident, Secrets: []ledger.Secret{{Name: "reason", Text: needle}}})
	backup, err := rawPostgres(t, dsn).Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := backup.QueryRow("SELECT count(*) FROM epitaph.sealed").Scan(&n); err != nil {
		t.Fatal(err)
	}
	subject := ledger.Selection{Subject: needle}
	if _, err := l.SealOff(t.Context(), subject, false); !errors.Is(err, ledger.ErrCopiesLeft) {
		t.Errorf("with a reader: %v; want ErrCopiesLeft", err)
	}
	mustAppend(t, l, ledger.Entry{Kind: ledger.Incident, Secrets: []ledger.Secret{{Name: "reason", Text: "x"}}})
	if err := backup.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SealOff(t.Context(), subject, false); err != nil || grepPostgres(t, dsn, needle) > 0 {
		t.Errorf("without: %v, %d files; want none", err, grepPostgres(t, dsn, needle))
	}
}
