// Command epitaph-verify checks a receipt offline, with the public key alone.
// It links no database and opens no connection.
package main

import (
	"os"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
