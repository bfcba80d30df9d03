package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/custody"
	"github.com/epitaph/epitaph/ledger"
)

// ofFiles reports whether a trail is asked for in the words of tracked files: by
// an object of the application, or by actions of its vocabulary.
func (a *app) ofFiles(f *trailFlags) bool {
	if f.object == "" && len(f.actions) == 0 {
		return false
	}
	v, err := a.vocabulary(f.ledger)
	return err == nil && (f.object != "" || slices.ContainsFunc(f.actions, func(n string) bool {
		_, ok := v.Find(n)
		return ok
	}))
}

// recordJSON is one line of the history of tracked files; its names are stable.
type recordJSON struct {
	ID        string     `json:"id"`
	At        time.Time  `json:"at"`
	Action    string     `json:"action,omitempty"`
	Kind      string     `json:"kind,omitempty"`
	Stage     string     `json:"stage,omitempty"`
	Path      string     `json:"path"`
	Scope     string     `json:"scope,omitempty"`
	Actor     string     `json:"actor,omitempty"`
	Host      string     `json:"host,omitempty"`
	To        string     `json:"to,omitempty"`
	Role      string     `json:"role,omitempty"`
	Ref       string     `json:"ref,omitempty"`
	Seen      string     `json:"seen"`
	Bytes     int64      `json:"bytes"`
	SHA256    string     `json:"sha256,omitempty"`
	Due       *time.Time `json:"due,omitempty"`
	Error     string     `json:"error,omitempty"`
	ErrorType string     `json:"error_type,omitempty"`

	From        string          `json:"from,omitempty"`
	Type        string          `json:"type,omitempty"`
	Purpose     string          `json:"purpose,omitempty"`
	Transferred int64           `json:"transferred,omitempty"`
	Meta        json.RawMessage `json:"meta,omitempty"`
}

// runHistory shows what was done with tracked files, and what became of them.
func (a *app) runHistory(ctx context.Context, f trailFlags) error {
	w := custody.Wanted{Scope: f.scope, File: f.file, Actions: f.actions}
	var err error
	if w.Ref, err = splitRef(f.object); err != nil {
		return err
	}
	v, err := a.vocabulary(f.ledger)
	if err != nil {
		return err
	}
	for _, n := range f.actions {
		if _, ok := v.Find(n); !ok {
			return usage(fmt.Sprintf("--action: %q is no action of a tracked file", n), nearestHint(n, v.Nearest(n), "", "the actions are listed by: epitaph track --list"))
		}
	}
	if f.run+f.rule+f.store+f.item+f.actor+f.host != "" || f.items || f.follow || f.csv || f.jsonl || f.stats || f.limit != 0 {
		return usage("the history of tracked files takes --object, --action, --scope, --file, --since and --until only", "leave the others out")
	}
	now := a.env.Now()
	if w.Since, err = parseWhen("--since", f.since, now); err != nil {
		return err
	}
	if w.Until, err = parseWhen("--until", f.until, now); err != nil {
		return err
	}
	k, err := a.openCustody(ctx, &custodyFlags{ledger: f.ledger}, false, nil)
	if err != nil {
		return err
	}
	defer k.Close()
	return a.showHistory(ctx, k, w)
}

func (a *app) showHistory(ctx context.Context, k *keeper, w custody.Wanted) error {
	counts := map[string]int64{}
	list := []recordJSON{}
	p := a.stdout()
	for r, err := range k.History(ctx, w) {
		if err != nil {
			return err
		}
		name := r.Action
		if r.Kind == 0 {
			name = r.Stage
		}
		counts[name]++
		if !a.global.json {
			p.linef("%s", historyLine(p, &r, name))
			continue
		}
		j := recordJSON{ID: r.ID, At: r.At, Action: r.Action, Stage: r.Stage, Path: r.Path, Scope: r.Scope, Actor: r.Actor, Host: r.Host, To: r.To, Role: r.Role,
			Ref: r.Ref.String(), Seen: r.Seen.String(), Bytes: r.Bytes, Due: optional(r.Due), Error: r.Error, ErrorType: r.ErrorType,
			From: r.From, Type: r.FileType, Purpose: r.Purpose, Transferred: r.Transferred, Meta: r.Meta}
		if r.Kind != 0 {
			j.Kind = r.Kind.String()
		}
		if r.Hash != [32]byte{} {
			j.SHA256 = fmt.Sprintf("%x", r.Hash)
		}
		list = append(list, j)
	}
	if a.global.json {
		return a.printJSON(map[string]any{"operations": list, "summary": counts})
	}
	var parts []string
	for _, n := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, n+" "+number(counts[n]))
	}
	if len(parts) == 0 {
		parts = []string{"no operation matches"}
	}
	p.linef("%s", strings.Join(parts, ", "))
	return p.err
}

// historyLine is one line of the timeline, in the colour of its kind. Paths and
// texts are quoted, so that none can pass for a line or a colour.
func historyLine(p *printer, r *custody.Record, name string) string {
	paint := func(s string) string { return s }
	switch {
	case r.Kind == custody.Failed || r.Stage == "attempt":
		paint = p.red
	case r.Kind == custody.Deleted || r.Kind == custody.Emptied || r.Kind == custody.Left || r.Kind == 0:
		paint = p.yellow
	case r.Kind >= custody.Created && r.Kind <= custody.Streamed:
		paint = p.green
	}
	if r.SealedOff {
		return fmt.Sprintf("%s  ‹sealed off›", r.ID)
	}
	words := []string{r.At.UTC().Format("2006-01-02 15:04:05.000000"), paint(fmt.Sprintf("%-30s", name)), fmt.Sprintf("%q", r.Path)}
	if r.Stage != "" && r.Kind != 0 {
		words = append(words, r.Stage)
	}
	if r.Bytes > 0 {
		words = append(words, bytesText(r.Bytes))
	}
	for _, f := range []struct{ name, value string }{{"scope", r.Scope}, {"actor", r.Actor}, {"host", r.Host}, {"to", r.To}, {"object", r.Ref.String()}} {
		if f.value != "" {
			words = append(words, f.name+"="+ledger.SafeCode(f.value))
		}
	}
	if !r.Due.IsZero() {
		words = append(words, "due "+instant(r.Due))
	}
	if r.Stage == "reserved" && r.Seen == connector.Gone { // it was looked for, and is to come
		words = append(words, "not there yet")
	} else if r.Kind != custody.Sent && r.Kind != custody.Started && r.Kind != custody.Failed && !(r.Seen == connector.Present && r.Kind != custody.Deleted) {
		words = append(words, "seen "+r.Seen.String())
	} else if r.Kind == custody.Deleted && r.Seen != connector.Gone {
		words = append(words, p.red("seen "+r.Seen.String()))
	}
	if r.Error != "" {
		words = append(words, p.red(fmt.Sprintf("error %q", r.Error)))
	}
	return strings.Join(append(words, p.dim(r.ID)), "  ")
}
