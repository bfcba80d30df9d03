// Package files is the connector for directory trees on Linux: local disks and
// mounted file systems.
//
// # Where it may look
//
// Everything is reached from one handle on the root, opened anew for each batch
// and verified to be the root that was seen first: a directory, no link, the
// same device and inode, a mount point and marked by a file where [Options] ask
// for it. A root that is absent, unmounted, replaced or denied makes every
// answer Unknown. That something is not there is said only when the root was
// the root before the look and after it.
//
// Below the root no symbolic link is ever followed and no other file system is
// entered unless CrossMounts is set: paths are resolved by openat2(2) with
// RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_XDEV, or, where a kernel
// or sandbox does not let us, component by component with the same outcome.
// Nothing but directories is ever opened, so a FIFO cannot block a run, nor a
// device be disturbed.
//
// # Locators
//
// A locator is the path below the root, separated by slashes, in the exact bytes
// of the names, which need not be UTF-8. A trailing slash names a directory with
// everything in it. A locator that is empty, absolute, holds a NUL, or has an
// element that is empty, "." or "..", names nothing that a store may hold: it
// is Unknown with reason Invalid, and so is one that leads through a link, onto
// another file system, or through a name too long to exist.
//
// A fingerprint is type, inode, size and modification time; of a directory, the
// count and size of what is in it and a digest over every name in it with its
// own fingerprint. Device number and change time are left out: the one changes
// with a reboot, the other with a backup.
//
// # Scans
//
// Query.Collection is a glob that must match the whole path below the root:
//
//   - *         any run of characters but a slash
//   - ?         any one character; a byte that is not UTF-8 counts as one
//   - […]       one of these; ranges a-z; ! or ^ in front negates
//   - {a,b}     either, also nested and across slashes
//   - **        alone between slashes: any number of directories; at the end, any
//     file below
//   - \x        x itself
//
// As in a shell, a name that begins with a dot is matched only by an element
// that begins with a dot, for ** too. Check counts the hidden files that lie
// beside. Only regular files are items: links, FIFOs, sockets and devices are
// passed over. With a trailing slash ("sessions/*/") the items are whole
// directories; a directory inside an item is part of it and no item of its own.
//
// The anchor is the modification time of a file; of a directory, the newest one
// of anything in it, itself included. Or it is a date in the base name, see
// connector.Anchor: the end of the smallest element in the given zone, and the
// latest reading where a name can be read in several ways. A name without a
// valid date is undated. In a layout hh, mm and ss are elements only to the right
// of the next larger one; elsewhere they are letters.
//
// Items come in an order that depends on the names alone: in each directory its
// files by the bytes of their names, then its directories likewise. Where the
// glob spells names out, only these are entered. Memory holds the names of one
// directory, and of one with more than a million names a part at a time. A
// directory that cannot be listed ends the scan with an error. A directory item
// that cannot be looked at to its end is yielded with Item.Err, and stays.
//
// # Claims and erasure
//
// A file system has no lock that other programs must heed. Claim compares
// fingerprints and rehearses what it can: that the directory lets names go, that
// nothing is immutable, append-only or mounted. Erase compares once more right
// before each unlinkat(2), in the directory that its path leads to at that time.
// What cannot be excluded is a rename onto the very name in the microsecond
// between the two, or of the directory while names are taken from it.
// A whole directory is walked once more, and in each directory names are taken
// only while it holds exactly what that walk saw; what is left of one that
// changed is answered Present with Changed and the bytes that are left.
//
// Then the touched directories are flushed to disk, or the whole file system where
// they are many, and each name is looked at again, by its path.
// Gone means: that name is not there. Of the data it means that nothing below the
// root names it, because
//
//   - a file with further hard links is refused with Shared, unless all of its
//     names are in the batch, since the data would live on under the others;
//   - a program that still has the file open keeps the data until it closes it,
//     which cannot be seen from here;
//   - snapshots, backups and the blocks of the disk are not spoken of. Unlinking
//     is not overwriting.
//
// An item without a fingerprint is never claimed. A network file system that
// hangs makes a call hang with it: the kernel does not let it be interrupted.
package files
