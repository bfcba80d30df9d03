package phi_tracking_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Each test is a defect of the system that this example replaces, by its number.

// N1, N6: a deletion that could not be done is not done: the file of a rejected
// upload, of which a second name exists, stays due until it is gone.
func TestN1(t *testing.T) {
	b := newBed(t)
	b.write("uploads/rejected.csv", "x")
	if err := os.Link(b.path("uploads/rejected.csv"), b.path("second")); err != nil {
		t.Fatal(err)
	}
	b.epitaph(0, "track", "precheck_upload_staged", "uploads/rejected.csv", "--due", "0s")
	b.want(b.epitaph(1, "cleanup", "run"), "^present SHARED .*\n0 gone, 1 present, 0 unknown$")
	b.want(b.epitaph(1, "overdue"), "1 attempt")
	b.remove("second")
	b.want(b.epitaph(0, "cleanup", "run", "--force"), "1 gone")
	if b.exists("uploads/rejected.csv") {
		t.Error("the file is there, and was reported gone")
	}
	b.want(b.epitaph(0, "overdue"), "nothing is overdue")
}

// N2: what is tracked is the file that is opened, and an imaginary path is refused.
func TestN2(t *testing.T) {
	b := newBed(t)
	real := b.write("scratch/tmp/real.duckdb", "x")
	if err := os.Symlink(filepath.Dir(real), b.path("tmp")); err != nil {
		t.Fatal(err)
	}
	b.want(b.epitaph(1, "track", "work_copy_created", "scratch/imaginary.duckdb", "--due", "0s"), "no file at this path")
	b.epitaph(0, "track", "work_copy_created", "tmp/real.duckdb", "--due", "0s")
	b.want(b.epitaph(1, "overdue", "--show"), "scratch/tmp/real.duckdb")
	b.epitaph(0, "cleanup", "run")
	if b.exists("scratch/tmp/real.duckdb") {
		t.Error("the real file is there")
	}
}

// N3: an outage of the storage settles nothing.
func TestN3(t *testing.T) {
	b := newBed(t)
	b.write("scratch/a", "x")
	b.epitaph(0, "track", "work_copy_created", "scratch/a", "--due", "0s")
	b.rename("scratch", "away")
	b.want(b.epitaph(1, "cleanup", "verify"), "0 gone, 0 present, 1 unknown")
	b.want(b.epitaph(1, "cleanup", "run"), "0 gone, 0 present, 1 unknown")
	b.want(b.epitaph(1, "overdue"), "1 file$")
	b.want(b.epitaph(1, "verify", "files"), "unknown 1; ")
	b.rename("away", "scratch")
	b.epitaph(0, "cleanup", "run", "--force")
	if b.exists("scratch/a") {
		t.Error("the file is there")
	}
}

// N4: a path means the same from every working directory.
func TestN4(t *testing.T) {
	b := newBed(t)
	b.write("scratch/a", "x")
	b.epitaph(0, "track", "work_copy_created", "scratch/a", "--due", "0s")
	cmd := exec.Command(program, "cleanup", "verify", "--policy", b.path("epitaph.yaml"))
	cmd.Dir = "/"
	out, _ := cmd.CombinedOutput()
	b.want(string(out), "0 gone, 1 present, 0 unknown")
}

// N5: a failed deletion that is logged as a deletion hides nothing.
func TestN5(t *testing.T) {
	b := newBed(t)
	b.write("scratch/a", "x")
	b.epitaph(0, "track", "work_copy_created", "scratch/a", "--due", "0s")
	b.want(b.epitaph(1, "track", "work_copy_deleted", "scratch/a"), "it is still there: recorded as said, not as seen")
	b.want(b.epitaph(1, "overdue"), "said to be deleted")
	b.epitaph(0, "track", "deletion_failed", "scratch/a", "--error", "denied")
	b.want(b.epitaph(1, "overdue"), "1 file$")
}

// N7, N8: hashes are of bytes, are stored, and a blank one is not valid.
func TestN7N8(t *testing.T) {
	b := newBed(t)
	b.write("nas/a", "abc")
	b.write("nas/blank", "abc")
	b.epitaph(0, "track", "nas_raw_created", "nas/a")
	b.epitaph(0, "track", "nas_raw_created", "nas/blank", "--no-hash")
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-4, example
	b.want(b.epitaph(0, "trail", "--action", "nas_raw_created", "--json"), abc)
	b.want(b.epitaph(1, "verify", "files", "--hashes"), "ok 1, not-checked 1; ")
	b.write("nas/a", "abd")
	b.want(b.epitaph(1, "verify", "files", "--hashes"), "edited")
}

// N9: a file that was deleted is not missing; one that nobody deleted is.
func TestN9(t *testing.T) {
	b := newBed(t)
	b.write("nas/a", "x")
	b.write("nas/b", "x")
	b.epitaph(0, "track", "nas_raw_created", "nas/a", "nas/b")
	b.remove("nas/a")
	b.remove("nas/b")
	b.epitaph(0, "track", "nas_raw_deleted", "nas/a")
	b.want(b.epitaph(1, "verify", "files"), "deleted 1, missing 1; ")
}

// N10: the record cannot be edited, and what is tampered with is noticed.
func TestN10(t *testing.T) {
	b := newBed(t)
	b.write("nas/a", "x")
	b.epitaph(0, "track", "nas_raw_created", "nas/a")
	b.want(b.epitaph(1, "verify", "ledger"), "Sealed texts: 1 as committed") // unaltered, though nobody signed it yet
	raw, err := os.ReadFile(b.path("epitaph.db"))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(raw), "action.nas_raw_created int 1")
	if at < 0 {
		t.Fatal("the entry is not in the file")
	}
	copy(raw[at:], "action.nas_raw_created int 7")
	b.write("epitaph.db", string(raw))
	b.epitaph(4, "verify", "ledger")
}

// N11: an owner is asked after, by more than a number.
func TestN11(t *testing.T) {
	b := newBed(t)
	b.write("scratch/a", "x")
	b.write("scratch/b", "x")
	sleep := exec.Command("sleep", "600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	b.epitaph(0, "track", "work_copy_created", "scratch/a", "--owner", fmt.Sprint(sleep.Process.Pid))
	b.epitaph(0, "track", "work_copy_created", "scratch/b", "--owner", fmt.Sprint(os.Getpid()))
	b.want(b.epitaph(0, "orphans", "--older", "0s"), "no orphans")
	_ = sleep.Process.Kill()
	_ = sleep.Wait()
	b.want(b.epitaph(1, "orphans", "--older", "0s"), "dead-owner .* owner dead\ndead-owner 1$")
	b.start("", nil, program, "orphans", "--older", "0s", "--dispose")
	if b.exists("scratch/a") || !b.exists("scratch/b") {
		t.Error("not exactly the file of the dead owner went")
	}
}

// N12: the document's own examples are accepted.
func TestN12(t *testing.T) {
	b := newBed(t)
	file := b.write("nas/patient_data.csv", "x")
	r := b.start(fmt.Sprintf(`{"action":"nas_raw_created","path":%q,"scope":"5","actor":"jones","type":"raw_csv","size":1024000,"ref":"audit:7"}
{"action":"conversion_started","path":"nas/patient.duckdb","scope":"5","actor":"jones","ref":"audit:7"}
{"action":"conversion_failed","path":"nas/patient.duckdb","error":"DuckDB conversion failed: x"}
{"action":"work_copy_created","path":%q,"required":true,"due":"2h"}
`, file, file), nil, program, "track", "--batch")
	if r.status != 0 || !strings.Contains(r.stdout, "tracked 4 operations") || r.stderr != "" {
		t.Errorf("%+v", r)
	}
}

// N13: what is deleted by prefix is recorded of each file, with scope and actor.
func TestN13(t *testing.T) {
	b := newBed(t)
	b.write("scratch/run/1/a", "x")
	b.write("scratch/run/b", "x")
	b.epitaph(0, "track", "work_copy_created", "scratch/run/1/a", "scratch/run/b")
	b.remove("scratch/run")
	b.epitaph(0, "track", "prefix_deleted_via_api", "scratch/run", "--scope", "5", "--actor", "jones")
	b.want(b.epitaph(0, "trail", "--action", "prefix_deleted_via_api", "--scope", "5"), `(?s)actor=jones.*run/1/a.*actor=jones.*^prefix_deleted_via_api 3$`)
	b.want(b.epitaph(0, "cleanup", "verify"), "0 gone, 0 present, 0 unknown")
}

// N15: a clean-up takes what is due, below the root too, and nobody's file.
func TestN15(t *testing.T) {
	b := newBed(t)
	b.write("scratch/deep/due", "x")
	b.write("scratch/live", "x")
	b.write("scratch/stranger", "x")
	b.epitaph(0, "track", "work_copy_created", "scratch/deep/due", "--due", "0s")
	b.epitaph(0, "track", "work_copy_created", "scratch/live", "--due", "2h", "--owner", fmt.Sprint(os.Getpid()))
	b.epitaph(0, "cleanup", "run")
	b.want(b.epitaph(1, "cleanup", "run", "--force"), "present IN_USE")
	if b.exists("scratch/deep/due") || !b.exists("scratch/live") || !b.exists("scratch/stranger") {
		t.Error("not exactly the due file went")
	}
}

// N17: no word for the root removes it.
func TestN17(t *testing.T) {
	b := newBed(t)
	b.write("nas/a", "x")
	for _, root := range []string{"nas:.", "nas:", "nas:./", "nas:..", "nas:/"} {
		b.want(b.epitaph(1, "track", "work_copy_created", root, "--due", "0s"), "path 1: the path ")
	}
	b.start("", nil, program, "track", "work_copy_created", "nas", "--due", "0s", "--no-hash")
	b.start("", nil, program, "cleanup", "run", "--force")
	if !b.exists("nas/a") {
		t.Error("the root was emptied")
	}
}

// N19: a word outside of the vocabulary is refused, and a long path is not.
func TestN19(t *testing.T) {
	b := newBed(t)
	long := strings.Repeat("d/", 400) + strings.Repeat("n", 200)
	b.write("nas/"+long, "x")
	b.epitaph(0, "track", "nas_raw_created", "nas/"+long)
	b.want(b.epitaph(2, "track", "nas_row_created", "nas/"+long), "unknown action.*\nhint: did you mean nas_raw_created")
	b.want(b.epitaph(1, "track", "nas_raw_created", "nas/"+strings.Repeat("d/", 2500)), "more than 4096 bytes")
	b.want(b.epitaph(0, "verify", "files", "--hashes"), "^ok 1; ")
}
