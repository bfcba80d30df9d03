package plan

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"strings"
	"time"
)

// Plan is an open plan file whose digest has been verified. Its methods may be
// called concurrently.
type Plan struct {
	// Path is the name of the file.
	Path string
	// Digest is the SHA-256 the file ends with.
	Digest     [32]byte
	PolicyHash [32]byte
	AsOf       time.Time
	Rules      []RuleSummary // in the order of the policy

	f        *os.File
	sections []section // by index of Rules
}

// section is where the item lines of a rule lie.
type section struct {
	from, to int64
	line     int // number of the first item line
}

// Open opens a plan file and verifies its digest. What is wrong with the file
// is an [*Error]; any other error is from reading it.
func Open(path string) (*Plan, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open plan: %w", err)
	}
	p := &Plan{Path: path, f: f}
	if err := p.load(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// Close closes the file. Batches cannot be read afterwards.
func (p *Plan) Close() error { return p.f.Close() }

// Rule returns the summary of a rule.
func (p *Plan) Rule(name string) (*RuleSummary, bool) {
	for i := range p.Rules {
		if p.Rules[i].Rule == name {
			return &p.Rules[i], true
		}
	}
	return nil, false
}

// Batches streams the items of a rule in the order of the plan, size at a time.
// Each batch is the caller's to keep. An error ends the sequence; so does a rule
// that is not in the plan, without one.
func (p *Plan) Batches(rule string, size int) iter.Seq2[[]Item, error] {
	return func(yield func([]Item, error) bool) {
		for i := range p.Rules {
			if p.Rules[i].Rule == rule {
				p.batches(p.sections[i], max(size, 1), yield)
				return
			}
		}
	}
}

func (p *Plan) batches(s section, size int, yield func([]Item, error) bool) {
	r := &lines{r: bufio.NewReaderSize(io.NewSectionReader(p.f, s.from, s.to-s.from), 1<<18), n: s.line - 1}
	var batch []Item
	for {
		line, err := r.next()
		if err == io.EOF {
			if len(batch) > 0 {
				yield(batch, nil)
			}
			return
		}
		if err != nil {
			yield(nil, fmt.Errorf("read plan: %w", err))
			return
		}
		rest, ok := bytes.CutPrefix(line, []byte("i "))
		if !ok {
			yield(nil, damaged(r.n, errWord))
			return
		}
		it, err := decodeItem(string(bytes.TrimSuffix(rest, []byte("\n"))))
		if err != nil {
			yield(nil, damaged(r.n, err))
			return
		}
		if batch == nil {
			batch = make([]Item, 0, min(size, 1024))
		}
		if batch = append(batch, it); len(batch) == size {
			if !yield(batch, nil) {
				return
			}
			batch = nil
		}
	}
}

// lines reads whole lines of any length. The result is valid until the next call.
type lines struct {
	r    *bufio.Reader
	n    int // number of the line that was read last
	long []byte
}

func (l *lines) next() ([]byte, error) {
	l.n++
	line, err := l.r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		if err == io.EOF && len(line) > 0 {
			err = nil
		}
		return line, err
	}
	l.long = append(l.long[:0], line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = l.r.ReadSlice('\n')
		l.long = append(l.long, line...)
	}
	if err == io.EOF {
		err = nil
	}
	return l.long, err
}

func damaged(line int, err error) *Error {
	return &Error{Kind: Damaged, Line: line, Text: "the plan is damaged: " + err.Error(), Hint: newPlan}
}

const newPlan = "make a new one with epitaph plan"

// load reads the whole file once: it verifies the digest and learns the
// summaries and where the items of each rule lie.
func (p *Plan) load() error {
	st, err := p.f.Stat()
	if err != nil {
		return fmt.Errorf("open plan: %w", err)
	}
	if !st.Mode().IsRegular() {
		return &Error{Kind: Damaged, Text: "this is not a plan file", Hint: newPlan}
	}
	first := make([]byte, len(magic)+16)
	n, err := p.f.ReadAt(first, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read plan: %w", err)
	}
	if err := checkMagic(string(first[:n])); err != nil {
		return err
	}
	body := st.Size() - int64(digestLen)
	tail := make([]byte, digestLen)
	if body > 0 {
		if _, err := p.f.ReadAt(tail, body); err != nil {
			return fmt.Errorf("read plan: %w", err)
		}
	}
	want, ok := parseHash(strings.TrimSuffix(strings.TrimPrefix(string(tail), digestPrefix), "\n"))
	if !ok || tail[len(tail)-1] != '\n' || !bytes.HasPrefix(tail, []byte(digestPrefix)) {
		return &Error{Kind: Truncated, Text: "the plan does not end with its digest; it was cut off or never finished", Hint: newPlan}
	}
	h := sha256.New()
	wrong := p.parse(io.NewSectionReader(p.f, 0, body), h)
	var re *readError
	if errors.As(wrong, &re) {
		return fmt.Errorf("read plan: %w", re.err)
	}
	if h.Sum(p.Digest[:0]); p.Digest != want {
		return &Error{Kind: Damaged, Text: "the plan was changed after it was made: its digest does not match", Hint: newPlan}
	}
	return wrong
}

func checkMagic(first string) error {
	rest, ok := strings.CutPrefix(first, magic)
	v, _, line := strings.Cut(rest, "\n")
	switch {
	case !ok && !strings.HasPrefix(magic, first):
		return &Error{Kind: Damaged, Line: 1, Text: "this is not a plan file", Hint: newPlan}
	case !ok || !line:
		return &Error{Kind: Truncated, Text: "the plan does not end with its digest; it was cut off or never finished", Hint: newPlan}
	case v != version:
		return &Error{Kind: OtherVersion, Line: 1, Text: "the plan was made by another version of epitaph", Hint: newPlan}
	}
	return nil
}

// readError is an error from reading the file, as against one in what it says.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

// parse hashes everything and reads the lines that are not items. It goes on
// to the end also when a line is wrong, so that the digest can be compared.
func (p *Plan) parse(r io.Reader, h hash.Hash) error {
	l := &lines{r: bufio.NewReaderSize(r, 1<<18)}
	var wrong error
	var off int64
	st := parser{p: p}
	for {
		line, err := l.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return &readError{err}
		}
		h.Write(line)
		if wrong == nil && !(st.inItems && bytes.HasPrefix(line, []byte("i "))) {
			if err := st.line(strings.TrimSuffix(string(line), "\n"), l.n, off, off+int64(len(line))); err != nil {
				wrong = damaged(l.n, err)
			}
		}
		off += int64(len(line))
	}
	if wrong == nil && (st.inItems || st.next < len(p.Rules) || l.n < 4) {
		wrong = damaged(l.n, errShort)
	}
	return wrong
}

// parser walks the lines that are not items.
type parser struct {
	p       *Plan
	next    int // index of the rule whose section comes next, or is open
	inItems bool
}

func (s *parser) line(line string, n int, from, to int64) error {
	p := s.p
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case n == 1: // checked already
		return nil
	case n == 2 && word == "policy":
		h, ok := parseHash(rest)
		if p.PolicyHash = h; !ok {
			return errWord
		}
		return nil
	case n == 3 && word == "as-of":
		f := &fields{s: rest}
		if p.AsOf = f.instant(); p.AsOf.IsZero() {
			f.fail(errTime)
		}
		return f.end()
	case n > 3 && word == "rule" && len(p.sections) == 0:
		r, err := decodeRule(rest, p.AsOf)
		p.Rules = append(p.Rules, r)
		return err
	case n > 3 && word == "items" && !s.inItems && s.next < len(p.Rules):
		f := &fields{s: rest}
		if f.text() != p.Rules[s.next].Rule {
			f.fail(errors.New("the items are of another rule"))
		}
		p.sections = append(p.sections, section{from: to, line: n + 1})
		s.inItems = true
		return f.end()
	case n > 3 && word == "total" && s.inItems:
		sec := &p.sections[s.next]
		sec.to = from
		err := decodeTotal(rest, &p.Rules[s.next])
		if err == nil && int64(n-sec.line) != p.Rules[s.next].Items {
			err = errors.New("the total does not count the items that are there")
		}
		s.next++
		s.inItems = false
		return err
	}
	return errWord
}

func parseHash(s string) (h [32]byte, ok bool) {
	if len(s) != 64 || strings.ToLower(s) != s {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(s))
	return h, err == nil
}
