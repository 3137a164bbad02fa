package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// taker echoes what comes over a connection that is taken over, behind a greeting.
type taker struct {
	handlerFunc
	served chan error
}

func (h taker) Take(_ context.Context, op string, args json.RawMessage) (any, func(net.Conn), error) {
	if op != "echo" {
		return nil, nil, hinted{errors.New("not that one")}
	}
	return args, func(conn net.Conn) {
		if conn == nil {
			h.served <- errors.New("the client has gone")
			return
		}
		defer conn.Close()
		_, err := io.WriteString(conn, "hello ")
		if err == nil {
			_, err = io.Copy(conn, conn)
		}
		h.served <- err
	}, nil
}

// A connection that was taken over is no concern of the server's any more.
func TestTake(t *testing.T) {
	_, m := runtime(t)
	h := taker{testHandler, make(chan error, 1)}
	s, err := Listen(m, h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := dial(t, m)
	if _, err := c.Take(t.Context(), "other", nil, nil); err == nil || !strings.Contains(err.Error(), "not that one") {
		t.Errorf("refused: %v", err)
	}
	if err := c.Call(t.Context(), "nothing", nil, nil, nil); err != nil {
		t.Errorf("after that: %v", err)
	}
	var answer string
	conn, err := c.Take(t.Context(), "echo", "take it", &answer)
	if err != nil || answer != "take it" {
		t.Fatalf("%q, %v", answer, err)
	}
	defer conn.Close()
	if err := c.Call(t.Context(), "nothing", nil, nil, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a call on a connection that was taken over: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := Dial(t.Context(), m); !errors.Is(err, ErrNotMounted) {
		t.Errorf("dialled after the end: %v", err)
	}
	const word = "world"
	if _, err := fmt.Fprint(conn, word); err != nil {
		t.Error(err)
	}
	got := make([]byte, len("hello "+word))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello "+word {
		t.Errorf("%q, %v", got, err)
	}
	conn.Close()
	if err := <-h.served; err != nil {
		t.Errorf("served: %v", err)
	}
}

// A server without such requests says what one of another version would.
func TestTakeUnknown(t *testing.T) {
	_, m := runtime(t)
	listen(t, m, testHandler)
	c := dial(t, m)
	var e *Error
	if _, err := c.Take(t.Context(), "echo", nil, nil); !errors.As(err, &e) || !strings.Contains(err.Error(), "unknown control request") {
		t.Errorf("got %v", err)
	}
	if err := c.Call(t.Context(), "nothing", nil, nil, nil); err != nil {
		t.Errorf("after that: %v", err)
	}
}
