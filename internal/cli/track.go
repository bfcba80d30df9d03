package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/owner"
)

type trackFlags struct {
	custodyFlags
	operation
	meta            []string
	owner           int
	noHash          bool
	batch, list     bool
	reserve         bool
	commit, abandon string
	acknowledge     string
	lease           string
}

func (a *app) trackCommand() *cobra.Command {
	var f trackFlags
	cmd := &cobra.Command{
		Use:   "track ACTION PATH…",
		Short: "Record what an application did with a sensitive file",
		Long: `Records an operation with each file in the ledger. The file is looked at: one that
is said to be made must be there, and one that is said to be deleted and is still
there stays due. A path is made absolute and its links are followed; of a file that
was made its SHA-256 is recorded.

With --reserve the record comes before the file: it prints an id, and
track --commit ID records what was written. With --batch operations are read from
stdin, one JSON object on each line, such as
  {"action": "work_copy_created", "path": "/srv/work/a.csv", "due": "2h"}
A line that is wrong is named and left out; the others are recorded.

With --to the file is on its way to another host: the id that is printed is a claim,
which that host settles with track --acknowledge ID PATH, or many at once with
--batch: {"acknowledge": "184.0", "path": "/srv/in/a.csv"}. What arrived is read,
compared with what was sent, and tracked. A transfer that nobody acknowledges in time
is overdue. The original of transfer_moved is due once the other side has it.

Status: 0 when all was recorded; 1 when a line or a file was left out, a file that
is said to be deleted is still there or cannot be looked at, or something else
arrived than was sent.`,
		Example: "  epitaph track work_copy_created /srv/work/a.csv --scope 5 --due 2h\n  id=$(epitaph track --reserve nas_raw_created /srv/nas/b.csv) && write-it && epitaph track --commit $id\n  epitaph track transfer_sent /srv/out/a.csv --to services --due 1h\n  epitaph track --acknowledge 184.0 /srv/in/a.csv\n  epitaph track --list",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.untilStopped(cmd.Context())
			defer cancel()
			// Left out, the file would be tracked without an end, or as one that stays here.
			if err := filled(cmd.Flags(), "due", "scheduled", "at", "to", "acknowledge", "lease", "commit", "abandon"); err != nil {
				return err
			}
			return a.runTrack(ctx, &f, args)
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.Scope, "scope", "", "whose data it is: a cohort, a tenant")
	fl.StringVar(&f.Actor, "actor", "", "who had it done; sealed")
	fl.StringVar(&f.Due, "due", "", "when the file must be gone: 2h, 7d, or an instant")
	fl.StringVar(&f.Scheduled, "scheduled", "", "when the application means to remove it")
	fl.BoolVar(&f.Required, "required", false, "the file must be cleaned up, though it is not said when")
	fl.StringVar(&f.Ref, "ref", "", "the application's object, as `KIND:ID`")
	fl.StringArrayVar(&f.meta, "meta", nil, "more to keep, as `KEY=VALUE`; sealed")
	fl.StringVar(&f.Type, "type", "", "what the file is, such as raw_csv")
	fl.StringVar(&f.Purpose, "purpose", "", "its sub-directory by purpose")
	fl.StringVar(&f.From, "from", "", "where a moved or copied file came from")
	fl.StringVar(&f.Role, "role", "", "the role of this server: web, services, testing, or your own")
	fl.StringVar(&f.At, "at", "", "when it happened, if not now")
	fl.StringVar(&f.Error, "error", "", "the text of an error; sealed")
	fl.StringVar(&f.ErrorType, "error-type", "", "the type of the error")
	fl.IntVar(&f.owner, "owner", 0, "the `PID` that answers for the file, instead of the process that started this command")
	fl.StringVar(&f.To, "to", "", "the `HOST` to which the file goes, or HOST/STORE; --due is by when it must be acknowledged, a day if it is not given")
	fl.StringVar(&f.acknowledge, "acknowledge", "", "record what arrived of the transfer `ID`: takes a path, or an action and a path")
	fl.StringVar(&f.lease, "lease", "", "a `FILE` that the owner keeps locked, flock(2), as long as he lives: he is then known to live, or not, from other containers too")
	fl.BoolVar(&f.noHash, "no-hash", false, "do not read the file for its SHA-256")
	fl.BoolVar(&f.batch, "batch", false, "read operations from stdin, one JSON object on each line")
	fl.BoolVar(&f.list, "list", false, "list the actions")
	fl.BoolVar(&f.reserve, "reserve", false, "record a file that is about to be written")
	fl.StringVar(&f.commit, "commit", "", "record that the file of the reservation `ID` is written")
	fl.StringVar(&f.abandon, "abandon", "", "record that the file of the reservation `ID` will not be written")
	return cmd
}

func (a *app) runTrack(ctx context.Context, f *trackFlags, args []string) error {
	if f.list {
		return a.listActions(f.ledger)
	}
	now := a.env.Now()
	op, err := f.parse(now, f.meta)
	if err != nil {
		return err
	}
	other := f.batch || f.commit != "" || f.abandon != ""
	switch {
	case f.acknowledge != "":
		return a.acknowledge(ctx, f, op, args)
	case other && len(args) > 0:
		return usage("--batch, --commit and --abandon take no action and no path", "see epitaph track --help")
	case !other && len(args) < 2:
		return usage("track takes an action and at least one path", "epitaph track work_copy_created PATH; the actions: epitaph track --list")
	case f.reserve && len(args) != 2:
		return usage("--reserve takes one action and one path", "reserve each file by itself")
	}
	if !other {
		if err := a.checkAction(f.ledger, args[0]); err != nil {
			return err
		}
	}
	k, err := a.openToTrack(ctx, f)
	if err != nil {
		return err
	}
	defer k.Close()
	switch {
	case f.batch:
		f.Meta = op.Meta
		return a.trackBatch(ctx, k, f)
	case f.commit != "" || f.abandon != "":
		return a.settleReservation(ctx, k, f)
	case f.reserve:
		op.Action, op.Path = args[0], args[1]
		r, err := k.Reserve(ctx, op)
		if err != nil {
			return refusal(err)
		}
		if a.global.json {
			return a.printJSON(trackedJSON{ID: r.ID(), Seen: "unknown"})
		}
		_, err = fmt.Fprintln(a.env.Stdout, r.ID())
		return err
	}
	return a.trackPaths(ctx, k, f, op, args)
}

// openToTrack opens the custody for one who registers something.
func (a *app) openToTrack(ctx context.Context, f *trackFlags) (*keeper, error) {
	var lease owner.Lease
	if f.lease != "" {
		var err error
		if lease, err = owner.LeaseOf(f.lease); err != nil {
			text := cause(err)
			for _, known := range []error{owner.ErrNotHeld, owner.ErrNotLock} {
				if errors.Is(err, known) {
					text = known.Error()
				}
			}
			return nil, usage("--lease: "+text, "keep it locked while the application lives: flock FILE COMMAND")
		}
	}
	return a.openCustody(ctx, &f.custodyFlags, true, func(o *custody.Options) {
		o.Role = f.Role
		o.Owner, _ = caller(f.owner)
		o.Owner.Lease = lease
	})
}

// checkAction refuses an unknown action before anything is opened.
func (a *app) checkAction(dsn, name string) error {
	v, err := a.vocabulary(dsn)
	if err != nil {
		return err
	}
	if _, ok := v.Find(name); !ok {
		return usage(fmt.Sprintf("unknown action %q", name), nearestHint(name, v.Nearest(name), "", "the actions are listed by: epitaph track --list"))
	}
	return nil
}

// refusal turns what custody refuses into words for people.
func refusal(err error) error {
	var r *custody.Refused
	switch {
	case errors.As(err, &r):
		return usage(r.Text, hintsOf(r.Hint)...)
	case errors.Is(err, custody.ErrNotTracked):
		return usage("no tracked file has this id", "an id looks like 184.3, and is printed when a file is tracked")
	case errors.Is(err, custody.ErrSettled):
		return usage("the reservation is settled already", "reserve the file again before it is written again")
	default:
		return err
	}
}

// trackedJSON is one operation that was recorded, or not; its names are stable.
type trackedJSON struct {
	Line    int    `json:"line,omitempty"`
	ID      string `json:"id,omitempty"`
	Seen    string `json:"seen,omitempty"`
	Covered bool   `json:"covered"`
	Problem string `json:"problem,omitempty"`
	// Agrees is there for what arrived of a transfer.
	Agrees *bool `json:"agrees,omitempty"`
}

// tally counts what became of operations, and says what a person must know.
type trackTally struct {
	a                          *app
	tracked, refused, unproven int
	list                       []trackedJSON
}

// add counts one operation. where names it: a line, or the place of an argument.
func (t *trackTally) add(line int, where string, ends bool, r custody.Tracked) {
	j := trackedJSON{Line: line, ID: r.ID, Seen: r.Seen.String(), Covered: r.Covered}
	switch {
	case r.Err != nil:
		t.refused++
		j.Problem, j.Seen = r.Err.Error(), ""
		var hint string
		var bad *custody.Refused
		if errors.As(r.Err, &bad) {
			hint = bad.Hint
		}
		t.a.complain(where+": "+j.Problem, hintsOf(hint)...)
	case ends && r.Seen != connector.Gone:
		t.tracked++
		t.unproven++
		text := "it is still there: recorded as said, not as seen"
		if r.Seen == connector.Unknown {
			text = "it could not be looked at: recorded as said, not as seen"
		}
		t.a.complain(where+": "+text, "what was due stays due; look again with: epitaph cleanup verify")
	default:
		t.tracked++
		if !r.Covered && !t.a.global.quiet {
			t.a.complain(where+": no store covers this path: it cannot be verified or disposed of", "name its directory as a store of files")
		}
	}
	if t.a.global.json {
		t.list = append(t.list, j)
	}
}

// arrived says of what was just counted whether it is what was sent.
func (t *trackTally) arrived(where string, agrees *bool) {
	if t.a.global.json {
		t.list[len(t.list)-1].Agrees = agrees
	}
	if !*agrees {
		t.unproven++
		t.a.complain(where+": "+differsText, differsHint)
	}
}

func (t *trackTally) end() error {
	if t.a.global.json {
		if err := t.a.printJSON(struct {
			Tracked    int           `json:"tracked"`
			Refused    int           `json:"refused"`
			Unproven   int           `json:"unproven"`
			Operations []trackedJSON `json:"operations"`
		}{t.tracked, t.refused, t.unproven, t.list}); err != nil {
			return err
		}
	}
	if t.refused+t.unproven > 0 {
		return ended(StatusPartly)
	}
	return nil
}

func (a *app) trackPaths(ctx context.Context, k *keeper, f *trackFlags, op custody.Operation, args []string) error {
	action, _ := k.Vocabulary().Find(args[0])
	ops := make([]custody.Operation, len(args)-1)
	for i, path := range args[1:] {
		ops[i] = op
		ops[i].Action, ops[i].Path = args[0], path
		if op.To != "" || !f.noHash && action.Kind.Makes() {
			// What cannot be read is tracked without a hash, and is never taken for checked.
			if sum, size, err := k.Digest(ctx, path); err == nil {
				ops[i].Hash, ops[i].Size = sum, size
			}
		}
	}
	rs, err := k.Track(ctx, ops...)
	if err != nil {
		return err
	}
	t := trackTally{a: a}
	for i, r := range rs {
		t.add(0, "path "+strconv.Itoa(i+1), ends(action) && op.To == "", r)
		if r.Err == nil && !a.global.json {
			if _, err := fmt.Fprintln(a.env.Stdout, r.ID); err != nil {
				return err
			}
		}
	}
	return t.end()
}

// ends reports an action after which the file is said not to be there.
func ends(a custody.Action) bool {
	return a.Kind == custody.Deleted || a.Kind == custody.Emptied || a.Kind == custody.Left
}

func (a *app) settleReservation(ctx context.Context, k *keeper, f *trackFlags) error {
	id := f.commit + f.abandon
	if f.commit != "" && f.abandon != "" {
		return usage("give one of --commit and --abandon", "see epitaph track --help")
	}
	r, err := k.Reserved(ctx, id)
	if err != nil {
		return refusal(err)
	}
	var t custody.Tracked
	if f.commit != "" {
		t, err = r.CommitFile(ctx)
	} else {
		t, err = r.Abandon(ctx)
	}
	if err != nil {
		var bad *custody.Refused
		if errors.As(err, &bad) {
			return &problem{StatusPartly, bad.Text, hintsOf(bad.Hint)}
		}
		return err
	}
	if a.global.json {
		return a.printJSON(trackedJSON{ID: t.ID, Seen: t.Seen.String(), Covered: t.Covered})
	}
	_, err = fmt.Fprintln(a.env.Stdout, t.ID)
	return err
}

func (a *app) listActions(dsn string) error {
	v, err := a.vocabulary(dsn)
	if err != nil {
		return err
	}
	type actionJSON struct {
		Name     string `json:"name"`
		Kind     string `json:"kind"`
		Required bool   `json:"required"`
		Due      string `json:"due,omitempty"`
	}
	var list []actionJSON
	for _, n := range v.Names() {
		w, _ := v.Find(n)
		x := actionJSON{Name: n, Kind: w.Kind.String(), Required: w.Temporary}
		if w.Due > 0 {
			x.Due = w.Due.String()
		}
		list = append(list, x)
	}
	if a.global.json {
		return a.printJSON(map[string]any{"actions": list})
	}
	p := a.stdout()
	for _, x := range list {
		line := fmt.Sprintf("%-34s %s", x.Name, x.Kind)
		switch {
		case x.Due != "":
			line += ", to be cleaned up within " + x.Due
		case x.Required:
			line += ", to be cleaned up"
		}
		p.linef("%s", line)
	}
	return p.err
}

// splitRef reads KIND:ID.
func splitRef(s string) (custody.Ref, error) {
	if s == "" {
		return custody.Ref{}, nil
	}
	kind, id, ok := strings.Cut(s, ":")
	if !ok || kind == "" || id == "" {
		return custody.Ref{}, usage("a reference is KIND:ID", "such as data-file:123")
	}
	return custody.Ref{Kind: kind, ID: id}, nil
}

var errLong = errors.New("the line is longer than 1 MB")

// readLine reads a line of at most a megabyte. Of a longer one the rest is passed
// over.
func readLine(r *bufio.Reader) (line []byte, err error) {
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > 1<<20 {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case err == nil && long:
			return nil, errLong
		case err == nil:
			return line, nil
		case err == io.EOF && (len(line) > 0 || long):
			if long {
				return nil, errLong
			}
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		default:
			return nil, err
		}
	}
}
