package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// maxAnswer bounds what is read for one answer, in bytes.
const maxAnswer = 1024

// answer asks the operator, and reads one line of standard input; not more, since what
// follows may be for a shell.
func (a *app) answer(ctx context.Context, question string) (string, error) {
	a.ui.ask(question)
	type line struct {
		text string
		err  error
	}
	got := make(chan line, 1)
	go func() {
		text, err := readLine(a.stdin)
		got <- line{text, err}
	}()
	select {
	case l := <-got:
		if l.err != nil {
			return "", fmt.Errorf("no answer on standard input: %w", l.err)
		}
		return strings.ToLower(strings.TrimSpace(l.text)), nil
	case <-ctx.Done(): // reading cannot be stopped, but who is interrupted reads no more
		return "", context.Cause(ctx)
	}
}

func readLine(r io.Reader) (string, error) {
	var text []byte
	one := make([]byte, 1)
	for len(text) < maxAnswer {
		n, err := r.Read(one)
		switch {
		case n == 1 && one[0] == '\n':
			return string(text), nil
		case n == 1:
			text = append(text, one[0])
		case err != nil:
			return "", err
		}
	}
	return string(text), nil
}
