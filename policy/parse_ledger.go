package policy

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// LedgerOptions say where the key of the ledger lies and how long the ledger
// remembers.
type LedgerOptions struct {
	// Key is the file with the key that signs checkpoints, relative to the
	// policy's folder; empty: beside the ledger.
	Key string
	// Retain is how long entries are kept; never zero.
	Retain Period
}

// Checkpoints say where signed checkpoints go.
type Checkpoints struct {
	// Pins are places outside of the ledger, besides the file beside it:
	// "file:PATH", "object:STORE/KEY", a URL, or "stdout".
	Pins      []string
	Witnesses []Witness
	// Quorum is how many of the witnesses must have cosigned a checkpoint before
	// it is believed.
	Quorum int
	// Every is how often the daemon signs what others wrote, at most; zero: the
	// policy does not say.
	Every time.Duration
}

// The bounds of Checkpoints.Every, and what holds when the policy does not say.
const (
	LeastCheckpointEvery   = time.Second
	MostCheckpointEvery    = 24 * time.Hour
	DefaultCheckpointEvery = time.Minute
)

// Witness is someone else's server that cosigns checkpoints (C2SP
// tlog-witness).
type Witness struct {
	URL string
	// Key is its public key, NAME+HASH+KEY; whether it is one is for the command
	// line to say.
	Key string
	Pos Pos
}

// DefaultLedgerRetain is how long the ledger remembers when the policy does not
// say: six years, as HIPAA has it (45 CFR 164.316(b)(2)(i)).
func DefaultLedgerRetain() Period { return Period{Years: 6} }

// keys of the mappings about the ledger; the JSON Schema has the same.
var (
	ledgerKeys     = []string{"at", "key", "retain"}
	checkpointKeys = []string{"pins", "witnesses", "quorum", "every"}
	witnessKeys    = []string{"url", "key"}
)

var ledgerScheme = regexp.MustCompile(`^(sqlite:.|postgres(ql)?://)`)

// ledger reads the ledger's address, alone or with its options.
func (p *parser) ledger(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.ledgerAt(n, "ledger")
		return
	}
	f, ok := p.mapping(n, "ledger", ledgerKeys...)
	if !ok {
		return
	}
	if n, ok := f["at"]; ok {
		p.ledgerAt(n.val, "at")
	}
	if n, ok := f["key"]; ok {
		if v, ok := p.text(n.val, "key"); ok {
			p.policy.LedgerOptions.Key = v.text
		}
	}
	if n, ok := f["retain"]; ok {
		if period, ok := p.period(n.val, "retain"); ok {
			p.policy.LedgerOptions.Retain = period
		}
	}
}

func (p *parser) ledgerAt(n *yaml.Node, what string) {
	v, ok := p.text(n, what)
	if !ok {
		return
	}
	if !ledgerScheme.MatchString(v.text) {
		p.problem(v, 0, "the ledger is neither sqlite: nor postgres://", "write ledger: sqlite:epitaph.db")
		return
	}
	p.policy.Ledger = v.text
}

func (p *parser) checkpoints(n *yaml.Node) {
	f, ok := p.mapping(n, "checkpoints", checkpointKeys...)
	if !ok {
		return
	}
	c := &p.policy.Checkpoints
	if n, ok := f["pins"]; ok {
		for _, one := range p.list(n.val, "pins") {
			if v, ok := p.text(one, "pin"); ok && p.pin(v) {
				c.Pins = append(c.Pins, v.text)
			}
		}
	}
	if n, ok := f["witnesses"]; ok {
		for _, one := range p.list(n.val, "witnesses") {
			p.witness(one)
		}
	}
	if n, ok := f["quorum"]; ok {
		const hint = "write how many of the witnesses must have cosigned, such as 1"
		quorum, ok := p.integer(n.val, "quorum", hint)
		switch {
		case !ok:
		case quorum > int64(len(c.Witnesses)):
			p.add(pos(n.val), "quorum is more than there are witnesses", hint)
		default:
			c.Quorum = int(quorum)
		}
	}
	if n, ok := f["every"]; ok {
		c.Every = p.every(n.val)
	}
}

// ParseCheckpointEvery reads a length of time such as "60s" or "5m".
func ParseCheckpointEvery(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < LeastCheckpointEvery || d > MostCheckpointEvery {
		return 0, errors.New("it must be a length of time from 1s to 24h")
	}
	return d, nil
}

func (p *parser) every(n *yaml.Node) time.Duration {
	v, ok := p.text(n, "every")
	if !ok {
		return 0
	}
	d, err := ParseCheckpointEvery(v.text)
	if err != nil {
		p.problem(v, 0, "every: "+err.Error(), "write it as 60s or 5m")
	}
	return d
}

func (p *parser) pin(v value) bool {
	const hint = "write file:PATH, object:STORE/KEY, https://HOST/PATH or stdout"
	kind, rest, _ := strings.Cut(v.text, ":")
	switch kind {
	case "stdout":
		if v.text == "stdout" {
			return true
		}
	case "file":
		if strings.TrimSpace(rest) != "" {
			return true
		}
	case "object":
		store, key, ok := strings.Cut(rest, "/")
		if !ok || key == "" || !nameOf.MatchString(store) {
			break
		}
		if s, ok := p.policy.Store(store); !ok || s.Kind != Objects {
			p.problem(v, 0, "there is no object store "+store, "add it to stores: "+store+": {objects: s3://BUCKET}")
			return false
		}
		return true
	case "http", "https":
		if isWeb(v.text) {
			return true
		}
	}
	p.problem(v, 0, "this is no place for a checkpoint", hint)
	return false
}

func isWeb(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func (p *parser) witness(n *yaml.Node) {
	f, ok := p.mapping(n, "a witness", witnessKeys...)
	if !ok {
		return
	}
	w := Witness{Pos: pos(n)}
	for _, k := range witnessKeys {
		field, ok := f[k]
		if !ok {
			p.add(pos(n), "a witness has a url and a key, and "+k+" is not there", "write {url: https://HOST/PREFIX, key: NAME+HASH+KEY}")
			return
		}
		v, ok := p.text(field.val, k)
		if !ok {
			return
		}
		if k == "key" {
			w.Key = v.text
			continue
		}
		if !isWeb(v.text) {
			p.problem(v, 0, "the url of a witness must begin with http:// or https://", "write the submission prefix that the witness names")
			return
		}
		w.URL = v.text
	}
	p.policy.Checkpoints.Witnesses = append(p.policy.Checkpoints.Witnesses, w)
}
