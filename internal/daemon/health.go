package daemon

import "time"

// Alarm is something that a person must mend.
type Alarm string

// The alarms.
const (
	PolicyAlarm     Alarm = "policy"     // it cannot be read; nothing is disposed of
	LedgerAlarm     Alarm = "ledger"     // it may not be written to; nothing is done
	RunAlarm        Alarm = "run"        // the last one ended with a status other than 0, or another is in its way for long
	CheckpointAlarm Alarm = "checkpoint" // the last one is not signed, or not everywhere
	CleanupAlarm    Alarm = "cleanup"    // the last one left something
	SweepAlarm      Alarm = "sweep"      // the last one left something
	PruneAlarm      Alarm = "prune"      // the last one failed
	KeyAlarm        Alarm = "key"        // there is none: nothing is signed
	LateAlarm       Alarm = "late"       // an act is at work for longer than there is time for
)

// Health is how things are. Like an event it holds nothing of a person.
type Health struct {
	Started, At time.Time
	Policy      string    // the hash of the policy, in hex
	NextRun     time.Time // zero: none is planned
	// LastRun is when the last run of this daemon ended, with which status and id;
	// zero: it has made none.
	LastRun    time.Time
	LastStatus int
	LastID     string
	// Checkpoint is the size of the last one that this daemon signed, and when.
	Checkpoint   int64
	CheckpointAt time.Time
	// Running are the acts that are being done.
	Running []string
	Alarms  []Alarm
	Stopped bool
}

// tell passes on how things are.
func (d *watch) tell(now time.Time) {
	if d.c.Tell == nil {
		return
	}
	h := d.health
	h.At, h.Running, h.Alarms = now, []string{}, []Alarm{}
	late := false
	for a := range acts {
		late = late || d.tasks[a].slow
		if d.tasks[a].running {
			h.Running = append(h.Running, a.String())
		}
	}
	for _, x := range []struct {
		on    bool
		alarm Alarm
	}{
		{d.broken, PolicyAlarm}, {d.refused != "", LedgerAlarm}, {d.failed[Purge], RunAlarm}, {d.failed[Sign], CheckpointAlarm},
		{d.failed[Cleanup], CleanupAlarm}, {d.failed[Sweep], SweepAlarm}, {d.failed[Prune], PruneAlarm}, {!d.terms.Key, KeyAlarm}, {late, LateAlarm},
	} {
		if x.on {
			h.Alarms = append(h.Alarms, x.alarm)
		}
	}
	d.c.Tell(h)
}

// String is the act's name in the events and in the state.
func (a Act) String() string {
	return [acts]string{"check", "purge", "checkpoint", "cleanup", "sweep", "prune"}[a]
}
