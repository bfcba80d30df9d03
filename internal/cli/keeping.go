package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
	"github.com/epitaph/epitaph/proof"
)

// keeping is a ledger's address with all that vouches for it: its key, who
// else is trusted, and where its checkpoints are kept.
type keeping struct {
	dsn string
	// keyPath is the key file, "" where none is known by default.
	keyPath string
	// besidePath is the file in which the newest checkpoint is always kept.
	besidePath string
	keys       *proof.Keys // nil: no key yet
	trust      proof.Trust
	pins       []ledger.Pin
	pinNames   []string // for people: "file", "object", …
	witnesses  []ledger.Witness
	retain     policy.Period
	clockJump  policy.Period // zero: the default
	// out takes what the pin "stdout" prints, until the result was printed.
	out *bytes.Buffer
}

// keepingOf finds what belongs to the policy's ledger.
func (a *app) keepingOf(ctx context.Context, pol *policy.Policy) (*keeping, error) {
	k := keepingFiles(pol)
	k.retain, k.clockJump = pol.LedgerOptions.Retain, pol.Limits.ClockJump
	if err := k.addWitnesses(pol); err != nil {
		return nil, err
	}
	if err := k.addPins(ctx, pol); err != nil {
		return nil, err
	}
	return k, nil
}

// keepingAt finds what belongs to a ledger that is named without a policy.
func keepingAt(dsn string) *keeping {
	k := keepingBeside(dsn)
	k.retain = policy.DefaultLedgerRetain()
	if k.besidePath != "" {
		k.pin(ledger.FilePin(k.besidePath))
	}
	return k
}

// keepingFiles knows where the policy keeps its ledger, key and checkpoint.
func keepingFiles(pol *policy.Policy) *keeping {
	dsn := pol.Ledger
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		dsn = "sqlite:" + pol.Resolve(path)
	}
	k := keepingBeside(dsn)
	if k.besidePath == "" {
		base := strings.TrimSuffix(pol.Path, filepath.Ext(pol.Path))
		k.keyPath, k.besidePath = base+".key", base+".checkpoint"
	}
	if pol.LedgerOptions.Key != "" {
		k.keyPath = pol.Resolve(pol.LedgerOptions.Key)
	}
	return k
}

// keepingBeside knows the names of the files beside a SQLite ledger.
func keepingBeside(dsn string) *keeping {
	k := &keeping{dsn: dsn, out: &bytes.Buffer{}}
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		base := strings.TrimSuffix(path, ".db")
		k.keyPath, k.besidePath = base+".key", base+".checkpoint"
	}
	return k
}

// pin adds a pin. Of several of one kind each has its number, in the order of the
// policy: "file" is the one beside the ledger, "file 2" the first that is named.
func (k *keeping) pin(p ledger.Pin) {
	name, n := p.Name(), 1
	for _, o := range k.pins {
		if kind, _, _ := strings.Cut(o.Name(), " "); kind == name {
			n++
		}
	}
	if n > 1 {
		p = ledger.NamedPin(fmt.Sprintf("%s %d", name, n), p)
	}
	k.pins = append(k.pins, p)
	k.pinNames = append(k.pinNames, p.Name())
}

func (k *keeping) addPins(ctx context.Context, pol *policy.Policy) error {
	k.pin(ledger.FilePin(k.besidePath))
	for _, p := range pol.Checkpoints.Pins {
		kind, rest, _ := strings.Cut(p, ":")
		switch kind {
		case "file":
			k.pin(ledger.FilePin(pol.Resolve(rest)))
		case "stdout":
			k.pin(ledger.WriterPin(k.out))
		case "object":
			name, key, _ := strings.Cut(rest, "/")
			notes, err := openNotes(ctx, pol, name)
			if err != nil {
				return err
			}
			k.pin(ledger.ObjectPin(notes, key))
		default:
			k.pin(ledger.WebhookPin(p, webClient()))
		}
	}
	return nil
}

// webClient follows no redirect: a checkpoint goes where the policy says.
func webClient() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func openNotes(ctx context.Context, pol *policy.Policy, store string) (*objects.Notes, error) {
	s, ok := pol.Store(store)
	if !ok {
		return nil, usage("checkpoints: there is no store " + store)
	}
	at := fmt.Sprintf("%s:%d:%d: store %s", pol.Path, s.Pos.Line, s.Pos.Column, s.Name)
	o, err := objects.ParseOptions(s.Options)
	if err != nil {
		return nil, usage(at+": "+err.Error(), "the settings of an object store are "+strings.Join(objects.OptionNames(), ", "))
	}
	notes, err := objects.OpenNotes(ctx, s.Target, o)
	if err != nil {
		return nil, usage(at+": checkpoints cannot be kept in it", "give the URL of one bucket, objects: s3://BUCKET, and a profile that exists")
	}
	return notes, nil
}

func (k *keeping) addWitnesses(pol *policy.Policy) error {
	k.trust.Quorum = pol.Checkpoints.Quorum
	for _, w := range pol.Checkpoints.Witnesses {
		key, err := proof.ParseKey(w.Key)
		if err == nil && !key.Witness {
			err = errors.New("this is the key of a log, not of a witness")
		}
		if err != nil {
			return usage(fmt.Sprintf("%s:%d:%d: witness: %v", pol.Path, w.Pos.Line, w.Pos.Column, err), "ask the witness for its verifier key, of the cosignature type")
		}
		k.trust.Witnesses = append(k.trust.Witnesses, key)
		k.witnesses = append(k.witnesses, ledger.Witness{URL: w.URL, Key: key, Client: webClient()})
	}
	return nil
}

// readKeys reads the key file where there is one.
func (k *keeping) readKeys() error {
	if k.keyPath == "" {
		return nil
	}
	keys, err := proof.ReadKeys(k.keyPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return usage("cannot read the ledger's key "+k.keyPath+": permission denied", "the user who purges needs it; it stays 0600")
	case err != nil:
		return usage(fmt.Sprintf("the ledger's key %s cannot be used: %v", k.keyPath, keyFault(err)), "chmod 600 "+k.keyPath+", or put it back from a backup")
	}
	k.keys, k.trust.Logs = keys, keys.Trust().Logs
	return nil
}

// keyFault leaves out a path that an error of the operating system repeats.
func keyFault(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return cause(err)
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "read key file: "), "key file: ")
}

// access is what a command needs of a ledger.
type access int

const (
	readOnly     access = iota
	appendOnly          // append, or be refused; without the key, which an application need not have
	write               // append and sign, or be refused
	rotate              // the same, also with a key of which the rotation was cut short
	writeDespite        // settle why it refuses
)

// openKept opens a ledger with what vouches for it. A ledger that is behind or
// beside what was pinned is refused, unless the command is there to settle it.
func (a *app) openKept(ctx context.Context, k *keeping, how access) (*ledger.Ledger, error) {
	c := ledger.Config{Clock: a.env.Now}
	if how == readOnly {
		l, err := ledger.OpenReadOnly(ctx, k.dsn, c)
		if err != nil {
			return nil, &unopened{cannotOpen(err, true), err}
		}
		return l, nil
	}
	if how != appendOnly {
		if err := k.readKeys(); err != nil {
			return nil, err
		}
	}
	c.Pins, c.Trust = k.pins, k.trust
	l, err := ledger.Open(ctx, k.dsn, c)
	if errors.Is(err, ledger.ErrAltered) || errors.Is(err, ledger.ErrBehind) {
		return nil, err
	}
	if err != nil {
		return nil, cannotOpen(err, false)
	}
	if err := l.Refusal(); err != nil && how != writeDespite {
		return nil, errors.Join(refused(err), l.Close())
	}
	if k.keys != nil && k.keys.Signer.Key().Name != l.Name() {
		return nil, errors.Join(usage("the key "+k.keyPath+" is that of another ledger; nothing was done", "move it away and make one: epitaph key new"), l.Close())
	}
	if k.keys != nil && how != rotate {
		by, err := l.Replaced(ctx, k.keys.Signer.Key())
		if err == nil && by != "" {
			err = replaced(k)
		}
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// cannotOpen says why a ledger could not be opened, and what to type. One that is
// to be written to is made where there is none; its folder or database is not.
func cannotOpen(err error, toRead bool) *problem {
	why, hint := cause(err), "without a ledger nothing is done; see the line ledger: in the policy, and who may write there"
	var state interface{ SQLState() string } // of PostgreSQL
	code := ""
	if errors.As(err, &state) {
		code = state.SQLState()
	}
	const making = "epitaph init makes one, and so does the first purge or epitaph track; or mend the line ledger: in the policy"
	switch {
	case code == "3D000":
		hint = "make it (createdb), or mend the line ledger: in the policy; the tables in it are made by epitaph init, key new and purge"
	case code == "42P01" || code == "3F000": // no table, no schema
		why, hint = "there is none in this database", making
	case errors.Is(err, fs.ErrNotExist) && toRead:
		hint = making
	case errors.Is(err, fs.ErrNotExist):
		why, hint = "its folder does not exist", "make it, or mend the line ledger: in the policy"
	case toRead:
		hint = "is it a ledger, and may this user read it? See the line ledger: in the policy"
	}
	return usage("cannot open the ledger: "+why, hint)
}

// unopened is the problem of a ledger that cannot be read or signed, with its cause.
type unopened struct {
	*problem
	cause error
}

func (u *unopened) Unwrap() []error { return []error{u.problem, u.cause} }

// refused says why nothing may be written.
func refused(err error) error {
	if errors.Is(err, ledger.ErrAltered) || errors.Is(err, ledger.ErrBehind) {
		return err
	}
	text := "a checkpoint that was pinned cannot be read, so the ledger cannot be compared with it"
	if errors.Is(err, proof.ErrUntrusted) || errors.Is(err, proof.ErrExpired) {
		text = "a checkpoint that was pinned is not signed by the ledger's key"
	}
	return &problem{StatusLedger, text, []string{"is its place reachable, and the key the ledger's own? see: epitaph verify ledger"}}
}

// makeKey makes the key of a ledger that has none. retired are the public keys
// of one that was lost: without them a ledger that was signed before would go
// on under a key that contradicts it.
func (a *app) makeKey(ctx context.Context, k *keeping, l *ledger.Ledger, retired []proof.TrustedKey) error {
	if k.keyPath == "" {
		return usage("there is no place for the key of this ledger", "name the policy: --policy FILE")
	}
	if k.keys != nil {
		return nil
	}
	notes, err := l.Checkpoints(ctx)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	if len(notes) > 0 && len(retired) == 0 {
		return usage("the ledger was signed before, by a key that is not here", "put its file in place as "+k.keyPath+"; if it is lost: epitaph key new --retired FILE, with what epitaph key show printed")
	}
	signer, err := proof.NewSigner(l.Name(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	now := a.env.Now().UTC().Truncate(time.Second)
	keys := &proof.Keys{Signer: signer, Since: now}
	for _, r := range retired {
		if r.Name != l.Name() {
			return usage("a retired key is that of another ledger", "give what epitaph key show printed for this one")
		}
		if r.Until.IsZero() {
			r.Until = now
		}
		keys.Retired = append(keys.Retired, r)
	}
	if err := keys.Create(k.keyPath); err != nil {
		return usage(fmt.Sprintf("cannot write the ledger's key %s: %s", k.keyPath, cause(err)), "name another place in the policy, ledger: {at: …, key: FILE}")
	}
	return k.readKeys()
}

// signing is what a checkpoint needs.
func (k *keeping) signing() ledger.Signing {
	return ledger.Signing{Signers: []*proof.Signer{k.keys.Signer}, Trust: k.trust, Witnesses: k.witnesses, Pins: k.pins}
}

// signed is a checkpoint that was made, and what went wrong with keeping it.
type signed struct {
	proof.Signed
	pins []string
	// failed says which pins and witnesses did not take it.
	failed error
}

// checkpoint signs the ledger as it is and keeps the checkpoint. It is nil when
// there is no key, or nothing to sign.
func (a *app) checkpoint(ctx context.Context, k *keeping, l *ledger.Ledger) (*signed, error) {
	if k.keys == nil {
		return nil, nil
	}
	s, err := l.Checkpoint(ctx, k.signing())
	if s.Note != nil && errors.Is(err, ledger.ErrBehind) { // another process pinned a longer ledger meanwhile
		s, err = l.Checkpoint(ctx, k.signing())
	}
	if errors.Is(err, ledger.ErrEmpty) {
		return nil, nil
	}
	if s.Note == nil {
		return nil, unsigned(err)
	}
	return &signed{s, k.pinNames, err}, nil
}

// unsigned is the problem of a ledger that was written to, and then could not be
// signed.
func unsigned(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, ledger.ErrAltered), errors.Is(err, ledger.ErrBehind):
		return &unopened{&problem{StatusLedger, "what was done is on record, but the ledger no longer agrees with an earlier checkpoint, and was not signed",
			[]string{"keep it as it is and find out what happened; the place is named by: epitaph verify ledger"}}, err}
	case errors.Is(err, ledger.ErrRetired):
		return &problem{StatusPartly, "what was done is on record, but the ledger was not signed: its key was replaced by another meanwhile",
			[]string{"copy the key file from where it was replaced, then: epitaph ledger checkpoint"}}
	default:
		return &problem{StatusPartly, "what was done is on record, but the ledger was not signed: " + pinFaults(err), []string{"epitaph ledger checkpoint tries again"}}
	}
}

// afterwards is for commands that write to the ledger: they end with a
// checkpoint, as a run does. Its failure is a problem of its own.
func (a *app) afterwards(ctx context.Context, k *keeping, l *ledger.Ledger) error {
	s, err := a.checkpoint(ctx, k, l)
	if err != nil {
		return err
	}
	if err := a.flushNote(k); err != nil {
		return err
	}
	return a.complainPins(s)
}

// flushNote prints what the pin stdout has, after the result. With --json the
// result itself has it.
func (a *app) flushNote(k *keeping) error {
	defer k.out.Reset()
	if a.global.json {
		return nil
	}
	_, err := a.env.Stdout.Write(k.out.Bytes())
	return err
}

// complainPins says that a checkpoint is not everywhere where it should be.
func (a *app) complainPins(s *signed) error {
	if s == nil || s.failed == nil {
		return nil
	}
	a.complain("the checkpoint is signed, but not kept everywhere: "+pinFaults(s.failed), "epitaph ledger checkpoint tries again")
	return ended(StatusPartly)
}

// pinFaults names the pins and witnesses that failed, and why in safe words.
func pinFaults(err error) string {
	var all []string
	var each func(error)
	each = func(err error) {
		if list, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range list.Unwrap() {
				each(e)
			}
			return
		}
		name, _, _ := strings.Cut(err.Error(), ":")
		if len(name) > 100 {
			name = name[:100]
		}
		all = append(all, name+" ("+pinCause(err)+")")
	}
	each(err)
	return strings.Join(all, ", ")
}

func pinCause(err error) string {
	switch {
	case errors.Is(err, ledger.ErrBehind):
		return "it has a longer ledger"
	case errors.Is(err, ledger.ErrAltered):
		return "it has another ledger"
	case os.IsTimeout(err):
		return "it took too long"
	}
	for _, text := range []string{"the answer was ", "its answer ", "it refused"} { // our own words: no address in them
		if _, after, ok := strings.Cut(err.Error(), text); ok && len(after) < 80 {
			return text + after
		}
	}
	return cause(err)
}
