package report

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"time"
)

// entryJSON is one entry; its names are stable.
type entryJSON struct {
	Number  int64             `json:"number"`
	At      time.Time         `json:"at"`
	Kind    string            `json:"action"`
	Run     string            `json:"run,omitempty"`
	Rule    string            `json:"rule,omitempty"`
	Store   string            `json:"store,omitempty"`
	Refers  int64             `json:"refers,omitempty"`
	Facts   map[string]any    `json:"facts,omitempty"`
	Secrets map[string]string `json:"secrets,omitempty"`
	Sealed  []string          `json:"secrets_sealed_off,omitempty"`
	Results []resultJSON      `json:"results,omitempty"`
	Items   []itemJSON        `json:"items,omitempty"`
}

// resultJSON counts items, and their parts, by state and reason.
type resultJSON struct {
	State  string `json:"state"`
	Reason string `json:"reason"`
	Items  int64  `json:"items"`
	Parts  int64  `json:"parts"`
}

type itemJSON struct {
	ID      string     `json:"id,omitempty"`
	Locator string     `json:"locator,omitempty"`
	Sealed  bool       `json:"sealed_off,omitempty"`
	State   string     `json:"state,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Bytes   int64      `json:"bytes,omitempty"`
	Anchor  *time.Time `json:"anchor,omitempty"`
	Parts   []partJSON `json:"parts,omitempty"`
}

type partJSON struct {
	Store   string `json:"store,omitempty"`
	Locator string `json:"locator,omitempty"`
	State   string `json:"state,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"`
}

// JSON writes one object with one member, "entries", and one line for each
// entry. It holds what Text shows. It returns the number of entries.
func JSON(w io.Writer, lines iter.Seq2[Line, error]) (int, error) {
	if _, err := io.WriteString(w, `{"entries":[`); err != nil {
		return 0, err
	}
	n, comma := 0, "\n"
	for l, err := range lines {
		if err != nil {
			return n, err
		}
		text, err := json.Marshal(entryOf(&l))
		if err != nil {
			return n, fmt.Errorf("encode entry: %w", err)
		}
		if _, err := fmt.Fprintf(w, "%s%s", comma, text); err != nil {
			return n, err
		}
		comma = ",\n"
		n++
	}
	_, err := io.WriteString(w, "\n]}\n")
	return n, err
}

// JSONLines writes each entry as one object on a line of its own, at once, for a
// trail without an end. It returns the number of entries.
func JSONLines(w io.Writer, lines iter.Seq2[Line, error]) (int, error) {
	n := 0
	for l, err := range lines {
		if err != nil {
			return n, err
		}
		text, err := json.Marshal(entryOf(&l))
		if err != nil {
			return n, fmt.Errorf("encode entry: %w", err)
		}
		if _, err := w.Write(append(text, '\n')); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func entryOf(l *Line) entryJSON {
	e := entryJSON{Number: l.Number, At: l.At.UTC(), Kind: string(l.Kind), Run: l.Run, Rule: l.Rule, Store: l.Store, Refers: l.Refers}
	for _, f := range l.Facts {
		if e.Facts == nil {
			e.Facts = map[string]any{}
		}
		v := f.Value()
		if h, ok := v.([32]byte); ok {
			v = hex.EncodeToString(h[:])
		}
		e.Facts[f.Name()] = v
	}
	for _, s := range l.Secrets {
		if s.SealedOff {
			e.Sealed = append(e.Sealed, s.Name)
			continue
		}
		if e.Secrets == nil {
			e.Secrets = map[string]string{}
		}
		e.Secrets[s.Name] = s.Text
	}
	e.Results = resultsOf(l.Tally)
	for i := range l.Batch {
		e.Items = append(e.Items, itemOf(&l.Batch[i]))
	}
	return e
}

func resultsOf(t Tally) (out []resultJSON) {
	all := map[Verdict]int64{}
	for v := range t.Reasons {
		all[v] = 0
	}
	for v := range t.Parts {
		all[v] = 0
	}
	for _, v := range Verdicts(all) {
		out = append(out, resultJSON{StateName(v.State), v.Reason, t.Reasons[v], t.Parts[v]})
	}
	return out
}

func itemOf(it *Item) itemJSON {
	out := itemJSON{ID: it.ID, Locator: it.Locator, Sealed: it.Sealed, Bytes: it.Bytes}
	if !it.Anchor.IsZero() {
		at := it.Anchor.UTC()
		out.Anchor = &at
	}
	if it.Settled {
		out.State, out.Reason = StateName(it.Result.State), it.Result.Reason
	}
	for i := range max(len(it.Parts), len(it.Result.Parts)) {
		var p partJSON
		if i < len(it.Parts) {
			p.Store, p.Locator, p.Bytes = it.Parts[i].Store, it.Parts[i].Locator, it.Parts[i].Bytes
		}
		if it.Settled && i < len(it.Result.Parts) {
			p.State, p.Reason = StateName(it.Result.Parts[i].State), it.Result.Parts[i].Reason
		}
		out.Parts = append(out.Parts, p)
	}
	return out
}
