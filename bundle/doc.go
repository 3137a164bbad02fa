// Package bundle holds the lock on a node: a folder that only one
// workstation can have made, with a record of who made it, mounted where the
// operator works.
//
// # Use
//
//	b, err := bundle.Open(ctx, cfg)     // lock, local folder, mount; taken back when a later part fails
//	err = b.Sync(ctx, nil)              // barrier: all that was written is on the node
//	given, err := b.Discard(ctx)        // gives up what the node refuses
//	err = b.Close(ctx)                  // barrier, unmount, remove on both sides
//
// [New] gives the handle of a bundle without doing anything, so that every
// part can also be asked for on its own (Lock, MakeLocal, Mount, Sync,
// Unmount, RemoveRemote, RemoveLocal), and so that a later process finds the
// bundle that an earlier one opened.
//
// # The lock
//
// mkdir on the node is atomic: of any number of openers exactly one makes the
// folder, the others get a [*BlockedError]. The winner then writes the owner
// record, [RecordName], under another name and renames it, so that it is never
// seen half-written. All of that is one command on the node, which also tells who
// holds the bundle if that is somebody else. A folder without a readable record
// is held by somebody unknown, and therefore BLOCKED too.
//
// # Crashes
//
// What is on disk here is always ahead of what is on the node, so that
// whatever is found there later can be told to be ours or not:
//
//  1. a state file with a new token is written and synced (phase "locking");
//  2. the node is asked to make the bundle: the folders above it, the folder
//     itself, the record under a name that is made from the token, the rename;
//  3. the state says that it is made (phase "open"), the local folder is made, the mount goes on.
//
// A crash of the workstation at 2 or 3 leaves a record with a token that the state
// knows: opening again continues, closing removes, and the record tells how many
// of the folders above were made with it. A crash of the node in the middle of 2
// leaves an unfinished record, of which the name tells that it is ours, and the
// same is done. Only an empty folder cannot be told from that of another opener at
// the same place, so it stays BLOCKED, holder unknown, for opening and closing,
// until somebody breaks the lock.
//
// Closing goes the other way: barrier, unmount, the state says "closing", and
// then on the node, in one command: the record is compared with our token, the
// folder is renamed to a hidden name next to it that is made from the token,
// the record is compared again under that name, where nobody else can change
// it, and only then is it removed recursively. The rename gives the lock back
// at once and at one moment; whatever is interrupted afterwards can be found by
// its name and is removed by closing again. The state file goes last.
//
// That command is started while the barrier and the unmounting go on, since its start is a round
// trip too. It looks at nothing, and changes nothing, before it has read our token from its
// standard input, which it gets when the state says "closing"; if there is nothing to be removed
// yet, for instance since the node refuses a change, its input ends and so does it.
//
// # The fence
//
// What the holder has sent may still be under way when the lock is broken, and would be done in the
// next one's bundle if it named that by its path. So the holder reaches the bundle by a name of the
// lock, [lease.Name], a symbolic link in the home that is made with the record. Who breaks the lock
// moves the record first, from when on nothing proves the lock to anybody; then the lease names
// go, and what is sent by them finds nothing; and only then is the folder renamed, and the next one
// can be made. All of that is one command on the node, which proves the record again after it has
// moved it. When it is cut off, the bundle is held by nobody, and breaking it again goes on.
//
// A mount whose connection was given up renames its lease name before it sends anything over the
// next one, and ends the SFTP servers of the former one: see fs/vfs.
//
// # The mount
//
// Bundles are mounted in exclusive mode, with the lock's token: what was written
// is acknowledged when it is in the spool on the workstation, and sent behind.
// The mount program is started before we lock, connects at the same time, and
// waits for the token on its standard input; without one it ends and leaves nothing.
// So a link with a long way is waited for about five times after the handshake, and
// nobody sees the token in a list of processes. What has to be asked, as for a
// password, is asked when the node is locked, after a new connection.
//
// The mount program lends its connection to the node to later processes ([Bundle.Lent]). It outlives
// the mount for as long as they use it, without the control socket and the spool.
//
// The state says where the spool is, so that it is found again whatever the
// environment says by then. While there is a spool, something may be only there:
// a mount that has died is mounted again, which sends it, before anything is
// unmounted or removed for good; only what is told to forget does without.
//
// A barrier that fails is an error of its cause: [*RefusedError], what the node
// does not take; [*LostError], the lock is another's or nobody's, and the spool
// is kept; an error of package remote, when the node cannot be reached, which is
// found out by a connection of our own, since the mount waits for its link; else
// [*LinkError].
package bundle
