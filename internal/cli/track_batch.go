package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/epitaph/epitaph/custody"
)

// operation is one operation as a line of a batch gives it; its names are stable.
type operation struct {
	Action      string          `json:"action"`
	Path        string          `json:"path"`
	From        string          `json:"from"`
	To          string          `json:"to"`
	At          string          `json:"at"`
	Scope       string          `json:"scope"`
	Actor       string          `json:"actor"`
	Type        string          `json:"type"`
	Size        int64           `json:"size"`
	SHA256      string          `json:"sha256"`
	Ref         string          `json:"ref"`
	Purpose     string          `json:"purpose"`
	Transferred int64           `json:"transferred"`
	StreamStart string          `json:"stream_start"`
	StreamEnd   string          `json:"stream_end"`
	Host        string          `json:"host"`
	Role        string          `json:"role"`
	PID         int             `json:"pid"` // the owner, on this host
	Error       string          `json:"error"`
	ErrorType   string          `json:"error_type"`
	Meta        json.RawMessage `json:"meta"`
	Required    bool            `json:"required"`
	Due         string          `json:"due"`
	Scheduled   string          `json:"scheduled"`
	// Acknowledge is the transfer of which this arrived; the action is then optional.
	Acknowledge string `json:"acknowledge"`
}

// parse makes an operation of what was written. meta are KEY=VALUE pairs.
func (p *operation) parse(now time.Time, meta []string) (custody.Operation, error) {
	o := custody.Operation{Action: p.Action, Path: p.Path, From: p.From, To: p.To, Scope: p.Scope, Actor: p.Actor, FileType: p.Type,
		Size: p.Size, Purpose: p.Purpose, Transferred: p.Transferred, Host: p.Host, Role: p.Role,
		Error: p.Error, ErrorType: p.ErrorType, Meta: p.Meta, Required: p.Required}
	var err error
	for _, t := range []struct {
		name, text string
		to         *time.Time
		ahead      bool
	}{{"at", p.At, &o.At, false}, {"stream_start", p.StreamStart, &o.StreamStart, false}, {"stream_end", p.StreamEnd, &o.StreamEnd, false},
		{"due", p.Due, &o.Due, true}, {"scheduled", p.Scheduled, &o.Scheduled, true}} {
		switch {
		case t.text == "":
		case t.ahead:
			*t.to, err = parseAhead(t.name, t.text, now)
		default:
			*t.to, err = parseInstant(t.name, t.text)
		}
		if err != nil {
			return o, err
		}
	}
	if p.SHA256 != "" {
		if n, err := hex.Decode(o.Hash[:], []byte(p.SHA256)[:min(len(p.SHA256), 64)]); err != nil || n != 32 || len(p.SHA256) != 64 {
			return o, usage("sha256 is not 64 hex digits", "leave it out when it is not known")
		}
	}
	if o.Ref, err = splitRef(p.Ref); err != nil {
		return o, err
	}
	if p.PID != 0 {
		if o.Owner, err = caller(p.PID); err != nil {
			return o, usage("pid: there is no such process here", "leave it out when the owner is not known")
		}
	}
	if len(meta) > 0 {
		m := map[string]string{}
		for _, kv := range meta {
			key, value, ok := strings.Cut(kv, "=")
			if !ok || key == "" {
				return o, usage("--meta takes KEY=VALUE", "such as --meta pages=3")
			}
			m[key] = value
		}
		o.Meta, err = json.Marshal(m)
	}
	return o, err
}

// perTrack is how many lines are recorded at a time.
const perTrack = 100_000

// perRefused is how many lines are refused before they are told.
const perRefused = 100

// lines are what is recorded together: operations, or what arrived of transfers.
type lines struct {
	ops     []custody.Operation
	answers []string // the transfer of each; empty for operations
	numbers []int
}

// record records them, and returns one result for each. agrees is set for what
// arrived.
func (l *lines) record(ctx context.Context, k *keeper) (rs []custody.Tracked, agrees []*bool, err error) {
	agrees = make([]*bool, len(l.ops))
	if len(l.answers) == 0 {
		rs, err = k.Track(ctx, l.ops...)
		return rs, agrees, err
	}
	list := make([]custody.Arrival, len(l.ops))
	for i := range list {
		list[i] = custody.Arrival{ID: l.answers[i], Operation: l.ops[i]}
	}
	as, err := k.AcknowledgeAll(ctx, list...)
	rs = make([]custody.Tracked, len(as))
	for i := range as {
		rs[i] = as[i].Tracked
		if rs[i].Err != nil {
			rs[i].Err = lineProblem(acknowledgeProblem(rs[i].Err))
		} else {
			agrees[i] = &as[i].Agrees
		}
	}
	return rs, agrees, err
}

// trackBatch reads operations from stdin. What was recorded before a failure
// stays recorded, and is counted.
func (a *app) trackBatch(ctx context.Context, k *keeper, f *trackFlags) error {
	in := bufio.NewReaderSize(a.env.Stdin, 64<<10)
	t := trackTally{a: a}
	var l lines
	refused := map[int]error{} // by line
	record := func() error {
		rs, agrees, err := l.record(ctx, k)
		for i, r := range rs {
			n := l.numbers[i]
			for _, line := range slices.Sorted(maps.Keys(refused)) {
				if line < n {
					t.add(line, fmt.Sprintf("line %d", line), false, custody.Tracked{Err: refused[line]})
					delete(refused, line)
				}
			}
			if r.ID == "" && r.Err == nil {
				continue // the ledger failed before it
			}
			action, _ := k.Vocabulary().Find(l.ops[i].Action)
			t.add(n, fmt.Sprintf("line %d", n), ends(action) && l.ops[i].To == "", r)
			if agrees[i] != nil {
				t.arrived(fmt.Sprintf("line %d", n), agrees[i])
			}
		}
		for _, line := range slices.Sorted(maps.Keys(refused)) {
			t.add(line, fmt.Sprintf("line %d", line), false, custody.Tracked{Err: refused[line]})
		}
		clear(refused)
		l = lines{l.ops[:0], l.answers[:0], l.numbers[:0]}
		return err
	}
	for n := 1; ; n++ {
		line, err := readLine(in)
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, errLong) {
			return errors.Join(fmt.Errorf("read stdin: %w", err), record())
		}
		if err == nil && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var op custody.Operation
		var of string
		if err == nil {
			op, of, err = readOperation(line, a.env.Now(), &f.operation)
		}
		if err == nil && len(l.ops) > 0 && (of != "") != (len(l.answers) > 0) { // in order
			if err := record(); err != nil {
				return err
			}
		}
		if err != nil {
			refused[n] = lineProblem(err)
		} else {
			l.ops, l.numbers = append(l.ops, op), append(l.numbers, n)
			if of != "" {
				l.answers = append(l.answers, of)
			}
		}
		if len(l.ops) == perTrack || len(refused) == perRefused {
			if err := record(); err != nil {
				return err
			}
		}
	}
	if err := record(); err != nil {
		return err
	}
	if !a.global.json {
		p := a.stdout()
		p.linef("tracked %s", count(int64(t.tracked), "operation"))
		if p.err != nil {
			return p.err
		}
	}
	return t.end()
}

// readOperation reads one line. What the command line says counts where the line
// says nothing. of is the transfer that the line acknowledges.
func readOperation(line []byte, now time.Time, base *operation) (o custody.Operation, of string, err error) {
	if !utf8.Valid(line) {
		return o, "", &custody.Refused{Text: "the line is not UTF-8", Hint: "give a path with other bytes as an argument: epitaph track ACTION PATH"}
	}
	if halved(line) {
		return o, "", &custody.Refused{Text: "half of a character: a surrogate without the other", Hint: "write the character itself, or both halves"}
	}
	p := *base
	p.Meta = nil // it would be decoded into the bytes of the flag's
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return o, "", err
	}
	if _, err := d.Token(); err != io.EOF {
		return o, "", &custody.Refused{Text: "more than one JSON value", Hint: "write one object on each line"}
	}
	if bytes.TrimSpace(line)[0] != '{' {
		return o, "", &custody.Refused{Text: "it is not a JSON object", Hint: `write {"action": …, "path": …}`}
	}
	if p.Acknowledge != "" && p.To+p.SHA256 != "" {
		return o, "", &custody.Refused{Text: "an acknowledgement has no to and no sha256", Hint: "what arrived is read and compared with what was sent"}
	}
	if p.Action == "" && p.Acknowledge == "" {
		return o, "", &custody.Refused{Text: "it has no action", Hint: `write {"action": …, "path": …}`}
	}
	if p.Meta == nil {
		p.Meta = base.Meta
	}
	o, err = p.parse(now, nil)
	return o, p.Acknowledge, err
}

// halved reports an escaped surrogate that is not one of a pair: it would be read
// as another character, and so a path as another path (RFC 8259, 8.2).
func halved(line []byte) bool {
	unit := func(i int) uint64 {
		if i+6 > len(line) || line[i] != '\\' || line[i+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(line[i+2:i+6]), 16, 16)
		return n
	}
	for i := 0; i < len(line); i++ {
		if line[i] != '\\' {
			continue
		}
		switch n := unit(i) &^ 0x3ff; {
		case n == 0xdc00, n == 0xd800 && unit(i+6)&^0x3ff != 0xdc00:
			return true
		case n == 0xd800:
			i += 11
		default:
			i++ // what follows a backslash is escaped, a backslash too
		}
	}
	return false
}

// lineProblem says what is wrong with a line without any value of it.
func lineProblem(err error) error {
	var bad *custody.Refused
	var p *problem
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &bad):
		return bad
	case errors.As(err, &p):
		hint := ""
		if len(p.hints) > 0 {
			hint = p.hints[0]
		}
		return &custody.Refused{Text: p.text, Hint: hint}
	case errors.Is(err, errLong):
		return &custody.Refused{Text: err.Error()}
	case errors.As(err, &syntax):
		return &custody.Refused{Text: fmt.Sprintf("it is not JSON, at byte %d", syntax.Offset), Hint: "write one object on each line"}
	case errors.As(err, &kind):
		return &custody.Refused{Text: "the field " + kind.Field + " has the wrong type", Hint: "texts and instants stand in quotes, numbers do not"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &custody.Refused{Text: "it ends in the middle", Hint: "write one object on each line"}
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return &custody.Refused{Text: "unknown field " + strings.TrimPrefix(err.Error(), "json: unknown field "), Hint: "the fields are those of epitaph track --help, with _ for -"}
	default:
		return &custody.Refused{Text: "it cannot be read"}
	}
}
