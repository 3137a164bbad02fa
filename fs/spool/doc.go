// Package spool is the local folder that holds what was acknowledged to a
// program and is not yet on the node: an append-only journal of changes to
// names and attributes, and one sparse data file for each changed inode. It
// knows nothing of what the records mean.
//
// # Folder
//
//	DIR/            mode 0700, owned by the user of the process, no symlink
//	DIR/lock        held with flock(2) while the spool is open; the holder's pid in it
//	DIR/journal     the records
//	DIR/journal.new a journal being rewritten; worth nothing after a crash
//	DIR/data/ID     the content of one inode, mode 0600; ID is 16 hexadecimal digits
//	DIR/data/free-* empty files kept for new inodes; worth nothing after a crash
//
// One process has a spool open at a time; a second one gets a *LockedError.
//
// # Journal
//
// All numbers are little endian, checksums are CRC-32C (Castagnoli).
//
//	file header  8 bytes magic, 8 bytes random salt, 4 bytes checksum of both
//	frame        4 bytes magic
//	             4 bytes length of the body
//	             8 bytes sequence: 1 for the first frame of a file, then one more each
//	             4 bytes checksum of the salt and the 16 bytes above
//	             4 bytes checksum of the checksum above and the body
//	body         one or more records: length (uvarint), then that many bytes
//
// One call of Append or AppendAll makes one frame and one write, so its
// records are replayed all or not at all. The salt keeps bytes that a program
// had put into a record, and blocks of deleted journals that a file system
// brings back after a power loss, from being taken for frames of this journal.
//
// # States
//
// After Open the journal is unread. Replay reads it, and cuts off a tail that
// is not a whole frame: its write had not returned, so it was never
// acknowledged. From then on it takes records. Append without Replay reads and
// checks the journal first, for it must know where it ends.
//
// A bad frame is a torn tail if no valid frame with a higher sequence follows
// anywhere behind it. If one does, the journal was damaged in the middle:
// every call then returns a *CorruptError and the file stays as it is.
//
// # What survives what
//
// When Append, AppendAll, WriteAt or TruncateData has returned, the kernel has
// the data: it survives kill -9 of the process. It survives a power loss or a
// crash of the kernel after Sync (journal) and SyncData (one data file), and
// a rewritten journal is on the disk when Rewrite returns. A power loss may
// take unsynced frames in any order; if it takes one and spares a later one,
// that is a *CorruptError.
//
// AppendKeeping sets room aside on the disk, behind the end of the journal, for
// records that must be written when the disk is full.
//
// A write that fails (a full disk, mostly) leaves the journal as it was. In a
// data file each byte of the failed range has its old or its new value.
//
// # Concurrency
//
// All methods may be called from several goroutines at once. Replay and
// Rewrite hold the journal while they call back: neither callback may call
// Replay, Append, AppendAll, Rewrite or Size, nor wait for a goroutine that
// does. Data files have locks of their own and may be used from callbacks.
package spool
