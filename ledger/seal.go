package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Selection says which sealed texts are to be destroyed. Exactly one of Item,
// Before and Subject is set.
type Selection struct {
	// Item is the id of items, or the locator of items or parts in full, alone or as
	// STORE:LOCATOR.
	Item string
	// Before takes all sealed texts of entries older than that instant.
	Before time.Time
	// Subject takes each item and secret in whose texts it occurs as a whole
	// word: between the ends of the text or characters that are neither letter
	// nor digit. Case counts. It has a letter or digit at least.
	Subject string
	// Keep reports an item that is needed yet, of an entry by kind and number, at a
	// place in it: it is left alone. Nil leaves all of tracked files alone, kinds
	// custody.*, since a file that must be gone would be forgotten with its name:
	// custody.InEffect tells which are over.
	Keep func(kind Kind, number int64, place int, it Item) bool
}

// Destroyed is what SealOff did, or would do.
type Destroyed struct {
	Entries, Items, Secrets int64
	// Open counts intents that were left alone because they have no outcome yet:
	// a run still needs them.
	Open int64
	// Kept counts items that were left alone because Selection.Keep wants them.
	Kept int64
	// Numbers are the entries that say so.
	Numbers []int64
}

// target is what of one entry is to be destroyed: places among its secrets and
// items.
type target struct {
	number         int64
	secrets, items []int
	kept           int // items that were chosen, and are needed yet
}

// targetsPerEntry bounds what one sealing entry covers.
const targetsPerEntry = 1000

// SealOff destroys sealed texts with their salts, so that what the entries
// committed to can no longer be confirmed, not even by guessing. Each
// destruction is itself an entry; the secrets say who did it and why. Proofs of
// the entries concerned stay valid. With dry, it only counts.
//
// When it returns nil, nothing of the texts is left in the database's own
// files; see docs/ledger-format.md for what lies outside of them.
func (l *Ledger) SealOff(ctx context.Context, s Selection, dry bool, secrets ...Secret) (Destroyed, error) {
	var done Destroyed
	if l.write == nil && !dry {
		return done, ErrReadOnly
	}
	pruning, err := lastPruning(ctx, l.read)
	if err != nil {
		return done, fmt.Errorf("seal off: %w", err)
	}
	targets, err := l.selectTargets(ctx, s, &done)
	if err != nil {
		return done, fmt.Errorf("seal off: %w", err)
	}
	for part := range slices.Chunk(targets, targetsPerEntry) {
		if !dry {
			n, err := l.sealOff(ctx, part, pruning, secrets)
			if err != nil {
				return done, fmt.Errorf("seal off: %w", err)
			}
			done.Numbers = append(done.Numbers, n)
		}
		for _, t := range part {
			done.Entries++
			done.Items += int64(len(t.items))
			done.Secrets += int64(len(t.secrets))
		}
	}
	if dry {
		return done, nil
	}
	return done, l.Scrub(ctx)
}

// Scrub removes what may be left of destroyed texts in the database's own
// files. SealOff has done so when it returned nil; when it could not, because a
// reader was in the way, Scrub is called again later.
func (l *Ledger) Scrub(ctx context.Context) error {
	if l.write == nil {
		return ErrReadOnly
	}
	if err := l.scrub(ctx, l.write); err != nil {
		return fmt.Errorf("%w: %w", ErrCopiesLeft, err)
	}
	return nil
}

// ErrCopiesLeft reports texts that are destroyed, of which the database's files may
// still hold copies: a reader was in the way. Scrub, and each SealOff, tries again.
var ErrCopiesLeft = errors.New("the texts are destroyed, but copies may be left")

// selectTargets finds what is to be destroyed, and counts what is left alone.
func (l *Ledger) selectTargets(ctx context.Context, s Selection, done *Destroyed) (targets []target, err error) {
	set := 0
	for _, is := range []bool{s.Item != "", !s.Before.IsZero(), s.Subject != ""} {
		if is {
			set++
		}
	}
	if set != 1 {
		return nil, errors.New("give one of item, before, subject")
	}
	if s.Subject != "" && len(words(s.Subject)) == 0 { // " " is in nearly every text
		return nil, errors.New("a subject without a letter or digit")
	}
	var after int64
	for {
		number, blob, err := l.nextSealed(ctx, after, s)
		if err != nil || number == 0 {
			return targets, err
		}
		after = number
		r, err := readRecord(ctx, l.read, number)
		if err != nil {
			return nil, err
		}
		t, err := s.choose(number, r, blob)
		if err != nil {
			return nil, fmt.Errorf("sealed texts of entry %d: %w", number, err)
		}
		if done.Kept += int64(t.kept); len(t.items)+len(t.secrets) == 0 {
			continue
		}
		var is int
		err = l.read.QueryRowContext(ctx, "SELECT count(*) FROM open_intents WHERE number = $1", number).Scan(&is)
		switch {
		case err != nil:
			return nil, err
		case is > 0:
			done.Open++
		default:
			targets = append(targets, t)
		}
	}
}

// nextSealed reads the next row of sealed texts that may concern the selection.
func (l *Ledger) nextSealed(ctx context.Context, after int64, s Selection) (number int64, blob []byte, err error) {
	if s.Item == "" {
		err = l.read.QueryRowContext(ctx, "SELECT number, texts FROM sealed WHERE number > $1 ORDER BY number LIMIT 1", after).Scan(&number, &blob)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, nil, nil
		}
		return number, blob, err
	}
	maybe, err := l.lookupItem(ctx, s.Item, after, maxNumber, 1)
	if err != nil || len(maybe) == 0 {
		return 0, nil, err
	}
	err = l.read.QueryRowContext(ctx, "SELECT texts FROM sealed WHERE number = $1", maybe[0]).Scan(&blob)
	return maybe[0], blob, err
}

// choose says what of one entry the selection takes.
func (s Selection) choose(number int64, r *record, blob []byte) (target, error) {
	t := target{number: number}
	old := !s.Before.IsZero() && r.at.Before(s.Before)
	if !s.Before.IsZero() && !old && r.kind != string(Pruned) {
		return t, nil
	}
	texts, err := decodeSealed(blob)
	if err != nil {
		return t, err
	}
	for i, slot := range texts.secrets {
		aged := old || !s.Before.IsZero() && i < len(r.secrets) && r.saidAt(r.secrets[i].name).Before(s.Before)
		if slot.salt != nil && (aged || s.Subject != "" && hasWord(string(slot.text), s.Subject)) {
			t.secrets = append(t.secrets, i)
		}
	}
	tracked := slices.Contains([]Kind{CustodyOperations, CustodyLooks, CustodyWord}, Kind(r.kind))
	for i, slot := range texts.items {
		if slot.salt == nil {
			continue
		}
		take := old
		if take && s.Keep == nil && !tracked {
			t.items = append(t.items, i)
			continue
		}
		it, err := decodeItem(slot.text)
		if err != nil {
			return t, err
		}
		take = take || s.Item != "" && it.Names(s.Item, r.store) || s.Subject != "" && it.concerns(s.Subject)
		switch {
		case !take:
		case s.Keep == nil && tracked, s.Keep != nil && s.Keep(Kind(r.kind), number, i, it):
			t.kept++
		default:
			t.items = append(t.items, i)
		}
	}
	return t, nil
}

// concerns reports that the subject occurs in a text of the item.
func (it *Item) concerns(subject string) bool {
	if hasWord(it.ID, subject) || hasWord(it.Locator, subject) || hasWord(it.Print, subject) {
		return true
	}
	for _, tuples := range it.Values {
		for _, tuple := range tuples {
			if slices.ContainsFunc(tuple, func(v string) bool { return hasWord(v, subject) }) {
				return true
			}
		}
	}
	return slices.ContainsFunc(it.Parts, func(p Part) bool {
		return hasWord(p.Locator, subject) || hasWord(p.Print, subject)
	})
}

// hasWord reports that word occurs in text and is not a part of a longer word.
func hasWord(text, word string) bool {
	inWord := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	first, _ := utf8.DecodeRuneInString(word)
	last, _ := utf8.DecodeLastRuneInString(word)
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return false
		}
		i += from
		before, n := utf8.DecodeLastRuneInString(text[:i])
		after, m := utf8.DecodeRuneInString(text[i+len(word):])
		if !(n > 0 && inWord(before) && inWord(first)) && !(m > 0 && inWord(after) && inWord(last)) {
			return true
		}
		from = i + 1
	}
}

// appendPlaces encodes rising places as a count and differences.
func appendPlaces(b []byte, places []int) []byte {
	b = binary.AppendUvarint(b, uint64(len(places)))
	last := -1
	for _, p := range places {
		b = binary.AppendUvarint(b, uint64(p-last-1))
		last = p
	}
	return b
}

func (r *reader) places() []int {
	places := make([]int, r.count(1))
	last := -1
	for i := range places {
		d := r.uvarint()
		if d > maxBatch {
			r.bad, r.b = true, nil
			return nil
		}
		last += 1 + int(d)
		places[i] = last
	}
	return places
}

func (t *target) slots() []byte { return appendPlaces(appendPlaces(nil, t.secrets), t.items) }

func decodeSlots(number int64, b []byte) (target, error) {
	r := reader{b: b}
	t := target{number: number, secrets: r.places(), items: r.places()}
	if r.bad || len(r.b) > 0 {
		return target{}, errors.New("the list of what was sealed off is malformed")
	}
	return t, nil
}

// targetsHash is what the sealing entry says of the list.
type targetsHash struct{ b []byte }

func (h *targetsHash) add(number int64, slots []byte) {
	h.b = binary.BigEndian.AppendUint64(h.b, uint64(number))
	h.b = append(binary.AppendUvarint(h.b, uint64(len(slots))), slots...)
}

func (h *targetsHash) sum() [32]byte {
	return sha256.Sum256(append([]byte("epitaph/targets v1\n"), h.b...))
}

// sealOff writes one sealing entry and destroys what it says, in one
// transaction. It refuses where another pruning than that was the last: it may say
// again what is to be destroyed.
func (l *Ledger) sealOff(ctx context.Context, targets []target, pruning int64, secrets []Secret) (int64, error) {
	var items, texts int64
	var hash targetsHash
	for i := range targets {
		items += int64(len(targets[i].items))
		texts += int64(len(targets[i].secrets))
		hash.add(targets[i].number, targets[i].slots())
	}
	p, err := prepare(&Entry{Kind: SealedOff, Secrets: secrets, Facts: []Fact{
		Int("entries", int64(len(targets))), Int("items", items), Int("secrets", texts), Hash("targets", hash.sum()),
	}}, l.config.Clock(), l.config.Rand)
	if err != nil {
		return 0, err
	}
	return l.submit(ctx, &request{
		entries: []*prepared{p}, alone: true, turn: make(chan bool, 1),
		within: func(ctx context.Context, tx *txn, first int64) error {
			if now, err := lastPruning(ctx, tx); err != nil || now != pruning {
				return cmp.Or(err, errors.New("entries were pruned meanwhile, and what is to be destroyed may be said again; run it again"))
			}
			for i := range targets {
				if err := tx.destroy(ctx, first, &targets[i]); err != nil {
					return fmt.Errorf("entry %d: %w", targets[i].number, err)
				}
			}
			return nil
		},
	})
}

// destroy takes what the target says out of the side tables.
func (t *txn) destroy(ctx context.Context, entry int64, what *target) error {
	if err := t.exec(ctx, "INSERT INTO sealings (entry, target, slots) VALUES ($1, $2, $3)", entry, what.number, what.slots()); err != nil {
		return err
	}
	var blob []byte
	err := t.QueryRowContext(ctx, "SELECT texts FROM sealed WHERE number = $1", what.number).Scan(&blob)
	if errors.Is(err, sql.ErrNoRows) {
		err = errors.New("someone else has sealed it off meanwhile")
	}
	if err != nil {
		return err
	}
	s, err := decodeSealed(blob)
	if err != nil {
		return err
	}
	r, err := readRecord(ctx, t, what.number)
	if err != nil {
		return err
	}
	before := &sealed{secrets: slices.Clone(s.secrets), items: slices.Clone(s.items)}
	for _, list := range []struct {
		slots  []sealedSlot
		places []int
	}{{s.secrets, what.secrets}, {s.items, what.items}} {
		for _, i := range list.places {
			if i >= len(list.slots) || list.slots[i].salt == nil {
				return errors.New("someone else has sealed it off meanwhile")
			}
			list.slots[i] = sealedSlot{}
		}
	}
	if err := t.forgetClues(ctx, r, what.number, before, s); err != nil {
		return err
	}
	if s.empty() {
		if err := t.exec(ctx, "DELETE FROM lookup WHERE number = $1", what.number); err != nil {
			return err
		}
		return t.exec(ctx, "DELETE FROM sealed WHERE number = $1", what.number)
	}
	filter, err := s.lookup()
	if err != nil {
		return err
	}
	if len(what.items) > 0 && filter == nil {
		err = t.exec(ctx, "DELETE FROM lookup WHERE number = $1", what.number)
	} else if len(what.items) > 0 {
		err = t.exec(ctx, "UPDATE lookup SET filter = $1 WHERE number = $2", []byte(filter), what.number)
	}
	if err != nil {
		return err
	}
	return t.exec(ctx, "UPDATE sealed SET texts = $1 WHERE number = $2", s.encode(), what.number)
}

// lookup builds the filter of what is left.
func (s *sealed) lookup() (lookup, error) {
	var keys []uint64
	for _, slot := range s.items {
		if slot.salt == nil {
			continue
		}
		it, err := decodeItem(slot.text)
		if err != nil {
			return nil, err
		}
		keys = itemKeys(keys, &it)
	}
	return newLookup(keys), nil
}
