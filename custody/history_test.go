package custody_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/epitaph/epitaph/custody"
)

// N13, N18: every deletion says whose and by whom; a pattern is a pattern, and an
// object without a path is not everything.
func TestHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.write("raw/patient_data.csv", "abc")
	b := w.write("raw/other.csv", "abc")
	ref := custody.Ref{Kind: "data-file", ID: "123"}
	w.track(custody.Operation{Action: work, Path: a, Scope: "5", Actor: "jones", Ref: ref, Due: w.now.Add(-1)})
	w.track(custody.Operation{Action: "nas_raw_created", Path: b, Scope: "6"})
	w.results(w.Run(t.Context(), custody.Cleanup{}))
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	w.track(custody.Operation{Action: "prefix_deleted_via_api", Path: filepath.Join(w.dir, "raw"), Scope: "6", Actor: "smith"})
	lines := func(want custody.Wanted) string {
		t.Helper()
		var out []string
		for r, err := range w.History(t.Context(), want) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, strings.Join(strings.Fields(strings.TrimPrefix(strings.TrimPrefix(r.Path, w.dir), "/")+" "+r.Action+" "+r.Stage+" "+r.Scope+" "+r.Actor+" "+r.Seen.String()), " "))
		}
		return strings.Join(out, "; ")
	}
	all := "raw/patient_data.csv work_copy_created 5 jones present; raw/other.csv nas_raw_created 6 present; raw/patient_data.csv erased gone; " +
		"raw prefix_deleted_via_api 6 smith present; raw/other.csv prefix_deleted_via_api 6 smith gone"
	for name, c := range map[string]struct {
		want custody.Wanted
		got  string
	}{
		"all":           {custody.Wanted{}, all},
		"scope":         {custody.Wanted{Scope: "5"}, "raw/patient_data.csv work_copy_created 5 jones present; raw/patient_data.csv erased gone"},
		"file":          {custody.Wanted{File: "*/patient_data*"}, "raw/patient_data.csv work_copy_created 5 jones present; raw/patient_data.csv erased gone"},
		"no regexp":     {custody.Wanted{File: ".*patient.data.*"}, ""},
		"object":        {custody.Wanted{Ref: ref}, "raw/patient_data.csv work_copy_created 5 jones present; raw/patient_data.csv erased gone"},
		"other object":  {custody.Wanted{Ref: custody.Ref{Kind: "data-file", ID: "1234"}}, ""},
		"action":        {custody.Wanted{Actions: []string{"nas_raw_created"}}, "raw/other.csv nas_raw_created 6 present"},
		"until":         {custody.Wanted{Until: w.now}, ""},
		"question mark": {custody.Wanted{File: "*/othe?.csv", Actions: []string{"nas_raw_created"}}, "raw/other.csv nas_raw_created 6 present"},
	} {
		if got := lines(c.want); got != c.got {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.got)
		}
	}
}
