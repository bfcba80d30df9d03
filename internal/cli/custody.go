package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"

	"github.com/epitaph/epitaph/owner"
)

// custodyFlags are those of all commands about tracked files.
type custodyFlags struct {
	ledger string
	stores []string
	shared []string
	host   string
	show   bool
}

func (f *custodyFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.ledger, "ledger", "", "use this ledger, such as sqlite:epitaph.db, and no policy (also $EPITAPH_LEDGER)")
	fl.StringArrayVar(&f.stores, "store", nil, "with --ledger, the directories in which tracked files lie: `NAME=DIR`")
	fl.StringSliceVar(&f.shared, "shared", nil, "the `STORES` of --store that are the same directory on every host")
	fl.StringVar(&f.host, "host", "", "the name by which this host is known in the ledger (also $EPITAPH_HOST)")
}

func (f *custodyFlags) addShow(cmd *cobra.Command) {
	f.add(cmd)
	cmd.Flags().BoolVar(&f.show, "show", false, "name the files by path, which is personal data")
}

// keeper is an open custody with what it stands on.
type keeper struct {
	*custody.Custody
	ledger *ledger.Ledger
	close  []func() error
	// policy is nil beside --ledger; databases are those of its stores of rows.
	policy    *policy.Policy
	databases map[string]listed
	// own are the paths that are Epitaph's and no application's, with what lies
	// beside them under their name; exact are those without.
	own, exact []string
}

func (k *keeper) Close() error {
	errs := []error{}
	for _, c := range slices.Backward(k.close) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// except reports the files of Epitaph itself: the ledger with all that lies
// beside it, the policy with what no rule may take either, and the files by which a
// store is known to be mounted, or paused.
func (k *keeper) except(path string) bool {
	return slices.Contains(k.exact, path) || slices.ContainsFunc(k.own, func(own string) bool { return strings.HasPrefix(path, own) })
}

// name is a file as it may be shown: by the id of the operation that made it, or
// a short hash where none did.
func (k *keeper) name(f custody.File) string {
	if f.ID != "" {
		return f.ID
	}
	return k.ledger.ShortHash(f.Path)
}

// openCustody opens the custody of the flag's or the policy's ledger.
func (a *app) openCustody(ctx context.Context, f *custodyFlags, write bool, with func(*custody.Options)) (*keeper, error) {
	k := &keeper{}
	o := custody.Options{Clock: a.env.Now, Who: a.who()}
	var err error
	if o.Host, err = a.hostName(f.host); err != nil {
		return nil, err
	}
	dsn, err := a.custodyStores(ctx, f, k, &o)
	if err == nil {
		err = a.custodyLedger(ctx, dsn, write, k, &o)
	}
	if err == nil && with != nil {
		with(&o)
	}
	if err == nil {
		k.Custody, err = custody.Open(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	k.close = append(k.close, k.Custody.Close)
	return k, nil
}

// hostName is the name by which this host is known to those who share a ledger.
func (a *app) hostName(flag string) (string, error) {
	name := flag
	if name == "" {
		name, _ = a.env.Lookup("EPITAPH_HOST")
	}
	if name == "" {
		return host(), nil
	}
	if strings.ContainsAny(name, "/ \t\r\n\x00") || len(name) > 128 {
		return "", usage("--host: a name of a host has no slash and no blank, and 128 bytes at most", "such as --host web1")
	}
	return name, nil
}

// custodyStores opens the stores and returns the address of the ledger.
func (a *app) custodyStores(ctx context.Context, f *custodyFlags, k *keeper, o *custody.Options) (dsn string, err error) {
	dsn = f.ledger
	if dsn == "" {
		dsn, _ = a.env.Lookup("EPITAPH_LEDGER")
	}
	if dsn == "" {
		if len(f.stores) > 0 {
			return "", usage("--store is for use with --ledger", "the stores of a policy are those it names")
		}
		if len(f.shared) > 0 {
			return "", usage("--shared is for use with --ledger and --store", "in a policy: stores: NAME: {files: DIR, shared: true}")
		}
		return a.policyStores(ctx, k, o)
	}
	if !strings.Contains(dsn, ":") {
		dsn = "sqlite:" + dsn
	}
	for _, s := range f.stores {
		name, dir, ok := strings.Cut(s, "=")
		if !ok || name == "" || dir == "" || ledger.SafeCode(name) != name || strings.ContainsAny(name, ":/") {
			return "", usage("--store takes NAME=DIR, with a name of letters and digits", "such as --store work=/srv/work")
		}
		if slices.ContainsFunc(o.Stores, func(s custody.Store) bool { return s.Name == name }) {
			return "", usage(fmt.Sprintf("--store %s is given twice", name), "name each store once")
		}
		c, err := files.Open(dir, files.Options{})
		if err != nil {
			return "", usage("--store "+name+": the directory cannot be used as a root", "give the path of a directory")
		}
		k.close = append(k.close, c.Close)
		o.Stores = append(o.Stores, custody.Store{Name: name, Root: dir, Connector: c, Shared: slices.Contains(f.shared, name)})
	}
	for _, name := range f.shared {
		if !slices.ContainsFunc(o.Stores, func(s custody.Store) bool { return s.Name == name }) {
			return "", usage(fmt.Sprintf("--shared: no --store is called %q", name), "give it as --store "+name+"=DIR")
		}
	}
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		o.Paused = a.pausedStore(func(name string) []string { return []string{pauseBeside(path, ""), pauseBeside(path, name)} })
	}
	return dsn, nil
}

func (a *app) policyStores(ctx context.Context, k *keeper, o *custody.Options) (dsn string, err error) {
	pol, err := a.loadPolicy()
	if err != nil {
		return "", err
	}
	st, err := openStores(ctx, pol, false)
	if err != nil {
		return "", err
	}
	k.close = append(k.close, st.Close)
	k.policy, k.databases, o.Actions = pol, map[string]listed{}, pol.Custody.Actions
	o.MostUntracked, o.ClockJump = pol.Limits.Items, pol.Limits.ClockJump
	o.Paused = a.pausedStore(func(name string) []string {
		s, ok := pol.Store(name)
		if !ok {
			return nil
		}
		return pauseFiles(pol, s)
	})
	for _, path := range ownFiles(pol) {
		k.exact = append(k.exact, walked(path)...)
	}
	for i := range pol.Stores {
		s := &pol.Stores[i]
		for _, path := range pauseFiles(pol, s) {
			k.exact = append(k.exact, walked(path)...)
		}
		switch s.Kind {
		case policy.Files:
			if s.Marker != "" {
				k.exact = append(k.exact, walked(filepath.Join(pol.Resolve(s.Target), s.Marker))...)
			}
			o.Stores = append(o.Stores, custody.Store{Name: s.Name, Root: pol.Resolve(s.Target), Connector: st.byName[s.Name], Shared: s.Shared})
		case policy.Objects:
			content, _ := st.byName[s.Name].(custody.Content)
			o.Stores = append(o.Stores, custody.Store{Name: s.Name, Connector: st.byName[s.Name], Content: content})
		case policy.Rows:
			k.databases[s.Name], _ = st.byName[s.Name].(listed)
		}
	}
	k.keepOff(pol.Path)
	dsn = pol.Ledger
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		dsn = "sqlite:" + pol.Resolve(path)
	} else {
		o.Cache = pol.Resolve(".epitaph.custody")
	}
	return dsn, nil
}

func (a *app) custodyLedger(ctx context.Context, dsn string, write bool, k *keeper, o *custody.Options) error {
	if o.Host == "" {
		var err error
		if o.Host, err = a.hostName(""); err != nil {
			return err
		}
	}
	l, err := a.openLedgerAt(ctx, dsn, write)
	if err != nil {
		return err
	}
	k.ledger, o.Ledger = l, l
	k.close = append(k.close, l.Close)
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		path = strings.TrimPrefix(path, "//")
		o.Cache, o.OneHost = path+".custody", true
		k.keepOff(path)
	} else if o.Cache == "" {
		o.Cache = ".epitaph.custody"
	}
	k.keepOff(o.Cache)
	log, err := a.openLog()
	if log != nil {
		k.close = append(k.close, log.close)
		o.Observe = log.event
	}
	return err
}

// keepOff makes a file one of Epitaph's own, under the name by which a walk
// meets it.
func (k *keeper) keepOff(path string) { k.own = append(k.own, walked(path)...) }

// walked is a path as a walk of its directory meets it.
func walked(path string) []string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(dir, filepath.Base(abs))
	}
	return []string{abs}
}

// checkTracked refuses names of stores that are not stores of files here.
func (k *keeper) checkTracked(o *custody.Options, names []string) error {
	var known []string
	for _, s := range o.Stores {
		if s.Root != "" {
			known = append(known, s.Name)
		}
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return usage(fmt.Sprintf("--tracked: there is no store of files called %q", n), nearestHint(n, known, "", "the stores of files are: "+strings.Join(known, ", ")))
		}
	}
	return nil
}

// parseAhead reads an instant, or a span that is counted from now.
func parseAhead(flag, s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(d), nil
	}
	if p, err := policy.ParsePeriod(s); err == nil {
		return p.After(now), nil
	}
	t, err := parseInstant(flag, s)
	if err != nil {
		return t, usage(fmt.Sprintf("%s: %q is neither an instant nor a span", flag, s), "write it as 2h, 7d, or 2027-01-31T12:00:00Z")
	}
	return t, nil
}

// parseSpan reads a length of time. now is where calendar spans count back from.
func parseSpan(flag, s string, now time.Time) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return d, nil
	}
	if p, err := policy.ParsePeriod(s); err == nil {
		return now.Sub(p.Before(now)), nil
	}
	return 0, usage(fmt.Sprintf("%s: %q is no length of time", flag, s), "write it as 30m, 4h or 7d")
}

// host and pid of whoever started this command, who answers for what it tracks.
func caller(pid int) (owner.Process, error) {
	if pid == 0 {
		pid = os.Getppid()
	}
	return owner.Of(host(), pid)
}
