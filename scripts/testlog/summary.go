package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// event is one line of test2json (go doc cmd/test2json), with the fields that
// go build adds to it.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
}

// summary is what a run of go test came to.
type summary struct {
	passed, failed int
	skipped        []string
	broken         []string // packages that failed
}

type key struct{ pkg, test string }

// read copies to w what a person must see, as it comes.
func read(r io.Reader, w io.Writer) (*summary, error) {
	s := &summary{}
	output := map[key]*bytes.Buffer{}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			s.line(line, output, w)
		}
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read test output: %w", err)
		}
	}
}

func (s *summary) line(line []byte, output map[key]*bytes.Buffer, w io.Writer) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		w.Write(line) // a build error of an older form, or a panic of go itself
		return
	}
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output":
		if e.Test == "" && closing(e.Output) {
			io.WriteString(w, e.Output)
			return
		}
		if strings.HasPrefix(e.Output, "=== ") {
			return // that a test began or paused tells a person nothing
		}
		if output[k] == nil {
			output[k] = &bytes.Buffer{}
		}
		output[k].WriteString(e.Output)
	case "build-output":
		io.WriteString(w, e.Output)
	case "pass", "fail", "skip":
		s.end(e, output[k], w)
		delete(output, k)
	}
}

// end counts a test or a package that came to its end.
func (s *summary) end(e event, output *bytes.Buffer, w io.Writer) {
	show := e.Action == "fail"
	switch {
	case e.Test == "" && e.Action == "fail":
		s.broken = append(s.broken, e.Package)
	case e.Test == "":
		show = false // "skip" of a package means that it has no tests
	case e.Action == "pass":
		s.passed++
	case e.Action == "fail":
		s.failed++
	case e.Action == "skip":
		s.skipped = append(s.skipped, e.Package+" "+e.Test)
		show = true
	}
	if show && output != nil {
		w.Write(output.Bytes())
	}
}

// closing reports whether the line is how go test ends a package.
func closing(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t") || strings.HasPrefix(line, "?   \t")
}

// report prints the sum and reports whether the run may count as passed.
func (s *summary) report(w io.Writer) bool {
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, len(s.skipped))
	for _, name := range s.skipped {
		fmt.Fprintf(w, "skipped: %s\n", name)
	}
	for _, name := range s.broken {
		fmt.Fprintf(w, "failed: %s\n", name)
	}
	if s.passed == 0 {
		fmt.Fprintln(w, "no test ran")
	}
	return s.failed == 0 && len(s.broken) == 0 && len(s.skipped) == 0 && s.passed > 0
}
