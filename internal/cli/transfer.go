package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/epitaph/epitaph/custody"
)

// transferJSON is a file on its way to another host; its names are stable. Path is
// there with --show only.
type transferJSON struct {
	ID      string     `json:"id"`
	Path    string     `json:"path,omitempty"`
	Store   string     `json:"store,omitempty"`
	Action  string     `json:"action"`
	Scope   string     `json:"scope,omitempty"`
	Host    string     `json:"host"`
	To      string     `json:"to"`
	Ref     string     `json:"ref,omitempty"`
	At      *time.Time `json:"at"`
	Due     *time.Time `json:"due"`
	Moves   bool       `json:"moves"`
	Differs int64      `json:"differs"`
	Lost    bool       `json:"original_gone"`
}

func (k *keeper) transferJSON(t *custody.Transfer, show bool) transferJSON {
	j := transferJSON{ID: t.ID, Store: t.Store, Action: t.Made.Action, Scope: t.Made.Scope, Host: t.Made.Host, To: t.Made.To, Ref: t.Made.Ref.String(),
		At: optional(t.Made.At), Due: optional(t.Due), Moves: t.Moves, Differs: t.Differs, Lost: t.Lost}
	if show {
		j.Path = t.Path
	}
	return j
}

// transferRemarks says what a person should know of a transfer that is overdue.
func transferRemarks(t *custody.Transfer) string {
	s := ", not acknowledged by " + plain(t.Made.To)
	if t.Differs > 0 {
		s += ", " + count(t.Differs, "arrival") + " with other content"
	}
	if t.Lost {
		s += ", ITS ORIGINAL IS GONE"
	}
	return s
}

// acknowledge records what arrived of a transfer.
func (a *app) acknowledge(ctx context.Context, f *trackFlags, op custody.Operation, args []string) error {
	if f.batch || f.reserve || f.commit != "" || f.abandon != "" || f.To != "" || f.noHash || len(args) < 1 || len(args) > 2 {
		return usage("--acknowledge takes a path, or an action and a path, and no other way to track", "epitaph track --acknowledge 184.0 PATH")
	}
	op.Path = args[len(args)-1]
	if len(args) == 2 {
		op.Action = args[0]
		if err := a.checkAction(f.ledger, op.Action); err != nil {
			return err
		}
	}
	k, err := a.openToTrack(ctx, f)
	if err != nil {
		return err
	}
	defer k.Close()
	r, err := k.Acknowledge(ctx, f.acknowledge, op)
	if err != nil {
		return acknowledgeProblem(err)
	}
	if a.global.json {
		err = a.printJSON(trackedJSON{ID: r.ID, Seen: r.Seen.String(), Covered: r.Covered, Agrees: &r.Agrees})
	} else {
		_, err = fmt.Fprintln(a.env.Stdout, r.ID)
	}
	if err == nil && !r.Agrees {
		a.complain(differsText, differsHint)
		err = ended(StatusPartly)
	}
	return err
}

const (
	differsText = "what arrived is not what was sent: it is tracked, and the transfer stays open"
	differsHint = "have it sent again, and acknowledge once more"
)

// acknowledgeProblem puts into words why a transfer cannot be acknowledged.
func acknowledgeProblem(err error) error {
	switch {
	case errors.Is(err, custody.ErrNotTransfer):
		return usage("no transfer has this id", "an id looks like 184.0: it is printed when a file is sent, and by epitaph overdue")
	case errors.Is(err, custody.ErrAcknowledged):
		return usage("the transfer is settled already", "see what became of it: epitaph trail --action transfer_received")
	case errors.Is(err, custody.ErrOtherHost):
		return usage("the transfer goes to another host", "acknowledge it there; the name of this one is given by --host or $EPITAPH_HOST")
	default:
		return refusal(err)
	}
}
