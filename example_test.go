package epitaph_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
)

// A program that embeds the engine opens its own stores and ledger, plans,
// purges, and reads what was done.
func Example() {
	dir, err := os.MkdirTemp("", "epitaph-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := purgeExports(context.Background(), dir); err != nil {
		fmt.Println(err)
	}
	// Output:
	// due: 1 of 2 exports
	// gone: 1, errors: 0
	// exports: present 0, gone 1
	// left: export-new.zip
}

const exportsPolicy = `
version: 1
stores:
  disk: {files: .}
rules:
  exports:
    kind: export
    retain: 14d
    files: "disk:export-*.zip"
    anchor: modified
limits: {share: 50%}
`

func purgeExports(ctx context.Context, dir string) error {
	now := time.Now()
	for name, age := range map[string]int{"export-old.zip": 20, "export-new.zip": 2} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("archive"), 0o600); err != nil {
			return err
		}
		at := now.AddDate(0, 0, -age)
		if err := os.Chtimes(path, at, at); err != nil {
			return err
		}
	}

	pol, err := policy.Parse(filepath.Join(dir, "epitaph.yaml"), []byte(exportsPolicy), nil)
	if err != nil {
		return err
	}
	disk, err := files.Open(dir, files.Options{})
	if err != nil {
		return err
	}
	defer disk.Close()
	led, err := ledger.Open(ctx, "sqlite:"+filepath.Join(dir, "epitaph.db"), ledger.Config{})
	if err != nil {
		return err
	}
	defer led.Close()

	e, err := epitaph.New(epitaph.Config{
		Policy: pol,
		Stores: map[string]connector.Connector{"disk": disk},
		Ledger: led,
	})
	if err != nil {
		return err
	}
	for _, f := range e.Check(ctx) {
		fmt.Println(f.Text)
	}
	p, err := e.Plan(ctx, epitaph.PlanOptions{Path: filepath.Join(dir, "tonight.plan")})
	if err != nil {
		return err
	}
	defer p.Close()
	fmt.Printf("due: %d of %d exports\n", p.Rules[0].Due, p.Rules[0].Total)

	report, err := e.Purge(ctx, epitaph.PurgeOptions{Plan: p})
	if err != nil {
		return err
	}
	fmt.Printf("gone: %d, errors: %d\n", report.Rules[0].Gone, report.Errors())

	for entry, err := range e.Trail(ctx, ledger.Filter{Run: report.Run, Kinds: []ledger.Kind{ledger.Outcome}}) {
		if err != nil {
			return err
		}
		var n [3]int
		for _, r := range entry.Results {
			n[r.State]++
		}
		fmt.Printf("%s: present %d, gone %d\n", entry.Rule, n[ledger.Present], n[ledger.Gone])
	}
	left, err := filepath.Glob(filepath.Join(dir, "export-*.zip"))
	if err != nil {
		return err
	}
	for _, path := range left {
		fmt.Println("left:", filepath.Base(path))
	}
	return nil
}
