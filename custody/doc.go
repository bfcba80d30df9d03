// Package custody keeps track of sensitive files from their birth to their
// verified end. Applications register what they do with a file; custody knows
// who made each, where it is and when it must be gone, and looks whether it is.
//
// # Said and seen
//
// What an application says is recorded as said. Next to it stands what was seen:
// when an operation is tracked, its file is looked at. A file that is said to be
// deleted and is still there stays due. A store that cannot be looked at settles
// nothing.
//
// # Where it is kept
//
// Operations are entries of the ledger, a batch in each, every operation a leaf
// that can be proven alone. All of an operation is sealed; public are the counts
// by action. The state of a file follows from the entries and is never an edit of
// them. It is kept in a cache beside the ledger, which holds no path or name, only
// keyed hashes, and is brought up to date before each question: it may be behind,
// or deleted, at any time.
//
// # Several hosts
//
// A file in a directory of its own host is looked at from there only. What goes to
// another host is a claim, which that host settles when it has read what arrived.
//
// # Agreement
//
// An application mostly keeps a table of its files too. VerifyFiles reads it through
// a [Lister], and compares every row with the tracked file at its path, and the
// tracked files with the rows. Of what cannot be read, on either side, nothing is
// concluded.
//
// # How a file dies
//
// Through the purge protocol, by package purge: an intent, a claim, the erasure,
// another look, an outcome. Nothing here deletes.
package custody
