package daemon

import (
	"context"
	"time"
)

// loop is the one goroutine that decides. gentle ends with it.
func (d *watch) loop(ctx, gentle context.Context, stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for force := false; !over(ctx, stop); {
		d.tick(ctx, gentle, stop, force)
		force = false
		timer.Reset(d.wait())
		select {
		case <-stop:
		case <-ctx.Done():
		case r := <-d.done:
			d.settle(r)
		case <-d.c.Reload:
			force = true
		case <-timer.C:
		}
	}
}

func over(ctx context.Context, stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// tick looks at the clock and the policy, and begins what is due.
func (d *watch) tick(ctx, gentle context.Context, stop <-chan struct{}, force bool) {
	now := d.now()
	d.watchClock(now)
	d.reload(force)
	d.plan(ctx, now)
	for a := range acts {
		t := &d.tasks[a]
		if t.running || t.next.IsZero() || now.Before(t.next) || !d.may(a) {
			continue
		}
		t.running, t.began, t.slow = true, now, false
		within := gentle
		if a == Purge || a == Sign { // which end by themselves: after the batch, or soon
			within = ctx
		}
		go func() { d.done <- done{a, d.do(within, a, stop)} }()
	}
	d.watchActs(now)
	d.tell(now)
}

// watchActs notices what is at work for longer than there is time for: what hangs,
// or is paused, must not look like what has nothing to do.
func (d *watch) watchActs(now time.Time) {
	for a := range acts {
		t := &d.tasks[a]
		if leave := d.leave(a); t.running && !t.slow && leave > 0 && now.Sub(t.began) >= leave {
			t.slow = true
			d.say(actLate(a, now.Sub(t.began)))
		}
	}
}

// leave is the time there is for an act: for a purge what lies between two times of
// the schedule, at the least an hour.
func (d *watch) leave(a Act) time.Duration {
	leave := d.terms.every(a)
	if a == Purge && d.terms.Schedule != nil {
		if next := d.terms.Schedule.Next(d.tasks[a].began); !next.IsZero() {
			leave = d.terms.Schedule.Next(next).Sub(next)
		}
	}
	return max(leave, time.Hour)
}

// do does an act. What is soon done is given up when it is not: a server that does
// not answer must not end the checkpoints in silence.
func (d *watch) do(ctx context.Context, a Act, stop <-chan struct{}) Result {
	if a == Sign || a == Check {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longest)
		defer cancel()
	}
	return d.c.Work.Do(ctx, a, stop)
}

// may reports whether an act may be begun as things are. A checkpoint disposes of
// nothing: it is signed also while the policy cannot be read.
func (d *watch) may(a Act) bool {
	switch {
	case a == Check:
		return d.refused != ""
	case d.refused != "":
		return false
	default:
		return a == Sign || !d.broken
	}
}

// wait is how long nothing needs to be looked at.
func (d *watch) wait() time.Duration {
	now := d.now()
	least := d.c.Tick
	for a := range acts {
		if t := &d.tasks[a]; !t.running && !t.next.IsZero() && d.may(a) {
			least = min(least, t.next.Sub(now))
		}
	}
	return max(least, 0)
}

// watchClock notices a clock that was set, or that went on while the machine
// slept. What was planned for a time that is now far ahead is planned anew.
func (d *watch) watchClock(now time.Time) {
	steady := time.Now()
	off := now.Sub(d.wall) - steady.Sub(d.steady)
	d.wall, d.steady = now, steady
	if off.Abs() < jump {
		return
	}
	d.say(clockJumped(off))
	for a := range acts {
		if t := &d.tasks[a]; a != Purge && t.next.Sub(now) > max(d.terms.every(a), lastRetry) {
			t.next = now
		}
	}
	d.ended, d.since = earlier(d.ended, now), earlier(d.since, now)
	d.replan()
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// replan forgets when the next purge is due.
func (d *watch) replan() {
	if t := &d.tasks[Purge]; !t.running {
		*t = task{}
	}
}

// reload takes over a policy that has changed. One that cannot be used stops
// everything that disposes of anything, until it is mended.
func (d *watch) reload(force bool) {
	t, changed, err := d.c.Work.Reload(force)
	switch {
	case err != nil:
		if changed || !d.broken {
			d.say(policyBroken(err))
		}
		d.broken = true
		return
	case !changed && !d.broken:
		d.terms.Key = t.Key // which is made without a word in the policy
		return
	}
	old := d.terms
	d.broken, d.terms, d.health.Policy = false, t, t.Policy
	d.say(policyLoaded(&t))
	for a := Sign; a < acts; a++ {
		if a != Purge && old.every(a) != t.every(a) {
			d.arm(a, d.now())
		}
	}
	d.spoken = false
	d.replan()
}

// patience bounds the question of when the last run was.
const patience = 30 * time.Second

// plan finds out when the next purge is due, unless that is known: the first time
// of the schedule after the last run, whoever made that. One that was missed is
// due now.
func (d *watch) plan(ctx context.Context, now time.Time) {
	t := &d.tasks[Purge]
	if t.running || !d.may(Purge) || !t.next.IsZero() && now.Before(t.next) {
		return
	}
	var next time.Time
	if d.terms.Schedule != nil {
		ctx, cancel := context.WithTimeout(ctx, patience)
		last, err := d.c.Work.LastRun(ctx)
		cancel()
		if err != nil {
			d.refuse(Unopened, err, now)
			return
		}
		base := d.since
		if !last.IsZero() && !last.After(now) { // one of the future is of a clock that was wrong
			base = last
		}
		if d.ended.After(base) {
			base = d.ended
		}
		next = d.terms.Schedule.Next(base)
	}
	if next.IsZero() || now.Before(next) { // also when another run has done it meanwhile
		t.retry, t.failures = false, 0
	}
	// What is a tick late was not missed.
	t.next, t.late = next, !next.IsZero() && !t.retry && now.Sub(next) > d.c.Tick+jump
	d.health.NextRun = next
	if !d.spoken || !next.Equal(d.told) {
		d.spoken, d.told = true, next
		d.say(nextRun(next, t.late))
	}
}

// settle takes in what came of an act, says it, and sets when it is done next.
func (d *watch) settle(r done) {
	now := d.now()
	t := &d.tasks[r.act]
	took := now.Sub(t.began)
	t.running, t.slow = false, false
	d.failed[r.act] = r.Status != 0
	switch r.act {
	case Check:
		d.checked(&r.Result, now)
	case Purge:
		d.purged(t, &r.Result, now, took)
	case Sign:
		d.signed(t, &r.Result, now)
	case Cleanup:
		d.say(cleanupEnded(&r.Result))
	case Sweep:
		d.say(sweepEnded(&r.Result))
	case Prune:
		if !r.Idle {
			d.say(pruned(&r.Result))
		}
	}
	if every := d.terms.every(r.act); every > 0 && r.act != Sign {
		t.next = now.Add(every)
	}
	if r.Refusal != "" && r.act != Check {
		t.next = now // as soon as the ledger may be written to again
		d.refuse(r.Refusal, r.Err, now)
	}
	d.tell(now)
}

func (d *watch) purged(t *task, r *Result, now time.Time, took time.Duration) {
	if r.Busy {
		t.failures++
		t.retry, t.next = true, now.Add(backOff(firstRetry, t.failures))
		d.failed[Purge] = t.failures >= manyRetries // until then somebody else does it
		d.say(runPostponed(t.next, d.failed[Purge]))
		return
	}
	d.health.LastRun, d.health.LastStatus, d.health.LastID = now, r.Status, r.Run
	d.say(runEnded(r, t.late, took))
	if r.Refusal == "" {
		d.ended = now
	}
	*t = task{}
}

func (d *watch) signed(t *task, r *Result, now time.Time) {
	if r.Status == 0 {
		t.failures, t.next = 0, now.Add(d.terms.Sign)
		if d.terms.Sign == 0 {
			t.next = time.Time{}
		}
		if !r.Idle {
			d.health.Checkpoint, d.health.CheckpointAt = r.Size, now
			d.say(checkpointSigned(r))
		}
		return
	}
	if r.Refusal != "" {
		return // which is said instead
	}
	t.failures++
	t.next = now.Add(backOff(d.retry(), t.failures))
	d.say(checkpointFailed(r, t.failures, t.next))
}

// checked takes in whether the ledger may be written to.
func (d *watch) checked(r *Result, now time.Time) {
	if r.Status != 0 {
		refusal := r.Refusal
		if refusal == "" {
			refusal = Unopened
		}
		d.refuse(refusal, r.Err, now)
		return
	}
	d.tasks[Check] = task{}
	if d.refused == "" {
		return
	}
	d.refused = ""
	d.say(ledgerAccepted())
	for a := Sign; a < acts; a++ {
		if a != Purge && !d.tasks[a].running {
			d.arm(a, now)
		}
	}
	d.replan()
}

// refuse stops all writing to the ledger, and has it checked again.
func (d *watch) refuse(why Refusal, err error, now time.Time) {
	t := &d.tasks[Check]
	if t.running {
		return // it will say
	}
	d.refused = why
	t.failures++
	t.next = now.Add(backOff(d.retry(), t.failures))
	d.say(ledgerRefused(why, err, t.next))
}

// retry is how long to wait after the first failure of what is done often.
func (d *watch) retry() time.Duration {
	if d.terms.Sign > 0 {
		return min(d.terms.Sign, firstRetry)
	}
	return firstRetry
}

// backOff doubles with each failure after the first.
func backOff(first time.Duration, failures int) time.Duration {
	return min(first<<min(failures-1, 20), lastRetry)
}

// end waits for what is under way, signs what it wrote, and says that the service
// is no more.
func (d *watch) end(ctx context.Context, stop <-chan struct{}) {
	d.tell(d.now())
	beat := time.NewTicker(d.c.Tick)
	defer beat.Stop()
	for d.busy() {
		select {
		case r := <-d.done:
			d.settle(r)
		case <-beat.C:
			d.watchActs(d.now())
			d.tell(d.now())
		}
	}
	if d.terms.Sign > 0 && d.may(Sign) {
		ctx, cancel := context.WithTimeout(ctx, lastSign)
		d.settle(done{Sign, d.c.Work.Do(ctx, Sign, stop)})
		cancel()
	}
	d.health.Stopped = true
	d.say(serviceStopped(d.now().Sub(d.started)))
	d.tell(d.now())
}

func (d *watch) busy() bool {
	for a := range acts {
		if d.tasks[a].running {
			return true
		}
	}
	return false
}
