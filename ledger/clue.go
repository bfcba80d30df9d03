package ledger

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clue asks for entries that say of their actor, host, scope or action that it is
// Text.
type Clue struct {
	Name string // "actor", "host", "scope" or "action"
	Text string
	// Runs are runs whose entries are wanted too: those that were started so.
	Runs []string
}

// What an entry says of whom, where and for whom is found by its clues: keyed
// hashes of the whole text, and of each word of a secret. They are of the ledger's
// secret, so that no table confirms a guess to someone without it, and those of a
// text go with it when it is sealed off.

// clueName is the name under which a fact or secret is found; "" for none.
func clueName(of string) string {
	switch of {
	case "who", "by":
		return "actor"
	case "host":
		return "host"
	default:
		return ""
	}
}

// ofStart marks the clues of an entry that starts a run: there are few of them
// among the other entries of the same name.
const ofStart = "start "

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// clueSet gathers what an entry says.
type clueSet struct {
	kind Kind
	set  map[string]struct{}
}

func (c *clueSet) add(name, form, text string) {
	if name == "" || text == "" {
		return
	}
	if c.kind == RunStarted {
		name = ofStart + name
	}
	if c.set == nil {
		c.set = map[string]struct{}{}
	}
	c.set[name+form+text] = struct{}{}
}

// The forms of a clue: of a whole text, and of a word in it.
const (
	wholeText = "\n"
	oneWord   = "~\n"
)

func (c *clueSet) fact(f *Fact) {
	if f.kind == factCode {
		c.add(clueName(f.name), wholeText, f.code)
	}
}

func (c *clueSet) secret(name, text string) {
	if name = clueName(name); name == "" {
		return
	}
	for _, w := range words(text) {
		c.add(name, oneWord, w)
	}
}

// item takes in what an application said of it. The values of an intent are
// those of a record, and say nothing of the kind.
func (c *clueSet) item(it *Item) {
	if c.kind == Intent {
		return
	}
	for _, tuples := range it.Values {
		for _, t := range tuples {
			if len(t) == 2 && (t[0] == "actor" || t[0] == "host" || t[0] == "scope" || t[0] == "action") {
				c.add(t[0], wholeText, t[1])
			}
		}
	}
}

// cluesOf are those of an entry that is about to be written.
func cluesOf(e *Entry) map[string]struct{} {
	c := clueSet{kind: e.Kind}
	for i := range e.Facts {
		c.fact(&e.Facts[i])
	}
	for i := range e.Secrets {
		c.secret(e.Secrets[i].Name, e.Secrets[i].Text)
	}
	for i := range e.Items {
		c.item(&e.Items[i])
	}
	return c.set
}

// cluesLeft are those of an entry with what is left of its sealed texts.
func cluesLeft(r *record, s *sealed) (map[string]struct{}, error) {
	c := clueSet{kind: Kind(r.kind)}
	for i := range r.facts {
		c.fact(&r.facts[i])
	}
	for i, slot := range s.secrets {
		c.secret(r.secrets[i].name, string(slot.text))
	}
	if c.kind == Intent {
		return c.set, nil
	}
	for _, slot := range s.items {
		if slot.salt == nil {
			continue
		}
		it, err := decodeItem(slot.text)
		if err != nil {
			return nil, err
		}
		c.item(&it)
	}
	return c.set, nil
}

// mayHaveClue reports an entry that says so without any sealed text.
func (r *record) mayHaveClue() bool {
	return slices.ContainsFunc(r.facts, func(f Fact) bool { return f.kind == factCode && clueName(f.name) != "" })
}

// clueKey is what the index knows a clue by: HMAC-SHA256 with the ledger's
// secret, cut to 64 bits. Two clues with one key would only cost a look.
func (l *Ledger) clueKey(clue string) int64 {
	m := hmac.New(sha256.New, l.secret)
	io.WriteString(m, "epitaph/clue v1\n"+clue)
	return int64(binary.BigEndian.Uint64(m.Sum(nil)))
}

func (l *Ledger) clueKeys(set map[string]struct{}) []int64 {
	keys := map[int64]struct{}{}
	for clue := range set {
		keys[l.clueKey(clue)] = struct{}{}
	}
	return slices.Sorted(maps.Keys(keys))
}

// asked are the keys under which what the clue asks for lies, and whether all of
// it can be found so: a text without any word in it cannot.
func (l *Ledger) asked(c *Clue, startsOnly bool) (keys []int64, ok bool) {
	longest := ""
	for _, w := range words(c.Text) {
		if len(w) > len(longest) {
			longest = w
		}
	}
	if longest == "" || !utf8.ValidString(c.Text) {
		return nil, false
	}
	names := []string{ofStart + c.Name, c.Name}
	if startsOnly {
		names = names[:1]
	}
	for _, name := range names {
		keys = append(keys, l.clueKey(name+wholeText+c.Text), l.clueKey(name+oneWord+longest))
	}
	return keys, true
}

// insertClues writes the clues of an entry.
func (t *txn) insertClues(ctx context.Context, number int64, set map[string]struct{}) error {
	if !t.l.clued {
		return nil
	}
	for _, key := range t.l.clueKeys(set) {
		if err := t.exec(ctx, insertClue, key, number); err != nil {
			return err
		}
	}
	return nil
}

// forgetClues takes out those that only destroyed texts gave.
func (t *txn) forgetClues(ctx context.Context, r *record, number int64, before, after *sealed) error {
	if !t.l.clued {
		return nil
	}
	had, err := cluesLeft(r, before)
	if err != nil {
		return err
	}
	kept, err := cluesLeft(r, after)
	if err != nil {
		return err
	}
	stay := t.l.clueKeys(kept)
	for _, key := range t.l.clueKeys(had) {
		if _, found := slices.BinarySearch(stay, key); found {
			continue
		}
		if err := t.exec(ctx, "DELETE FROM clues WHERE key = $1 AND number = $2", key, number); err != nil {
			return err
		}
	}
	return nil
}
