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
// record, [RecordName], in it with O_EXCL. A folder without a readable record
// is held by somebody unknown, and therefore BLOCKED too.
//
// # Crashes
//
// What is on disk here is always ahead of what is on the node, so that
// whatever is found there later can be told to be ours or not:
//
//  1. a state file with a new token is written and synced (phase "locking");
//  2. mkdir on the node;
//  3. the state says so (phase "made");
//  4. the record with the token is written on the node;
//  5. the state says so (phase "open"), the local folder is made, the mount started.
//
// A crash after 4 leaves a record with a token that the state knows: opening
// again continues, closing removes. A crash between 3 and 4 leaves a folder
// that the state says we made, without a record: opening again claims it by
// creating the record with O_EXCL, which at most one can do. A crash between 2
// and 3 cannot be told from another opener at the same place, so it stays
// BLOCKED, holder unknown, until somebody breaks the lock.
//
// Closing goes the other way: barrier, unmount, the state says "closing", and
// then on the node, in one command: the record is compared with our token, the
// folder is renamed to a hidden name next to it that is made from the token,
// the record is compared again under that name, where nobody else can change
// it, and only then is it removed recursively. The rename gives the lock back
// at once and at one moment; whatever is interrupted afterwards can be found by
// its name and is removed by closing again. The state file goes last.
//
// # The mount
//
// Bundles are mounted in exclusive mode, with the lock's token: what was written
// is acknowledged when it is in the spool on the workstation, and sent behind.
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
