package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/custody"
)

type verifyFilesFlags struct {
	custodyFlags
	hashes           bool
	scope            string
	sample           string
	tracked          []string
	pairs, agreement []string
	workers          int
	given            func(flag string) bool
}

func (a *app) verifyFiles() *cobra.Command {
	var f verifyFilesFlags
	cmd := &cobra.Command{
		Use:   "files",
		Short: "Compare every tracked file with what was recorded of it",
		Long: `Looks at every tracked file and gives one verdict on each:
  ok           there, with the size recorded; with --hashes, with the content too
  deleted      known to be gone, and not there
  not-checked  there, but nobody recorded what to compare it with
  elsewhere    in the directory of another host, which must look at it
  missing      it should be there, and is not
  returned     it was known to be gone, and is there
  size         its size is another
  edited       its content is another, and it was written to since
  bit-rot      its content is another, though it was not written to
  unknown      it could not be looked at or read
  untracked    in a tracked store, and no operation made it
  no-pair      the file that a pair wants is not there in time

The rows of the tables under custody: {agreement: …} are compared with the tracked
files, and each gets a verdict too:
  row-ok           its file is there and tracked, and what both say agrees
  row-not-checked  the same, but its size or hash is known to one side only
  row-elsewhere    its file is in the directory of another host, which must look at it
  row-untracked    its file is there, and no operation made it
  row-missing      its file is not there
  row-size         it has another size than the tracked file
  row-hash         it has another hash than the tracked file
  row-path         the file that was tracked for its object is another one
  row-invalid      it holds no path or no size
  row-unknown      the table, or the file that the row names, could not be looked at
  no-row           a tracked file that a row must name, and none does

Tracked stores, pairs and tables are those of the policy, unless --tracked, --pair
and --agreement name others.

--sample 3/7 checks the third of seven parts: seven runs check every file once.

Status: 0 when there is no finding; 1 when there is one, or, with --hashes, when a
file or row was not checked.`,
		Example: "  epitaph verify files --hashes --sample $(date +%u)/7\n  epitaph verify files --pair '*.csv=*.duckdb:2h' --tracked nas --show",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			f.given = cmd.Flags().Changed
			if err := filled(cmd.Flags(), "scope", "sample"); err != nil {
				return err
			}
			return a.runVerifyFiles(ctx, &f)
		},
	}
	f.addShow(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.hashes, "hashes", false, "read every file and compare its SHA-256")
	fl.StringVar(&f.scope, "scope", "", "only files of this scope")
	fl.StringVar(&f.sample, "sample", "", "only part `N/T` of the files")
	fl.StringSliceVar(&f.tracked, "tracked", nil, "the `STORES` whose every file must be tracked (default: the policy's; '' for none)")
	fl.StringArrayVar(&f.pairs, "pair", nil, "a file must have another beside it: `NAME=BESIDE:SPAN` (default: the policy's)")
	fl.StringSliceVar(&f.agreement, "agreement", nil, "compare with these `TABLES` of the policy only; none for no table")
	fl.IntVar(&f.workers, "workers", 0, "read so many files at the same time (default: one for each processor)")
	return cmd
}

// check reads the flags.
func (f *verifyFilesFlags) check(a *app) (custody.Check, error) {
	k := custody.Check{Hashes: f.hashes, Scope: f.scope, Workers: f.workers}
	if f.sample != "" {
		n, t, _ := strings.Cut(f.sample, "/")
		var err, err2 error
		k.Part, err = strconv.Atoi(n)
		k.Parts, err2 = strconv.Atoi(t)
		if err != nil || err2 != nil || k.Part < 1 || k.Part > k.Parts {
			return k, usage(fmt.Sprintf("--sample: %q is not a part of a whole", f.sample), "write it as 3/7: the third of seven parts")
		}
	}
	for _, s := range f.pairs {
		name, rest, ok := strings.Cut(s, "=")
		i := strings.LastIndexByte(rest, ':')
		if !ok || i < 0 || name == "" {
			return k, usage(fmt.Sprintf("--pair: %q is not NAME=BESIDE:SPAN", s), "such as --pair '*.csv=*.duckdb:2h'")
		}
		within, err := parseSpan("--pair", rest[i+1:], a.env.Now())
		if err != nil {
			return k, err
		}
		pair := custody.Pair{File: name, Beside: rest[:i], Within: within}
		if _, err := pair.Compile(); err != nil {
			return k, usage(fmt.Sprintf("--pair: %q: %v", s, err), "such as --pair '*.csv=*.duckdb:2h'")
		}
		k.Pairs = append(k.Pairs, pair)
	}
	return k, nil
}

// complete fills in what the policy says and the flags do not.
func (f *verifyFilesFlags) complete(k *keeper, o *custody.Options, c *custody.Check) (err error) {
	if err := k.checkTracked(o, f.tracked); err != nil {
		return err
	}
	c.Roots = k.roots(f.tracked, f.given("tracked"), 0, false)
	if k.policy != nil && !f.given("pair") {
		c.Pairs = k.policy.Custody.Pairs
	}
	c.Tables, err = k.tables(f.agreement, f.given("agreement"))
	return err
}

// verdictJSON is a verdict that a person must look at; its names are stable.
type verdictJSON struct {
	Verdict string `json:"verdict"`
	// Table is the agreement that a verdict on a row is about, and Row its key
	// where that tells nothing of a person, else a short hash.
	Table string `json:"table,omitempty"`
	Row   string `json:"row,omitempty"`
	fileJSON
	key string // of the row, as the store names it
}

func (k *keeper) verdictJSON(c *custody.Checked, show bool) verdictJSON {
	j := verdictJSON{Verdict: string(c.Verdict), Table: c.Table, Row: c.Row, fileJSON: k.fileJSON(c.File, show)}
	j.Reason = string(c.Reason)
	if c.ID == "" && c.Path == "" {
		j.ID = ""
	}
	if c.RowLocator != "" && show {
		j.key = string(c.RowLocator)
	}
	if j.Row == "" && c.RowLocator != "" {
		j.Row = k.ledger.ShortHash(string(c.RowLocator))
	}
	return j
}

// line tells a finding to people.
func (j *verdictJSON) line(show bool) string {
	var parts []string
	if j.Table != "" {
		what := "table " + j.Table
		if j.Row != "" {
			what += " row " + j.Row
		}
		parts = append(parts, what)
	}
	if j.ID != "" {
		parts = append(parts, j.ID)
	}
	if show && j.Path != "" {
		parts = append(parts, strconv.Quote(j.Path))
	}
	if show && j.key != "" {
		parts = append(parts, strconv.Quote(j.key))
	}
	if j.Reason != "" {
		parts = append(parts, j.Reason)
	}
	return strings.Join(parts, "  ")
}

func (a *app) runVerifyFiles(ctx context.Context, f *verifyFilesFlags) error {
	check, err := f.check(a)
	if err != nil {
		return err
	}
	var o *custody.Options
	k, err := a.openCustody(ctx, &f.custodyFlags, false, func(got *custody.Options) { o = got })
	if err != nil {
		return err
	}
	defer k.Close()
	if err := f.complete(k, o, &check); err != nil {
		return err
	}
	bar := a.newProgress()
	check.Except = k.except
	check.Progress = bar.verifying()
	counts := map[custody.Verdict]int64{}
	var read int64
	findings := []verdictJSON{}
	err = k.VerifyFiles(ctx, check, func(c custody.Checked) error {
		counts[c.Verdict]++
		read += c.Read
		blank := c.Verdict == custody.NotChecked || c.Verdict == custody.RowNotChecked
		if c.Verdict.Finding() || f.hashes && blank && c.Condition != custody.Reserved {
			findings = append(findings, k.verdictJSON(&c, f.show))
		}
		return nil
	})
	bar.end()
	if e := ctx.Err(); e != nil {
		return e
	}
	if e := a.showVerdicts(counts, read, findings, f.show); e != nil && err == nil {
		return e
	}
	var bad *rows.FaultError
	if errors.As(err, &bad) { // its text names tables, columns and settings
		return usage("a table of the policy cannot be compared: "+bad.Error(), "epitaph check says more")
	}
	if err != nil {
		return &problem{StatusPartly, "not everything could be verified: " + cause(err), []string{"what was found is above; nothing is known of the rest"}}
	}
	return nil
}

var verdictOrder = []custody.Verdict{custody.OK, custody.KnownGone, custody.NotChecked, custody.Elsewhere, custody.Lost, custody.Returned, custody.Resized,
	custody.Edited, custody.Rotten, custody.Unseen, custody.Stranger, custody.Unpaired, custody.RowOK, custody.RowNotChecked, custody.RowElsewhere, custody.RowUntracked,
	custody.RowMissing, custody.RowResized, custody.RowRehashed, custody.RowAstray, custody.RowInvalid, custody.RowUnseen, custody.Rowless}

func (a *app) showVerdicts(counts map[custody.Verdict]int64, read int64, findings []verdictJSON, show bool) error {
	if a.global.json {
		if err := a.printJSON(map[string]any{"counts": counts, "bytes_read": read, "findings": findings}); err != nil {
			return err
		}
	} else {
		p := a.stdout()
		for _, f := range findings {
			p.linef("%s  %s", p.red(fmt.Sprintf("%-11s", f.Verdict)), f.line(show))
		}
		var parts []string
		for _, v := range verdictOrder {
			if counts[v] > 0 {
				parts = append(parts, fmt.Sprintf("%s %s", v, number(counts[v])))
			}
		}
		if len(parts) == 0 {
			parts = []string{"no tracked file"}
		}
		p.linef("%s; %s read", strings.Join(parts, ", "), bytesText(read))
		if p.err != nil {
			return p.err
		}
	}
	if len(findings) > 0 {
		return ended(StatusPartly)
	}
	return nil
}

// verifying shows how many files were compared, how fast, and when it will be
// over.
func (p *progress) verifying() func(done, of int64) {
	if !p.on {
		return nil
	}
	return func(done, of int64) {
		if p.bar == nil {
			p.bar = p.p.AddBar(of,
				mpb.PrependDecorators(decor.Name("verifying "), decor.CountersNoUnit("%d / %d")),
				mpb.AppendDecorators(decor.Percentage(), decor.AverageSpeed(0, "  %.0f/s"), decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO)))
		}
		p.bar.SetCurrent(done)
	}
}
