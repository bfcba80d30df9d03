// Package connectortest holds the contract of package connector as a test
// suite, a connector in memory that keeps it, and one that fails on purpose.
//
// # The suite
//
// [Run] proves a connector against every clause of the contract. A driver says,
// in a [Harness], how to make a fresh store and what the store can do, and in a
// [Fixture], how to plant things in it and look at it without the connector:
//
//	func TestContract(t *testing.T) {
//		connectortest.Run(t, connectortest.Harness{New: newFixture, Locks: true})
//	}
//
// No case is ever skipped for lack of a server; a case that does not concern a
// store, as the Harness tells, does not exist for it.
//
// # The contract
//
//   - Lists: one result for each element, in order, also when the store is down
//     or the context has ended. The failure of one never changes the answer for
//     another.
//   - The zero state is Unknown. A store that is down answers Unknown with
//     Unreachable for everything; Check and Scan return an error.
//   - Check, Scan and Probe change nothing.
//   - Scan yields what is due and what is undated, nothing that is young; the
//     same order for the same data; anchors in UTC; Survey.Total counts all. A
//     scan that did not see everything ends with an error.
//   - Probe: Present carries a fingerprint that stays the same as long as the
//     thing does; Gone with Missing for what is not there.
//   - Claim: Present with Eligible for what is claimed; all else says why and is
//     not claimed: gone, changed, not due, undated, refused, unreachable. The
//     claim is never nil. Nothing is changed, for any eye, until Erase.
//   - Erase: Gone with GONE only for what is seen to be gone; what is not asked
//     for stays; an index that was not claimed is Unknown and left alone; a
//     second Erase, or one after Release, does nothing.
//   - Then: nothing is erased. Claim rehearses the update and shows it to nobody;
//     Present with SET only for what is seen to be there with the values. What has
//     them already is not scanned, not counted, and Claim answers SET.
//   - Release: idempotent, safe after Erase, leaves what was not erased as it was.
//   - Running again finds nothing to do and says so.
//   - All methods may be called concurrently; of workers that claim the same
//     thing exactly one erases it.
package connectortest
