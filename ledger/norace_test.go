//go:build !race

package ledger_test

// everyFlip is the step with which bytes are flipped, one after the other, and
// the ledger verified.
const everyFlip = 1
