package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/files"
	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/ledger"
	"github.com/epitaph/epitaph/policy"
)

// stores are the open stores of a policy.
type stores struct {
	byName map[string]connector.Connector
	// replicas are the copies of stores that the policy tells to wait for.
	replicas map[string]*rows.Replica
	close    []func() error
}

func (s *stores) Close() error {
	var errs []error
	for _, c := range s.close {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// openStores opens every store of the policy; with lookOnly they cannot delete
// by any path. A store that is down opens all the same: what lies in it is
// unknown. What cannot be a store is a problem.
func openStores(ctx context.Context, pol *policy.Policy, lookOnly bool) (*stores, error) {
	all := &stores{byName: map[string]connector.Connector{}, replicas: map[string]*rows.Replica{}}
	for i := range pol.Stores {
		s := &pol.Stores[i]
		c, closer, err := open(ctx, pol, s, lookOnly)
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all.byName[s.Name] = c
		all.close = append(all.close, closer)
		if err := all.openReplica(pol, s, c); err != nil {
			return nil, errors.Join(err, all.Close())
		}
	}
	return all, nil
}

// openReplica opens the copy of a database that is to be waited for.
func (s *stores) openReplica(pol *policy.Policy, of *policy.Store, c connector.Connector) error {
	db, ok := c.(*rows.Connector)
	if !ok || of.Pace.Replica == "" {
		return nil
	}
	r, err := db.Replica(of.Pace.Replica)
	if err != nil {
		return usage(fmt.Sprintf("%s:%d:%d: store %s: the address of its replica cannot be used", pol.Path, of.Pos.Line, of.Pos.Column, of.Name), // its text may hold the password
			"give the address of a copy of the same kind, PostgreSQL, MySQL or MariaDB; SQLite has none")
	}
	s.replicas[of.Name] = r
	s.close = append(s.close, r.Close)
	return nil
}

func open(ctx context.Context, pol *policy.Policy, s *policy.Store, lookOnly bool) (connector.Connector, func() error, error) {
	at := fmt.Sprintf("%s:%d:%d: store %s", pol.Path, s.Pos.Line, s.Pos.Column, s.Name)
	switch s.Kind {
	case policy.Files:
		c, err := files.Open(pol.Resolve(s.Target), files.Options{Mount: s.Mount, Marker: s.Marker, CrossMounts: s.CrossMounts, Own: ownFiles(pol)})
		if err != nil {
			return nil, nil, usage(at+": the directory cannot be used as a root", "give the path of a directory: files: /app/data")
		}
		return c, c.Close, nil
	case policy.Rows:
		c, err := rows.Open(ctx, databaseBeside(pol, s.Target), rows.Options{ReadOnly: lookOnly})
		if err != nil {
			return nil, nil, usage(at+": "+err.Error(), // which never repeats the address
				`write it as "postgres://user:password@host:5432/name", "mysql://user:password@host:3306/name" or "sqlite:path/to/app.db"; in a user or password write @ as %40, / as %2F, : as %3A, # as %23, ? as %3F, % as %25`)
		}
		return c, c.Close, nil
	case policy.Objects:
		o, err := objects.ParseOptions(s.Options)
		if err != nil {
			return nil, nil, usage(at+": "+err.Error(), "the settings of an object store are "+strings.Join(objects.OptionNames(), ", "))
		}
		o.ReadOnly = lookOnly
		c, err := objects.Open(ctx, s.Target, o)
		if err != nil {
			return nil, nil, usage(at+": the object store cannot be opened", "give the URL of a bucket, objects: s3://BUCKET, and a profile that exists")
		}
		return c, c.Close, nil
	default:
		return nil, nil, usage(fmt.Sprintf("%s: this version cannot open %s", at, s.Kind), "stores of rows, files and objects can be opened")
	}
}

// ownFiles are the files that no rule may take: the policy with its variables,
// the ledger with its key and checkpoints, and the databases of the stores.
func ownFiles(pol *policy.Policy) []string {
	own := []string{pol.Path, pol.Resolve(".env")}
	database := func(path string) {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			own = append(own, path+suffix)
		}
	}
	if path, ok := strings.CutPrefix(pol.Ledger, "sqlite:"); ok {
		path = pol.Resolve(path)
		database(path)
		database(path + ".custody")
		own = append(own, path+".lock", path+".lease.purge")
	}
	own = append(own, serveState(pol))
	k := keepingFiles(pol)
	own = append(own, k.keyPath, k.besidePath)
	for _, pin := range pol.Checkpoints.Pins {
		if path, ok := strings.CutPrefix(pin, "file:"); ok {
			own = append(own, pol.Resolve(path))
		}
	}
	for i := range pol.Stores {
		path, ok := strings.CutPrefix(databaseBeside(pol, pol.Stores[i].Target), "sqlite:")
		if pol.Stores[i].Kind != policy.Rows || !ok {
			continue
		}
		path, _, _ = strings.Cut(path, "?")
		database(path)
		if rest, url := strings.CutPrefix(path, "///"); url { // SQLAlchemy's form
			database(rest)
			database("/" + rest)
		}
	}
	return own
}

// databaseBeside makes the path of a SQLite database relative to the policy
// file's folder, as all paths of a policy are. An address in the form of a URL
// is the application's own, and is read as the application reads it.
func databaseBeside(pol *policy.Policy, dsn string) string {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok && path != "" && !strings.HasPrefix(path, "//") {
		return "sqlite:" + pol.Resolve(path)
	}
	if !strings.Contains(dsn, ":") && dsn != "" {
		return "sqlite:" + pol.Resolve(dsn)
	}
	return dsn
}

// openLedger opens the policy's ledger, and makes it when write is set and it
// is absent.
func (a *app) openLedger(ctx context.Context, pol *policy.Policy, mayWrite bool) (*ledger.Ledger, error) {
	k, err := a.keepingOf(ctx, pol)
	if err != nil {
		return nil, err
	}
	return a.openAs(ctx, k, mayWrite)
}

func (a *app) openLedgerAt(ctx context.Context, dsn string, mayWrite bool) (*ledger.Ledger, error) {
	return a.openAs(ctx, keepingAt(dsn), mayWrite)
}

func (a *app) openAs(ctx context.Context, k *keeping, mayWrite bool) (*ledger.Ledger, error) {
	if mayWrite {
		return a.openKept(ctx, k, appendOnly)
	}
	return a.openKept(ctx, k, readOnly)
}

// host is the name of this host, for the record of a run.
func host() string {
	h, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return h
}

// who is the user that asked, for the sealed record of a run.
func (a *app) who() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if by, ok := a.env.Lookup("SUDO_USER"); ok && by != "" {
		name += " (sudo by " + by + ")"
	}
	return name
}
