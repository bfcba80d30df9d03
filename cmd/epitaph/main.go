// Command epitaph finds data that has outlived its retention period, disposes
// of it, and keeps proof of what it did.
package main

import (
	"os"

	"github.com/epitaph/epitaph/internal/cli"
)

func main() {
	os.Exit(cli.Main())
}
