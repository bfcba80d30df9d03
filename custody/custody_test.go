package custody_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
)

// world is a ledger and a tracked directory on a real disk.
type world struct {
	*custody.Custody
	t      testing.TB
	dir    string // the root of the store "work"
	base   string
	ledger *ledger.Ledger
	now    time.Time
	o      custody.Options
}

func newWorld(t testing.TB, with ...func(*custody.Options)) *world {
	t.Helper()
	w := &world{t: t, base: t.TempDir(), now: time.Now().UTC().Truncate(time.Microsecond)}
	w.dir = filepath.Join(w.base, "work")
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(t.Context(), "sqlite:"+filepath.Join(w.base, "epitaph.db"), ledger.Config{Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w.ledger = l
	conn, err := files.Open(w.dir, files.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w.o = custody.Options{Ledger: l, Cache: filepath.Join(w.base, "custody.cache"), Clock: w.clock, Who: "tester",
		Stores: []custody.Store{{Name: "work", Root: w.dir, Connector: conn}}}
	for _, f := range with {
		f(&w.o)
	}
	w.Custody = w.open()
	return w
}

func (w *world) clock() time.Time { return w.now }

func (w *world) open() *custody.Custody {
	w.t.Helper()
	c, err := custody.Open(w.t.Context(), w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// write makes a file below the root and returns its path.
func (w *world) write(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) remove(path string) {
	w.t.Helper()
	if err := os.RemoveAll(path); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// track tracks one operation that must be recorded.
func (w *world) track(o custody.Operation) custody.Tracked {
	w.t.Helper()
	rs, err := w.Track(w.t.Context(), o)
	if err != nil || rs[0].Err != nil {
		w.t.Fatalf("track %s: %v, %v", o.Action, err, rs[0].Err)
	}
	return rs[0]
}

// overdue returns the paths below the root of what is overdue.
func (w *world) overdue() string {
	w.t.Helper()
	var list []string
	for f, err := range w.Overdue(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, strings.TrimPrefix(f.Path, w.dir+"/"))
	}
	return strings.Join(list, " ")
}

func TestVocabulary(t *testing.T) {
	t.Parallel()
	v, err := custody.NewVocabulary(custody.Action{Name: "scan_made", Kind: custody.Created})
	if err != nil {
		t.Fatal(err)
	}
	// The 24 of the reference's model, the 11 that its code writes besides, two for
	// deletions that are tried and fail, and three for transfers.
	for _, name := range strings.Fields(`nas_raw_created nas_raw_deleted nas_duckdb_created nas_duckdb_deleted nas_report_created
		nas_report_deleted work_copy_created work_copy_deleted conversion_started conversion_completed
		conversion_failed patient_id_extraction_started patient_id_extraction_completed
		patient_id_extraction_failed file_uploaded_via_stream file_uploaded_chunked file_downloaded_via_stream
		file_deleted_via_api prefix_deleted_via_api scratch_cleanup stream_started stream_completed stream_failed
		precheck_upload_staged nas_processed_created submission_file_uploaded
		workflow_cleanup_completed rejected_file_cleanup_completed file_rejected_and_cleaned file_moved_to_data
		file_moved_from_uploads file_uploaded_async attachment_uploaded attachment_deleted
		submission_attachment_uploaded deletion_started deletion_failed transfer_sent transfer_moved
		transfer_received scan_made`) {
		if a, ok := v.Find(name); !ok || a.Kind.String() == "none" {
			t.Errorf("%s: %v %v", name, a, ok)
		}
	}
	if got, want := len(v.Names()), 24+11+2+3+1; got != want {
		t.Errorf("%d actions, want %d", got, want)
	}
	if got := v.Nearest("nas_raw_create"); len(got) == 0 || got[0] != "nas_raw_created" {
		t.Errorf("nearest: %q", got)
	}
	for _, bad := range []custody.Action{{Name: "nas_raw_created", Kind: custody.Created}, {Name: "", Kind: custody.Created}, {Name: "A", Kind: custody.Created},
		{Name: "a"}, {Name: "a", Kind: 99}, {Name: "a", Kind: custody.Started}, {Name: "a", Kind: custody.Created, Work: "b"}} {
		if _, err := custody.NewVocabulary(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestTrackRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.write("a.csv", "x")
	ops := []custody.Operation{
		{Action: "nas_raw_created", Path: good},
		{Action: "nas_raw_create", Path: good},
		{Action: "nas_raw_created", Path: ""},
		{Action: "nas_raw_created", Path: filepath.Join(w.dir, "absent.csv")},
		{Action: "nas_raw_created", Path: "a\x00b"},
		{Action: "nas_raw_created", Path: strings.Repeat("x/", 3000)},
		{Action: "nas_raw_created", Path: "work:../x"},
		{Action: "nas_raw_created", Path: "work:a//x"},
		{Action: "nas_raw_created", Path: good, Meta: []byte("[1]")},
		{Action: "nas_raw_deleted", Path: good, Due: w.now},
		{Action: "nas_raw_created", Path: good, Size: -1},
		{Action: strings.Repeat("\xff", 9000), Path: good},
		{Action: "nas_raw_created", Path: good, Size: 2, Hash: [32]byte{1}},
		{Action: "nas_duckdb_created", Path: good, Meta: []byte(`{"k": 1}`)},
	}
	rs, err := w.Track(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rs {
		good := i == 0 || i == len(rs)-1
		if (r.Err == nil) != good || (r.ID != "") != good {
			t.Errorf("operation %d: %+v", i, r)
		}
		if r.Err != nil && strings.Contains(r.Err.Error(), "absent") {
			t.Errorf("operation %d: the refusal names a path: %v", i, r.Err)
		}
	}
	if rs[0].Path != good || !rs[0].Covered || rs[0].Seen.String() != "present" {
		t.Errorf("%+v", rs[0])
	}
}

// A path is recorded as what was opened: absolute, links followed, and .. as the
// kernel takes it.
func TestTrackResolves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	real := w.write("deep/a.csv", "x")
	if err := os.Symlink(filepath.Join(w.dir, "deep"), filepath.Join(w.base, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		filepath.Join(w.base, "link", "a.csv"),
		w.base + "/link/../deep/a.csv", // not base/deep
		w.dir + "/./deep//a.csv",
		"work:deep/a.csv",
	} {
		if r := w.track(custody.Operation{Action: "nas_raw_created", Path: path}); r.Path != real || !r.Covered {
			t.Errorf("%s: %+v", path, r)
		}
	}
	out := filepath.Join(w.base, "outside")
	if err := os.WriteFile(out, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.track(custody.Operation{Action: "nas_raw_created", Path: out}); r.Covered || r.Seen.String() != "unknown" {
		t.Errorf("outside of all stores: %+v", r)
	}
	if err := os.Symlink("nowhere", filepath.Join(w.dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	rs, err := w.Track(t.Context(), custody.Operation{Action: "nas_raw_deleted", Path: filepath.Join(w.dir, "dangling")})
	if err != nil || rs[0].Err == nil {
		t.Errorf("a dangling link: %+v %v", rs, err)
	}
}

// Every operation of a bulk has an id of its own, is found by its path, and the
// entry shows how many of each there are and no text.
func TestTrackBulk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 10_000
	ops := make([]custody.Operation, n)
	for i := range ops {
		ops[i] = custody.Operation{Action: "conversion_started", Path: fmt.Sprintf("work:d%d/f%d", i%7, i), Scope: "cohort 5", Actor: "dr jones"}
	}
	rs, err := w.Track(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range rs {
		ids[r.ID] = r.ID != ""
	}
	if len(ids) != n {
		t.Errorf("%d ids for %d operations", len(ids), n)
	}
	var counted int64
	for e, err := range w.ledger.Entries(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != ledger.CustodyOperations || len(e.Items) != 0 || len(e.Secrets) != 0 {
			t.Errorf("entry %d: %+v", e.Number, e)
		}
		k, _ := e.Int("action.conversion_started")
		counted += k
	}
	if counted != n {
		t.Errorf("the entries count %d", counted)
	}
	found := 0
	for e, err := range w.ledger.Entries(t.Context(), ledger.Filter{Item: "d3/f1004", Unseal: true}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range e.Items {
			if len(it.Parts) == 1 && it.Parts[0].Locator == "d3/f1004" {
				found++
			}
		}
	}
	if found != 1 {
		t.Errorf("found %d times", found)
	}
}
