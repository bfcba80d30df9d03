package ledger_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/epitaph/epitaph/ledger"
)

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(0, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestCost(t *testing.T) {
	l := open(t, "sqlite:"+filepath.Join(t.TempDir(), "l.db"))
	e := anIntent(1000)
	start, c := time.Now(), cpu()
	for i := range 100 {
		n := mustAppend(t, l, e)
		mustAppend(t, l, anOutcome(n, 1000))
		_ = i
	}
	fmt.Println("100k items: wall", time.Since(start), "cpu", cpu()-c)
	small := make([]ledger.Entry, 1000)
	for i := range small {
		small[i] = ledger.Entry{At: day.Add(time.Duration(i) * time.Second), Kind: ledger.Heartbeat, Run: "run-1234567", Rule: fmt.Sprint("rule", i%10), Facts: []ledger.Fact{ledger.Int("due", 4), ledger.Int("kept", 5), ledger.Instant("cutoff", day)}}
	}
	start, c = time.Now(), cpu()
	for range 200 {
		mustAppend(t, l, small...)
	}
	d := time.Since(start)
	fmt.Println("200k entries: wall", d, "cpu", cpu()-c, int(200000/d.Seconds()), "/s")
	start = time.Now()
	for range 1000 {
		mustAppend(t, l, small[0])
	}
	fmt.Println("lone", time.Since(start)/1000)
}
