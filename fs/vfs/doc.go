// Package vfs is the file system of a mount without FUSE: inodes, names,
// handles and their operations over SFTP.
//
// A [FileSystem] is addressed as the kernel addresses one: by inode number and
// name for lookups, by inode number for what is known, by handle for what is
// open. Package fs translates kernel requests to it and adds nothing; tests call
// it directly. There are two: [Shared] for a folder that others write too, and
// [Exclusive] for one whose only writer is this mount.
//
// # Shared mode
//
// Other writers may change the same files, on the node or through other mounts.
// Names, attributes, targets of links and whole listings that the node has told are
// remembered for a short time (nameCache); what this mount changes is changed there
// at once. Who walks through a tree has its folders listed ahead (shared_ahead.go), and
// what is known of folders in use is renewed behind (shared_folder.go).
// What may be remembered, and how long, is told to the caller as the timeouts of an
// [Entry]. A listing is passed on in parts: what this mount has changed since it was
// taken is left to be looked up.
//
// Written data is sent behind the writer's back (writeQueue): small writes one
// behind the other in one request, many requests at once, what overlaps in the order
// of the calls. Flush, which each close(2) calls, returns when the node has all of
// it, so that who opens the file afterwards, anywhere, reads it (close-to-open
// consistency); whatever asks the node about the file waits for it too. An error is
// told by the next write, flush or fsync of the handle, once. Reading on reads ahead
// (readAhead). A file of which much is transferred is opened on all sessions; they
// are used if all of them have the same attributes at one moment.
//
// Who reads small files one after the other has the next ones fetched ahead
// (filesAhead), and waits once for each, to hear whether it is still the same
// (shared_small.go). Such a file is opened on the node when that is needed: by who
// reads on, and before its name is taken away.
//
// The kernel's data of a file is good for the next open if size and time are the
// same then as at the last one, and the time was old enough at that for a later
// change to show in it.
//
// # When the link is lost
//
// The connection is made again by itself. Meanwhile requests wait, and fail with
// ETIMEDOUT when the node has given no sign of life for the timeout; a link that is
// slow but moves is waited for. Questions that a loss overtakes are asked again. A sign
// of life is one of the SFTP session that was asked, as soon as it is known that the
// question has arrived there: one server may hang while others work. The root of the mount
// always has attributes, or nobody could unmount it.
//
// A server that owes an answer for as long as keepalives are waited for counts as lost
// (watch.go). What it was told before, and does when it wakes up, cannot be prevented.
//
// In shared mode a file that was open is opened again by its name of now, and goes
// on if it is the same: a file that was not written here must have the size and time
// that the node last told of its handle, one that was must have a size that can come
// of it and no older time, and the name must not have been seen to be another's. Else,
// and if it has no name any more, the error is ESTALE. Data that the node has not
// acknowledged is sent again; of a file that is appended to, its size tells how much
// of it has arrived, and the error is EIO if it does not. Data for which a caller was
// told ETIMEDOUT is not sent later. After a change of names the node is looked at: what it has
// not done is done again. A folder or file to be made that is there and empty is
// taken for the one that was made; what cannot be told fails with EIO.
//
// # Exclusive mode
//
// Whoever holds the lease of a folder is its only writer, so what is known here is
// true. The tree (xnode, dentry) is the truth: a folder that was listed, or made
// here, is complete, and nothing of it is asked again. Reading asks the node only
// for content that is not local. Each change is written to the spool before it is
// acknowledged, and sent behind:
//
//	call → data: into the journal (small files) or the inode's file in the spool
//	     → a record in the journal, which makes it survive kill -9
//	     → the tree → acknowledged
//	     → work on a name or an inode → action on the node → a record that it is done
//
// What is to be sent is not a list of calls but the difference between the tree
// and the node. Each name knows who has it here (dentry.local) and on the node
// (dentry.remote), each inode what of its content (content.dirty) and attributes
// (xnode.send) the node lacks. So a file made and removed before it was sent is
// never sent, ten chmods are one, and a file renamed three times moves once.
//
// # Order
//
// A work says what is different; plan picks what can be done about it now, or what
// it waits for. The rules, and why they hold:
//
//   - A name is made only when its folder is on the node: else its work waits for
//     the work of the folder's name.
//   - A name that another inode has on the node is freed first: that inode moves to
//     its new name, or is removed; a file goes over a file that was removed here in
//     one posix-rename. Of a ring of names that wait for each other, one steps
//     aside under a hidden name.
//   - A folder is removed when the last of its names on the node is. A folder does
//     not move into itself: what is inside it on the node and not here moves out
//     first.
//   - A file that was renamed before it was first sent, or takes the name of one
//     that is on the node, is put together under a hidden name in the same folder:
//     its name appears with its whole content. A file that is on the node moves only
//     when all that was written before the renaming has arrived. The same holds for
//     a folder and all that is in it, but for what can move only after it.
//   - The times of a folder are set when nothing in it is left to be sent.
//   - Attributes alone wait a moment for the next change of them (putOff).
//   - Everything else goes side by side: as many actions as the window allows, at once
//     when somebody waits for the node, else gathered for a moment (gatherTime). Of the
//     actions on one name or inode there is one at a time (gate). While paths are
//     written no folder moves, since they may lead through it (Exclusive.paths).
//
// The node therefore sees each path's changes in local order, though it does not
// see all of them. Changes of different paths may arrive in another order.
//
// # The states of an inode's content
//
//	clean ──write──▶ dirty ──sending begins──▶ flying ──acknowledged──▶ clean
//	                   ▲                          │
//	                   ├──────── link lost ───────┤
//	                   │                          └──refused──▶ refused
//	                   └────── retry, or a new change ────────────┘
//
// What is written while flying is dirty at once, and flies next. A refused change
// is kept with its data and out of what barriers wait for, with all that waits for
// it; the barrier tells of it. An inode that has lost its last name sends nothing
// more; its content stays for who has it open, on the node under a hidden name if
// only the node has it.
//
// # The lease
//
// It is proved by reading the owner record: when mounting and after each reconnect,
// before anything is sent; and while the link is up, beside what is sent, by each
// barrier, and now and then. So a barrier says that the lease was ours at most a
// second before its end. If it is not, nothing more is sent.
//
// # The fence
//
// A proof says nothing of what is under way. So the folder is reached by a lease name,
// a symbolic link of this lease alone (ExclusiveOptions.Name). It is removed when the
// lease is broken, and renamed by the mount before it sends anything over the next
// connection after one that was given up: requests by the old name reach nothing. A rename
// needs the old name, so no name is made that could lead into the next owner's folder.
// Paths are those of the folder everywhere here; sftpwire.Base puts the name in their
// place when they are sent. Open handles do not go by names: the servers of the former
// connection are ended by a command over the next one. By a name that is gone nothing
// is there, which is no proof that something was removed (Exclusive.missing).
//
// # After a crash, and after a lost link
//
// The journal is replayed: changes that no record says are done are different
// from the node again and sent again. What the node was asked for and did not
// answer may have been done or not; it is looked at before more is sent.
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
//  3. tree.mu: the tree, never held during a request, and then nameCache.mu;
//  4. Shared.mu: the tables of open files and folders.
//
// In exclusive mode: xdir.mu or nodeReader.mu, then Exclusive.paths, then
// Exclusive.mu, then those of the spool and the transport; Exclusive.noting before
// Exclusive.mu.
package vfs
