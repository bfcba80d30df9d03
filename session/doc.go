// Package session gives sensitive files a place with an owner and an end: a
// directory of mode 0700 that is disposed of, looked for again, and accounted
// for in the ledger when its session is over, however it ends.
//
// # On disk
//
// A root holds one directory for each session, named by its id, and a marker
// file, so that a directory of something else is never taken for a root. In each
// session directory a record, hidden from everything here, says since when it
// exists, until when it may, and who owns it. The record is written before any
// content.
//
// # Who owns a session
//
// A session made by New is leased: its directory is locked with flock(2) for as
// long as the [Session] is open, and the kernel drops the lock when the process
// dies. [Store.Sweep] takes a session whose time is over, or whose owner is
// known to be gone, and never one whose lease is held. An owner on another host
// or in another process namespace is never guessed to be dead: such a session
// stays until its time is over.
//
// # How a session dies
//
// Through the purge protocol: an intent in the ledger, the names in the
// directory erased, the directory looked for again, an outcome in the ledger.
// Sessions that close at the same time share these steps. No link is followed,
// no other file system is entered, nothing but directories is opened. What
// cannot go — an immutable file, data with a further name elsewhere — is left,
// counted, and tried again by the next sweep; everything else goes.
//
// Gone means that nothing below the root names the data any more. A program that
// still has a file open keeps its data until it closes it; snapshots, backups
// and the blocks of a disk are not spoken of. On tmpfs the data was in memory
// (or swap) only.
//
// # Sealed sessions
//
// What is written into a sealed session is an age stream, with a key for each
// session that is in the memory of this process, or in the keyring of the kernel:
// for the processes of the user ([Store.Leave]) or for the programs that a thread
// starts (Options.Lend). The key goes before the files do, and with the host.
package session
