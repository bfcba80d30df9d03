package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody/words"
	"github.com/epitaph/epitaph/policy"
)

func TestCustodyFixture(t *testing.T) {
	t.Parallel()
	got := mustLoad(t, "testdata/valid/custody.yaml").Custody
	id := connector.Ref{Column: "id"}
	want := policy.Custody{
		Actions: []words.Action{
			{Name: "scan_uploaded", Kind: words.Created, Due: 2 * time.Hour},
			{Name: "scan_shredded", Kind: words.Deleted},
			{Name: "consent_filed", Kind: words.Created, Temporary: true},
			{Name: "ocr_started", Kind: words.Started, Work: "ocr"},
			{Name: "ocr_completed", Kind: words.Completed, Work: "ocr"},
			{Name: "ocr_gave_up", Kind: words.Failed, Work: "ocr"},
			{Name: "work_copy_created", Due: 90 * time.Minute},
			{Name: "file_uploaded_chunked", Temporary: true},
		},
		Tracked: []policy.Tracked{{Store: "scratch", Grace: 4 * time.Hour}, {Store: "uploads", Grace: 30 * time.Minute}},
		Pairs: []words.Pair{
			{File: "*.csv", Beside: "*.duckdb", Within: 2 * time.Hour, Store: "nas", Made: "nas_raw_created"},
			{File: "**/raw/*.csv", Beside: "**/duckdb/*.duckdb", In: "media", Within: 36 * time.Hour},
		},
		Agreement: []policy.Agreement{
			{Name: "raw-files", Store: "depot", Table: "depot_datatablefile", Where: "deleted_at IS NULL AND files_cleaned_up = 0", In: "nas",
				Path: policy.Template{Literals: []string{"", ""}, Refs: []connector.Ref{{Column: "raw_file_path"}}}, Size: "file_size", SHA256: "file_hash",
				Ref: policy.Template{Literals: []string{"data-file:", ""}, Refs: []connector.Ref{id}}, Made: []string{"nas_raw_created", "file_moved_to_data"}, Within: 15 * time.Minute},
			{Name: "tracking", Store: "depot", Table: "public.depot_phifiletracking", Path: policy.Template{Literals: []string{"", ""}, Refs: []connector.Ref{{Column: "file_path"}}}},
			{Name: "media", Store: "depot", Table: "recordings", In: "media",
				Path: policy.Template{Literals: []string{"", "/", ""}, Refs: []connector.Ref{{Column: "bucket"}, {Column: "meta", Path: []string{"audio", "key"}}}}},
			{Name: "mount", Store: "depot", Table: "old", Path: policy.Template{Literals: []string{"/mnt/nas/", ""}, Refs: []connector.Ref{{Column: "name"}}}, Made: []string{"nas_report_created"}},
		},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreTypes(policy.Pos{})); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// What decides which tracked files go is part of the hash, and a look is not.
func TestHashOfCustody(t *testing.T) {
	t.Parallel()
	const head = "version: 1\nstores:\n  a: {files: /a}\n  db: {rows: \"sqlite:x\"}\nrules:\n  r: {retain: 1d, files: \"a:*\", anchor: modified}\n"
	hash := func(custody string) [32]byte {
		t.Helper()
		p, err := policy.Parse("epitaph.yaml", []byte(head+custody), nil)
		if err != nil {
			t.Fatal(err)
		}
		return p.Hash
	}
	none := hash("")
	for _, same := range []string{"custody: {}\n", "custody: {pairs: [{file: '*.a', beside: '*.b', within: 1h}]}\n", "custody: {agreement: {x: {rows: db.t, path: \"a:{p}\"}}}\n"} {
		if hash(same) != none {
			t.Errorf("%s changes the hash", strings.TrimSpace(same))
		}
	}
	all := map[[32]byte]string{none: "none"}
	for _, other := range []string{"custody: {tracked: [a]}\n", "custody: {tracked: [{store: a, grace: 1h}]}\n", "custody: {actions: {x: {kind: created}}}\n",
		"custody: {actions: {x: {kind: created, due: 1h}}}\n", "custody: {actions: {x: {kind: created, required: true}}}\n", "custody: {actions: {x: {kind: deleted}}}\n"} {
		h := hash(other)
		if same, ok := all[h]; ok {
			t.Errorf("%s has the hash of %s", strings.TrimSpace(other), same)
		}
		all[h] = strings.TrimSpace(other)
	}
	if hash("custody: {tracked: [{store: a, grace: 60m}]}\n") != hash("custody: {tracked: [{grace: 1h, store: a}]}\n") {
		t.Error("two spellings of one grace have two hashes")
	}
}
