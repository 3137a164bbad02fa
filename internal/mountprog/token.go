package mountprog

import (
	"context"
	"errors"
	"os"

	"bundlefs/fs"

	"golang.org/x/sys/unix"
)

// inputToken as the value of -o exclusive says that the token comes on standard input, where no
// list of processes shows it.
const inputToken = "-"

// maxToken bounds a token, in bytes.
const maxToken = 4096

// ahead is the connection that is made while the token is not there yet. A nil one is none.
type ahead struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when link is what it will be
	link   *fs.Link      // nil when it could not be made without asking anything
}

// awaitToken reads the token, if it comes on standard input. Until it is there the connection is
// made, as far as that goes without asking anything: a node that is not going to be mounted on is
// not asked for a password, and one that wants to be asked is connected to again afterwards. If
// standard input ends without a token, nothing is left of all this.
func (m *mountConfig) awaitToken(ctx context.Context, signals <-chan os.Signal, log *logger) (*ahead, error) {
	if m.exclusive != inputToken {
		return nil, nil
	}
	var a *ahead
	if m.sshCommand == nil && m.directPort == 0 && !readable(os.Stdin) {
		o, err := m.options(&memory{}, log)
		if err != nil {
			return nil, err
		}
		a = connectAhead(ctx, o)
	}
	type read struct {
		token []byte
		err   error
	}
	result := make(chan read, 1)
	go func() {
		token, err := firstLine(os.Stdin, maxToken)
		result <- read{token, err}
	}()
	var err error
	select {
	case r := <-result:
		if m.exclusive, err = string(r.token), r.err; err == nil && m.exclusive == "" {
			err = errors.New("standard input has no token")
		}
		if err != nil {
			err = fail("give the token as the first line", "exclusive=%s: %w", inputToken, err)
		}
	case <-signals:
		err = errInterrupted
	case <-ctx.Done():
		err = errInterrupted
	}
	if err != nil {
		a.drop()
		return nil, err
	}
	return a, nil
}

// readable tells whether reading would not have to wait.
func readable(f *os.File) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}

func connectAhead(ctx context.Context, o fs.Options) *ahead {
	a := &ahead{done: make(chan struct{})}
	ctx, a.cancel = context.WithCancel(ctx)
	go func() {
		defer close(a.done)
		// Why it failed is found out when the mount connects.
		a.link, _ = fs.Connect(ctx, o)
	}()
	return a
}

// wait gives the connection; nil when there is none.
func (a *ahead) wait(ctx context.Context) *fs.Link {
	if a == nil {
		return nil
	}
	select {
	case <-a.done:
		return a.link
	case <-ctx.Done():
		return nil
	}
}

// drop ends a connection that was not taken.
func (a *ahead) drop() {
	if a == nil {
		return
	}
	a.cancel()
	<-a.done
	if a.link != nil {
		a.link.Close()
	}
}
