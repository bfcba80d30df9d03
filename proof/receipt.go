package proof

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Receipt shows offline that an entry is in a ledger, and what the entry says
// of one item. It is written as a C2SP tlog-proof: any tool for these can check
// that the first entry is in the log. What else is shown, the entries
// themselves and the item, travels in its "extra" line, which Check binds to the
// checkpoint; docs/ledger-format.md specifies it.
type Receipt struct {
	// Entries are proven to be in the ledger. The first is the one that the
	// tlog-proof is about.
	Entries []Inclusion
	// Checkpoint is the signed note under which all of them are proven.
	Checkpoint []byte
}

// Inclusion is an entry with its inclusion proof (RFC 6962, 2.1.1).
type Inclusion struct {
	Index int64 // the entry's number less one
	Body  []byte
	Path  []tlog.Hash
	// Leaf is what is shown of the entry's batch; nil for nothing.
	Leaf *Leaf
}

// Leaf is one item or result of a batch, with its proof in the tree of the
// batch. Exactly one of Opening, Commitment and Result is set.
type Leaf struct {
	Index int64
	// Opening is the salt and the encoded item. It tells in the clear which item
	// it is.
	Opening *Opening
	// Commitment stands for an item that is not shown.
	Commitment *[32]byte
	// Result is the encoded result of an item.
	Result []byte
	Path   []tlog.Hash
}

// Opening opens the commitment to an item.
type Opening struct{ Salt, Item []byte }

const (
	receiptHeader = "c2sp.org/tlog-proof@v1\n"
	extraHeader   = "epitaph/receipt v1\n"
	// maxReceipt bounds a receipt: an item may have a million parts.
	maxReceipt = 256 << 20
	maxPath    = 64
	// maxEntries bounds the entries of a receipt. One has an intent and its
	// outcomes, or the start and end of a run.
	maxEntries = 1000
)

func appendHashes(b []byte, prefix string, path []tlog.Hash) []byte {
	for _, h := range path {
		b = append(b, prefix...)
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return b
}

// Bytes returns the receipt as a file. Its name should end in ".tlog-proof".
func (r *Receipt) Bytes() []byte {
	first := r.Entries[0]
	b := append([]byte(receiptHeader), "extra "...)
	b = append(base64.StdEncoding.AppendEncode(b, r.extra()), '\n')
	b = fmt.Appendf(b, "index %d\n", first.Index)
	b = appendHashes(b, "", first.Path)
	return append(append(b, '\n'), r.Checkpoint...)
}

func (r *Receipt) extra() []byte {
	b := []byte(extraHeader)
	for i, e := range r.Entries {
		b = fmt.Appendf(b, "entry %d %s\n", e.Index, base64.StdEncoding.EncodeToString(e.Body))
		if i > 0 {
			b = appendHashes(b, "proof ", e.Path)
		}
		if l := e.Leaf; l != nil {
			switch {
			case l.Opening != nil:
				b = fmt.Appendf(b, "item %d %s %s\n", l.Index, base64.StdEncoding.EncodeToString(l.Opening.Salt), base64.StdEncoding.EncodeToString(l.Opening.Item))
			case l.Commitment != nil:
				b = fmt.Appendf(b, "commitment %d %s\n", l.Index, base64.StdEncoding.EncodeToString(l.Commitment[:]))
			default:
				b = fmt.Appendf(b, "result %d %s\n", l.Index, base64.StdEncoding.EncodeToString(l.Result))
			}
			b = appendHashes(b, "path ", l.Path)
		}
	}
	return b
}

// ParseReceipt reads a receipt. It checks the form only; Check checks what it
// claims.
func ParseReceipt(data []byte) (*Receipt, error) {
	r, err := parseReceipt(data)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	return r, nil
}

func parseReceipt(data []byte) (*Receipt, error) {
	if len(data) > maxReceipt {
		return nil, errors.New("longer than one can be")
	}
	head, checkpoint, ok := strings.Cut(string(data), "\n\n")
	rest, found := strings.CutPrefix(head, receiptHeader)
	if !ok || !found {
		return nil, fmt.Errorf("not a %s", strings.TrimSpace(receiptHeader))
	}
	lines := strings.SplitN(rest, "\n", 2+maxPath+2) // a million line ends are no reason for a million strings
	encoded, ok := strings.CutPrefix(lines[0], "extra ")
	if !ok || len(lines) < 2 {
		return nil, errors.New("without the line that holds the entry (extra)")
	}
	extra, err := decodeBase64(encoded)
	if err != nil {
		return nil, fmt.Errorf("line 2: %w", err)
	}
	number, ok := strings.CutPrefix(lines[1], "index ")
	index, err := parseSize(number)
	if !ok || err != nil {
		return nil, errors.New("line 3: no index")
	}
	path, err := parseHashes(lines[2:])
	if err != nil {
		return nil, err
	}
	r := &Receipt{Checkpoint: []byte(checkpoint)}
	if r.Entries, err = parseExtra(string(extra)); err != nil {
		return nil, fmt.Errorf("extra: %w", err)
	}
	if r.Entries[0].Index != index || r.Entries[0].Path != nil {
		return nil, errors.New("extra: its first entry is not the one of the index")
	}
	r.Entries[0].Path = path
	return r, nil
}

func parseHashes(lines []string) (path []tlog.Hash, err error) {
	if len(lines) > maxPath {
		return nil, errors.New("a proof of more hashes than a tree is high")
	}
	for _, line := range lines {
		h, err := decodeHash(line)
		if err != nil {
			return nil, fmt.Errorf("proof: %w", err)
		}
		path = append(path, h)
	}
	return path, nil
}

// parseExtra reads the entries. There is one spelling: lines in order, each
// ended, nothing behind the last.
func parseExtra(text string) (list []Inclusion, err error) {
	rest, ok := strings.CutPrefix(text, extraHeader)
	if !ok || !strings.HasSuffix(text, "\n") {
		return nil, fmt.Errorf("not an %s", strings.TrimSpace(extraHeader))
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(rest, "\n"), "\n") {
		word, value, _ := strings.Cut(line, " ")
		if word == "entry" {
			e, err := parseEntryLine(value)
			if err != nil {
				return nil, err
			}
			if list = append(list, e); len(list) > maxEntries {
				return nil, fmt.Errorf("more than %d entries", maxEntries)
			}
			continue
		}
		if len(list) == 0 {
			return nil, errors.New("it does not begin with an entry")
		}
		if err := list[len(list)-1].line(word, value); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, errors.New("it holds no entry")
	}
	return list, nil
}

func parseEntryLine(value string) (Inclusion, error) {
	number, encoded, _ := strings.Cut(value, " ")
	index, err := parseSize(number)
	if err != nil {
		return Inclusion{}, err
	}
	body, err := decodeBase64(encoded)
	return Inclusion{Index: index, Body: body}, err
}

// line takes in a line that belongs to an entry.
func (e *Inclusion) line(word, value string) error {
	if word == "proof" || word == "path" {
		h, err := decodeHash(value)
		switch {
		case err != nil:
			return err
		case word == "proof" && e.Leaf == nil && len(e.Path) < maxPath:
			e.Path = append(e.Path, h)
		case word == "path" && e.Leaf != nil && len(e.Leaf.Path) < maxPath:
			e.Leaf.Path = append(e.Leaf.Path, h)
		default:
			return fmt.Errorf("a line out of place: %s", word)
		}
		return nil
	}
	number, encoded, _ := strings.Cut(value, " ")
	index, err := parseSize(number)
	if err != nil || e.Leaf != nil {
		return errors.New("a line out of place or with a malformed index")
	}
	l := &Leaf{Index: index}
	switch word {
	case "item":
		salt, item, _ := strings.Cut(encoded, " ")
		o := &Opening{}
		if o.Salt, err = decodeBase64(salt); err == nil {
			o.Item, err = decodeBase64(item)
		}
		l.Opening = o
	case "commitment":
		var h [32]byte
		h, err = decodeHash(encoded)
		l.Commitment = &h
	case "result":
		l.Result, err = decodeBase64(encoded)
	default:
		err = errors.New("a line that is not known")
	}
	e.Leaf = l
	return err
}

// Shown is what a receipt was checked to show.
type Shown struct {
	Signed
	Entries []ShownEntry
}

// ShownEntry is an entry that is in the ledger.
type ShownEntry struct {
	Number int64
	// Body is the entry, as docs/ledger-format.md specifies it: lines of text.
	Body string
	// Item is set when the receipt tells in the clear an item of the entry's
	// batch, Result when it tells a result. Place is which of the batch, from 0.
	Item   *Item
	Result *Result
	Place  int64
	// Hidden is set when an item of the batch is proven without being told.
	Hidden bool
}

// Check checks all that the receipt claims, offline.
func (r *Receipt) Check(t Trust) (*Shown, error) {
	if len(r.Entries) == 0 {
		return nil, errors.New("the receipt holds no entry")
	}
	signed, err := t.Open(r.Checkpoint)
	if err != nil {
		return nil, err
	}
	shown := &Shown{Signed: signed}
	for _, e := range r.Entries {
		if err := tlog.CheckRecord(e.Path, signed.Size, signed.Root, e.Index, tlog.RecordHash(e.Body)); err != nil || e.Index < 0 {
			return nil, fmt.Errorf("entry %d is not in the ledger of this checkpoint", e.Index+1)
		}
		if !isEntry(e.Body) {
			return nil, fmt.Errorf("entry %d is not an encoded entry", e.Index+1)
		}
		s := ShownEntry{Number: e.Index + 1, Body: string(e.Body)}
		if e.Leaf != nil {
			if err := s.open(e.Leaf); err != nil {
				return nil, fmt.Errorf("entry %d: %w", s.Number, err)
			}
		}
		shown.Entries = append(shown.Entries, s)
	}
	return shown, shown.checkBinding()
}

// isEntry reports lines of printable ASCII under the header of an entry, so that
// it can be shown on any terminal.
func isEntry(body []byte) bool {
	for _, c := range body {
		if c != '\n' && (c < ' ' || c > '~') {
			return false
		}
	}
	return strings.HasPrefix(string(body), "epitaph/entry v1\n") && body[len(body)-1] == '\n'
}

// checkBinding checks that a result and an item in one receipt are of the same
// thing: the result's entry answers the item's, at the same place.
func (s *Shown) checkBinding() error {
	for _, a := range s.Entries {
		for _, b := range s.Entries {
			if a.Result == nil || b.Item == nil && !b.Hidden {
				continue
			}
			if n, _ := field(a.Body, "refers"); n != strconv.FormatInt(b.Number, 10) || a.Place != b.Place {
				return fmt.Errorf("the result in entry %d is not that of the item in entry %d", a.Number, b.Number)
			}
		}
	}
	return nil
}

// field returns the rest of the line of an entry that begins with a word.
func field(body, word string) (string, bool) {
	for line := range strings.SplitSeq(body, "\n") {
		if v, ok := strings.CutPrefix(line, word+" "); ok {
			return v, true
		}
	}
	return "", false
}
