package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/epitaph/epitaph/session"
)

// visiting enters a session for the length of do. It needs no ledger.
func (a *app) visiting(ctx context.Context, f *sessionFlags, id string, do func(*session.Visit) error) error {
	if err := checkSession(id); err != nil {
		return err
	}
	root, err := a.sessionRoot(f)
	if err != nil {
		return err
	}
	v, err := session.Enter(ctx, root, id)
	switch {
	case err == nil:
		return sessionProblem(errors.Join(do(v), v.Close()))
	case errors.Is(err, session.ErrNoSession), errors.Is(err, session.ErrNoKey), errors.Is(err, session.ErrKeyring):
		return sessionProblem(err)
	default:
		return rootProblem(err)
	}
}

func (a *app) sessionWrite(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "write ID FILE", Short: "Make a file in a session from stdin", Args: exactly("ID", "FILE"),
		Long: `Makes a new file in a session, of mode 0600, out of what stands on stdin, and the
directories that lead to it. In a sealed session it is encrypted. A file that is there
already stays as it is. If anything fails there is no file.`,
		Example: "  epitaph session write $id note.txt < note.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.visiting(cmd.Context(), f, args[0], func(v *session.Visit) error {
				n, err := v.Write(args[1], a.untilInterrupted(a.env.Stdin))
				switch {
				case errors.Is(err, fs.ErrExist):
					return usage("there is a file of that name already, and it stays as it is", "remove it first: epitaph session remove ID FILE")
				case err != nil:
					return err
				}
				if a.global.json {
					return a.printJSON(map[string]any{"id": args[0], "file": args[1], "bytes": n, "sealed": v.Sealed()})
				}
				if a.global.quiet {
					return nil
				}
				sealed := ""
				if v.Sealed() {
					sealed = ", sealed"
				}
				_, err = fmt.Fprintf(a.env.Stderr, "epitaph: written: %s%s\n", bytesText(n), sealed)
				return err
			})
		},
	}
}

func (a *app) sessionRead(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "read ID FILE", Short: "Write a file of a session to stdout", Args: exactly("ID", "FILE"),
		Long: `Writes a file of a session to stdout, decrypted in a sealed session. A sealed file that
was cut short or changed gives status 1, but its sound beginning is on stdout by then:
look at the status before you use it.`,
		Example: "  epitaph session read $id report.pdf > report.pdf",
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.global.json {
				return usage("read has no --json: its stdout is the file", "epitaph session files ID --json lists what is there")
			}
			return a.visiting(cmd.Context(), f, args[0], func(v *session.Visit) error {
				r, err := v.Open(args[1])
				if errors.Is(err, fs.ErrNotExist) {
					return &problem{StatusPartly, "there is no such file in the session", []string{"epitaph session files ID lists those that are there"}}
				}
				if errors.Is(err, session.ErrName) {
					return usage("that is no regular file of the session", "epitaph session files ID lists those that are there")
				}
				if err != nil {
					return err
				}
				_, err = io.Copy(a.env.Stdout, a.untilInterrupted(r))
				return errors.Join(err, r.Close())
			})
		},
	}
}

// untilInterrupted reads from r until a person asks for the end.
func (a *app) untilInterrupted(r io.Reader) io.Reader {
	from, to := io.Pipe()
	go func() {
		_, err := io.Copy(to, r)
		to.CloseWithError(err)
	}()
	go func() {
		<-a.stop
		to.CloseWithError(context.Canceled)
	}()
	return from
}

// sealedText says in a list that a session is sealed, and whether anybody can
// still read it.
func sealedText(x session.Info) string {
	switch {
	case x.KeyGone:
		return "  sealed, its key is gone"
	case x.Sealed:
		return "  sealed"
	default:
		return ""
	}
}

// keyringProblem is for a kernel that takes or gives no key.
func keyringProblem(err error) error {
	if errors.Is(err, unix.EDQUOT) {
		return usage("the kernel keeps no more keys for this user, and nothing was made", "delete sealed sessions that are over: epitaph session sweep; the limit is in /proc/sys/kernel/keys/maxkeys")
	}
	why := "unknown cause"
	var no unix.Errno
	if errors.As(err, &no) {
		why = no.Error()
	}
	return usage("the kernel's keyring cannot be used here ("+why+"); without it a session can neither be sealed nor opened",
		"in a container, its seccomp profile must allow add_key and keyctl; or leave out --sealed and put the root on tmpfs")
}

// noKeyProblem is for a sealed session that cannot be entered.
func noKeyProblem(err error) error {
	text, hint := "nobody has the key of the session any more: its files cannot be read", "epitaph session delete ID disposes of it"
	switch {
	case errors.Is(err, unix.EKEYEXPIRED):
		text = "the session's time is over, and its key with it: its files cannot be read"
	case errors.Is(err, unix.EACCES):
		text, hint = "the key of the session is for another user, or for the program alone that runs in it", "run this as that user, or from that program"
	case !errors.Is(err, unix.ENOKEY) && !errors.Is(err, unix.EKEYREVOKED):
		text, hint = "the key of the session is in the memory of the program that made it, and nowhere else", "read and write through that program"
	}
	return &problem{StatusPartly, text, []string{hint}}
}

// remarkKeys says that keys of sessions that are over are still in the kernel,
// and reports whether there are any.
func (a *app) remarkKeys(n int64) bool {
	if n == 0 {
		return false
	}
	a.complain("keys that stay in the kernel until the time of their sessions is over: "+number(n), "dispose of a sealed session as the user who made it, and where the keyring can be used")
	return true
}
