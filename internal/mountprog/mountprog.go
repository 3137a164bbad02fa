// Package mountprog is the bundlefs program: it mounts a folder of a node, serves the mount,
// and asks a mount that runs. cmd/bundlefs is nothing but a call of Main, and conc makes the
// same call when it is started under the name bundlefs, so that the two are always one build.
//
// # A mount, step by step
//
// The process that was started (the parent) reads the arguments and starts itself again (the
// child); with -f there is no parent. The child checks what can be checked without a
// connection, connects, mounts, opens the control socket, leaves the terminal, and tells the
// parent through a pipe that the mount is ready. Only then does the parent exit with 0. What
// fails before that is printed by the child, as one line of cause and one of advice, and the
// parent exits with the child's code. So the child can ask for passwords on the terminal, and
// Ctrl-C ends both.
//
// With -o exclusive=- the child waits for the token on standard input before all of that, and
// connects meanwhile, as far as that goes without asking anything. When standard input ends without
// a token it ends too, and nothing has been done.
//
// # Without a mount
//
// With -o nomount nothing is mounted: the folder is taken in exclusive mode all the same, and
// its files are reached by the control socket, which is found under the name of a MOUNTPOINT
// that need not exist. That is how conc delivers where FUSE is not to be had.
//
// # The end of a mount
//
// SIGTERM, SIGINT and SIGHUP bring everything to the node (the barrier, at most 30 s), then
// unmount. A mount that is in use is taken out of the tree at once (a lazy unmount), the
// control socket goes, and those who use it are served until the last one closes. A second
// signal leaves without waiting for barrier or users. Processes that were lent the connection to the
// node (control.Connection) go on with it after the mount has ended, see lend.go. `bundlefs unmount` is stricter: when the
// barrier fails or the mount is in use it says so and changes nothing. fusermount3 -u and
// umount end the process too.
package mountprog

import (
	"context"
	"fmt"
	"io"

	"bundlefs/internal/control"
	"bundlefs/internal/version"
)

// Exit codes of bundlefs. They are never reused for something else.
const (
	ExitOK          = 0
	ExitFailed      = 1                  // it could not be done, and the reason was printed
	ExitUsage       = 2                  // the arguments are wrong; nothing was tried
	ExitNoFUSE      = control.ExitNoFUSE // this machine does not let us mount; the reason was printed
	ExitInterrupted = 130                // a signal came before the mount was ready
)

// Main runs bundlefs with args, which leave out the program's name, and returns its exit code.
// When ctx ends, a mount that is served is ended as by a signal. Mounting without -f
// works only in a program that calls Main when its argv[0] is "bundlefs".
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	say := &messages{w: stderr}
	ready, err := inheritedReady()
	if err != nil {
		return say.failure(err)
	}
	cmd, err := parseArgs(args)
	if err != nil {
		if hintOf(err) == "" {
			err = &hinted{err, usageHint}
		}
		say.error(err)
		return ExitUsage
	}
	switch {
	case cmd.help:
		fmt.Fprint(stdout, usage())
		return ExitOK
	case cmd.version:
		fmt.Fprintln(stdout, "bundlefs", version.String())
		return ExitOK
	case cmd.fake:
		return ExitOK
	case cmd.ask != "":
		err = ask(ctx, cmd, stdout, stderr)
	case ready == nil && !cmd.mount.foreground:
		return startChild(ctx, args, stdin, stdout, stderr, say)
	default:
		if ready == nil {
			beginAgain(args)
		}
		err = serve(ctx, cmd.mount, ready, say)
	}
	if err != nil {
		return say.failure(err)
	}
	return ExitOK
}
