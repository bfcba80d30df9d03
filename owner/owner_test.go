package owner_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/owner"
)

// Only a process that was seen here is called dead or alive.
func TestLife(t *testing.T) {
	t.Parallel()
	me, err := owner.Of("here", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child, err := owner.Of("here", cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if got := me.Life(child); got != owner.Alive {
		t.Errorf("a running child is %v", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	with := func(change func(*owner.Process)) owner.Process {
		o := me
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		o    owner.Process
		want owner.Life
	}{
		"itself":                       {me, owner.Alive},
		"nobody":                       {owner.Process{}, owner.Unknown},
		"a child that ended":           {child, owner.Dead},
		"a number used again":          {with(func(o *owner.Process) { o.Start-- }), owner.Dead},
		"another host":                 {with(func(o *owner.Process) { o.Host, o.Boot = "there", "other" }), owner.Unknown},
		"another namespace":            {with(func(o *owner.Process) { o.Space++ }), owner.Unknown},
		"a container of another boot":  {with(func(o *owner.Process) { o.Boot, o.Space = "other", 1 }), owner.Unknown},
		"a negative number":            {with(func(o *owner.Process) { o.PID = -1 }), owner.Unknown},
		"a number that was never used": {with(func(o *owner.Process) { o.PID = 1<<22 + 1 }), owner.Dead},
	} {
		if got := me.Life(c.o); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
	if got := (owner.Process{}).Life(me); got != owner.Unknown {
		t.Errorf("seen by nobody: got %v, want unknown", got)
	}
}

// What an entry says of a process is the process.
func TestFactsAndFrom(t *testing.T) {
	t.Parallel()
	me, err := owner.Of("here", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got := owner.From(ledger.Entry{Facts: me.Facts()}); got != me {
		t.Errorf("got %+v, want %+v", got, me)
	}
	if got := owner.From(ledger.Entry{}); got != (owner.Process{}) {
		t.Errorf("without facts: got %+v, want nobody", got)
	}
}
