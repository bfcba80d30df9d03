package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/epitaph/epitaph/proof"
)

// The statuses are those of epitaph: 2 for wrong use, 4 for a receipt that does
// not hold.
const (
	statusGood  = 0
	statusUsage = 2
	statusBad   = 4
)

const usage = `Usage: epitaph-verify (--key KEY | --trust FILE) RECEIPT

Checks a receipt (.tlog-proof) offline and says what it shows. RECEIPT may be "-".

  --key KEY     a public key, NAME+HASH+KEY; may be given more than once
  --trust FILE  a file of keys, as "epitaph key show" prints it
  --witnesses N ask for the cosignatures of N known witnesses

Status: 0 the receipt holds, 2 wrong use, 4 the receipt does not hold.
`

// keyList is a flag that may be repeated.
type keyList []string

func (k *keyList) String() string     { return strings.Join(*k, " ") }
func (k *keyList) Set(s string) error { *k = append(*k, s); return nil }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	trust, path, err := parseArgs(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return statusGood
	}
	var data []byte
	if err == nil {
		data, err = readAtMost(path, stdin, 256<<20)
	}
	if err != nil {
		fmt.Fprintf(stderr, "error: %v\nhint: epitaph-verify --help\n", err)
		return statusUsage
	}
	receipt, err := proof.ParseReceipt(data)
	var shown *proof.Shown
	if err == nil {
		shown, err = receipt.Check(trust)
	}
	if err != nil {
		fmt.Fprintf(stderr, "error: the receipt does not hold: %v\n", err)
		return statusBad
	}
	show(stdout, shown)
	return statusGood
}

func parseArgs(args []string) (trust proof.Trust, path string, err error) {
	var keys keyList
	var file string
	var quorum int
	f := flag.NewFlagSet("epitaph-verify", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Var(&keys, "key", "")
	f.StringVar(&file, "trust", "", "")
	f.IntVar(&quorum, "witnesses", 0, "")
	if err := f.Parse(args); err != nil {
		return trust, "", err
	}
	switch {
	case f.NArg() != 1:
		return trust, "", errors.New("give one receipt")
	case (len(keys) == 0) == (file == ""):
		return trust, "", errors.New("give --key or --trust")
	case file != "":
		text, err := readAtMost(file, nil, 1<<20)
		if err != nil {
			return trust, "", err
		}
		trust, err = proof.ParseTrust(string(text))
		if err != nil {
			return trust, "", fmt.Errorf("%s: %w", file, err)
		}
	default:
		if trust, err = proof.TrustKeys(keys...); err != nil {
			return trust, "", err
		}
	}
	if len(trust.Logs) == 0 {
		return trust, "", errors.New("none of the keys is that of a ledger")
	}
	trust.Quorum = max(trust.Quorum, quorum)
	if trust.Quorum > len(trust.Witnesses) {
		return trust, "", fmt.Errorf("%d witnesses are asked for, and the keys of %d are known", trust.Quorum, len(trust.Witnesses))
	}
	return trust, f.Arg(0), nil
}

// readAtMost reads a file, or with "-" stdin, and one byte more than it may have
// at most: whoever parses it refuses that.
func readAtMost(path string, stdin io.Reader, most int64) ([]byte, error) {
	in := stdin
	if path != "-" || stdin == nil {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, most+1))
}

// show prints what was proven. What a store named is quoted, so that it cannot
// act on a terminal.
func show(w io.Writer, s *proof.Shown) {
	signed := "at a time that it does not say"
	if !s.At.IsZero() {
		signed = s.At.Format(time.RFC3339)
	}
	fmt.Fprintf(w, "The receipt holds.\n\nledger      %s\ncheckpoint  %d entries, signed %s\n", strconv.Quote(s.Origin), s.Size, signed)
	for _, c := range s.Witnesses {
		fmt.Fprintf(w, "witness     %s, %s\n", strconv.Quote(c.Name), c.At.Format(time.RFC3339))
	}
	for _, e := range s.Entries {
		fmt.Fprintf(w, "\nEntry %d is in the ledger:\n", e.Number)
		for line := range strings.SplitSeq(strings.TrimSuffix(e.Body, "\n"), "\n") {
			fmt.Fprintf(w, "  %s\n", line)
		}
		showLeaf(w, &e)
	}
	fmt.Fprint(w, `
It shows that these entries were in the ledger when the checkpoint was signed,
word for word, and that the holder of the key signed it.

It does not show
- that the entries are true: what is gone is gone as far as Epitaph looked;
- that no copy exists elsewhere, in a backup or another system;
- what happened to the ledger after the checkpoint;
- that the time is right`)
	if len(s.Witnesses) == 0 {
		fmt.Fprint(w, ", or that everyone was shown the same ledger:\n  no witness that you trust has cosigned it.\n")
	} else {
		fmt.Fprint(w, ", beyond what the witnesses say.\n")
	}
}

func showLeaf(w io.Writer, e *proof.ShownEntry) {
	switch {
	case e.Item != nil:
		fmt.Fprintf(w, "Item %d of its batch:\n", e.Place+1)
		fmt.Fprintf(w, "  id %s\n  locator %s\n", strconv.Quote(e.Item.ID), strconv.Quote(e.Item.Locator))
		for i, p := range e.Item.Parts {
			fmt.Fprintf(w, "  part %d %s %s\n", i+1, strconv.Quote(p.Store), strconv.Quote(p.Locator))
		}
	case e.Hidden:
		fmt.Fprintf(w, "Item %d of its batch, which the receipt does not name.\n", e.Place+1)
	case e.Result != nil:
		fmt.Fprintf(w, "Result of item %d of its batch: %s %s\n", e.Place+1, e.Result.State, strconv.Quote(e.Result.Reason))
		for i, p := range e.Result.Parts {
			fmt.Fprintf(w, "  part %d %s %s\n", i+1, p.State, strconv.Quote(p.Reason))
		}
	}
}
