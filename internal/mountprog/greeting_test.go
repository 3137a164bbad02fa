package mountprog

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"bundlefs/internal/transport"
)

// A server that takes the connection and never greets does not hold up the mount.
func TestServerNeverGreets(t *testing.T) {
	silent := func(context.Context) (io.ReadWriteCloser, error) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		return ours, nil
	}
	limit := time.Second
	m := &mountConfig{timeout: &limit, directPort: 1}
	ended := make(chan error, 1)
	go func() {
		_, err := dialTransport(t.Context(), m, transport.Opener(silent))
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("it is waited for")
	}
}
