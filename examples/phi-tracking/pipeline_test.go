package phi_tracking_test

import "testing"

const every = "--tracked=uploads,nas,scratch"

// A submission that goes well leaves what should stay, with its hash, and
// nothing else.
func TestPipeline(t *testing.T) {
	b := newBed(t)
	if r := b.pipeline("patients", "b\na\n"); r.status != 0 {
		b.Fatalf("%+v", r)
	}
	b.want(b.epitaph(0, "overdue"), "nothing is overdue")
	b.want(b.epitaph(0, "verify", "files", "--hashes", every, "--pair", "*.csv=*.duckdb:0s", "--scope", "5"), `^ok 3, deleted 2; `)
	b.want(b.epitaph(0, "orphans", "--older", "0s", every), "no orphans")
	b.want(b.epitaph(0, "cleanup", "verify"), "0 gone, 0 present, 0 unknown")
	b.want(b.epitaph(0, "trail", "--object", "data-file:123"), `conversion_completed 1, conversion_started 1, file_deleted_via_api 1, `)
	b.want(b.epitaph(0, "stats"), `nas_raw_created +1$`)
}

// A conversion that fails leaves no working copy and no reservation that nobody
// answers for.
func TestPipelineFails(t *testing.T) {
	b := newBed(t)
	if r := b.pipeline("patients", "broken\n"); r.status != 1 {
		b.Fatalf("%+v", r)
	}
	if b.exists("scratch/patients.csv") {
		b.Error("the working copy is there")
	}
	b.want(b.epitaph(0, "orphans", "--older", "0s", every), "no orphans")
	b.want(b.epitaph(1, "verify", "files", "--pair", "*.csv=*.duckdb:0s"), "no-pair")
	b.want(b.epitaph(0, "trail", "--action", "conversion_failed"), `error "row 1 is broken"`)
}

// Wherever the process is killed, what it left is found and, if it is
// temporary, disposed of. No file is unknown to the ledger.
func TestCrash(t *testing.T) {
	for step, found := range map[string]string{
		"reserved":   `^uncommitted 1$`,
		"staged":     `^dead-owner 1$`,
		"raw":        `^dead-owner 2$`,
		"unlinked":   ``,
		"copied":     `^dead-owner 1$`,
		"converting": `^dead-owner 1, uncommitted 1, unfinished 1$`,
		"reported":   `^dead-owner 1$`,
	} {
		t.Run(step, func(t *testing.T) {
			b := newBed(t)
			if r := b.pipeline("patients", "b\na\n", "CRASH="+step); r.status != -1 {
				b.Fatalf("it was not killed: %+v", r)
			}
			b.want(b.epitaph(0, "orphans", "--older", "4h", every), "no orphans") // it may be at work elsewhere
			if found == "" {
				b.want(b.epitaph(0, "cleanup", "verify"), "^1 gone, 0 present, 0 unknown$")
				b.want(b.epitaph(0, "orphans", "--older", "0s", every), "no orphans")
				return
			}
			list := b.epitaph(1, "orphans", "--older", "0s", every)
			b.want(list, found)
			b.not(list, "untracked|patients")
			b.start("", nil, program, "orphans", "--older", "0s", every, "--dispose")
			if b.exists("uploads/patients.csv") || b.exists("scratch/patients.csv") {
				b.Error("a temporary file is left")
			}
			if left := b.start("", nil, program, "orphans", "--older", "0s", every); left.status != 0 {
				b.not(left.stdout, "dead-owner|untracked")
			}
		})
	}
}
