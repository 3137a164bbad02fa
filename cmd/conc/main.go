// Conc, change on command, deploys Python applications step by step: it locks
// a node with a folder, the bundle, mounts it here, and runs the steps that
// deploy.ini lists. See 'conc --help'.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"bundlefs/internal/mountprog"
)

func main() { os.Exit(run(os.Args)) }

// run is the program, also of the tests: the mount program when it was started
// under that name, which is how conc starts it, else conc.
func run(args []string) int {
	if len(args) > 0 && filepath.Base(args[0]) == "bundlefs" {
		return mountprog.Main(context.Background(), args[1:], os.Stdin, os.Stdout, os.Stderr)
	}
	atOnce := &leaving{}
	ctx, cancel, stop := interruptible(atOnce)
	defer stop()
	a := newApp(os.Stdin, output(os.Stdout, cancel), output(os.Stderr, cancel))
	a.atOnce = atOnce
	return a.main(ctx, args[1:])
}

// interruptible gives a context that the first Ctrl-C ends, or cancel, so that what runs
// is halted properly. The second Ctrl-C leaves at once.
func interruptible(atOnce *leaving) (ctx context.Context, cancel, stop func()) {
	ctx, cancel = context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// Caught, so that it does not end the program: output tells of it. Ignored, it
	// would be so for all that is started, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-signals:
			case <-done:
				return
			}
			if n > 0 {
				atOnce.leave()
				os.Exit(exitInterrupted)
			}
			cancel()
		}
	}()
	return ctx, cancel, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}
