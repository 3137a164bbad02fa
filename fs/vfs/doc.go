// Package vfs is the file system of a mount without FUSE: inodes, names,
// handles and their operations over SFTP.
//
// A [FileSystem] is addressed as the kernel addresses one: by inode number and
// name for lookups, by inode number for what is known, by handle for what is
// open. Package fs translates kernel requests to it and adds nothing; tests call
// it directly. There is one implementation now, [Shared].
//
// # Shared mode
//
// Other writers may change the same files, on the node or through other mounts.
// Nothing is answered from memory here: each call is one request to the node or
// a few, and returns when the node has answered. What may be remembered, and how
// long, is told to the caller as the timeouts of an [Entry]. When [FileSystem]'s
// Write returns, the data is on the node, so closing a file has nothing left to
// do, and who opens the file afterwards, anywhere, reads it (close-to-open
// consistency). A listing is passed on in parts: what this mount has changed since
// it was taken is left to be looked up.
//
// # When the link is lost
//
// The connection is made again by itself. Meanwhile requests wait, and fail with
// ETIMEDOUT when the node has given no sign of life for the timeout; a link that is
// slow but moves is waited for. Questions that a loss overtakes are asked again.
// Changes are not, and fail with EIO: nobody knows whether the node made them.
// In shared mode a file that was open before the loss fails with EIO until it is
// opened again: its handle was the lost session's.
//
// # What SFTP cannot do
//
//   - Version 3 has no inode numbers and no link counts: a number is given when a
//     name is first met and kept while it is in use; the link count tells only
//     of links that were made, or removed, through this mount. Two names of a file
//     are taken for two files when their attributes differ at a lookup.
//   - Times are whole seconds (unsigned, 32 bit). There is no change time: the
//     modification time stands in for it.
//   - There are no extended attributes, no ACLs, no fallocate, no atomic exchange
//     of two names, no special files (devices, sockets, pipes).
//   - What is appended reaches the file in parts of at most 255 KiB, between which
//     another writer's may come. Writers of one mount are kept apart by the kernel.
//   - One error stands for many. The cause is asked for after it: EEXIST, ENOTEMPTY,
//     EXDEV, EROFS and ENOSPC are found out; a quota that is used up stays EIO, and a
//     refused chmod is EPERM even where it would be EACCES.
//   - A folder of more than 1,048,576 entries cannot be listed: what the node sends
//     is bounded.
//   - An open that must not follow a symbolic link cannot be asked for. The mount
//     keeps its own renames and opens of one folder apart, so that only another
//     writer on the node can bring a link in between.
//
// # Locks
//
// In this order, none held while the kernel is notified:
//
//  1. Shared.renames: read by all that send a path, written by a rename of a folder;
//  2. node.names of a folder: read by all that send the path of one of its
//     children, written by what adds, removes or renames one; of two folders the
//     one with the lower inode number first;
//  3. tree.mu: the tree, never held during a request;
//  4. Shared.mu: the tables of open files and folders.
package vfs
