//go:build race

package ledger_test

// everyFlip is the step with which bytes are flipped, one after the other, and
// the ledger verified. The race detector makes each of them ten times as long and
// sees in each the same: all are flipped without it.
const everyFlip = 11
