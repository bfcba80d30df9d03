package policy

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Pace is what a store is spared while a purge is at work. The zero value of a
// field is no limit. It decides when things go and never what goes, so it is no
// part of Hash.
type Pace struct {
	// Items, Rows and Bytes are the most that may be erased in a second, on
	// average: items of a rule and parts, rows of all tables, sizes of files and
	// objects.
	Items, Rows, Bytes float64
	// Slow is how many times slower than at its best the store may answer before
	// batches are spaced out.
	Slow float64
	// PauseFile is a file that stops the work on the store as long as it is there,
	// relative to the policy's folder.
	PauseFile string
	// Replica is the address of a copy of a database that follows it, "" for none.
	// It may hold a credential: never print. Lag is how far it may be behind
	// before batches wait.
	Replica string
	Lag     time.Duration
}

// defaultLag is how far a replica may be behind where the policy does not say.
const defaultLag = 30 * time.Second

// The keys of a pace, by the kind of the store.
var paceKeys = map[StoreKind][]string{
	Rows:    {"items", "rows", "slow", "pause_file", "replica", "lag"},
	Files:   {"items", "bytes", "slow", "pause_file"},
	Objects: {"items", "bytes", "slow", "pause_file"},
}

func (p *parser) pace(n field, s *Store) {
	f, ok := p.mapping(n.val, "the pace of a store of "+string(s.Kind), paceKeys[s.Kind]...)
	if !ok {
		return
	}
	if len(n.val.Content) == 0 {
		p.add(pos(n.val), "the pace is empty", "write a limit such as {items: 500/s}, or remove the key")
	}
	for _, c := range []struct {
		key, example string
		read         func(string) (float64, bool)
		to           *float64
	}{
		{"items", "items: 500/s", parseRate, &s.Pace.Items},
		{"rows", "rows: 5000/s", parseRate, &s.Pace.Rows},
		{"bytes", "bytes: 50MB/s", parseByteRate, &s.Pace.Bytes},
		{"slow", "slow: 2x", parseFactor, &s.Pace.Slow},
	} {
		n, ok := f[c.key]
		if !ok {
			continue
		}
		v, ok := p.text(n.val, c.key)
		if !ok {
			continue
		}
		if *c.to, ok = c.read(v.text); ok {
			continue
		}
		switch c.key {
		case "slow":
			p.problem(v, 0, "slow is not a factor above one", "the store may answer that many times slower than at its best: "+c.example)
		case "bytes":
			p.problem(v, 0, "bytes is not a rate above zero", "a number, B, kB, MB or GB, and /s, /min or /h: "+c.example)
		default:
			p.problem(v, 0, c.key+" is not a rate above zero", "a whole number, and /s, /min or /h: "+c.example)
		}
	}
	if n, ok := f["pause_file"]; ok {
		if v, ok := p.text(n.val, "pause_file"); ok {
			s.Pace.PauseFile = v.text
		}
	}
	p.replica(f, s)
}

// replica reads the copy that is watched.
func (p *parser) replica(f map[string]field, s *Store) {
	n, ok := f["replica"]
	if !ok {
		if n, ok := f["lag"]; ok {
			p.add(pos(n.key), "lag is how far a replica may be behind, and no replica is named", "add its address: replica: ${REPLICA_URL}")
		}
		return
	}
	if v, ok := p.text(n.val, "replica"); ok {
		s.Pace.Replica, s.Pace.Lag = v.text, defaultLag
	}
	if n, ok = f["lag"]; !ok {
		return
	}
	if v, ok := p.text(n.val, "lag"); ok {
		if s.Pace.Lag, ok = parseLag(v.text); !ok {
			p.problem(v, 0, "lag is not a time from 1s to 24h", "a whole number, and s, m or h: lag: 30s")
		}
	}
}

var (
	rateOf     = regexp.MustCompile(`^([1-9][0-9]{0,11})/(s|min|h)$`)
	byteRateOf = regexp.MustCompile(`^([1-9][0-9]{0,11})(B|kB|MB|GB)/(s|min|h)$`)
	lagOf      = regexp.MustCompile(`^([1-9][0-9]{0,4})(s|m|h)$`)
	factorOf   = regexp.MustCompile(`^([1-9][0-9]{0,2}(?:\.[0-9])?)x$`)
)

// seconds in the unit of time of a rate, and bytes in a unit of size.
var (
	seconds = map[string]float64{"s": 1, "min": 60, "h": 3600}
	sizes   = map[string]float64{"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
)

// parseRate reads "500/s", a second's worth.
func parseRate(s string) (float64, bool) {
	m := rateOf.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(m[1], 64)
	return n / seconds[m[2]], err == nil
}

// parseByteRate reads "50MB/s" in powers of 1000.
func parseByteRate(s string) (float64, bool) {
	m := byteRateOf.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(m[1], 64)
	return n * sizes[m[2]] / seconds[m[3]], err == nil
}

// parseLag reads "30s", "5m" and "1h".
func parseLag(s string) (time.Duration, bool) {
	if !lagOf.MatchString(s) {
		return 0, false
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d <= 24*time.Hour
}

// parseFactor reads "2x" and "1.5x".
func parseFactor(s string) (float64, bool) {
	m := factorOf.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	k, err := strconv.ParseFloat(strings.TrimSuffix(m[1], "x"), 64)
	return k, err == nil && k > 1
}
