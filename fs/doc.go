// Package fs mounts a folder of a node here, over SFTP.
//
//	server, err := fs.Mount(ctx, "/mnt/node", fs.Options{
//		Dial: func(ctx context.Context) (fs.Conn, error) { return remote.Dial(ctx, target, remote.Options{}) },
//		Name: "deploy@node1:",
//	})
//	…
//	err = server.Unmount() // or somebody's fusermount3 -u
//	server.Wait()
//	server.Close()
//
// # Layers
//
// The file system itself is [bundlefs/fs/vfs], which knows nothing of FUSE. This
// package translates the kernel's requests to it (go-fuse's raw interface, since
// the inode table is vfs's own), reads and answers them, and makes and ends the
// mount. No decision about files is taken here.
//
// # Caching and consistency
//
// In shared mode the kernel keeps names and attributes for the timeouts of
// [Options], and a file's data from one open to the next request that finds its
// time or size changed; opening a file drops what was kept if the file has changed
// (close-to-open consistency). Writes are sent behind; closing a file waits until the
// node has them, and tells of their errors. The writeback cache of
// the kernel is not used: it has lost data of network file systems, and it would
// keep errors from the writer.
//
// In exclusive mode ([Options].Exclusive) the kernel keeps everything until this
// package tells it otherwise: nobody else changes the folder but what works on it
// on the node at a moment that is known, after which [Server.Drop] is called.
// Writes are acknowledged when they are in the spool and reach the node behind;
// fsync of a file, fsync of any folder, and [Server.Sync] return when they have.
//
// # Signals
//
// A request ends early for a signal that asks its program to end (SIGHUP, SIGINT,
// SIGQUIT, SIGTERM) or that ends it; it is given a second to succeed before. Other
// signals wait for it, as on a disk: programs whose runtime signals itself would
// see EINTR all the time. The kernel reads the pages of a file on its own: a
// program that waits for one can be killed, but one that catches the signal gets it
// only when the page has come or the timeout has passed.
//
// # What is not POSIX
//
// See [bundlefs/fs/vfs] for what SFTP cannot do. Locks (flock, fcntl) are the
// kernel's own: they hold between processes of this mount, not on the node.
//
// # Deadlocks
//
// A process must not work on a mount it serves itself: the kernel waits for the
// answer of a thread that waits for the kernel. The same holds for starting a
// child process while one of its files is on the mount. Serve a mount from a
// process of its own.
package fs
