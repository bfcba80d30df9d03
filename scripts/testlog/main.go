// Command testlog reads the output of "go test -json" on stdin. It prints the
// closing line of each package ("ok  pkg  1.2s") and the whole output of each
// test that failed. It fails when a package failed, when a test was skipped,
// and when no test ran at all: a suite that tested nothing must not look like
// one that passed.
package main

import (
	"fmt"
	"os"
)

func main() {
	s, err := read(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(2)
	}
	if !s.report(os.Stdout) {
		os.Exit(1)
	}
}
