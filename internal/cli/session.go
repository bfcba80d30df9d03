package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/session"

	"github.com/epitaph/epitaph/owner"
)

// sessionFlags are those of all session commands.
type sessionFlags struct {
	root, ledger string
}

func (a *app) sessionCommand() *cobra.Command {
	var f sessionFlags
	cmd := &cobra.Command{
		Use:   "session COMMAND",
		Short: "Give sensitive files a directory with an owner and an end",
		Long: `A session is a directory of mode 0700 with an owner and an end. When it is over its
files are erased, the directory is looked for again, and the ledger has what came
of it. All sessions lie in one root, which --root or $EPITAPH_SESSIONS names; the
ledger is that of --ledger, $EPITAPH_LEDGER, or the policy.`,
		Example: "  epitaph session run --root /run/sessions -- ./convert note.txt\n  epitaph session sweep                # from cron: what was left behind",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			cmd.SetOut(a.env.Stderr)
			_ = cmd.Help()
			return ended(StatusUsage)
		},
	}
	fl := cmd.PersistentFlags()
	fl.StringVar(&f.root, "root", "", "the directory of the sessions (also $EPITAPH_SESSIONS)")
	fl.StringVar(&f.ledger, "ledger", "", "keep the record in this ledger, such as sqlite:epitaph.db (also $EPITAPH_LEDGER)")
	cmd.AddCommand(a.sessionNew(&f), a.sessionWrite(&f), a.sessionRead(&f), a.sessionList(&f), a.sessionFiles(&f), a.sessionRemove(&f),
		a.sessionDelete(&f), a.sessionDeleteAll(&f), a.sessionSweep(&f), a.sessionRun(&f))
	return cmd
}

// exactly asks for n arguments, by their names.
func exactly(words ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(words) {
			return nil
		}
		return usage(fmt.Sprintf("%s takes %s, got %d arguments", cmd.CommandPath(), strings.Join(words, " and "), len(args)),
			"such as "+firstExample(cmd))
	}
}

// firstExample is the first line of a command's examples, without what it explains.
func firstExample(cmd *cobra.Command) string {
	line, _, _ := strings.Cut(cmd.Example, "\n")
	line, _, _ = strings.Cut(line, "  #")
	if line = strings.TrimSpace(line); line == "" {
		return cmd.UseLine()
	}
	return line
}

// checkSession refuses an id before anything is opened.
func checkSession(id string) error {
	if err := session.CheckID(id); err != nil {
		return usage(err.Error(), "an id is made of letters, digits and _ . -, 1 to 128 of them, and begins with a letter, a digit or _")
	}
	return nil
}

// sessionLedger opens the ledger of the flag, the environment, or the policy.
func (a *app) sessionLedger(ctx context.Context, f *sessionFlags) (*ledger.Ledger, error) {
	dsn := f.ledger
	if dsn == "" {
		dsn, _ = a.env.Lookup("EPITAPH_LEDGER")
	}
	if dsn != "" {
		if !strings.Contains(dsn, ":") {
			dsn = "sqlite:" + dsn
		}
		return a.openLedgerAt(ctx, dsn, true)
	}
	if _, err := os.Stat(a.policyPath()); errors.Is(err, fs.ErrNotExist) {
		return nil, usage("no ledger is named", "name one: --ledger sqlite:/var/lib/epitaph/epitaph.db, or set EPITAPH_LEDGER, or give --policy FILE")
	}
	pol, err := a.loadPolicy()
	if err != nil {
		return nil, err
	}
	return a.openLedger(ctx, pol, true)
}

// sessionRoot is the root of the flag or the environment.
func (a *app) sessionRoot(f *sessionFlags) (string, error) {
	root := f.root
	if root == "" {
		root, _ = a.env.Lookup(rootVariable)
	}
	if root == "" {
		return "", usage("no root of sessions is named", "name one: --root DIR, or set "+rootVariable)
	}
	return root, nil
}

// inStore runs do with the store that the flags name.
func (a *app) inStore(ctx context.Context, f *sessionFlags, o session.Options, do func(*session.Store) error) (err error) {
	root, err := a.sessionRoot(f)
	if err != nil {
		return err
	}
	if !o.Create { // a command that makes nothing makes no ledger either
		if _, err := os.Lstat(root); errors.Is(err, fs.ErrNotExist) {
			return rootProblem(session.ErrNotRoot)
		}
	}
	log, err := a.openLog()
	if err != nil {
		return err
	}
	if log != nil {
		defer func() { err = log.end(err) }()
		o.Observe = log.event
	}
	led, err := a.sessionLedger(ctx, f)
	if err != nil {
		return err
	}
	defer led.Close()
	if o.Create { // what ends is recorded before any effect, but what begins is not
		if err := led.Moved(ctx); err != nil {
			return err
		}
	}
	o.Ledger, o.Clock, o.Host, o.Who = led, a.env.Now, host(), a.who()
	s, err := session.Open(ctx, root, o)
	if err != nil {
		return rootProblem(err)
	}
	defer s.Close()
	return sessionProblem(do(s))
}

func rootProblem(err error) error {
	switch {
	case errors.Is(err, session.ErrNotRoot):
		return usage("the directory is not a root of sessions", "epitaph session new and run make one, in a directory that is empty or does not exist yet")
	case errors.Is(err, session.ErrUnsafeRoot):
		return usage("others may write to the root of sessions", "give them no right to: chmod go-w DIR")
	default:
		return usage("the root of sessions cannot be opened: " + cause(err))
	}
}

// sessionProblem puts an error of the package into words.
func sessionProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, session.ErrID):
		return usage(err.Error())
	case errors.Is(err, session.ErrName):
		return usage("that cannot be the name of a file in a session", "give a path below the session's directory, such as note.txt or sub/note.txt")
	case errors.Is(err, session.ErrExists):
		return usage("there is a session, or something else, under that id already", "leave out --id for a random one")
	case errors.Is(err, session.ErrNoSession):
		return &problem{StatusPartly, "there is no such session", []string{"epitaph session list shows those that are there"}}
	case errors.Is(err, session.ErrInUse):
		return &problem{StatusPartly, "the session is in use, and stays", []string{"it ends when the program that holds it does"}}
	case errors.Is(err, session.ErrKeyring):
		return keyringProblem(err)
	case errors.Is(err, session.ErrNoKey):
		return noKeyProblem(err)
	case errors.Is(err, session.ErrUnsealable):
		return &problem{StatusPartly, "the file was not sealed with the key of the session, or was cut short or changed since", nil}
	case errors.Is(err, session.ErrVanished):
		return &problem{StatusPartly, "the root of sessions is not there any more; nothing is known of what was in it", nil}
	default:
		return err
	}
}

func (a *app) sessionNew(f *sessionFlags) *cobra.Command {
	var id, ttl string
	var pid int
	var sealed bool
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a session and print its id",
		Long: `Makes a session and prints its id; its directory is of that name in the root. The
session ends when it is deleted, or by the first sweep after its time is over or,
with --owner, after that process is gone.

With --sealed, what epitaph session write puts into it is encrypted, with a key that
is in the kernel only, for this user, and goes with the session, with its time, and
with a reboot. Where the kernel takes no key nothing is made.`,
		Example: "  id=$(epitaph session new --ttl 2h --owner $$)\n  id=$(epitaph session new --sealed) && epitaph session write $id note.txt < note.txt",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			span, err := parseTTL(ttl)
			if err == nil && (id != "" || cmd.Flags().Changed("id")) {
				err = checkSession(id)
			}
			if err != nil {
				return err
			}
			var who owner.Process
			if cmd.Flags().Changed("owner") {
				if who, err = owner.Of(host(), pid); err != nil {
					return usage(fmt.Sprintf("--owner %d: there is no such process, or it cannot be seen", pid), "give the number of the process that the session belongs to, such as $$")
				}
			}
			return a.inStore(cmd.Context(), f, session.Options{Create: true, Sealed: sealed}, func(s *session.Store) error {
				id, until, err := s.Leave(cmd.Context(), id, span, who)
				if err != nil {
					return err
				}
				if a.global.json {
					return a.printJSON(map[string]any{"id": id, "path": s.Path() + "/" + id, "expires": until.Format(time.RFC3339Nano), "sealed": sealed})
				}
				p := a.stdout()
				p.linef("%s", id)
				return p.err
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "use this `ID` instead of a random one")
	cmd.Flags().StringVar(&ttl, "ttl", "1h", "the longest it may live, such as 30m, 2h or 1d")
	cmd.Flags().IntVar(&pid, "owner", 0, "the `PID` of the process that it belongs to")
	cmd.Flags().BoolVar(&sealed, "sealed", false, "encrypt what is written, with a key that is in the kernel only")
	return cmd
}

// parseTTL reads a span of minutes and seconds as Go writes it, or a period as
// the policy does.
func parseTTL(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		var p policy.Period
		if p, err = policy.ParsePeriod(s); err == nil {
			d = time.Duration(p.Hours)*time.Hour + time.Duration(p.Days)*24*time.Hour
			if p.Months != 0 || p.Years != 0 {
				d = 0
			}
		}
	}
	if err != nil || d <= 0 || d > 366*24*time.Hour {
		return 0, usage(fmt.Sprintf("--ttl %s: want a span of more than nothing and at most a year", s), "such as 30m, 2h or 1d")
	}
	return d, nil
}

type sessionJSON struct {
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Files   int64     `json:"files"`
	Bytes   int64     `json:"bytes"`
	Unread  int64     `json:"unreadable_directories"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Sealed  bool      `json:"sealed"`
	KeyGone bool      `json:"key_gone"`
}

type leftoverJSON struct {
	Name string    `json:"name"`
	Type string    `json:"type"`
	Due  time.Time `json:"due"`
}

func leftoversJSON(rest []session.Leftover) []leftoverJSON {
	out := make([]leftoverJSON, len(rest))
	for i, l := range rest {
		out[i] = leftoverJSON{l.Name, l.Type, l.Due}
	}
	return out
}

func (a *app) sessionList(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Example: "  epitaph session list --root /run/app/sessions",
		Short:   "List the sessions, and what else lies in their root", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inStore(cmd.Context(), f, session.Options{}, func(s *session.Store) error {
				infos, rest, err := s.List(cmd.Context())
				if err != nil {
					return err
				}
				if a.global.json {
					out := make([]sessionJSON, len(infos))
					for i, x := range infos {
						out[i] = sessionJSON{x.ID, string(x.Stands), x.Files, x.Bytes, x.Unread, x.Created, x.Expires, x.Sealed, x.KeyGone}
					}
					return a.printJSON(map[string]any{"sessions": out, "leftovers": leftoversJSON(rest)})
				}
				p := a.stdout()
				for _, x := range infos {
					p.linef("%s  %s  %s  %s  until %s%s", x.ID, x.Stands, count(x.Files, "file"), bytesText(x.Bytes), instant(x.Expires), sealedText(x))
				}
				a.printLeftovers(p, rest)
				p.linef("Sessions: %d", len(infos))
				return p.err
			})
		},
	}
}

func (a *app) printLeftovers(p *printer, rest []session.Leftover) {
	for _, l := range rest {
		p.linef("%s  %s  no session; a sweep takes it from %s on", strconv.Quote(l.Name), p.yellow("leftover "+l.Type), instant(l.Due))
	}
}

func (a *app) sessionFiles(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "files ID",
		Example: "  epitaph session files note-1",
		Short:   "List the files of a session", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSession(args[0]); err != nil {
				return err
			}
			return a.inStore(cmd.Context(), f, session.Options{}, func(s *session.Store) error {
				all, err := s.Files(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if a.global.json {
					type file struct {
						Name    string `json:"name"`
						Bytes   int64  `json:"bytes"`
						Regular bool   `json:"regular"`
					}
					out := make([]file, len(all))
					for i, x := range all {
						out[i] = file(x)
					}
					return a.printJSON(map[string]any{"id": args[0], "files": out})
				}
				p := a.stdout()
				for _, x := range all {
					p.linef("%s  %s", shown(x.Name), bytesText(x.Bytes))
				}
				p.linef("Files: %d", len(all))
				return p.err
			})
		},
	}
}

// shown writes a name so that it cannot act on a terminal.
func shown(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

func (a *app) sessionRemove(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "remove ID FILE",
		Example: "  epitaph session remove note-1 sub/toc.json",
		Short:   "Dispose of one file of a session", Args: exactly("ID", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSession(args[0]); err != nil {
				return err
			}
			return a.inStore(cmd.Context(), f, session.Options{}, func(s *session.Store) error {
				r, err := s.Remove(cmd.Context(), args[0], args[1])
				if err != nil {
					return err
				}
				gone := 0
				if r.Was && r.State == connector.Gone {
					gone = 1
				}
				if a.global.json {
					if err := a.printJSON(map[string]any{"id": args[0], "was_there": r.Was, "state": r.State.String(), "reason": string(r.Reason), "files_gone": gone}); err != nil {
						return err
					}
				} else {
					p := a.stdout()
					switch {
					case r.State != connector.Gone:
						p.linef("Files removed: 0; it is %s, %s", p.red(r.State.String()), r.Reason)
					case gone == 0:
						p.linef("Files removed: 0; it was not there")
					default:
						p.linef("Files removed: 1")
					}
					if p.err != nil {
						return p.err
					}
				}
				if r.State != connector.Gone {
					return ended(StatusPartly)
				}
				return nil
			})
		},
	}
}

// endedJSON is what became of one session.
type endedJSON struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Gone    int64  `json:"files_gone"`
	Left    int64  `json:"files_left"`
	Unknown int64  `json:"files_unknown"`
	Bytes   int64  `json:"bytes"`
	Keys    int64  `json:"keys_left"`
}

func endedOf(e session.Ended) endedJSON {
	return endedJSON{e.ID, e.State.String(), string(e.Reason), e.Gone, e.Left, e.Unknown, e.Bytes, e.KeysLeft}
}

func filesText(c session.Counts) string {
	return fmt.Sprintf("%s gone, %s left, %s unknown", count(c.Gone, "file"), number(c.Left), number(c.Unknown))
}

func (a *app) sessionDelete(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "delete ID",
		Example: "  epitaph session delete note-1",
		Short:   "Dispose of a session", Args: exactly("ID"),
		Long: `Disposes of a session and says how many of its files are gone, left or unknown. One
that is gone already is no error. One that a program holds stays.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSession(args[0]); err != nil {
				return err
			}
			return a.inStore(cmd.Context(), f, session.Options{}, func(s *session.Store) error {
				e, err := s.Delete(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if a.global.json {
					if err := a.printJSON(endedOf(e)); err != nil {
						return err
					}
				} else if err := a.printEnded(e); err != nil {
					return err
				}
				if !e.Done() || a.remarkKeys(e.KeysLeft) {
					return ended(StatusPartly)
				}
				return nil
			})
		},
	}
}

func (a *app) printEnded(e session.Ended) error {
	p := a.stdout()
	switch {
	case e.Reason == connector.Missing && e.Done():
		p.linef("There is no session of this id: 0 files gone")
	case e.Done():
		p.linef("Session deleted: %s", filesText(e.Counts))
	default:
		p.linef("Session %s (%s): %s", p.red(e.State.String()), e.Reason, filesText(e.Counts))
	}
	return p.err
}

func (a *app) sessionDeleteAll(f *sessionFlags) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete-all --yes",
		Example: "  epitaph session delete-all --yes",
		Short:   "Dispose of all sessions that no program holds", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				return usage("delete-all disposes of every session in the root", "say that you mean it: epitaph session delete-all --yes")
			}
			return a.inStore(cmd.Context(), f, session.Options{}, func(s *session.Store) error {
				es, err := s.DeleteAll(cmd.Context())
				w := session.Swept{}
				for _, e := range es {
					if e.Reason == connector.InUse {
						w.InUse++
						continue
					}
					w.Ended = append(w.Ended, e)
					w.Gone, w.Left, w.Unknown, w.Bytes = w.Gone+e.Gone, w.Left+e.Left, w.Unknown+e.Unknown, w.Bytes+e.Bytes
					w.KeysLeft += e.KeysLeft
				}
				var lerr error
				_, w.Leftovers, lerr = s.List(cmd.Context())
				return errors.Join(a.printSwept(w, "deleted"), err, lerr)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func (a *app) sessionSweep(f *sessionFlags) *cobra.Command {
	var grace time.Duration
	cmd := &cobra.Command{
		Use:     "sweep",
		Example: "  epitaph session sweep                # from cron, every ten minutes\n  epitaph session sweep --grace 10m",
		Short:   "Dispose of sessions that are over or whose owner is gone", Args: noArgs,
		Long: `Disposes of the sessions whose time is over or whose owner is known to be gone, and
never of one that a program holds. What lies in the root and is no session is
reported, and goes when it has not changed for the time of --grace. First it
settles in the ledger what programs that died had begun.

Status: 0 nothing is left of what was due · 1 something is`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if grace <= 0 {
				return usage(fmt.Sprintf("--grace %s: want more than nothing", grace), "such as --grace 10m")
			}
			return a.inStore(cmd.Context(), f, session.Options{Grace: grace}, func(s *session.Store) error {
				w, err := s.Sweep(cmd.Context())
				if err != nil && len(w.Ended) == 0 {
					return err
				}
				return errors.Join(a.printSwept(w, "swept"), err)
			})
		},
	}
	cmd.Flags().DurationVar(&grace, "grace", session.DefaultGrace, "how long something that is no session is left alone")
	return cmd
}

// printSwept prints what a sweep did; what it was asked for is verb.
func (a *app) printSwept(w session.Swept, verb string) error {
	left := int64(0)
	for i := range w.Ended {
		if !w.Ended[i].Done() {
			left++
		}
	}
	gone := int64(len(w.Ended)) - left
	if a.global.json {
		es := make([]endedJSON, len(w.Ended))
		for i, e := range w.Ended {
			es[i] = endedOf(e)
		}
		if err := a.printJSON(map[string]any{"sessions_gone": gone, "sessions_left": left, "files_gone": w.Gone, "files_left": w.Left,
			"files_unknown": w.Unknown, "bytes": w.Bytes, "in_use": w.InUse, "waiting": w.Waiting, "owner_unknown": w.Foreign,
			"settled": w.Settled, "keys_left": w.KeysLeft, "sessions": es, "leftovers": leftoversJSON(w.Leftovers)}); err != nil {
			return err
		}
	} else {
		p := a.stdout()
		for _, e := range w.Ended {
			if !e.Done() {
				p.linef("%s  %s (%s): %s", shown(e.ID), p.red(e.State.String()), e.Reason, filesText(e.Counts))
			}
		}
		a.printLeftovers(p, w.Leftovers)
		p.linef("Sessions %s: %s", verb, number(gone))
		p.linef("Files: %s gone, %s left, %s unknown", number(w.Gone), number(w.Left), number(w.Unknown))
		p.linef("Kept: %s in use, %s waiting, %s of an owner that cannot be seen", number(w.InUse), number(w.Waiting), number(w.Foreign))
		if w.Settled > 0 {
			p.linef("Settled: %s that a program which died had begun to delete", number(w.Settled))
		}
		if p.err != nil {
			return p.err
		}
	}
	if a.remarkKeys(w.KeysLeft) || left > 0 || slices.ContainsFunc(w.Leftovers, func(l session.Leftover) bool { return l.Type == "unknown" }) {
		return ended(StatusPartly)
	}
	return nil
}
