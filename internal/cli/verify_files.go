package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/epitaph/epitaph/custody"
)

type verifyFilesFlags struct {
	custodyFlags
	hashes  bool
	scope   string
	sample  string
	tracked []string
	pairs   []string
	workers int
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
  missing      it should be there, and is not
  returned     it was known to be gone, and is there
  size         its size is another
  edited       its content is another, and it was written to since
  bit-rot      its content is another, though it was not written to
  unknown      it could not be looked at or read
  untracked    in a store named by --tracked, and no operation made it
  no-pair      the file that --pair wants beside it is not there in time

--sample 3/7 checks the third of seven parts: seven runs check every file once.

Status: 0 when there is no finding; 1 when there is one, or, with --hashes, when a
file was not checked.`,
		Example: "  epitaph verify files --hashes --sample $(date +%u)/7\n  epitaph verify files --pair '*.csv=*.duckdb:2h' --tracked nas --show",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			return a.runVerifyFiles(ctx, &f)
		},
	}
	f.addShow(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.hashes, "hashes", false, "read every file and compare its SHA-256")
	fl.StringVar(&f.scope, "scope", "", "only files of this scope")
	fl.StringVar(&f.sample, "sample", "", "only part `N/T` of the files")
	fl.StringSliceVar(&f.tracked, "tracked", nil, "the `STORES` whose every file must be tracked")
	fl.StringArrayVar(&f.pairs, "pair", nil, "a file must have another beside it: `NAME=BESIDE:SPAN`")
	fl.IntVar(&f.workers, "workers", 0, "read so many files at the same time (default: one for each processor)")
	return cmd
}

// check reads the flags.
func (f *verifyFilesFlags) check(a *app) (custody.Check, error) {
	k := custody.Check{Hashes: f.hashes, Scope: f.scope, Roots: f.tracked, Workers: f.workers}
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
		k.Pairs = append(k.Pairs, custody.Pair{Name: name, Beside: rest[:i], Within: within})
	}
	return k, nil
}

// verdictJSON is a verdict that a person must look at; its names are stable.
type verdictJSON struct {
	Verdict string `json:"verdict"`
	fileJSON
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
	if err := k.checkTracked(o, f.tracked); err != nil {
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
		if c.Verdict.Finding() || f.hashes && c.Verdict == custody.NotChecked && c.Condition != custody.Reserved {
			j := verdictJSON{string(c.Verdict), k.fileJSON(c.File, f.show)}
			j.Reason = string(c.Reason)
			findings = append(findings, j)
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
	if err != nil {
		return &problem{StatusPartly, "not everything could be verified: " + cause(err), []string{"what was found is above; nothing is known of the rest"}}
	}
	return nil
}

var verdictOrder = []custody.Verdict{custody.OK, custody.KnownGone, custody.NotChecked, custody.Lost, custody.Returned, custody.Resized,
	custody.Edited, custody.Rotten, custody.Unseen, custody.Stranger, custody.Unpaired}

func (a *app) showVerdicts(counts map[custody.Verdict]int64, read int64, findings []verdictJSON, show bool) error {
	if a.global.json {
		if err := a.printJSON(map[string]any{"counts": counts, "bytes_read": read, "findings": findings}); err != nil {
			return err
		}
	} else {
		p := a.stdout()
		for _, f := range findings {
			line := f.ID
			if show {
				line += fmt.Sprintf("  %q", f.Path)
			}
			if f.Reason != "" {
				line += "  " + f.Reason
			}
			p.linef("%s  %s", p.red(fmt.Sprintf("%-11s", f.Verdict)), line)
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
